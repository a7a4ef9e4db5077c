"""Simulated jobs end as they should, and would not if the protocol were otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mutants
import pytest
import simulate

HERE = Path(__file__).parent
SEEDS = 1000


@pytest.fixture(scope="module")
def simulated() -> tuple[list[int], Counter[str]]:
    """The seeds of a thousand that end otherwise than they should, and what the thousand are about."""
    return simulate.simulate(range(SEEDS))


def test_jobs_end_as_they_should(simulated: tuple[list[int], Counter[str]]) -> None:
    """Whatever goes wrong, and whenever: of a thousand seeds, none breaks an invariant."""
    failed, _ = simulated

    assert [] == failed, simulate.told(failed[0])


def test_a_seed_that_has_once_failed_fails_no_more() -> None:
    """Each is kept in seeds.txt."""
    lines = (HERE / "seeds.txt").read_text().splitlines()
    failed, _ = simulate.simulate([int(line.split()[0]) for line in lines if line and not line.startswith("#")])

    assert [] == failed, simulate.told(failed[0])


def test_a_seed_is_always_the_same_job() -> None:
    """So that its timeline can be read, and read again; in another process, too."""
    once = simulate.told(7)
    again = subprocess.run(
        [sys.executable, HERE / "simulate.py", "--seed", "7"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    ).stdout

    assert f"{once}\n" == again


def test_nothing_is_left_out(simulated: tuple[list[int], Counter[str]]) -> None:
    """A thousand seeds have jobs of all sizes and ends, and each fault, many times."""
    _, counts = simulated
    rare = [name for name in simulate.EXPECTED if counts[name] < 20]

    assert [] == rare


def test_there_are_planted_faults() -> None:
    """Their folder is where it is looked for."""
    assert len(mutants.files()) >= 50


def test_a_mutant_that_does_not_fit_is_no_mutant(tmp_path: Path) -> None:
    """One whose text has gone from the source has to be mended, not passed over."""
    (tmp_path / "old.txt").write_text("Nothing.\n\n--- cluster/protocol.py\nno such line\n+++\n")

    with pytest.raises(ValueError, match="0 times"):
        mutants.install(tmp_path / "old.txt")
