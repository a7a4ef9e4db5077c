"""One job on this host: what it has with the other hosts, and with the processes beside its program."""

from __future__ import annotations

from collections.abc import Mapping

from sagemaker_framework import log
from sagemaker_framework.cluster.session import SingleHostSession
from sagemaker_framework.errors import FrameworkError, TrainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sagemaker_framework.cluster.session import Session
    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.processes.process import Process
    from sagemaker_framework.processes.supervisor import Supervisor
    from sagemaker_framework.strategies.base import DistributionStrategy


class _Control:
    """The run of the job on this host, as its session sees it."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.request_stop = supervisor.relay_stop
        self.interrupt = supervisor.interrupt
        self.wake = supervisor.wake
        self.wait_until: Callable[[Callable[[], bool]], None] = supervisor.serve


class JobRun:
    """What there is to know, on this host, of the job as a whole."""

    def __init__(self, values: TrainingEnv, supervisor: Supervisor) -> None:
        self._values = values
        self._supervisor = supervisor
        self.session: Session = SingleHostSession(values["current_host"])
        self.strategy: DistributionStrategy | None = None
        self.process: Process | None = None  # the program's, once it has been started
        self.needs_cleanup = True
        self.has_ended_well = False

    def join(self, strategy: DistributionStrategy | None = None) -> None:
        """Begin to agree with the other hosts, where that is wanted; where `strategy` needs it, in any case."""
        if len(self._values["hosts"]) < 2 or not isinstance(self.session, SingleHostSession):
            return
        if strategy is not None and not (strategy.is_distributed and len(strategy.hosts()) > 1):
            return
        from sagemaker_framework import cluster

        self._supervisor.hold()  # Other hosts may hear of this one before we know of the session ourselves.
        self.session = cluster.join(
            self._values,
            is_needed=strategy is not None,
            control=_Control(self._supervisor),
        )
        self._supervisor.on_stop = self.session.stopping
        self._supervisor.release()

    def barrier(
        self,
        phase: str,
        payload: Mapping[str, Any],
        reduce: Callable[[Mapping[str, Mapping[str, Any]]], Mapping[str, Any]] | None = None,
    ) -> Mapping[str, Any]:
        """Wait until all hosts have come to the same point; see `Session.barrier`."""
        return self.session.barrier(phase, payload, reduce)

    def await_end(self) -> None:
        """Wait until all programs that decide have ended, on all hosts; also while the job is being stopped."""
        session = self.session
        self._supervisor.serve(lambda: session.programs_done, lambda signum: None, lambda: session.is_closed)

    def end_with_the_others(self) -> None:
        """While the job is being stopped, keep the servers of this host, whose own program has failed."""
        self.session.arrive("ended", {})
        try:
            self.await_end()
        except FrameworkError as consequence:
            log.error(str(consequence))

    def taking_part(self, brought: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """Of what the hosts brought, that of those that take part in the strategy."""
        assert self.strategy is not None
        return {host: brought[host] for host in self.strategy.hosts() if host in brought}


class Launch:
    """Starts servers; what `DistributionStrategy.start_servers` gets."""

    def __init__(self, supervisor: Supervisor, job: JobRun, program_env: dict[str, str]) -> None:
        self._supervisor = supervisor
        self._job = job
        self.program_env = program_env

    @property
    def stopped_by(self) -> int | None:
        return self._supervisor.stopped_by

    def fail(self, error: FrameworkError) -> None:
        # At once: this may be the job's first failure, although this host has just heard of another.
        self._job.session.fail(error)
        self._supervisor.interrupt(error)

    def __call__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env_vars: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        may_end: bool = False,
    ) -> Process:
        if not are_texts(argv):
            raise TrainerError(f"launch({name!r}): its argument list is {argv!r}, not a list of texts")
        if not all(each is None or are_named_texts(each) for each in (env, env_vars)):
            raise TrainerError(f"launch({name!r}): its variables are not texts by their names")
        variables = {**self.program_env, **(env_vars or {})} if env is None else env
        return self._supervisor.launch(name, argv, env=variables, cwd=cwd, may_end=may_end)


def are_texts(value: object) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def are_named_texts(value: object) -> bool:
    """Whether it is texts by their names."""
    return isinstance(value, Mapping) and are_texts([*value, *value.values()])
