"""DistributionStrategy: decides on which hosts, and how, the user's program runs."""

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
    """Starts servers: `launch(name, argv, env_vars=..., cwd=...)`.  `DistributionStrategy.start_servers` is given one.

    For authors: the call, `fail(error)`, `stopped_by`, `program_env`. The workflow makes one for each job.

    Attributes:
        program_env: all variables of the program, the container's included; a change here changes the program's.
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
        """Fail the job, on all hosts.  Any thread may call it.

        Args:
            error: the cause; its message becomes the failure reason unchanged, and its `exit_code` is the job's.
        """
        # Not delayed: this may be the job's first failure, although this host has just heard of another.
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
            name: the server's name in messages.
            argv: its program and arguments, passed unchanged, without a shell.
            env_vars: variables in addition to the program's.
            env: all of its variables, instead of the program's and `env_vars`.
            cwd: the folder to start it in.
            may_end: True if it may end by itself, with exit code 0, before the program does.

        Returns:
            The process, which the supervisor watches and stops.

        Raises:
            TrainerError: an argument has the wrong type.
            EntryPointError: the server cannot be started.
        """
        if not are_strings(argv):
            raise TrainerError(f"launch({name!r}): its argument list is {argv!r}, not a list of strings")
        for variables in (env, env_vars):
            if variables is not None and not are_named_strings(variables):
                raise TrainerError(f"launch({name!r}): its variables are not a mapping of strings")
        given = {**self.program_env, **(env_vars or {})} if env is None else env
        return self._supervisor.launch(name, argv, env=given, cwd=cwd, may_end=may_end)


class DistributionStrategy(ABC):
    """Spreads one entry point over the job's hosts and processes.

    Must be overridden:

    - `command(entry_point, args)`: the argument list that this host runs

    May be overridden, in the order they are called:

    - `advertise()`: the payload that this host sends to the leader
    - `plan(adverts)`: on the leader, the payload that it sends to all hosts
    - `env_vars()`: variables for the program in addition to the job's own
    - `start_servers(launch)`: starts helper processes beside the program
    - `completes_job()`: True if the job lasts until the program has ended on this host
    - `stop(process, signum)`: passes a request to stop to the program
    - `is_idle()`: True once nothing is left to stop on a host that only serves
    - `check_exit(result)`: the failure that the end of `command` means, if any
    - `summary()`: the payload that says how this host's part went
    - `close()`: always; before `verify`, which must not use what `close` releases
    - `verify(summaries)`: on the leader, checks that all went well on all hosts

    For subclasses: `env`, `is_leader`, `hosts()`.

    Args:
        env: the job's environment, a `TrainingEnv`; another mapping with all its names is turned into one.

    Attributes:
        is_distributed: True if the hosts cannot run independently of each other.
        adverts: the adverts of the hosts that take part, by host; on the leader only, from `plan` on.
        plan_result: the result of the leader's `plan`; on each host that takes part, from `command` on.
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
        """Return the hosts that take part, `env.distribution_hosts`; the first is the leader.  Not to be overridden."""
        return list(self.env.distribution_hosts or self.env.hosts)

    @property
    def is_leader(self) -> bool:
        """True if this host is the leader, as `env.is_leader`.  Not to be overridden."""
        return self.env.is_leader

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        for name in ("hosts", "is_leader"):
            if name in vars(cls):
                raise TrainerError(
                    f"{cls.__name__} overrides {name}, which the job decides; remove it. The hosts of a "
                    "distribution are those of its instance groups (sagemaker_distribution_instance_groups), and their "
                    "first is the leader"
                )

    def advertise(self) -> Mapping[str, Any]:
        """Return the payload that this host sends to the leader, a JSON object, such as a free port.

        Called once, by the Trainer, when the code and its requirements are in place. Raise to fail the job.
        """
        return {}

    def plan(self, adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the payload that the leader sends to all hosts, a JSON object.

        Called once, by the Trainer, on the leader, when every host has advertised. Raise to fail the job.

        Args:
            adverts: the results of `advertise` on the hosts that take part, by host.
        """
        return {}

    @abstractmethod
    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        """Return the argument list that this host runs; None if it only serves others until the job is over.

        Called once, by the Trainer, after `plan`, before any server starts.

        Args:
            entry_point: the user's program; `entry_point.command(args)` runs it once.
            args: the program's arguments.
        """

    def env_vars(self) -> Mapping[str, str]:
        """Return more variables for the program.  Called once, by the Trainer, after `command`."""
        return {}

    def start_servers(self, launch: Launch) -> None:
        """Start the processes that must run beside the program on this host.

        Called once, by the Trainer, after `env_vars`; programs start when it has returned on all hosts. Does nothing
        by default. Raise to fail the job. `launch(name, argv, env_vars=..., cwd=...)` is the only way to start a
        server. The supervisor watches it, fails the job if it ends before the programs do, and stops it when they have
        ended on all hosts; the last server is stopped first.
        """

    def completes_job(self) -> bool:
        """Tell whether the job lasts until the program has ended on this host.

        Called by the Trainer if `command` has returned something to run. True by default. If False, the program is
        stopped, as a server is, once the programs that complete the job have ended on all hosts. If it ends earlier
        with an exit code other than 0, it fails the job.
        """
        return True

    def stop(self, process: Process | None, signum: int) -> None:
        """Pass a request to stop to the program.

        Called by the supervisor when the job is asked to stop, or has failed. A signal handler may call it, so it must
        not wait.

        Args:
            process: the process that runs `command`; None on a host that only serves.
            signum: the signal, such as SIGTERM.
        """
        if process is not None:
            process.signal(signum, group=process.signals_group)

    def is_idle(self) -> bool:
        """Tell whether nothing of the program runs on this host any more.

        Called when the job is asked to stop, or has failed, on a host that only serves or whose process has ended.
        An exception counts as True, and is logged.
        """
        return True

    def check_exit(self, result: ProcessResult) -> FrameworkError | None:
        """Return the failure that the end of `command` means; None if it ended well.

        Called once, by the Trainer. By default any exit code but 0 is a failure.

        Args:
            result: the end of the process.
        """
        return result.error() if result.exit_code else None

    def summary(self) -> Mapping[str, Any]:
        """Return the payload that tells the leader how this host's part went, a JSON object.

        Called once, by the Trainer, when this host's program has ended well, and all others have or the job is being
        stopped. Raise to fail the job.
        """
        return {}

    def close(self) -> None:
        """Release what this host holds, such as temporary files.

        Always called by the Trainer; once more if the job fails after it, as `verify` may make it. Nothing interrupts
        it, so it must be quick.
        """

    def verify(self, summaries: Mapping[str, Mapping[str, Any]]) -> None:
        """Check that all went well on all hosts.

        Called once, by the Trainer, on the leader, last: `close` has been called. Raise to fail the job.

        Args:
            summaries: the results of `summary` on the hosts that take part, by host.
        """


def are_strings(value: object) -> bool:
    """Tell whether a value is a list of strings."""
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


def are_named_strings(value: object) -> bool:
    """Tell whether a value is a mapping of strings to strings."""
    return isinstance(value, Mapping) and are_strings([*value, *value.values()])
