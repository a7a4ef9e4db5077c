"""Keeps what a program is started with inside the kernel's limits.

Linux refuses (E2BIG) a single argument or variable of 128 KiB, and arguments and
variables of more than a quarter of the stack limit together (execve(2)). Hundreds of
hosts or long hyperparameters reach both. And it gives a program the limit of open files
that its parent has, which the leader of many hosts raises for itself.
"""

from __future__ import annotations

import os

from sagemaker_framework import log
from sagemaker_framework.errors import FrameworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: Names the file that holds the variables that were too long to be passed.
SPILL_VARIABLE = "SM_ENV_FILE"

_LONGEST = 131072  # bytes of one "NAME=value", with its NUL
_MOST = 6 * 1024 * 1024  # bytes; the kernel's own bound, however large the stack
_SLACK = 8192  # for what the kernel adds: the program's name, the auxiliary vector
_POINTER = 8

#: Only these are ours to leave out; a program reads them from a file instead.
_OURS = ("SM_", "SAGEMAKER_")


def fit(
    name: str, argv: Sequence[str], env: Mapping[str, str], reserve: int = 4096
) -> tuple[dict[str, str], str | None]:
    """Variables that a program can be started with, and the file that holds those that are too long, if any.

    The file is a JSON object that only this user can read, which `SM_ENV_FILE` names; it is the caller's to remove.

    Args:
        name: what to call the program in messages.
        argv: the program and its arguments.
        env: all variables.
        reserve: bytes to keep free for what is added afterwards.

    Raises:
        FrameworkError: the file cannot be written.
    """
    passed, moved = split(argv, env, reserve)
    if not moved:
        return passed, None
    passed[SPILL_VARIABLE] = file = _write_private(moved)
    log.warning(
        f"too long to be passed to {name} as variables: {', '.join(sorted(moved))}; "
        f"{SPILL_VARIABLE} names a JSON file that holds them"
    )
    return passed, file


def split(argv: Sequence[str], env: Mapping[str, str], reserve: int = 0) -> tuple[dict[str, str], dict[str, str]]:
    """Which variables can be passed, and which have to go to a file instead.

    Those that are too long by themselves go first, then the longest, until the rest fits.

    Args:
        argv: the program and its arguments, which always stay.
        env: all variables.
        reserve: bytes to keep free for a variable that is added afterwards.
    """
    sizes = {name: _size(name) + _size(value) for name, value in env.items()}
    total = sum(_size(arg) + _POINTER for arg in argv) + sum(size + _POINTER for size in sizes.values())
    room = _room() - reserve
    passed = dict(env)
    moved = {}
    for name in sorted((name for name in env if name.startswith(_OURS)), key=sizes.__getitem__, reverse=True):
        if sizes[name] <= _LONGEST and total <= room:
            break
        moved[name] = passed.pop(name)
        total -= sizes[name] + _POINTER
    return passed, moved


class OwnLimit:
    """The limit of open files that this process raises for itself, while this is entered, and not for its programs."""

    def __init__(self) -> None:
        self._before = self._own = (0, 0)

    def __enter__(self) -> None:
        from resource import RLIMIT_NOFILE, getrlimit

        self._before = getrlimit(RLIMIT_NOFILE)

    def __exit__(self, *error: object) -> None:
        from resource import RLIMIT_NOFILE, getrlimit

        self._own = getrlimit(RLIMIT_NOFILE)

    def without(self, start: Callable[[], int]) -> int:
        """Call `start` under the limit of before; under that of now, if somebody else has changed it since."""
        if self._own == self._before:
            return start()
        from resource import RLIMIT_NOFILE, getrlimit, setrlimit

        if getrlimit(RLIMIT_NOFILE) != self._own:
            return start()
        setrlimit(RLIMIT_NOFILE, self._before)
        try:
            return start()
        finally:
            setrlimit(RLIMIT_NOFILE, self._own)


def _size(text: str) -> int:
    return len(os.fsencode(text)) + 1


def _room() -> int:
    try:
        limit = os.sysconf("SC_ARG_MAX")
    except (ValueError, OSError):
        limit = 131072
    return (_MOST if limit <= 0 else min(limit, _MOST)) - _SLACK


def _write_private(variables: Mapping[str, str]) -> str:
    """A file that only this user can read, with the variables as a JSON object."""
    import json
    import tempfile

    try:
        handle, path = tempfile.mkstemp(prefix="sm-env-", suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(variables, file)
    except OSError as error:
        raise FrameworkError(
            f"the file for variables that are too long ({SPILL_VARIABLE}) cannot be written: {error.strerror}: "
            f"{error.filename or tempfile.gettempdir()}"
        ) from error
    return path
