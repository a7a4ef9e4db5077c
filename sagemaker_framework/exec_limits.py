"""Keeps what a program is started with inside the kernel's limits.

Linux refuses (E2BIG) a single argument or variable of 128 KiB, and arguments and
variables of more than a quarter of the stack limit together (execve(2)). Hundreds of
hosts or long hyperparameters reach both.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONGEST = 131072  # bytes of one "NAME=value", with its NUL
_MOST = 6 * 1024 * 1024  # bytes; the kernel's own bound, however large the stack
_SLACK = 8192  # for what the kernel adds: the program's name, the auxiliary vector
_POINTER = 8

#: Only these are ours to leave out; a program reads them from a file instead.
_OURS = ("SM_", "SAGEMAKER_")


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


def _size(text: str) -> int:
    return len(os.fsencode(text)) + 1


def _room() -> int:
    try:
        limit = os.sysconf("SC_ARG_MAX")
    except (ValueError, OSError):
        limit = 131072
    return (_MOST if limit <= 0 else min(limit, _MOST)) - _SLACK
