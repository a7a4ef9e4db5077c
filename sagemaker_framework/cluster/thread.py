"""The thread in which a host talks with the others while its main thread does the job's work."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections import deque

from sagemaker_framework import log, timing
from sagemaker_framework.cluster.events import (
    Arrived,
    Close,
    Closing,
    Failed,
    Gather,
    Interrupt,
    Reduced,
    SetResult,
    SetVerdict,
    StopHost,
    StopRequested,
    Tell,
)
from sagemaker_framework.cluster.phases import place
from sagemaker_framework.cluster.session import Session
from sagemaker_framework.errors import FrameworkError, JobStopped
from sagemaker_framework.failures import Failure
from sagemaker_framework.wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar

    from sagemaker_framework.cluster.events import Action, Event, Payload
    from sagemaker_framework.cluster.protocol import FollowerState, LeaderState
    from sagemaker_framework.cluster.session import Control, Reduce

    T = TypeVar("T")


class ThreadedSession(Session):
    """Drives the protocol in a thread of its own: passes events to it and carries out its actions.

    Args:
        hosts: the names of all hosts of the job.
        host: this host's name.
        leader: the leader's name.
        port: the TCP port at which the leader listens.
        key: a secret that only the job's hosts share.
        timeout: seconds that hosts wait for each other.
        check_names: True if a host's name must resolve to the address that the host connects from.
        control: the run of the job on this host.
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
        control: Control,
    ) -> None:
        self.hosts = hosts
        self.host = host
        self.leader = leader
        self.port = port
        self.key = key
        self.timeout = timeout
        self.check_names = check_names
        self._control = control
        self._place = place(host, hosts.index(host), len(hosts))
        self._gathered: dict[str, Mapping[str, Payload]] = {}
        self._results: dict[str, Payload] = {}
        self._own: FrameworkError | None = None  # the failure that this host has reported
        self._foreign: FrameworkError | None = None
        self._verdict: Failure | None = None
        self._stopped_by: int | None = None
        self._is_closed = False
        self._is_settled = threading.Event()  # there is a verdict, or a stop, or no leader
        self._events: deque[Event] = deque()
        self._wakeup = Wakeup()
        self._thread = threading.Thread(target=self._run_safely, name="cluster", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    # -- in this host's main thread ------------------------------------------------------------

    def barrier(self, phase: str, payload: Payload, reduce: Reduce | None = None) -> Payload:
        reduces = reduce is not None and self.host == self.leader
        self._call_soon_threadsafe(Arrived(self.host, phase, payload, reduces=reduces))
        if reduces:
            assert reduce is not None
            self._call_soon_threadsafe(Reduced(phase, reduce(self._wait_for(phase, self._gathered))))
        return self._wait_for(phase, self._results)

    def _wait_for(self, phase: str, found: Mapping[str, T]) -> T:
        """Wait until something is found for a phase; it never is once the job is being stopped."""
        self._control.wait_until(lambda: phase in found or self._stopped_by is not None)
        if phase not in found:
            assert self._stopped_by is not None
            raise JobStopped(self._stopped_by)
        return found[phase]

    def arrive(self, phase: str, payload: Payload) -> None:
        self._call_soon_threadsafe(Arrived(self.host, phase, payload))

    @property
    def programs_done(self) -> bool:
        return "ended" in self._results

    @property
    def is_stopping(self) -> bool:
        return self._stopped_by is not None

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def fail(self, error: FrameworkError) -> None:
        if error is not self._foreign and error is not self._own:
            self._own = error
            self._call_soon_threadsafe(Failed(self.host, Failure.of(error, self.host, self._place)))

    def verdict(self, error: FrameworkError) -> FrameworkError:
        self._is_settled.wait(timing.VERDICT)
        return self._verdict.error() if self._verdict else error

    def stopping(self, signum: int, insists: bool = False) -> None:
        self._call_soon_threadsafe(StopRequested(self.host, signum, insists))

    def close(self) -> None:
        self._call_soon_threadsafe(Closing())
        self._thread.join(timing.VERDICT)

    def _call_soon_threadsafe(self, event: Event) -> None:
        """Have the thread handle an event; a signal handler may call it."""
        self._events.append(event)
        self._wakeup.wake()

    # -- in the session's thread ---------------------------------------------------------------

    @property
    @abstractmethod
    def _state(self) -> LeaderState | FollowerState:
        """The protocol's state."""

    @abstractmethod
    def _run(self) -> None:
        """Talk with the other hosts until the session is closed."""

    @abstractmethod
    def _do(self, action: Any) -> None:
        """Carry out an action that concerns connections."""

    def _run_safely(self) -> None:
        try:
            self._run()
        except Exception as error:
            import traceback

            cause = f"internal error of sagemaker-framework: {type(error).__name__}: {error}"
            failure = Failure.of(FrameworkError(cause, traceback.format_exc()), self.host, self._place)
            self._perform([Interrupt(failure), SetVerdict(failure), Close()])

    def _run_pending(self) -> None:
        """Handle the events of other threads."""
        self._wakeup.drain()
        while self._events:
            self._handle(self._events.popleft())

    def _handle(self, event: Event) -> None:
        self._perform(self._state.handle(event, time.monotonic()))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SetResult):
                self._results[action.phase] = action.result
            elif isinstance(action, Gather):
                self._gathered[action.phase] = action.payloads
            elif isinstance(action, Interrupt):
                self._interrupt(action.failure)
            elif isinstance(action, SetVerdict):
                self._verdict = action.failure
                self._is_settled.set()
            elif isinstance(action, StopHost):
                self._stopped_by = action.signum
                self._is_settled.set()
                self._control.request_stop(action.signum)
            elif isinstance(action, Tell):
                log.info(action.text)
            elif isinstance(action, Close):
                self._is_closed = True
                self._is_settled.set()
            else:
                self._do(action)
                continue
            self._control.wake()

    def _interrupt(self, failure: Failure) -> None:
        if self._foreign is None:
            self._foreign = failure.error()
            self._control.interrupt(self._foreign)
