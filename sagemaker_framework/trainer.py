"""Trainer: the hooks of a training job, which authors of images override.

`train` makes one Trainer on each host and calls its hooks in the order in which they stand here (docs/hooks.md).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping

from sagemaker_framework import entry_point, strategies
from sagemaker_framework.config import environment
from sagemaker_framework.processes.signals import listening
from sagemaker_framework.workflow import train as workflow
from sagemaker_framework.workflow.run import JobRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.strategies.base import DistributionStrategy


class Trainer(ABC):
    """Runs one training job on this host.

    For the caller: `train()`. Must be overridden: nothing. May be overridden, in the order they are called:

    - `pre_train()`, `source()`, `entry_point()`, `strategy()`, `args()`, `env_vars()`
    - `post_train()`: only after the program has succeeded, and the servers are stopped
    - `cleanup()`: always, once `train()` has begun

    A hook raises a `FrameworkError` for what the job's owner can mend. Any other exception fails the job too, with its
    traceback in the failure file.

    Args:
        env: the job's environment, a `TrainingEnv`; another mapping with all its names becomes one.

    Attributes:
        framework_hyperparameters: names of hyperparameters that are for this image, as all that start with
            `sagemaker_` are: they are among `env.additional_framework_parameters`, and the program does not get them.
        parameter_servers: the strategy of jobs that ask for parameter servers; None where the image has none.
    """

    framework_hyperparameters: Collection[str] = ()
    parameter_servers: type[DistributionStrategy] | None = None

    def __init__(self, env: Mapping[str, Any]) -> None:
        self._env = environment.claim(environment.checked(env, self), self.framework_hyperparameters)

    def pre_train(self) -> None:
        """Prepare this host.

        Called first. Raise to fail the job before anything is fetched or started. Does nothing by default.
        """

    def source(self) -> str | None:
        """Choose where the user's code comes from: an S3 URI, a local folder or archive; None when it is there already.

        By default what the job says (`sagemaker_submit_directory`).
        """
        return self.env.module_dir

    def entry_point(self) -> EntryPoint:
        """Choose what to run.  Called once, when the user's code is in the code folder.

        By default what the job names (`SAGEMAKER_PROGRAM`, `sagemaker_program`).
        """
        return entry_point.choose(self.env.user_entry_point, self.env.code_dir)

    def strategy(self) -> DistributionStrategy:
        """Choose how the program is spread over hosts and processes.  Called once, when its requirements are installed.

        By default what the job's hyperparameters ask for.
        """
        return strategies.choose(self.env, self.parameter_servers)

    def args(self) -> list[str]:
        """Return the program's arguments.  Called once.  By default the user's hyperparameters."""
        return self.env.to_cmd_args()

    def env_vars(self) -> dict[str, str]:
        """Return the program's variables, besides those of the container.  Called once.

        By default `SM_*` and the others that docs/environment.md lists; extend `super().env_vars()`.
        """
        return self.env.to_env_vars()

    def post_train(self) -> None:
        """Finish what the program has done, such as converting its model.

        Called when the program has succeeded on this host and the servers are stopped. Raising fails the job.
        Does nothing by default.
        """

    def cleanup(self) -> None:
        """Give back what this host holds.

        Always called once `train()` has begun, also when it failed. Raising fails a job that has not failed before.
        Does nothing by default.
        """

    # -- for the caller ------------------------------------------------------------------------

    @property
    def env(self) -> TrainingEnv:
        """The job's environment."""
        return self._env

    def train(self) -> None:
        """Run the job on this host: the whole workflow.  Not meant to be overridden.

        Raises:
            FrameworkError: of the kind that says what failed; `ProgramError` when the program did.
            JobStopped: the job was asked to stop, before the program ran, or before it had ended well.
        """
        with listening() as signals:
            JobRun(self, signals).run()


def train(stops: Sequence[int] = ()) -> int:
    """Run the job that this container was started for, and report how it ended.

    Reads the configuration, finds the Trainer (`SAGEMAKER_TRAINING_MODULE`), runs it, and writes the success or
    failure file. What the `train` command does, for a process whose only job this is: signals are dealt with to its
    end.

    Args:
        stops: signals by which the job has been asked to stop already.

    Returns:
        The exit code for the service: the program's own; 128 + n when signal n ended it.
    """
    return workflow.train(Trainer, stops)
