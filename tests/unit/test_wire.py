"""Connections between hosts, over real sockets."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sagemaker_framework.cluster.wire import Connection, wait

#: The first file descriptor that select() does not take.
BEYOND_SELECT = 1024


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection whose file descriptor is a high one, as a leader of a thousand hosts has them, and its other end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= BEYOND_SELECT:
        pytest.skip("this user may not have so many open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, BEYOND_SELECT + 64), hard))
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    high = socket.socket(fileno=os.dup2(near.fileno(), BEYOND_SELECT + 1))
    connection = Connection(high)
    try:
        yield connection, far
    finally:
        for end in (connection, near, far):
            end.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_does_not_fit_is_sent_when_the_other_end_reads(pair: tuple[Connection, socket.socket]) -> None:
    """`drain` waits for a slow reader, whatever the number of the file descriptor is."""
    connection, far = pair
    far.settimeout(60)
    connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.send({"long": "x" * 1_000_000})
    assert connection.waits
    received = bytearray()

    def read() -> None:
        while not received.endswith(b"\n"):
            received.extend(far.recv(1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    connection.drain(time.monotonic() + 60)
    reader.join(60)

    assert not connection.waits
    assert len(received) > 1_000_000


def test_what_can_be_read_is_told(pair: tuple[Connection, socket.socket]) -> None:
    """Nothing is ready before the other end writes, or closes."""
    connection, far = pair

    assert [] == wait([connection], [], 0)
    far.send(b"{}\n")
    assert [connection] == wait([connection], [], 10)
