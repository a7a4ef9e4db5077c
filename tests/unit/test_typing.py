"""The types of the package, as mypy --strict shows them to authors: tests/typing has their code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

import sagemaker_framework

AUTHORS = Path(__file__).parents[1] / "typing"
needs_mypy = pytest.mark.skipif(find_spec("mypy") is None, reason="needs mypy, of the extra `lint`")

#: The codes of the errors on each line of a file, by the file's name.
Errors = dict[str, dict[int, str]]


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Errors:
    """Run mypy over both files, in a folder from where it finds the package as it is installed."""
    folder = tmp_path_factory.mktemp("authors")
    files = [Path(shutil.copy(file, folder)).name for file in sorted(AUTHORS.glob("*.py"))]
    assert pytestconfig.cache is not None
    known = f"--cache-dir={pytestconfig.cache.mkdir('mypy')}"  # Of the standard library, above all.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", known, "--show-error-codes", *files]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert said.returncode in (0, 1), said.stdout + said.stderr  # 2: mypy itself could not go on.
    found: dict[str, dict[int, set[str]]] = {file: {} for file in files}
    for file, line, code in re.findall(r"^([\w.]+):(\d+): error: .*\[([\w-]+)\]$", said.stdout, re.MULTILINE):
        found[file].setdefault(int(line), set()).add(code)
    return {file: {line: ", ".join(sorted(codes)) for line, codes in lines.items()} for file, lines in found.items()}


@needs_mypy
def test_an_authors_container_has_no_problem(errors: Errors) -> None:
    """A container with types passes."""
    assert {} == errors["container.py"]


@needs_mypy
def test_mistakes_are_told(errors: Errors) -> None:
    """Each line that has a mistake gets the errors that its comment names, and no other line gets one."""
    lines = (AUTHORS / "mistakes.py").read_text().splitlines()
    named = {at: line.partition("# E: ")[2] for at, line in enumerate(lines, 1) if "# E: " in line}

    assert named == errors["mistakes.py"]


@pytest.fixture(scope="module")
def container() -> ModuleType:
    spec = spec_from_file_location("container", AUTHORS / "container.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(module := module_from_spec(spec))
    return module


def test_the_container_uses_every_public_name(container: ModuleType) -> None:
    """No public name is without a check of its types."""
    assert [] == [name for name in sagemaker_framework.__all__ if name not in vars(container)]


@pytest.mark.parametrize(
    ("author", "hooked", "but"),
    [
        ("MyTrainer", "Trainer", {"train"}),
        ("ProfiledPython", "EntryPoint", set()),
        ("SharedSeed", "DistributionStrategy", {"hosts"}),
        ("Servers", "ParameterServerStrategy", {"advertise", "plan", "command", "env_vars", "port", "address"}),
        (
            "MyLauncher",
            "LauncherStrategy",
            {"ranks", "last", "all_well", "start_servers", "stop", "is_idle", "check_exit"},
        ),
        ("Bound", "MPIStrategy", None),
        ("Restarted", "TorchrunStrategy", None),
        ("WithChief", "MultiWorkerStrategy", None),
    ],
)
def test_the_container_overrides_every_hook(
    container: ModuleType, author: str, hooked: str, but: set[str] | None
) -> None:
    """No hook of a class is without a check of its types; `but` are those that are not for authors to override."""
    cls = getattr(sagemaker_framework, hooked)
    hooks = {name for name, value in vars(cls).items() if callable(value) and not name.startswith("_")}
    if but is None:  # What the strategy adds; the rest is the base's.
        hooks -= set(dir(cls.__base__))
    overridden = {name for name in vars(getattr(container, author)) if name in hooks}

    assert hooks - (but or set()) == overridden - (but or set())
