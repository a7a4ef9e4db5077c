"""A simulated job that a seed stands for: its hosts, its faults, and what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Callable

from facts import Facts, Misfortune
from faults import FAULTS, programs_fail_at_nearly_the_same_time
from hosts import HELPER, PROGRAM, SERVER, Plan, SimulatedHost
from sessions import SimulatedFollower, SimulatedLeader
from world import Link, World

from sagemaker_framework.failures import CAUSE, CONSEQUENCE

#: Where a fault may strike: at any time, or when a host comes to one of these.
STEPS = ("prepare", "ready", "serving", "program", "ended", "post_train", "done", "reported", "failing", "stopping")
LIMIT = 5_000.0  # seconds after which a job counts as endless


class Job:
    """A job on simulated hosts.

    Args:
        seed: of everything that happens by chance.
        tells: whether to keep the timeline.

    Attributes:
        hosts: all, the leader first.
        is_long: whether programs run for long enough for clocks to come apart.
        links: of each follower, to the leader.
        facts: what really happens.
        faults: what goes wrong.
    """

    def __init__(self, seed: int, tells: bool = False) -> None:
        self.world = World(seed, tells)
        self.facts = Facts(self.world)
        self.faults: list[Callable[[Job], None]] = []
        self.random = self.world.random
        self._pending: list[tuple[str, str, float, Callable[[], None]]] = []
        names = [f"algo-{at + 1}" for at in range(self._draw_size())]
        self.timeout = self.random.uniform(12, 30)
        self.is_long = len(names) <= 3 and self.random.random() < 0.08
        self.hosts = [
            SimulatedHost(self.world, self.facts, names, name, self._draw_plan(), self.timeout) for name in names
        ]
        leader = self.hosts[0]
        leader.session = SimulatedLeader(leader, self.facts)
        is_slow = self.random.random() < 0.2
        self.links = {host.name: self._draw_link(is_slow) for host in self.hosts[1:]}
        for host in self.hosts[1:]:
            host.session = SimulatedFollower(host, self.facts, leader, self.links[host.name])
        self._draw_roles()
        self._draw_faults()
        for host in self.hosts:
            host.on_step = self._on_step
            host.on_misfortune = self._on_misfortune
            self.world.at(host.plan.starts_at, host.start)

    def run(self) -> None:
        """Let it happen, until every host has ended or is frozen for ever."""
        self.world.run(LIMIT)

    # -- what is drawn -------------------------------------------------------------------------

    def _draw_size(self) -> int:
        random = self.random
        return random.choice([2, 2, 2, 3, 3, 3, 4, 5, 6, 8, random.randint(9, 24), random.choice([2, 32, 64])])

    def _draw_plan(self) -> Plan:
        random = self.random
        hooks = ("prepare", "start_servers", "stop_servers", "post_train", "reduce ready", "reduce done")
        return Plan(
            starts_at=random.uniform(0, 0.5),
            clock_offset=random.choice([0.0, random.uniform(-1e5, 1e5)]),
            clock_rate=1 + random.uniform(-1e-4, 1e-4),
            hooks={hook: random.choice([0.0, 0.0, random.uniform(0, 0.1), random.uniform(0, 1.5)]) for hook in hooks},
            program=random.uniform(500, 2000) if self.is_long else random.choice([0.0, random.uniform(0, 5)]),
            looks_back=random.random() < 0.8,
            stop_takes=random.choice([0.0, random.uniform(0, 0.1), random.uniform(0, 4), math.inf]),
            stop_code=random.choice([0, 0, 143, 1]),
            doubts=random.uniform(0, 2) if random.random() < 0.5 else 0.0,
        )

    def _draw_link(self, is_slow: bool) -> Link:
        random = self.random
        delay = random.uniform(0.02, 0.1) if is_slow else random.uniform(0.0001, 0.003)
        return Link(self.world, delay, delay * random.choice([0.1, 2.0]))

    def _draw_roles(self) -> None:
        random = self.random
        if random.random() < 0.4:
            for host in self.hosts:
                host.plan.role = random.choice([PROGRAM, PROGRAM, HELPER, SERVER])
                host.plan.has_servers = random.random() < 0.5
        random.choice(self.hosts).plan.role = PROGRAM
        self.hosts[0].plan.reduces = random.random() < 0.8
        if random.random() < 0.5:  # Programs that end at nearly the same time.
            together = random.uniform(0, 5)
            for host in self.hosts:
                host.plan.program = together + random.uniform(0, 0.1)

    def _draw_faults(self) -> None:
        random = self.random
        # Of what goes on in reality: most jobs see one thing go wrong, and what that brings about.
        for _ in range(random.choice([0, 0, 1] if self.is_long else [0, 1, 1, 1, 1, 2, 2, 3])):
            fault = random.choice(FAULTS)
            self.faults.append(fault)
            fault(self)
        if self.is_long:
            programs_fail_at_nearly_the_same_time(self)
        self.notices = random.random() < 0.6  # whether programs notice when another host's is gone

    def victim(self) -> SimulatedHost:
        """Draw a host that something happens to."""
        # The leader as often as a follower: it is the one whose end the others have to survive.
        return self.random.choice([self.hosts[0], self.random.choice(self.hosts[1:])])

    def strike(self, fault: Callable[[], None], on: SimulatedHost | None = None) -> None:
        """Have a fault happen at any moment: at a time, or when some host does something."""
        random = self.random
        if random.random() < 0.35:
            self.world.at(random.choice([random.uniform(0, 3), random.uniform(0, 9)]), fault)
        else:
            host = on if on and random.random() < 0.7 else random.choice(self.hosts)
            delay = random.choice([0.0, random.uniform(0, 0.01), random.uniform(0, 0.2), random.uniform(0, 2)])
            self.await_step(host, random.choice(STEPS), delay, fault)

    def await_step(self, host: SimulatedHost, step: str, delay: float, fault: Callable[[], None]) -> None:
        """Have a fault happen soon after a host comes to a step."""
        self._pending.append((host.name, step, delay, fault))

    # -- what follows --------------------------------------------------------------------------

    def _on_step(self, host: SimulatedHost) -> None:
        for pending in [each for each in self._pending if each[:2] == (host.name, host.step)]:
            self._pending.remove(pending)
            self.world.after(pending[2], pending[3])

    def _on_misfortune(self, misfortune: Misfortune) -> None:
        """Have the programs of other hosts fail because of this one."""
        if self.notices:
            self.bring_down(misfortune.host, misfortune)

    def kill(self, host: SimulatedHost, is_silent: bool) -> None:
        """Have a host die; the programs of others may notice."""
        if host.is_listening:
            host.die(is_silent)
            if self.notices:
                self.bring_down(host.name, None)

    def bring_down(self, host: str, of: Misfortune | None) -> None:
        """Have programs fail that have lost a peer; some say so, some seem to fail by themselves."""
        random = self.random
        for other in self.hosts:
            if other.name != host and random.random() < 0.5:
                after = random.uniform(0.01, random.choice([0.1, 0.9]))
                kind = random.choice([CAUSE, CONSEQUENCE, CONSEQUENCE])
                lingers = random.uniform(0, 0.05)
                other.later(
                    after,
                    lambda program=other.program, args=(1, lingers, kind, of): program.fail(*args),  # type: ignore[misc]
                )
