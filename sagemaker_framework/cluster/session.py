"""What a host can say to the others of its job, and hear from them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from sagemaker_framework import log
from sagemaker_framework.errors import ConfigurationError, FrameworkError, ProgramError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    #: What every host is told at the end of a phase, from what each brought to it.
    Reduce = Callable[[Mapping[str, Mapping[str, Any]]], Mapping[str, Any]]

TIMEOUT_VARIABLE = "SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS"
#: Seconds that a host waits for the others to reach the same phase.
DEFAULT_TIMEOUT = 900.0

_MOST_DETAIL = 16384  # characters


class Failure:
    """A failure of the job, as all hosts come to know it.

    Attributes:
        host: where it happened.
        cause: in one line.
        detail: what else helps, any number of lines.
        exit_code: what the job exits with, everywhere.
        is_secondary: see `FrameworkError`.
    """

    def __init__(self, host: str, cause: str, detail: str = "", exit_code: int = 1, is_secondary: bool = False) -> None:
        self.host = host
        self.cause = cause
        self.detail = detail
        self.exit_code = exit_code
        self.is_secondary = is_secondary

    @classmethod
    def of(cls, error: FrameworkError, host: str, rank: int) -> Failure:
        """The failure of one host; its cause names the host, and the rank, unless it does already."""
        cause = str(error) or type(error).__name__
        if not cause.startswith(f"{host}, rank "):
            cause = f"{host}, rank {rank}: {cause}"
        detail = getattr(error, "detail", "")
        code = error.exit_code & 0xFF or 1
        return cls(host, log.redact(cause), log.redact(detail)[-_MOST_DETAIL:], code, error.is_secondary)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Failure:
        """The failure that a message tells of."""
        code = message.get("exit_code")
        return cls(
            str(message.get("host")),
            str(message.get("cause")),
            str(message.get("detail", ""))[-_MOST_DETAIL:],
            code if isinstance(code, int) and 0 < code < 256 else 1,
            message.get("is_secondary") is True,
        )

    def as_message(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "host": self.host,
            "cause": self.cause,
            "detail": self.detail,
            "exit_code": self.exit_code,
            "is_secondary": self.is_secondary,
        }

    def error(self) -> FrameworkError:
        """The error that ends the job."""
        return ProgramError(self.cause, self.exit_code, self.detail)


class Session(ABC):
    """This host's part in the agreement.

    The phases are those of `barrier`; they come in the order in which they are named.
    """

    @abstractmethod
    def barrier(self, phase: str, payload: Mapping[str, Any], reduce: Reduce | None = None) -> Mapping[str, Any]:
        """Say that this host has reached a phase, and wait until all hosts have.

        Args:
            phase: its name.
            payload: what this host has to tell, a JSON object.
            reduce: called on the leader with what every host brought; what it returns is what all are told.

        Returns:
            What all are told.

        Raises:
            FrameworkError: not all hosts came within the time limit, or one has failed.
        """

    @abstractmethod
    def arrive(self, phase: str, payload: Mapping[str, Any]) -> None:
        """Say that this host has reached a phase, and go on."""

    @property
    @abstractmethod
    def programs_done(self) -> bool:
        """Whether all hosts have reached the phase `ended`: the programs that decide have, on every host."""

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether nobody is there any more who could say so."""

    @abstractmethod
    def fail(self, error: FrameworkError) -> None:
        """Tell the other hosts that this one has failed, so that they stop; unless it failed because they did."""

    @abstractmethod
    def verdict(self, error: FrameworkError) -> FrameworkError:
        """The failure that was the job's first, which all hosts report; `error` where they cannot agree."""

    @abstractmethod
    def stopping(self, signum: int) -> None:
        """Tell the other hosts that the job has been asked to stop; safe to be called by a signal handler."""

    @abstractmethod
    def close(self) -> None:
        """Leave the cluster."""


class SingleHostSession(Session):
    """The session of a host that has nobody to agree with."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._failures: list[FrameworkError] = []
        self._is_ending = False

    def barrier(self, phase: str, payload: Mapping[str, Any], reduce: Reduce | None = None) -> Mapping[str, Any]:
        return reduce({self._host: payload}) if reduce else {}

    def arrive(self, phase: str, payload: Mapping[str, Any]) -> None:
        self._is_ending |= phase == "ended"

    @property
    def programs_done(self) -> bool:
        return self._is_ending

    @property
    def is_closed(self) -> bool:
        return True

    def fail(self, error: FrameworkError) -> None:
        self._failures.append(error)

    def verdict(self, error: FrameworkError) -> FrameworkError:
        return min(self._failures, key=lambda each: (each.is_secondary, each.at), default=error)

    def stopping(self, signum: int) -> None:
        return

    def close(self) -> None:
        return


def patience(environ: Mapping[str, str] = os.environ) -> float:
    """Seconds that a host waits for others, or a launcher, before it gives up.

    Raises:
        ConfigurationError: `SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS` is no number of seconds.
    """
    seconds: float = number(environ, TIMEOUT_VARIABLE, DEFAULT_TIMEOUT, 0.1, 1e9)
    return seconds


def number(environ: Mapping[str, str], name: str, default: float, least: float, most: float) -> Any:
    """The number that a variable sets, of the type of its default.

    Raises:
        ConfigurationError: it is none, or out of bounds.
    """
    text = environ.get(name)
    if not text:
        return default
    try:
        value = type(default)(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise ConfigurationError(f"{name} is {text!r}, not a number from {least:g} to {most:g}")
    return value
