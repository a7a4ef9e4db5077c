"""Writes one line to stderr for each event of the job.

Not by `logging`: importing that takes longer than everything else that the launcher does
before the program starts (benchmarks/launch_overhead.py). Authors may use `logging` in
their hooks.
"""

from __future__ import annotations

import os
import sys
import time

from sagemaker_framework.redaction import Redactor

DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
_NAMES = {DEBUG: "DEBUG", INFO: "INFO", WARNING: "WARNING", ERROR: "ERROR", CRITICAL: "CRITICAL"}

_PATIENCE = 5000  # milliseconds
_TURN = 0.5  # seconds
_AT_ONCE = 4096  # bytes; once poll() calls a pipe ready, it takes as many without blocking

#: Masks secrets in every line. Hide a value here as soon as it is known to be secret.
redact = Redactor()

_level = INFO
_reader_stalls = False
_lock_file: str | None = None


def parse_level(value: object) -> int:
    """Read a log level from a number or a name, as in `sagemaker_container_log_level`.

    Args:
        value: such as 20, "20", "INFO" or "info".

    Returns:
        The level as Python's `logging` numbers it, such as 20.

    Raises:
        ValueError: it is not a log level.
    """
    if (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    text = str(value).strip().upper()
    if text.isdecimal():
        return int(text)
    names = {name: level for level, name in _NAMES.items()}
    names.update(NOTSET=0, WARN=WARNING, FATAL=CRITICAL)
    if text not in names:
        raise ValueError(f"{value!r} is not a log level: use a number, or one of {', '.join(_NAMES.values())}")
    return names[text]


def set_level(level: int) -> None:
    """Write nothing below `level` from now on."""
    global _level
    _level = level


def debug(message: str) -> None:
    """Log a detail that helps only to find a fault."""
    _write(DEBUG, message)


def info(message: str) -> None:
    """Log what the job does."""
    _write(INFO, message)


def warning(message: str) -> None:
    """Log a thing that the job's owner probably does not want."""
    _write(WARNING, message)


def error(message: str) -> None:
    """Log why the job fails."""
    _write(ERROR, message)


def _write(level: int, message: str) -> None:
    if level < _level:
        return
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    line = "\\n".join(redact(message).splitlines())
    text = f"{stamp},{int(now * 1000) % 1000:03d} sagemaker-framework {_NAMES.get(level, level):<8} {line}\n"
    try:
        _deliver(text)
    except (OSError, ValueError, AttributeError):
        pass  # There is no stderr, or nobody reads it; the job goes on.


def _deliver(text: str) -> None:
    global _reader_stalls
    try:
        target = sys.stderr.fileno()
    except (OSError, ValueError):  # sys.stderr was replaced by something that is not a file.
        sys.stderr.write(text)
        return
    import select

    # A reader that stalls must not keep the job from ending. After a while the line is dropped; so are those that
    # follow, at once, until the reader goes on.
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    data = text.encode("utf-8", "backslashreplace")
    turn = _wait_for_turn()
    try:
        while data and poll.poll(0 if _reader_stalls else _PATIENCE):
            data = data[os.write(target, data[:_AT_ONCE]) :]
        _reader_stalls = bool(data)
    finally:
        if turn is not None:
            os.close(turn)


def take_turns(lock_file: str | None) -> None:
    """From now on, write lines only while no other process that shares a lock file does.

    Args:
        lock_file: the path of the file, which is locked with flock; None to write at any time.
    """
    global _lock_file
    _lock_file = lock_file


def _wait_for_turn() -> int | None:
    """Return the lock to close after the turn; None if there are no turns, or others take theirs for too long."""
    if _lock_file is None:
        return None
    import fcntl

    try:
        lock = os.open(_lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    until = time.monotonic() + _TURN
    while time.monotonic() < until:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except OSError:
            time.sleep(0.01)  # flock has no timeout, so poll.
    os.close(lock)
    return None
