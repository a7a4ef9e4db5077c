"""The world of a simulated job: time, clocks that are apart, and the network."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Protocol

#: The two directions of a link.
UP, DOWN = "to the leader", "from the leader"

#: Seconds after its end in which a host's machine still sends what is on its way; then its network is gone, too.
LINGER = 0.1


class World:
    """A heap of what is to happen, in order of time.

    Args:
        seed: of all that happens by chance.
        tells: whether what happens is noted, to be read; it happens alike.

    Attributes:
        now: seconds since the beginning; no host knows them.
        timeline: what has happened, in lines.
    """

    def __init__(self, seed: int, tells: bool = False) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.timeline: list[str] = []
        self.tells = tells
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time: float, do: Callable[[], None]) -> None:
        """Have something done at a time."""
        if time < math.inf:
            self._count += 1
            heapq.heappush(self._heap, (max(time, self.now), self._count, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Have something done in a while."""
        self.at(self.now + seconds, do)

    def run(self, limit: float) -> None:
        """Let time pass until nothing is to happen any more, or the limit is reached."""
        heap, pop = self._heap, heapq.heappop
        while heap and self.now <= limit:
            self.now, _, do = pop(heap)
            do()

    def note(self, host: str, text: str) -> None:
        """Write a line of the timeline."""
        if self.tells:
            self.timeline.append(f"{self.now:10.4f}  {host:8} {text}")


class Clock:
    """A host's clock: it began at some time, and goes a little too fast or too slow."""

    def __init__(self, world: World, offset: float, rate: float) -> None:
        self._world = world
        self._offset = offset
        self.rate = rate

    def __call__(self) -> float:
        return self._offset + self.rate * self._world.now


class Receiver(Protocol):
    """A host's end of a connection."""

    def on_message(self, connection: Connection, message: Mapping[str, Any] | None) -> None:
        """Take in a message; None is a sign of life."""

    def on_closed(self, connection: Connection) -> None:
        """Learn that the other end is closed."""


class Link:
    """The way between a follower and the leader.

    It keeps the order, as TCP does. What is sent while it is cut comes after it is mended, and TCP's growing pauses
    between attempts.

    Args:
        delay: seconds that a message takes at least.
        jitter: seconds that it takes more, at most.
    """

    def __init__(self, world: World, delay: float, jitter: float) -> None:
        self._world = world
        self.delay = delay
        self.jitter = jitter
        self._cut_until = {UP: 0.0, DOWN: 0.0}
        self._pause = {UP: 0.0, DOWN: 0.0}
        self._last = {UP: 0.0, DOWN: 0.0}
        #: Seconds that a message takes at most, if the link is not cut.
        self.latency = delay + jitter
        #: When it was cut, and from when on all comes through again.
        self.stalls: list[tuple[float, float]] = []

    def cut(self, direction: str, seconds: float) -> None:
        """Lose all in one direction, for a while or, if it is infinite, for ever."""
        now = self._world.now
        pause = self._world.random.uniform(0.0, min(seconds, 3.0))
        self._cut_until[direction] = max(self._cut_until[direction], now + seconds)
        self._pause[direction] = pause
        self.stalls.append((now, now + seconds + pause))

    def arrival(self, direction: str) -> float:
        """Return when what is sent now arrives; infinity for never."""
        now, random = self._world.now, self._world.random
        at = now + self.delay + random.uniform(0.0, self.jitter)
        if now < self._cut_until[direction]:
            at = self._cut_until[direction] + self._pause[direction]
        at = self._last[direction] = max(at, self._last[direction])
        return at


class Connection:
    """A connection of a follower to the leader.  Messages go as over the wire: as JSON.

    Args:
        host: the follower's name.
        sends_until: returns until when the machine of who sends in a direction sends what is on its way.
    """

    def __init__(
        self,
        world: World,
        link: Link,
        host: str,
        follower: Receiver,
        leader: Receiver,
        sends_until: Callable[[str], float],
    ) -> None:
        self.host = host
        self._world = world
        self._link = link
        self._sends_until = sends_until
        self._receivers = {UP: leader, DOWN: follower}
        self._is_open = {UP: True, DOWN: True}  # whether who receives in this direction still does

    def send(self, direction: str, message: Mapping[str, Any] | None) -> None:
        """Send a message, or a sign of life."""
        text = json.dumps(message)
        self._deliver(direction, lambda: self._receivers[direction].on_message(self, json.loads(text)))

    def close(self, direction: str, is_silent: bool = False) -> None:
        """Close the end that sends in this direction; the other end hears of it, unless the machine is gone."""
        back = DOWN if direction == UP else UP
        if self._is_open[back]:
            self._is_open[back] = False
            if not is_silent:
                self._deliver(direction, lambda: self._receivers[direction].on_closed(self))

    def _deliver(self, direction: str, take: Callable[[], None]) -> None:
        at = self._link.arrival(direction)
        is_held_up = at > self._world.now + self._link.latency

        def arrive() -> None:
            # What was held up is lost when the network of who sent it is gone meanwhile.
            if self._is_open[direction] and not (is_held_up and at > self._sends_until(direction)):
                take()

        self._world.at(at, arrive)
