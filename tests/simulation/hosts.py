"""A simulated host: what workflow/run.py does around the protocol, as far as the other hosts can tell.

The rules, as JobRun has them:

1. A host prepares, meets the others at `ready`, starts its servers, meets them at `serving`, runs its program, says
   that it has `ended` well, waits until all have, stops its servers, runs post_train, and meets the others at `done`.
   Success is declared once all are done.
2. A host may have a program that completes the job, a program that does not (it helps, until the others' have ended),
   or none (it serves).
3. A request to stop is recorded once, whether the service or the leader makes it; a program that runs is asked once.
   Its grace period over, it is killed.
4. A host tells the leader of the service's request.  Where its program has not begun, it stops at once, whatever the
   leader thinks, and says so (`insists`).  Elsewhere the leader's word counts: all programs have ended, or all stop.
5. A host whose program has ended well while the job is being stopped waits for the others' programs if it has servers.
6. A host whose program has ended well, but that cannot finish within its grace period, insists.
7. A host that fails tells the leader, stops its program, and waits for the leader's word: the verdict, or that the job
   is being stopped; at most `VERDICT` seconds, or until the leader is gone.  So does one that stops.
8. A program that had raised before it was stopped has failed before; its host tells of that, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from facts import Facts, Misfortune
from sessions import HANDED_OVER, SimulatedSession
from world import Clock, World

from sagemaker_framework import timing
from sagemaker_framework.cluster.events import Arrived, Closing, Failed, Reduced, StopRequested
from sagemaker_framework.failures import CAUSE, CONSEQUENCE, Failure

SIGTERM, SIGINT = 15, 2
#: What a host's program does: completes the job, only helps, or is not there.
PROGRAM, HELPER, SERVER = "program", "helper", "server"


@dataclass
class Plan:
    """What one host does, and when, if nothing comes between."""

    starts_at: float = 0.0
    clock_offset: float = 0.0
    clock_rate: float = 1.0
    role: str = PROGRAM
    has_servers: bool = False
    hooks: dict[str, float] = field(default_factory=dict)  # seconds that each takes
    failing_hook: str = ""
    program: float = 1.0  # seconds that it takes
    fails_with: int = 0  # its exit code
    lingers: float = 0.0  # seconds from its exception to its end
    looks_back: bool = True  # whether an exception is found that it had written before it was stopped
    stop_takes: float = 0.1  # seconds from a request to its end
    stop_code: int = 0
    server_fails_after: float = math.inf  # seconds after its program has begun
    doubts: float = 0.0  # seconds until it tells of a consequence as its own failure
    grace: float = 6.0
    reduces: bool = True


@dataclass
class Report:
    """How a host says that the job has ended: `success`, `stopped` or `failed`."""

    outcome: str
    at: float
    code: int = 0
    failure: Failure | None = None

    def __str__(self) -> str:
        return f"{self.outcome} ({self.code}){f': {self.failure.cause}' if self.failure else ''}"


class _Stopped(Exception):
    """The job is being stopped."""


class _Interrupted(Exception):
    """The job has failed; here, with a misfortune, or elsewhere."""

    def __init__(self, own: Misfortune | None = None) -> None:
        self.own = own


class Program:
    """The program of a host: begins, raises, ends; is asked to stop, or killed.

    Attributes:
        begun_at, ended_at: when; infinity before.
        code: its exit code, once it has ended.
        raised: what it fails of, once it has raised.
        asked: when it was asked to stop the job; once, if all is well.
    """

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self.begun_at = self.ended_at = math.inf
        self.code: int | None = None
        self.raised: Misfortune | None = None
        self.asked: list[float] = []

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self.begun_at < math.inf and self.code is None

    def begin(self) -> None:
        """Start it."""
        self.begun_at = self._host.world.now
        self._host.note("program begins")
        self._host.later(self._host.plan.program, self._come_to_its_end)

    def _come_to_its_end(self) -> None:
        plan = self._host.plan
        if plan.fails_with:
            self.fail(plan.fails_with, plan.lingers)
        else:
            self.end(0)

    def fail(self, code: int, lingers: float, kind: str = CAUSE, of: Misfortune | None = None) -> None:
        """Raise an exception; end a little later."""
        host = self._host
        if self.is_running and host.plan.role == HELPER:
            self.end(code)  # Whatever becomes of it.
        elif self.is_running and self.raised is None:
            self.raised = host.facts.misfortune(host.name, "program", code=code, kind=kind, of=of)
            host.later(lingers, lambda: self.end(code))
            host.on_misfortune(self.raised)

    def end(self, code: int) -> None:
        """End, if it has not yet."""
        if self.is_running:
            self.code, self.ended_at = code, self._host.world.now
            self._host.note(f"program ends with {code}")
            self._host.wake()

    def ask(self) -> None:
        """Ask it to stop, since the job is being stopped."""
        self.asked.append(self._host.world.now)
        self._host.note("program is asked to stop")
        self.stop()

    def stop(self) -> None:
        """Have it end soon."""
        plan = self._host.plan
        self._host.later(plan.stop_takes, lambda: self.end(self.raised.code if self.raised else plan.stop_code))

    @property
    def failure(self) -> Misfortune:
        """What it has failed of, also where it has raised nothing."""
        if self.raised is None:
            assert self.code
            self.raised = self._host.facts.misfortune(self._host.name, "program", code=self.code)
        return self.raised


class SimulatedHost:
    """One host of the job.

    Args:
        hosts: the names of all.
        name: its own.
        timeout: seconds that hosts wait for each other.

    Attributes:
        step: what it is doing.
        came_to: when it came to each step.
        told_at: when it has told of its own failure; infinity before.
        over_at: when its machine, or its `train`, was gone; infinity before.
        freezes: from when till when it did nothing.
        stopped_by: the signal by which it stops.
        asked_at: when it has first told the leader to stop; infinity before.
        requests: for each time that it has told the leader to stop, whether it insists.
        report: how it says that the job has ended.
    """

    session: SimulatedSession

    def __init__(self, world: World, facts: Facts, hosts: list[str], name: str, plan: Plan, timeout: float) -> None:
        self.world = world
        self.facts = facts
        self.hosts = hosts
        self.name = name
        self.plan = plan
        self.timeout = timeout
        self.clock = Clock(world, plan.clock_offset, plan.clock_rate)
        self.program = Program(self)
        self.step = ""
        self.came_to: dict[str, float] = {}
        self.has_started = self.is_silent = False
        self.over_at = self.told_at = self.asked_at = math.inf
        self.freezes: list[tuple[float, float]] = []
        self.report: Report | None = None
        self.stop_at: float | None = None
        self.stopped_by = SIGTERM
        self.requests: list[bool] = []
        self.stopping_takes_until = 0.0
        self.on_step: Callable[[SimulatedHost], None] = lambda host: None
        self.on_misfortune: Callable[[Misfortune], None] = lambda misfortune: None
        self._is_frozen = self._is_woken = self._grace_is_over = False
        self._backlog: list[Callable[[], None]] = []
        self._last: list[Callable[[], None]] = []
        self._server_failure: Misfortune | None = None

    @property
    def random(self) -> Random:
        """The chance of this world."""
        return self.world.random

    @property
    def is_listening(self) -> bool:
        """Whether a connection to it comes about, at once or when it is not frozen any more."""
        return self.has_started and self.over_at == math.inf

    def note(self, text: str) -> None:
        """Write a line of the timeline."""
        self.world.note(self.name, text)

    # -- the machine ---------------------------------------------------------------------------

    def do(self, what: Callable[[], None], is_last: bool = False) -> None:
        """Have something happen on this host: now, or when it is not frozen any more, or never."""
        if not self.is_listening:
            return
        if self._is_frozen:
            (self._last if is_last else self._backlog).append(what)
        else:
            what()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Have something happen on this host in a while."""
        self.world.after(seconds, lambda: self.do(what))

    def start(self) -> None:
        """Begin, once."""
        if self.has_started:
            return
        self.plan.starts_at = self.world.now
        self.has_started = True
        self.note("starts")
        self._main = self._run()
        self.session.start()
        self.wake()

    def freeze(self, seconds: float) -> None:
        """Do nothing for a while, or, if it is infinite, any more."""
        if not self._is_frozen and self.over_at == math.inf and self.has_started:
            self._is_frozen = True
            self.freezes.append((self.world.now, self.world.now + seconds))
            self.note(f"! is frozen for {seconds:.3f} s")
            self.world.after(seconds, self._thaw)

    def _thaw(self) -> None:
        self._is_frozen = False
        self.note("! goes on")
        backlog, self._backlog, self._last = [*self._backlog, *self._last], [], []
        for what in backlog:
            self.do(what)

    def die(self, is_silent: bool) -> None:
        """Be gone; silently, if the whole machine is."""
        if self.over_at == math.inf and self.has_started:
            self.note(f"! dies{' silently' if is_silent else ''}")
            self.facts.troubles.append((self.world.now, f"{self.name} dies"))
            self._leave(is_silent)

    def _leave(self, is_silent: bool = False) -> None:
        self.session.hang_up(is_silent)
        self.is_silent = is_silent
        self.over_at = self.world.now

    def wake(self) -> None:
        """Have the main part look at what has changed."""
        if not self._is_woken:
            self._is_woken = True
            self.later(self.random.uniform(0, HANDED_OVER), self._look)

    def _look(self) -> None:
        self._is_woken = False
        at = next(self._main, None)
        if at is not None and at > self.world.now:
            self.world.at(at, lambda: self.do(self.wake))

    # -- requests to stop ----------------------------------------------------------------------

    def ask_to_stop(self) -> None:
        """Be asked to stop, by the service or at a keyboard."""
        self.do(lambda: self._on_signal(self.random.choice([SIGTERM, SIGTERM, SIGINT])))

    def _on_signal(self, signum: int) -> None:
        self.note(f"! signal {signum}")
        if self.has_started and self.report is None:
            self.facts.stops.append((self.world.now, self.name, signum))
            if self.stop_at is None:
                self.request_stop(signum)
                self._request(insists=False)

    @property
    def _has_come_to_its_program(self) -> bool:
        return "program" in self.came_to

    def request_stop(self, signum: int) -> None:
        """Record that this host is to stop."""
        if self.stop_at is None:
            self.stop_at, self.stopped_by = self.world.now, signum
            self.later(self.plan.grace, self._end_grace)
            if self.program.is_running and self.plan.role == PROGRAM:
                self.program.ask()
            self.wake()

    def _end_grace(self) -> None:
        self._grace_is_over = True
        self.program.end(137)
        if self.report is None and self._has_come_to_its_program and not self.session.is_settled:
            self._request(insists=True)
        self.wake()

    def _request(self, insists: bool) -> None:
        self.asked_at = min(self.asked_at, self.world.now)
        self.requests.append(insists)
        self.session.tell(StopRequested(self.name, self.stopped_by, insists))

    # -- the run -------------------------------------------------------------------------------

    def _run(self) -> Iterator[float]:
        """Run the job.  Gives the time until when it waits, at most, each time that it does."""
        try:
            yield from self._job()
            self._say(Report("success", self.world.now))
        except _Stopped:
            yield from self._conclude_stopped()
        except _Interrupted as failure:
            yield from self._conclude_failed(failure.own)
        self.session.tell(Closing())
        yield from self._wait(lambda: self.session.is_closed, seconds=timing.VERDICT)
        self.note("leaves")
        self._leave()

    def _job(self) -> Iterator[float]:
        yield from self._hook("prepare")
        yield from self._barrier("ready")
        yield from self._hook("start_servers")
        yield from self._barrier("serving", completes_job=self.plan.role == PROGRAM)
        yield from self._run_program()
        yield from self._end_together()
        yield from self._hook("stop_servers")
        yield from self._hook("post_train")
        yield from self._barrier("done")

    def _enter(self, step: str) -> None:
        self.step = step
        self.came_to.setdefault(step, self.world.now)
        self.on_step(self)

    def _hook(self, name: str) -> Iterator[float]:
        """Run somebody else's code."""
        self._enter(name)
        at = self.world.now + self.plan.hooks.get(name, 0.0)
        yield from self._wait(lambda: False, self._check, at - self.world.now)
        if self.plan.failing_hook == name:
            misfortune = self.facts.misfortune(self.name, name, process="")
            self.on_misfortune(misfortune)
            raise _Interrupted(misfortune)

    def _barrier(self, phase: str, **payload: bool) -> Iterator[float]:
        self._enter(phase)
        session = self.session
        reduces = self.name == self.hosts[0] and self.plan.reduces
        session.tell(Arrived(self.name, phase, payload, reduces=reduces))
        if reduces:
            yield from self._wait(lambda: phase in session.gathered, self._check)
            yield from self._hook(f"reduce {phase}")
            self.step = phase
            session.tell(Reduced(phase, {"of": sorted(session.gathered[phase])}))
        yield from self._wait(lambda: phase in session.results, self._check)

    def _run_program(self) -> Iterator[float]:
        self._check()
        self._enter("program")
        if self.plan.role != SERVER:
            self.program.begin()
        self.later(self.plan.server_fails_after, self._fail_server)
        if self.plan.role == PROGRAM:
            yield from self._wait(lambda: self.program.code is not None, self._check_failures)
            if self.program.code:
                if self.stop_at is not None and self.plan.has_servers:
                    # Programs of other hosts may still need the servers of this one, unless the job fails elsewhere.
                    with suppress(_Interrupted):
                        yield from self._end_together(has_failed=True)
                raise _Interrupted(self.program.failure)

    def _fail_server(self) -> None:
        if self.step in ("program", "ended") and self._server_failure is None:
            self._server_failure = self.facts.misfortune(self.name, "server", process="server")
            self.on_misfortune(self._server_failure)
            self.wake()

    def _end_together(self, has_failed: bool = False) -> Iterator[float]:
        """Wait until all programs have ended that complete the job."""
        session, is_needed = self.session, self.plan.has_servers or self.plan.role == HELPER
        if self.plan.role == PROGRAM:
            session.tell(Arrived(self.name, "ended", {}))
        self._enter("ended")

        def is_over() -> bool:
            may_go = (session.is_stopping or has_failed) and self._grace_is_over
            may_go |= session.is_stopping and not is_needed
            return "ended" in session.results or session.is_closed or may_go

        yield from self._wait(is_over, self._check_failures)
        if not has_failed:
            self._check()

    # -- the end -------------------------------------------------------------------------------

    def _conclude_stopped(self) -> Iterator[float]:
        session = self.session
        self._enter("stopping")
        if not session.is_settled:
            self._request(insists=True)
        yield from self._wait(lambda: session.is_settled, seconds=timing.VERDICT)
        yield from self._stop_program()
        if session.verdict is not None:
            self._fail(session.verdict)
        else:
            has_ended_well = self.program.code == 0 or self.plan.role != PROGRAM
            self._say(Report("stopped", self.world.now, 0 if has_ended_well else 128 + self.stopped_by))

    def _conclude_failed(self, own: Misfortune | None) -> Iterator[float]:
        session = self.session
        self._enter("failing")
        if own is not None:
            if own.kind == CONSEQUENCE:
                yield from self._wait(lambda: session.foreign is not None, seconds=self.plan.doubts)
            self._tell(own)
        yield from self._stop_program()
        raised = self.program.raised
        if raised is not None and raised is not own and self.plan.looks_back and session.verdict is None:
            self._tell(raised)
            own = own or raised
        yield from self._wait(lambda: session.is_settled, seconds=timing.VERDICT)
        if session.verdict is not None:
            self._fail(session.verdict)
        elif own is not None:
            self._fail(self._failure(own))
        elif session.is_stopping:
            self._say(Report("stopped", self.world.now, 128 + self.stopped_by))
        else:
            assert session.foreign
            self._fail(session.foreign)

    def _stop_program(self) -> Iterator[float]:
        if self.program.is_running:
            if not self.program.asked:
                self.program.stop()
            yield from self._wait(lambda: not self.program.is_running, seconds=timing.FAILURE_GRACE)
            self.program.end(137)
        self.stopping_takes_until = self.world.now

    def _tell(self, misfortune: Misfortune) -> None:
        self.told_at = min(self.told_at, self.world.now)
        self.session.tell(Failed(self.name, self._failure(misfortune)))

    def _failure(self, misfortune: Misfortune) -> Failure:
        ago = self.clock.rate * (self.world.now - misfortune.raised_at)
        return Failure(
            self.name,
            misfortune.text,
            exit_code=misfortune.code,
            process=misfortune.process,
            raised_at=self.clock() - ago,
            ended_at=self.clock(),
            kind=misfortune.kind,
        )

    def _fail(self, failure: Failure) -> None:
        self._say(Report("failed", self.world.now, failure.exit_code, failure))

    def _say(self, report: Report) -> None:
        self.report = report
        self.note(f"reports: {report}")
        self._enter("reported")

    # -- waiting -------------------------------------------------------------------------------

    def _wait(
        self,
        until: Callable[[], bool],
        check: Callable[[], None] | None = None,
        seconds: float = math.inf,
    ) -> Iterator[float]:
        """Wait until something is so, or so many seconds have passed; look each time whether the job is over."""
        deadline = self.world.now + seconds
        while not until():
            if check is not None:
                check()
            if self.world.now >= deadline:
                return
            yield deadline

    def _check(self) -> None:
        """Come to an end if the job has failed, or is being stopped."""
        self._check_failures()
        if self.session.is_stopping or (self.stop_at is not None and not self._has_come_to_its_program):
            raise _Stopped

    def _check_failures(self) -> None:
        if self._server_failure is not None and self.step in ("program", "ended"):
            raise _Interrupted(self._server_failure)
        if self.session.foreign is not None:
            raise _Interrupted
