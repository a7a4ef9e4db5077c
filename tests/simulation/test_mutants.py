"""Faults that are planted in the protocol are found by the simulator."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mutants
import pytest

pytestmark = pytest.mark.mutants

HERE = Path(__file__).parent
SEEDS = 1000


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """What the simulator says of each mutant: they are looked for in several processes at once."""

    def search(file: Path) -> str:
        command = [sys.executable, HERE / "simulate.py", "--mutant", file, "--seeds", str(SEEDS)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    files = mutants.files()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip([file.stem for file in files], pool.map(search, files)))


@pytest.mark.parametrize("mutant", [file.stem for file in mutants.files()])
def test_a_planted_fault_is_found(mutant: str, found: dict[str, str]) -> None:
    """Within a thousand seeds."""
    assert found[mutant].startswith("found by seed"), found[mutant]
