"""This host's session with the others: how it begins, and how it tells them of a job that could not begin."""

from __future__ import annotations

from sagemaker_framework import log
from sagemaker_framework.cluster.session import SingleHostSession
from sagemaker_framework.errors import FrameworkError, JobStopped
from sagemaker_framework.processes.supervisor import Supervisor
from sagemaker_framework.workflow.calls import internal_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sagemaker_framework.cluster.session import Session
    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.processes.signals import Signals


def join(env: TrainingEnv, supervisor: Supervisor, is_needed: bool = False) -> Session:
    """Start this host's session with the other hosts, if there are any."""
    if len(env.hosts) < 2:
        return SingleHostSession(env.current_host)
    from sagemaker_framework import cluster

    with supervisor.own_limit:  # The leader needs more open files than its program may get.
        return cluster.join(env, control=supervisor, is_needed=is_needed)


def tell_the_others(env: TrainingEnv, signals: Signals, error: BaseException) -> BaseException:
    """Tell the other hosts, which would wait for this one, that it failed or was stopped before it could run.

    Returns:
        The outcome of the job, which is the same on all hosts.
    """
    with Supervisor(signals, env.settings.grace_seconds) as supervisor:
        try:
            session = join(env, supervisor)
        except FrameworkError as untold:
            log.error(f"the other hosts cannot be told: {untold}")
            return error
        try:
            return _settle(session, error)
        finally:
            session.close()


def _settle(session: Session, error: BaseException) -> BaseException:
    own = as_failure(error)
    if isinstance(error, JobStopped):
        session.stopping(error.signum)
    else:
        session.fail(own)
    verdict = session.verdict(own)
    return error if verdict is own else verdict


def as_failure(error: BaseException) -> FrameworkError:
    """Return the failure that stands for an exception, of which the other hosts are told."""
    return FrameworkError(str(error)) if isinstance(error, JobStopped) else internal_error(error)
