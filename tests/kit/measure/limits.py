"""Prints what of each module the tests have run, and fails where that is less than setup.cfg asks for.

Part of `make coverage`, after which `.venvs/coverage` holds what was measured.
"""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def percent(covered: int, of: int) -> float:
    return 100 * covered / of if of else 100.0


def shares(summary: Mapping[str, int]) -> dict[str, float]:
    """Compute how much of the lines, and of the branches, was run, in percent."""
    return {
        "lines": percent(summary["covered_lines"], summary["num_statements"]),
        "branches": percent(summary["covered_branches"], summary["num_branches"]),
    }


def too_low(summary: Mapping[str, int], limits: Mapping[str, float]) -> Iterator[str]:
    """Name what is below its limit."""
    for what, share in shares(summary).items():
        if share < limits[what]:
            yield f"{share:.2f} % of the {what} were run, and setup.cfg asks for {limits[what]:g} %"


def main() -> int:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    limits = {name: float(value) for name, value in config["coverage-limits"].items()}
    output = subprocess.run(
        [sys.executable, "-m", "coverage", "json", "-q", "-o", "-"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    measured = json.loads(output)
    print(f"{'lines':>9} {'branches':>9}  module")
    named = [(name, file["summary"]) for name, file in sorted(measured["files"].items())]
    for name, summary in [*((Path(name).as_posix(), each) for name, each in named), ("all", measured["totals"])]:
        lines, branches = shares(summary).values()
        print(f"{lines:7.1f} % {branches:7.1f} %  {name}")
    problems = list(too_low(measured["totals"], limits))
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
