"""Launch: how strategies start servers."""

from __future__ import annotations

from sagemaker_framework.errors import TrainerError
from sagemaker_framework.workflow.calls import are_named_strings, are_strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagemaker_framework.cluster.session import Session
    from sagemaker_framework.errors import FrameworkError
    from sagemaker_framework.processes.process import Process
    from sagemaker_framework.processes.signals import Signals
    from sagemaker_framework.processes.supervisor import Supervisor


class Launch:
    """Starts servers; what `DistributionStrategy.start_servers` gets."""

    def __init__(self, supervisor: Supervisor, session: Session, signals: Signals, program_env: dict[str, str]) -> None:
        self._supervisor = supervisor
        self._session = session
        self._signals = signals
        self.program_env = program_env

    @property
    def stopped_by(self) -> int | None:
        return self._signals.stopped_by

    def fail(self, error: FrameworkError) -> None:
        # At once: this may be the job's first failure, although this host has just heard of another.
        self._session.fail(error)
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
        if not are_strings(argv):
            raise TrainerError(f"launch({name!r}): its argument list is {argv!r}, not a list of texts")
        if not all(each is None or are_named_strings(each) for each in (env, env_vars)):
            raise TrainerError(f"launch({name!r}): its variables are not texts by their names")
        variables = {**self.program_env, **(env_vars or {})} if env is None else env
        return self._supervisor.launch(name, argv, env=variables, cwd=cwd, may_end=may_end)
