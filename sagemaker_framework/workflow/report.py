"""Tells the service, and whoever looks at the folder, how the job ended.

SageMaker shows the first 1,024 characters of output/failure as the job's FailureReason
(DescribeTrainingJob, the SageMaker API reference), so those are what we write for.
"""

from __future__ import annotations

import os

from sagemaker_framework import log
from sagemaker_framework.excerpts import shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sagemaker_framework.config.paths import Paths

#: Characters of the failure file that SageMaker shows.
SHOWN = 1024

_RESERVED = 4096  # bytes


class Report:
    """The success and failure files of one job.

    Room for a failure file is set aside at the start, so that a job that fails because
    the disk is full can still say so.

    Args:
        paths: where the job is.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._reserve = os.path.join(paths.output, ".failure.reserved")
        self._notes: list[tuple[Callable[[str], None], str]] = []

    def begin(self) -> None:
        """Remove what an earlier job left in the same folder, and set room aside."""
        for left in (self._paths.failure, *self._paths.success_markers):
            if _remove(left):
                log.info(f"removed {left}, which an earlier job left")
        try:
            os.makedirs(self._paths.output, exist_ok=True)
            with open(self._reserve, "wb") as file:
                file.write(b" " * _RESERVED)
        except OSError as error:
            log.debug(f"no room for a failure file could be set aside: {error}")

    def success(self) -> None:
        """Say that the job has succeeded."""
        _remove(self._reserve)
        for marker in self._paths.success_markers:
            try:
                os.makedirs(os.path.dirname(marker), exist_ok=True)
                with open(marker, "wb"):
                    pass
            except OSError as error:
                self._notes.append((log.warning, f"{marker} could not be written: {error.strerror}"))

    def stopped(self) -> None:
        """Say nothing: the job was stopped on request, neither finished nor failed."""
        _remove(self._reserve)

    def failure(self, cause: str, detail: str = "") -> None:
        """Say why the job has failed, unless the program has said so itself in the same file.

        Args:
            cause: the cause, which becomes the first line.
            detail: what helps to understand it, such as the program's last traceback.
        """
        for marker in self._paths.success_markers:
            _remove(marker)
        if _has_content(self._paths.failure):
            self._notes.append((log.info, f"{self._paths.failure} is the program's own: kept"))
            _remove(self._reserve)
            return
        text = failure_text(log.redact(cause), log.redact(detail))
        try:
            self._write(text)
        except OSError as error:
            self._notes.append((log.error, f"{self._paths.failure} could not be written: {error.strerror}"))

    def tell(self) -> None:
        """Say in the log what there is to say of the files.

        Later than they are written: who stalls in reading the log must not keep them from being there.
        """
        for say, note in self._notes:
            say(note)
        self._notes.clear()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        os.makedirs(self._paths.output, exist_ok=True)
        # First what fits into the room set aside, which a full disk cannot refuse.
        with open(self._reserve, "r+b" if os.path.exists(self._reserve) else "wb", buffering=0) as file:
            size = file.write(data[:_RESERVED])
            try:
                while size < len(data):
                    size += file.write(data[size:])
            except OSError:
                self._notes.append((log.debug, "the failure file is cut: the disk is full"))
            file.truncate(size)
        os.replace(self._reserve, self._paths.failure)


def failure_text(cause: str, detail: str) -> str:
    """The content of a failure file: the cause first, and in the first 1,024 characters the best of the detail.

    What those cut from the detail stands in full behind them.
    """
    cause = "\\n".join(cause.strip().splitlines())
    if len(cause) > SHOWN // 2:
        cut = SHOWN // 2 - 3
        detail = detail or f"...{cause[cut:]}"
        cause = f"{cause[:cut]}..."
    whole = f"{cause}\n{detail}".rstrip() + "\n"
    if len(whole) <= SHOWN:
        return whole
    shown = f"{cause}\n{shorten(detail, SHOWN - len(cause) - 1)}"
    return f"{shown:<{SHOWN}}\n\n{detail}\n"


def _has_content(file: str) -> bool:
    try:
        return os.path.isfile(file) and os.path.getsize(file) > 0
    except OSError:
        return False


def _remove(file: str) -> bool:
    try:
        os.unlink(file)
    except OSError:
        return False
    return True
