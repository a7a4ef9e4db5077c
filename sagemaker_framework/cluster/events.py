"""The events that the protocol handles, and the actions that it asks for.

Plain records: two are equal if they are of one class and have equal attributes. `host` is always the name of the host
that an event comes from, or that an action is for.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sagemaker_framework.failures import Failure

    #: A JSON object.
    Payload = Mapping[str, Any]


class Record:
    """A value made of its attributes."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Event(Record):
    """Something that has happened."""


class Action(Record):
    """Something for the driver of the protocol to do."""


# -- events of every host ----------------------------------------------------------------------


class Tick(Event):
    """Time has passed.  The driver sends it at least every `protocol.TICK` seconds."""


class Arrived(Event):
    """A host has come to a phase.

    Attributes:
        payload: the host's contribution to the result of the phase.
        sent: the time on the sender's clock; None for this host.
        reduces: True if this host computes the result itself, from all payloads.
    """

    def __init__(
        self, host: str, phase: str, payload: Payload, sent: float | None = None, reduces: bool = False
    ) -> None:
        self.host = host
        self.phase = phase
        self.payload = payload
        self.sent = sent
        self.reduces = reduces


class Failed(Event):
    """A host has failed.

    Attributes:
        failure: the failure, with times on that host's clock.
        sent: the time on the sender's clock; None for this host.
    """

    def __init__(self, host: str, failure: Failure, sent: float | None = None) -> None:
        self.host = host
        self.failure = failure
        self.sent = sent


class StopRequested(Event):
    """A host was asked to stop.  From the leader: the whole job is being stopped.

    Attributes:
        signum: the signal that asked.
        insists: True if the job must stop even if all programs have ended well, as this host cannot finish.
    """

    def __init__(self, host: str, signum: int, insists: bool = False) -> None:
        self.host = host
        self.signum = signum
        self.insists = insists


class Closing(Event):
    """This host no longer needs the session."""


class Disconnected(Event):
    """The connection to a host is lost.

    Attributes:
        why: the reason, in words.
    """

    def __init__(self, host: str, why: str) -> None:
        self.host = host
        self.why = why


class Connected(Event):
    """A host has connected and proved who it is."""

    def __init__(self, host: str) -> None:
        self.host = host


class Heard(Event):
    """A host gave a sign of life."""

    def __init__(self, host: str) -> None:
        self.host = host


# -- events of the leader ----------------------------------------------------------------------


class Resolved(Event):
    """A host's name resolves.

    Attributes:
        addresses: the addresses that it resolves to.
    """

    def __init__(self, host: str, addresses: frozenset[str]) -> None:
        self.host = host
        self.addresses = addresses


class Reduced(Event):
    """The leader has computed the result of a phase from all payloads."""

    def __init__(self, phase: str, result: Payload) -> None:
        self.phase = phase
        self.result = result


class Acknowledged(Event):
    """A host knows that the job has failed or is being stopped, and has no failure to report."""

    def __init__(self, host: str) -> None:
        self.host = host


class Left(Event):
    """A host said goodbye."""

    def __init__(self, host: str) -> None:
        self.host = host


# -- events of a follower ----------------------------------------------------------------------


class AttemptFailed(Event):
    """The leader could not be reached.

    Attributes:
        problem: the reason, in words.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem


class Completed(Event):
    """All hosts have come to a phase."""

    def __init__(self, phase: str, result: Payload) -> None:
        self.phase = phase
        self.result = result


class Waiting(Event):
    """The leader is waiting for some hosts.

    Attributes:
        names: the names of these hosts, in words.
    """

    def __init__(self, phase: str, names: str) -> None:
        self.phase = phase
        self.names = names


class JobFailed(Event):
    """A host of the job has failed; it is not known yet which failure is the cause."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class Decided(Event):
    """The leader has decided which failure is the cause."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


# -- actions -----------------------------------------------------------------------------------


class Send(Action):
    """Send a message to one host."""

    def __init__(self, host: str, message: Payload) -> None:
        self.host = host
        self.message = message


class Broadcast(Action):
    """Send a message to all hosts that are connected."""

    def __init__(self, message: Payload) -> None:
        self.message = message


class Beat(Action):
    """Send a sign of life."""

    def __init__(self, host: str) -> None:
        self.host = host


class Drop(Action):
    """Close the connection to a host."""

    def __init__(self, host: str) -> None:
        self.host = host


class Gather(Action):
    """Have this host compute the result of a phase from all payloads; the driver answers with `Reduced`."""

    def __init__(self, phase: str, payloads: Mapping[str, Payload]) -> None:
        self.phase = phase
        self.payloads = payloads


class SetResult(Action):
    """Give this host the result of a phase, so that it goes on."""

    def __init__(self, phase: str, result: Payload) -> None:
        self.phase = phase
        self.result = result


class Interrupt(Action):
    """Stop this host's work: the job has failed elsewhere."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class SetVerdict(Action):
    """Give this host the failure that all hosts report."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class StopHost(Action):
    """Stop this host's program: the job is being stopped.  Also sent to the host that asked for that."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


class Tell(Action):
    """Write a line to the log."""

    def __init__(self, text: str) -> None:
        self.text = text


class Close(Action):
    """End the session once everything has been sent."""
