"""Which of several failures is the cause."""

from __future__ import annotations

from itertools import permutations

import pytest

from sagemaker_framework import timing
from sagemaker_framework.errors import FrameworkError, ProgramError
from sagemaker_framework.failures import CAUSE, CONSEQUENCE, HOST_LOST, Failure, root_cause


def failure(host: str, raised_at: float, kind: str = CAUSE, **more: object) -> Failure:
    return Failure(host, f"{host} fails", raised_at=raised_at, kind=kind, **more)  # type: ignore[arg-type]


def test_what_raised_first_is_the_cause_whatever_ended_first() -> None:
    """A process that tidies up for a second after its exception is the cause of one that ends before it does."""
    slow = failure("algo-2", 10.0, ended_at=11.0)
    quick = failure("algo-1", 10.1, ended_at=10.2)

    assert slow is root_cause([quick, slow])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_consequence_counts_only_where_nothing_else_has_failed(order: tuple[int, ...]) -> None:
    """In whatever order failures become known, that which stands for itself is the cause, also when it came later."""
    known = [failure("algo-1", 1.0, CONSEQUENCE), failure("algo-2", 2.0), failure("algo-3", 3.0)]

    assert "algo-2" == root_cause([known[at] for at in order]).host


def test_of_consequences_alone_the_first_is_the_cause() -> None:
    """Where the true cause stays unknown, the earliest consequence is reported."""
    assert "algo-2" == root_cause([failure("algo-1", 2.0, CONSEQUENCE), failure("algo-2", 1.0, CONSEQUENCE)]).host


def test_a_lost_host_explains_what_others_noticed_just_before() -> None:
    """Programs may notice the end of a host sooner than `train` does."""
    noticed = failure("algo-1", 10.0)
    loss = failure("algo-2", 10.0 + timing.LOSS_SHOWS / 2, HOST_LOST)

    assert loss is root_cause([noticed, loss])


def test_a_lost_host_does_not_explain_what_was_long_before() -> None:
    """A program that failed while all hosts were there is the cause, whoever went away afterwards."""
    first = failure("algo-1", 10.0)
    loss = failure("algo-2", 10.1 + timing.LOSS_SHOWS, HOST_LOST)

    assert first is root_cause([loss, first])


@pytest.mark.parametrize(
    ("program_at", "server_at"), [(1.0, 1.0 + timing.TOGETHER / 2), (1.0 + timing.TOGETHER / 2, 1.0)]
)
def test_a_program_and_a_server_that_fail_together_are_both_named(program_at: float, server_at: float) -> None:
    """The one that was first stands first; the exit code is the program's."""
    program = Failure("algo-1", "train.py exited with code 3", exit_code=3, process="program", raised_at=program_at)
    server = Failure("algo-1", "server exited with code 1", process="server", raised_at=server_at)
    both = root_cause([program, server])

    first, second = sorted([program, server], key=lambda each: each.raised_at)
    assert f"{first.cause}; at the same moment, {second.cause}" == both.cause
    assert 3 == both.exit_code


def test_a_server_that_fails_well_before_the_program_is_the_cause_alone() -> None:
    """What came after the window is a consequence, and so is its exit code."""
    program = Failure("algo-1", "train.py", exit_code=3, process="program", raised_at=1.1 + timing.TOGETHER)
    server = Failure("algo-1", "server", exit_code=9, process="server", raised_at=1.0)

    assert server is root_cause([program, server])


def test_a_server_of_another_host_is_not_named_with_a_program() -> None:
    """Only processes of one host are named together."""
    program = Failure("algo-1", "train.py", process="program", raised_at=1.1)
    server = Failure("algo-2", "server", process="server", raised_at=1.0)

    assert server is root_cause([program, server])


@pytest.mark.parametrize(("raised_apart", "ended_apart", "are_named"), [(0.5, 10.0, True), (2.0, 0.0, False)])
def test_a_program_and_a_server_fail_together_if_they_raise_together(
    raised_apart: float, ended_apart: float, are_named: bool
) -> None:
    """How long each takes to end after its exception does not matter."""
    at = {"raised_at": 1.0 + raised_apart * timing.TOGETHER, "ended_at": 5.0 + ended_apart * timing.TOGETHER}
    program = Failure("algo-1", "train.py", process="program", raised_at=1.0, ended_at=5.0)
    server = Failure("algo-1", "server", process="server", **at)  # type: ignore[arg-type]

    assert are_named == ("at the same moment" in root_cause([program, server]).cause)


def test_a_failure_by_another_clock_is_as_long_as_before() -> None:
    """Its beginning and its end are moved alike."""
    moved = Failure("algo-2", "x", raised_at=1.5, ended_at=2.5).shifted(10.0)

    assert (11.5, 12.5) == (moved.raised_at, moved.ended_at)


def test_a_failure_is_the_same_after_its_way_to_another_host() -> None:
    """Each attribute is sent and read."""
    sent = Failure("algo-2", "x", "y", 7, process="server", raised_at=1.5, ended_at=2.5, kind=CONSEQUENCE)

    assert vars(sent) == vars(Failure.from_message(sent.as_message()))


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("exit_code", 0, 1),
        ("exit_code", "7", 1),
        ("exit_code", 256, 1),
        ("kind", "x", CAUSE),
        ("raised_at", "soon", 0.0),
    ],
)
def test_what_is_sent_wrongly_becomes_the_default(name: str, value: object, read: object) -> None:
    """A host that says something odd cannot make another fail of it."""
    assert read == getattr(Failure.from_message({"host": "algo-2", name: value}), name)


def test_the_cause_names_the_host_and_its_place() -> None:
    """A rank's error names host and rank already, and keeps its words."""
    place = "algo-2 (host 2 of 3)"

    assert f"{place}: no data" == Failure.of(FrameworkError("no data"), "algo-2", place).cause
    ranks = ProgramError("algo-2, rank 5: train.py exited with code 1", 1)
    assert "algo-2, rank 5: train.py exited with code 1" == Failure.of(ranks, "algo-2", place).cause
