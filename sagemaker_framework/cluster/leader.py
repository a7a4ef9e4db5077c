"""The leader's session: a connection from each other host.  protocol.py decides what is said over them."""

from __future__ import annotations

import resource
import selectors
import socket
import time

from sagemaker_framework import log, timing
from sagemaker_framework.cluster import messages
from sagemaker_framework.cluster.admission import Admission, Refused, Stranger
from sagemaker_framework.cluster.events import (
    Beat,
    Broadcast,
    Connected,
    Disconnected,
    Drop,
    Heard,
    Resolved,
    Send,
    Tick,
)
from sagemaker_framework.cluster.names import Resolver
from sagemaker_framework.cluster.protocol import TICK, LeaderState
from sagemaker_framework.cluster.thread import ThreadedSession
from sagemaker_framework.cluster.wire import Connection, ConnectionLost, nonce, wait
from sagemaker_framework.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from sagemaker_framework.cluster.events import Event

_MOST_STRANGERS = 1024  # connections beyond one for each host
_MOST_REFUSALS = 20  # lines in the log, so that strangers cannot fill it
_FAST_TICK = 0.1  # seconds, once the job has failed


class _Peer(Stranger):
    """A connection, and the host at its other end."""

    def __init__(self, connection: Connection, address: str) -> None:
        super().__init__(address, nonce())
        self.connection = connection
        self.is_in = False
        self.since = time.monotonic()
        self.selected = 0


class Leader(ThreadedSession):
    """The session of the leader."""

    def start(self) -> None:
        """Listen, and start the thread.

        Raises:
            ConfigurationError: the port is taken.
        """
        others = [host for host in self.hosts if host != self.host]
        unresolved = others if self.check_names else []
        self._leader_state = LeaderState(self.hosts, self.host, self.timeout, unresolved)
        self._admission = Admission(others, self.key, self.check_names)
        self._selector = selectors.DefaultSelector()
        self._server = self._listen()
        self._selector.register(self._server, selectors.EVENT_READ, None)
        self._selector.register(self._wakeup, selectors.EVENT_READ, None)
        self._peers: set[_Peer] = set()
        self._by_host: dict[str, _Peer] = {}
        self._held: dict[str, list[_Peer]] = {}  # those that said hello before their names resolved
        self._is_deaf = False  # True while there are no file descriptors for new connections
        self._refused = 0
        self._resolver = Resolver(unresolved, lambda *found: self._call_soon_threadsafe(Resolved(*found)))
        super().start()

    @property
    def _state(self) -> LeaderState:
        return self._leader_state

    def _listen(self) -> socket.socket:
        _allow_files(len(self.hosts) + _MOST_STRANGERS + 256)  # a file descriptor for each host
        both = socket.has_dualstack_ipv6()
        try:
            server = socket.create_server(
                ("", self.port),
                family=socket.AF_INET6 if both else socket.AF_INET,
                dualstack_ipv6=both,
                backlog=max(128, min(len(self.hosts), 4096)),
            )
        except OSError as error:
            raise ConfigurationError(
                f"the hosts of this job cannot meet at port {self.port} of {self.host}: {error.strerror}; "
                "set another with SAGEMAKER_FRAMEWORK_CLUSTER_PORT, the same on all hosts"
            ) from error
        server.setblocking(False)
        return server

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        ticked = time.monotonic()
        while not self._is_closed:
            tick = _FAST_TICK if self._foreign or self._own else TICK
            for key, _ in self._selector.select(tick):
                if key.fileobj is self._server:
                    self._accept()
                elif isinstance(key.data, _Peer):
                    self._read(key.data)
            self._run_pending()
            if time.monotonic() - ticked >= tick:
                ticked = time.monotonic()
                self._on_tick(ticked)
        self._flush(timing.FAREWELL)
        self._resolver.close()
        for peer in list(self._peers):
            self._drop(peer)
        self._server.close()
        self._selector.close()

    def _on_tick(self, now: float) -> None:
        if self._is_deaf:
            self._is_deaf = False
            self._selector.register(self._server, selectors.EVENT_READ, None)
        for peer in [peer for peer in self._peers if not peer.is_in and now - peer.since >= timing.INTRODUCTION]:
            self._drop(peer)
        self._handle(Tick())

    def _flush(self, seconds: float) -> None:
        """Send what is left, for at most so many seconds."""
        deadline = time.monotonic() + seconds
        left = [peer.connection for peer in self._peers if peer.is_in]
        while left and time.monotonic() < deadline:
            for connection in left:
                connection.flush()
            left = [connection for connection in left if connection.waits]
            if left:
                wait([], left, deadline - time.monotonic())

    # -- connections ---------------------------------------------------------------------------

    def _do(self, action: Any) -> None:
        if isinstance(action, Broadcast):
            for peer in list(self._by_host.values()):
                self._send(peer, action.message)
        elif action.host in self._by_host:
            peer = self._by_host[action.host]
            if isinstance(action, Send):
                self._send(peer, action.message)
            elif isinstance(action, Beat):
                peer.connection.beat()
                self._select(peer)
            elif isinstance(action, Drop):
                self._drop(peer)

    def _accept(self) -> None:
        while True:
            try:
                sock, address = self._server.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning(f"a connection could not be taken: {error.strerror}")
                # Otherwise the selector would report it as ready all the time.
                self._selector.unregister(self._server)
                self._is_deaf = True
                return
            if len(self._peers) >= len(self.hosts) + _MOST_STRANGERS:
                sock.close()
                continue
            peer = _Peer(Connection(sock), str(address[0]).replace("::ffff:", ""))
            self._peers.add(peer)
            self._select(peer)

    def _select(self, peer: _Peer) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.connection.waits else 0)
        if peer.selected == 0:
            self._selector.register(peer.connection, wanted, peer)
        elif peer.selected != wanted:
            self._selector.modify(peer.connection, wanted, peer)
        peer.selected = wanted

    def _send(self, peer: _Peer, message: Mapping[str, Any]) -> None:
        peer.connection.send(message)
        self._select(peer)

    def _drop(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.discard(peer)
            if self._by_host.get(peer.host) is peer:
                del self._by_host[peer.host]
            self._selector.unregister(peer.connection)
            peer.connection.close()

    def _read(self, peer: _Peer) -> None:
        if peer not in self._peers:
            return
        try:
            if peer.is_in:
                self._handle(Heard(peer.host))
            for message in peer.connection.receive():
                self._on_message(peer, message)
        except (ConnectionLost, KeyError, TypeError, ValueError, OverflowError) as error:
            self._drop(peer)
            if peer.is_in:
                self._handle(Disconnected(peer.host, f"went away: its connection is lost ({error})"))
            return
        if peer in self._peers:
            peer.connection.flush()
            self._select(peer)

    def _on_message(self, peer: _Peer, message: Mapping[str, Any]) -> None:
        if peer.is_in:
            self._handle(messages.from_follower(peer.host, message))
            if message.get("type") == "bye":
                self._drop(peer)
        elif "proof" in message:
            self._let_in(peer, lambda stranger: self._admit(stranger, message))
        else:
            self._let_in(peer, lambda stranger: self._greet(stranger, message))

    # -- admission ---------------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        super()._handle(event)
        if isinstance(event, Resolved):
            self._admission.resolve(event.host, event.addresses)
            for peer in self._held.pop(event.host, []):
                if peer in self._peers:
                    self._let_in(peer, self._challenge)

    def _let_in(self, peer: _Peer, step: Callable[[_Peer], None]) -> None:
        """Take a stranger a step further, unless the step refuses it."""
        try:
            step(peer)
        except Refused as refusal:
            self._refuse(peer, str(refusal))

    def _greet(self, peer: _Peer, message: Mapping[str, Any]) -> None:
        self._admission.greet(peer, message, self._by_host)
        self._challenge(peer)

    def _challenge(self, peer: _Peer) -> None:
        challenge = self._admission.challenge(peer)
        if challenge is None:
            self._held.setdefault(peer.host, []).append(peer)
        else:
            self._send(peer, challenge)

    def _admit(self, peer: _Peer, message: Mapping[str, Any]) -> None:
        answer, key = self._admission.check(peer, message, self._by_host)
        self._send(peer, answer)
        peer.connection.secure(key, "to member", "to leader")
        peer.is_in = True
        self._by_host[peer.host] = peer
        self._handle(Connected(peer.host))

    def _refuse(self, peer: _Peer, why: str) -> None:
        self._refused += 1
        if self._refused <= _MOST_REFUSALS:
            log.warning(f"refused a connection from {peer.address}: {why}")
        if self._refused == _MOST_REFUSALS:
            log.warning("further refused connections are not logged")
        peer.connection.send({"refused": why})
        self._drop(peer)


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files to `wanted`, as far as is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
