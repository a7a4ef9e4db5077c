"""A follower's session: one connection to the leader.  protocol.py decides what is said over it."""

from __future__ import annotations

import socket
import time

from sagemaker_framework import log, timing
from sagemaker_framework.cluster import messages
from sagemaker_framework.cluster.admission import Introduction, Refused
from sagemaker_framework.cluster.events import AttemptFailed, Beat, Connected, Disconnected, Heard, Send, Tick
from sagemaker_framework.cluster.protocol import TICK, FollowerState
from sagemaker_framework.cluster.thread import ThreadedSession
from sagemaker_framework.cluster.wire import Connection, ConnectionLost, nonce, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FIRST_RETRY = 0.1  # seconds


class Follower(ThreadedSession):
    """The session of a host that is not the leader."""

    def start(self) -> None:
        """Start the thread, which connects to the leader."""
        self._begun = time.monotonic()
        self._follower_state = FollowerState(self.hosts, self.host, self.leader, self.timeout, self._begun)
        self._connection: Connection | None = None
        super().start()

    @property
    def _state(self) -> FollowerState:
        return self._follower_state

    def _run(self) -> None:
        retry = _FIRST_RETRY
        while not self._is_closed:
            if self._connection is None:
                problem = self._connect()
                if problem:
                    self._handle(AttemptFailed(problem))
                    self._wait([], retry)
                    retry = min(2 * retry, timing.LONGEST_RETRY)
            elif self._wait([self._connection], TICK):
                self._read(self._connection)
            self._handle(Tick())
        if self._connection is not None:
            self._connection.drain(time.monotonic() + timing.FAREWELL)
            self._connection.close()

    def _wait(self, readable: list[Connection], seconds: float) -> bool:
        """Wait until there is something to read or to handle.  Return True if there is something to read."""
        ready = wait([*readable, self._wakeup], [each for each in readable if each.waits], seconds)
        self._run_pending()
        for each in readable:
            each.flush()
        return any(each in ready for each in readable)

    # -- reaching the leader -------------------------------------------------------------------

    def _connect(self) -> str:
        """Try to connect to the leader once.  Return the problem in words; an empty string if there was none."""
        try:
            sock = socket.create_connection((self.leader, self.port), timeout=timing.ATTEMPT)
        except socket.gaierror as error:
            return f"its name does not resolve ({error.strerror})"
        except UnicodeError as error:
            return f"its name is not a name of a host ({error})"
        except OSError as error:
            return f"port {self.port}: {error.strerror or error}"
        connection = Connection(sock)
        try:
            self._introduce(connection)
        except (ConnectionLost, Refused) as error:
            connection.close()
            return f"port {self.port}: {error}"
        log.debug(f"connected to the leader {self.leader} after {time.monotonic() - self._begun:.1f} s")
        self._connection = connection
        self._handle(Connected(self.leader))
        self._read(connection)  # The leader may have said more already.
        return ""

    def _introduce(self, connection: Connection) -> None:
        """Prove this host's identity to the leader, and have the leader prove its own."""
        deadline = time.monotonic() + timing.ATTEMPT
        introduction = Introduction(self.host, self.key, nonce())
        connection.send(introduction.hello())
        while True:
            if not wait([connection], [], deadline - time.monotonic()):
                raise ConnectionLost("it does not answer")
            for message in connection.receive():
                answer = introduction.answer(message)
                if isinstance(answer, bytes):
                    connection.secure(answer, "to leader", "to member")
                    return
                connection.send(answer)

    # -- once it is reached --------------------------------------------------------------------

    def _read(self, connection: Connection) -> None:
        try:
            self._handle(Heard(self.leader))
            for message in connection.receive():
                self._handle(messages.from_leader(self.leader, message))
        except (ConnectionLost, ValueError, TypeError, OverflowError) as error:
            self._handle(Disconnected(self.leader, f"went away: the connection is lost ({error})"))

    def _do(self, action: Any) -> None:
        if self._connection is None:
            return
        if isinstance(action, Send):
            self._connection.send(action.message)
        elif isinstance(action, Beat):
            self._connection.beat()
