"""Passes on a program's output, byte for byte and at once, and remembers the end of it."""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque

_TRACEBACK = b"Traceback (most recent call last)"
_CHUNK = 65536
_PIPE_HOLDS = 1 << 20  # bytes; the most that Linux lets a process set

#: What poll() calls ready takes this much without blocking (PIPE_BUF on Linux).
_WRITE_AT_ONCE = 4096


class Relay:
    """Moves a program's output from a pipe to one of this process's own streams.

    Never blocks: while nobody reads that stream, the program waits as it would without a
    relay, and the launcher still listens for signals.

    Args:
        source: the pipe's reading end; the relay closes it.
        target: the file descriptor to write to.
        keep: the number of last bytes to remember.
    """

    def __init__(self, source: int, target: int, keep: int = 65536) -> None:
        self.source: int | None = source
        self._target = target
        self._keep = keep
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._pending = b""
        self._total = 0
        #: The times of the program's last output and of its last traceback (`time.monotonic`); 0 if there was none.
        self.written_at = self.raised_at = 0.0
        self._step = _CHUNK if stat.S_ISREG(os.fstat(target).st_mode) else _WRITE_AT_ONCE
        self._target_poll = select.poll()
        self._target_poll.register(target, select.POLLOUT)
        os.set_blocking(source, False)

    @property
    def tail(self) -> bytes:
        """The last bytes of the program's output."""
        return b"".join(self._tail)[-self._keep :]

    @property
    def awaits(self) -> tuple[int, int] | None:
        """The file descriptor and poll events that the relay waits for; None once the program has closed its end."""
        if self._pending:
            return self._target, select.POLLOUT
        return None if self.source is None else (self.source, select.POLLIN)

    def move(self) -> bool:
        """Pass on what is there, as far as possible without waiting.  Return True if anything was."""
        if not self._pending:
            self._read()
        moved = False
        while self._pending and self._target_poll.poll(0):
            try:
                written = os.write(self._target, self._pending[: self._step])
            except OSError:
                self._close()  # Nobody reads the stream any more: let the program notice, as without a relay.
                return False
            self._pending = self._pending[written:]
            moved = True
        return moved

    def _read(self) -> None:
        if self.source is None:
            return
        try:
            self._pending = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._pending = b""
        if not self._pending:
            self._close()
            return
        self._total += len(self._pending)
        self.written_at = time.monotonic()
        if _TRACEBACK in self._end_of_tail() + self._pending:
            self.raised_at = self.written_at
        self._tail.append(self._pending)
        self._tail_size += len(self._pending)
        while self._tail_size - len(self._tail[0]) >= self._keep:
            self._tail_size -= len(self._tail.popleft())

    def _end_of_tail(self) -> bytes:
        """Return the last bytes, as a traceback may begin in them that continues in the next piece."""
        return self._tail[-1][1 - len(_TRACEBACK) :] if self._tail else b""

    def _close(self) -> None:
        self._pending = b""
        if self.source is not None:
            os.close(self.source)
            self.source = None

    def finish(self, timeout: float) -> None:
        """Pass on what the program left in the pipe, and close it.

        Passes on no more than a pipe holds: processes that the program left running may write for ever.

        Args:
            timeout: seconds to wait for the reader of the stream, each time that it is full.
        """
        passed = 0
        while passed < _PIPE_HOLDS:
            before = self._total
            if not self.move() and not (self._pending and self._target_poll.poll(int(timeout * 1000))):
                break
            passed += self._total - before
        self._close()


def same_stream(one: int, other: int) -> bool:
    """Tell whether two file descriptors lead to the same pipe, socket or file (not a terminal)."""
    try:
        first, second = os.fstat(one), os.fstat(other)
    except OSError:
        return False
    return os.path.samestat(first, second) and not stat.S_ISCHR(first.st_mode)
