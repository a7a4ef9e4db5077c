"""This host's session with the other hosts of the job: the interface that the run of a job uses."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sagemaker_framework.failures import first_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from sagemaker_framework.cluster.events import Payload
    from sagemaker_framework.errors import FrameworkError

    #: Computes the result of a phase from the payloads of all hosts, by host.
    Reduce = Callable[[Mapping[str, Payload]], Payload]

    class Control(Protocol):
        """The run of the job on this host.  Any thread may call all methods but `wait_until`."""

        def request_stop(self, signum: int) -> None:
            """Stop the program: the job is being stopped.  Does nothing if this host was asked to stop already."""

        def interrupt(self, error: FrameworkError) -> None:
            """Stop the work: the job has failed elsewhere."""

        def wake(self) -> None:
            """Check the condition of `wait_until` again."""

        def wait_until(self, condition: Callable[[], bool]) -> None:
            """Wait in the main thread until a condition is true, and watch the host's processes meanwhile."""


class Session(ABC):
    """This host's session with the other hosts.

    `phases.PHASES` lists the phases in their order.
    """

    @abstractmethod
    def barrier(self, phase: str, payload: Payload, reduce: Reduce | None = None) -> Payload:
        """Tell the others that this host has come to a phase, and wait until all hosts have.

        Args:
            phase: the name of the phase.
            payload: this host's contribution, a JSON object.
            reduce: computes the result from the payloads of all hosts; only the leader calls it.

        Returns:
            The result of the phase, the same on all hosts.

        Raises:
            JobInterrupted: not all hosts came within the time limit, or a host has failed.
            JobStopped: the job is being stopped, so not all hosts will come.
        """

    @abstractmethod
    def arrive(self, phase: str, payload: Payload) -> None:
        """Tell the others that this host has come to a phase, without waiting for them."""

    @property
    @abstractmethod
    def programs_done(self) -> bool:
        """True once all programs that complete the job have ended, on every host."""

    @property
    @abstractmethod
    def is_stopping(self) -> bool:
        """True once the job is being stopped: a host was asked to before all programs had ended well."""

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """True once the session has ended, so that nothing more can be learnt from the other hosts."""

    @abstractmethod
    def fail(self, error: FrameworkError) -> None:
        """Tell the other hosts that this one has failed, so that they stop; not if it failed because of them."""

    @abstractmethod
    def verdict(self, error: FrameworkError) -> FrameworkError:
        """Wait for the leader's decision which failure is the cause, and return it: all hosts report the same.

        Args:
            error: this host's own error, which is returned if there is no decision.
        """

    @abstractmethod
    def stopping(self, signum: int, insists: bool = False) -> None:
        """Tell the other hosts that this one was asked to stop; a signal handler may call it.

        Args:
            signum: the signal that asked.
            insists: True if the job must stop even if all programs have ended well.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the session."""


class SingleHostSession(Session):
    """The session of a host that does not agree with others."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._errors: list[FrameworkError] = []
        self._programs_done = False
        self._is_stopping = False

    def barrier(self, phase: str, payload: Payload, reduce: Reduce | None = None) -> Payload:
        return reduce({self._host: payload}) if reduce else {}

    def arrive(self, phase: str, payload: Payload) -> None:
        self._programs_done |= phase == "ended"

    @property
    def programs_done(self) -> bool:
        return self._programs_done

    @property
    def is_stopping(self) -> bool:
        return self._is_stopping

    @property
    def is_closed(self) -> bool:
        return True

    def fail(self, error: FrameworkError) -> None:
        self._errors.append(error)

    def verdict(self, error: FrameworkError) -> FrameworkError:
        return first_error(self._errors or [error], self._host)

    def stopping(self, signum: int, insists: bool = False) -> None:
        self._is_stopping |= insists or not self._programs_done

    def close(self) -> None:
        return
