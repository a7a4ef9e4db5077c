"""The events that the protocol is told of, and the actions that it asks for.

Plain records: two are equal when they are of one class and hold the same. `host` is always the name of the host that
an event comes from, or an action goes to.
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
    """A value that is its attributes."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Event(Record):
    """Something that has happened."""


class Action(Record):
    """Something to be done, by whoever drives the protocol."""


# -- events of every host ----------------------------------------------------------------------


class Tick(Event):
    """Time has passed.  Comes at least every `protocol.TICK` seconds."""


class Arrived(Event):
    """A host has come to a phase.

    Attributes:
        payload: what it brings.
        sent: when it said so, by its own clock; None for this host.
        reduces: whether this host computes the result itself, from all payloads.
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
        failure: with times by the host's own clock.
        sent: when it said so, by its own clock; None for this host.
    """

    def __init__(self, host: str, failure: Failure, sent: float | None = None) -> None:
        self.host = host
        self.failure = failure
        self.sent = sent


class StopRequested(Event):
    """A host has been asked to stop; of the leader: the whole job is being stopped.

    Attributes:
        signum: by which signal.
        insists: whether it stops although all programs have ended well, since it cannot finish.
    """

    def __init__(self, host: str, signum: int, insists: bool = False) -> None:
        self.host = host
        self.signum = signum
        self.insists = insists


class Closing(Event):
    """This host needs the session no more."""


class Disconnected(Event):
    """The connection to a host is gone.

    Attributes:
        why: in words.
    """

    def __init__(self, host: str, why: str) -> None:
        self.host = host
        self.why = why


class Connected(Event):
    """A host is there, and has proved who it is."""

    def __init__(self, host: str) -> None:
        self.host = host


class Heard(Event):
    """A host has given a sign of life."""

    def __init__(self, host: str) -> None:
        self.host = host


# -- events of the leader ----------------------------------------------------------------------


class Resolved(Event):
    """A host's name leads somewhere.

    Attributes:
        addresses: where.
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
    """A host knows that the job has failed, and has nothing to add; or that the job is being stopped."""

    def __init__(self, host: str) -> None:
        self.host = host


class Left(Event):
    """A host has said goodbye."""

    def __init__(self, host: str) -> None:
        self.host = host


# -- events of a follower ----------------------------------------------------------------------


class AttemptFailed(Event):
    """The leader could not be reached.

    Attributes:
        problem: in words.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem


class Completed(Event):
    """All hosts have come to a phase."""

    def __init__(self, phase: str, result: Payload) -> None:
        self.phase = phase
        self.result = result


class Waiting(Event):
    """The leader waits for some hosts.

    Attributes:
        names: of these hosts, in words.
    """

    def __init__(self, phase: str, names: str) -> None:
        self.phase = phase
        self.names = names


class JobFailed(Event):
    """A host of the job has failed; which failure is the cause is not known yet."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class Decided(Event):
    """The leader has decided what the job has failed of."""

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
    """Have this host compute the result of a phase; `Reduced` is to follow."""

    def __init__(self, phase: str, payloads: Mapping[str, Payload]) -> None:
        self.phase = phase
        self.payloads = payloads


class SetResult(Action):
    """Let this host go on from a phase."""

    def __init__(self, phase: str, result: Payload) -> None:
        self.phase = phase
        self.result = result


class Interrupt(Action):
    """Stop what this host does: the job has failed elsewhere."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class SetVerdict(Action):
    """Let this host report this failure, as all hosts do."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure


class StopHost(Action):
    """Stop this host's program: the job is being stopped.  Its own request is confirmed by that, too."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


class Tell(Action):
    """Write a line to the log."""

    def __init__(self, text: str) -> None:
        self.text = text


class Close(Action):
    """End the session, once what was sent is on its way."""
