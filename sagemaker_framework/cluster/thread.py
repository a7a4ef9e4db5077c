"""The thread in which a host goes on talking with the others, whatever else it is doing."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections import deque

from sagemaker_framework import log
from sagemaker_framework.cluster.session import Failure, Session
from sagemaker_framework.errors import FrameworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from sagemaker_framework.cluster.session import Reduce

#: Seconds between signs of life, and without one until a host counts as lost.
BEAT = 3.0
SILENCE = 9.0
#: Seconds between two lines about what is being waited for.
REPORT = 10.0
#: The phases that wait for the user's own work, which takes as long as it takes.
UNLIMITED = ("ended", "done")

_DECISION = 8.0  # seconds that the leader has to say which failure was the first, or anybody to leave


class ThreadedSession(Session):
    """A session that goes on in a thread of its own, whatever this host is doing.

    Args:
        hosts: the names of all hosts of the job.
        host: this host's name.
        leader: the leader's name.
        port: where the leader listens.
        key: what the job's hosts share, and nobody else has.
        timeout: seconds that hosts wait for each other.
        check_names: whether hosts have to come from where their names lead.
        interrupt, stop, wake, wait: see `cluster.join`.
    """

    def __init__(
        self,
        *,
        hosts: list[str],
        host: str,
        leader: str,
        port: int,
        key: bytes,
        timeout: float,
        check_names: bool,
        interrupt: Callable[[FrameworkError], None],
        stop: Callable[[int], None],
        wake: Callable[[], None],
        wait: Callable[[Callable[[], bool]], None],
    ) -> None:
        self.hosts = hosts
        self.host = host
        self.leader = leader
        self.port = port
        self.key = key
        self.timeout = timeout
        self.check_names = check_names
        self._interrupt = interrupt
        self._stop = stop
        self._wake = wake
        self._wait = wait
        self._results: dict[str, Mapping[str, Any]] = {}
        self._own: FrameworkError | None = None  # the failure of this host that it has told of
        self._foreign: FrameworkError | None = None
        self._decided: Failure | None = None
        self._has_decided = threading.Event()
        self._is_stopping = False
        self._is_closing = False
        self._commands: deque[Callable[[], None]] = deque()
        self._bell, self._wakeup = os.pipe()
        for end in (self._bell, self._wakeup):
            os.set_blocking(end, False)
        self._thread = threading.Thread(target=self._live, name="cluster", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _live(self) -> None:
        try:
            self._run()
        except Exception as error:
            import traceback

            cause = f"internal error of sagemaker-framework: {type(error).__name__}: {error}"
            self._break_off(Failure.of(FrameworkError(cause, traceback.format_exc()), self.host, self.rank))

    # -- in this host's main thread ----------------------------------------------------------

    @property
    def rank(self) -> int:
        """This host's place among the hosts, from 0."""
        return self.hosts.index(self.host)

    def barrier(self, phase: str, payload: Mapping[str, Any], reduce: Reduce | None = None) -> Mapping[str, Any]:
        self.arrive(phase, payload)
        self._wait(lambda: phase in self._results)
        return self._results[phase]

    def arrive(self, phase: str, payload: Mapping[str, Any]) -> None:
        self._call_soon_threadsafe(lambda: self._arrive(phase, payload, agrees=False))

    @property
    def programs_done(self) -> bool:
        return "ended" in self._results

    @property
    def is_closed(self) -> bool:
        return self._is_closing

    def fail(self, error: FrameworkError) -> None:
        if error is self._foreign or error is self._own:
            return
        self._own = error
        failure = Failure.of(error, self.host, self.rank)
        self._call_soon_threadsafe(lambda: self._report(failure, error.at))

    def verdict(self, error: FrameworkError) -> FrameworkError:
        if not self._is_stopping:
            self._has_decided.wait(_DECISION)
        return self._decided.error() if self._decided else error

    def stopping(self, signum: int) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._call_soon_threadsafe(lambda: self._pass_on(signum))

    def close(self) -> None:
        self._call_soon_threadsafe(self._leave)
        self._thread.join(_DECISION)

    def _call_soon_threadsafe(self, command: Callable[[], None]) -> None:
        """Have the session's thread do something; safe to be called by a signal handler."""
        self._commands.append(command)
        try:
            os.write(self._wakeup, b".")
        except BlockingIOError:
            pass  # It is awake already.

    # -- in the session's thread -----------------------------------------------------------

    def _run_pending(self) -> None:
        try:
            while os.read(self._bell, 4096):
                pass
        except BlockingIOError:
            pass
        while self._commands:
            self._commands.popleft()()

    def _set_result(self, phase: str, result: Mapping[str, Any]) -> None:
        self._results[phase] = result
        self._wake()

    def _break_off(self, failure: Failure) -> None:
        """The job has failed elsewhere: have this host stop."""
        if self._foreign is None:
            self._foreign = failure.error()
            self._interrupt(self._foreign)

    def _decide(self, failure: Failure) -> None:
        if self._decided is None:
            self._decided = failure
            self._has_decided.set()

    def _be_stopped(self, signum: int) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            log.info("the job has been asked to stop on another host")
            self._stop(signum)

    @abstractmethod
    def _run(self) -> None:
        """The thread: returns when the session is over."""

    @abstractmethod
    def _arrive(self, phase: str, payload: Mapping[str, Any], agrees: bool) -> None:
        """This host has reached a phase."""

    @abstractmethod
    def _report(self, failure: Failure, at: float) -> None:
        """This host has failed."""

    @abstractmethod
    def _pass_on(self, signum: int) -> None:
        """This host has been asked to stop."""

    @abstractmethod
    def _leave(self) -> None:
        """This host needs the others no more."""


def names(hosts: list[str], most: int = 5) -> str:
    """Hosts in words: the first few of them, and how many more there are."""
    more = f" and {len(hosts) - most} more" if len(hosts) > most else ""
    return ", ".join(hosts[:most]) + more
