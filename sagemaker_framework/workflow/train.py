"""One job from the start of `train` to its exit code, and the point from which signals are ignored."""

from __future__ import annotations

import signal
import time

from sagemaker_framework import log
from sagemaker_framework.config import files, paths, settings
from sagemaker_framework.errors import ConfigurationError, FrameworkError, JobInterrupted, JobStopped
from sagemaker_framework.processes import signals
from sagemaker_framework.workflow.calls import internal_error
from sagemaker_framework.workflow.report import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.processes.signals import Signals


class Outcome:
    """The outcome of a job, as this host reports it.

    Attributes:
        exit_code: the exit code for the service.
        cause: the cause of the failure, in one line; empty if the job has not failed.
        detail: further lines that help.
        is_success: True if the job succeeded: it neither failed nor was stopped.
    """

    def __init__(self, line: str, exit_code: int = 0, cause: str = "", detail: str = "") -> None:
        self.exit_code = exit_code
        self.cause = cause
        self.detail = detail
        self.is_success = False
        self._line = line

    @classmethod
    def success(cls, seconds: float) -> Outcome:
        """Return the outcome of a job that succeeded after `seconds`."""
        outcome = cls(f"the job succeeded after {seconds:.1f} s")
        outcome.is_success = True
        return outcome

    @classmethod
    def of(cls, error: BaseException) -> Outcome:
        """Return the outcome of a job that ended with an exception."""
        if isinstance(error, JobInterrupted):
            error = error.error
        if isinstance(error, JobStopped):
            name = signal.Signals(error.signum).name
            if error.exit_code == 0 and error.has_served:
                return cls(f"the job was stopped by {name}, and so was this host, which served the others")
            if error.exit_code == 0:
                return cls(f"the job was stopped by {name}, and its program ended well")
            cause = f"the job was stopped by {name} before its program ran"
            return cls(cause, error.exit_code, cause)
        error = internal_error(error)
        cause = str(error) or type(error).__name__
        # An author's subclass may have no detail; and the system would cut an exit code of 256 to 0.
        return cls(cause, error.exit_code & 0xFF or 1, cause, getattr(error, "detail", ""))

    def report(self, report: Report) -> None:
        """Write the files, and then the log, whose reader may be slow."""
        if self.cause:
            report.failure(self.cause, self.detail)
        elif self.is_success:
            report.success()
        else:
            report.stopped()
        (log.error if self.cause else log.info)(self._line)
        report.tell()


def train(base: type, stops: Sequence[int] = ()) -> int:
    """Run the job that this container was started for, and report how it ended.

    Args:
        base: the class of trainers; itself the trainer of an image that names none.
        stops: signals by which the job was asked to stop already.

    Returns:
        The exit code for the service.
    """
    record = signals.keep(stops)
    report = Report(paths.current())
    outcome = _run(base, record, report)
    # The verdict is known: from now on, signals must change neither the files nor the exit code.
    record.ignore_stops()
    outcome.report(report)
    return outcome.exit_code


def _run(base: type, record: Signals, report: Report) -> Outcome:
    begun = time.monotonic()
    try:
        report.begin()
        env = _read(record)
        log.set_level(env.log_level)
        settings.warn_of_unknown()
        _load(base, env, record)()
    except BaseException as error:
        return Outcome.of(error)
    return Outcome.success(time.monotonic() - begun)


def _read(record: Signals) -> TrainingEnv:
    """Read the configuration; if it is wrong, tell the other hosts, as far as this one can prove who it is."""
    try:
        return files.read()
    except ConfigurationError as error:
        settings.warn_of_unknown()  # What is misspelt may be why it is wrong.
        if error.env is None:
            raise
        from sagemaker_framework.workflow.meeting import tell_the_others

        raise tell_the_others(error.env, record, error) from error


def _load(base: type, env: TrainingEnv, record: Signals) -> Callable[[], object]:
    """Load the image's trainer or function; if that fails, tell the other hosts, which would wait for this one."""
    if not env.framework_module:
        train: Callable[[], object] = base(env).train
        return train
    from sagemaker_framework.workflow import loading

    try:
        return loading.load(env, base, record)
    except (FrameworkError, JobStopped) as error:
        from sagemaker_framework.workflow.meeting import tell_the_others

        raise tell_the_others(env, record, error) from error
