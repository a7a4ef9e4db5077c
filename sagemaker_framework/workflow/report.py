"""Writes the success or failure file, by which SageMaker learns how the job ended.

SageMaker shows the first 1,024 characters of output/failure as the job's FailureReason
(DescribeTrainingJob, the SageMaker API reference), so the file is written for those.
"""

from __future__ import annotations

import os

from sagemaker_framework import log
from sagemaker_framework.excerpts import shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sagemaker_framework.config.paths import Paths

#: The number of characters of the failure file that SageMaker shows.
SHOWN = 1024

_RESERVED = 4096  # bytes


class Report:
    """The success and failure files of one job.

    Disk space for a failure file is reserved at the start, so that a job can still report
    that it failed because the disk is full.

    Args:
        paths: the paths of the job's files.
    """

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._reserve = os.path.join(paths.output, ".failure.reserved")
        self._notes: list[tuple[Callable[[str], None], str]] = []

    def begin(self) -> None:
        """Remove the files of an earlier job from the folder, and reserve disk space."""
        for left in (self._paths.failure, *self._paths.success_markers):
            if _remove(left):
                log.info(f"removed {left}, which an earlier job left")
        try:
            os.makedirs(self._paths.output, exist_ok=True)
            with open(self._reserve, "wb") as file:
                file.write(b" " * _RESERVED)
        except OSError as error:
            log.debug(f"no disk space could be reserved for a failure file: {error}")

    def success(self) -> None:
        """Write the success files."""
        _remove(self._reserve)
        for marker in self._paths.success_markers:
            try:
                os.makedirs(os.path.dirname(marker), exist_ok=True)
                with open(marker, "wb"):
                    pass
            except OSError as error:
                self._notes.append((log.warning, f"{marker} could not be written: {error.strerror}"))

    def stopped(self) -> None:
        """Write nothing: the job was stopped on request, and neither finished nor failed."""
        _remove(self._reserve)

    def failure(self, cause: str, detail: str = "") -> None:
        """Write the failure file, unless the program has written one itself.

        Args:
            cause: the cause, in one line, which becomes the first line of the file.
            detail: further lines that help, such as the program's last traceback.
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
        """Log the messages about the files.

        They are logged after the files are written, so that a slow reader of the log cannot delay the files.
        """
        for say, note in self._notes:
            say(note)
        self._notes.clear()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        os.makedirs(self._paths.output, exist_ok=True)
        # First, the content that fits into the reserved space, which a full disk cannot refuse.
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
    """Return the content of a failure file: the cause, and within the first 1,024 characters the best of the detail.

    The whole detail follows if it had to be cut.
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
