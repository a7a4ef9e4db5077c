"""One job on this host, from its first step to its last; docs/hooks.md has the hooks in between."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping

from sagemaker_framework import entry_point, log
from sagemaker_framework.cluster.session import SingleHostSession
from sagemaker_framework.errors import FrameworkError, JobInterrupted, JobStopped, TrainerError
from sagemaker_framework.processes.signals import Once
from sagemaker_framework.processes.supervisor import Supervisor
from sagemaker_framework.strategies.base import Launch
from sagemaker_framework.strategies.single_process import SingleProcessStrategy
from sagemaker_framework.workflow.calls import call_hook, internal_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from sagemaker_framework.cluster.session import Session
    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.processes.process import Process
    from sagemaker_framework.processes.signals import Signals
    from sagemaker_framework.strategies.base import DistributionStrategy
    from sagemaker_framework.trainer import Trainer

    T = TypeVar("T")
    #: What each host has brought to a phase, by its name.
    Payloads = Mapping[str, Mapping[str, Any]]

_FOR_EVER = float("inf")


class JobRun:
    """One run of one job on this host: its steps, and what they hand on to each other.

    Args:
        trainer: whose hooks are called.
        signals: the record of requests to stop.
    """

    _entry_point: EntryPoint  # from `fetch` on
    _argv: list[str] | None  # from `rendezvous` on; None where this host only serves others
    _launch: Launch
    _completes_job: bool  # from `start_servers` on
    _summary: Mapping[str, Any]  # from `stop_servers` on

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
        """Take all steps, in their order.

        Raises:
            FrameworkError: of the kind that says what failed; `ProgramError` when the program did.
            JobStopped: the job was asked to stop, before the program ran or before it had ended well.
        """
        with self._supervisor:
            try:
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
            except BaseException as error:
                raise self.conclude(error) from error
            finally:
                self._session.close()

    def call(self, hook: Callable[..., T], *args: Any) -> T:
        """Call a hook of the author's, which a request to stop or a failure elsewhere may interrupt."""
        self._signals.check()
        with self._signals.may_interrupt():
            return call_hook(hook, *args)

    # -- the steps -------------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin to talk with the other hosts, where there are any and the job has them agree."""
        self._join(is_needed=False)

    def fetch(self) -> None:
        """Bring in the user's code, and choose what of it to run."""
        source = self.call(self._trainer.source)
        if source:
            with self._signals.may_interrupt():
                entry_point.fetch(source, self._env.code_dir, self._env.region)
        self._entry_point = self.call(self._trainer.entry_point)

    def install(self) -> None:
        """Install what the user's code requires."""
        self.call(self._entry_point.install, self._supervisor.run, self._env.region)

    def rendezvous(self) -> None:
        """Choose how the program is spread, wait until all hosts are ready, and learn what runs on this one."""
        strategy = self._strategy = self._choose_strategy()
        args = self.call(self._trainer.args)
        # What cannot be run had better fail now, before the other hosts are waited for.
        self.call(self._entry_point.command, args)
        strategy.plan_result = self._session.barrier("ready", self.call(strategy.advertise), self._plan)
        self._argv = self.call(strategy.command, self._entry_point, args)
        env_vars = [self.call(each.env_vars) for each in (self._entry_point, self._trainer, strategy)]
        env = entry_point.environment(*env_vars)
        self._launch = Launch(self._supervisor, self._session, self._signals, env)

    def start_servers(self) -> None:
        """Start what runs beside the program, on all hosts."""
        self.call(self._strategy.start_servers, self._launch)
        self._completes_job = self._argv is not None and self.call(self._strategy.completes_job)
        self._session.barrier("serving", {"completes_job": self._completes_job}, self._check_that_one_completes)

    def start_program(self) -> None:
        """Start the program, if this host runs one.  From now on, a request to stop is the program's to deal with."""
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
        """Wait for the end of the program, and of those on the other hosts."""
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
                f"whatever becomes of {self._process.name} here"
            )
        else:
            self._signals.subscribe(Once(lambda signum: self._ask(None, signum)))
        self._supervisor.outwait(self._may_go_on)
        self._has_ended_well = True

    def stop_servers(self) -> None:
        """Stop what runs beside the programs, now that none needs it; end here if the job is being stopped."""
        is_stopped = self._session.is_stopping or not self._session.programs_done
        signum = self._signals.stopped_by or signal.SIGTERM
        if not is_stopped:
            self._signals.disregard_stops()
        self._supervisor.stop_all()
        self._summary = self.call(self._strategy.summary)
        if is_stopped:
            raise JobStopped(signum, 0)

    def finish(self) -> None:
        """Finish what the program has done, and wait until all hosts have."""
        self._signals.be_patient(self._grace)
        self.call(self._trainer.post_train)
        self._needs_cleanup = False
        self.call(self._trainer.cleanup)
        self.call(self._strategy.close)
        self._signals.be_patient(_FOR_EVER)  # The others may be through before the grace period is over.
        self._session.barrier("done", self._summary, self._verify)

    def conclude(self, error: BaseException) -> BaseException:
        """Undo what was begun, the last thing first, and return what the job ends with, on all hosts."""
        error = self._cause(error)
        own = _as_failure(error)
        self._signals.settle(self._grace)
        if isinstance(error, JobStopped):
            # Told already; but that this host does stop is news, even if the programs of all others have ended well.
            self._session.stopping(error.signum, insists=True)
        else:
            self._supervisor.shorten_grace()
            self._session.fail(own)
        self._supervisor.stop_program(self._process, lambda: self._ask(None, signal.SIGTERM), self._strategy.is_idle)
        self._supervisor.stop_all()
        self._clean_up()
        verdict = self._session.verdict(own)
        return error if verdict is own else verdict

    # -- their parts -----------------------------------------------------------------------------

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
        # Where the hosts run independently, so do those that are not in the distribution's instance groups.
        counted = self._taking_part(payloads) if self._strategy.is_distributed else payloads
        if not any(each.get("completes_job") for each in counted.values()):
            raise TrainerError(
                f"{type(self._strategy).__name__}: on no host is there a program to wait for: "
                "command returned None, or completes_job False, on every one"
            )
        return {}

    def _verify(self, summaries: Payloads) -> Mapping[str, Any]:
        self.call(self._strategy.verify, self._taking_part(summaries))
        return {}

    def _taking_part(self, payloads: Payloads) -> Payloads:
        """Of what the hosts brought, return that of those that take part in the strategy."""
        return {host: payloads[host] for host in self._strategy.hosts() if host in payloads}

    def _wait_for_own_program(self) -> None:
        assert self._process is not None
        begun = time.monotonic()
        ended = self._supervisor.wait(self._process)
        if self._signals.stopped_by is not None:
            # What was started on other hosts may have ended before what runs on this one.
            self._supervisor.outwait(lambda: self._supervisor.grace_is_over or self._strategy.is_idle())
        log.info(f"{ended.how()} after {time.monotonic() - begun:.1f} s")
        failure = self.call(self._strategy.check_exit, ended)
        if failure is not None:
            raise failure

    def _outlast_the_others(self) -> None:
        """Keep the servers of this host, whose own program has failed, while programs elsewhere are being stopped."""
        if self._signals.stopped_by is None or not self._supervisor.has_servers:
            return
        self._session.arrive("ended", {})
        try:
            self._supervisor.outwait(self._may_go_on)
        except FrameworkError as consequence:
            log.error(str(consequence))

    def _may_go_on(self) -> bool:
        """Tell whether the programs have ended on all hosts, or need not be waited for, as the job is being stopped."""
        session = self._session
        if session.programs_done or self._supervisor.grace_is_over:
            return True
        is_stopping = session.is_stopping or (session.is_closed and self._signals.stopped_by is not None)
        if not (is_stopping and self._strategy.is_idle()):
            return False
        # Programs elsewhere may still save what the servers here hold.
        return session.is_closed or not self._supervisor.has_servers

    def _cause(self, error: BaseException) -> BaseException:
        if isinstance(error, JobInterrupted):
            return error.error
        if isinstance(error, JobStopped):
            return JobStopped(error.signum, 0 if self._has_ended_well else None, has_served=self._process is None)
        return error

    def _clean_up(self) -> None:
        """Call what is always called; what came first is the cause, whatever becomes of this."""
        for hook in (self._trainer.cleanup, self._strategy.close) if self._needs_cleanup else (self._strategy.close,):
            try:
                self.call(hook)
            except FrameworkError as consequence:
                log.error(str(consequence))
            except JobStopped:
                log.error(f"{hook.__qualname__} did not end within the {self._grace:g} s of grace")

    def _ask(self, process: Process | None, signum: int) -> None:
        """Pass a request to stop on, in the strategy's way.  A signal handler calls this: nothing may be raised."""
        try:
            call_hook(self._strategy.stop, process, signum)
        except FrameworkError as error:
            self._signals.interrupt(error)


def join(env: TrainingEnv, supervisor: Supervisor, is_needed: bool = False) -> Session:
    """Begin this host's session with the others, if there are any."""
    if len(env.hosts) < 2:
        return SingleHostSession(env.current_host)
    from sagemaker_framework import cluster

    with supervisor.own_limit:  # The leader needs more open files than its program is to have.
        return cluster.join(env, control=supervisor, is_needed=is_needed)


def tell_the_others(env: TrainingEnv, signals: Signals, error: BaseException) -> BaseException:
    """Tell the other hosts, which would wait for this one, that it has failed, or is stopped, before it could run.

    Returns:
        What the job ends with, on all hosts.
    """
    own = _as_failure(error)
    with Supervisor(signals, env.settings.grace_seconds) as supervisor:
        session = join(env, supervisor)
        try:
            if isinstance(error, JobStopped):
                session.stopping(error.signum)
            else:
                session.fail(own)
            verdict = session.verdict(own)
        finally:
            session.close()
    return error if verdict is own else verdict


def _as_failure(error: BaseException) -> FrameworkError:
    return FrameworkError(str(error)) if isinstance(error, JobStopped) else internal_error(error)
