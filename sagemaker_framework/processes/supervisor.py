"""Owns every process that the launcher starts: its output, its signals, its end.

A process is started with its argument list as it is, in a session and process group of
its own. Asked to stop (SIGTERM, SIGINT), the supervisor passes the signal on at once,
grants the grace period, and then kills the whole group. What a process leaves behind is
stopped and reaped, also where the launcher is PID 1 of its container.
"""

from __future__ import annotations

import os
import select
import signal
import time

from sagemaker_framework import log
from sagemaker_framework.config import hardware, settings
from sagemaker_framework.errors import FrameworkError, JobInterrupted, JobStopped
from sagemaker_framework.processes import limits
from sagemaker_framework.processes.process import Process, ProcessResult, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType, TracebackType
    from typing import Any

#: Seconds that a program has to save its state when the job is stopped: below the 120
#: that SageMaker gives the container (StopTrainingJob, the SageMaker API reference).
DEFAULT_GRACE = 100.0

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_INTERRUPT = signal.SIGURG  # ignored by default, so that one that comes late does no harm
_CONSEQUENCES = 0.3  # seconds in which what a failure brings down, or what brought it about, is seen
_FAILURE_GRACE = 10.0  # seconds, at most, once the job has failed, or for what is not needed any more
_LEAST_GRACE = 0.2  # seconds, for each process, whatever others have taken
_LEFTOVER_GRACE = 5.0  # seconds, for what a program that has ended by itself left running
_SWEEPS = 3  # of what was started while others were killed
_IDLE_POLL = 0.1  # seconds between looks for whether a host that is being stopped is idle
_NO_SIGNALS_POLL = 0.05  # seconds between looks, off the main thread, where no signal can wake us
_LOST = 255  # for a process whose exit code we cannot learn
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # prctl(2)


class Supervisor:
    """Starts and watches processes; a context manager that leaves none behind.

    Args:
        grace: seconds from a request to stop until the processes are killed.
    """

    def __init__(self, grace: float = DEFAULT_GRACE) -> None:
        self._grace = grace
        self._processes: list[Process] = []
        self._foreign: frozenset[int] = frozenset()
        self._has_adopted = False
        self._stop_signal: int | None = None
        self._stop_deadline: float | None = None
        self._signalled: list[Process] = []
        self._watching = False
        self._handlers: dict[int, Any] = {}
        self._wakeup: tuple[int, int] | None = None
        self._old_wakeup = -1
        self._spilled: list[str] = []
        self._oom_kills = 0
        self._interruption: FrameworkError | None = None
        self._has_killed = False  # at the end of the grace period
        self._over_by: float | None = None  # when all has to have ended, once nothing is needed any more
        self._is_relayed = False  # whether one of two requests to stop is the other, by way of another host
        #: Called with the signal, by its handler, when the job is asked to stop.
        self.on_stop: Callable[[int], None] = lambda signum: None

    # -- the life of the supervisor ------------------------------------------------------

    def __enter__(self) -> Supervisor:
        self._oom_kills = hardware.oom_kills()
        self._foreign = _children()
        self._has_adopted = _adopt_orphans(True)
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching = True
        try:
            self.stop_all()
            self._sweep()
        finally:
            self._unlisten()
            _adopt_orphans(self._has_adopted)
            for file in self._spilled:
                _remove(file)

    def _listen(self) -> None:
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        try:
            self._old_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        except ValueError:  # Not the main thread.
            os.close(reading)
            os.close(writing)
            return
        self._wakeup = (reading, writing)
        for signum in _STOP_SIGNALS:
            self._handlers[signum] = signal.signal(signum, self._on_stop)
        self._handlers[_INTERRUPT] = signal.signal(_INTERRUPT, self._on_interrupt)
        self._handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda signum, frame: None)

    def _unlisten(self) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._handlers.clear()
        if self._wakeup:
            signal.set_wakeup_fd(self._old_wakeup)
            for end in self._wakeup:
                os.close(end)
            self._wakeup = None

    def _on_stop(self, signum: int, frame: FrameType | None) -> None:
        if self._stop_signal is not None and self._is_relayed:
            self._is_relayed = False
            return
        if self._stop_signal is None:
            self._stop_signal = signum
            self._stop_deadline = time.monotonic() + self._grace
            self.on_stop(signum)
        if not self._watching:
            raise JobStopped(signum)
        # At once, from the handler: the loop may be held up by whoever reads our output.
        for process in self._signalled:
            process.ask(signum)

    def hold(self) -> None:
        """From now on, a request to stop, or a failure elsewhere, does not come up before `release`."""
        self._watching = True

    def release(self) -> None:
        """End what `hold` has begun.

        Raises:
            JobStopped: the job was asked to stop meanwhile; `on_stop` has been called.
        """
        self._watching = False
        if self._stop_signal is not None:
            self.on_stop(self._stop_signal)
            raise JobStopped(self._stop_signal)

    def relay_stop(self, signum: int) -> None:
        """Be asked to stop because another host has been: the service asks all of them.  For other threads."""
        self._is_relayed = True
        os.kill(os.getpid(), signum)

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if not self._watching and self._interruption is not None:
            raise JobInterrupted(self._interruption)

    def interrupt(self, error: FrameworkError) -> None:
        """Fail the job: `JobInterrupted` comes up in the thread that uses the supervisor.  For other threads."""
        if self._interruption is None:
            self._shorten_grace()
            self._interruption = error
            if self._wakeup:
                signal.pthread_kill(_main_thread(), _INTERRUPT)

    def wake(self) -> None:
        """Have `serve` look whether what it waits for has come.  For other threads."""
        wakeup = self._wakeup
        if wakeup:
            try:
                os.write(wakeup[1], b"\0")
            except OSError:
                pass  # It is awake already, or gone.

    def _shorten_grace(self) -> None:
        """The job has failed: what still runs has less time to end than where it was asked to stop."""
        if self._stop_signal is None:
            self._limit_grace()

    def _limit_grace(self) -> None:
        """Nothing is needed any more: all has ten seconds together, not one after the other."""
        self._grace = min(self._grace, _FAILURE_GRACE)
        if self._over_by is None:
            self._over_by = time.monotonic() + self._grace

    @property
    def _remaining_grace(self) -> float:
        """Seconds that a process has to end from now on."""
        return self._grace if self._over_by is None else max(_LEAST_GRACE, self._over_by - time.monotonic())

    def conclude(self) -> None:
        """From now on, no exception comes up because of a signal or another host."""
        self._watching = True
        self._shorten_grace()

    @property
    def stopped_by(self) -> int | None:
        """The signal by which the job was asked to stop, or None."""
        return self._stop_signal

    # -- starting and waiting --------------------------------------------------------------

    def launch(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        signals_group: bool = False,
        ask: Callable[[Process, int], None] | None = None,
        may_end: bool = False,
    ) -> Process:
        """Start a process that goes on beside what follows: a server.

        Args:
            name: what to call it in messages.
            argv: the program and its arguments, passed as they are; no shell.
            env: all of its environment variables; this process's own when not given.
            cwd: the folder to start it in.
            signals_group: whether a request to stop goes to its whole process group at once, as for a
                shell, which passes no signal on; else it goes to the process itself first.
            ask: how a request to stop reaches it, instead.
            may_end: whether it may end, with exit code 0, before what needs it.

        Raises:
            EntryPointError: it cannot be started.
        """
        self._watching = True  # A request to stop must not come between the start and the list of processes.
        try:
            variables, file = limits.fit(name, argv, os.environ if env is None else env)
            if file:
                self._spilled.append(file)
            process = start(name, list(argv), variables, cwd, signals_group)
            process.may_end = may_end
            if ask is not None:
                process.asked_by(ask)
            self._processes.append(process)
        finally:
            self._watching = False
        if self._stop_signal is not None:
            raise JobStopped(self._stop_signal)
        return process

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        signals_group: bool = False,
    ) -> ProcessResult:
        """Start a process and wait until it has ended, or a server has before it.

        Takes what `launch` takes.

        Returns:
            How the process ended; or how the server did, when that was first. The process is stopped then.
        """
        return self.wait(self.launch(name, argv, env=env, cwd=cwd, signals_group=signals_group))

    def wait(self, process: Process) -> ProcessResult:
        """Wait until `process` has ended, or another, which it needs, has before it.

        Args:
            process: what is to end.

        Returns:
            How the first of them ended.

        Raises:
            JobInterrupted: the job has failed elsewhere.
        """
        self._watching = True
        self._signalled.append(process)
        try:
            if self._stop_signal is not None:
                process.ask(self._stop_signal)
            first = process
            while process.returncode is None and not self._missing(process):
                if self._interruption is not None:
                    raise JobInterrupted(self._interruption)
                self._turn()
            if process.returncode != 0:  # A program that has ended well needs nothing any more.
                first = self._first_to_fail(process)
            if process.returncode is None:
                log.error(f"{first.name} ended before {process.name} did: stopping {process.name}")
                self._shorten_grace()
            self._stop(process)
            return self._ended(first, needed_by=process.name if first is not process else "")
        finally:
            self._signalled.remove(process)
            self._watching = False

    def _first_to_fail(self, process: Process) -> Process:
        """A program, or a server that it needs: one ends with the other, and which is heard of first says little."""
        if len(self._processes) > 1 and self._stop_signal is None:
            self._wait_until(lambda: all(each.returncode is not None for each in self._processes), _CONSEQUENCES)
        missing = self._missing(process)
        if missing is None:
            return process
        return process if process.returncode is not None and process.failed_at < missing.failed_at else missing

    def serve(
        self,
        until: Callable[[], bool],
        ask: Callable[[int], None] | None = None,
        is_idle: Callable[[], bool] = lambda: True,
    ) -> None:
        """Wait for something other than a process, while watching those that were launched.

        Args:
            until: whether it has come; `wake` has it asked again.
            ask: called with the signal when the job is asked to stop; the wait goes on until `is_idle`
                then, or the grace period has passed. Where it is not given, the wait ends at once.
            is_idle: see `ask`.

        Raises:
            JobInterrupted: the job has failed elsewhere.
            JobStopped: the job was asked to stop, and `ask` was not given.
            ProgramError: a process that was launched, and is needed, has ended.
        """
        self._watching = True
        asked_at = 0.0
        try:
            while not until():
                ended = self._missing()
                if self._interruption is not None and not ended:
                    raise JobInterrupted(self._interruption)
                if ended:
                    self._stop(ended)
                    raise self._ended(ended, needed_by="the job").error()
                if self._stop_signal is not None:
                    if ask is None:
                        raise JobStopped(self._stop_signal)
                    if not asked_at:
                        asked_at = time.monotonic()
                        ask(self._stop_signal)
                    if is_idle() or self._stop_deadline is None:
                        return
                self._turn(_IDLE_POLL if asked_at else None)
        finally:
            self._watching = False

    def stop_program(self, process: Process | None, ask: Callable[[], None], is_idle: Callable[[], bool]) -> None:
        """Stop a program before the servers that it needs.

        Args:
            process: what was started of it; None where nothing was, or what was is to be left alone.
            ask: asks what else of it runs on this host to stop; called where no process is there to be asked instead.
            is_idle: whether nothing does; waited for, within the grace period.
        """
        watching, self._watching = self._watching, True
        if process is not None and process.returncode is None:
            self._stop(process)
        elif not is_idle():
            ask()
            deadline = time.monotonic() + self._remaining_grace
            while not is_idle() and time.monotonic() < deadline:
                self._turn(_IDLE_POLL)
        self._watching = watching

    def stop_all(self) -> None:
        """Stop every process that still runs, the last one that was started first."""
        watching, self._watching = self._watching, True
        self._limit_grace()
        for process in reversed(list(self._processes)):
            self._stop(process)
        self._watching = watching

    @property
    def has_servers(self) -> bool:
        """Whether anything that was launched has not been stopped yet."""
        return bool(self._processes)

    def _missing(self, process: Process | None = None) -> Process | None:
        """What has ended first, of all that was launched besides `process`, although it is needed."""
        missing = [other for other in self._processes if other is not process and other.ended_too_early]
        return min(missing, key=lambda other: other.failed_at) if missing and not self._has_killed else None

    def _ended(self, process: Process, needed_by: str) -> ProcessResult:
        assert process.returncode is not None
        oom = hardware.oom_kills() > self._oom_kills
        tail, at = process.relay.tail, process.failed_at
        return ProcessResult(process.name, process.returncode, tail, self._stop_signal, oom, needed_by, at)

    # -- the loop --------------------------------------------------------------------------

    def _turn(self, timeout: float | None = None) -> None:
        """Wait for anything to happen, and deal with it: output, an ended process, the end of the grace period."""
        waits = [timeout]
        if self._stop_deadline is not None:
            waits.append(max(0.0, self._stop_deadline - time.monotonic()))
        if self._wakeup is None:
            waits.append(_NO_SIGNALS_POLL)
        longest = min((wait for wait in waits if wait is not None), default=None)
        poll = select.poll()
        if self._wakeup:
            poll.register(self._wakeup[0], select.POLLIN)
        for process in self._processes:
            if process.relay.awaits:
                poll.register(*process.relay.awaits)
        poll.poll(None if longest is None else longest * 1000 + 1)
        if self._wakeup:
            _drain(self._wakeup[0])
        for process in self._processes:
            process.relay.move()
        self._reap()
        if self._stop_deadline is not None and time.monotonic() >= self._stop_deadline:
            self._kill_all()

    def _reap(self) -> None:
        """Take note of every child that has ended: ours, and the orphans that came to us."""
        running = {process.pid: process for process in self._processes if process.returncode is None}
        # Children that somebody else started in this process are theirs to wait for.
        for which in [-process.pid for process in self._processes] if self._foreign else [-1]:
            while True:
                try:
                    pid, status = os.waitpid(which, os.WNOHANG)
                except ChildProcessError:
                    break
                if not pid:
                    break
                if pid in running:
                    running.pop(pid).end(os.waitstatus_to_exitcode(status))
        for process in running.values():
            if not _is_child(process.pid):
                log.error(
                    f"the exit code of {process.name} was taken by other code in this process: taking it as failed"
                )
                process.end(_LOST)

    def _kill_all(self) -> None:
        self._has_killed = True
        killed = [process.name for process in self._processes if process.signal(signal.SIGKILL, group=True)]
        if killed:
            log.warning(f"{', '.join(killed)} did not end within the {self._grace:g} s of grace: killed")
        self._stop_deadline = None

    def _stop(self, process: Process) -> None:
        """Stop a process and its whole group: ask, wait, insist."""
        asked = process.returncode is None and not (self._stop_signal and process in self._signalled)
        if asked:
            process.ask(signal.SIGTERM)
        grace = self._remaining_grace
        if not self._wait_until(lambda: process.returncode is not None, grace):
            log.warning(f"{process.name} did not end within {grace:.0f} s of being asked to: killing it")
            process.signal(signal.SIGKILL, group=True)
            self._wait_until(lambda: process.returncode is not None, None)
        if process.signal(self._stop_signal or signal.SIGTERM, group=True):
            # It has left others of its group behind. Asked to stop, they may be saving what the job is about.
            grace = self._remaining_grace if self._stop_signal or asked else _LEFTOVER_GRACE
            log.info(f"{process.name} left processes running: stopping them")
            if not self._wait_until(lambda: not process.signal(0, group=True), grace):
                process.signal(signal.SIGKILL, group=True)
                self._wait_until(lambda: not process.signal(0, group=True), _LEFTOVER_GRACE)
        process.relay.finish(self._grace if self._stop_signal is None else _LEFTOVER_GRACE)
        if process in self._processes:
            self._processes.remove(process)

    def _wait_until(self, is_so: Callable[[], bool], timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_so():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._turn(left)
        return True

    def _sweep(self) -> None:
        """Stop what has left its process group, so that nothing that we started outlives us."""
        self._reap()
        escaped = _children() - self._foreign
        if not escaped:
            return
        import psutil

        log.info(f"stopping what the job left running: {', '.join(f'process {pid}' for pid in sorted(escaped))}")
        # What is killed may have started others meanwhile, which come to us then.
        for ask in (psutil.Process.terminate, *[psutil.Process.kill] * _SWEEPS):
            family = [psutil.Process(pid) for pid in _children() - self._foreign if psutil.pid_exists(pid)]
            for member in family + [grandchild for child in family for grandchild in _descendants(child)]:
                try:
                    ask(member)
                except psutil.NoSuchProcess:
                    continue
            if self._wait_until(lambda: not (_children() - self._foreign), _LEFTOVER_GRACE):
                return


def grace_seconds(environ: Mapping[str, str] | None = None) -> float:
    """Read the grace period from the settings."""
    return settings.load(environ).grace_seconds


def _main_thread() -> int:
    import threading

    return threading.main_thread().ident or 0


def _children() -> frozenset[int]:
    """The process IDs of this process's children, those that have ended but are not reaped included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return frozenset()
    import psutil

    return frozenset(child.pid for child in psutil.Process().children())


def _descendants(process: Any) -> list[Any]:
    """All descendants of a `psutil.Process`; none of one that has just ended."""
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _adopt_orphans(adopt: bool) -> bool:
    """Have descendants whose parent has ended become our children, as they do anyway for PID 1.

    Returns:
        Whether they did before.
    """
    if os.getpid() == 1:
        return True
    import ctypes

    before = ctypes.c_int()
    try:
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)
    except (OSError, AttributeError):
        log.debug("this system has no prctl: processes that leave their group are not followed")
    return bool(before.value)


def _remove(file: str) -> None:
    try:
        os.unlink(file)
    except OSError:
        pass  # Gone already.


def _drain(source: int) -> None:
    try:
        while os.read(source, 4096):
            pass
    except BlockingIOError:
        pass
