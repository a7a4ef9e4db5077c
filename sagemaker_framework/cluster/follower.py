"""The session of a host that is not the leader: one connection to the leader."""

from __future__ import annotations

import select
import socket
import time

from sagemaker_framework import log
from sagemaker_framework.cluster.session import Failure
from sagemaker_framework.cluster.thread import BEAT, REPORT, SILENCE, UNLIMITED, ThreadedSession
from sagemaker_framework.cluster.wire import Connection, ConnectionLost, nonce, proof, same
from sagemaker_framework.errors import FrameworkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 1.0  # seconds between attempts to reach the leader
_ATTEMPT = 5.0  # seconds for one of them
_LAST_WORDS = 5.0  # seconds to reach the leader in order to tell of a failure
_PATIENCE = 10.0  # seconds more than the leader has, so that it can say who was late


class Follower(ThreadedSession):
    """Tells the leader how this host is doing, and does what all hosts do."""

    def start(self) -> None:
        self._connection: Connection | None = None
        self._welcome = False
        self._nonce = self._leader_nonce = ""
        self._heard = self._beaten = 0.0
        self._unsent: list[Mapping[str, Any]] = []
        self._problem = ""
        self._begun = time.monotonic()
        self._give_up = self._begun + self.timeout
        self._awaited: dict[str, float] = {}  # phases that this host has reached, and when
        self._waiting_for = ""
        super().start()

    def _run(self) -> None:
        wait, reported = _FIRST_WAIT, time.monotonic()
        while not self._welcome and not (self._is_closing and not self._has_last_words):
            if not self._try():
                if time.monotonic() >= self._give_up:
                    self._on_lost(f"could not be reached within {self._give_up - self._begun:.0f} s: {self._problem}")
                    return
                if time.monotonic() - reported >= REPORT:
                    reported = time.monotonic()
                    log.info(f"waiting for the leader {self.leader}: {self._problem}")
                select.select([self._bell], [], [], wait)
                self._run_pending()
                wait = min(2 * wait, _LONGEST_WAIT)
        if self._is_closing and self._connection:
            self._leave()
        while not self._is_closing and self._connection:
            self._turn()
        if self._connection:
            self._connection.close()

    # -- reaching the leader ---------------------------------------------------------------------

    def _try(self) -> bool:
        """Try to reach the leader once."""
        deadline = time.monotonic() + _ATTEMPT
        try:
            sock = socket.create_connection((self.leader, self.port), timeout=_ATTEMPT)
        except socket.gaierror as error:
            self._problem = f"its name does not resolve ({error.strerror})"
            return False
        except OSError as error:
            self._problem = f"port {self.port}: {error.strerror or error}"
            return False
        connection = self._connection = Connection(sock)
        self._nonce = nonce()
        connection.send({"hello": 1, "host": self.host, "nonce": self._nonce})
        try:
            while not self._welcome:
                ready = select.select([connection], [], [], max(0.0, deadline - time.monotonic()))[0]
                if not ready:
                    raise ConnectionLost("it does not answer")
                for message in connection.receive():
                    self._on_message(message)
        except ConnectionLost as error:
            self._problem = f"port {self.port}: {error}"
            connection.close()
            self._connection = None
            return False
        return True

    def _greet(self, message: Mapping[str, Any]) -> None:
        """What comes before the leader has shown that it is the leader."""
        assert self._connection
        if "refused" in message:
            raise ConnectionLost(f"it refused this host: {message['refused']}")
        theirs = str(message.get("nonce"))
        if "proof" not in message:
            said = proof(self.key, "member", self.host, self._nonce, theirs)
            self._leader_nonce = theirs
            self._connection.send({"proof": said})
            return
        ours = self._nonce, self._leader_nonce
        if not same(message["proof"], proof(self.key, "leader", self.host, *ours)):
            raise ConnectionLost("who answers there does not have the key of this job")
        self._connection.secure(bytes.fromhex(proof(self.key, "session", self.host, *ours)), "to leader", "to member")
        self._welcome = True
        self._heard = time.monotonic()
        log.debug(f"connected to the leader {self.leader} after {self._heard - self._begun:.1f} s")
        for unsent in self._unsent:
            self._connection.send(unsent)

    # -- once it is reached ----------------------------------------------------------------------

    def _turn(self) -> None:
        connection = self._connection
        assert connection
        waiting: list[Connection | int] = [connection, self._bell]
        readable, _, _ = select.select(waiting, waiting[:1] if connection.waits else [], [], 1.0)
        now = time.monotonic()
        try:
            if connection in readable:
                self._heard = now
                for message in connection.receive():
                    self._on_message(message)
        except ConnectionLost as error:
            self._on_lost(f"went away: the connection is lost ({error})")
            return
        connection.flush()
        self._run_pending()
        if now - self._beaten >= BEAT:
            self._beaten = now
            connection.beat()
        if now - self._heard >= SILENCE:
            self._on_lost(f"has not answered for {now - self._heard:.0f} s")
        for phase, since in self._awaited.items():
            if phase not in UNLIMITED and now - since >= self.timeout + _PATIENCE:
                self._on_lost(f"has not said for {now - since:.0f} s that all hosts are {phase}{self._waiting_for}")
                return

    def _on_message(self, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        if not self._welcome:
            self._greet(message)
        elif kind == "go":
            phase = str(message["phase"])
            self._awaited.pop(phase, None)
            self._set_result(phase, message["result"])
        elif kind == "waiting":
            self._waiting_for = f": waiting for {message['for']}"
            log.info(f"waiting for {message['for']} to be {message['phase']}")
        elif kind == "fail":
            self._send({"type": "ack"})
            self._break_off(Failure.from_message(message))
        elif kind == "verdict":
            self._break_off(Failure.from_message(message))
            self._decide(Failure.from_message(message))
            self._leave()
        elif kind == "stop":
            self._be_stopped(int(message["signum"]))

    def _on_lost(self, what: str) -> None:
        """The leader is not there any more, or never was."""
        if self._connection:
            self._connection.close()
            self._connection = None
        self._is_closing = True
        if self._is_stopping or "done" in self._results or self._decided:
            self._has_decided.set()
            self._wake()
            return
        failure = Failure.of(FrameworkError(f"the leader {what}"), self.leader, self.hosts.index(self.leader))
        self._break_off(failure)
        self._decide(failure)

    def _send(self, message: Mapping[str, Any]) -> None:
        if self._welcome and self._connection:
            self._connection.send(message)
        else:
            self._unsent.append(message)

    def _arrive(self, phase: str, payload: Mapping[str, Any], agrees: bool) -> None:
        self._awaited[phase] = time.monotonic()
        self._send({"type": "at", "phase": phase, "payload": payload, "sent": time.monotonic()})

    def _report(self, failure: Failure, at: float) -> None:
        self._give_up = min(self._give_up, time.monotonic() + _LAST_WORDS)
        self._send({"type": "failed", "at": at, "sent": time.monotonic(), **failure.as_message()})

    def _pass_on(self, signum: int) -> None:
        self._give_up = min(self._give_up, time.monotonic() + _LAST_WORDS)
        self._send({"type": "stop", "signum": signum})

    @property
    def _has_last_words(self) -> bool:
        """Whether the leader has still to hear that this host has failed, or been asked to stop."""
        return any(message["type"] in ("failed", "stop") for message in self._unsent)

    def _leave(self) -> None:
        if self._connection and self._welcome:
            self._connection.send({"type": "bye"})
        self._is_closing = True
