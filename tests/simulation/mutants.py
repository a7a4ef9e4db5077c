"""Planted faults: changes of the protocol's source that the simulator has to notice.

A file of mutants/ has words for what is wrong, the module, and what is replaced by what:

    The verdict is never sent.

    --- cluster/protocol.py
                yield Broadcast(messages.verdict(self.verdict))
    +++

The text has to be there exactly once. It is changed in memory, when the module is loaded.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import sagemaker_framework

PACKAGE = Path(sagemaker_framework.__file__).parent
FOLDER = Path(__file__).parent / "mutants"


def files() -> list[Path]:
    """Return the files of all mutants."""
    return sorted(FOLDER.glob("*.txt"))


def install(file: str | Path) -> None:
    """Have the modules that a mutant changes be loaded as it says.

    Raises:
        ValueError: the mutant does not fit the source.
    """
    words, *changes = Path(file).read_text().split("\n--- ")
    if not words.strip() or not changes:
        raise ValueError(f"{file} is no mutant: it says nothing, or changes nothing")
    sources: dict[str, str] = {}
    for change in changes:
        path, _, rest = change.partition("\n")
        old, arrow, new = rest.partition("+++\n")
        source = sources.get(path) or (PACKAGE / path).read_text()
        if not arrow or source.count(old) != 1:
            raise ValueError(f"{file}: its text is in {path} {source.count(old)} times, not once")
        sources[path] = source.replace(old, new)
    install_sources(sources)


def install_sources(sources: dict[str, str]) -> None:
    """Have modules of the package be loaded from these texts, by their paths."""
    names = {f"{PACKAGE.name}.{path[: -len('.py')].replace('/', '.')}": text for path, text in sources.items()}
    assert not names.keys() & sys.modules.keys(), "these modules are loaded already"
    sys.meta_path.insert(0, _Finder(names))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, sources: dict[str, str]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._sources:
            return None
        return importlib.util.spec_from_loader(fullname, _Loader(self._sources[fullname]))


class _Loader(importlib.abc.InspectLoader):
    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:
        return self._source
