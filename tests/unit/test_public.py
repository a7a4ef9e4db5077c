"""The public surface: what authors import, and what stands in the signatures of their hooks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from inspect import isclass, isfunction
from pathlib import Path

import pytest

import sagemaker_framework
from sagemaker_framework import errors

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
@pytest.mark.parametrize("file", sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("examples/**/*.py")))
def test_examples_import_public_names_only(file: str) -> None:
    """A container of examples/ can be copied: it uses nothing that may change without a word."""
    assert set() == set(imported((ROOT / file).read_text())) - set(sagemaker_framework.__all__)


@needs_checkout
def test_documents_import_public_names_only() -> None:
    """So does each block of Python in the documents."""
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")]
    blocks = [block for file in documents for block in re.findall(r"```python\n(.*?)```", file.read_text(), re.DOTALL)]
    names = {name for block in blocks if "sagemaker_framework" in block for name in imported(block)}

    assert names
    assert set() == names - set(sagemaker_framework.__all__) - {""}


def test_the_module_that_containers_of_0_1_0_import() -> None:
    """`configuration` is not a public name any more, but is found by containers that were written for it."""
    from sagemaker_framework import configuration

    assert ["sagemaker_mpi_enabled"] == configuration.distributions({"sagemaker_mpi_enabled": "true"})
    assert "configuration" not in dir(sagemaker_framework)


#: Python's own names that stand in annotations.
PYTHONS = set(
    "Any Collection Iterator Mapping Self Sequence bool bytes dict float int list object str tuple type".split()
)


@pytest.mark.parametrize("name", sagemaker_framework.__all__)
def test_types_in_signatures_are_exported(name: str) -> None:
    """Each type in the signature of a public method or function can be imported, from the root or from its `errors`."""
    public = getattr(sagemaker_framework, name)
    values = [each for name, each in vars(public).items() if not name.startswith("_")] if isclass(public) else [public]
    functions = [each.fget if isinstance(each, property) else each for each in values]
    annotations = [text for each in functions if isfunction(each) for text in each.__annotations__.values()]
    types = {node.id for text in annotations for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}

    not_for_authors = {"Callable"} if name in ("Process", "Ranks") else set()  # Process.asked_by, Ranks.serve
    assert set() == types - PYTHONS - {*sagemaker_framework.__all__} - {*dir(errors)} - not_for_authors
