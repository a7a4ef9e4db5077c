"""Messages between two hosts of a job: JSON objects over TCP, signed so that only the job's hosts can make them.

A message is a line: JSON and its signature (HMAC-SHA256 over the direction, the number of the message and the JSON). An
empty line is a sign of life. Nothing is encrypted, so messages must not contain secrets.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import select
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Protocol

    class HasFileno(Protocol):
        """An object with a file descriptor."""

        def fileno(self) -> int: ...


_STRANGER_LINE = 1024  # bytes; the longest line before the other side has proved who it is
_LINE = 16 << 20
_CODE = 32  # hexadecimal digits
_CHUNK = 1 << 16


class ConnectionLost(Exception):
    """The connection is closed, or the other side cannot be one of the job's hosts."""


class Connection:
    """One end of a TCP connection.  Never blocks.

    Args:
        sock: the connected socket; the connection closes it.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._received = bytearray()
        self._outgoing = bytearray()
        self._key = b""
        self._ours = self._theirs = b""
        self._sent = self._seen = 0

    def fileno(self) -> int:
        """Return the socket's file descriptor."""
        return self._socket.fileno()

    def secure(self, key: bytes, ours: str, theirs: str) -> None:
        """Sign what is sent, and check what is received, from now on.

        Args:
            key: the key of this connection.
            ours: the name of the direction in which this end sends.
            theirs: the name of the other direction.
        """
        self._key, self._ours, self._theirs = key, ours.encode(), theirs.encode()

    @property
    def waits(self) -> bool:
        """True while there is something to send that the system has not taken yet."""
        return bool(self._outgoing)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message, as far as possible without waiting; `flush` sends the rest.

        Args:
            message: a JSON object; it is signed once `secure` was called.
        """
        line = json.dumps(message).encode()
        if self._key:
            line += b"\t" + self._code(self._ours, self._sent, line)
            self._sent += 1
        self._outgoing += line + b"\n"
        self.flush()

    def beat(self) -> None:
        """Send a sign of life."""
        if not self._outgoing:
            self._outgoing += b"\n"
            self.flush()

    def flush(self) -> None:
        """Send what is left, as far as possible without waiting."""
        try:
            while self._outgoing:
                del self._outgoing[: self._socket.send(self._outgoing[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self._outgoing.clear()  # `receive` reports that the connection is lost.

    def drain(self, deadline: float) -> None:
        """Send what is left, waiting until `deadline` (seconds, `time.monotonic`) at most."""
        while self._outgoing and (left := deadline - time.monotonic()) > 0:
            wait([], [self], left)
            self.flush()

    def receive(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have arrived; a later call yields those that the caller did not take.

        Raises:
            ConnectionLost: the connection is lost, after the last message.
        """
        closed = ""
        while not closed:
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                break
            except OSError as error:
                closed = error.strerror or str(error)
                break
            if not data:
                closed = "closed"
            self._received += data
            if len(self._received) > (_LINE if self._key else _STRANGER_LINE):
                break
        while (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            if line:
                yield self._checked(line)
        if len(self._received) > (_LINE if self._key else _STRANGER_LINE):
            raise ConnectionLost("sent a line that is too long")
        if closed:
            raise ConnectionLost(closed)

    def _checked(self, line: bytes) -> dict[str, Any]:
        if self._key:
            line, _, code = line.rpartition(b"\t")
            if not hmac.compare_digest(code, self._code(self._theirs, self._seen, line)):
                raise ConnectionLost("sent a message that is not signed with the job's key")
            self._seen += 1
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ConnectionLost("sent something that is not a message")
        return message

    def _code(self, direction: bytes, number: int, line: bytes) -> bytes:
        signed = b"%s\0%d\0%s" % (direction, number, line)
        return hmac.new(self._key, signed, hashlib.sha256).hexdigest()[:_CODE].encode()

    def close(self) -> None:
        """Close the connection; what has not been sent is lost."""
        self._socket.close()


def wait(readable: Sequence[HasFileno], writable: Sequence[HasFileno], seconds: float) -> list[HasFileno]:
    """Wait until one of these can be read, or written to, for at most so many seconds.

    By poll(), since select() takes no file descriptor above 1,023: a leader has one for each host.

    Returns:
        Those of `readable` that can be read, or are closed.
    """
    poll = select.poll()
    wanted: dict[int, int] = {}
    for sources, event in ((readable, select.POLLIN), (writable, select.POLLOUT)):
        for source in sources:
            wanted[source.fileno()] = wanted.get(source.fileno(), 0) | event
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    ready = {descriptor for descriptor, events in poll.poll(max(0.0, seconds) * 1000) if events & ~select.POLLOUT}
    return [source for source in readable if source.fileno() in ready]


def nonce() -> str:
    """Return a random number for one use."""
    return os.urandom(16).hex()


def proof(key: bytes, side: str, host: str, member_nonce: str, leader_nonce: str) -> str:
    """Return a proof that this side of the connection has the job's key.

    Args:
        key: the job's key.
        side: the purpose of the proof: `member`, `leader`, or `session` for the key of the connection.
        host: the name of the host that is not the leader.
        member_nonce: that host's random number.
        leader_nonce: the leader's random number.
    """
    said = "\0".join((side, host, member_nonce, leader_nonce)).encode()
    return hmac.new(key, said, hashlib.sha256).hexdigest()


def same(one: object, other: str) -> bool:
    """Compare two proofs, in a time that does not reveal where they differ."""
    return isinstance(one, str) and hmac.compare_digest(one.encode(), other.encode())
