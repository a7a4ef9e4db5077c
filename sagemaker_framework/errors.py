"""
What can go wrong, by who can mend it.

    FrameworkError              exit code 1 unless it says otherwise
    |-- ConfigurationError      the job's configuration files, hyperparameters or variables: the job's owner
    |-- SourceError             the code cannot be fetched or unpacked: the job's owner
    |-- InstallError            what the code requires cannot be installed: the job's owner
    |-- EntryPointError         the program is not there or cannot be started: the job's owner
    |-- ProgramError            the program, or a server beside it, ended badly: the program's author
    |-- TrainerError            SAGEMAKER_TRAINING_MODULE or a hook in it: the image's author
    `-- HostsError              hosts cannot be made, or used, on this machine: whoever plays SageMaker on it
    JobStopped                  not an error: the service, or a person, asked the job to stop
    JobInterrupted              carries an error into the main thread, from another thread or host

Every error carries one line for its reader (`str(error)`), what may follow it in
the failure file (`detail`), and the exit code of the job (`exit_code`).
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from sagemaker_framework.config.environment import TrainingEnv


class FrameworkError(Exception):
    """A job that cannot go on.

    Args:
        message: the cause, in one line, for the person who can mend it.
        detail: what else helps, such as the last traceback of the program; any number of lines.

    Attributes:
        exit_code: the job's exit code.
        detail: as given.
    """

    exit_code: int = 1
    #: When it happened (`time.monotonic()`): of several hosts' failures, the first is the job's.
    at: float
    #: Whether it is likely to be a consequence of another: of several failures, one that is not is the job's.
    is_secondary: bool = False
    #: Which process ended badly: `program` or `server`; empty where it is not a process that did.
    process: str = ""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        error = super().__new__(cls, *args, **kwargs)
        error.at = time.monotonic()  # Not in __init__, which an author's own kind of error may not call.
        return error

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class ConfigurationError(FrameworkError):
    """The configuration of the job is wrong.

    Args:
        problems: each problem in one line; all that were found, not just the first.
        env: what could be read of the configuration, where that is enough to tell the other hosts of the job.
    """

    def __init__(self, problems: str | Sequence[str], env: TrainingEnv | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.env = env
        super().__init__("; ".join(self.problems))


class SourceError(FrameworkError):
    """The user's code could not be brought into the code folder."""


class InstallError(FrameworkError):
    """What the user's code requires could not be installed."""


class EntryPointError(FrameworkError):
    """The user's program is not where the job says it is, or cannot be started."""


class ProgramError(FrameworkError):
    """A program ended unsuccessfully.

    Args:
        message: the cause, in one line.
        exit_code: what the program exited with, 1 to 255; 128 + n when signal n killed it.
        detail: the last traceback, or the last lines, of what it wrote to stderr.
    """

    def __init__(self, message: str, exit_code: int, detail: str = "") -> None:
        super().__init__(message, detail)
        self.exit_code = exit_code


class TrainerError(FrameworkError):
    """The image's own training module cannot be used, or one of its hooks failed."""

    def __init__(self, message: str, detail: str = "", exit_code: int = 1) -> None:
        super().__init__(message, detail)
        self.exit_code = exit_code


class HostsError(FrameworkError):
    """Hosts cannot be made on this machine, or one that was made is gone.

    Args:
        message: what is missing or wrong, in one line.
        forbidden: whether this user, or this machine, is not allowed to make hosts, whatever is installed.
    """

    def __init__(self, message: str, forbidden: bool = False) -> None:
        super().__init__(message)
        self.forbidden = forbidden


class JobStopped(BaseException):
    """The job was asked to stop, with SIGTERM or SIGINT.

    Not an `Exception`, like `KeyboardInterrupt`: no `except Exception` of a library on
    the way may hold it up.

    Args:
        signum: the signal that asked.
        exit_code: 0 where the program was running and has ended well; 128 + signum when not given.
        has_served: True on a host that ran no program, and only served the others.
    """

    def __init__(self, signum: int, exit_code: int | None = None, has_served: bool = False) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.has_served = has_served
        self.exit_code = 128 + signum if exit_code is None else exit_code


class JobInterrupted(BaseException):
    """The job has failed elsewhere: on another host, or in another thread of this one.

    Args:
        error: the failure.
    """

    def __init__(self, error: FrameworkError) -> None:
        super().__init__(str(error))
        self.error = error
