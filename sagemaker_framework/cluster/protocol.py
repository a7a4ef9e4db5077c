"""The protocol between the hosts of a job: what each host says, and what it does about what others say.

Pure: `handle(event, now)` returns the actions to take. There is no socket, thread, log or clock here; `now` is the time
on the host's own clock, in seconds. leader.py and follower.py drive these states, and so can a test or a simulator:

    state = LeaderState(["algo-1", "algo-2"], "algo-1", timeout=900)
    state.handle(Connected("algo-2"), now=0.0)
    state.handle(Failed("algo-2", Failure("algo-2", "train.py exited with code 1"), sent=7.5), now=1.0)

The leader decides, alone. Each follower has one connection to it, which keeps messages in order. So all hosts learn of
the same outcome: all are done, the job is being stopped, or it has failed with one cause.
"""

from __future__ import annotations

import math

from sagemaker_framework import timing
from sagemaker_framework.cluster import messages
from sagemaker_framework.cluster.events import (
    Acknowledged,
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
from sagemaker_framework.cluster.phases import PHASES, names, place
from sagemaker_framework.failures import CAUSE, HOST_LOST, Failure, root_cause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from sagemaker_framework.cluster.events import Action, Event, Payload
    from sagemaker_framework.cluster.phases import Phase

#: Seconds between two ticks, at the most.
TICK = 0.5
#: Seconds between two log lines about a wait.
REPORT = 10.0


class _Progress:
    """The hosts that have come to a phase.

    Args:
        hosts: the hosts that must come; None if they are not known yet.

    Attributes:
        payloads: the payloads of the hosts that have come, by host.
        missing: the hosts that have not come.
        since: the time at which the first host came; None before.
        is_gathered: True once all have come.
        is_complete: True once all have been told the result.
        reduces: True if the leader computes the result from all payloads.
    """

    def __init__(self, hosts: Iterable[str] | None) -> None:
        self.payloads: dict[str, Payload] = {}
        self.missing = None if hosts is None else dict.fromkeys(hosts)
        self.since: float | None = None
        self.is_gathered = False
        self.is_complete = False
        self.reduces = False


class LeaderState:
    """The leader's state: what it knows of the job, and its decisions.

    Args:
        hosts: the names of all hosts.
        host: the leader's own name.
        timeout: seconds that hosts wait for each other.
        unresolved: the hosts whose names must resolve before they are admitted.

    Attributes:
        connected: the time of each connected host's last message; the host that has been silent for longest is first.
        stopped_by: the signal by which the job is being stopped; None if it is not.
        verdict: the failure that is the cause; None before that is decided.
    """

    def __init__(self, hosts: Sequence[str], host: str, timeout: float, unresolved: Sequence[str] = ()) -> None:
        self.hosts = {host: at for at, host in enumerate(hosts)}
        self.host = host
        self.connected: dict[str, float] = {}
        self.stopped_by: int | None = None
        self.verdict: Failure | None = None
        self._timeout = timeout
        self._unresolved = set(unresolved)
        self._progress = {name: _Progress(None if phase.programs_only else hosts) for name, phase in PHASES.items()}
        self._unheard: set[str] = set()  # connected hosts that may not know yet that they are
        self._left: set[str] = set()  # hosts that said goodbye
        self._lost: set[str] = set()
        self._failures: list[Failure] = []
        self._failing: set[str] = set()  # the hosts of these failures
        self._acknowledged: set[str] = set()  # hosts that know that the job has failed, or is being stopped
        self._ahead: dict[str, tuple[float, float]] = {}  # seconds that this clock is ahead of a host's; when measured
        self._failed_at: float | None = None
        self._closing_at: float | None = None
        self._reported_at = 0.0

    def handle(self, event: Event, now: float) -> list[Action]:
        """Handle an event; return the actions to take, in order."""
        return list(self._HANDLERS[type(event)](self, event, now))

    def is_complete(self, phase: str) -> bool:
        """Tell whether all hosts have come to a phase and know it."""
        return self._progress[phase].is_complete

    # -- who is there --------------------------------------------------------------------------

    def _on_connected(self, event: Connected, now: float) -> Iterator[Action]:
        self.connected[event.host] = now
        self._unheard.add(event.host)
        if self.stopped_by is not None:
            yield Send(event.host, messages.stop(self.stopped_by))
        elif self.verdict is not None:
            yield Send(event.host, messages.verdict(self.verdict))
        elif self._failures:
            yield Send(event.host, messages.fail(self._failures[0]))

    def _on_resolved(self, event: Resolved, now: float) -> Iterator[Action]:
        self._unresolved.discard(event.host)
        yield from ()

    def _on_heard(self, event: Heard, now: float) -> Iterator[Action]:
        if self.connected.pop(event.host, None) is not None:
            self.connected[event.host] = now  # As the last.
            self._unheard.discard(event.host)
            yield Beat(event.host)

    def _on_left(self, event: Left, now: float) -> Iterator[Action]:
        self.connected.pop(event.host, None)
        self._left.add(event.host)
        if self._is_running():
            yield from self._on_lost(event.host, "has left the job before its end", now)
        else:
            yield from self._do_without(event.host)

    def _on_disconnected(self, event: Disconnected, now: float) -> Iterator[Action]:
        # A host that was not told in time that it is connected tries again.
        if self.connected.pop(event.host, None) is not None and event.host not in self._unheard:
            yield from self._on_lost(event.host, event.why, now)

    def _on_lost(self, host: str, why: str, at: float) -> Iterator[Action]:
        self._lost.add(host)
        if host not in self._failing:  # Otherwise the host itself has given the reason.
            yield from self._fail(Failure(host, f"{self._place(host)}: this host {why}", raised_at=at, kind=HOST_LOST))
        yield from self._do_without(host)

    def _do_without(self, host: str) -> Iterator[Action]:
        """Stop waiting for a host's program while the job is being stopped."""
        if self.stopped_by is not None:
            (self._progress["ended"].missing or {}).pop(host, None)
            yield from self._count("ended")

    def _is_running(self) -> bool:
        return self.stopped_by is None and self._failed_at is None

    def _place(self, host: str) -> str:
        return place(host, self.hosts[host], len(self.hosts))

    # -- phases --------------------------------------------------------------------------------

    def _on_arrived(self, event: Arrived, now: float) -> Iterator[Action]:
        self._read_clock(event.host, event.sent, now)
        progress = self._progress[event.phase]
        progress.payloads[event.host] = event.payload
        (progress.missing or {}).pop(event.host, None)
        progress.reduces |= event.reduces
        if progress.since is None:
            progress.since = now
        yield from self._count(event.phase)

    def _count(self, phase: str) -> Iterator[Action]:
        """Gather or complete a phase if all hosts have come to it."""
        progress = self._progress[phase]
        if progress.is_gathered or progress.missing is None or progress.missing:
            return
        progress.is_gathered = True
        if phase == "serving":
            with_program = (host for host in self.hosts if progress.payloads[host].get("completes_job"))
            self._progress["ended"].missing = dict.fromkeys(with_program)
        if progress.reduces:
            yield Gather(phase, dict(progress.payloads))
        else:
            yield from self._complete(phase, {})

    def _on_reduced(self, event: Reduced, now: float) -> Iterator[Action]:
        yield from self._complete(event.phase, event.result)

    def _complete(self, phase: str, result: Payload) -> Iterator[Action]:
        # A job that has failed completes no phase; one that is being stopped only the end of its programs.
        if self._failed_at is None and (self.stopped_by is None or phase == "ended"):
            self._progress[phase].is_complete = True
            yield Broadcast(messages.go(phase, result))
            yield SetResult(phase, result)

    # -- requests to stop ----------------------------------------------------------------------

    def _on_stop_requested(self, event: StopRequested, now: float) -> Iterator[Action]:
        # Once all hosts have failed, or have ended well, a request changes nothing.
        is_late = self._failed_at is not None or self.is_complete("done")
        if is_late or (self.is_complete("ended") and not event.insists):
            return
        if self.stopped_by is None:
            self.stopped_by = event.signum
            yield Broadcast(messages.stop(event.signum))
            yield StopHost(event.signum)

    # -- failures ------------------------------------------------------------------------------

    def _on_failed(self, event: Failed, now: float) -> Iterator[Action]:
        self._read_clock(event.host, event.sent, now)
        if self.stopped_by is None:
            self._acknowledged.add(event.host)
        ahead, _ = self._ahead.get(event.host, (0.0, now))
        yield from self._fail(event.failure.shifted(ahead), now, is_own=event.host == self.host)

    def _fail(self, failure: Failure, now: float | None = None, is_own: bool = False) -> Iterator[Action]:
        if self.stopped_by is not None or self.is_complete("done"):
            return
        self._failures.append(failure)
        self._failing.add(failure.host)
        if self._failed_at is None:
            self._failed_at = failure.raised_at if now is None else now
            yield Broadcast(messages.fail(failure))
            if not is_own:  # Otherwise this host stops by itself.
                yield Interrupt(failure)

    def _on_acknowledged(self, event: Acknowledged, now: float) -> Iterator[Action]:
        self._acknowledged.add(event.host)
        yield from ()

    def _decide(self, now: float) -> Iterator[Action]:
        """Decide which failure is the cause, once all hosts have had time to report theirs."""
        if self._failed_at is None or self.verdict is not None:
            return
        all_have_said = self.connected.keys() <= self._acknowledged
        is_clear = all_have_said and any(failure.kind == CAUSE for failure in self._failures)
        if now - self._failed_at >= (timing.LEAST_WINDOW if is_clear else timing.WINDOW):
            self.verdict = root_cause(self._failures)
            yield SetVerdict(self.verdict)
            yield Broadcast(messages.verdict(self.verdict))

    # -- time ----------------------------------------------------------------------------------

    def _on_tick(self, event: Tick, now: float) -> Iterator[Action]:
        for host, heard in self._silent(now):
            yield Drop(host)
            del self.connected[host]
            # The host may have been gone since its last message.
            yield from self._on_lost(host, f"has not answered for {now - heard:.0f} s", heard)
        yield from self._decide(now)
        if self._is_running():
            for phase in PHASES.values():
                yield from self._await(phase, now)
        if self._may_close(now):
            yield Close()

    def _silent(self, now: float) -> list[tuple[str, float]]:
        silent = []
        for host, heard in self.connected.items():
            if now - heard < timing.SILENCE:
                break  # The hosts that follow were heard later.
            silent.append((host, heard))
        return silent

    def _await(self, phase: Phase, now: float) -> Iterator[Action]:
        """Log which hosts are waited for, and fail the job when the wait is too long."""
        progress = self._progress[phase.name]
        if progress.since is None or progress.is_gathered:
            return
        late = list(progress.missing or ())
        if phase.has_deadline and now - progress.since >= self._timeout:
            waited = f"not all hosts were {phase.name} {self._timeout:g} s after the first was"
            cause = f"{self._place(late[0])}: {waited}: waited for {self._described(late, phase)}"
            yield from self._fail(Failure(late[0], cause, raised_at=now), now)
        elif now - max(self._reported_at, progress.since) >= REPORT:
            self._reported_at = now
            yield Tell(f"waiting for {self._described(late, phase)} to be {phase.name}")
            for host in progress.payloads:
                if host in self.connected:
                    yield Send(host, messages.waiting(phase.name, names(late)))

    def _described(self, hosts: list[str], phase: Phase) -> str:
        """Name hosts with the reason why each is late, as far as it is known."""
        if len(hosts) > 5:
            return names(hosts)
        return ", ".join(f"{host} ({self._why_late(host, phase)})" for host in hosts)

    def _why_late(self, host: str, phase: Phase) -> str:
        if host == self.host or host in self.connected:
            return phase.late
        return "its name does not resolve" if host in self._unresolved else "has not connected"

    # -- the end -------------------------------------------------------------------------------

    def _on_closing(self, event: Closing, now: float) -> Iterator[Action]:
        self._closing_at = now
        if self._may_close(now):
            yield Close()

    def _may_close(self, now: float) -> bool:
        """Tell whether every host has the leader's last message, or will never get it."""
        if self._closing_at is None:
            return False
        waited = now - self._closing_at
        unheard = self.hosts.keys() - self.connected.keys() - self._left - self._lost - {self.host}
        if self._failed_at is not None and self.verdict is None:
            return False
        if unheard and waited < timing.LATECOMERS:
            return False
        # In a job that is being stopped, hosts need not say goodbye: each ends when its program has.
        heard = self._acknowledged if self.stopped_by is not None else set()
        return self.connected.keys() <= heard or waited >= timing.FAREWELL

    def _read_clock(self, host: str, sent: float | None, now: float) -> None:
        """Estimate how far this clock is ahead of a host's: the difference to the time of sending is its upper bound.

        The least difference of all messages counts; older ones count for less and less, as clocks drift.
        """
        if sent is not None:
            ahead, at = self._ahead.get(host, (math.inf, now))
            self._ahead[host] = min(ahead + (now - at) * timing.CLOCK_DRIFT, now - sent), now

    _HANDLERS: Mapping[type[Event], Callable[[Any, Any, float], Iterator[Action]]] = {
        Acknowledged: _on_acknowledged,
        Arrived: _on_arrived,
        Closing: _on_closing,
        Connected: _on_connected,
        Disconnected: _on_disconnected,
        Failed: _on_failed,
        Heard: _on_heard,
        Left: _on_left,
        Reduced: _on_reduced,
        Resolved: _on_resolved,
        StopRequested: _on_stop_requested,
        Tick: _on_tick,
    }


class FollowerState:
    """A follower's state: what this host and the leader have said.

    Args:
        hosts: the names of all hosts.
        host: this host's name.
        leader: the leader's name.
        timeout: seconds that hosts wait for each other.
        now: the time at the beginning.

    Attributes:
        is_connected: True while this host is connected to the leader.
        is_over: True once nothing more will be said.
    """

    def __init__(self, hosts: Sequence[str], host: str, leader: str, timeout: float, now: float) -> None:
        self.host = host
        self.leader = leader
        self.is_connected = False
        self.is_over = False
        self._leaders_place = place(leader, list(hosts).index(leader), len(hosts))
        self._timeout = timeout
        self._begun = self._reported_at = now
        self._give_up_at = now + timeout
        self._problem = "it has not been tried yet"
        self._heard = self._beaten = now
        self._unsent: list[Payload] = []
        self._awaited: dict[str, float] = {}  # phases that this host waits to complete, and since when
        self._waiting_for = ""
        self._own: Failure | None = None
        self._stop_asked: int | None = None
        self._is_stopping = self._is_done = self._is_closing = False

    def handle(self, event: Event, now: float) -> list[Action]:
        """Handle an event; return the actions to take, in order."""
        if self.is_over:
            return []
        return list(self._HANDLERS[type(event)](self, event, now))

    # -- the connection ------------------------------------------------------------------------

    def _on_connected(self, event: Connected, now: float) -> Iterator[Action]:
        self.is_connected = True
        self._heard = self._beaten = now
        self._awaited = dict.fromkeys(self._awaited, now)  # The leader's wait begins when it hears of this host.
        yield Beat(self.leader)
        unsent, self._unsent = self._unsent, []
        for message in unsent:
            # The time is that of sending: the leader derives from it how far the clocks are apart.
            yield Send(self.leader, {**message, "sent": now} if "sent" in message else message)
        if self._is_closing:
            yield from self._leave()

    def _on_attempt_failed(self, event: AttemptFailed, now: float) -> Iterator[Action]:
        self._problem = event.problem
        if now >= self._give_up_at:
            yield from self._on_lost(f"could not be reached within {now - self._begun:.0f} s: {self._problem}", now)
        elif now - self._reported_at >= REPORT:
            self._reported_at = now
            yield Tell(f"waiting for the leader {self.leader}: {self._problem}")

    def _on_heard(self, event: Heard, now: float) -> Iterator[Action]:
        self._heard = now
        yield from ()

    def _on_disconnected(self, event: Disconnected, now: float) -> Iterator[Action]:
        yield from self._on_lost(event.why, now)

    def _on_lost(self, why: str, at: float) -> Iterator[Action]:
        """Go on without the leader, which is gone, or was never there."""
        self.is_over = True
        if self._is_stopping or self._is_done:
            pass  # The leader has said how the job ends.
        elif self._stop_asked is not None and self._own is None:
            yield StopHost(self._stop_asked)  # The leader was asked to stop, too, and has ended.
        else:
            cause = f"{self._leaders_place}: the leader {why}"
            loss = Failure(self.leader, cause, raised_at=at, kind=HOST_LOST)
            yield Interrupt(loss)
            # A host that is cut off reports its own failure, which nobody else knows.
            yield SetVerdict(loss if self._own is None else self._own.with_cause(f"{self._own.cause}; and {cause}"))
        yield Close()

    def _send(self, message: Payload) -> Iterator[Action]:
        if self.is_connected:
            yield Send(self.leader, message)
        else:
            self._unsent.append(message)

    # -- what this host says -------------------------------------------------------------------

    def _on_arrived(self, event: Arrived, now: float) -> Iterator[Action]:
        self._awaited[event.phase] = now
        yield from self._send(messages.at(event.phase, event.payload, now))

    def _on_failed(self, event: Failed, now: float) -> Iterator[Action]:
        self._own = event.failure
        self._give_up_at = min(self._give_up_at, now + timing.LAST_ATTEMPTS)
        yield from self._send(messages.failed(event.failure, now))

    def _on_stop_requested(self, event: StopRequested, now: float) -> Iterator[Action]:
        if event.host == self.leader:
            self._is_stopping = True
            yield Send(self.leader, messages.ack())
            yield StopHost(event.signum)
        else:
            self._stop_asked = event.signum
            self._give_up_at = min(self._give_up_at, now + timing.LAST_ATTEMPTS)
            yield from self._send(messages.stop(event.signum, event.insists))

    def _on_closing(self, event: Closing, now: float) -> Iterator[Action]:
        self._is_closing = True
        # First say that this host has failed or is stopped.
        if self.is_connected or not any(message["type"] in ("failed", "stop") for message in self._unsent):
            yield from self._leave()

    def _leave(self) -> Iterator[Action]:
        self.is_over = True
        if self.is_connected:
            yield Send(self.leader, messages.bye())
        yield Close()

    # -- what the leader says ------------------------------------------------------------------

    def _on_completed(self, event: Completed, now: float) -> Iterator[Action]:
        self._awaited.pop(event.phase, None)
        self._is_done |= event.phase == "done"
        yield SetResult(event.phase, event.result)

    def _on_waiting(self, event: Waiting, now: float) -> Iterator[Action]:
        self._waiting_for = f": waiting for {event.names}"
        yield Tell(f"waiting for {event.names} to be {event.phase}")

    def _on_job_failed(self, event: JobFailed, now: float) -> Iterator[Action]:
        yield Send(self.leader, messages.ack())
        yield Interrupt(event.failure)

    def _on_decided(self, event: Decided, now: float) -> Iterator[Action]:
        yield Interrupt(event.failure)
        yield SetVerdict(event.failure)
        yield from self._leave()

    # -- time ----------------------------------------------------------------------------------

    def _on_tick(self, event: Tick, now: float) -> Iterator[Action]:
        if not self.is_connected:
            if self._is_closing and now >= self._give_up_at:
                yield from self._leave()
            return
        if now - self._beaten >= timing.BEAT:
            self._beaten = now
            yield Beat(self.leader)
        if now - self._heard >= timing.SILENCE:
            yield from self._on_lost(f"has not answered for {now - self._heard:.0f} s", self._heard)
            return
        for phase, since in self._awaited.items():
            if PHASES[phase].has_deadline and now - since >= self._timeout + timing.LEADER_SAYS_WHO:
                words = f"has not said for {now - since:.0f} s that all hosts are {phase}{self._waiting_for}"
                yield from self._on_lost(words, now)
                return

    _HANDLERS: Mapping[type[Event], Callable[[Any, Any, float], Iterator[Action]]] = {
        Arrived: _on_arrived,
        AttemptFailed: _on_attempt_failed,
        Closing: _on_closing,
        Completed: _on_completed,
        Connected: _on_connected,
        Decided: _on_decided,
        Disconnected: _on_disconnected,
        Failed: _on_failed,
        Heard: _on_heard,
        JobFailed: _on_job_failed,
        StopRequested: _on_stop_requested,
        Tick: _on_tick,
        Waiting: _on_waiting,
    }
