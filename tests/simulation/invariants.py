"""What has to be so after every job, whatever has happened to it.

Nothing here is taken from the protocol: the windows are those that docs/cluster.md promises, so that a change of one
of them is noticed, and what is right is worked out from what has really happened and what the leader has heard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from hosts import HELPER, PROGRAM, SimulatedHost
from scenario import Job

from sagemaker_framework.cluster.events import (
    Acknowledged,
    Arrived,
    Broadcast,
    Close,
    Closing,
    Connected,
    Disconnected,
    Drop,
    Failed,
    Left,
    Reduced,
    SetResult,
    SetVerdict,
    StopHost,
    StopRequested,
)
from sagemaker_framework.failures import CAUSE, CONSEQUENCE, HOST_LOST, Failure

# The promises of docs/cluster.md, in seconds.
SILENCE = 9.0  # after which a host counts as lost
BEAT = 3.0  # between signs of life
LEAST_WINDOW = 0.3  # in which an earlier failure may show, where all have said what they know
WINDOW = 3.0  # the same, where not
TOGETHER = 0.3  # between the exceptions of a program and its server that are named together
LOSS_SHOWS = 1.0  # before the loss of a host in which others may have noticed it
LAST_ATTEMPTS = 5.0  # in which a host that has failed, or is asked to stop, tries to tell the leader
LATECOMERS = 5.0  # in which a host that fails, or stops, tells others that come
VERDICT = 9.0  # for which a host waits for the leader's word
FAREWELL = 2.0  # for which the leader waits until the others have heard its last
LATE = 10.0  # longer than the leader, for which a follower waits at a barrier
RETRY, ATTEMPT = 1.0, 5.0  # between attempts to reach the leader, and for one
GRACE = 10.0  # for what runs on a host when the job fails

TICK, FAST_TICK = 0.5, 0.1  # of time, which the state is told of; once the job has failed
BRIEF = 1.0  # of interruptions, in sum, through which hosts must still be able to talk
SOON = 0.02  # for what happens on one host

#: Interruptions of a host that cost it no place in the job: three signs of life may be missing.
SURVIVED = SILENCE - BEAT - TICK


def violations(job: Job) -> list[str]:
    """Return what should not be so, in words."""
    seen = Outcome(job)
    checks = (
        _ends_in_one_way,
        _success_is_true,
        _all_meet_at_each_phase,
        _all_that_can_talk_agree,
        _reports_are_true,
        _the_verdict_is_the_first_cause,
        _a_program_and_a_server_are_named_together_if_they_raised_together,
        _the_verdict_comes_in_time,
        _requests_to_stop_count_unless_they_are_late,
        _the_signal_is_the_one_that_came,
        _each_program_is_asked_once,
        _silence_is_noticed,
        _programs_are_over_when_the_last_has_ended_or_is_gone,
        _the_leader_leaves_in_time,
        _hosts_hear_at_once,
        _nobody_tries_for_long_to_tell_a_leader_that_is_not_there,
        _every_host_ends,
        _a_job_without_trouble_succeeds,
    )
    return [
        f"{check.__name__.lstrip('_').replace('_', ' ')}: not so: {each}" for check in checks for each in check(seen)
    ]


#: What hosts say: one that has not, and is gone, may not have heard that it was connected, and tries again.
SAID = (Acknowledged, Arrived, Failed, Left, StopRequested)


class Outcome:
    """What has become of a job.

    Attributes:
        word: how the leader has said that the job ends: `success`, `stopped`, `failed`, or nothing.
        word_at: when; infinity for never.
        failed_at: when the leader has first told the others of a failure.
        verdict: what the leader has said that the job has failed of.
        trouble_at: when the first thing has happened that a job need not survive.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.facts = job.facts
        self.log = job.facts.log
        self.hosts = job.hosts
        self.leader = job.hosts[0]
        self.followers = job.hosts[1:]
        self.with_program = [host.name for host in job.hosts if host.plan.role == PROGRAM]
        self.verdict: Failure | None = next((it.failure for _, it in self.log if isinstance(it, SetVerdict)), None)
        self.failed_at = self._first(lambda it: isinstance(it, Broadcast) and it.message["type"] == "fail")
        ends = {
            "failed": self._first(lambda it: isinstance(it, SetVerdict)),
            "stopped": self._first(lambda it: isinstance(it, StopHost)),
            "success": self._first(lambda it: isinstance(it, SetResult) and it.phase == "done"),
        }
        self.words = [word for word, at in ends.items() if at < math.inf]
        self.word = self.words[0] if self.words else ""
        self.word_at = min(ends.values())
        self.ended_at = self._first(lambda it: isinstance(it, SetResult) and it.phase == "ended")
        self.closed_at = self._first(lambda it: isinstance(it, Close))
        self.connected_at: dict[str, float] = {}
        for at, it in self.log:
            if isinstance(it, Connected):
                self.connected_at.setdefault(it.host, at)
        self.trouble_at = min(
            [at for at, _ in (*self.facts.troubles, *(stop[:2] for stop in self.facts.stops))], default=math.inf
        )

    def _first(self, is_it: Any) -> float:
        return next((at for at, it in self.log if is_it(it)), math.inf)

    def stalls(self, host: SimulatedHost) -> list[tuple[float, float]]:
        """Return from when till when a host and the leader could not hear each other."""
        ways = [] if host is self.leader else self.job.links[host.name].stalls
        return [*host.freezes, *self.leader.freezes, *ways]

    def stalled(self, host: SimulatedHost, since: float = -math.inf, until: float = math.inf) -> float:
        """Return for how many seconds, in sum, of those stalls that overlap this time."""
        return sum(end - begin for begin, end in self.stalls(host) if end >= since and begin <= until)

    def latency(self, host: SimulatedHost) -> float:
        """Return the seconds that a message between a host and the leader takes at most."""
        return 0.0 if host is self.leader else self.job.links[host.name].latency

    def meets_leader(self, host: SimulatedHost) -> bool:
        """Return whether a host must have met the leader: both were there for long enough.

        A host that is late meets a leader that has failed, or is stopped, less than `LATECOMERS` before; a host that
        has failed tries for `LAST_ATTEMPTS`, and no longer than hosts wait for each other.
        """
        if host is self.leader or host.name in self.connected_at:
            return True
        leader, until = self.leader, self.closed_at
        if leader.report is not None and leader.report.outcome != "success":
            until = max(until, leader.report.at + LATECOMERS)
        host_until = host.over_at
        if host.told_at < math.inf or "stopping" in host.came_to:
            tries_until = min(host.told_at, host.came_to.get("stopping", math.inf)) + LAST_ATTEMPTS
            host_until = max(host_until, min(tries_until, host.plan.starts_at + host.timeout))
        together = min(until, host_until) - max(host.plan.starts_at, leader.plan.starts_at)
        if self.stalls(host):
            together -= self.stalled(host) + ATTEMPT
        return together >= RETRY + 8 * self.latency(host) + 2 * TICK

    def can_talk(self, host: SimulatedHost) -> bool:
        """Return whether a host could talk with the others from the first trouble until the job's end was told.

        So it is if the host has lived to report, and the leader to close its session; if they have met, or must have
        (`meets_leader`); and if neither was frozen, nor the way between them cut, for more than `BRIEF` seconds in
        sum, from the first trouble until the host had reported; and unless it had failed so long before they met that
        `VERDICT` was over before the leader's window.  An interruption that began before counts as a whole
        if it lasted until then.
        """
        if host.report is None or self.leader.over_at < self.closed_at or not self.meets_leader(host):
            return False
        if (
            host.report.at < self.word_at
            and self.connected_at.get(host.name, 0.0) > host.told_at + VERDICT - WINDOW - TICK
        ):
            return False
        until = max(host.report.at, self.word_at)
        since = min(self.trouble_at, self.failed_at, self.word_at)
        survives = self.stalled(host, until=since) < SURVIVED
        return survives and self.stalled(host, since, until) <= BRIEF


# -- the invariants ----------------------------------------------------------------------------


def _ends_in_one_way(seen: Outcome) -> Iterator[str]:
    if len(seen.words) > 1:
        yield f"the leader has said {' and '.join(seen.words)}"
    for kind in ("fail", "verdict", "stop"):
        said = [at for at, it in seen.log if isinstance(it, Broadcast) and it.message["type"] == kind]
        if len(said) > 1:
            yield f"the leader has said {kind} {len(said)} times"
    if seen.word == "success" and seen.failed_at < math.inf:
        yield "the leader tells of a failure after success"
    completed: set[str] = set()
    for at, it in seen.log:
        if isinstance(it, SetResult):
            if it.phase in completed:
                yield f"{it.phase} is complete twice"
            completed.add(it.phase)
            if at > seen.failed_at:
                yield f"{it.phase} is complete after the job has failed"
            if seen.word == "stopped" and at > seen.word_at and it.phase != "ended":
                yield f"{it.phase} is complete while the job is being stopped"


def _success_is_true(seen: Outcome) -> Iterator[str]:
    declared = [host for host in seen.hosts if host.report and host.report.outcome == "success"]
    if not declared:
        return
    for host in seen.hosts:
        if host.plan.role == PROGRAM and host.program.code != 0:
            yield f"{declared[0].name} declares success, but the program of {host.name} ended with {host.program.code}"
        if host.came_to.get("done", math.inf) > min(each.report.at for each in declared if each.report):
            yield f"{declared[0].name} declares success before {host.name} is done"
        if host.report and host.report.outcome == "failed" and host.report.failure.kind != HOST_LOST:
            yield f"{declared[0].name} declares success, {host.name} {host.report}"


def _all_meet_at_each_phase(seen: Outcome) -> Iterator[str]:
    """No host goes beyond a phase before all have come to it; all get the same result."""
    beyond = (("ready", "start_servers", seen.hosts), ("serving", "program", seen.hosts))
    for phase, next_step, needed in beyond:
        last = max(host.came_to.get(phase, math.inf) for host in needed)
        for host in seen.hosts:
            if host.came_to.get(next_step, math.inf) < last:
                yield f"{host.name} goes beyond {phase} at {host.came_to[next_step]:.4f}, before all have come to it"
    last = max(host.program.ended_at for host in seen.hosts if host.plan.role == PROGRAM)
    for host in seen.hosts:
        if host.came_to.get("stop_servers", math.inf) < last:
            yield f"{host.name} stops its servers before all programs have ended"
        for phase, result in host.session.results.items():
            reduces = seen.leader.plan.reduces and phase != "ended"
            if result != ({"of": sorted(host.hosts)} if reduces else {}):
                yield f"{host.name} gets {result} for {phase}"


def _all_that_can_talk_agree(seen: Outcome) -> Iterator[str]:
    for host in filter(seen.can_talk, seen.hosts):
        report = host.report
        assert report
        is_own = report.failure is not None and report.failure.host == host.name
        if seen.word == "stopped" and (report.outcome == "stopped" or (report.outcome == "failed" and is_own)):
            continue
        if report.outcome != seen.word:
            yield f"{host.name} can talk and reports {report}, the job's end is {seen.word}"
        elif seen.word == "failed" and seen.verdict and report.failure:
            told, known = report.failure, seen.verdict
            if (told.cause, told.exit_code) != (known.cause, known.exit_code):
                yield f"{host.name} can talk and reports {report}, the verdict is {known.cause!r}"


def _reports_are_true(seen: Outcome) -> Iterator[str]:
    for host in seen.hosts:
        report = host.report
        if report is None or report.failure is None:
            continue
        failure = report.failure
        found = seen.facts.find(failure)
        if found is not None:
            pair = [
                it for it in seen.facts.misfortunes.values() if it.text in failure.cause and it.process == "program"
            ]
            if failure.exit_code != (pair[0] if pair else found).code or failure.host != found.host:
                yield f"{host.name} reports {report}, but it was {found}"
        elif failure.kind == HOST_LOST and failure.host != seen.leader.name:
            lost = next(each for each in seen.hosts if each.name == failure.host)
            if not failure.cause.startswith(f"{_place(seen, lost)}: "):
                yield f"{host.name} reports {failure.cause!r} of {_place(seen, lost)}"
            is_gone = lost.over_at <= report.at and lost.report is None
            if not is_gone and seen.stalled(lost, until=report.at) < SURVIVED:
                yield f"{host.name} reports {report}, but {lost.name} was there"
        elif failure.kind == HOST_LOST:
            yield from _check_loss_of_leader(seen, host)
        elif "not all hosts were" in failure.cause:
            yield from _check_lateness(seen, host, failure)
        else:
            yield f"{host.name} reports {report}, which has not happened"


def _place(seen: Outcome, host: SimulatedHost) -> str:
    return f"{host.name} (host {seen.hosts.index(host) + 1} of {len(seen.hosts)})"


def _check_loss_of_leader(seen: Outcome, host: SimulatedHost) -> Iterator[str]:
    leader, report = seen.leader, host.report
    assert report
    is_gone = leader.over_at <= report.at
    had_ended = leader.report is not None and host.name in seen.connected_at
    never_met = host.name not in seen.connected_at and not is_gone
    if is_gone and not had_ended:
        return
    if seen.stalled(host, until=report.at) >= BRIEF:
        return
    has_waited = report.at - max(host.plan.starts_at, leader.plan.starts_at) >= host.timeout
    if not (never_met and (leader.plan.starts_at > host.plan.starts_at + host.timeout - RETRY or has_waited)):
        yield f"{host.name} reports {report}, but the leader was there"


def _check_lateness(seen: Outcome, host: SimulatedHost, failure: Failure) -> Iterator[str]:
    phase = failure.cause.partition("not all hosts were ")[2].split()[0]
    late = next(each for each in seen.hosts if each.name == failure.host)
    first = min(at for at, it in seen.log if isinstance(it, Arrived) and it.phase == phase)
    slack = seen.stalled(late) + SOON + seen.latency(late)
    has_met = seen.connected_at.get(late.name, 0.0) < seen.failed_at - 8 * seen.latency(late) - SOON
    is_late = late.came_to.get(phase, math.inf) > seen.failed_at - slack or late.over_at < seen.failed_at
    arrived = {it.host for at, it in seen.log if isinstance(it, Arrived) and it.phase == phase and at <= seen.failed_at}
    missing = [each.name for each in seen.hosts if each.name not in arrived]
    if failure.host != missing[0] or not failure.cause.startswith(f"{_place(seen, late)}: "):
        yield f"{host.name} reports {failure.cause!r}, but {missing} were late"
    if seen.failed_at < first + host.timeout - SOON or (has_met and not is_late):
        yield f"{host.name} reports {failure.cause!r}, but it was in time"


def _the_verdict_is_the_first_cause(seen: Outcome) -> Iterator[str]:
    """The verdict is the first cause of those that were told in time; a loss explains what follows it."""
    verdict = seen.verdict
    if verdict is None:
        return
    told = [each for each in seen.facts.misfortunes.values() if each.told_at is not None]
    losses = _losses(seen)
    at_once = [each for each in told if each.told_at <= seen.failed_at + LEAST_WINDOW - SOON]
    causes = [each for each in at_once if each.kind == CAUSE]
    if not causes and verdict.kind != HOST_LOST and "not all hosts" not in verdict.cause:
        causes = [each for each in told if each.kind == CAUSE and each.told_at < min(seen.word_at, seen.failed_at + 3)]
    chosen = seen.facts.find(verdict)
    known = [each for each in losses if each[0] <= seen.failed_at + LEAST_WINDOW - SOON]
    if chosen is not None and verdict.kind == CONSEQUENCE and (causes or known):
        yield f"a consequence is the verdict, {chosen.text}, although {(causes or known)[0]} was told"
    if chosen is not None and verdict.kind == CAUSE:
        for other in causes:
            if other.raised_at + _clock_error(seen, other.host) < chosen.raised_at - 0.001:
                yield f"{chosen.text} at {chosen.raised_at:.4f} is the verdict; {other.text} was earlier, {other}"
        for at, name in known:
            if chosen.raised_at > at - LOSS_SHOWS + _clock_error(seen, chosen.host) + SOON:
                yield f"{chosen.text} is the verdict, although {name} was lost at {at:.4f}"
    if verdict.ended_at < verdict.raised_at:
        yield f"the verdict begins at {verdict.raised_at:.4f}, and ends at {verdict.ended_at:.4f}"
    if verdict.kind == HOST_LOST:
        yield from _check_loss(seen, verdict)
        lost_at = min([at for at, name in losses if name == verdict.host], default=-math.inf)
        for other in causes:
            if other.raised_at + _clock_error(seen, other.host) < lost_at - LOSS_SHOWS - SOON:
                yield f"the loss of {verdict.host} at {lost_at:.4f} is the verdict; long before, {other}"


def _check_loss(seen: Outcome, verdict: Failure) -> Iterator[str]:
    """A host is lost from its last sign of life on, and not if it had said why it fails."""
    until = next(
        (at for at, it in seen.log if isinstance(it, (Drop, Disconnected, Left)) and it.host == verdict.host), math.inf
    )
    if any(isinstance(it, Failed) and it.host == verdict.host and at < until for at, it in seen.log):
        yield f"the loss of {verdict.host} is the verdict, which had said why it would go"
    dropped_at = seen._first(lambda it: isinstance(it, Drop) and it.host == verdict.host)
    heard = seen.leader.clock() - (seen.job.world.now - dropped_at + SILENCE) * seen.leader.clock.rate
    if dropped_at <= seen.word_at and verdict.raised_at > heard + 0.01:
        yield f"{verdict.host} is lost at {verdict.raised_at:.4f}, and was last heard before {heard:.4f}"


def _a_program_and_a_server_are_named_together_if_they_raised_together(seen: Outcome) -> Iterator[str]:
    """Only those of one host, and only if they stand for themselves."""
    chosen = seen.facts.find(seen.verdict) if seen.verdict else None
    if seen.verdict is None or chosen is None or chosen.kind != CAUSE:
        return
    for other in seen.facts.misfortunes.values():
        is_named = other.text in seen.verdict.cause
        is_pair = other.host == chosen.host and {other.process, chosen.process} == {"program", "server"}
        apart, error = abs(other.raised_at - chosen.raised_at), 2 * _clock_error(seen, chosen.host)
        is_told = other.told_at is not None and other.told_at < seen.word_at and other.kind == CAUSE
        if is_named and other is not chosen and not (is_pair and apart <= TOGETHER + error):
            yield f"{other.text} is named with {chosen.text}, {apart:.2f} s apart"
        if is_pair and is_told and not is_named and apart < TOGETHER - error:
            yield f"{other.text} is not named with {chosen.text}, {apart:.2f} s apart"


def _losses(seen: Outcome) -> list[tuple[float, str]]:
    """Return when the leader has last heard of hosts that it has lost, and their names."""
    have_failed = {it.host for _, it in seen.log if isinstance(it, Failed)}
    found, have_spoken, have_left = [], set(), set()
    for at, it in seen.log:
        if at > seen.word_at:
            break
        is_lost = isinstance(it, Disconnected) and it.host in have_spoken - have_left
        if (is_lost or (isinstance(it, Left) and at <= seen.failed_at)) and it.host not in have_failed:
            found.append((at, it.host))
        have_spoken |= {it.host} if isinstance(it, SAID) else set()
        have_left |= {it.host} if isinstance(it, Left) else set()
    return found


def _clock_error(seen: Outcome, host: str) -> float:
    """Return by how many seconds a failure may seem later than it was: the quickest message's way, and drift."""
    if host == seen.leader.name:
        return 0.0
    return seen.job.links[host].latency + SOON


def _the_verdict_comes_in_time(seen: Outcome) -> Iterator[str]:
    """It comes when all have said what they know, no sooner, and after the window in any case."""
    leader = seen.leader
    if seen.failed_at == math.inf:
        return
    until = min(seen.word_at, leader.over_at)
    if any(end >= seen.failed_at - SILENCE for _, end in leader.freezes):
        return
    if leader.over_at == math.inf or until - seen.failed_at > WINDOW + 2 * FAST_TICK:
        yield f"the verdict comes {until - seen.failed_at:.2f} s after the first failure"
    was_silent = any(isinstance(it, Drop) for at, it in seen.log if at <= seen.failed_at)
    clear_at = max(seen.failed_at + LEAST_WINDOW, _all_said_at(seen))
    if not was_silent and seen.verdict and until < min(clear_at, seen.failed_at + WINDOW) - SOON:
        yield f"the verdict comes at {until:.4f}, before all was said at {clear_at:.4f}"
    due = _due_at(seen) + 2 * FAST_TICK + SOON
    if until > due:
        yield f"the verdict comes at {until:.4f}, but all could be said by {due:.4f}"


def _all_said_at(seen: Outcome) -> float:
    """Return since when all that are connected had said what they know, with a cause among it, until the verdict."""
    connected: set[str] = set()
    said: set[str] = {seen.leader.name}
    since, has_cause = math.inf, False
    for at, it in seen.log:
        if at > seen.word_at:
            break
        if isinstance(it, Connected):
            connected.add(it.host)
        elif isinstance(it, (Left, Disconnected, Drop)):
            connected.discard(it.host)
        elif isinstance(it, (Acknowledged, Failed)):
            said.add(it.host)
        has_cause |= _tells_cause(it)
        is_clear = at >= seen.failed_at and has_cause and connected <= said
        since = min(since, at) if is_clear else math.inf
    return since


def _tells_cause(it: Any) -> bool:
    is_told = isinstance(it, Failed) and it.failure.kind == CAUSE
    return is_told or (isinstance(it, Broadcast) and it.message.get("failure", {}).get("kind") == CAUSE)


def _due_at(seen: Outcome) -> float:
    """Return by when all hosts can have said what they know; infinity if one was held up, or no cause is known."""
    due = max(seen.failed_at + LEAST_WINDOW, seen._first(_tells_cause))
    for host in seen.followers:
        came_at = seen.connected_at.get(host.name, math.inf)
        if came_at > seen.word_at:
            continue
        if any(end > seen.failed_at - SILENCE for _, end in seen.stalls(host)) or host.is_silent:
            return math.inf
        due = max(due, max(came_at, seen.failed_at) + 4 * seen.latency(host) + SOON)
    return due


def _requests_to_stop_count_unless_they_are_late(seen: Outcome) -> Iterator[str]:
    """The first counts that comes before the job has failed, and before all programs have ended well, or insists."""
    ended: set[str] = set()
    done: set[str] = set()
    is_reduced, should = not seen.leader.plan.reduces, math.inf
    requests = {host.name: iter(host.requests) for host in seen.hosts}
    for at, it in seen.log:
        if isinstance(it, Arrived) and it.phase in ("ended", "done"):
            (ended if it.phase == "ended" else done).add(it.host)
        elif isinstance(it, Reduced):
            is_reduced |= it.phase == "done"
        elif isinstance(it, Broadcast) and it.message["type"] == "fail":
            break
        elif isinstance(it, StopRequested):
            is_done = len(done) == len(seen.hosts) and is_reduced
            if not is_done and (next(requests[it.host]) or not ended >= set(seen.with_program)):
                should = at
                break
    stopped_at = seen.word_at if seen.word == "stopped" else math.inf
    if should != stopped_at:
        yield f"the job is stopped at {stopped_at:.4f}, and should be at {should:.4f}"


def _the_signal_is_the_one_that_came(seen: Outcome) -> Iterator[str]:
    """All hosts stop by the signal of the host whose request was the first, or that they have got themselves."""
    own: dict[str, int] = {}
    for _, name, signum in seen.facts.stops:
        own.setdefault(name, signum)
    stops = [it for _, it in seen.log if isinstance(it, (StopRequested, StopHost))]
    at = next((at for at, it in enumerate(stops) if isinstance(it, StopHost)), 0)
    job = own.get(stops[at - 1].host, stops[at].signum) if at else None
    if at and stops[at].signum != job:
        yield f"the job is stopped by {stops[at].signum}, and {stops[at - 1].host} was by {job}"
    for host in seen.hosts:
        if host.stop_at is not None and host.stopped_by not in (own.get(host.name), job):
            yield f"{host.name} stops by {host.stopped_by}, and should by {own.get(host.name, job)}"


def _each_program_is_asked_once(seen: Outcome) -> Iterator[str]:
    for host in seen.hosts:
        program = host.program
        if len(program.asked) > 1:
            yield f"the program of {host.name} is asked {len(program.asked)} times"
        if program.asked and not seen.facts.stops:
            yield f"the program of {host.name} is asked to stop, which nobody has asked for"
        if seen.word != "stopped" or host.plan.role == HELPER or not seen.can_talk(host):
            continue
        known_at = max(seen.word_at, seen.connected_at.get(host.name, 0.0))
        known_at += seen.latency(host) + SOON + seen.stalled(host, seen.word_at - SILENCE)
        if program.begun_at < math.inf and program.begun_at > known_at:
            yield f"the program of {host.name} begins although the job is being stopped"
        if program.begun_at < known_at < program.ended_at and not (program.asked and program.asked[0] <= known_at):
            yield f"the program of {host.name} is not asked to stop"


def _silence_is_noticed(seen: Outcome) -> Iterator[str]:
    """A host that is silent for `SILENCE` is lost, and no sooner; on either side."""
    if seen.leader.freezes:
        return
    for host in seen.followers:
        gone = [begin for begin, end in seen.stalls(host) if end - begin > SILENCE + 2 * TICK + BEAT]
        gone += [host.over_at] if host.is_silent else []
        heard_until = min(gone, default=math.inf)
        if len(seen.stalls(host)) + host.is_silent != 1 or seen.connected_at.get(host.name, math.inf) > heard_until:
            continue
        noticed = seen._first(lambda it, name=host.name: isinstance(it, (Drop, Disconnected, Left)) and it.host == name)
        over = min(noticed, seen.word_at, seen.closed_at, seen.leader.over_at, seen.failed_at)
        if over > heard_until + SILENCE + TICK + BEAT + SOON + seen.latency(host):
            yield f"{host.name} is silent from {heard_until:.2f} on, which the leader does not notice"
    for at, it in seen.log:
        if isinstance(it, Drop):
            host = next(each for each in seen.hosts if each.name == it.host)
            if seen.stalled(host, until=at) < SURVIVED and host.over_at > at:
                yield f"{host.name} is dropped, but was there"


def _programs_are_over_when_the_last_has_ended_or_is_gone(seen: Outcome) -> Iterator[str]:
    """In a job that is being stopped, hosts with servers are let go then, and no sooner."""
    if seen.word != "stopped" or not any(isinstance(it, SetResult) and it.phase == "serving" for _, it in seen.log):
        return
    there: set[str] = set()
    due, is_told = math.inf, False
    for at, it in seen.log:
        if isinstance(it, Close):
            break
        has_come = isinstance(it, Arrived) and it.phase == "ended"
        is_told |= isinstance(it, StopHost)
        is_gone = isinstance(it, (Left, Drop)) or (isinstance(it, Disconnected) and is_told)
        there |= {it.host} if has_come or is_gone else set()
        if there >= set(seen.with_program):
            due = at
            break
    if seen.ended_at != due and seen.ended_at > seen.word_at:
        yield f"the programs have ended at {due:.4f}, hosts are let go at {seen.ended_at:.4f}"


def _the_leader_leaves_in_time(seen: Outcome) -> Iterator[str]:
    """It stays until all that are connected know how the job ends, at most `FAREWELL`; then it goes at once."""
    closing_at = seen._first(lambda it: isinstance(it, Closing))
    if not seen.word or seen.leader.over_at < seen.closed_at or seen.leader.freezes or closing_at == math.inf:
        return
    known: dict[str, float] = {}
    missing, have_spoken = {host.name for host in seen.followers}, set()
    for at, it in seen.log:
        have_spoken |= {it.host} if isinstance(it, SAID) else set()
        if isinstance(it, Disconnected) and it.host not in have_spoken:
            missing.add(it.host)
        if isinstance(it, Connected):
            known[it.host] = math.inf
            missing.discard(it.host)
        elif isinstance(it, (Left, Disconnected, Drop)) or (isinstance(it, Acknowledged) and seen.word == "stopped"):
            known[it.host] = min(at, known.get(it.host, math.inf))
    all_know_at = max([closing_at, *known.values()])
    may_leave_at = min(all_know_at, closing_at + FAREWELL)
    if seen.closed_at < may_leave_at - 0.001:  # Its clock may be fast.
        yield f"the leader leaves at {seen.closed_at:.4f}; not all know before {all_know_at:.4f}"
    due = max(may_leave_at, seen.word_at + LATECOMERS, closing_at + LATECOMERS) if missing else may_leave_at
    if any(isinstance(it, Connected) and at > closing_at for at, it in seen.log):
        due = max(due, closing_at + LATECOMERS)
    if seen.closed_at > due + TICK + SOON:
        yield f"the leader leaves at {seen.closed_at:.4f}, and could at {due:.4f}"


def _hosts_hear_at_once(seen: Outcome) -> Iterator[str]:
    """Hosts report as soon as the leader's word can have reached them, and what runs on them has ended."""
    for host in filter(seen.can_talk, seen.hosts):
        report = host.report
        assert report
        if seen.word == "success" or (seen.word == "failed" and report.outcome == "failed"):
            since = min(seen.trouble_at, seen.word_at) - 20
            known_at = max(seen.word_at, seen.connected_at.get(host.name, 0.0)) + seen.stalled(host, since)
            due = max(known_at + 2 * seen.latency(host), host.stopping_takes_until, _busy_until(host)) + SOON
            if report.at > due:
                yield f"{host.name} reports at {report.at:.4f}, but could from {due:.4f} on"


def _busy_until(host: SimulatedHost) -> float:
    return host.came_to.get("failing", 0.0) if host.report and host.report.failure else 0.0


def _nobody_tries_for_long_to_tell_a_leader_that_is_not_there(seen: Outcome) -> Iterator[str]:
    """A host that has failed, or is asked to stop, gives up `LAST_ATTEMPTS` later, and does not wait for a word."""
    leader = seen.leader
    for host in seen.followers:
        since = min(host.told_at, host.asked_at)
        if host.report is None or since == math.inf or seen.stalls(host) or leader.plan.starts_at < host.report.at:
            continue
        is_busy_until = host.stopping_takes_until if host.told_at < math.inf else 0.0
        due = max(since + LAST_ATTEMPTS + RETRY + 4 * seen.latency(host), is_busy_until)
        if host.report.at > due + SOON:
            yield f"{host.name} reports at {host.report.at:.4f}, but should give up by {due:.4f}"


def _every_host_ends(seen: Outcome) -> Iterator[str]:
    """Within its bound: what is known of the trouble, and what the hosts may take to learn of it and to say so."""
    for host in seen.hosts:
        if host.plan.starts_at == math.inf or any(end == math.inf for _, end in host.freezes):
            continue
        if host.over_at > _bound(seen, host):
            yield f"{host.name} ends at {host.over_at:.2f}, and should by {_bound(seen, host):.2f}"
        if host.report is None and not any(text == f"{host.name} dies" for _, text in seen.facts.troubles):
            yield f"{host.name} reports nothing"


def _bound(seen: Outcome, host: SimulatedHost) -> float:
    """Return by when a host must have ended.

    It has at most the phases' timeout where a host is missing; learns of a loss after `SILENCE`; the leader decides
    within `WINDOW`; what runs ends within `GRACE`, or the grace period of a stop; the word is waited for, and then the
    end of the session, at most `VERDICT` each.  Interruptions come on top.
    """
    plan = host.plan
    begun = max([each.plan.starts_at for each in seen.hosts if each.plan.starts_at < math.inf])
    hooks = {name for each in seen.hosts for name in each.plan.hooks}
    work = sum(max(each.plan.hooks.get(name, 0.0) for each in seen.hosts) for name in hooks)
    work += max(each.plan.program for each in seen.hosts)
    stalls = sum(end - begin for begin, end in seen.stalls(host) if end < math.inf)
    if seen.word == "success" and not any(map(seen.stalls, seen.hosts)):
        return begun + work + FAREWELL + TICK + 20 * max(map(seen.latency, seen.hosts)) + 1.0
    waits = 2 * host.timeout + LATE if seen.trouble_at == math.inf or seen.word != "stopped" else 0.0
    learns = SILENCE + 2 * TICK + WINDOW + max(plan.grace, GRACE) + 2 * VERDICT + LATECOMERS
    return begun + work + waits + learns + 2 * stalls


def _a_job_without_trouble_succeeds(seen: Outcome) -> Iterator[str]:
    if seen.trouble_at < math.inf or seen.word == "success":
        return
    starts = [host.plan.starts_at for host in seen.hosts]
    if max(starts) - min(starts) > seen.job.timeout - 2 * RETRY or math.inf in starts:
        return
    if any(seen.stalled(host) >= SURVIVED - 2 * SOON for host in seen.hosts):
        return
    for phase in ("ready", "serving"):
        came = [host.came_to.get(phase, math.inf) for host in seen.hosts]
        if max(came) - min(came) > seen.job.timeout - 2 * RETRY - max(map(seen.stalled, seen.hosts)):
            return
    yield f"nothing has happened, and its end is {seen.word or 'none'}: {[str(host.report) for host in seen.hosts][:4]}"
