"""Runs one rank.  A launcher such as mpirun or torchrun starts this file.

The launcher places processes and introduces them to each other. The `train` process of the same host says what to run,
with which arguments and variables, over the unix socket that the only argument names (`rank_server.py` is its other
end): nothing of that is on a command line. This wrapper tags each line that the rank writes, passes signals on, and
tells `train` how the rank ended.

Each rank has a wrapper, which must start fast: it imports nothing of the package.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Variables by which a launcher tells a process its rank and its peers.
_PREFIXES = ("OMPI_", "PMIX_", "PRTE_", "ORTE_", "PMI_", "HYDI_", "MPI_", "TORCHELASTIC_", "TORCH_", "NCCL_", "NEURON_")
_NAMES = (
    "RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_RANK ROLE_WORLD_SIZE ROLE_NAME "
    "MASTER_ADDR MASTER_PORT OMP_NUM_THREADS"
).split()

#: The variables of each launcher with a process's rank, and with the number of processes.
_RANK = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "RANK")
_SIZE = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "WORLD_SIZE")

_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # where torch's @record writes the exception of the rank

_TRACEBACK = b"Traceback (most recent call last)"
_CHUNK = 65536
_TAIL = 65536  # bytes
_MOST_ERROR = 262144  # bytes
_LONGEST_LINE = 262144  # bytes; longer lines are broken, as CloudWatch Logs does
_PIPE_HOLDS = 1 << 20  # bytes; the most that Linux lets a process set
_LATEST = 1.0  # seconds; the end of a rank takes no longer: LAST_WORDS of timing.py
_PAUSE = 1000  # milliseconds until the beginning of a line is written without its end

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def pack(fields: Iterable[bytes]) -> bytes:
    """Make one message of fields: the length of all, then each with its length in front, in 4 bytes."""
    body = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return len(body).to_bytes(4, "big") + body


def unpack(data: bytes) -> list[bytes] | None:
    """Return the fields of the first message in `data`; None if it is not complete."""
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < max(end, 4):
        return None
    fields, at = [], 4
    while at < end:
        size = int.from_bytes(data[at : at + 4], "big")
        fields.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return fields


class _Output:
    """Passes on one stream of the rank, line by line, with the rank's tag in front of each line."""

    def __init__(self, target: int, tag: bytes, lock_file: str) -> None:
        self.reading, self.writing = os.pipe()
        self.tail = b""
        self.raised_at = 0.0  # when the rank wrote its last traceback
        self.closed_at = 0.0  # when the rank and all its descendants had closed it
        self._target = target
        self._tag = tag
        self._held = b""  # the beginning of a line
        # A file description of its own: locks on one file description do not exclude each other.
        self._lock = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._thread: threading.Thread | None = None

    def follow(self, ended: int) -> None:
        """Start passing on, in a thread, until the stream is closed.

        Args:
            ended: a pipe; once it is closed, only what the stream holds is still passed on.
        """
        os.close(self.writing)
        self._thread = threading.Thread(target=self._run, args=(ended,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until everything is written."""
        if self._thread is not None:
            self._thread.join()

    def is_closing(self) -> bool:
        """Tell whether the rank has just closed the stream."""
        if self.closed_at:
            return time.monotonic() - self.closed_at < _LATEST
        poll = select.poll()
        poll.register(self.reading, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def _run(self, ended: int) -> None:
        poll = select.poll()
        poll.register(self.reading, select.POLLIN)
        poll.register(ended, 0)  # Reports only that it was closed.
        left = _PIPE_HOLDS
        try:
            while left > 0:
                ready = dict(poll.poll(_PAUSE if self._held else None))
                data = os.read(self.reading, _CHUNK) if self.reading in ready else b""
                if data:
                    self._remember(data)
                    self._take(data)
                elif ready:
                    self.closed_at = time.monotonic() if self.reading in ready else 0.0
                    break
                else:
                    self._end_line()
                if ended in ready:
                    left -= len(data)  # Processes that the rank left running may write for ever.
            self._end_line()
        except OSError:
            pass  # Nobody reads the stream any more.
        finally:
            os.close(self.reading)  # If the rank writes more, it must notice.

    def _remember(self, data: bytes) -> None:
        if _TRACEBACK in self.tail[-len(_TRACEBACK) :] + data:
            self.raised_at = time.monotonic()
        self.tail = (self.tail + data)[-_TAIL:]

    def _take(self, data: bytes) -> None:
        self._held += data
        # The carriage return of a progress bar ends a line as well; a last one may belong to a line feed to come.
        end = max(self._held.rfind(b"\n"), self._held.rfind(b"\r", 0, -1)) + 1
        lines, self._held = self._held[:end], self._held[end:]
        if lines:
            self._write(lines)
        if len(self._held) > _LONGEST_LINE:
            self._end_line()

    def _end_line(self) -> None:
        if self._held:
            self._write(self._held + b"\n")
            self._held = b""

    def _write(self, lines: bytes) -> None:
        tagged = b"".join([self._tag + line for line in lines.splitlines(True)])
        # The ranks of a host take turns, so that lines stay intact.
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            while tagged:
                tagged = tagged[os.write(self._target, tagged) :]
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


class _Order:
    """The order of `train`: what the rank runs.

    Attributes:
        host: the host's name.
        cwd: the folder to run it in.
        in_group: True if signals go to the rank's whole group.
        argv: the program and its arguments.
        env: its variables, `NAME=value`.
        streams: the container's stdout and stderr.
    """

    def __init__(self, connection: socket.socket) -> None:
        header, passed, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(8))
        content = b"".join(content for _, kind, content in passed if kind == socket.SCM_RIGHTS)
        self.streams = [int.from_bytes(content[at : at + 4], sys.byteorder) for at in range(0, len(content), 4)]
        for stream in self.streams:
            os.set_inheritable(stream, False)
        while header and len(header) < 4:
            header += _received(connection, 4 - len(header))
        fields = unpack(header + _received(connection, int.from_bytes(header, "big")))
        if not fields:
            raise ConnectionError("the job is over")
        self.host, self.cwd, in_group, count, *rest = fields
        self.in_group = in_group == b"1"
        self.argv, self.env = rest[: int(count)], rest[int(count) :]


class _Rank:
    """The rank, and the connection to its host's `train`, which decides what becomes of it.

    It outlives the process that the launcher started, and the launcher's impatience: when a job is stopped, some ranks
    may still save their work after others have ended, and only `train` knows how long they may.
    """

    def __init__(self, connection: socket.socket, launched: int) -> None:
        self._host = connection
        self._launched = launched  # closes when the process that the launcher has started ends
        self._pid = 0
        self._in_group = False
        self._asked_at = 0.0  # when it was asked to end, before it did
        self._outputs: list[_Output] = []
        self._is_the_hosts = False  # `train` has begun to stop the rank: signals of others are ignored
        self._ended_at = 0.0

    def run(self, rank: bytes) -> int:
        """Run the rank.

        Args:
            rank: its number in the whole job.

        Returns:
            Its exit code; 128 + n if signal n killed it.
        """
        waking, woken = os.pipe()
        for end in (waking, woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for signum in (*_PASSED_ON, signal.SIGCHLD):
            signal.signal(signum, self._on_signal)
        order = _Order(self._host)
        self._in_group = order.in_group
        tag = b"[" + rank + b"," + order.host + b"] "
        outputs = [_Output(stream, tag, f"{sys.argv[1]}.lock") for stream in order.streams]
        returncode = self._start(order, outputs)
        if returncode is None:
            returncode = self._wait(waking, outputs)
        error_file = _content(os.environ.get(_ERROR_FILE, "")) if returncode else b""
        times = [repr(at).encode() for at in (self._ended_at, outputs[1].raised_at, self._asked_at)]
        self._host.sendall(pack([b"ended", b"%d" % returncode, *times, error_file, outputs[1].tail]))
        return returncode if returncode >= 0 else 128 - returncode

    def _start(self, order: _Order, outputs: list[_Output]) -> int | None:
        """Start the rank.  Return None; a shell's exit code if it cannot be started."""
        files = [(os.POSIX_SPAWN_DUP2, output.writing, at) for at, output in enumerate(outputs, 1)]
        default = [*_PASSED_ON, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ]
        argv, env = order.argv, _environment(order.env)
        try:
            os.chdir(order.cwd)
            self._pid = os.posix_spawnp(argv[0], argv, env, file_actions=files, setsid=True, setsigdef=default)
        except OSError as error:
            self._ended_at = time.monotonic()
            outputs[1].tail = b"it cannot be started: %s: %s" % (
                os.fsencode(argv[0]),
                str(error.strerror).encode(),
            )
            return 126 if isinstance(error, PermissionError) else 127
        try:
            self._host.sendall(pack([b"started", b"%d" % self._pid]))
        except OSError:
            pass  # `train` is gone; `_wait` notices.
        if self._asked_at:
            self._kill(signal.SIGTERM)  # The signal came before the rank was there.
        return None

    def _wait(self, waking: int, outputs: list[_Output]) -> int:
        """Wait for the end of the rank, and pass signals on meanwhile.  Return its exit code."""
        ended, until = os.pipe()
        for output in outputs:
            output.follow(ended)
        self._outputs = outputs
        poll = select.poll()
        for source in (self._host, waking, self._launched):
            poll.register(source, select.POLLIN)
        while not os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            for ready, _ in poll.poll():
                if ready == waking:
                    os.read(waking, 4096)
                elif ready == self._launched:
                    poll.unregister(ready)
                    if not self._is_the_hosts:
                        self._note()
                        self._kill(signal.SIGKILL, whole=True)
                else:
                    self._obey()
        died_at = time.monotonic()
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        os.close(until)
        for output in outputs:
            output.finish()
        # A process that ends closes its files first, which other ranks notice; its end may take longer than theirs.
        self._ended_at = min(
            [died_at, *(at for at in (output.closed_at for output in outputs) if at > died_at - _LATEST)]
        )
        return os.waitstatus_to_exitcode(status)

    def _obey(self) -> None:
        """Pass on the signals that `train` sends."""
        signals = self._host.recv(64)
        self._is_the_hosts = True
        self._note()
        for signum in signals:
            self._kill(signum, whole=self._in_group or signum == signal.SIGKILL)
        if not signals:
            # `train` is gone, and nobody else would stop this rank.
            self._kill(signal.SIGKILL, whole=True)
            os._exit(1)

    def _on_signal(self, signum: int, frame: object) -> None:
        if signum != signal.SIGCHLD and not self._is_the_hosts:
            self._note()
            self._kill(signum, self._in_group)

    def _note(self) -> None:
        """Note that the rank was asked to end, unless its end has begun already."""
        if not self._asked_at and not any(output.is_closing() for output in self._outputs):
            self._asked_at = time.monotonic()

    def _kill(self, signum: int, whole: bool = False) -> None:
        try:
            if self._pid:
                (os.killpg if whole else os.kill)(self._pid, signum)
        except ProcessLookupError:
            pass


def _environment(given: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the variables of the rank: the program's, and the launcher's own."""
    own = {name: value for name, value in os.environ.items() if name.startswith(_PREFIXES) or name in _NAMES}
    named = {name: value for name, _, value in (each.partition(b"=") for each in given)}
    return {**named, **{os.fsencode(name): os.fsencode(value) for name, value in own.items()}}


def _first(names: Iterable[str]) -> bytes:
    return os.fsencode(next((os.environ[name] for name in names if name in os.environ), "0"))


def _received(connection: socket.socket, size: int) -> bytes:
    parts = [b""]
    while size and (data := connection.recv(size)):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _content(file: str) -> bytes:
    """Return the content of a file; empty if it does not exist or is too long."""
    try:
        with open(file, "rb") as opened:
            data = opened.read(_MOST_ERROR + 1)
    except OSError:
        return b""
    return data if len(data) <= _MOST_ERROR else b""


def _keep(address: str, launched: int) -> int:
    """Run the rank in a session of its own.  Return the exit code."""
    os.setsid()
    rank = _first(_RANK)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(address)
        connection.sendall(pack([b"rank", rank, _first(_SIZE)]))
        # The launcher waits until nobody has its streams open.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        return _Rank(connection, launched).run(rank)
    except ConnectionError:
        return 128 + signal.SIGTERM  # The job is over, or is being stopped.
    except OSError as error:
        os.write(2, f"{address}: the train process of this host cannot be reached: {error.strerror}\n".encode())
        return 1


def main() -> None:
    """Run the rank in a child process, and exit with its exit code."""
    launched, alive = os.pipe()
    kept = os.fork()
    if not kept:
        os.close(alive)
        os._exit(_keep(sys.argv[1], launched))  # There is nothing to clean up.
    for signum in _PASSED_ON:
        signal.signal(signum, lambda signum, frame: os.kill(kept, signum))  # The process exists until it is reaped.
    _, status = os.waitpid(kept, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
