"""A simulated job that a seed stands for: its hosts, its faults, and what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Callable

from facts import Facts, Misfortune
from hosts import HELPER, PROGRAM, SERVER, Plan, SimulatedHost
from sessions import SimulatedFollower, SimulatedLeader
from world import DOWN, UP, Link, World

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
            _programs_fail_at_nearly_the_same_time(self)
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


def named(fault: Callable[[Job], None]) -> str:
    """Name a fault in words."""
    return fault.__name__.lstrip("_").replace("_", " ")


def random_link(job: Job) -> Link:
    """Draw a link."""
    return job.links[job.random.choice(job.hosts[1:]).name]


# -- the faults --------------------------------------------------------------------------------


def _program_fails(job: Job) -> None:
    plan = job.victim().plan
    plan.fails_with = job.random.choice([1, 3, 139])
    plan.lingers = job.random.choice([0.0, job.random.uniform(0, 0.05), job.random.uniform(0, 2.5)])


def _programs_fail_at_nearly_the_same_time(job: Job) -> None:
    random = job.random
    at = random.uniform(500, 2000) if job.is_long else random.uniform(0, 5)
    apart = random.choice([0.02, 0.1, 0.3]) if job.is_long else random.choice([0.02, 0.3, 1.0])
    for host in random.sample(job.hosts, 2):
        host.plan.role = PROGRAM
        host.plan.fails_with = random.choice([1, 3, 139])
        host.plan.program = at + random.uniform(0, apart)
        host.plan.lingers = random.choice([0.0, random.uniform(0, 0.3), random.uniform(0, 2)])


def _server_fails(job: Job) -> None:
    random, plan = job.random, job.victim().plan
    plan.has_servers = True
    longest = max(host.plan.program for host in job.hosts)
    plan.server_fails_after = random.choice(
        [plan.program + random.uniform(-0.5, 0.2), longest + random.uniform(-0.02, 0.01)]
    )
    if random.random() < 0.5:
        plan.fails_with = 3


def _program_and_its_server_fail(job: Job) -> None:
    """Have both raise within a second; each ends when it has tidied up."""
    random, plan = job.random, job.victim().plan
    plan.role, plan.has_servers, plan.looks_back = PROGRAM, True, True
    plan.fails_with, plan.stop_takes = 3, random.uniform(0, 0.3)
    plan.lingers = random.choice([0.0, random.uniform(0, 0.3), random.uniform(0.5, 1.5)])
    plan.program = random.uniform(0.5, 1.0)
    plan.server_fails_after = plan.program + random.uniform(-0.3, min(1.0, plan.lingers + 0.02))


def _message_of_the_first_failure_takes_long(job: Job) -> None:
    """Have two programs fail; what the host of the first says comes after what the other says."""
    random = job.random
    first, second = random.choice(job.hosts[1:]), job.hosts[0]
    link, seconds, apart = job.links[first.name], random.uniform(0.03, 0.25), random.uniform(0.02, 0.1)
    for host in (first, second):
        host.plan.role, host.plan.program = PROGRAM, 5.0

    def fail() -> None:
        link.cut(UP, seconds)
        first.program.fail(1, 0.0)
        job.world.after(apart, lambda: second.program.fail(3, 0.0))

    job.await_step(first, "program", random.uniform(0.5, 2), fail)


def _host_dies_when_it_has_failed(job: Job) -> None:
    host = job.random.choice(job.hosts[1:])
    host.plan.role, host.plan.fails_with, host.plan.lingers = PROGRAM, 3, 0.0
    job.await_step(host, "failing", job.random.uniform(0.01, 0.3), lambda: job.kill(host, is_silent=False))


def _host_fails_as_the_job_is_stopped(job: Job) -> None:
    """Have the failure of a host that does not know yet that the job is being stopped cross the leader's word."""
    random, host = job.random, job.random.choice(job.hosts[1:])
    link = job.links[host.name]
    link.delay, link.jitter = random.uniform(0.1, 0.2), 0.01
    link.latency = link.delay + link.jitter
    host.plan.role, host.plan.program = PROGRAM, 5.0
    job.hosts[0].plan.stop_takes = random.uniform(0, 0.1)

    def stop() -> None:
        job.hosts[0].ask_to_stop()
        job.world.after(random.uniform(0, link.delay / 2), lambda: host.program.fail(3, 0.0))

    job.await_step(host, "program", random.uniform(0.5, 2), stop)


def _hook_fails(job: Job) -> None:
    hooks = ["prepare", "start_servers", "stop_servers", "post_train", "reduce ready", "reduce done"]
    job.victim().plan.failing_hook = job.random.choice(hooks)


def _host_freezes(job: Job) -> None:
    random, host = job.random, job.victim()
    seconds = random.choice([random.uniform(0, 1), random.uniform(1, 5), random.uniform(5, 25), math.inf])
    job.strike(lambda: host.freeze(seconds), on=host)


def _link_is_cut(job: Job) -> None:
    random = job.random
    name = random.choice(job.hosts[1:]).name
    ways = random.choice([[UP, DOWN], [UP, DOWN], [UP], [DOWN]])
    seconds = random.choice([random.uniform(0, 1), random.uniform(1, 4), random.uniform(4, 20), math.inf])

    def cut() -> None:
        job.world.note(name, f"! link is cut {' and '.join(ways)} for {seconds:.3f} s")
        for way in ways:
            job.links[name].cut(way, seconds)

    job.strike(cut, on=next(host for host in job.hosts if host.name == name))


def _link_is_cut_as_a_host_meets_the_leader(job: Job) -> None:
    random, host = job.random, job.random.choice(job.hosts[1:])
    link, seconds = job.links[host.name], random.uniform(3, 7)
    job.hosts[0].plan.starts_at, host.plan.starts_at = 0.0, random.uniform(0.1, 0.5)
    link.delay, link.jitter = random.uniform(0.05, 0.1), 0.01
    link.latency = link.delay + link.jitter
    way = random.choice([UP, DOWN, DOWN])
    job.world.at(host.plan.starts_at + random.uniform(1, 4) * link.delay, lambda: link.cut(way, seconds))


def _link_hiccups_when_it_matters(job: Job) -> None:
    """Cut a link for less than a second, just when the leader's word, or a request, is on its way."""
    random, link = job.random, random_link(job)
    seconds, way = random.uniform(0.1, 0.9), random.choice([UP, DOWN, DOWN])

    def cut() -> None:
        job.world.note(job.hosts[0].name, f"! a link is cut {way} for {seconds:.3f} s")
        link.cut(way, seconds)

    for step in ("stopping", "failing", "done", "reported"):
        job.await_step(job.victim(), step, random.choice([0.0, random.uniform(0, 0.01), random.uniform(0, 0.4)]), cut)


def _leader_is_cut_off(job: Job) -> None:
    seconds = job.random.choice([job.random.uniform(0, 4), math.inf])

    def cut() -> None:
        job.world.note(job.hosts[0].name, f"! is cut off for {seconds:.3f} s")
        for link in job.links.values():
            link.cut(UP, seconds)
            link.cut(DOWN, seconds)

    job.strike(cut, on=job.hosts[0])


def _host_dies(job: Job) -> None:
    host, is_silent = job.victim(), job.random.random() < 0.4
    job.strike(lambda: job.kill(host, is_silent), on=host)


def _host_is_killed_while_its_program_runs(job: Job) -> None:
    host = job.victim()
    job.await_step(host, "program", job.random.uniform(0, 2), lambda: job.kill(host, is_silent=False))


def _host_starts_late(job: Job) -> None:
    job.victim().plan.starts_at = job.random.choice(
        [job.random.uniform(0, 8), job.random.uniform(0, 1.2) * job.timeout]
    )


def _leader_starts_late_and_another_host_is_slow(job: Job) -> None:
    random = job.random
    job.hosts[0].plan.starts_at = random.uniform(1, 0.9 * job.timeout)
    random.choice(job.hosts[1:]).plan.hooks["prepare"] = random.uniform(0.5, 2) * job.timeout


def _host_fails_or_is_stopped_before_it_meets_the_leader(job: Job) -> None:
    random, host = job.random, job.random.choice(job.hosts[1:])
    job.hosts[0].plan.starts_at = random.uniform(0.5, 7)
    if random.random() < 0.7:
        host.plan.failing_hook = "prepare"
        random.choice(job.hosts).plan.failing_hook = "prepare"
    else:
        job.world.at(random.uniform(0, 1), host.ask_to_stop)


def _host_starts_while_the_job_ends(job: Job) -> None:
    late = job.random.choice(job.hosts[1:])
    steps = ("failing", "stopping", "reported")
    late.plan.starts_at = math.inf  # But for what follows.
    for step in steps:
        job.await_step(job.hosts[0], step, job.random.uniform(0, 5), late.start)
    job.random.choice([host for host in job.hosts if host is not late]).plan.failing_hook = "prepare"


def _host_never_starts(job: Job) -> None:
    job.victim().plan.starts_at = math.inf


def _two_hosts_never_come(job: Job) -> None:
    for host in job.random.sample(job.hosts, min(2, len(job.hosts) - 1)):
        if job.random.random() < 0.5:
            host.plan.starts_at = math.inf
        else:
            host.plan.hooks["prepare"] = 2 * job.timeout


def _host_is_slow_to_prepare(job: Job) -> None:
    hook = job.random.choice(["prepare", "start_servers"])
    job.victim().plan.hooks[hook] = job.random.uniform(0.5, 1.3) * job.timeout


def _host_is_asked_to_stop(job: Job) -> None:
    host = job.victim()
    job.strike(host.ask_to_stop, on=host)


def _all_are_asked_to_stop(job: Job) -> None:
    random = job.random
    apart = random.choice([0.0, 0.005, 0.015, 0.03, 0.06, 0.09])
    hosts = random.sample(job.hosts, len(job.hosts))

    def ask() -> None:
        for place, host in enumerate(hosts):
            job.world.after(place * apart, host.ask_to_stop)

    job.strike(ask)


def _host_dies_or_ends_badly_while_servers_wait_for_it(job: Job) -> None:
    """All are asked to stop while programs run; some hosts only serve, and wait for the programs of the others."""
    random, host = job.random, job.victim()
    for each in job.hosts:
        each.plan.role = random.choice([PROGRAM, SERVER])
        each.plan.has_servers = random.random() < 0.5
        each.plan.stop_code = random.choice([0, 143])
        each.plan.program = max(each.plan.program, 1.0)
    host.plan.role = PROGRAM
    job.await_step(host, "program", random.uniform(0.1, 1), random.choice(job.hosts).ask_to_stop)
    if random.random() < 0.5:
        job.await_step(host, "program", random.uniform(0.1, 2), lambda: job.kill(host, is_silent=False))


def _host_that_serves_is_stopped_before_it_knows_that_programs_run(job: Job) -> None:
    random, host = job.random, job.random.choice(job.hosts[1:])
    for each in job.hosts:
        each.plan.program = random.uniform(0, 0.1)
    host.plan.role, job.hosts[0].plan.role = SERVER, PROGRAM
    seconds = random.uniform(0.3, 0.9)
    job.await_step(host, "serving", 0.0, lambda: job.links[host.name].cut(DOWN, seconds))
    job.await_step(host, "serving", random.uniform(0, 1), host.ask_to_stop)


def _host_is_asked_to_stop_twice(job: Job) -> None:
    host, gap = job.victim(), job.random.uniform(0, 1.5)

    def ask() -> None:
        host.ask_to_stop()
        job.world.after(gap, host.ask_to_stop)

    job.strike(ask, on=host)


def _leader_is_asked_to_stop_as_the_last_host_comes(job: Job) -> None:
    """Have the leader know that the job is being stopped before it learns that all have come to a phase."""
    random, last = job.random, job.random.choice(job.hosts[1:])
    hook, phase = random.choice([("prepare", "ready"), ("start_servers", "serving")])
    last.plan.hooks[hook] = random.uniform(1.5, 2.5)
    job.await_step(last, phase, random.uniform(0, job.links[last.name].delay), job.hosts[0].ask_to_stop)


def _host_cannot_finish(job: Job) -> None:
    host = job.victim()
    host.plan.hooks["post_train"] = job.random.uniform(5, 15)
    job.strike(host.ask_to_stop, on=host)


def _host_has_not_heard_of_success_when_its_grace_is_over(job: Job) -> None:
    random, host = job.random, job.random.choice(job.hosts[1:])
    host.plan.hooks["stop_servers"] = host.plan.hooks["post_train"] = 0.0
    host.plan.grace = random.uniform(0.3, 0.8)
    job.await_step(host, "stop_servers", 0.0, host.ask_to_stop)
    job.await_step(host, "done", 0.0, lambda: job.links[host.name].cut(DOWN, 0.9))


def _host_pauses_for_nearly_as_long_as_it_may(job: Job) -> None:
    random = job.random
    for each in job.hosts:
        each.plan.program = random.uniform(12, 20)
    host, seconds = job.victim(), random.uniform(4.5, 5.4)
    job.await_step(host, "program", random.uniform(0.1, 6), lambda: host.freeze(seconds))


FAULTS = (
    _program_fails,
    _program_fails,
    _programs_fail_at_nearly_the_same_time,
    _server_fails,
    _program_and_its_server_fail,
    _message_of_the_first_failure_takes_long,
    _host_dies_when_it_has_failed,
    _host_fails_as_the_job_is_stopped,
    _hook_fails,
    _host_freezes,
    _link_is_cut,
    _link_is_cut_as_a_host_meets_the_leader,
    _link_hiccups_when_it_matters,
    _link_hiccups_when_it_matters,
    _leader_is_cut_off,
    _host_dies,
    _host_is_killed_while_its_program_runs,
    _host_starts_late,
    _leader_starts_late_and_another_host_is_slow,
    _host_fails_or_is_stopped_before_it_meets_the_leader,
    _host_starts_while_the_job_ends,
    _host_never_starts,
    _two_hosts_never_come,
    _host_is_slow_to_prepare,
    _host_is_asked_to_stop,
    _all_are_asked_to_stop,
    _all_are_asked_to_stop,
    _host_dies_or_ends_badly_while_servers_wait_for_it,
    _host_that_serves_is_stopped_before_it_knows_that_programs_run,
    _host_is_asked_to_stop_twice,
    _leader_is_asked_to_stop_as_the_last_host_comes,
    _host_cannot_finish,
    _host_has_not_heard_of_success_when_its_grace_is_over,
    _host_pauses_for_nearly_as_long_as_it_may,
)
