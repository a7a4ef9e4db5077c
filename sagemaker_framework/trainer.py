"""Trainer: the hooks of a training job, which authors of images override.

`train` makes one Trainer on each host and calls its hooks in the order in which they stand here.  docs/hooks.md lists
their contracts.
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

    For the caller: `train()`.  No hook must be overridden.  These may be, in the order they are called:

    - `pre_train()`, `source()`, `entry_point()`, `strategy()`, `args()`, `env_vars()`
    - `post_train()`: only after the program has succeeded and the servers are stopped
    - `cleanup()`: always, once `train()` has begun

    A hook raises a `FrameworkError` for what the job's owner can fix. Any other exception fails the job too, with its
    traceback in the failure file.

    Args:
        env: the job's environment, a `TrainingEnv`; another mapping with all its names is turned into one.

    Attributes:
        framework_hyperparameters: lists hyperparameters that configure the image; like those that start with
            `sagemaker_`, they go to `env.additional_framework_parameters` and are not passed to the program.
        parameter_servers: the strategy of jobs that ask for parameter servers; None if the image has none.
    """

    framework_hyperparameters: Collection[str] = ()
    parameter_servers: type[DistributionStrategy] | None = None

    def __init__(self, env: Mapping[str, Any]) -> None:
        self._env = environment.claim(environment.checked(env, self), self.framework_hyperparameters)

    def pre_train(self) -> None:
        """Prepare this host.

        Called first. Does nothing by default. Raise to fail the job before anything is fetched or started.
        """

    def source(self) -> str | None:
        """Return the source of the user's code: an S3 URI, a local folder or archive; None if it is there already.

        Called once. By default what the job says (`sagemaker_submit_directory`).
        """
        return self.env.module_dir

    def entry_point(self) -> EntryPoint:
        """Return the program to run.

        Called once, when the user's code is in the code folder. By default what the job says (`SAGEMAKER_PROGRAM`,
        `sagemaker_program`).
        """
        return entry_point.choose(self.env.user_entry_point, self.env.code_dir)

    def strategy(self) -> DistributionStrategy:
        """Return the way in which the program is spread over hosts and processes.

        Called once, when the requirements are installed. By default what the job's hyperparameters ask for.
        """
        return strategies.choose(self.env, self.parameter_servers)

    def args(self) -> list[str]:
        """Return the program's arguments.  Called once.  By default the user's hyperparameters as `--name value`."""
        return self.env.to_cmd_args()

    def env_vars(self) -> dict[str, str]:
        """Return the program's environment variables, except the container's.

        Called once. By default `SM_*` and the others that docs/environment.md lists; extend `super().env_vars()`.
        """
        return self.env.to_env_vars()

    def post_train(self) -> None:
        """Finish the program's work, such as converting its model.

        Called once the program has succeeded on this host and the servers are stopped. Does nothing by default.
        Raise to fail the job.
        """

    def cleanup(self) -> None:
        """Release what this host holds.

        Always called once `train()` has begun, even if it failed. Does nothing by default. Raise to fail a job that has
        not failed before.
        """

    # -- for the caller ------------------------------------------------------------------------

    @property
    def env(self) -> TrainingEnv:
        """The job's environment."""
        return self._env

    def train(self) -> None:
        """Run the whole workflow of the job on this host.  Not meant to be overridden.

        Raises:
            FrameworkError: the job failed; `ProgramError` if the program did.
            JobStopped: the job was asked to stop before all programs had ended well.
        """
        with listening() as signals:
            JobRun(self, signals).run()


def train(stops: Sequence[int] = ()) -> int:
    """Run the job that this container was started for, and report its outcome.

    Reads the configuration, makes the Trainer (`SAGEMAKER_TRAINING_MODULE`), runs it, and writes the success or failure
    file. Made for a process whose only purpose is the job, such as the `train` command: it handles signals until the
    end of the process.

    Args:
        stops: signals by which the job was asked to stop already.

    Returns:
        The exit code for the service: the program's own; 128 + n if signal n killed it.
    """
    return workflow.train(Trainer, stops)
