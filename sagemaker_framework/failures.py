"""The failures of a job, and the rule that tells which of them is the root cause.

Pure: times are arguments, in seconds of one clock. The rule serves the processes of one host and the hosts of a job.
"""

from __future__ import annotations

from sagemaker_framework import log, timing
from sagemaker_framework.errors import FrameworkError, ProgramError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

#: The kinds of failure: one that no other explains; one that another probably caused, such as the error of a
#: process that lost its peer; the loss of a whole host.
CAUSE, CONSEQUENCE, HOST_LOST = "cause", "consequence", "host_lost"

_LONGEST_DETAIL = 16384  # characters


class Failure:
    """One failure of a job.

    Attributes:
        host: the name of the host that failed.
        cause: the cause in one line; in a job of several hosts it names the host.
        detail: further lines, such as a traceback; only the end of a long one.
        exit_code: the job's exit code, 1 to 255.
        process: `program` or `server`; empty if it was not a process that failed.
        raised_at: seconds; when the process wrote its exception, or, without one, began to end; of a lost host, when it
            last gave a sign of life.
        ended_at: seconds; when the process had ended.
        kind: `CAUSE`, `CONSEQUENCE` or `HOST_LOST`.
    """

    def __init__(
        self,
        host: str,
        cause: str,
        detail: str = "",
        exit_code: int = 1,
        *,
        process: str = "",
        raised_at: float = 0.0,
        ended_at: float | None = None,
        kind: str = CAUSE,
    ) -> None:
        self.host = host
        self.cause = cause
        self.detail = detail[-_LONGEST_DETAIL:]
        self.exit_code = exit_code
        self.process = process
        self.raised_at = raised_at
        self.ended_at = raised_at if ended_at is None else ended_at
        self.kind = kind

    @classmethod
    def of(cls, error: FrameworkError, host: str, place: str = "") -> Failure:
        """Describe an error of this host, with secrets masked.

        Args:
            error: the error.
            host: this host's name.
            place: the host's name in the cause, such as `algo-2 (host 2 of 2)`; empty in a job of one host. It is not
                added to an error that names the host and a rank already.
        """
        cause = str(error) or type(error).__name__
        if place and not cause.startswith(f"{host}, rank "):
            cause = f"{place}: {cause}"
        return cls(
            host,
            log.redact(cause),
            log.redact(getattr(error, "detail", "")),  # An author's subclass may have none.
            error.exit_code & 0xFF or 1,
            process=error.process,
            raised_at=error.at,
            kind=CONSEQUENCE if error.is_secondary else CAUSE,
        )

    def error(self) -> FrameworkError:
        """Return the error that ends the job because of this failure."""
        return ProgramError(self.cause, self.exit_code, self.detail)

    def shifted(self, seconds: float) -> Failure:
        """Return the failure with its times by a clock that is `seconds` ahead."""
        times = {"raised_at": self.raised_at + seconds, "ended_at": self.ended_at + seconds}
        return Failure.from_message({**self.as_message(), **times})

    def with_cause(self, cause: str) -> Failure:
        """Return the failure with another cause."""
        return Failure.from_message({**self.as_message(), "cause": cause})

    def as_message(self) -> dict[str, Any]:
        """Return the failure as a JSON object."""
        return dict(vars(self))

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Failure:
        """Read a failure that another host sent; a field that is missing or of the wrong type gets its default."""
        code, kind = message.get("exit_code"), message.get("kind")
        return cls(
            str(message.get("host", "")),
            str(message.get("cause", "")),
            str(message.get("detail", "")),
            code if isinstance(code, int) and 0 < code < 256 else 1,
            process=str(message.get("process", "")),
            raised_at=_seconds(message.get("raised_at")),
            ended_at=_seconds(message.get("ended_at")),
            kind=kind if kind in (CAUSE, CONSEQUENCE, HOST_LOST) else CAUSE,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failure) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.host, self.cause, self.raised_at))

    def __repr__(self) -> str:
        return f"<{self.kind} on {self.host} at {self.raised_at:.3f}: {self.cause}>"


def root_cause(failures: Sequence[Failure]) -> Failure:
    """Return the failure that explains the others.

    1. A lost host explains all failures since it was lost, and those shortly before, as others may notice sooner.
    2. Else the first failure by the time of its exception counts, even if another process ended before.
    3. A consequence counts only if there is no other kind of failure.
    4. The order of a program and a server of one host that fail within `timing.TOGETHER` cannot be known: the cause
       names both, in order of time, and the exit code is the program's.

    Args:
        failures: one or more, with times of one clock.
    """
    causes = sorted((each for each in failures if each.kind == CAUSE), key=_order)
    lost = sorted((each for each in failures if each.kind == HOST_LOST), key=_order)
    if lost and not (causes and causes[0].raised_at < lost[0].raised_at - timing.LOSS_SHOWS):
        return lost[0]
    if causes:
        return _with_its_pair(causes)
    return min(failures, key=_order)


def first_error(errors: Sequence[FrameworkError], host: str) -> FrameworkError:
    """Return the root cause among one host's errors; a new error if the cause names two of them."""
    failures = [Failure.of(error, host) for error in errors]
    first = root_cause(failures)
    return next((error for error, failure in zip(errors, failures) if failure is first), first.error())


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and value == value else 0.0


def _order(failure: Failure) -> tuple[float, float]:
    return failure.raised_at, failure.ended_at


def _with_its_pair(causes: Sequence[Failure]) -> Failure:
    """Return the first failure, joined with that of its program or server if that failed at the same moment."""
    first = causes[0]
    pairs = {"program": "server", "server": "program"}
    others = [
        each
        for each in causes
        if each.host == first.host
        and each.process == pairs.get(first.process)
        and each.raised_at - first.raised_at <= timing.TOGETHER
    ]
    if not others:
        return first
    other = others[0]
    program = first if first.process == "program" else other
    return Failure(
        first.host,
        f"{first.cause}; at the same moment, {other.cause}",
        f"{first.detail}\n{other.detail}".strip("\n"),
        program.exit_code,
        process="program",
        raised_at=first.raised_at,
        ended_at=max(first.ended_at, other.ended_at),
    )
