"""Requests to stop, which signals and other hosts make: put on record when they come, raised only where asked for.

The handlers for SIGTERM and SIGINT note the request, wake the supervisor's loop, and pass it on to who has to know at
once: the program and the other hosts. They raise nothing, wherever they come, except while somebody else's code runs:

    with signals.may_interrupt():
        fetch(source)

Code of ours that such code calls is left alone again (`uninterrupted`). Everything else asks at its own step borders
(`check`). A failure elsewhere, which another thread learns of, is put on record and comes up in the same way.
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
#: By which other threads have the main thread look at the record. Ignored by default, so that a late one does no harm.
_NUDGE = signal.SIGURG


class Once:
    """A function that is called once, however often this is: also where a signal handler comes in between.

    Args:
        function: what to call.
    """

    def __init__(self, function: Callable[[int], object]) -> None:
        self._functions = [function]

    @property
    def was_called(self) -> bool:
        return not self._functions

    def __call__(self, signum: int) -> None:
        try:
            function = self._functions.pop()  # Nothing comes between a look and the taking.
        except IndexError:
            return
        function(signum)


class Signals:
    """The record of one process: by which signal, and when, it was asked to stop, and what has failed elsewhere.

    Attributes:
        wakeup: woken by every signal with a handler; for the loop that waits.
        interruption: the failure elsewhere, or None.
        hears: whether this record has handlers; outside of the main thread there can be none.
    """

    def __init__(self) -> None:
        self.wakeup = Wakeup()
        self.interruption: FrameworkError | None = None
        self.hears = False
        self._main = get_ident()
        self._request: tuple[int, float] | None = None
        self._repeated: list[int] = []  # further requests, of which nothing is in the log yet
        self._is_told = False  # whether the log says that the first came too late
        self._subscribers: list[Callable[[int], None]] = []
        self._is_armed = False
        self._raised = 0
        self._patience = 0.0
        self._is_late = False
        self._ignores_failures = False
        self._has_alarm = False

    @property
    def is_of_this_thread(self) -> bool:
        """Whether the record is that of the thread that asks."""
        return self._main == get_ident()

    @property
    def terms(self) -> _Terms:
        """Who hears of a request to stop, and when it counts: to be set again later."""
        return self._patience, self._is_late, self._ignores_failures, tuple(self._subscribers)

    @terms.setter
    def terms(self, terms: _Terms) -> None:
        self._patience, self._is_late, self._ignores_failures, subscribers = terms
        self._subscribers = [*subscribers]

    # -- the record ----------------------------------------------------------------------------

    @property
    def stopped_by(self) -> int | None:
        """The signal by which the job was asked to stop, or None; a request that came too late does not count."""
        return self._request[0] if self._request is not None and not self._is_late else None

    @property
    def stopped_at(self) -> float | None:
        """When the job was asked to stop, as `time.monotonic` has it, or None; also where that was too late."""
        return self._request[1] if self._request is not None else None

    @property
    def is_due(self) -> bool:
        """Whether the request to stop interrupts whatever is going on: at once, or when patience has an end."""
        return self._request is not None and time.monotonic() >= self._request[1] + self._patience

    def request_stop(self, signum: int) -> None:
        """Ask this process to stop, as a signal would.  May be called in any thread; nothing comes of a second call."""
        if self._request is None:
            self._request = (signum, time.monotonic())
        self._nudge()

    def interrupt(self, error: FrameworkError) -> None:
        """Put a failure elsewhere on record.  May be called in any thread; the first one counts."""
        if self.interruption is None and not self._ignores_failures:
            self.interruption = error
            self._nudge()

    def _nudge(self) -> None:
        if self.hears:
            signal.pthread_kill(self._main, _NUDGE)
        self.wakeup.wake()

    # -- in the handlers -------------------------------------------------------------------------

    def on_stop(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGINT."""
        if self._request is None:
            self._request = (signum, time.monotonic())
        else:
            self._repeated.append(signum)
        self.on_nudge(signum, frame)

    def on_nudge(self, signum: int, frame: FrameType | None) -> None:
        """Handle what another thread has put on record."""
        self._pass_on()
        self._raise_if_armed()

    def _pass_on(self) -> None:
        signum = self.stopped_by
        if signum is not None:
            for subscriber in tuple(self._subscribers):
                subscriber(signum)

    # -- who hears of it ---------------------------------------------------------------------------

    def subscribe(self, subscriber: Callable[[int], None]) -> None:
        """Have somebody called with the signal when there is a request to stop; now, if there is one already.

        Called by the handler, perhaps more than once: it must not wait, and a second call must change nothing.
        """
        self._subscribers.append(subscriber)
        self._pass_on()

    def unsubscribe(self, subscriber: Callable[[int], None]) -> None:
        """End what `subscribe` has begun."""
        self._subscribers.remove(subscriber)

    # -- where it comes up -------------------------------------------------------------------------

    def may_interrupt(self) -> _Switch:
        """Let what is on record, or comes on record, raise: `JobStopped`, `JobInterrupted`.  A context manager.

        It raises once: what the code within then does on its way out is left alone.
        """
        return _Switch(self, True)

    def uninterrupted(self) -> _Switch:
        """Let nothing raise within code that may be interrupted; what is on record then comes up at the end."""
        return _Switch(self, False)

    def check(self) -> None:
        """Raise what is on record.  For the borders between two steps."""
        self.tell()
        if self.interruption is not None:
            raise JobInterrupted(self.interruption)
        if self.is_due and self._request is not None:
            raise JobStopped(self._request[0])

    def check_failures(self) -> None:
        """Raise what has failed elsewhere; requests to stop are dealt with by who calls this."""
        self.tell()
        if self.interruption is not None:
            raise JobInterrupted(self.interruption)

    def _raise_if_armed(self) -> None:
        if not self._is_armed:
            return
        if self.interruption is None and not self.is_due:
            self._await_the_end_of_patience()
            return
        self._is_armed = False
        self._raised += 1
        if self.interruption is not None:
            raise JobInterrupted(self.interruption)
        assert self._request is not None
        raise JobStopped(self._request[0])

    # -- when it counts ----------------------------------------------------------------------------

    def be_patient(self, seconds: float) -> None:
        """Raise nothing because of a request to stop, from now on, until it is so many seconds old."""
        self._patience = seconds

    def disregard_stops(self) -> None:
        """Take requests to stop for too late: what they would have stopped has ended well."""
        self._is_late = True
        self.tell()

    def settle(self, seconds: float) -> None:
        """Let nothing interrupt the end of a job that has failed, or is stopped, for so many seconds from the request.

        For ever, if they are over.
        """
        self._ignores_failures = True
        self.interruption = None
        self._patience = seconds
        if self.is_due:
            self._patience = float("inf")

    def _await_the_end_of_patience(self) -> None:
        if self._request is None or self._patience == float("inf") or self._has_alarm:
            return
        self._has_alarm = True
        # Not a `Thread`: a handler must not take the locks of what it has interrupted.
        start_new_thread(self._ring, (self._request[1] + self._patience,))

    def _ring(self, at: float) -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        self._has_alarm = False
        self._nudge()

    def ignore_stops(self) -> None:
        """Ignore SIGTERM and SIGINT to the end of this process, in which Python would give them their default action.

        For when the verdict is known: what comes later must not change the exit code.
        """
        # Blocked meanwhile, so that none comes between two handlers.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        for signum in STOPS:
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # -- the log -----------------------------------------------------------------------------------

    def tell(self) -> None:
        """Say in the log which requests have changed nothing: handlers do not write."""
        while self._repeated:
            name = signal.Signals(self._repeated.pop(0)).name
            log.info(f"{name} came once more: the job is being stopped already")
        if self._is_late and self._request is not None and not self._is_told:
            self._is_told = True
            log.info(f"{signal.Signals(self._request[0]).name} came after the program had ended well: the job goes on")


#: The record of this process, while one is kept.
_kept: Signals | None = None


def keep(noted: Sequence[int] = ()) -> Signals:
    """Keep a record to the end of this process, whose main thread calls this.

    Args:
        noted: signals that have come already; it may grow until this has set its own handlers.
    """
    signals = listening().__enter__()
    for signum in noted:
        signals.on_stop(signum, None)
    return signals


def listening() -> _Listening:
    """Keep a record for a while, or go on with the one that is kept already.  A context manager.

    Afterwards the handlers are those of before, and so is what was set on the record: who hears of a request, and when
    it counts. A request that came after a new record had been read for the last time is the caller's: its own handlers
    get it.
    """
    return _Listening()


class _Listening:
    """See `listening`."""

    def __enter__(self) -> Signals:
        global _kept
        self._outer = _kept
        signals = self._signals = _kept if _kept is not None and _kept.is_of_this_thread else Signals()
        self._terms = signals.terms
        try:
            self._wakeup_fd = signal.set_wakeup_fd(signals.wakeup.writing, warn_on_full_buffer=False)
        except ValueError:  # Not the main thread: Python deals with signals there only.
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
    """Do nothing: that a signal has a handler is enough for it to wake the loop."""


class _Switch:
    """Turns raising on or off, and back."""

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
        # Once something has been raised, what is on its way out is left alone.
        self._signals._is_armed = self._before and self._raised == self._signals._raised
        if error is None:
            self._signals._raise_if_armed()
