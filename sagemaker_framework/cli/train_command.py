"""The `train` command, which SageMaker calls."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: Sequence[str] | None = None) -> int:
    """The `train` command.

    SageMaker starts a container with the one word `train`, so that word may come once
    more, from an image whose ENTRYPOINT is this command.

    Args:
        argv: the arguments; those of the process when not given.

    Returns:
        The exit code.
    """
    stops = _note_requests_to_stop()
    _open_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args != ["train"]:
        from sagemaker_framework.cli.arguments import parser

        parser("train", "Run the training job that this container was started for.").parse_known_args(args)
        from sagemaker_framework import log

        log.warning(f"ignored the arguments {log.redact.command(args)}: what to run is in the job's configuration")
    from sagemaker_framework import trainer

    code = trainer.train(stops)
    _leave_threads(code)
    return code


def _note_requests_to_stop() -> list[int]:
    """Return the signals by which the job is asked to stop; it grows until `trainer.train` sets handlers of its own."""
    if TYPE_CHECKING:
        import signal
    else:
        import _signal as signal  # The module around it takes longer to load than this is to last.

    noted: list[int] = []
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda signum, frame: noted.append(signum))
    return noted


def _open_streams() -> None:
    """Have stdin, stdout and stderr lead somewhere: what is opened next would get the number of one that is closed."""
    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _leave_threads(code: int) -> None:
    """End this process, if the image's own module has left threads for whose end Python would wait."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    left = [each.name for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    if left:
        from sagemaker_framework import log

        log.warning(f"the image's training module left threads running, which end with the job: {', '.join(left)}")
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
