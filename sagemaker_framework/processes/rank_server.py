"""The ranks of one host: tells them what to run, and records how they end.

A launcher, such as mpirun or torchrun, starts `Ranks.command` for each rank. That is a wrapper (`rank_wrapper.py`). It
connects to the unix socket of its host's `train`, which tells it what to run. So no argument and no variable of the
program is on the launcher's command line, in its environment on other hosts, or in a file.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from sagemaker_framework import log, timing
from sagemaker_framework.config import hardware
from sagemaker_framework.errors import FrameworkError, ProgramError
from sagemaker_framework.processes import limits
from sagemaker_framework.processes.process import ProcessResult
from sagemaker_framework.processes.rank_wrapper import pack, unpack
from sagemaker_framework.wakeup import Wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    import selectors
    import socket
    import threading
    from collections.abc import Callable, Mapping, Sequence

_LAUNCHERS_OWN = 65536  # bytes; a launcher adds no more variables than that
_REPORT = 10.0  # seconds between two reports that no rank has come


class RankResult:
    """The end of a rank.  `LauncherStrategy.is_secondary` is given one.  Times are seconds of `time.monotonic`.

    For authors: `error(host, name, stopped_by)`, `has_raised`, `failed_by_itself`.

    Attributes:
        rank: its number in the whole job, from 0.
        returncode: its exit code; -n if signal n killed it.
        ended_at: the time of its end.
        raised_at: the time of its last traceback; 0 if it wrote none.
        asked_at: the time at which it was sent a signal, by the job, or by the launcher because of another rank; 0 if
            it was sent none.
        error_file: the content of the file that torch's `@record` writes; empty if there is none.
        tail: the last 64 KiB that it wrote to stderr.
        out_of_memory: True if the kernel killed processes of this container meanwhile, for lack of memory.
    """

    def __init__(
        self,
        rank: int,
        returncode: int,
        ended_at: float,
        error_file: bytes,
        tail: bytes,
        out_of_memory: bool,
        *,
        raised_at: float = 0.0,
        asked_at: float = 0.0,
    ) -> None:
        self.rank = rank
        self.returncode = returncode
        self.ended_at = ended_at
        self.raised_at = raised_at
        self.asked_at = asked_at
        self.error_file = error_file
        self.tail = tail
        self.out_of_memory = out_of_memory

    @property
    def has_raised(self) -> bool:
        """True if its stderr ends with an exception."""
        return b"Traceback (most recent call last)" in self.tail

    @property
    def failed_by_itself(self) -> bool:
        """True if it failed, and not only because it was asked to end.

        A rank that raises an exception and is slow to end may bring down others, because of which it is then asked to
        end. It still failed by itself.
        """
        return self.returncode != 0 and (not self.asked_at or 0 < self.raised_at < self.asked_at)

    @property
    def was_ended(self) -> bool:
        """True if it ended by the signal that asked it to: what it had raised before, it may have caught."""
        return bool(self.asked_at) and self.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)

    def error(self, host: str, name: str, stopped_by: int | None = None) -> ProgramError:
        """Return the failure of the rank, with the cause that it wrote itself; raise it or return it.

        Args:
            host: the name of the rank's host.
            name: the program's name in messages.
            stopped_by: the signal by which the job was asked to stop, or None.
        """
        tail = _recorded(self.error_file) or self.tail
        error = ProcessResult(name, self.returncode, tail, stopped_by, self.out_of_memory).error()
        failure = ProgramError(f"{host}, rank {self.rank}: {error}", error.exit_code, error.detail)
        failure.at = self.raised_at if self.raised_at and "Traceback" in error.detail else self.ended_at
        failure.process = "program"
        return failure


class _Connected:
    """A wrapper that has connected, and its rank."""

    def __init__(self) -> None:
        self.received = b""
        self.rank = 0
        self.is_told = False  # what to run
        self.pid = 0  # of the rank; 0 until it has started


class Ranks:
    """The ranks that a launcher starts on this host.  `LauncherStrategy.ranks` returns them.

    For authors: `command`, `ended`, `running`, `world_size`. The rest is for `LauncherStrategy`.

    Attributes:
        address: the path of the unix socket that they connect to.
        ended: the ends of ranks, in order; a rank that was started again has several.
        world_size: the number of ranks in the whole job, as the launcher tells them; None until the first has come.
        on_idle: called in a thread of this object, whenever the last running rank has ended.

    Args:
        folder: a private folder for the socket.
        host: the name of this host.
    """

    ended: list[RankResult]
    world_size: int | None

    def __init__(self, folder: str, host: str) -> None:
        self.address = os.path.join(folder, "ranks")
        self.ended = []
        self.world_size = None
        self.on_idle: Callable[[], None] = lambda: None
        self._host = host
        self._order = b""
        self._on_failure: Callable[[RankResult], None] = lambda ended: None
        self._oom_kills = 0
        self._spilled: str | None = None
        self._connected: dict[socket.socket, _Connected] = {}
        self._signals: list[int] = []  # those that are still to be sent
        self._begun = 0.0
        self._on_silence: Callable[[float], None] | None = None  # None once a rank has come, too
        self._is_stopping = False
        self._is_closing = False
        self._wakeup: Wakeup | None = None
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._idle: threading.Event | None = None

    @property
    def command(self) -> list[str]:
        """The argument list that the launcher starts for each rank."""
        from sagemaker_framework.processes import rank_wrapper

        # The wrapper needs neither the site's packages nor the job's variables about Python.
        return [sys.executable, "-I", "-S", rank_wrapper.__file__, self.address]

    @property
    def running(self) -> int:
        """The number of ranks that are running or starting."""
        return len(self._connected)

    def serve(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        cwd: str,
        signals_group: bool,
        on_failure: Callable[[RankResult], None],
    ) -> None:
        """Tell the ranks that come from now on to run a program.

        Args:
            name: the program's name in messages.
            argv: the program and its arguments.
            env: all of its variables, except the launcher's.
            cwd: the folder to run it in.
            signals_group: see `Process`.
            on_failure: called in a thread of this object, for each rank that failed without having been asked to end.

        Raises:
            FrameworkError: the socket, or the file for variables that are too long, cannot be made.
        """
        import selectors
        import socket
        import threading

        passed, self._spilled = limits.fit(name, argv, env, _LAUNCHERS_OWN)
        variables = [f"{variable}={value}" for variable, value in passed.items()]
        order = [self._host, cwd, str(int(signals_group)), str(len(argv)), *argv, *variables]
        self._order = pack([os.fsencode(field) for field in order])
        self._on_failure = on_failure
        self._oom_kills = hardware.oom_kills()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(self.address)
        except OSError as error:
            raise FrameworkError(f"the socket for ranks cannot be made: {self.address}: {error}") from error
        log.take_turns(f"{self.address}.lock")  # As ranks do, so that lines stay whole.
        self._listener.listen(1024)
        self._listener.setblocking(False)
        self._wakeup = Wakeup()
        selector = selectors.DefaultSelector()
        selector.register(self._wakeup, selectors.EVENT_READ)
        selector.register(self._listener, selectors.EVENT_READ)
        self._idle = threading.Event()
        self._idle.set()
        thread = threading.Thread(target=self._run, args=(selector,), name="ranks", daemon=True)
        thread.start()
        self._thread = thread  # Now it can be joined, also if this is interrupted.

    def await_first(self, on_silence: Callable[[float], None]) -> None:
        """Call `on_silence` in a thread of this object, every 10 s until the first rank comes.

        Args:
            on_silence: called with the seconds that have passed.
        """
        self._begun = time.monotonic()
        self._on_silence = on_silence
        self._wake()

    def signal(self, signum: int) -> None:
        """Send a signal to all ranks.  From the first on, none of the launcher's reach them, and no more ranks start.

        Does not wait; a signal handler may call it.
        """
        self._is_stopping = True
        self._signals.append(signum)
        self._wake()

    def settle(self, timeout: float) -> bool:
        """Wait until no rank is running.  Return False if one still is after so many seconds."""
        return self._idle is None or self._idle.wait(timeout)

    def close(self) -> None:
        """Kill the ranks that still run, and close the socket."""
        log.take_turns(None)
        if self._wakeup is not None and self._thread is not None:
            self._is_closing = True
            self._wake()
            self._thread.join()
            self._wakeup.close()
            self._wakeup = None
        if self._spilled:
            os.unlink(self._spilled)
            self._spilled = None

    def _wake(self) -> None:
        if self._wakeup is not None:
            self._wakeup.wake()

    # -- the thread ------------------------------------------------------------------------------

    def _run(self, selector: selectors.BaseSelector) -> None:
        import socket

        assert self._listener is not None
        assert self._wakeup is not None
        assert self._idle is not None
        while not self._is_closing:
            ready = selector.select(_REPORT if self._on_silence else None)
            if not ready and self._on_silence and not self._is_stopping:
                self._on_silence(time.monotonic() - self._begun)
            for key, _ in ready:
                if key.fileobj is self._listener:
                    self._accept(selector)
                elif isinstance(key.fileobj, socket.socket):
                    self._hear(key.fileobj, selector)
                else:
                    self._wakeup.drain()
            while self._signals:
                self._send(bytes([self._signals.pop(0)]))
            if not self._connected and not self._idle.is_set():
                self._idle.set()
                self.on_idle()
        self._send(bytes([signal.SIGKILL]))
        self._listener.close()
        os.unlink(self.address)
        selector.close()
        for connection in self._connected:
            connection.close()  # The rank dies with its connection.
        self._connected.clear()

    def _send(self, data: bytes) -> None:
        for connection, connected in self._connected.items():
            try:
                if connected.is_told:
                    connection.send(data)
            except OSError:
                pass  # It has just ended.

    def _accept(self, selector: selectors.BaseSelector) -> None:
        import selectors

        assert self._listener is not None
        assert self._idle is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.settimeout(timing.WRAPPER_LISTENS)
        self._connected[connection] = _Connected()
        self._idle.clear()
        selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket, selector: selectors.BaseSelector) -> None:
        connected = self._connected[connection]
        try:
            data = connection.recv(1 << 18)
        except OSError:
            data = b""
        connected.received += data
        while (message := unpack(connected.received)) is not None:
            connected.received = connected.received[4 + int.from_bytes(connected.received[:4], "big") :]
            if not self._take(connection, connected, message):
                data = b""
        if not data:
            selector.unregister(connection)
            connection.close()
            self._lose(connected)
            del self._connected[connection]

    def _take(self, connection: socket.socket, connected: _Connected, message: list[bytes]) -> bool:
        """Handle a wrapper's message.  Return False if its connection must be closed."""
        kind, *rest = message
        if kind == b"rank":
            connected.rank = int(rest[0])
            self.world_size = int(rest[1]) or self.world_size
            self._on_silence = None
            connected.is_told = not self._is_stopping and self._tell(connection)
            return connected.is_told
        if kind == b"started":
            connected.pid = int(rest[0])
            log.debug(f"rank {connected.rank} has process ID {connected.pid}")
            return True
        returncode, ended_at, raised_at, asked_at, error_file, tail = rest
        connected.pid = 0
        times = {"raised_at": float(raised_at), "asked_at": float(asked_at)}
        out_of_memory = hardware.oom_kills() > self._oom_kills
        self._end(
            RankResult(connected.rank, int(returncode), float(ended_at), error_file, tail, out_of_memory, **times)
        )
        return False

    def _tell(self, connection: socket.socket) -> bool:
        import socket
        from array import array

        streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [1, 2]))]
        try:
            sent = connection.sendmsg([self._order], streams)
            connection.sendall(self._order[sent:])
        except OSError as error:
            log.error(f"a rank could not be told what to run: {error}")
            return False
        return True

    def _lose(self, connected: _Connected) -> None:
        """Record the end of a rank whose wrapper was killed before it could report."""
        if not connected.pid:
            return
        try:
            os.killpg(connected.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        now = time.monotonic()
        out_of_memory = hardware.oom_kills() > self._oom_kills
        asked_at = now if self._is_stopping else 0.0
        self._end(RankResult(connected.rank, -signal.SIGKILL, now, b"", b"", out_of_memory, asked_at=asked_at))

    def _end(self, ended: RankResult) -> None:
        self.ended.append(ended)
        if ended.failed_by_itself:
            self._on_failure(ended)


def _recorded(error_file: bytes) -> bytes:
    """Return the traceback in the file that torch's `@record` wrote; empty if there is none."""
    import json

    try:
        message = json.loads(error_file or b"{}").get("message")
        trace = message["extraInfo"]["py_callstack"] if isinstance(message, dict) else message
    except (ValueError, AttributeError, KeyError, TypeError):
        return b""
    return trace.encode("utf-8", "replace") if isinstance(trace, str) else b""
