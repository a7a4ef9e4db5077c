"""A host's part in the agreement of a job's hosts: what its run says to the others, and hears from them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sagemaker_framework.failures import first_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from sagemaker_framework.cluster.events import Payload
    from sagemaker_framework.errors import FrameworkError

    #: Computes what all hosts get at the end of a phase, from what each brought to it.
    Reduce = Callable[[Mapping[str, Payload]], Payload]

    class Control(Protocol):
        """The run of the job on this host.  All but `wait_until` may be called in any thread."""

        def request_stop(self, signum: int) -> None:
            """Stop: the job is being stopped.  Does nothing where this host has been asked to stop already."""

        def interrupt(self, error: FrameworkError) -> None:
            """Stop: the job has failed elsewhere."""

        def wake(self) -> None:
            """Look whether what `wait_until` waits for is so now."""

        def wait_until(self, condition: Callable[[], bool]) -> None:
            """Wait in the main thread until something is so, while the host's processes are watched."""


class Session(ABC):
    """This host's part in the agreement.

    The phases are those of `phases.PHASES`, in their order.
    """

    @abstractmethod
    def barrier(self, phase: str, payload: Payload, reduce: Reduce | None = None) -> Payload:
        """Say that this host has come to a phase, and wait until all hosts have.

        Args:
            phase: its name.
            payload: what this host brings, a JSON object.
            reduce: called on the leader with what every host brought; what it returns is what all hosts get.

        Returns:
            What all hosts get.

        Raises:
            JobInterrupted: not all hosts came within the time limit, or one has failed.
            JobStopped: the job is being stopped, so that not all will come.
        """

    @abstractmethod
    def arrive(self, phase: str, payload: Payload) -> None:
        """Say that this host has come to a phase, and go on."""

    @property
    @abstractmethod
    def programs_done(self) -> bool:
        """Whether all programs that complete the job have ended, on every host."""

    @property
    @abstractmethod
    def is_stopping(self) -> bool:
        """Whether the job is being stopped: a host was asked to before all programs had ended well."""

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether nobody is there any more who could say so."""

    @abstractmethod
    def fail(self, error: FrameworkError) -> None:
        """Tell the other hosts that this one has failed, so that they stop; unless it failed because they did."""

    @abstractmethod
    def verdict(self, error: FrameworkError) -> FrameworkError:
        """Wait for what the job has failed of, and return it: all hosts report the same.

        Args:
            error: what this host reports where there is no verdict.
        """

    @abstractmethod
    def stopping(self, signum: int, insists: bool = False) -> None:
        """Tell the other hosts that this one has been asked to stop; a signal handler may call it.

        Args:
            signum: by which signal.
            insists: whether the job is stopped although all programs have ended well.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the others."""


class SingleHostSession(Session):
    """The session of a host that agrees with nobody."""

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
