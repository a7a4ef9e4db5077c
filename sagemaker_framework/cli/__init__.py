"""The commands: `train`, which SageMaker calls, and `sagemaker-framework`.

Images and console scripts name the two functions here. Each loads its code when it is called.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def train(argv: Sequence[str] | None = None) -> int:
    """Run the `train` command and return its exit code.

    Args:
        argv: the arguments; those of the process if None.
    """
    from sagemaker_framework.cli import train_command

    return train_command.run(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `sagemaker-framework` command and return its exit code.

    Args:
        argv: the arguments; those of the process if None.
    """
    from sagemaker_framework.cli import framework_command

    return framework_command.run(argv)
