"""One job on this host, from its first step to its last.  docs/hooks.md describes the hooks in between."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

from sagemaker_framework import entry_point, log, timing
from sagemaker_framework.cluster.session import SingleHostSession
from sagemaker_framework.errors import FrameworkError, JobInterrupted, JobStopped, TrainerError
from sagemaker_framework.processes.signals import Once
from sagemaker_framework.processes.supervisor import Supervisor
from sagemaker_framework.strategies.base import Launch
from sagemaker_framework.strategies.single_process import SingleProcessStrategy
from sagemaker_framework.workflow.calls import call_hook
from sagemaker_framework.workflow.meeting import as_failure, join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from sagemaker_framework.cluster.session import Session
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.processes.process import Process
    from sagemaker_framework.processes.signals import Signals
    from sagemaker_framework.strategies.base import DistributionStrategy
    from sagemaker_framework.trainer import Trainer

    T = TypeVar("T")
    #: The payloads of hosts at a phase, by host name.
    Payloads = Mapping[str, Mapping[str, Any]]

_FOR_EVER = float("inf")


class JobRun:
    """One run of one job on this host: its steps, and the values that one step leaves for the next.

    Args:
        trainer: the trainer, whose hooks are called.
        signals: the record of requests to stop.
    """

    _entry_point: EntryPoint  # set by `fetch`
    _argv: list[str] | None  # set by `rendezvous`; None if this host only serves others
    _launch: Launch
    _completes_job: bool  # set by `start_servers`
    _summary: Mapping[str, Any]  # set by `stop_servers`

    def __init__(self, trainer: Trainer, signals: Signals) -> None:
        self._trainer = trainer
        self._env = trainer.env
        self._signals = signals
        self._grace = self._env.settings.grace_seconds
        self._supervisor = Supervisor(signals, self._grace)
        self._session: Session = SingleHostSession(self._env.current_host)
        self._strategy: DistributionStrategy = SingleProcessStrategy(self._env)  # until `rendezvous`
        self._process: Process | None = None  # the program's, once it has been started
        self._has_ended_well = False
        self._needs_cleanup = True

    def run(self) -> None:
        """Take all steps in order.

        Raises:
            FrameworkError: a step failed; `ProgramError` if the program did.
            JobStopped: the job was asked to stop before all programs had ended well.
        """
        with self._supervisor:
            try:
                self._take_all_steps()
            except BaseException as error:
                raise self.conclude(error) from error
            finally:
                self._session.close()

    def _take_all_steps(self) -> None:
        self.connect()
        self.call(self._trainer.pre_train)
        self.fetch()
        self.install()
        self.rendezvous()
        self.start_servers()
        self.start_program()
        self.wait_for_programs()
        self.stop_servers()
        self.finish()

    def call(self, hook: Callable[..., T], *args: Any) -> T:
        """Call an author's hook, which a request to stop or a failure elsewhere may interrupt."""
        self._signals.check()
        with self._signals.may_interrupt():
            return call_hook(hook, *args)

    # -- the steps -------------------------------------------------------------------------------

    def connect(self) -> None:
        """Start this host's session with the other hosts, if the job has any and they must agree."""
        self._join(is_needed=False)

    def fetch(self) -> None:
        """Fetch the user's code, and choose the program in it."""
        source = self.call(self._trainer.source)
        if source:
            with self._signals.may_interrupt():
                entry_point.fetch(source, self._env.code_dir, self._env.region)
        self._entry_point = self.call(self._trainer.entry_point)

    def install(self) -> None:
        """Install the requirements of the user's code."""
        self.call(self._entry_point.install, self._supervisor.run, self._env.region)

    def rendezvous(self) -> None:
        """Choose the strategy, wait until all hosts are ready, and get this host's command."""
        strategy = self._strategy = self._choose_strategy()
        args = self.call(self._trainer.args)
        # If the program cannot be run, fail before waiting for the other hosts.
        self.call(self._entry_point.command, args)
        strategy.plan_result = self._session.barrier("ready", self.call(strategy.advertise), self._plan)
        self._argv = self.call(strategy.command, self._entry_point, args)
        env_vars = [self.call(each.env_vars) for each in (self._entry_point, self._trainer, strategy)]
        env = entry_point.environment(*env_vars)
        self._launch = Launch(self._supervisor, self._session, self._signals, env)

    def start_servers(self) -> None:
        """Start the servers, on all hosts, before any program starts."""
        self.call(self._strategy.start_servers, self._launch)
        self._completes_job = self._argv is not None and self.call(self._strategy.completes_job)
        self._session.barrier("serving", {"completes_job": self._completes_job}, self._check_that_one_completes)

    def start_program(self) -> None:
        """Start the program, if this host runs one.  From now on, the program deals with requests to stop."""
        self._signals.check()
        self._signals.be_patient(_FOR_EVER)
        if self._argv is None:
            log.info("serving the other hosts until the job is over")
            return
        program = self._entry_point
        entry_point.announce(program, self._argv)
        self._process = self._supervisor.launch(
            program.name,
            self._argv,
            env=self._launch.program_env,
            cwd=program.code_dir,
            signals_group=program.signals_group,
            ask=self._ask,
            may_end=not self._completes_job,
        )

    def wait_for_programs(self) -> None:
        """Wait for the end of this host's program and of the other hosts' programs."""
        if self._completes_job:
            try:
                self._wait_for_own_program()
            except FrameworkError:
                self._outlast_the_others()
                raise
            self._session.arrive("ended", {})
        elif self._process is not None:
            log.info(
                "the job lasts until the programs of other hosts have ended, "
                f"even if {self._process.name} ends earlier here"
            )
        else:
            self._signals.subscribe(Once(lambda signum: self._ask(None, signum)))
        self._supervisor.outwait(self._may_go_on)
        self._has_ended_well = True

    def stop_servers(self) -> None:
        """Stop the servers, as no program needs them any more; end here if the job is being stopped."""
        is_stopped = self._session.is_stopping or not self._session.programs_done
        signum = self._signals.stopped_by or signal.SIGTERM
        if not is_stopped:
            self._signals.disregard_stops()
        self._supervisor.stop_all()
        self._summary = self.call(self._strategy.summary)
        if is_stopped:
            raise JobStopped(signum, 0)

    def finish(self) -> None:
        """Call `post_train`, and wait until all hosts have succeeded."""
        self._signals.be_patient(self._grace)
        self.call(self._trainer.post_train)
        self._signals.check()
        self._call_cleanup()
        self._signals.check()
        self._signals.be_patient(_FOR_EVER)  # The other hosts may be done before the grace period is over.
        self._close()
        self._session.barrier("done", self._summary, self._verify)

    def conclude(self, error: BaseException) -> BaseException:
        """Undo what was begun, in reverse order, and return the outcome of the job, which is the same on all hosts."""
        error = self._cause(error)
        own = as_failure(error)
        self._signals.settle()
        if isinstance(error, JobStopped):
            # Other hosts know of the request, but not that this one stops even if all their programs have ended well.
            self._session.stopping(error.signum, insists=True)
        else:
            self._supervisor.shorten_grace()
            self._session.fail(own)
        for step in (self._stop_program, self._supervisor.stop_all, self._clean_up, self._close):
            self._attempt(step)
        verdict = self._session.verdict(own)
        return error if verdict is own else verdict

    # -- parts of the steps ----------------------------------------------------------------------

    def _join(self, is_needed: bool) -> None:
        if isinstance(self._session, SingleHostSession):
            self._session = join(self._env, self._supervisor, is_needed)
            self._signals.subscribe(self._session.stopping)

    def _choose_strategy(self) -> DistributionStrategy:
        strategy = self.call(self._trainer.strategy)
        if not strategy.is_distributed:
            return strategy
        if len(strategy.hosts()) > 1:
            self._join(is_needed=True)
        if self._env.current_host not in strategy.hosts():
            log.info("this host takes no part in the distribution: it runs the program alone")
            return SingleProcessStrategy(self._env)
        return strategy

    def _plan(self, adverts: Payloads) -> Mapping[str, Any]:
        self._strategy.adverts = self._taking_part(adverts)
        return self.call(self._strategy.plan, self._strategy.adverts)

    def _check_that_one_completes(self, payloads: Payloads) -> Mapping[str, Any]:
        # If hosts run independently, so do those outside of the distribution's instance groups.
        counted = self._taking_part(payloads) if self._strategy.is_distributed else payloads
        if not any(each.get("completes_job") for each in counted.values()):
            raise TrainerError(
                f"{type(self._strategy).__name__}: no host has a program to wait for: "
                "on every one, command returned None or completes_job returned False"
            )
        return {}

    def _verify(self, summaries: Payloads) -> Mapping[str, Any]:
        self.call(self._strategy.verify, self._taking_part(summaries))
        return {}

    def _taking_part(self, payloads: Payloads) -> Payloads:
        """Return the payloads of the hosts that take part in the strategy."""
        return {host: payloads[host] for host in self._strategy.hosts() if host in payloads}

    def _wait_for_own_program(self) -> None:
        assert self._process is not None
        begun = time.monotonic()
        ended = self._supervisor.wait(self._process)
        if self._signals.stopped_by is not None:
            # Programs of other hosts may have ended before this host's.
            self._supervisor.outwait(lambda: self._supervisor.grace_is_over or self._is_idle())
        log.info(f"{ended.how()} after {time.monotonic() - begun:.1f} s")
        failure = self.call(self._strategy.check_exit, ended)
        if failure is not None:
            raise failure

    def _outlast_the_others(self) -> None:
        """Keep this host's servers running after its own program failed, while other hosts' programs are stopped."""
        if self._signals.stopped_by is None or not self._supervisor.has_servers:
            return
        self._session.arrive("ended", {})
        try:
            self._supervisor.outwait(self._may_go_on)
        except FrameworkError as consequence:
            log.error(str(consequence))

    def _may_go_on(self) -> bool:
        """Tell whether programs need no longer be waited for: all have ended, or the job is being stopped."""
        session = self._session
        if session.programs_done or self._supervisor.grace_is_over:
            return True
        is_stopping = session.is_stopping or (session.is_closed and self._signals.stopped_by is not None)
        if not (is_stopping and self._is_idle()):
            return False
        # Programs elsewhere may still save work that the servers here hold.
        return session.is_closed or not self._supervisor.has_servers

    def _cause(self, error: BaseException) -> BaseException:
        if isinstance(error, JobInterrupted):
            return error.error
        if isinstance(error, JobStopped):
            return JobStopped(error.signum, 0 if self._has_ended_well else None, has_served=self._process is None)
        return error

    def _attempt(self, step: Callable[[], object]) -> None:
        """Take a step of the job's end; if it fails, an earlier failure stays the cause, and later steps are taken."""
        try:
            step()
        except BaseException as consequence:
            log.error(str(as_failure(consequence)))

    def _stop_program(self) -> None:
        self._supervisor.stop_program(self._process, lambda: self._ask(None, signal.SIGTERM), self._is_idle)

    def _clean_up(self) -> None:
        """Call `cleanup`, unless it has been called; it has a moment even if the grace period is over."""
        if not self._needs_cleanup:
            return
        self._signals.be_patient(self._grace, at_least=timing.AFTER_GRACE)
        try:
            self._call_cleanup()
        except JobStopped:
            log.error(f"{type(self._trainer).__name__}.cleanup did not end in time: it was interrupted")
        finally:
            self._signals.be_patient(_FOR_EVER)

    def _call_cleanup(self) -> None:
        with self._signals.may_interrupt():
            self._needs_cleanup = False  # Only here, where it is really called.
            call_hook(self._trainer.cleanup)

    def _close(self) -> None:
        """Call `close`, which nothing interrupts."""
        call_hook(self._strategy.close)

    def _is_idle(self) -> bool:
        """Return True if nothing of the program runs here, or the strategy cannot tell."""
        try:
            return call_hook(self._strategy.is_idle)
        except FrameworkError as error:
            log.error(str(error))
            return True

    def _ask(self, process: Process | None, signum: int) -> None:
        """Pass a request to stop on, in the strategy's way.  A signal handler calls this, so it must not raise."""
        try:
            call_hook(self._strategy.stop, process, signum)
        except FrameworkError as error:
            self._signals.interrupt(error)
