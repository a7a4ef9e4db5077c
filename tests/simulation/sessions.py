"""The sessions of simulated hosts: what cluster/thread.py, leader.py and follower.py are, without threads and sockets.

They drive the real states of cluster/protocol.py, and keep to these rules of those modules:

- What the main part says, the session handles a little later, in order; what the session learns, the main part
  sees when it looks next.
- The state is told of time every `TICK` seconds; the leader's every 0.1 s once it knows of a failure of another host,
  or has failed itself.  When it becomes quicker, a tick that is due sooner keeps its time.
- Whatever comes from a host is a sign of life, and is handled before time is looked at, also after a freeze.
- A follower tries to reach the leader after 0.1, 0.2, 0.4 ... seconds, at most `LONGEST_RETRY`, each time for 5 s.
- A follower that has lost the leader does not come back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from facts import Facts
from world import DOWN, LINGER, UP, Connection, Link, World

from sagemaker_framework import timing
from sagemaker_framework.cluster import messages, protocol
from sagemaker_framework.cluster.events import (
    AttemptFailed,
    Beat,
    Broadcast,
    Close,
    Connected,
    Disconnected,
    Drop,
    Event,
    Failed,
    Gather,
    Heard,
    Interrupt,
    Send,
    SetResult,
    SetVerdict,
    StopHost,
    Tell,
    Tick,
)
from sagemaker_framework.failures import Failure

if TYPE_CHECKING:
    from hosts import SimulatedHost

FAST_TICK = 0.1
ATTEMPT = 5.0
HANDED_OVER = 0.002  # seconds, at most, from one thread of a host to another


class SimulatedSession:
    """Drives a host's state.

    Attributes:
        results: of phases that all hosts have come to.
        gathered: what each host has brought to a phase whose result this host, the leader, computes.
        foreign: a failure that this host has been told of.
        verdict: what the job has failed of.
        is_stopping: whether the leader has said that the job is being stopped.
        is_closed: whether nobody is there any more.
    """

    state: protocol.LeaderState | protocol.FollowerState

    def __init__(self, host: SimulatedHost, facts: Facts) -> None:
        self.host = host
        self.world: World = host.world
        self.facts = facts
        self.results: dict[str, Mapping[str, Any]] = {}
        self.gathered: dict[str, Mapping[str, Any]] = {}
        self.foreign: Failure | None = None
        self.verdict: Failure | None = None
        self.is_stopping = False
        self.is_closed = False
        self._handed_at = 0.0
        self._ticks = 0
        self._due = math.inf  # when the state is told of time next
        self.pace = protocol.TICK

    @property
    def is_settled(self) -> bool:
        """Whether the leader has said how the job ends, or never will."""
        return self.is_closed or self.is_stopping or self.verdict is not None

    def tell(self, event: Event) -> None:
        """Have the session handle an event, soon."""
        world = self.world
        self._handed_at = max(self._handed_at, world.now + world.random.uniform(0, HANDED_OVER))
        world.at(self._handed_at, lambda: self.host.do(lambda: self.handle(event)))

    def handle(self, event: Event) -> None:
        """Handle an event, and do what the state asks for."""
        if self.is_closed:
            return
        if self.world.tells and type(event) not in (Tick, Heard):
            self.world.note(self.host.name, f"handles {event}")
        for action in self.state.handle(event, self.host.clock()):
            if self.world.tells and type(action) is not Beat:
                self.world.note(self.host.name, f"    {action}")
            self._perform(action)

    def _perform(self, action: Any) -> None:
        kind = type(action)
        if kind is Beat:
            self.beat(action)
            return
        if kind is SetResult:
            self.results[action.phase] = action.result
        elif kind is Gather:
            self.gathered[action.phase] = action.payloads
        elif kind is Interrupt:
            self.foreign = self.foreign or action.failure
        elif kind is SetVerdict:
            self.verdict = action.failure
        elif kind is StopHost:
            self.is_stopping = True
            self.host.request_stop(action.signum)
        elif kind is Close:
            self.is_closed = True
            self.hang_up()
        elif kind is not Tell:
            self.connect_action(action)
            return
        self.host.wake()

    def tick(self, after: float) -> None:
        """Tell the state of time, in a while or when it is due anyway, and from then on."""
        self._ticks += 1
        count = self._ticks
        self._due = min(self._due, self.world.now + after)

        def tick() -> None:
            if not self.is_closed and count == self._ticks:
                self._due = math.inf
                self.handle(Tick())
                self.tick(self.pace)

        self.world.at(self._due, lambda: self.host.do(tick, is_last=True))

    def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    def beat(self, action: Beat) -> None:
        """Give a sign of life."""
        raise NotImplementedError

    def connect_action(self, action: Any) -> None:
        """Do what concerns connections."""
        raise NotImplementedError

    def hang_up(self, is_silent: bool = False) -> None:
        """Close all connections; silently when the machine is gone."""
        raise NotImplementedError

    def on_message(self, connection: Connection, message: Mapping[str, Any] | None) -> None:
        """Take in what has come."""
        self.host.do(lambda: self._read(connection, message))

    def on_closed(self, connection: Connection) -> None:
        """Learn that a connection is closed."""
        self.host.do(lambda: self._lose(connection))

    def _read(self, connection: Connection, message: Mapping[str, Any] | None) -> None:
        raise NotImplementedError

    def _lose(self, connection: Connection) -> None:
        raise NotImplementedError


class SimulatedLeader(SimulatedSession):
    """The leader's session."""

    def start(self) -> None:
        host = self.host
        self.state = protocol.LeaderState(host.hosts, host.name, host.timeout)
        self.connections: dict[str, Connection] = {}
        self.tick(self.world.random.uniform(0, protocol.TICK))

    def handle(self, event: Event) -> None:
        if not self.is_closed and type(event) not in (Tick, Heard):
            self.facts.heard(event)
        super().handle(event)
        is_own = isinstance(event, Failed) and event.host == self.host.name
        if self.pace > FAST_TICK and (self.foreign or is_own):
            self.pace = FAST_TICK
            self.tick(FAST_TICK)

    def _perform(self, action: Any) -> None:
        if type(action) is not Beat:
            self.facts.did(action)
        super()._perform(action)

    def beat(self, action: Beat) -> None:
        if action.host in self.connections:
            self.connections[action.host].send(DOWN, None)

    def connect_action(self, action: Any) -> None:
        if isinstance(action, Broadcast):
            for connection in list(self.connections.values()):
                connection.send(DOWN, action.message)
        elif action.host in self.connections:
            if isinstance(action, Send):
                self.connections[action.host].send(DOWN, action.message)
            elif isinstance(action, Drop):
                self.connections.pop(action.host).close(DOWN)

    def hang_up(self, is_silent: bool = False) -> None:
        for connection in self.connections.values():
            connection.close(DOWN, is_silent)
        self.connections.clear()

    def let_in(self, connection: Connection) -> None:
        """Take a follower in, which has proved who it is."""
        if connection.host in self.connections:
            connection.close(DOWN)
            return
        self.connections[connection.host] = connection
        connection.send(DOWN, {"type": "welcome"})
        self.handle(Connected(connection.host))

    def _read(self, connection: Connection, message: Mapping[str, Any] | None) -> None:
        if self.connections.get(connection.host) is not connection:
            return
        self.handle(Heard(connection.host))
        if message is None:
            return
        event = messages.from_follower(connection.host, message)
        self.handle(event)
        if message["type"] == "bye" and self.connections.get(connection.host) is connection:
            self.connections.pop(connection.host).close(DOWN)

    def _lose(self, connection: Connection) -> None:
        if self.connections.get(connection.host) is connection:
            self.connections.pop(connection.host).close(DOWN)
            self.handle(Disconnected(connection.host, "went away"))


class SimulatedFollower(SimulatedSession):
    """The session of a host that is not the leader.

    Args:
        leader: the leader's host.
        link: the way to it.
    """

    def __init__(self, host: SimulatedHost, facts: Facts, leader: SimulatedHost, link: Link) -> None:
        super().__init__(host, facts)
        self._leader = leader
        self._link = link
        self._connection: Connection | None = None
        self._is_welcome = False
        self._retry = 0.1

    def start(self) -> None:
        host, now = self.host, self.host.clock()
        self.state = protocol.FollowerState(host.hosts, host.name, self._leader.name, host.timeout, now)
        self.tick(self.world.random.uniform(0, protocol.TICK))
        self._attempt()

    def _attempt(self) -> None:
        if self.is_closed:
            return
        world, link, leader = self.world, self._link, self._leader
        connection = self._connection = Connection(
            world,
            link,
            self.host.name,
            self,
            leader.session,
            lambda way: (self.host if way == UP else leader).over_at + LINGER,
        )
        there = link.arrival(UP)
        back = link.arrival(DOWN)  # The leader's challenge, and the proof.
        again = link.arrival(UP)

        def knock() -> None:
            if leader.is_listening:
                leader.do(lambda: self._connection is connection and leader.session.let_in(connection))
            elif not leader.is_silent:
                world.at(link.arrival(DOWN), lambda: self.host.do(lambda: self._fail(connection, "Connection refused")))

        world.at(there + (back - world.now) + (again - world.now), knock)
        self.world.after(ATTEMPT, lambda: self.host.do(lambda: self._fail(connection, "it does not answer")))

    def _fail(self, connection: Connection, problem: str) -> None:
        if self._connection is connection and not self._is_welcome:
            self._connection = None
            connection.close(UP)
            self.handle(AttemptFailed(problem))
            self.world.after(self._retry, lambda: self.host.do(self._attempt))
            self._retry = min(2 * self._retry, timing.LONGEST_RETRY)

    def beat(self, action: Beat) -> None:
        self._send(None)

    def connect_action(self, action: Any) -> None:
        if isinstance(action, Send):
            self._send(action.message)

    def _send(self, message: Mapping[str, Any] | None) -> None:
        if self._connection is not None and self._is_welcome:
            self._connection.send(UP, message)

    def hang_up(self, is_silent: bool = False) -> None:
        if self._connection is not None:
            self._connection.close(UP, is_silent)
            self._connection = None

    def _read(self, connection: Connection, message: Mapping[str, Any] | None) -> None:
        if self._connection is not connection or self.is_closed:
            return
        if message is not None and message["type"] == "welcome":
            self._is_welcome = True
            self.handle(Connected(self._leader.name))
            return
        self.handle(Heard(self._leader.name))
        if message is not None:
            self.handle(messages.from_leader(self._leader.name, message))

    def _lose(self, connection: Connection) -> None:
        if self._connection is connection:
            if self._is_welcome:
                self.handle(Disconnected(self._leader.name, "went away"))
            else:
                self._fail(connection, "it is closed")
