"""DistributionStrategy: where and how the user's program runs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sagemaker_framework.config import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.errors import FrameworkError
    from sagemaker_framework.processes.process import Process, ProcessResult

    class Launch(Protocol):
        """Starts servers: `launch(name, argv, env_vars=..., cwd=...)`.

        Args:
            name: what to call the server in messages.
            argv: its program and arguments, passed as they are; no shell.
            env_vars: its variables, besides those of the program; see also `env`.
            env: all of its variables, instead.
            cwd: the folder to start it in.
            may_end: whether it may end by itself, with exit code 0, before the program does.

        Attributes:
            program_env: all variables that the program gets, those of the container included; what is
                changed here, it gets.
            stopped_by: the signal by which the job was asked to stop, or None.
        """

        program_env: dict[str, str]

        @property
        def stopped_by(self) -> int | None: ...

        def __call__(
            self,
            name: str,
            argv: Sequence[str],
            *,
            env_vars: Mapping[str, str] | None = None,
            env: Mapping[str, str] | None = None,
            cwd: str | None = None,
            may_end: bool = False,
        ) -> Process: ...

        def fail(self, error: FrameworkError) -> None:
            """Fail the job; may be called in any thread."""


class DistributionStrategy(ABC):
    """Spreads one entry point over the job's hosts and processes.

    Must be overridden:

    - `command(entry_point, args)`: what this host runs

    May be overridden, in the order they are called:

    - `hosts()`: the hosts that take part
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

    Args:
        env: the job's environment, a `TrainingEnv`; another mapping with all its names becomes one.

    Attributes:
        is_distributed: whether the hosts cannot run independently of each other.
        adverts: what each host that takes part has advertised; on the leader only, from `plan` on.
        plan_result: what the leader's `plan` has returned; on each host that takes part, from `command` on.
    """

    is_distributed: bool = True

    def __init__(self, env: Mapping[str, Any]) -> None:
        self._values = environment.checked(env, self)
        self.adverts: Mapping[str, Mapping[str, Any]] = {}
        self.plan_result: Mapping[str, Any] = {}

    @property
    def env(self) -> TrainingEnv:
        """The job's environment."""
        return self._values

    def hosts(self) -> list[str]:
        """The hosts that take part; the leader is the first.

        Called by the Trainer. By default those of the instance groups that the job is distributed over.
        """
        return list(self._values["distribution_hosts"] or self._values["hosts"])

    @property
    def is_leader(self) -> bool:
        """Whether this host is the first of those that take part."""
        return bool(self._values["current_host"] == self.hosts()[0])

    def advertise(self) -> Mapping[str, Any]:
        """What this host tells the leader, as JSON has it, such as a port that is free here.

        Called once, by the Trainer, when the code and its requirements are in place. Raising fails the job.
        """
        return {}

    def plan(self, adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """What all hosts are told, as JSON has it.

        Called once, by the Trainer, on the leader, when every host has advertised. Raising fails the job.

        Args:
            adverts: what the hosts that take part have advertised, by their names.
        """
        return {}

    @abstractmethod
    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        """The argument list that this host runs; None where it only serves others until the job is over.

        Called once, by the Trainer, when all hosts have agreed, before any server starts.

        Args:
            entry_point: the user's program; `entry_point.command(args)` runs it once.
            args: the program's arguments.
        """

    def env_vars(self) -> Mapping[str, str]:
        """More variables for the program.  Called once, by the Trainer, after `command`."""
        return {}

    def start_servers(self, launch: Launch) -> None:
        """Start the processes that have to run beside the program on this host.

        Called once, by the Trainer, after the code and its requirements are in place; the program starts when
        this has returned on all hosts. `launch(name, argv, env_vars=..., cwd=...)` is the only way to start one:
        the supervisor then watches it, fails the job when it ends before the programs do, and
        stops it once they have ended on all hosts, the last one first. Raising fails the job. Does nothing by default.
        """

    def completes_job(self) -> bool:
        """Whether the job lasts until the program has ended on this host.

        Called by the Trainer where `command` has returned something to run. By default it does. A program that
        does not decide is stopped, as a server is, when those that do have ended on all hosts; it fails the job
        when it ends before with another exit code than 0.
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
        """Whether nothing of the program runs on a host that only serves; asked when the job is stopped."""
        return True

    def check_exit(self, result: ProcessResult) -> FrameworkError | None:
        """The failure that the end of what `command` has started means; None where all is well.

        Called once, by the Trainer. By default any exit code but 0 is a failure.

        Args:
            result: how it ended.
        """
        return result.error() if result.exit_code else None

    def summary(self) -> Mapping[str, Any]:
        """What this host has to say of how it went, as JSON has it.

        Called once, by the Trainer, when the programs of all hosts have ended well. Raising fails the job.
        """
        return {}

    def verify(self, summaries: Mapping[str, Mapping[str, Any]]) -> None:
        """Look whether all went well.  Called once, by the Trainer, on the leader.  Raising fails the job.

        Args:
            summaries: what `summary` has returned on the hosts that take part, by their names.
        """

    def close(self) -> None:
        """Give back what this host holds, such as temporary files.  Called by the Trainer, always, at the end."""
