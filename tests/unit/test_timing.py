"""The windows of time keep their relations."""

from __future__ import annotations

import pytest

from sagemaker_framework import timing
from sagemaker_framework.cluster import protocol
from sagemaker_framework.processes import rank_wrapper


@pytest.mark.parametrize(
    ("shorter", "longer", "why"),
    [
        ("DEFAULT_GRACE", "SERVICE_GRACE", "the failure file is written before the service kills the container"),
        ("FAILURE_GRACE", "DEFAULT_GRACE", "a failed job is given no more time than one that saves a checkpoint"),
        ("LEFTOVER_GRACE", "FAILURE_GRACE", "what a program has left is needed less than the program"),
        ("LEAST_GRACE", "LEFTOVER_GRACE", "the least is the least"),
        ("TIDYING", "TOGETHER", "when a process began to end is known better than which of two did"),
        ("LEAST_GRACE", "AFTER_GRACE", "the least is the least"),
        ("TOGETHER", "LAST_WORDS", "what a process wrote at its end is known when ends are compared"),
        ("TOGETHER", "SERVER_ENDS", "a server that tidies up is heard"),
        ("TOGETHER", "LEAST_WINDOW", "hosts compare no sooner than processes do"),
        ("LEAST_WINDOW", "WINDOW", "the least is the least"),
        ("DOUBT", "WINDOW", "a host tells of a consequence while the leader still waits for the cause"),
        ("LOSS_SHOWS", "WINDOW", "the loss of a host shows while the leader still waits"),
        ("SERVER_ENDS", "WINDOW", "a host has compared its processes while the leader still waits"),
        ("WINDOW", "VERDICT", "hosts wait for the verdict for longer than the leader does"),
        ("VERDICT", "FAILURE_GRACE", "the verdict is known before what still runs is killed"),
        ("FAREWELL", "VERDICT", "the leader's last word comes before the others give up"),
        ("TOGETHER", "LOSS_SHOWS", "a loss explains what cannot be told to have been before it"),
        ("RANKS_SETTLE", "DOUBT", "the ends of ranks are known before one is told of as a mere consequence"),
        ("ATTEMPT", "INTRODUCTION", "a host tries again before the leader takes it for a stranger"),
        ("INTRODUCTION", "DEFAULT_PHASE_TIMEOUT", "a stranger does not hold a place for as long as hosts wait"),
        ("SILENCE", "DEFAULT_PHASE_TIMEOUT", "a host that is gone is noticed before a phase ends"),
    ],
)
def test_one_window_is_not_longer_than_another(shorter: str, longer: str, why: str) -> None:
    """Each pair for its reason."""
    assert getattr(timing, shorter) <= getattr(timing, longer), why


def test_a_stopped_job_ends_before_the_service_kills_it() -> None:
    """What comes after the grace period, to the leader's last word, fits into the service's own."""
    assert timing.DEFAULT_GRACE + 2 * timing.AFTER_GRACE + timing.VERDICT + timing.FAREWELL <= timing.SERVICE_GRACE


def test_three_signs_of_life_are_missing_before_a_host_is_lost() -> None:
    """One that is late, or two, are no reason."""
    assert timing.SILENCE >= 3 * timing.BEAT


@pytest.mark.parametrize("window", ["LATECOMERS", "LAST_ATTEMPTS"])
def test_a_host_makes_several_attempts_before_anybody_gives_up(window: str) -> None:
    """The leader stays, and a host that has failed tries, for three attempts at least."""
    assert getattr(timing, window) >= 3 * timing.LONGEST_RETRY


def test_the_wrapper_of_ranks_has_the_same_last_words() -> None:
    """It runs without the package, and repeats the number."""
    assert rank_wrapper._LATEST == timing.LAST_WORDS


def test_time_is_looked_at_more_often_than_the_windows_are_long() -> None:
    """No window is overrun by more than its half."""
    assert protocol.TICK <= timing.BEAT / 2
    assert protocol.TICK <= timing.WINDOW / 2


def test_the_verdict_and_its_way_fit_into_the_time_that_hosts_wait_for_it() -> None:
    """A failure that one host tells of at the last moment is decided on before any host stops waiting."""
    assert timing.DOUBT + timing.WINDOW + 2 * protocol.TICK <= timing.VERDICT
    assert timing.LAST_ATTEMPTS + timing.WINDOW + 2 * protocol.TICK <= timing.VERDICT
