"""Says at the end of a run what it has left out, and how to run that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest

#: How tests are run that `make test` leaves out, by their mark.
TARGETS = {
    "mutants": "make test-mutants",
    "cluster": "make test-cluster, as root",
    "frameworks": "make test-frameworks, as root",
    "images": "make test-images, as root",
}

_DESELECTED = pytest.StashKey[list[pytest.Item]]()


def lines(deselected: Iterable[pytest.Item], skipped: Iterable[str]) -> list[str]:
    """Write a line for each mark whose tests were deselected, and for each reason for which tests were skipped.

    Args:
        deselected: the tests.
        skipped: the reason for each that was skipped.
    """
    marks = Counter(mark for item in deselected for mark in TARGETS if item.get_closest_marker(mark))
    return [
        *(f"{marks[mark]} tests left out: {mark} ({target})" for mark, target in TARGETS.items() if marks[mark]),
        *(f"{count} skipped: {reason}" for reason, count in sorted(Counter(skipped).items())),
    ]


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        items[0].config.stash.setdefault(_DESELECTED, []).extend(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = terminalreporter.getreports("skipped")
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in reports if isinstance(report.longrepr, tuple)]
    for line in lines(config.stash.get(_DESELECTED, []), reasons):
        terminalreporter.write_line(line)
