"""The messages between hosts: what one host sends, another reads; anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sagemaker_framework.cluster import messages
from sagemaker_framework.cluster.events import (
    Acknowledged,
    Arrived,
    Completed,
    Decided,
    Event,
    Failed,
    JobFailed,
    Left,
    StopRequested,
    Waiting,
)
from sagemaker_framework.failures import CONSEQUENCE, Failure

FAILURE = Failure("algo-2", "it fails", "in detail", 3, process="server", raised_at=5.5, ended_at=6.5, kind=CONSEQUENCE)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (messages.at("ready", {"port": 1}, 7.5), Arrived("algo-2", "ready", {"port": 1}, 7.5)),
        (messages.failed(FAILURE, 7.5), Failed("algo-2", FAILURE, 7.5)),
        (messages.stop(15), StopRequested("algo-2", 15)),
        (messages.stop(2, insists=True), StopRequested("algo-2", 2, insists=True)),
        (messages.ack(), Acknowledged("algo-2")),
        (messages.bye(), Left("algo-2")),
    ],
)
def test_the_leader_reads_what_a_follower_sends(message: dict[str, Any], event: Event) -> None:
    """Nothing is lost on the way, which is JSON."""
    assert event == messages.from_follower("algo-2", json.loads(json.dumps(message)))


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (messages.go("ready", {"port": 1}), Completed("ready", {"port": 1})),
        (messages.waiting("ready", "algo-3"), Waiting("ready", "algo-3")),
        (messages.fail(FAILURE), JobFailed(FAILURE)),
        (messages.verdict(FAILURE), Decided(FAILURE)),
        (messages.stop(15), StopRequested("algo-1", 15)),
        (messages.stop(2), StopRequested("algo-1", 2)),
    ],
)
def test_a_follower_reads_what_the_leader_sends(message: dict[str, Any], event: Event) -> None:
    """Nothing is lost on the way, which is JSON."""
    assert event == messages.from_leader("algo-1", json.loads(json.dumps(message)))


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "go"},
        {"type": None},
        {"phase": "lunch"},
        {"payload": [1]},
        {"sent": "now"},
        {"sent": True},
        {"sent": float("nan")},
        {"sent": None},
    ],
)
def test_what_no_follower_sends_is_refused(changes: dict[str, Any]) -> None:
    """The leader drops the connection then."""
    with pytest.raises(ValueError, match=" "):
        messages.from_follower("algo-2", {**messages.at("ready", {}, 7.5), **changes})


@pytest.mark.parametrize("changes", [{"type": "bye"}, {"phase": "lunch"}, {"result": None}])
def test_what_no_leader_sends_is_refused(changes: dict[str, Any]) -> None:
    """The follower takes the leader for lost then."""
    with pytest.raises(ValueError, match=" "):
        messages.from_leader("algo-1", {**messages.go("ready", {}), **changes})


@pytest.mark.parametrize("signum", [9, 0, None, "SIGTERM"])
def test_no_other_signal_stops_a_job(signum: Any) -> None:
    """It would reach the programs of all hosts."""
    with pytest.raises(ValueError, match="is not a signal that asks a job to stop"):
        messages.from_follower("algo-2", {**messages.stop(15), "signum": signum})


def test_a_failure_is_always_that_of_the_host_that_sends_it() -> None:
    """No host can report one in another's name."""
    event = messages.from_follower("algo-3", messages.failed(FAILURE, 7.5))

    assert isinstance(event, Failed)
    assert "algo-3" == event.failure.host
