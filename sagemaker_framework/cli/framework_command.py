"""The `sagemaker-framework` command."""

from __future__ import annotations

from sagemaker_framework.cli import train_command
from sagemaker_framework.cli.arguments import parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: Sequence[str] | None = None) -> int:
    """Run the `sagemaker-framework` command.

    Args:
        argv: the arguments; those of the process if None.

    Returns:
        The exit code.
    """
    options = parser("sagemaker-framework", "Make and run Amazon SageMaker training containers.")
    commands = options.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("train", help="run the training job that this container was started for (the same as `train`)")
    options.parse_args(argv)
    return train_command.run([])
