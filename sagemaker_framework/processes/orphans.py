"""The children of this process: those it started, and the orphans that it adopts from them."""

from __future__ import annotations

import os

from sagemaker_framework import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Any

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # prctl(2)


def children() -> frozenset[int]:
    """Return the process IDs of this process's children, zombies included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return frozenset()
    import psutil

    return frozenset(child.pid for child in psutil.Process().children())


def is_child(pid: int) -> bool:
    """Tell whether a process is a child of this one that has not been reaped."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def reap(which: int) -> Iterator[tuple[int, int]]:
    """Reap the children that have ended: all of them for -1, those of process group n for -n.

    Yields:
        The process ID of each, and its exit code; -n if signal n killed it.
    """
    while True:
        try:
            pid, status = os.waitpid(which, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, os.waitstatus_to_exitcode(status)


def end_with_families(pids: Collection[int], kill: bool) -> None:
    """Send SIGTERM, or SIGKILL if `kill`, to processes and all their descendants."""
    import psutil

    family = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    for member in family + [grandchild for child in family for grandchild in _descendants(child)]:
        try:
            member.kill() if kill else member.terminate()
        except psutil.NoSuchProcess:
            continue


def _descendants(process: Any) -> list[Any]:
    """Return all descendants of a `psutil.Process`; none if it has just ended."""
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def adopt(adopt: bool) -> bool:
    """Make this process adopt descendants whose parent has ended, as PID 1 always does.

    Args:
        adopt: False to stop.

    Returns:
        True if it adopted them before.
    """
    if os.getpid() == 1:
        return True
    import ctypes

    before = ctypes.c_int()
    try:
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)
    except (OSError, AttributeError):
        log.debug("this system has no prctl: processes that leave their group are not followed")
    return bool(before.value)


def tell_of_end(pid: int, tell: Callable[[], None]) -> None:
    """Call `tell`, in a thread of its own, once a child has ended; do not reap the child.

    For threads other than the main thread: Python handles SIGCHLD in that alone.
    """
    from threading import Thread

    def wait() -> None:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # It has been reaped already.
        tell()

    Thread(target=wait, name=f"end of process {pid}", daemon=True).start()
