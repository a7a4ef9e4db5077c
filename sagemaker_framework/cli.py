"""The commands: `train`, which SageMaker calls, and `sagemaker-framework`."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def train(argv: Sequence[str] | None = None) -> int:
    """The `train` command.

    SageMaker starts a container with the one word `train`, so that word may come once
    more, from an image whose ENTRYPOINT is this command.

    Args:
        argv: the arguments; those of the process when not given.

    Returns:
        The exit code.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args != ["train"]:
        _parser("train", "Run the training job that this container was started for.").parse_known_args(args)
        from sagemaker_framework import log

        log.warning(f"ignored the arguments {log.redact.command(args)}: what to run is in the job's configuration")
    from sagemaker_framework import trainer

    return trainer.train()


def main(argv: Sequence[str] | None = None) -> int:
    """The `sagemaker-framework` command.

    Args:
        argv: the arguments; those of the process when not given.

    Returns:
        The exit code.
    """
    parser = _parser("sagemaker-framework", "Make and run Amazon SageMaker training containers.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("train", help="run the training job that this container was started for (the same as `train`)")
    parser.parse_args(argv)
    return train([])


def _parser(name: str, description: str):  # type: ignore[no-untyped-def]
    import argparse

    class Version(argparse.Action):
        """Prints the version; a class, because finding it out takes longer than anything else here."""

        def __call__(self, *args: object) -> None:
            from importlib.metadata import version

            print(f"sagemaker-framework {version('sagemaker-framework')}")
            parser.exit()

    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    return parser
