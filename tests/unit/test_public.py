"""The public surface: what authors import, and what stands in the signatures of their hooks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sagemaker_framework

ROOT = Path(sagemaker_framework.__file__).parents[1]
needs_checkout = pytest.mark.skipif(not (ROOT / "examples").exists(), reason="needs the checkout")


def imported(code: str) -> Iterator[str]:
    """List what a module imports of the package: `trainer` for `from sagemaker_framework import trainer`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sagemaker_framework"):
            inside = (node.module or "").partition(".")[2]
            yield from [f"{inside}.{alias.name}".strip(".") for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("sagemaker_fr")]


@needs_checkout
@pytest.mark.parametrize("file", sorted(map(str, (ROOT / "examples").rglob("*.py"))))
def test_examples_import_public_names_only(file: str) -> None:
    """A container of examples/ can be copied: it uses nothing that may change without a word."""
    assert set() == set(imported(Path(file).read_text())) - set(sagemaker_framework.__all__)


@needs_checkout
def test_documents_import_public_names_only() -> None:
    """So does each block of Python in the documents."""
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]
    blocks = [block for file in documents for block in re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)]
    names = {name for block in blocks if "sagemaker_framework" in block for name in imported(block)}

    assert names
    assert set() == names - set(sagemaker_framework.__all__) - {""}
