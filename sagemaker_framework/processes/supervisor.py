"""Owns every process that the launcher starts: its output, its signals, its end.

A process is started with its argument list unchanged, in a session and process group of
its own. When the job is asked to stop (SIGTERM, SIGINT), the supervisor passes the signal
on at once, waits for the grace period, and then kills the whole group. Processes that
are left behind are stopped and reaped, even if the launcher is not PID 1 of its container.
"""

from __future__ import annotations

import os
import select
import signal
import time

from sagemaker_framework import log, timing
from sagemaker_framework.config import hardware
from sagemaker_framework.errors import JobStopped
from sagemaker_framework.processes import limits, orphans
from sagemaker_framework.processes.process import Process, ProcessResult, first_to_fail, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from sagemaker_framework.errors import FrameworkError
    from sagemaker_framework.processes.signals import Signals

_SWEEPS = 3  # rounds; killed processes may have started others meanwhile
_POLL = 0.1  # seconds between two checks of what no signal reports
_LOST = 255  # exit code of a process whose own is not known


class Supervisor:
    """Starts and watches processes.  A context manager that leaves none behind.

    It is also the session's `Control` of this host: any thread may call `request_stop`, `interrupt` and `wake`, but
    only the main thread `wait_until`.

    Attributes:
        own_limit: entered while this process raises its own limit of open files.

    Args:
        signals: the record of requests to stop.
        grace: seconds from a request to stop until the processes are killed.
    """

    def __init__(self, signals: Signals, grace: float = timing.DEFAULT_GRACE) -> None:
        self.own_limit = limits.OwnLimit()
        self._signals = signals
        self._grace = self._kills_after = grace
        self._processes: list[Process] = []
        self._foreign: frozenset[int] = frozenset()
        self._has_adopted = False
        self._spilled: list[str] = []
        self._oom_kills = 0
        self._has_killed = False  # True once the grace period has ended and all were killed
        self._over_by: float | None = None  # when all must have ended, once nothing is needed any more

    def __enter__(self) -> Supervisor:
        self._oom_kills = hardware.oom_kills()
        self._foreign = orphans.children()
        self._has_adopted = orphans.adopt(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop_all()
            self._sweep()
        finally:
            orphans.adopt(self._has_adopted)
            for file in self._spilled:
                _remove(file)

    # -- for the session with the other hosts ----------------------------------------------

    def request_stop(self, signum: int) -> None:
        """Ask this host to stop, because another host was asked."""
        self._signals.request_stop(signum)

    def interrupt(self, error: FrameworkError) -> None:
        """Fail the job on this host, because it failed elsewhere."""
        self._signals.interrupt(error)

    def wake(self) -> None:
        """Make `wait_until` check its condition again."""
        self._signals.wakeup.wake()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true, and watch the processes that were launched meanwhile.

        Args:
            condition: returns True to end the wait.

        Raises:
            JobInterrupted: the job failed elsewhere.
            JobStopped: the job was asked to stop.
            ProgramError: a process that was launched, and is needed, has ended.
        """
        with self._signals.uninterrupted():
            while not condition():
                self._raise_for_the_missing()
                self._signals.check()
                self._turn()

    def outwait(self, condition: Callable[[], bool]) -> None:
        """Wait like `wait_until`, even while the job is being stopped.

        Raises:
            JobInterrupted: the job failed elsewhere.
            ProgramError: a process that was launched, and is needed, has ended.
        """
        with self._signals.uninterrupted():
            while not condition():
                self._raise_for_the_missing()
                self._signals.check_failures()
                # A strategy that is being stopped becomes idle at some time, which nobody reports.
                self._turn(None if self._signals.stopped_by is None else _POLL)

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
        """Start a process that runs beside the program: a server.

        Args:
            name: its name in messages.
            argv: the program and its arguments, passed unchanged, without a shell.
            env: all of its environment variables; this process's own if None.
            cwd: the folder to start it in.
            signals_group: True if a request to stop goes to its whole process group at once, as for a
                shell, which passes no signal on; else it goes to the process itself first.
            ask: sends the process a request to stop in another way.
            may_end: True if it may end with exit code 0 while the process that needs it still runs.

        Raises:
            EntryPointError: the process cannot be started.
            JobStopped: the job was asked to stop before.
        """
        with self._signals.uninterrupted():  # The process must be listed once it has started.
            self._signals.check()
            variables, file = limits.fit(name, argv, os.environ if env is None else env)
            if file:
                self._spilled.append(file)
            process = start(name, list(argv), variables, cwd, signals_group, self.own_limit)
            self._processes.append(process)
            process.may_end = may_end
            if ask is not None:
                process.asked_by(ask)
            if not self._signals.hears:
                orphans.tell_of_end(process.pid, self.wake)
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
        """Start a process and wait until it has ended, or a server that it needs has ended before it.

        Takes the arguments of `launch`.

        Returns:
            The end of the process; if a server ended first, its end, and the process is stopped.
        """
        with self._signals.uninterrupted():
            return self.wait(self.launch(name, argv, env=env, cwd=cwd, signals_group=signals_group))

    def wait(self, process: Process) -> ProcessResult:
        """Wait until a process has ended, or a server that it needs has ended before it.

        Requests to stop are passed on to it.

        Args:
            process: the process.

        Returns:
            The end of whichever ended first.

        Raises:
            JobInterrupted: the job failed elsewhere.
            JobStopped: the process ran after all programs had ended well, and the grace period ended it.
        """
        with self._signals.uninterrupted():
            self._signals.subscribe(process.ask)
            try:
                while process.returncode is None and not self._missing(process):
                    self._signals.check_failures()
                    self._turn()
                ended = self._first_end(process)
            finally:
                self._signals.unsubscribe(process.ask)
            late = self._signals.came_too_late
            if late is not None and self._has_killed and ended.returncode != 0:
                raise JobStopped(late)
            return ended

    def _first_end(self, process: Process) -> ProcessResult:
        """Stop a process unless it has ended; return its end, or that of the server it needs, if that was first."""
        if process.returncode == 0:  # Now it needs no server.
            self._stop(process)
            return self._result(process)
        self._await_the_other_failure(process)
        failed = process if process.returncode is not None else None
        missing = [each for each in self._all_missing(process) if not self._has_killed]
        if failed is None:
            self.shorten_grace()
            grace = f"{self._remaining_grace:.0f} s"
            log.error(f"{missing[0].name} ended before {process.name} did: stopping {process.name}, within {grace}")
        self._stop(process)
        servers = [self._result(each, needed_by=process.name) for each in missing]
        return first_to_fail(self._result(failed) if failed is not None else None, servers)

    def _await_the_other_failure(self, process: Process) -> None:
        """Wait a moment for the second failure: of a program and its server, either may fail because of the other."""
        if len(self._processes) < 2 or self._signals.stopped_by is not None:
            return
        self._wait_for(lambda: all(each.returncode is not None for each in self._processes), timing.TOGETHER)
        # A server that raised an exception and still tidies up may be the cause, too.
        raised = [each for each in self._processes if each is not process and each.has_raised]
        self._wait_for(lambda: all(each.returncode is not None for each in raised), timing.SERVER_ENDS)

    # -- stopping --------------------------------------------------------------------------

    def shorten_grace(self) -> None:
        """Give the processes that still run less time to end, as the job has failed; not if it was asked to stop."""
        if self._signals.stopped_by is None:
            self._limit_grace()

    def _limit_grace(self) -> None:
        """Limit the time to end for all processes together to ten seconds: none is needed any more."""
        self._grace = min(self._grace, timing.FAILURE_GRACE)
        if self._over_by is None:
            self._over_by = time.monotonic() + self._grace

    @property
    def _remaining_grace(self) -> float:
        """Return the seconds that a process has to end from now on."""
        return self._grace if self._over_by is None else max(timing.LEAST_GRACE, self._over_by - time.monotonic())

    @property
    def _leftover_grace(self) -> float:
        """Return the seconds that processes have to end that a program left running: no more than it would have had."""
        return min(timing.LEFTOVER_GRACE, self._kills_after)

    def stop_program(self, process: Process | None, ask: Callable[[], None], is_idle: Callable[[], bool]) -> None:
        """Stop a program before the servers that it needs.

        Args:
            process: the program's process; None if there is none, or if it must be left alone.
            ask: asks what else of the program runs on this host to stop; called if there is no process to ask.
            is_idle: returns True once nothing of the program runs here; waited for within the grace period.
        """
        if process is not None and process.returncode is None:
            self._stop(process)
        elif not is_idle():
            ask()
            self._wait_for(is_idle, self._remaining_grace, _POLL)

    def stop_all(self) -> None:
        """Stop every process that still runs, in the reverse order of their start."""
        self._limit_grace()
        for process in reversed(list(self._processes)):
            self._stop(process)

    @property
    def grace_is_over(self) -> bool:
        """True if the job was asked to stop and the grace period has passed."""
        return self._has_killed or self._until_killing() == 0

    @property
    def has_servers(self) -> bool:
        """True while a process that was launched has not been stopped."""
        return bool(self._processes)

    def _missing(self, process: Process | None = None) -> bool:
        """Tell whether a process that is needed, other than `process`, has ended too early."""
        return bool(self._all_missing(process)) and not self._has_killed

    def _all_missing(self, process: Process | None) -> list[Process]:
        missing = [other for other in self._processes if other is not process and other.ended_too_early]
        return sorted(missing, key=lambda other: other.failed_at)

    def _raise_for_the_missing(self) -> None:
        if self._missing():
            missing = self._all_missing(None)
            for each in missing:
                self._stop(each)
            raise first_to_fail(None, [self._result(each, needed_by="the job") for each in missing]).error()

    def _result(self, process: Process, needed_by: str = "") -> ProcessResult:
        assert process.returncode is not None
        oom = hardware.oom_kills() > self._oom_kills
        tail, at = process.relay.tail, process.failed_at
        role = "server" if needed_by else "program"
        return ProcessResult(process.name, process.returncode, tail, self._signals.stopped_by, oom, needed_by, at, role)

    def _stop(self, process: Process) -> None:
        """Stop a process and its whole group: ask, wait, insist."""
        stopped_by = self._signals.stopped_by
        asked = process.returncode is None and not process.ask.was_called
        if asked:
            process.ask(signal.SIGTERM)
        grace = self._remaining_grace
        if not self._wait_for(lambda: process.returncode is not None, grace):
            log.warning(f"{process.name} did not end within {grace:.0f} s of being asked to: killing it")
            process.signal(signal.SIGKILL, group=True)
            self._wait_for(lambda: process.returncode is not None, None)
        if process.signal(stopped_by or signal.SIGTERM, group=True):
            # It left processes of its group behind. Asked to stop, they may still save the program's work.
            grace = self._remaining_grace if stopped_by or asked else self._leftover_grace
            log.info(f"{process.name} left processes running: stopping them")
            if not self._wait_for(lambda: not process.signal(0, group=True), grace, _POLL):
                process.signal(signal.SIGKILL, group=True)
                self._wait_for(lambda: not process.signal(0, group=True), timing.LEFTOVER_GRACE, _POLL)
        process.relay.finish(self._grace if stopped_by is None else self._leftover_grace)
        if process in self._processes:
            self._processes.remove(process)

    def _sweep(self) -> None:
        """Stop processes that have left their group, so that nothing that was started outlives this process."""
        self._reap()
        escaped = orphans.children() - self._foreign
        if not escaped:
            return
        log.info(f"stopping what the job left running: {', '.join(f'process {pid}' for pid in sorted(escaped))}")
        # Killed processes may have started others meanwhile, which this process then adopts.
        for kill in (False, *[True] * _SWEEPS):
            orphans.end_with_families(orphans.children() - self._foreign, kill)
            patience = timing.LEFTOVER_GRACE if kill else self._leftover_grace
            if self._wait_for(lambda: not (orphans.children() - self._foreign), patience, _POLL):
                return

    # -- the loop --------------------------------------------------------------------------

    def _wait_for(self, is_so: Callable[[], bool], timeout: float | None, poll: float | None = None) -> bool:
        """Wait until a condition is true.  Return False if it was not within `timeout` seconds.

        Args:
            is_so: the condition; checked whenever anything has happened, and every `poll` seconds.
            timeout: seconds; None for no limit.
            poll: seconds, for conditions that no signal reports, such as the end of a process that is not a child.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_so():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._turn(min((wait for wait in (left, poll) if wait is not None), default=None))
        return True

    def _turn(self, timeout: float | None = None) -> None:
        """Wait until anything happens, and handle it: output, the end of a process, the end of the grace period."""
        waits = [wait for wait in (timeout, self._until_killing()) if wait is not None]
        poll = select.poll()
        poll.register(self._signals.wakeup, select.POLLIN)
        for process in self._processes:
            if process.relay.awaits:
                poll.register(*process.relay.awaits)
        poll.poll(min(waits) * 1000 + 1 if waits else None)
        self._signals.wakeup.drain()
        self._signals.tell()
        for process in self._processes:
            process.relay.move()
        self._reap()
        if self._until_killing() == 0:
            self._kill_all()

    def _until_killing(self) -> float | None:
        """Return the seconds until a stopped job is killed; None if it is not being stopped, or has been killed."""
        at = self._signals.stopped_at
        return None if at is None or self._has_killed else max(0.0, at + self._kills_after - time.monotonic())

    def _kill_all(self) -> None:
        self._has_killed = True
        self._ask_the_unasked()
        killed = [process.name for process in self._processes if process.signal(signal.SIGKILL, group=True)]
        if killed:
            log.warning(f"{', '.join(killed)} did not end within the {self._kills_after:g} s of grace: killed")

    def _ask_the_unasked(self) -> None:
        """Give processes that a request which came too late has not reached a moment to end by themselves."""
        late = self._signals.came_too_late
        running = [process for process in self._processes if process.returncode is None]
        if late is None or all(process.ask.was_called for process in running):
            return
        for process in running:
            process.ask(late)
        self._wait_for(lambda: all(process.returncode is not None for process in running), timing.AFTER_GRACE)

    def _reap(self) -> None:
        """Record the end of every child that has ended: of processes that were started here, and of orphans."""
        running = {process.pid: process for process in self._processes if process.returncode is None}
        # Other children that this process had before are for others to reap.
        for which in [-process.pid for process in self._processes] if self._foreign else [-1]:
            for pid, returncode in orphans.reap(which):
                if pid in running:
                    running.pop(pid).end(returncode)
        for process in running.values():
            if not orphans.is_child(process.pid):
                log.error(f"other code in this process took the exit code of {process.name}: treating it as failed")
                process.end(_LOST)


def _remove(file: str) -> None:
    try:
        os.unlink(file)
    except OSError:
        pass  # It has been removed already.
