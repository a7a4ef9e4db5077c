"""Keeps programs within the kernel's limits: arguments, variables, open files.

Linux refuses (E2BIG) a single argument or variable of 128 KiB, and arguments and variables
that together exceed a quarter of the stack limit (execve(2)). Hundreds of hosts or long
hyperparameters reach both. A program also inherits its parent's limit of open files, which
the leader of many hosts raises for itself.
"""

from __future__ import annotations

import os

from sagemaker_framework import log
from sagemaker_framework.errors import FrameworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: The variable with the path of the file that holds variables too long to be passed.
SPILL_VARIABLE = "SM_ENV_FILE"

_LONGEST = 131072  # bytes of one "NAME=value", with its NUL
_MOST = 6 * 1024 * 1024  # bytes; the kernel's limit for any stack
_SLACK = 8192  # bytes that the kernel adds: the program's name, the auxiliary vector
_POINTER = 8

#: Prefixes of variables that may be moved to the file; others always stay.
_OURS = ("SM_", "SAGEMAKER_")


def fit(
    name: str, argv: Sequence[str], env: Mapping[str, str], reserve: int = 4096
) -> tuple[dict[str, str], str | None]:
    """Return the variables to start a program with; move those that are too long to a file.

    The file is a JSON object that only this user can read. `SM_ENV_FILE` names it. The caller removes it.

    Args:
        name: the program's name in messages.
        argv: the program and its arguments.
        env: all its variables.
        reserve: bytes to keep free for variables that are added later.

    Returns:
        The variables to pass, and the path of the file; None if everything fits.

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
    """Split variables into those that can be passed and those that must go to a file.

    Variables that are too long by themselves go to the file first, then the longest, until the rest fits.

    Args:
        argv: the program and its arguments, which always stay.
        env: all variables.
        reserve: bytes to keep free for variables that are added later.
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
    """The limit of open files that this process raises for itself while this is entered; its programs keep the old."""

    def __init__(self) -> None:
        self._before = self._own = (0, 0)

    def __enter__(self) -> None:
        from resource import RLIMIT_NOFILE, getrlimit

        self._before = getrlimit(RLIMIT_NOFILE)

    def __exit__(self, *error: object) -> None:
        from resource import RLIMIT_NOFILE, getrlimit

        self._own = getrlimit(RLIMIT_NOFILE)

    def without(self, start: Callable[[], int]) -> int:
        """Call `start` with the old limit; with the current one, if somebody else has changed it since."""
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
    """Write the variables to a JSON file that only this user can read, and return its path."""
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
