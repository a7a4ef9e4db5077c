"""A pipe by which other threads and signal handlers wake a poll() or select() of this process."""

from __future__ import annotations

import os


class Wakeup:
    """A pipe from this process to itself.  A loop waits for its reading end, `fileno()`."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        for end in (self._reading, self._writing):
            os.set_blocking(end, False)

    def fileno(self) -> int:
        """Return the file descriptor to wait for."""
        return self._reading

    @property
    def writing(self) -> int:
        """The writing end, for `signal.set_wakeup_fd`."""
        return self._writing

    def wake(self) -> None:
        """Wake the loop.  Never blocks; may be called in any thread, and by a signal handler."""
        try:
            os.write(self._writing, b"\0")
        except OSError:
            pass  # It is awake already, or gone.

    def drain(self) -> None:
        """Forget all calls so far."""
        try:
            while os.read(self._reading, 4096):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close both ends; later calls wake nobody."""
        ends = (self._reading, self._writing)
        self._reading = self._writing = -1
        for end in ends:
            os.close(end)
