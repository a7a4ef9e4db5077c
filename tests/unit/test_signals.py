"""Requests to stop, put on record by real signals of this process."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from sagemaker_framework.errors import FrameworkError, JobInterrupted, JobStopped
from sagemaker_framework.processes.signals import Once, Signals, listening


@pytest.fixture
def signals() -> Iterator[Signals]:
    """A record that this process keeps until the test is over."""
    # What nobody reads is for the handlers of before, which are pytest's.
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (signal.SIGTERM, signal.SIGINT)}
    with listening() as record:
        yield record
    for signum, handler in before.items():
        signal.signal(signum, handler)


def ask(signum: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_is_put_on_record(signals: Signals, signum: int) -> None:
    """A signal raises nothing; the record has it, and when it came."""
    before = time.monotonic()
    ask(signum)

    assert signum == signals.stopped_by
    assert signals.stopped_at is not None
    assert before <= signals.stopped_at <= time.monotonic()


def test_the_first_request_counts(signals: Signals) -> None:
    """A second one changes neither the signal nor the time."""
    ask(signal.SIGINT)
    first = signals.stopped_at
    ask(signal.SIGTERM)

    assert (signal.SIGINT, first) == (signals.stopped_by, signals.stopped_at)


def test_it_comes_up_at_a_border(signals: Signals) -> None:
    """`check` raises what is on record, each time."""
    signals.check()
    ask()
    for _ in range(2):
        with pytest.raises(JobStopped):
            signals.check()


def test_it_interrupts_what_may_be_interrupted(signals: Signals) -> None:
    """Within `may_interrupt` it is raised at once, also out of a call that blocks."""
    threading.Timer(0.1, ask).start()
    with pytest.raises(JobStopped), signals.may_interrupt():
        time.sleep(60)


def test_what_is_on_record_already_interrupts_at_once(signals: Signals) -> None:
    """Nothing within `may_interrupt` runs any more."""
    ask()
    ran = False
    with pytest.raises(JobStopped), signals.may_interrupt():
        ran = True

    assert not ran


def test_it_interrupts_once(signals: Signals) -> None:
    """What is done on the way out is not interrupted by a second request."""
    cleaned = []

    def work() -> None:
        try:
            ask()
        finally:
            ask(signal.SIGINT)
            cleaned.append(True)

    with pytest.raises(JobStopped), signals.may_interrupt(), signals.may_interrupt():
        work()

    assert cleaned


def test_nothing_is_raised_afterwards(signals: Signals) -> None:
    """After `may_interrupt`, a request is on record only."""
    with signals.may_interrupt():
        pass
    ask()


def test_code_that_is_called_meanwhile_can_be_left_alone(signals: Signals) -> None:
    """Within `uninterrupted` nothing is raised; at its end, what has come meanwhile is."""
    done = []

    def work() -> None:
        with signals.uninterrupted():
            ask()
            done.append("within")
        done.append("after")

    with pytest.raises(JobStopped), signals.may_interrupt():
        work()

    assert ["within"] == done


def test_an_error_on_its_way_out_is_not_replaced(signals: Signals) -> None:
    """What uninterrupted code raises says more than that a request has come."""

    def fail() -> None:
        ask()
        raise FrameworkError("the program's own")

    with pytest.raises(FrameworkError), signals.may_interrupt(), signals.uninterrupted():
        fail()


def test_a_request_can_come_from_another_thread(signals: Signals) -> None:
    """`request_stop` is like a signal, wherever it is called, and not more than one."""
    threading.Timer(0.1, signals.request_stop, [signal.SIGINT]).start()
    with pytest.raises(JobStopped), signals.may_interrupt():
        time.sleep(60)
    ask(signal.SIGTERM)

    assert signal.SIGINT == signals.stopped_by


def test_a_failure_elsewhere_comes_up_in_the_same_way(signals: Signals) -> None:
    """`interrupt`, called in another thread, interrupts what may be interrupted; the first failure counts."""
    signals.interrupt(FrameworkError("first"))
    signals.interrupt(FrameworkError("second"))
    for raises in (signals.check, signals.check_failures, signals.may_interrupt().__enter__):
        with pytest.raises(JobInterrupted, match="first"):
            raises()


def test_who_has_to_know_is_called_by_the_handler(signals: Signals) -> None:
    """A subscriber hears of the request at once, and so does one that comes later; not who has left."""
    heard: list[str] = []
    signals.subscribe(early := Once(lambda signum: heard.append("early")))
    signals.subscribe(left := Once(lambda signum: heard.append("left")))
    signals.unsubscribe(left)
    ask()
    first = [*heard]
    signals.subscribe(Once(lambda signum: heard.append("late")))
    signals.unsubscribe(early)

    assert (["early"], ["early", "late"]) == (first, heard)


def test_the_loop_is_woken(signals: Signals) -> None:
    """What waits for `wakeup` goes on when a signal comes."""
    import select

    poll = select.poll()
    poll.register(signals.wakeup, select.POLLIN)
    assert not poll.poll(0)
    ask()
    assert poll.poll(0)
    signals.wakeup.drain()
    assert not poll.poll(0)


def test_patience(signals: Signals) -> None:
    """A request interrupts when it is as old as patience lasts, and not before."""
    signals.be_patient(0.3)
    ask()
    signals.check()
    begun = signals.stopped_at or 0.0
    with pytest.raises(JobStopped), signals.may_interrupt():
        time.sleep(60)

    assert time.monotonic() - begun >= 0.3


def test_the_end_of_a_job_has_a_time_of_its_own(signals: Signals) -> None:
    """Once it has settled, failures elsewhere interrupt nothing, and an old request only after the least time."""
    ask()
    settled = time.monotonic()
    signals.settle()
    signals.interrupt(FrameworkError("elsewhere"))
    signals.check()
    signals.be_patient(0.0, at_least=0.3)
    with pytest.raises(JobStopped), signals.may_interrupt():
        time.sleep(60)

    assert time.monotonic() - settled >= 0.3


def test_a_failure_that_is_recorded_while_the_job_settles(signals: Signals) -> None:
    """It interrupts nothing, even if another thread was about to record it when the end of the job settled."""

    def trace(frame: FrameType, event: str, arg: object) -> Callable[..., object] | None:
        if frame.f_code.co_name != "interrupt":
            return None
        if event == "line" and frame.f_lineno == frame.f_code.co_firstlineno + 3:
            signals.settle()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        signals.interrupt(FrameworkError("elsewhere"))
    finally:
        sys.settrace(before)
    signals.check()


def test_a_handler_survives_that_no_thread_can_be_started(signals: Signals) -> None:
    """What it cannot start a clock for is on record all the same, and comes up at the next border."""
    before = _thread.stack_size(2**46)  # More than there is.
    try:
        signals.be_patient(0.2)
        with signals.may_interrupt():
            ask()
    finally:
        _thread.stack_size(before)
    asked_at = signals.stopped_at
    assert asked_at is not None
    while time.monotonic() < asked_at + 0.2:
        time.sleep(0.01)
    with pytest.raises(JobStopped):
        signals.check()


def test_a_late_request_does_not_count(signals: Signals) -> None:
    """What has come too late has not stopped the job, though the record has it."""
    signals.disregard_stops()
    ask()

    assert signals.stopped_by is None
    assert signals.stopped_at is not None


def test_a_record_is_shared_by_what_is_called_within(signals: Signals) -> None:
    """`listening` within `listening` goes on with one record, and gives back what was set on it."""
    with listening() as inner:
        assert inner is signals
        inner.be_patient(60)
        inner.disregard_stops()
    ask()
    with pytest.raises(JobStopped):
        signals.check()


def test_a_request_that_nobody_reads_any_more_is_the_callers() -> None:
    """The handlers of before get the signal that came at the very end."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: heard.append(signum))
    try:
        with listening():
            ask()
        assert [signal.SIGTERM] == heard
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_are_ignored_to_the_end_of_the_process() -> None:
    """After `ignore_stops`, SIGTERM does not even change the exit code of a Python that is about to be gone."""
    code = (
        "import os, signal, sys\n"
        "from sagemaker_framework.processes import signals\n"
        "signals.keep().ignore_stops()\n"
        "class Last:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, 15); kill(pid, 2)\n"
        "sys.last = Last()\n"
        "sys.exit(3)\n"
    )

    assert 3 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_signals_that_were_noted_before_are_on_record() -> None:
    """`keep` goes on with what has come while it was being loaded."""
    code = (
        "from sagemaker_framework.processes import signals\n"
        "record = signals.keep([2, 15])\n"
        "assert record.stopped_by == 2\n"
    )

    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_what_is_called_once() -> None:
    """`Once` calls its function the first time only, also where a handler calls it in between."""
    calls: list[int] = []
    once = Once(lambda signum: (calls.append(signum), once(2)))
    assert not once.was_called
    once(1)
    once(3)

    assert ([1], True) == (calls, once.was_called)
