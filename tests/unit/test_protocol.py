"""What the hosts of a job say to each other, and decide."""

from __future__ import annotations

import pytest

from sagemaker_framework import timing
from sagemaker_framework.cluster import messages
from sagemaker_framework.cluster.events import (
    Acknowledged,
    Action,
    Arrived,
    AttemptFailed,
    Beat,
    Broadcast,
    Close,
    Closing,
    Completed,
    Connected,
    Decided,
    Disconnected,
    Drop,
    Event,
    Failed,
    Gather,
    Heard,
    Interrupt,
    JobFailed,
    Left,
    Reduced,
    Resolved,
    Send,
    SetResult,
    SetVerdict,
    StopHost,
    StopRequested,
    Tell,
    Tick,
    Waiting,
)
from sagemaker_framework.cluster.protocol import FollowerState, LeaderState
from sagemaker_framework.failures import CAUSE, CONSEQUENCE, HOST_LOST, Failure

HOSTS = ["algo-1", "algo-2", "algo-3"]


class Leading:
    """A leader whose followers are connected, and a clock."""

    def __init__(self, hosts: list[str] = HOSTS, connected: bool = True) -> None:
        self.state = LeaderState(hosts, hosts[0], timeout=900)
        self.hosts = hosts
        self.now = 100.0
        if connected:
            for host in hosts[1:]:
                self.hear(Connected(host), Heard(host))

    def hear(self, *events: Event, after: float = 0.0) -> list[Action]:
        self.now += after
        return [action for event in events for action in self.state.handle(event, self.now)]

    def all_arrive(self, *phases: str) -> list[Action]:
        payload = {"completes_job": True}
        return [
            action for phase in phases for host in self.hosts for action in self.hear(Arrived(host, phase, payload))
        ]

    def wait(self, seconds: float) -> list[Action]:
        """Let time pass, in which all that are connected give signs of life."""
        done = []
        for _ in range(int(seconds / 0.1) + 1):
            done += self.hear(*(Heard(host) for host in self.state.connected), Tick(), after=0.1)
        return [action for action in done if not isinstance(action, Beat)]


class Following:
    """The follower algo-2, and a clock."""

    def __init__(self, connected: bool = True) -> None:
        self.now = 5.0
        self.state = FollowerState(HOSTS, "algo-2", "algo-1", timeout=900, now=self.now)
        if connected:
            self.hear(Connected("algo-1"))

    def hear(self, *events: Event, after: float = 0.0) -> list[Action]:
        self.now += after
        return [action for event in events for action in self.state.handle(event, self.now)]


def fails(host: str, raised_at: float = 100.0, kind: str = CAUSE) -> Failed:
    """A failure that a host tells of at 100 s, by a clock that is the leader's."""
    sent = None if host == "algo-1" else max(raised_at, 100.0)
    return Failed(host, Failure(host, f"{host} fails", raised_at=raised_at, kind=kind), sent)


def verdicts(actions: list[Action]) -> list[str]:
    return [action.failure.cause for action in actions if isinstance(action, SetVerdict)]


# -- phases ------------------------------------------------------------------------------------


def test_a_phase_is_complete_when_all_hosts_have_come_to_it() -> None:
    """Nobody is let go before the last has come; then all are told at once."""
    job = Leading()

    assert [] == job.hear(Arrived("algo-1", "ready", {}), Arrived("algo-3", "ready", {}))
    assert [Broadcast(messages.go("ready", {})), SetResult("ready", {})] == job.hear(Arrived("algo-2", "ready", {}))


def test_the_leader_computes_the_result_where_it_says_so() -> None:
    """It is asked with what each host has brought; then all hosts get what it has made of that."""
    job = Leading(HOSTS[:2])

    asked = job.hear(Arrived("algo-1", "ready", {"port": 1}, reduces=True), Arrived("algo-2", "ready", {"port": 2}))
    told = job.hear(Reduced("ready", {"ports": [1, 2]}))

    assert [Gather("ready", {"algo-1": {"port": 1}, "algo-2": {"port": 2}})] == asked
    assert [Broadcast(messages.go("ready", {"ports": [1, 2]})), SetResult("ready", {"ports": [1, 2]})] == told


def test_only_hosts_whose_program_completes_the_job_are_waited_for_at_its_end() -> None:
    """A host that only serves need not come to `ended`."""
    job = Leading(HOSTS[:2])
    job.hear(Arrived("algo-1", "serving", {"completes_job": True}), Arrived("algo-2", "serving", {}))

    assert SetResult("ended", {}) in job.hear(Arrived("algo-1", "ended", {}))


@pytest.mark.parametrize("phase", ["ready", "serving"])
def test_hosts_do_not_wait_for_ever_before_programs_start(phase: str) -> None:
    """The job fails with the name of the one that is late, and what is known of why."""
    job = Leading(HOSTS[:2], connected=False)
    job.state = LeaderState(job.hosts, "algo-1", timeout=900, unresolved=["algo-2"])
    job.hear(Arrived("algo-1", phase, {}))

    (cause,) = verdicts(job.wait(910))
    assert cause == (
        f"algo-2 (host 2 of 2): not all hosts were {phase} 900 s after the first was: "
        "waited for algo-2 (its name does not resolve)"
    )


def test_a_leader_that_is_late_itself_is_interrupted() -> None:
    """It stops what keeps it, and waits no longer for the others, which have gone."""
    job = Leading(HOSTS[:2])
    job.hear(Arrived("algo-2", "ready", {}))
    done = job.wait(910)

    assert ["algo-1"] == [action.failure.host for action in done if isinstance(action, Interrupt)]


def test_of_several_late_hosts_the_first_is_the_one_that_failed() -> None:
    """The cause begins with it, and names the others where it says for whom the job has waited."""
    job = Leading()
    job.hear(Arrived("algo-1", "ready", {}))
    done = job.wait(910)

    assert ["algo-2"] == [action.failure.host for action in done if isinstance(action, SetVerdict)]
    (cause,) = verdicts(done)
    assert cause.startswith("algo-2 (host 2 of 3): not all hosts were ready")
    assert "waited for algo-2 (connected, still preparing), algo-3 (connected, still preparing)" in cause


def test_hosts_that_wait_are_told_for_whom() -> None:
    """The first few are named; those that are waited for are not told."""
    job = Leading([f"algo-{at}" for at in range(1, 9)])
    job.hear(Arrived("algo-1", "ready", {}), Arrived("algo-2", "ready", {}))
    done = [action for action in job.wait(11) if not isinstance(action, Beat)]

    late = "algo-3, algo-4, algo-5, algo-6, algo-7 and 1 more"
    assert [Tell(f"waiting for {late} to be ready"), Send("algo-2", messages.waiting("ready", late))] == done


def test_the_log_says_what_a_host_does_that_is_late() -> None:
    """The leader knows it of itself, and of hosts that are connected."""
    job = Leading(HOSTS, connected=False)
    job.hear(Connected("algo-2"), Arrived("algo-3", "ready", {}))
    told = [action.text for action in job.wait(11) if isinstance(action, Tell)]

    late = "algo-1 (connected, still preparing), algo-2 (connected, still preparing)"
    assert [f"waiting for {late} to be ready"] == told


def test_a_host_whose_name_has_resolved_has_only_not_connected() -> None:
    """Words tell what is known."""
    job = Leading(HOSTS[:2], connected=False)
    job.state = LeaderState(job.hosts, "algo-1", timeout=900, unresolved=["algo-2"])
    job.hear(Resolved("algo-2", frozenset()), Arrived("algo-1", "ready", {}))
    told = [action.text for action in job.wait(11) if isinstance(action, Tell)]

    assert ["waiting for algo-2 (has not connected) to be ready"] == told


@pytest.mark.parametrize("phase", ["ended", "done"])
def test_the_users_own_work_may_take_as_long_as_it_takes(phase: str) -> None:
    """There is no deadline while all hosts are there; every 10 s the log says for whom they wait."""
    job = Leading(HOSTS[:2])
    job.all_arrive("ready", "serving")
    job.hear(Arrived("algo-1", phase, {}))
    done = job.wait(2000)

    assert [] == verdicts(done)
    assert 190 < len([action for action in done if isinstance(action, Tell)]) <= 200


# -- failures ----------------------------------------------------------------------------------


def test_a_failure_stops_all_hosts_at_once() -> None:
    """All are told before it is known whether it was the first."""
    job = Leading()
    failed = fails("algo-2")

    assert [Broadcast(messages.fail(failed.failure)), Interrupt(failed.failure)] == job.hear(failed)


def test_the_failure_that_was_first_by_its_own_clock_is_the_verdict() -> None:
    """A host tells later of what had happened earlier."""
    job = Leading()
    job.hear(fails("algo-3", 99.9), fails("algo-2", 99.8))

    assert ["algo-2 fails"] == verdicts(job.wait(1))


def test_clocks_that_are_apart_do_not_matter() -> None:
    """The leader reads a host's clock from when messages were sent."""
    job = Leading()
    early = Failed("algo-3", Failure("algo-3", "algo-3 fails", raised_at=90_000.0), sent=90_000.3)  # 0.3 s ago
    late = Failed("algo-2", Failure("algo-2", "algo-2 fails", raised_at=7.0), sent=7.1)  # 0.1 s ago

    job.hear(late, early)
    assert ["algo-3 fails"] == verdicts(job.wait(1))


def test_clocks_that_drift_do_not_matter() -> None:
    """A clock that has lost 3 s in a day is read anew when its host fails, not as it was in the beginning."""
    job = Leading()
    job.hear(Arrived("algo-2", "ready", {}, sent=100.0))
    job.now += 86_400.0
    slow = job.now - 3.0

    job.hear(Failed("algo-2", Failure("algo-2", "algo-2 fails", raised_at=slow - 0.1), sent=slow))
    job.hear(Failed("algo-3", Failure("algo-3", "algo-3 fails", raised_at=job.now - 0.2), sent=job.now))
    assert ["algo-3 fails"] == verdicts(job.wait(1))


def test_a_message_that_takes_long_does_not_make_its_failure_late() -> None:
    """The clock is known from another message, which was quicker."""
    job = Leading()
    job.hear(Arrived("algo-2", "ready", {}, sent=100.0))
    job.now += 10.0

    job.hear(
        fails("algo-3", job.now - 0.1), Failed("algo-2", Failure("algo-2", "algo-2 fails", raised_at=109.8), 109.8)
    )
    assert ["algo-2 fails"] == verdicts(job.wait(1))


def test_the_leader_waits_until_all_have_said_what_they_know() -> None:
    """No verdict before the least window has passed and all have answered, or the window has."""
    job = Leading()
    job.hear(fails("algo-2"))

    assert [] == verdicts(job.wait(timing.LEAST_WINDOW + 0.5))  # algo-3 has not answered
    job.hear(Acknowledged("algo-3"))
    assert ["algo-2 fails"] == verdicts(job.wait(0.1))


def test_a_host_that_does_not_answer_delays_the_verdict_by_the_window_only() -> None:
    """After it, those that have answered are told."""
    job = Leading()
    job.hear(fails("algo-2"))

    assert ["algo-2 fails"] == verdicts(job.wait(timing.WINDOW + 0.2))


def test_a_consequence_waits_for_its_cause() -> None:
    """Although all hosts have answered, a host may be about to learn what it is a consequence of."""
    job = Leading()
    job.hear(fails("algo-2", 100.0, CONSEQUENCE), Acknowledged("algo-3"))

    assert [] == verdicts(job.wait(timing.WINDOW - 0.5))
    job.hear(fails("algo-3", 102.0))
    assert ["algo-3 fails"] == verdicts(job.wait(0.2))


def test_a_host_whose_connection_is_closed_is_lost_at_once() -> None:
    """The others stop, and the verdict names it with its place."""
    job = Leading()
    job.hear(Disconnected("algo-3", "went away"), Acknowledged("algo-2"))

    assert ["algo-3 (host 3 of 3): this host went away"] == verdicts(job.wait(timing.WINDOW + 0.2))


def test_a_host_that_does_not_hear_that_it_is_connected_is_not_lost() -> None:
    """Where its attempt took too long, it closes the connection and tries again; who has said anything knows."""
    job = Leading(connected=False)

    assert [] == job.hear(Connected("algo-2"), Disconnected("algo-2", "went away"))
    assert [Beat("algo-2")] == job.hear(Connected("algo-2"), Heard("algo-2"))
    assert [Broadcast, Interrupt] == [type(action) for action in job.hear(Disconnected("algo-2", "went away"))]


def test_a_host_that_is_silent_is_lost_after_a_while() -> None:
    """Its connection is dropped, and the loss dates from its last sign of life."""
    job = Leading()
    job.hear(Heard("algo-2"), Tick(), after=timing.SILENCE - 0.1)
    done = job.hear(Heard("algo-2"), Tick(), after=0.2)

    assert Drop("algo-3") in done
    (lost,) = [action.failure for action in done if isinstance(action, Interrupt)]
    assert (HOST_LOST, 100.0) == (lost.kind, lost.raised_at)
    assert "algo-3 (host 3 of 3): this host has not answered for 9 s" == lost.cause


def test_a_host_that_has_failed_is_not_lost_when_it_goes() -> None:
    """It has said why."""
    job = Leading()
    job.hear(fails("algo-2"), Disconnected("algo-2", "went away"), Acknowledged("algo-3"))

    assert ["algo-2 fails"] == verdicts(job.wait(1))


def test_a_host_that_leaves_before_the_verdict_is_no_failure() -> None:
    """It stops waiting for the verdict, since the job has failed."""
    job = Leading()
    job.hear(fails("algo-2"), Acknowledged("algo-3"), Left("algo-3"))

    assert ["algo-2 fails"] == verdicts(job.wait(1))


def test_a_host_that_is_gone_after_success_is_not_missed() -> None:
    """Success has been declared."""
    job = Leading()
    job.all_arrive("ready", "serving", "ended", "done")

    assert [] == job.hear(Disconnected("algo-2", "went away"), Left("algo-3"))


def test_a_host_that_comes_after_the_failure_is_told() -> None:
    """It would wait for the others otherwise."""
    job = Leading(connected=False)
    job.hear(fails("algo-1"))
    verdict = next(action for action in job.wait(4) if isinstance(action, SetVerdict)).failure

    assert [Send("algo-2", messages.verdict(verdict))] == job.hear(Connected("algo-2"))


def test_a_job_that_has_failed_does_not_go_on() -> None:
    """A phase that would be complete is not, any more."""
    job = Leading()
    job.hear(fails("algo-2"))

    assert [] == job.all_arrive("done")


# -- requests to stop --------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["algo-1", "algo-2"])
def test_a_request_to_stop_one_host_stops_all(asked: str) -> None:
    """Also the one that was asked is told: its request came before all programs had ended."""
    job = Leading()
    job.all_arrive("ready", "serving")

    assert [Broadcast(messages.stop(15)), StopHost(15)] == job.hear(StopRequested(asked, 15))


def test_the_signal_that_came_is_the_one_that_is_passed_on() -> None:
    """A job that was interrupted is not said to have been terminated."""
    assert [Broadcast(messages.stop(2)), StopHost(2)] == Leading().hear(StopRequested("algo-2", 2))


def test_a_second_request_is_not_passed_on() -> None:
    """The service asks each host, one after the other."""
    job = Leading()
    job.hear(StopRequested("algo-2", 15))

    assert [] == job.hear(StopRequested("algo-3", 15), StopRequested("algo-1", 2))


def test_a_request_after_all_programs_have_ended_well_changes_nothing() -> None:
    """The job goes on to its success."""
    job = Leading()
    job.all_arrive("ready", "serving", "ended")

    assert [] == job.hear(StopRequested("algo-2", 15))
    assert SetResult("done", {}) in job.all_arrive("done")


def test_a_host_that_cannot_finish_stops_the_job_even_then() -> None:
    """Its grace period is over, and no host declares success."""
    job = Leading()
    job.all_arrive("ready", "serving", "ended")

    assert StopHost(15) in job.hear(StopRequested("algo-2", 15, insists=True))
    assert [] == job.all_arrive("done")


def test_a_job_that_has_succeeded_is_not_stopped_any_more() -> None:
    """Not even by a host that has not heard of the success when its grace period is over."""
    job = Leading()
    job.all_arrive("ready", "serving", "ended", "done")

    assert [] == job.hear(StopRequested("algo-2", 15, insists=True))


def test_a_request_after_a_failure_changes_nothing() -> None:
    """All hosts report the failure, not the request."""
    job = Leading()
    job.hear(fails("algo-2"))

    assert [] == job.hear(StopRequested("algo-3", 15))


def test_a_failure_after_a_request_is_its_hosts_own() -> None:
    """A program may end badly because it was asked to stop."""
    job = Leading()
    job.hear(StopRequested("algo-1", 15))

    assert [] == job.hear(fails("algo-2"))


def test_a_job_that_is_being_stopped_waits_for_programs_that_are_left() -> None:
    """Servers live until the last program has saved; hosts that are gone are not waited for."""
    job = Leading()
    job.all_arrive("ready", "serving")
    job.hear(StopRequested("algo-1", 15), Arrived("algo-1", "ended", {}), Arrived("algo-2", "ended", {}))

    assert [Broadcast(messages.go("ended", {})), SetResult("ended", {})] == job.hear(Left("algo-3"))


def test_a_job_that_is_being_stopped_does_not_wait_for_a_host_that_is_lost() -> None:
    """Its program ends with it."""
    job = Leading(HOSTS[:2])
    job.all_arrive("ready", "serving")
    job.hear(StopRequested("algo-1", 15), Arrived("algo-1", "ended", {}))

    assert SetResult("ended", {}) in job.hear(Disconnected("algo-2", "went away"))


def test_programs_are_over_once() -> None:
    """Hosts that leave afterwards change nothing."""
    job = Leading(HOSTS[:2])
    job.all_arrive("ready", "serving")
    job.hear(StopRequested("algo-1", 15), Arrived("algo-1", "ended", {}), Arrived("algo-2", "ended", {}))

    assert [] == job.hear(Left("algo-2"))


def test_a_host_that_serves_is_let_go_when_all_programs_are_gone() -> None:
    """Also where none of them has ended well: nobody needs its servers any more."""
    job = Leading(HOSTS[:2])
    job.hear(Arrived("algo-1", "serving", {}), Arrived("algo-2", "serving", {"completes_job": True}))
    job.hear(StopRequested("algo-1", 15))

    assert SetResult("ended", {}) in job.hear(Left("algo-2"))


def test_a_host_that_leaves_before_programs_have_begun_ends_none() -> None:
    """It is not known yet which hosts have one."""
    job = Leading()
    job.hear(StopRequested("algo-1", 15))

    assert [] == job.hear(Left("algo-2"), Left("algo-3"))


def test_a_host_that_comes_while_the_job_is_being_stopped_is_told() -> None:
    """It would start its program otherwise."""
    job = Leading(connected=False)
    job.hear(StopRequested("algo-1", 15))

    assert [Send("algo-3", messages.stop(15))] == job.hear(Connected("algo-3"))


# -- the end of the leader's session -----------------------------------------------------------


def test_the_leader_stays_until_all_have_left() -> None:
    """Its last word must reach them."""
    job = Leading()
    job.all_arrive("ready", "serving", "ended", "done")

    assert [] == job.hear(Closing(), Left("algo-2"), Tick())
    assert [Close()] == job.hear(Left("algo-3"), Tick())


def test_the_leader_does_not_stay_for_ever() -> None:
    """A host that hangs cannot hold it."""
    job = Leading()
    job.all_arrive("ready", "serving", "ended", "done")
    job.hear(Closing())

    assert [Close()] == job.hear(Heard("algo-2"), Tick(), after=timing.FAREWELL)[-1:]


def test_the_leader_of_a_job_that_is_stopped_stays_until_all_know() -> None:
    """It does not wait for their programs, which may save for minutes; nor for ever for a host that hangs."""
    job = Leading()
    job.hear(StopRequested("algo-1", 15))

    assert [] == job.hear(Closing(), Acknowledged("algo-2"), Tick())
    assert [Close()] == job.hear(Acknowledged("algo-3"), Tick())


def test_a_host_that_fails_may_not_know_that_the_job_is_being_stopped() -> None:
    """What it says of its failure is no answer to that."""
    job = Leading()
    job.hear(StopRequested("algo-1", 15), Acknowledged("algo-2"), fails("algo-3"), Closing())

    assert [] == job.hear(Tick(), after=timing.FAREWELL - 0.1)
    assert [Close()] == job.hear(Tick(), after=0.2)


def test_the_leader_does_not_leave_before_its_verdict() -> None:
    """It waits, although all that is known may be a consequence."""
    job = Leading(HOSTS[:2])
    job.hear(fails("algo-1", kind=CONSEQUENCE), Acknowledged("algo-2"), Closing())

    assert [] == job.wait(timing.FAREWELL + 0.5)


def test_a_leader_that_has_failed_waits_for_hosts_that_may_still_come() -> None:
    """A host that starts a little later would wait for the leader for 15 minutes."""
    job = Leading(connected=False)
    job.hear(fails("algo-1"))
    job.wait(2 * timing.LEAST_WINDOW)

    assert [] == job.hear(Closing(), Tick(), after=1)
    assert [Close()] == job.hear(Tick(), after=timing.LATECOMERS)


def test_a_host_that_has_left_is_not_waited_for() -> None:
    """It has been there, and will not come again."""
    job = Leading(HOSTS[:2])
    job.hear(fails("algo-2"), Left("algo-2"))
    job.wait(1)

    assert [Close()] == job.hear(Closing())


def test_the_leader_does_not_wait_for_hosts_that_it_has_lost() -> None:
    """Also where the host was named before: it was late first, and silent then."""
    job = Leading(HOSTS[:2])
    job.hear(fails("algo-2"), Disconnected("algo-2", "went away"))
    job.wait(1)

    assert [Close()] == job.hear(Closing())


def test_nobody_is_waited_for_once_the_job_is_over() -> None:
    """Nothing more is said of who is late, and no time limit ends the job again."""
    for end in (StopRequested("algo-1", 15), fails("algo-1")):
        job = Leading()
        job.hear(Arrived("algo-1", "ready", {}), end, *map(Acknowledged, HOSTS))
        done = job.wait(1000)

        assert not {Tell, Interrupt} & {type(action) for action in done}


def test_a_host_that_leaves_a_job_that_runs_is_lost() -> None:
    """Nobody may wait for what it will never say."""
    job = Leading()
    job.all_arrive("ready", "serving")

    assert [Broadcast, Interrupt] == [type(action) for action in job.hear(Left("algo-2"))]


# -- a follower --------------------------------------------------------------------------------


def test_what_is_said_before_the_leader_is_reached_is_not_lost() -> None:
    """It is sent, in order, as soon as there is a connection."""
    host = Following(connected=False)
    host.hear(Arrived("algo-2", "ready", {"port": 1}), StopRequested("algo-2", 15))

    assert [
        Beat("algo-1"),
        Send("algo-1", messages.at("ready", {"port": 1}, 5.0)),
        Send("algo-1", messages.stop(15)),
    ] == host.hear(Connected("algo-1"))


def test_what_is_said_before_the_leader_is_reached_is_not_dated_late() -> None:
    """The leader reads the host's clock from the time of sending, so that is not the time of waiting."""
    host, failed = Following(connected=False), fails("algo-2", 5.0)
    host.hear(failed)
    *_, told = host.hear(Connected("algo-1"), after=4)

    assert Send("algo-1", messages.failed(failed.failure, sent=9.0)) == told


def test_a_follower_gives_up_on_a_leader_that_never_comes() -> None:
    """Its verdict says why the leader could not be reached."""
    host = Following(connected=False)
    done = host.hear(AttemptFailed("port 7776: Connection refused"), after=900)

    (cause,) = verdicts(done)
    assert "algo-1 (host 1 of 3): the leader could not be reached within 900 s: port 7776: Connection refused" == cause


def test_a_follower_waits_from_when_the_leader_has_heard_of_it() -> None:
    """A leader that starts late has the whole time limit, and can say who is missing when it is over."""
    host = Following(connected=False)
    host.hear(Arrived("algo-2", "ready", {}))
    host.hear(Connected("algo-1"), after=800)

    assert [] == verdicts(host.hear(Heard("algo-1"), Tick(), after=900))
    (cause,) = verdicts(host.hear(Heard("algo-1"), Tick(), after=timing.LEADER_SAYS_WHO))
    assert "algo-1 (host 1 of 3): the leader has not said for 910 s that all hosts are ready" == cause


def test_a_follower_that_has_failed_tries_for_a_few_seconds_more() -> None:
    """It has to tell the leader, but does not keep its own job from ending."""
    host = Following(connected=False)
    host.hear(fails("algo-2"), Closing())

    assert [Close()] == host.hear(Tick(), after=timing.LAST_ATTEMPTS)[-1:]


def test_a_follower_that_is_stopped_tries_for_a_few_seconds_more() -> None:
    """Then it stops without the leader's word."""
    host = Following(connected=False)
    host.hear(StopRequested("algo-2", 15), AttemptFailed("refused"))

    assert [] == host.hear(AttemptFailed("refused"), after=timing.LAST_ATTEMPTS - 0.1)
    assert [StopHost(15), Close()] == host.hear(AttemptFailed("refused"), after=0.2)


def test_a_follower_says_for_which_leader_it_waits() -> None:
    """Every 10 s, with what the problem is."""
    host = Following(connected=False)
    told = [host.hear(AttemptFailed("refused"), after=1) for _ in range(25)]

    assert [Tell("waiting for the leader algo-1: refused")] == told[9] == told[19]
    assert 2 == sum(map(bool, told))


@pytest.mark.parametrize("message", [fails("algo-2"), StopRequested("algo-2", 15)])
def test_a_follower_that_closes_says_first_why(message: Event) -> None:
    """As soon as it reaches the leader, which it still tries; then it leaves."""
    host = Following(connected=False)

    assert [] == host.hear(message, Closing())
    assert [Send("algo-1", messages.bye()), Close()] == host.hear(Connected("algo-1"))[-2:]


def test_a_follower_that_has_nothing_to_say_closes_at_once() -> None:
    """It does so before it has reached the leader, and afterwards."""
    apart = Following(connected=False)
    apart.hear(Arrived("algo-2", "ready", {}))

    assert [Close()] == apart.hear(Closing())
    assert [Send("algo-1", messages.bye()), Close()] == Following().hear(Closing())


def test_a_follower_that_has_left_hears_nothing_more() -> None:
    """Nothing is done, whatever still comes."""
    for last in (Decided(Failure("algo-3", "algo-3 fails")), Disconnected("algo-1", "went away"), Closing()):
        host = Following()
        host.hear(last)

        assert [] == host.hear(StopRequested("algo-1", 15), Tick(), Disconnected("algo-1", "went away"), after=1000)


def test_a_follower_answers_when_it_hears_of_a_failure() -> None:
    """It stops, and says that it has nothing to add."""
    failure = Failure("algo-3", "algo-3 fails")

    assert [Send("algo-1", messages.ack()), Interrupt(failure)] == Following().hear(JobFailed(failure))


def test_a_follower_leaves_once_the_leader_has_decided() -> None:
    """It reports what all report."""
    failure = Failure("algo-3", "algo-3 fails")
    done = Following().hear(Decided(failure))

    assert [Interrupt(failure), SetVerdict(failure), Send("algo-1", messages.bye()), Close()] == done


def test_a_follower_that_is_asked_to_stop_waits_for_the_leaders_word() -> None:
    """The leader alone knows whether all programs had ended before."""
    host = Following()

    assert [Send("algo-1", messages.stop(15))] == host.hear(StopRequested("algo-2", 15))
    assert [Send("algo-1", messages.ack()), StopHost(15)] == host.hear(StopRequested("algo-1", 15))


def test_a_follower_that_cannot_finish_says_so() -> None:
    """The leader stops the job of a host that insists, whatever has ended."""
    assert [Send("algo-1", messages.stop(15, insists=True))] == Following().hear(StopRequested("algo-2", 15, True))


def test_a_follower_that_knows_the_verdict_passes_no_request_on() -> None:
    """The job has ended, and its leader has been left."""
    host = Following()
    host.hear(Decided(Failure("algo-3", "algo-3 fails")))

    assert [] == host.hear(StopRequested("algo-2", 15), StopRequested("algo-2", 15, insists=True))


def test_a_follower_that_is_asked_to_stop_stops_when_the_leader_is_gone() -> None:
    """The leader was asked, too, and has ended."""
    host = Following()
    host.hear(StopRequested("algo-2", 15))

    assert [StopHost(15), Close()] == host.hear(Disconnected("algo-1", "went away"))


def test_a_follower_that_has_failed_itself_says_so_when_the_leader_is_gone() -> None:
    """It does so also where it has been asked to stop."""
    host = Following()
    host.hear(fails("algo-2"), StopRequested("algo-2", 15))

    (cause,) = verdicts(host.hear(Disconnected("algo-1", "went away")))
    assert "algo-2 fails; and algo-1 (host 1 of 3): the leader went away" == cause


@pytest.mark.parametrize("word", [StopRequested("algo-1", 15), Completed("done", {})])
def test_the_leader_may_go_when_it_has_said_how_the_job_ends(word: Event) -> None:
    """A host that was asked to stop is told so once, and not at all once success is declared."""
    host = Following()
    host.hear(StopRequested("algo-2", 15), word)

    assert [Close()] == host.hear(Disconnected("algo-1", "went away"))


def test_a_follower_that_waits_in_vain_says_for_whom() -> None:
    """The leader, which should have said so, is there, but says nothing."""
    host = Following()
    host.hear(Arrived("algo-2", "ready", {}), Waiting("ready", "algo-3"))

    (cause,) = verdicts(host.hear(Heard("algo-1"), Tick(), after=900 + timing.LEADER_SAYS_WHO))
    assert cause.endswith("the leader has not said for 910 s that all hosts are ready: waiting for algo-3")


def test_a_follower_gives_signs_of_life() -> None:
    """One each few seconds, whatever its program does."""
    host = Following()

    assert [] == host.hear(Tick(), after=timing.BEAT - 0.1)
    assert [Beat("algo-1")] == host.hear(Tick(), after=0.2)


def test_a_leader_that_is_silent_is_lost() -> None:
    """The follower's job fails with that."""
    host = Following()
    (cause,) = verdicts(host.hear(Tick(), after=timing.SILENCE))

    assert "algo-1 (host 1 of 3): the leader has not answered for 9 s" == cause


def test_a_follower_that_is_cut_off_tells_of_its_own_failure() -> None:
    """Nobody else knows of it."""
    host = Following()
    host.hear(fails("algo-2"))
    (cause,) = verdicts(host.hear(Tick(), after=timing.SILENCE))

    assert "algo-2 fails; and algo-1 (host 1 of 3): the leader has not answered for 9 s" == cause


def test_a_leader_that_goes_after_success_is_not_missed() -> None:
    """Success has been declared."""
    host = Following()

    assert [Close()] == host.hear(Completed("done", {}), Disconnected("algo-1", "went away"))[1:]
