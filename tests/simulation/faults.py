"""The faults of simulated jobs: each is drawn when the job is made, and strikes when it should."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from hosts import PROGRAM, SERVER
from world import DOWN, UP, Link

if TYPE_CHECKING:
    from scenario import Job


def named(fault: Callable[[Job], None]) -> str:
    """Name a fault in words."""
    return fault.__name__.lstrip("_").replace("_", " ")


def random_link(job: Job) -> Link:
    """Draw a link."""
    return job.links[job.random.choice(job.hosts[1:]).name]


def _program_fails(job: Job) -> None:
    plan = job.victim().plan
    plan.fails_with = job.random.choice([1, 3, 139])
    plan.lingers = job.random.choice([0.0, job.random.uniform(0, 0.05), job.random.uniform(0, 2.5)])


def programs_fail_at_nearly_the_same_time(job: Job) -> None:
    """Have two programs fail within a second; in a long job, clocks have come apart until then."""
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
    job.hosts[0].plan.starts_at = random.choice([random.uniform(0.5, 7), random.uniform(0.5, 7), math.inf])
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
    programs_fail_at_nearly_the_same_time,
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
