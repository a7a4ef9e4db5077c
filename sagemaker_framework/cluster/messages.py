"""The messages between hosts: makes the JSON objects, and reads them."""

from __future__ import annotations

import signal

from sagemaker_framework.cluster.events import (
    Acknowledged,
    Arrived,
    Completed,
    Decided,
    Failed,
    JobFailed,
    Left,
    StopRequested,
    Waiting,
)
from sagemaker_framework.cluster.phases import PHASES
from sagemaker_framework.failures import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sagemaker_framework.cluster.events import Event, Payload

    Message = dict[str, Any]

# -- from a follower to the leader -------------------------------------------------------------


def at(phase: str, payload: Payload, sent: float) -> Message:
    """Tell the leader that this host has come to a phase."""
    return {"type": "at", "phase": phase, "payload": payload, "sent": sent}


def failed(failure: Failure, sent: float) -> Message:
    """Tell the leader that this host has failed."""
    return {"type": "failed", "failure": failure.as_message(), "sent": sent}


def ack() -> Message:
    """Tell the leader that this host knows that the job has failed or is being stopped."""
    return {"type": "ack"}


def bye() -> Message:
    """Say goodbye to the leader."""
    return {"type": "bye"}


def from_follower(host: str, message: Mapping[str, Any]) -> Event:
    """Read a follower's message.

    Raises:
        ValueError: it is not a message of a follower, or broken.
    """
    kind = message.get("type")
    if kind == "at":
        return Arrived(host, _phase(message), _object(message, "payload"), sent=_seconds(message, "sent"))
    if kind == "failed":
        failure = Failure.from_message({**_object(message, "failure"), "host": host})
        return Failed(host, failure, sent=_seconds(message, "sent"))
    if kind == "stop":
        return StopRequested(host, _signum(message), message.get("insists") is True)
    if kind == "ack":
        return Acknowledged(host)
    if kind == "bye":
        return Left(host)
    raise ValueError(f"a follower says {kind!r}")


# -- from the leader to a follower -------------------------------------------------------------


def go(phase: str, result: Payload) -> Message:
    """Tell followers that all hosts have come to a phase."""
    return {"type": "go", "phase": phase, "result": result}


def waiting(phase: str, names: str) -> Message:
    """Tell followers which hosts the job waits for."""
    return {"type": "waiting", "phase": phase, "names": names}


def fail(failure: Failure) -> Message:
    """Tell followers that the job has failed."""
    return {"type": "fail", "failure": failure.as_message()}


def verdict(failure: Failure) -> Message:
    """Tell followers which failure is the cause."""
    return {"type": "verdict", "failure": failure.as_message()}


def from_leader(leader: str, message: Mapping[str, Any]) -> Event:
    """Read a message of the leader.

    Raises:
        ValueError: it is not a message of the leader, or broken.
    """
    kind = message.get("type")
    if kind == "go":
        return Completed(_phase(message), _object(message, "result"))
    if kind == "waiting":
        return Waiting(_phase(message), str(message.get("names")))
    if kind == "fail":
        return JobFailed(Failure.from_message(_object(message, "failure")))
    if kind == "verdict":
        return Decided(Failure.from_message(_object(message, "failure")))
    if kind == "stop":
        return StopRequested(leader, _signum(message))
    raise ValueError(f"the leader says {kind!r}")


# -- in both directions ------------------------------------------------------------------------


def stop(signum: int, insists: bool = False) -> Message:
    """Tell the other side that this host was asked to stop; from the leader, that the job was."""
    return {"type": "stop", "signum": signum, "insists": insists}


def _phase(message: Mapping[str, Any]) -> str:
    phase = message.get("phase")
    if not isinstance(phase, str) or phase not in PHASES:
        raise ValueError(f"there is no phase {phase!r}")
    return str(phase)


def _object(message: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return value


def _seconds(message: Mapping[str, Any], name: str) -> float:
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ValueError(f"{name} is not a number of seconds")
    return float(value)


def _signum(message: Mapping[str, Any]) -> int:
    signum = message.get("signum")
    if signum not in (signal.SIGTERM, signal.SIGINT):
        raise ValueError(f"{signum!r} is not a signal that asks a job to stop")
    return int(signum)
