"""The session of the leader: a connection from each of the other hosts, and all decisions."""

from __future__ import annotations

import math
import resource
import selectors
import socket
import time

from sagemaker_framework import log
from sagemaker_framework.cluster.names import Resolver
from sagemaker_framework.cluster.session import Failure
from sagemaker_framework.cluster.thread import REPORT, SILENCE, UNLIMITED, ThreadedSession, names
from sagemaker_framework.cluster.wire import Connection, ConnectionLost, nonce, proof, same
from sagemaker_framework.errors import ConfigurationError, FrameworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_INTRODUCTION = 10.0  # seconds that a connection has to show that it is one of the job's hosts
_MOST_STRANGERS = 1024  # connections beyond one for each host
_MOST_REFUSALS = 20  # in the log: whoever connects must not fill it
_TICK = 0.5
#: Seconds after the first failure in which an earlier one, or the loss of the host behind it, may still show.
_LEAST_WINDOW, _WINDOW = 0.3, 3.0
_FAREWELL = 2.0  # seconds that the others have to take in what was the last word
_LATECOMERS = 5.0  # seconds that a failed or stopped job waits for hosts that have not connected yet, to tell them


class _Peer:
    """A connection, and the host at its other end."""

    def __init__(self, connection: Connection, address: str) -> None:
        self.connection = connection
        self.address = address
        self.host = ""
        self.is_in = False
        self.nonces = ("", "")
        self.since = self.heard = time.monotonic()
        self.selected = 0
        #: Our clock less the host's, as it seems from the message that was on its way for the shortest time.
        self.ahead = math.inf

    def listen(self, message: Mapping[str, Any]) -> None:
        """Learn from a message how the host's clock goes."""
        self.ahead = min(self.ahead, time.monotonic() - float(message["sent"]))


class Leader(ThreadedSession):
    """Knows how every host is doing."""

    def start(self) -> None:
        """Begin.

        Raises:
            ConfigurationError: the port is taken.
        """
        self._selector = selectors.DefaultSelector()
        self._server = self._listen()
        self._selector.register(self._server, selectors.EVENT_READ, None)
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._peers: set[_Peer] = set()
        self._hosts: dict[str, _Peer] = {}  # the hosts that are connected, and who they are
        self._left: set[str] = set()  # hosts that said goodbye
        self._gone: set[str] = set()  # hosts that have left a job that is being stopped
        self._addresses: dict[str, frozenset[str]] = {}
        self._held: dict[str, list[_Peer]] = {}  # who has said hello before its name resolved
        self._payloads: dict[str, dict[str, Mapping[str, Any]]] = {}
        self._awaited: dict[str, float] = {}
        self._deciding: list[str] = []  # the hosts that run a program
        self._agrees: set[str] = set()  # phases where this host says what is result
        self._gathered: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        self._failures: list[tuple[float, Failure]] = []
        self._lost: list[str] = []
        self._acknowledged: set[str] = set()
        self._is_deaf = False  # whether no connections are taken, as there are no file descriptors for them
        self._refused = 0
        self._failed_at = self._decided_at = self._left_at = self._last_report = self._last_tick = 0.0
        self._resolver = Resolver(self.hosts, lambda *found: self._call_soon_threadsafe(lambda: self._resolved(*found)))
        super().start()

    def _listen(self) -> socket.socket:
        # One file descriptor for each host.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = len(self.hosts) + _MOST_STRANGERS + 256
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
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
                "SAGEMAKER_FRAMEWORK_CLUSTER_PORT sets another, the same on all hosts"
            ) from error
        server.setblocking(False)
        return server

    # -- in this host's main thread ----------------------------------------------------------------

    def barrier(self, phase: str, payload: Mapping[str, Any], reduce: Any = None) -> Mapping[str, Any]:
        if reduce is None:
            return super().barrier(phase, payload)
        self._call_soon_threadsafe(lambda: self._arrive(phase, payload, agrees=True))
        self._wait(lambda: phase in self._gathered)
        result: Mapping[str, Any] = reduce(self._gathered[phase])
        self._call_soon_threadsafe(lambda: self._release(phase, result))
        self._wait(lambda: phase in self._results)
        return result

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._is_closing and self._may_go()):
            for key, _ in self._selector.select(_TICK if not self._failed_at else 0.1):
                if key.fileobj is self._server:
                    self._accept()
                elif isinstance(key.data, _Peer):
                    self._serve(key.data)
            self._run_pending()
            now = time.monotonic()
            if now - self._last_tick >= _TICK or self._failed_at:
                self._last_tick = now
                self._on_tick(now)
        self._resolver.close()
        for peer in list(self._peers):
            self._drop(peer)
        self._server.close()
        self._selector.close()

    def _may_go(self) -> bool:
        """Whether everyone has heard the last word."""
        now = time.monotonic()
        missing = set(self.hosts) - set(self._hosts) - self._left - set(self._lost) - {self.host}
        if missing and self._is_stopping and now - self._left_at < _LATECOMERS:
            return False
        if self._is_stopping or not (self._decided or "done" in self._results):
            return not any(peer.connection.waits for peer in self._peers) or now - self._left_at >= _FAREWELL
        if missing and self._decided and now - self._decided_at < _LATECOMERS:
            return False
        return not self._hosts or now - self._left_at >= _FAREWELL

    def _on_tick(self, now: float) -> None:
        """What the passing of time brings."""
        if self._is_deaf:
            self._is_deaf = False
            self._selector.register(self._server, selectors.EVENT_READ, None)
        for peer in list(self._peers):
            if peer.is_in and now - peer.heard >= SILENCE:
                self._on_lost(peer, f"has not answered for {now - peer.heard:.0f} s")
            elif not peer.is_in and now - peer.since >= _INTRODUCTION:
                self._drop(peer)
        if self._failed_at and not self._decided:
            window = now - self._failed_at
            # All hosts have said what they know; or, of a likely consequence, might still learn what it is one of.
            is_clear = set(self._hosts) <= self._acknowledged and not all(it.is_secondary for _, it in self._failures)
            if window >= (_LEAST_WINDOW if is_clear else _WINDOW):
                self._judge(now)
        if self._awaited and not self._failed_at and not self._is_stopping:
            self._await(now)

    def _await(self, now: float) -> None:
        for phase, since in list(self._awaited.items()):
            late = self._late(phase)
            if now - since >= self.timeout and phase not in UNLIMITED:
                self._fail(Failure.of(self._lateness(phase, late), late[0], self.hosts.index(late[0])))
            elif now - max(self._last_report, since) >= REPORT:
                self._last_report = now
                log.info(f"waiting for {self._described(late, phase)} to be {phase}")
                for host in self._payloads[phase]:
                    if host in self._hosts:
                        self._send(self._hosts[host], {"type": "waiting", "phase": phase, "for": names(late)})

    def _late(self, phase: str) -> list[str]:
        there = self._payloads[phase]
        return [host for host in self._needed(phase) if host not in there and host not in self._gone]

    def _needed(self, phase: str) -> list[str]:
        """The hosts that have to reach a phase; for the programs' end, those that run one."""
        return self._deciding if phase == "ended" else self.hosts

    def _lateness(self, phase: str, late: list[str]) -> FrameworkError:
        waited = f"waited for {self._described(late, phase)}"
        return FrameworkError(f"not all hosts were {phase} {self.timeout:g} s after the first was: {waited}")

    def _described(self, hosts: list[str], phase: str) -> str:
        """Hosts in words, with what is known of why they are late."""
        if len(hosts) > 5:
            return names(hosts)
        return ", ".join(f"{host} ({self._state(host, phase)})" for host in hosts)

    def _state(self, host: str, phase: str) -> str:
        if host == self.host or host in self._hosts:
            return {"ended": "its program is running", "done": "still finishing"}.get(
                phase, "connected, still preparing"
            )
        if self.check_names and host not in self._addresses:
            return "its name does not resolve"
        return "has not connected"

    # -- connections -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, address = self._server.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning(f"a connection could not be taken: {error.strerror}")
                # It would be reported as ready at once, again and again.
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

    def _broadcast(self, message: Mapping[str, Any]) -> None:
        for peer in list(self._hosts.values()):
            self._send(peer, message)

    def _drop(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.discard(peer)
            if self._hosts.get(peer.host) is peer:
                del self._hosts[peer.host]
            self._selector.unregister(peer.connection)
            peer.connection.close()

    def _serve(self, peer: _Peer) -> None:
        if peer not in self._peers:
            return
        peer.heard = time.monotonic()
        try:
            for message in peer.connection.receive():
                self._on_message(peer, message)
        except (ConnectionLost, KeyError, TypeError, ValueError) as error:
            self._on_lost(peer, f"went away: its connection is lost ({error})")
            return
        if peer.is_in:
            peer.connection.beat()
        peer.connection.flush()
        if peer in self._peers:
            self._select(peer)

    def _on_message(self, peer: _Peer, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        if not peer.is_in:
            self._meet_stranger(peer, message)
        elif kind == "at":
            peer.listen(message)
            self._reached(peer.host, str(message["phase"]), message["payload"])
        elif kind == "failed":
            self._acknowledged.add(peer.host)
            peer.listen(message)
            self._fail(Failure.from_message({**message, "host": peer.host}), float(message["at"]) + peer.ahead)
        elif kind == "ack":
            self._acknowledged.add(peer.host)
        elif kind == "stop":
            self._be_stopped(int(message["signum"]))
            self._broadcast({"type": "stop", "signum": int(message["signum"])})
        elif kind == "bye":
            self._left.add(peer.host)
            self._drop(peer)
            self._do_without(peer.host)

    # -- who is there --------------------------------------------------------------------------------

    def _meet_stranger(self, peer: _Peer, message: Mapping[str, Any]) -> None:
        if "proof" in message:
            self._check(peer, message)
            return
        peer.host = str(message.get("host"))
        peer.nonces = (str(message.get("nonce")), nonce())
        if peer.host not in self.hosts:
            self._refuse(peer, f"{peer.host!r} is no host of this job")
        elif peer.host in self._hosts or peer.host == self.host:
            self._refuse(peer, f"{peer.host} is connected already")
        elif self.check_names and peer.host not in self._addresses:
            self._held.setdefault(peer.host, []).append(peer)
        else:
            self._challenge(peer)

    def _resolved(self, host: str, addresses: frozenset[str]) -> None:
        self._addresses[host] = addresses
        for peer in self._held.pop(host, []):
            if peer in self._peers:
                self._challenge(peer)

    def _challenge(self, peer: _Peer) -> None:
        if self.check_names and peer.address not in self._addresses[peer.host]:
            known = ", ".join(sorted(self._addresses[peer.host]))
            self._refuse(peer, f"the name {peer.host} leads to {known}, not to {peer.address}")
        else:
            self._send(peer, {"nonce": peer.nonces[1]})

    def _check(self, peer: _Peer, message: Mapping[str, Any]) -> None:
        if not peer.host or not same(message["proof"], proof(self.key, "member", peer.host, *peer.nonces)):
            self._refuse(peer, "it does not have the key of this job: its name, hosts or hyperparameters are others")
            return
        if peer.host in self._hosts:
            self._refuse(peer, f"{peer.host} is connected already")
            return
        self._send(peer, {"proof": proof(self.key, "leader", peer.host, *peer.nonces)})
        key = bytes.fromhex(proof(self.key, "session", peer.host, *peer.nonces))
        peer.connection.secure(key, "to member", "to leader")
        peer.is_in = True
        self._hosts[peer.host] = peer
        self._left.discard(peer.host)
        if self._is_stopping:
            self._send(peer, {"type": "stop", "signum": 15})
        elif self._decided:
            self._send(peer, {"type": "verdict", **self._decided.as_message()})
        elif self._failed_at:
            self._send(peer, {"type": "fail", **self._failures[0][1].as_message()})

    def _refuse(self, peer: _Peer, why: str) -> None:
        self._refused += 1
        if self._refused <= _MOST_REFUSALS:
            log.warning(f"refused a connection from {peer.address}: {why}")
        if self._refused == _MOST_REFUSALS:
            log.warning("no more is said of refused connections")
        peer.connection.send({"refused": why})
        self._drop(peer)

    # -- phases --------------------------------------------------------------------------------------

    def _arrive(self, phase: str, payload: Mapping[str, Any], agrees: bool) -> None:
        if agrees:
            self._agrees.add(phase)
        self._reached(self.host, phase, payload)

    def _reached(self, host: str, phase: str, payload: Mapping[str, Any]) -> None:
        self._payloads.setdefault(phase, {})[host] = payload
        self._awaited.setdefault(phase, time.monotonic())
        self._count(phase)

    def _count(self, phase: str) -> None:
        """Go on to what a phase is for, if all hosts have reached it."""
        there = self._payloads[phase]
        # Thousands of hosts come one by one: nobody is looked for before as many have come as have to.
        enough = len(there) + len(self._gone) >= len(self._needed(phase))
        if phase not in self._gathered and enough and not self._late(phase):
            del self._awaited[phase]
            self._gathered[phase] = there
            if phase == "serving":
                self._deciding = [host for host, payload in there.items() if payload.get("completes_job")]
            if phase in self._agrees:
                self._wake()
            else:
                self._release(phase, {})

    def _do_without(self, host: str) -> None:
        """A host is gone; while a job is being stopped, the others do not wait for its program to end."""
        if self._is_stopping:
            self._gone.add(host)
            if "ended" in self._payloads:
                self._count("ended")

    def _release(self, phase: str, result: Mapping[str, Any]) -> None:
        if not self._failed_at:
            self._broadcast({"type": "go", "phase": phase, "result": result})
            self._set_result(phase, result)

    # -- failures ------------------------------------------------------------------------------------

    def _on_lost(self, peer: _Peer, what: str) -> None:
        """A connection is gone."""
        host, was_in = peer.host, peer.is_in
        self._drop(peer)
        if was_in:
            self._do_without(host)
        if not was_in or self._is_stopping or "done" in self._results or self._decided:
            return
        if any(failure.host == host for _, failure in self._failures):
            return  # It has said why.
        self._lost.append(host)
        self._fail(Failure.of(FrameworkError(f"this host {what}"), host, self.hosts.index(host)))

    def _report(self, failure: Failure, at: float) -> None:
        self._fail(failure, at, is_own=True)

    def _fail(self, failure: Failure, at: float | None = None, is_own: bool = False) -> None:
        now = time.monotonic()
        if self._decided or self._is_stopping:
            return
        self._failures.append((now if at is None else at, failure))
        if not self._failed_at:
            self._failed_at = now
            self._broadcast({"type": "fail", **failure.as_message()})
            if not is_own:
                self._break_off(failure)
            if not self._hosts and not failure.is_secondary:
                self._judge(now)

    def _judge(self, now: float) -> None:
        """Say which failure was the first.  That a host was lost explains what others saw."""
        lost = [failure for _, failure in self._failures if failure.host in self._lost]
        first = lost[0] if lost else min(self._failures, key=lambda each: (each[1].is_secondary, each[0]))[1]
        self._decided_at = now
        self._decide(first)
        self._broadcast({"type": "verdict", **first.as_message()})

    def _pass_on(self, signum: int) -> None:
        self._broadcast({"type": "stop", "signum": signum})

    def _leave(self) -> None:
        self._is_closing = True
        self._left_at = time.monotonic()
