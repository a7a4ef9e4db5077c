"""Records requests to stop, which come from signals and from other hosts; raises them only where that is asked for.

The handlers for SIGTERM and SIGINT record the request, wake the supervisor's loop, and pass the request on to those who
must know at once: the program and the other hosts. They raise nothing, except while somebody else's code runs:

    with signals.may_interrupt():
        fetch(source)

Our own code that such code calls is not interrupted (`uninterrupted`). All other code asks at the borders of its steps
(`check`). A failure elsewhere, which another thread reports, is recorded and raised in the same way.
"""

from __future__ import annotations

import signal
import time
from _thread import get_ident, start_new_thread

from sagemaker_framework import log
from sagemaker_framework.errors import JobInterrupted, JobStopped
from sagemaker_framework.wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, TracebackType

    from sagemaker_framework.errors import FrameworkError

    _Terms = tuple[float, bool, bool, tuple[Callable[[int], None], ...]]

STOPS = (signal.SIGTERM, signal.SIGINT)
#: Other threads send this signal to make the main thread look at the record. Ignored otherwise, as one may come late.
_NUDGE = signal.SIGURG


class Once:
    """A function that runs only once, however often it is called, even by a signal handler during a call.

    Args:
        function: the function.
    """

    def __init__(self, function: Callable[[int], object]) -> None:
        self._functions = [function]

    @property
    def was_called(self) -> bool:
        return not self._functions

    def __call__(self, signum: int) -> None:
        try:
            function = self._functions.pop()  # One step, so that no signal comes in between.
        except IndexError:
            return
        function(signum)


class Signals:
    """The record of one process: the request to stop, its time, and the failure elsewhere.

    Attributes:
        wakeup: woken by every signal with a handler; a loop waits for it.
        hears: True if this record has handlers; outside of the main thread it cannot have any.
    """

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self._interruption: FrameworkError | None = None
        self.hears = False
        self._main = get_ident()
        self._request: tuple[int, float] | None = None
        self._repeated: list[int] = []  # further requests that are not in the log yet
        self._is_told = False  # True once the log says that the first request came too late
        self._subscribers: list[Callable[[int], None]] = []
        self._is_armed = False
        self._raised = 0
        self._patience = 0.0
        self._is_late = False
        self._ignores_failures = False
        self._has_alarm = False

    @property
    def is_of_this_thread(self) -> bool:
        """True if this thread keeps the record."""
        return self._main == get_ident()

    @property
    def terms(self) -> _Terms:
        """The subscribers, and when a request counts; for setting them again later."""
        return self._patience, self._is_late, self._ignores_failures, tuple(self._subscribers)

    @terms.setter
    def terms(self, terms: _Terms) -> None:
        self._patience, self._is_late, self._ignores_failures, subscribers = terms
        self._subscribers = [*subscribers]

    # -- the record ----------------------------------------------------------------------------

    @property
    def stopped_by(self) -> int | None:
        """The signal by which the job was asked to stop, or None.  A request that came too late does not count."""
        return self._request[0] if self._request is not None and not self._is_late else None

    @property
    def came_too_late(self) -> int | None:
        """The signal of a request to stop that came too late to count, or None."""
        return self._request[0] if self._request is not None and self._is_late else None

    @property
    def stopped_at(self) -> float | None:
        """The time of the request to stop (`time.monotonic`), or None.  A request that came too late counts, too."""
        return self._request[1] if self._request is not None else None

    @property
    def interruption(self) -> FrameworkError | None:
        """The failure elsewhere, or None.  Once the end of the job has settled, none counts."""
        return None if self._ignores_failures else self._interruption

    @property
    def is_due(self) -> bool:
        """True if the request to stop interrupts whatever runs now: at once, or because patience has ended."""
        return self._request is not None and time.monotonic() >= self._request[1] + self._patience

    def request_stop(self, signum: int) -> None:
        """Ask this process to stop, as a signal would.  Any thread may call it; only the first call counts."""
        if self._request is None:
            self._request = (signum, time.monotonic())
        self._nudge()

    def interrupt(self, error: FrameworkError) -> None:
        """Record a failure elsewhere.  Any thread may call it; only the first failure counts."""
        if self._interruption is None and not self._ignores_failures:
            self._interruption = error
            self._nudge()

    def _nudge(self) -> None:
        if self.hears:
            signal.pthread_kill(self._main, _NUDGE)
        self.wakeup.wake()

    # -- in the handlers ---------------------------------------------------------------------------

    def on_stop(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGINT."""
        if self._request is None:
            self._request = (signum, time.monotonic())
        else:
            self._repeated.append(signum)
        self.on_nudge(signum, frame)

    def on_nudge(self, signum: int, frame: FrameType | None) -> None:
        """Handle a record that another thread has made."""
        self._pass_on()
        self._raise_if_armed()

    def _pass_on(self) -> None:
        signum = self.stopped_by
        if signum is not None:
            for subscriber in tuple(self._subscribers):
                subscriber(signum)

    # -- subscribers -------------------------------------------------------------------------------

    def subscribe(self, subscriber: Callable[[int], None]) -> None:
        """Call `subscriber` with the signal when there is a request to stop; at once if there is one already.

        The handler calls it, perhaps more than once: it must not wait, and a second call must change nothing.
        """
        self._subscribers.append(subscriber)
        self._pass_on()

    def unsubscribe(self, subscriber: Callable[[int], None]) -> None:
        """Stop calling `subscriber`."""
        self._subscribers.remove(subscriber)

    # -- raising -----------------------------------------------------------------------------------

    def may_interrupt(self) -> _Switch:
        """Raise what is on record, now or later, within this context: `JobStopped`, `JobInterrupted`.

        It raises once: after that, the code within is not interrupted on its way out.
        """
        return _Switch(self, True)

    def uninterrupted(self) -> _Switch:
        """Raise nothing within this context.  At its end, what is on record is raised if the code around allows it."""
        return _Switch(self, False)

    def check(self) -> None:
        """Raise what is on record.  Called between two steps."""
        self.tell()
        failure = self.interruption
        if failure is not None:
            raise JobInterrupted(failure)
        if self.is_due and self._request is not None:
            raise JobStopped(self._request[0])

    def check_failures(self) -> None:
        """Raise the failure elsewhere, if any; the caller deals with requests to stop."""
        self.tell()
        failure = self.interruption
        if failure is not None:
            raise JobInterrupted(failure)

    def _raise_if_armed(self) -> None:
        if not self._is_armed:
            return
        if self.interruption is None and not self.is_due:
            self._await_the_end_of_patience()
            return
        self._is_armed = False
        self._raised += 1
        failure = self.interruption
        if failure is not None:
            raise JobInterrupted(failure)
        assert self._request is not None
        raise JobStopped(self._request[0])

    # -- when a request counts ---------------------------------------------------------------------

    def be_patient(self, seconds: float, at_least: float = 0.0) -> None:
        """Raise a request to stop only once it is `seconds` old, and `at_least` that long after now."""
        age = time.monotonic() - self._request[1] if self._request is not None else 0.0
        self._patience = max(seconds, age + at_least) if at_least else seconds

    def disregard_stops(self) -> None:
        """Treat requests to stop as too late from now on: what they would stop has ended well."""
        self._is_late = True
        self.tell()

    def settle(self) -> None:
        """Let nothing interrupt the end of a failed or stopped job, unless `be_patient` is called again."""
        self._ignores_failures = True
        self._interruption = None
        self._patience = float("inf")

    def _await_the_end_of_patience(self) -> None:
        if self._request is None or self._patience == float("inf") or self._has_alarm:
            return
        self._has_alarm = True
        # Not a `Thread`: a handler must not take locks that the interrupted code may hold.
        try:
            start_new_thread(self._ring, (self._request[1] + self._patience,))
        except RuntimeError:
            self._has_alarm = False  # There are too many threads: the request comes up at the next border.

    def _ring(self, at: float) -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        self._has_alarm = False
        self._nudge()

    def ignore_stops(self) -> None:
        """Ignore SIGTERM and SIGINT to the end of this process; Python would restore their default action at exit.

        Called once the verdict is known, which later signals must not change.
        """
        # Blocked meanwhile, so that no signal comes between the two calls.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        for signum in STOPS:
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # -- the log -----------------------------------------------------------------------------------

    def tell(self) -> None:
        """Log which requests changed nothing; the handlers themselves cannot write to the log."""
        while self._repeated:
            name = signal.Signals(self._repeated.pop(0)).name
            log.info(f"{name} came once more: the job is being stopped already")
        if self._is_late and self._request is not None and not self._is_told:
            self._is_told = True
            log.info(f"{signal.Signals(self._request[0]).name} came after the program had ended well: the job goes on")


#: The record of this process, if one is kept.
_kept: Signals | None = None


def keep(noted: Sequence[int] = ()) -> Signals:
    """Keep a record until the end of this process.  The main thread calls it.

    Args:
        noted: signals that have come already; the list may grow until this function has set its own handlers.
    """
    signals = listening().__enter__()
    for signum in noted:
        signals.on_stop(signum, None)
    return signals


def listening() -> _Listening:
    """Keep a record for a while, or use the one that is kept already.  A context manager.

    At its end it restores the handlers, and the record's subscribers and times. A request that comes after a new
    record was last read goes to the caller's own handlers.
    """
    return _Listening()


class _Listening:
    """The context manager of `listening`."""

    def __enter__(self) -> Signals:
        global _kept
        self._outer = _kept
        signals = self._signals = _kept if _kept is not None and _kept.is_of_this_thread else Signals()
        self._terms = signals.terms
        try:
            self._wakeup_fd = signal.set_wakeup_fd(signals.wakeup.writing, warn_on_full_buffer=False)
        except ValueError:  # Not the main thread, in which alone Python handles signals.
            return signals
        signals.hears = True
        _kept = signals
        handlers = {**dict.fromkeys(STOPS, signals.on_stop), _NUDGE: signals.on_nudge, signal.SIGCHLD: _wake_only}
        self._handlers = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
        return signals

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signals = self._signals
        signals.terms = self._terms
        if signals.hears:
            self._give_back()
        if signals is not self._outer:
            signals.wakeup.close()
            if error is None and signals.stopped_by is not None and signals.hears:
                signal.raise_signal(signals.stopped_by)

    def _give_back(self) -> None:
        global _kept
        for signum, handler in self._handlers.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._wakeup_fd)
        _kept = self._outer


def _wake_only(signum: int, frame: FrameType | None) -> None:
    """Do nothing: a signal wakes the loop as soon as it has any handler."""


class _Switch:
    """Turns raising on or off, and back.  A context manager."""

    def __init__(self, signals: Signals, on: bool) -> None:
        self._signals = signals
        self._on = on

    def __enter__(self) -> None:
        self._before, self._raised = self._signals._is_armed, self._signals._raised
        self._signals._is_armed = self._on
        self._signals._raise_if_armed()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Once something was raised, its way out is not interrupted.
        self._signals._is_armed = self._before and self._raised == self._signals._raised
        if error is None:
            self._signals._raise_if_armed()
