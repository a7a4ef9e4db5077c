"""
The errors, ordered by who can fix them.

    FrameworkError              exit code 1 unless it says otherwise
    |-- ConfigurationError      the job's configuration files, hyperparameters or variables: the job's owner
    |-- SourceError             the code cannot be fetched or unpacked: the job's owner
    |-- InstallError            what the code requires cannot be installed: the job's owner
    |-- EntryPointError         the program is not there or cannot be started: the job's owner
    |-- ProgramError            the program, or a server beside it, ended badly: the program's author
    |-- TrainerError            SAGEMAKER_TRAINING_MODULE or a hook in it: the image's author
    `-- HostsError              hosts cannot be made, or used, on this machine: its owner
    JobStopped                  not an error: the service, or a person, asked the job to stop
    JobInterrupted              carries an error into the main thread, from another thread or host

Every error has one line for its reader (`str(error)`), further lines for the failure
file (`detail`), and the exit code of the job (`exit_code`).
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Self

    from sagemaker_framework.config.environment import TrainingEnv


class FrameworkError(Exception):
    """The base of all errors: the job cannot go on.

    Args:
        message: the cause, in one line, for the person who can fix it.
        detail: further lines that help, such as the program's last traceback.

    Attributes:
        exit_code: the job's exit code.
        detail: the argument `detail`.
    """

    exit_code: int = 1
    #: The time of the failure (`time.monotonic()`): if several hosts fail, the first failure is the job's.
    at: float
    #: True if another failure probably caused this one; such a failure is the job's only if there is no other.
    is_secondary: bool = False
    #: The process that failed, `program` or `server`; empty if it was not a process that failed.
    process: str = ""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        error = super().__new__(cls, *args, **kwargs)
        error.at = time.monotonic()  # Not in __init__: an author's subclass may not call that.
        return error

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class ConfigurationError(FrameworkError):
    """The configuration of the job is wrong.

    Args:
        problems: every problem that was found, one line each.
        env: the environment, if enough of it could be read to tell the job's other hosts; else None.
    """

    def __init__(self, problems: str | Sequence[str], env: TrainingEnv | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        self.env = env
        super().__init__("; ".join(self.problems))


class SourceError(FrameworkError):
    """The user's code cannot be brought into the code folder."""


class InstallError(FrameworkError):
    """The requirements of the user's code cannot be installed."""


class EntryPointError(FrameworkError):
    """The user's program is not where the job says it is, or cannot be started."""


class ProgramError(FrameworkError):
    """A program ended unsuccessfully.

    Args:
        message: the cause, in one line.
        exit_code: the program's exit code, 1 to 255; 128 + n if signal n killed it.
        detail: the last traceback, or the last lines, that the program wrote to stderr.
    """

    def __init__(self, message: str, exit_code: int, detail: str = "") -> None:
        super().__init__(message, detail)
        self.exit_code = exit_code


class TrainerError(FrameworkError):
    """The image's own training module cannot be used, or one of its hooks failed.

    Args:
        message: the cause, in one line.
        detail: further lines, such as the traceback.
        exit_code: the job's exit code, 1 to 255.
    """

    def __init__(self, message: str, detail: str = "", exit_code: int = 1) -> None:
        super().__init__(message, detail)
        self.exit_code = exit_code


class HostsError(FrameworkError):
    """A host cannot be made on this machine, or one that was made is gone.

    Args:
        message: what is missing or wrong, in one line.
        forbidden: True if this user, or this machine, may not make hosts, whatever is installed.
    """

    def __init__(self, message: str, forbidden: bool = False) -> None:
        super().__init__(message)
        self.forbidden = forbidden


class JobStopped(BaseException):
    """The job was asked to stop, with SIGTERM or SIGINT.

    Not an `Exception`, like `KeyboardInterrupt`, so that no library's `except Exception`
    swallows it.

    Args:
        signum: the signal that asked.
        exit_code: the job's exit code; 0 if the program was running and ended well; 128 + signum if None.
        has_served: True on a host that ran no program, and only served the others.
    """

    def __init__(self, signum: int, exit_code: int | None = None, has_served: bool = False) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.has_served = has_served
        self.exit_code = 128 + signum if exit_code is None else exit_code


class JobInterrupted(BaseException):
    """The job failed elsewhere: on another host, or in another thread of this one.

    Args:
        error: the failure.
    """

    def __init__(self, error: FrameworkError) -> None:
        super().__init__(str(error))
        self.error = error
