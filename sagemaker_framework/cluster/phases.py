"""The phases of a job on several hosts, in their order, and the words for hosts in messages."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Phase:
    """A point in the job that hosts pass together.

    Attributes:
        name: the name in messages between hosts.
        programs_only: True if only hosts are waited for whose program completes the job.
        has_deadline: True if the wait has a time limit; the user's own work has none.
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
        # Code and requirements are in place; each strategy has advertised its payload.
        Phase("ready", programs_only=False, has_deadline=True, late="connected, still preparing"),
        # Servers are started; now the programs start.
        Phase("serving", programs_only=False, has_deadline=True, late="connected, still preparing"),
        # The programs have ended well.  From here on, a request to stop no longer changes the outcome.
        Phase("ended", programs_only=True, has_deadline=False, late="its program is running"),
        # post_train and cleanup have succeeded: success is declared.
        Phase("done", programs_only=False, has_deadline=False, late="still finishing"),
    )
}


def place(host: str, at: int, count: int) -> str:
    """Name a host with its number: `algo-2 (host 2 of 2)`.

    Args:
        host: the name of the host.
        at: its index in the service's order, from 0.
        count: the number of hosts.
    """
    return f"{host} (host {at + 1} of {count})"


def names(hosts: Sequence[str], most: int = 5) -> str:
    """List the first hosts by name, and say how many more there are.

    Args:
        hosts: the names.
        most: the number of hosts to list.
    """
    more = f" and {len(hosts) - most} more" if len(hosts) > most else ""
    return ", ".join(hosts[:most]) + more
