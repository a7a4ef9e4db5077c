"""DistributionStrategy: where and how the user's program runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from sagemaker_framework.config import environment
from sagemaker_framework.errors import TrainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sagemaker_framework.cluster.session import Session
    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.errors import FrameworkError
    from sagemaker_framework.processes.process import Process, ProcessResult
    from sagemaker_framework.processes.signals import Signals
    from sagemaker_framework.processes.supervisor import Supervisor


class Launch:
    """Starts servers: `launch(name, argv, env_vars=..., cwd=...)`; what `DistributionStrategy.start_servers` gets.

    For authors: the call, `fail(error)`, `stopped_by`, `program_env`. The workflow makes one for each job.

    Attributes:
        program_env: all variables that the program gets, those of the container included; what is changed here, it
            gets.
    """

    def __init__(self, supervisor: Supervisor, session: Session, signals: Signals, program_env: dict[str, str]) -> None:
        self._supervisor = supervisor
        self._session = session
        self._signals = signals
        self.program_env = program_env

    @property
    def stopped_by(self) -> int | None:
        """The signal by which the job was asked to stop, or None."""
        return self._signals.stopped_by

    def fail(self, error: FrameworkError) -> None:
        """Fail the job, on all hosts.  May be called in any thread.

        Args:
            error: the cause, which becomes the failure reason as it stands; its `exit_code` is the job's.
        """
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
        """Start a server.

        Args:
            name: what to call it in messages.
            argv: its program and arguments, passed as they are; no shell.
            env_vars: its variables, besides those of the program; see also `env`.
            env: all of its variables, instead.
            cwd: the folder to start it in.
            may_end: whether it may end by itself, with exit code 0, before the program does.

        Returns:
            The process, which the supervisor watches and stops.

        Raises:
            TrainerError: an argument is not of its type.
            EntryPointError: it cannot be started.
        """
        if not are_strings(argv):
            raise TrainerError(f"launch({name!r}): its argument list is {argv!r}, not a list of strings")
        for variables in (env, env_vars):
            if variables is not None and not are_named_strings(variables):
                raise TrainerError(f"launch({name!r}): its variables are not strings by their names")
        given = {**self.program_env, **(env_vars or {})} if env is None else env
        return self._supervisor.launch(name, argv, env=given, cwd=cwd, may_end=may_end)


class DistributionStrategy(ABC):
    """Spreads one entry point over the job's hosts and processes.

    Must be overridden:

    - `command(entry_point, args)`: what this host runs

    May be overridden, in the order they are called:

    - `advertise()`: what this host tells the leader
    - `plan(adverts)`: on the leader, what all hosts are told
    - `env_vars()`: variables that the program gets besides the job's own
    - `start_servers(launch)`: helper processes beside the program
    - `completes_job()`: whether the job lasts until the program has ended on this host
    - `stop(process, signum)`: how a request to stop reaches the program
    - `is_idle()`: whether a host that only serves has nothing left to stop
    - `check_exit(result)`: whether what `command` has started ended well
    - `summary()`: whether all went well on this host
    - `verify(summaries)`: on the leader, whether all went well on all hosts
    - `close()`: always, once `advertise` has been called

    For subclasses: `env`, `is_leader`, `hosts()`.

    Args:
        env: the job's environment, a `TrainingEnv`; another mapping with all its names becomes one.

    Attributes:
        is_distributed: whether the hosts cannot run independently of each other.
        adverts: what each host that takes part has advertised; on the leader only, from `plan` on.
        plan_result: what the leader's `plan` has returned; on each host that takes part, from `command` on.
    """

    is_distributed: bool = True
    adverts: Mapping[str, Mapping[str, Any]]
    plan_result: Mapping[str, Any]

    def __init__(self, env: TrainingEnv) -> None:
        self._env = environment.checked(env, self)
        self.adverts = {}
        self.plan_result = {}

    @property
    def env(self) -> TrainingEnv:
        """The job's environment."""
        return self._env

    def hosts(self) -> list[str]:
        """Return the hosts that take part, `env.distribution_hosts`; the leader is the first.  Not to be overridden."""
        return list(self.env.distribution_hosts or self.env.hosts)

    @property
    def is_leader(self) -> bool:
        """Whether this host is the leader, `env.is_leader`.  Not to be overridden."""
        return self.env.is_leader

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        for name in ("hosts", "is_leader"):
            if name in vars(cls):
                raise TrainerError(
                    f"{cls.__name__} overrides {name}, which the job decides: the hosts of a distribution are those of "
                    "its instance groups (sagemaker_distribution_instance_groups), and their first is the leader"
                )

    def advertise(self) -> Mapping[str, Any]:
        """Return what this host tells the leader, as JSON has it, such as a port that is free here.

        Called once, by the Trainer, when the code and its requirements are in place. Raising fails the job.
        """
        return {}

    def plan(self, adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return what the leader tells all hosts, as JSON has it.

        Called once, by the Trainer, on the leader, when every host has advertised. Raising fails the job.

        Args:
            adverts: what the hosts that take part have advertised, by their names.
        """
        return {}

    @abstractmethod
    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        """Return the argument list that this host runs; None where it only serves others until the job is over.

        Called once, by the Trainer, when all hosts have agreed, before any server starts.

        Args:
            entry_point: the user's program; `entry_point.command(args)` runs it once.
            args: the program's arguments.
        """

    def env_vars(self) -> Mapping[str, str]:
        """Return more variables for the program.  Called once, by the Trainer, after `command`."""
        return {}

    def start_servers(self, launch: Launch) -> None:
        """Start the processes that have to run beside the program on this host.

        Called once, by the Trainer, after the code and its requirements are in place; the program starts when
        this has returned on all hosts. `launch(name, argv, env_vars=..., cwd=...)` is the only way to start one:
        the supervisor then watches it, fails the job when it ends before the programs do, and
        stops it once they have ended on all hosts, the last one first. Raising fails the job. Does nothing by default.
        """

    def completes_job(self) -> bool:
        """Tell whether the job lasts until the program has ended on this host.

        Called by the Trainer where `command` has returned something to run. By default it does. A program that
        does not complete the job is stopped, as a server is, when those that do have ended on all hosts. It fails
        the job when it ends before with another exit code than 0.
        """
        return True

    def stop(self, process: Process | None, signum: int) -> None:
        """Pass a request to stop on to the program.

        Called by the supervisor, when the job is asked to stop, or has failed. It must not wait.

        Args:
            process: what `command` has started; None on a host that only serves.
            signum: the signal, such as SIGTERM.
        """
        if process is not None:
            process.signal(signum, group=process.signals_group)

    def is_idle(self) -> bool:
        """Tell whether nothing of the program runs here any more.

        Called when the job is asked to stop, or has failed, on a host that only serves or whose process has ended.
        """
        return True

    def check_exit(self, result: ProcessResult) -> FrameworkError | None:
        """Return the failure that the end of the process means that `command` has started; None where all is well.

        Called once, by the Trainer. By default any exit code but 0 is a failure.

        Args:
            result: how it ended.
        """
        return result.error() if result.exit_code else None

    def summary(self) -> Mapping[str, Any]:
        """Return what this host tells the leader of how its part went, as JSON has it.

        Called once, by the Trainer, when the programs of all hosts have ended well. Raising fails the job.
        """
        return {}

    def verify(self, summaries: Mapping[str, Mapping[str, Any]]) -> None:
        """Check that all went well.  Called once, by the Trainer, on the leader, last.  Raising fails the job.

        Args:
            summaries: what `summary` has returned on the hosts that take part, by their names.
        """

    def close(self) -> None:
        """Give back what this host holds, such as temporary files.  Called by the Trainer, always, at the end."""


def are_strings(value: object) -> bool:
    """Tell whether it is a list of strings."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def are_named_strings(value: object) -> bool:
    """Tell whether it is strings by their names."""
    return isinstance(value, Mapping) and are_strings([*value, *value.values()])
