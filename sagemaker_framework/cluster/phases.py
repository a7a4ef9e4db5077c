"""The phases of a job on several hosts, in their order, and how hosts are named in words."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Phase:
    """A point that hosts go beyond together.

    Attributes:
        name: as messages have it.
        programs_only: whether only hosts whose program completes the job are waited for.
        has_deadline: whether waiting has an end; there is none where it is for the user's own work.
        late: what a host does that has not come yet, in words.
    """

    def __init__(self, name: str, programs_only: bool, has_deadline: bool, late: str) -> None:
        self.name = name
        self.programs_only = programs_only
        self.has_deadline = has_deadline
        self.late = late


PHASES = {
    phase.name: phase
    for phase in (
        # Code and requirements are in place; the strategy has advertised.
        Phase("ready", programs_only=False, has_deadline=True, late="connected, still preparing"),
        # Servers are started; now the programs start.
        Phase("serving", programs_only=False, has_deadline=True, late="connected, still preparing"),
        # The programs have ended well.  From here on, a request to stop comes too late to change how the job ends.
        Phase("ended", programs_only=True, has_deadline=False, late="its program is running"),
        # post_train and cleanup have succeeded: success is declared.
        Phase("done", programs_only=False, has_deadline=False, late="still finishing"),
    )
}


def place(host: str, at: int, count: int) -> str:
    """Name a host by its name and its place among all: `algo-2 (host 2 of 2)`.

    Args:
        host: its name.
        at: its place in the service's order, from 0.
        count: how many hosts there are.
    """
    return f"{host} (host {at + 1} of {count})"


def names(hosts: Sequence[str], most: int = 5) -> str:
    """Name the first few of these hosts, and say how many more there are."""
    more = f" and {len(hosts) - most} more" if len(hosts) > most else ""
    return ", ".join(hosts[:most]) + more
