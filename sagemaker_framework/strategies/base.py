"""DistributionStrategy: where and how the user's program runs."""

from __future__ import annotations

from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.environment import TrainingEnv
    from sagemaker_framework.process import Process

    #: Starts a server: `launch(name, argv, env=None, cwd=None)`.
    Launch = Callable[..., Process]


class DistributionStrategy(ABC):
    """Spreads one entry point over the job's hosts and processes.

    Must be overridden:

    - `command(entry_point, args)`: what this host runs

    May be overridden, in the order they are called:

    - `env_vars()`: variables that the program gets besides the job's own
    - `start_servers(launch)`: helper processes beside the program

    Args:
        env: the job's environment, `TrainingEnv` or another mapping with its names.
    """

    def __init__(self, env: Mapping[str, Any]) -> None:
        self._values = env

    @property
    def env(self) -> TrainingEnv:
        """The job's environment."""
        from sagemaker_framework.environment import view

        self._values = view(self._values)
        return self._values

    @abstractmethod
    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str]:
        """The argument list that this host runs.

        Called once, by the Trainer, when the code and its requirements are in place, before any server starts.

        Args:
            entry_point: the user's program; `entry_point.command(args)` runs it once.
            args: the program's arguments.
        """

    def start_servers(self, launch: Launch) -> None:
        """Start the processes that have to run beside the program on this host.

        Called once, by the Trainer, after the code and its requirements are in place and
        before the program starts. `launch(name, argv, env=..., cwd=...)` is the only way to start one:
        the supervisor then watches it, fails the job when it ends before the program does, and
        stops it afterwards, the last one first. Raising fails the job. Does nothing by default.
        """

    def env_vars(self) -> Mapping[str, str]:
        """More variables for the program.  Called once, by the Trainer, after `command`."""
        return {}
