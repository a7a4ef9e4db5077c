"""The `train` command, which SageMaker calls."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(argv: Sequence[str] | None = None) -> int:
    """Run the `train` command.

    SageMaker starts a container with the one argument `train`. In an image whose ENTRYPOINT
    is this command that word arrives here, so it is accepted.

    Args:
        argv: the arguments; those of the process if None.

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
    """Return a list that collects requests to stop, by signal number, until `trainer.train` sets its own handlers."""
    if TYPE_CHECKING:
        import signal
    else:
        import _signal as signal  # The signal module is slower to load.

    noted: list[int] = []
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda signum, frame: noted.append(signum))
    return noted


def _open_streams() -> None:
    """Open closed standard streams as /dev/null, so that no other file gets the number 0, 1 or 2."""
    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _leave_threads(code: int) -> None:
    """End this process at once if the image's module left threads running, for which Python would wait."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    left = [each.name for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]
    if left:
        from sagemaker_framework import log

        log.warning(f"the image's training module left threads running; they end with the job: {', '.join(left)}")
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        os._exit(code)
