"""Trainer: the workflow of a training job, and the hooks around it."""

from __future__ import annotations

import signal
import time
from abc import ABC
from collections.abc import Mapping
from types import CoroutineType

from sagemaker_framework import entry_point, log, strategies
from sagemaker_framework.config import environment, files, paths, settings
from sagemaker_framework.errors import FrameworkError, JobInterrupted, JobStopped, TrainerError
from sagemaker_framework.processes.supervisor import Supervisor, grace_seconds
from sagemaker_framework.strategies.single_process import SingleProcessStrategy
from sagemaker_framework.workflow.report import Report
from sagemaker_framework.workflow.run import JobRun, Launch, are_named_texts, are_texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from types import FrameType
    from typing import Any, TypeVar

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.strategies.base import DistributionStrategy

    T = TypeVar("T")


def _is_strategy(value: object) -> bool:
    from sagemaker_framework.strategies.base import DistributionStrategy

    return isinstance(value, DistributionStrategy)


#: What the hooks that return something have to return, in words and as a test.
_RETURNED: dict[str, tuple[str, Callable[[object], bool]]] = {
    "source": ("a text or None", lambda value: value is None or isinstance(value, str)),
    "entry_point": ("an EntryPoint", lambda value: isinstance(value, entry_point.EntryPoint)),
    "strategy": ("a DistributionStrategy", _is_strategy),
    "args": ("a list of texts", are_texts),
    "command": ("a list of texts or None", lambda value: value is None or are_texts(value)),
    "env_vars": ("texts by their names", are_named_texts),
    "completes_job": ("True or False", lambda value: isinstance(value, bool)),
}


class Trainer(ABC):
    """Runs one training job on this host.

    For the caller:

    - `train()`

    Must be overridden: nothing. As it is, it runs the entry point that the job names, with the strategy
    that the job's hyperparameters ask for.

    May be overridden, in the order they are called:

    - `pre_train()`: raising fails the job before anything is fetched or started
    - `source()`: where the user's code comes from
    - `entry_point()`: what to run
    - `strategy()`: how it is spread over hosts and processes
    - `args()`: the program's arguments
    - `env_vars()`: the program's variables
    - `post_train()`: only after the program has succeeded and the servers are stopped
    - `cleanup()`: always, once `train()` has begun

    A hook raises a `FrameworkError` (docs/hooks.md) for what the job's owner can mend; any other exception
    fails the job too, with its traceback in the failure file.

    Args:
        env: the job's environment, a `TrainingEnv`; another mapping with all its names becomes one.

    Attributes:
        framework_hyperparameters: names of hyperparameters that are for this image, as all that start with
            `sagemaker_` are: they are among `env.additional_framework_parameters`, and the program does not get them.
        parameter_servers: the strategy of jobs that ask for parameter servers (`ParameterServerStrategy`); None where
            the image has none.
    """

    framework_hyperparameters: Collection[str] = ()
    parameter_servers: type[DistributionStrategy] | None = None

    def __init__(self, env: Mapping[str, Any]) -> None:
        self._values = environment.claim(environment.checked(env, self), self.framework_hyperparameters)

    @property
    def env(self) -> TrainingEnv:
        """The job's environment."""
        return self._values

    def train(self) -> None:
        """Run the job on this host: the whole workflow.  Not meant to be overridden.

        Raises:
            FrameworkError: of the kind that says what failed; `ProgramError` when the program did.
            JobStopped: the job was asked to stop, and the program ended well.
        """
        with Supervisor(grace_seconds()) as supervisor:
            job = JobRun(self._values, supervisor)
            try:
                job.join()
                self._call(self.pre_train)
                self._run(supervisor, job, self._prepare(supervisor))
            except BaseException as error:
                raise self._failed(error, supervisor, job) from error
            finally:
                job.session.close()

    def _prepare(self, supervisor: Supervisor) -> EntryPoint:
        source = self._call(self.source)
        if source:
            entry_point.fetch(source, self._values["code_dir"], self._values["region"])
        program = self._call(self.entry_point)
        self._call(lambda: program.install(supervisor.run, self._values["region"]), of=program, name="install")
        return program

    def _run(self, supervisor: Supervisor, job: JobRun, program: EntryPoint) -> None:
        strategy = self._call(self.strategy)
        job.join(strategy)
        if strategy.is_distributed and self._values["current_host"] not in strategy.hosts():
            log.info("this host takes no part in the distribution: it runs the program alone")
            strategy = SingleProcessStrategy(self._values)
        job.strategy = strategy
        argv, launch = self._agreed(supervisor, job, strategy, program)
        self._call(lambda: strategy.start_servers(launch), of=strategy, name="start_servers")

        def see(serving: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
            counted = job.taking_part(serving) if strategy.is_distributed else serving
            if not any(each.get("completes_job") for each in counted.values()):
                raise TrainerError(
                    f"{type(strategy).__name__}: on no host is there a program to wait for: "
                    "command returned None, or completes_job False, on every one"
                )
            return {}

        completes_job = argv is not None and self._call(strategy.completes_job, of=strategy)
        job.barrier("serving", {"completes_job": completes_job}, see)
        if argv is not None:
            try:
                self._run_program(supervisor, job, strategy, program, argv, launch.program_env, completes_job)
            except FrameworkError:
                if completes_job and supervisor.stopped_by is not None and supervisor.has_servers:
                    job.end_with_the_others()
                raise
        else:
            log.info("serving the other hosts until the job is over")
            supervisor.serve(
                lambda: job.session.programs_done, lambda signum: strategy.stop(None, signum), strategy.is_idle
            )
        job.has_ended_well = True
        if completes_job and (supervisor.stopped_by is None or supervisor.has_servers):
            # Also when the job is stopped: programs elsewhere may still save what the servers here hold.
            job.session.arrive("ended", {})
            job.await_end()
        supervisor.stop_all()
        summaries = self._call(strategy.summary, of=strategy)
        if supervisor.stopped_by is not None:
            raise JobStopped(supervisor.stopped_by)
        self._call(self.post_train)
        job.needs_cleanup = False
        self._call(self.cleanup)
        self._call(strategy.close, of=strategy)

        def verify(summaries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
            self._call(lambda: strategy.verify(job.taking_part(summaries)), of=strategy, name="verify")
            return {}

        job.barrier("done", summaries, verify)

    def _agreed(
        self, supervisor: Supervisor, job: JobRun, strategy: DistributionStrategy, program: EntryPoint
    ) -> tuple[list[str] | None, Launch]:
        """What this host runs, and how it starts servers, once all hosts are ready."""
        args = self._call(self.args)
        # What cannot be run had better fail now, before the other hosts are waited for.
        self._call(lambda: program.command(args), of=program, name="command")

        def plan(adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
            strategy.adverts = job.taking_part(adverts)
            return self._call(lambda: strategy.plan(strategy.adverts), of=strategy, name="plan")

        strategy.plan_result = job.barrier("ready", self._call(strategy.advertise, of=strategy), plan)
        argv = self._call(lambda: strategy.command(program, args), of=strategy, name="command")
        env_vars = [self._call(each.env_vars, of=each) for each in (program, self, strategy)]
        return argv, Launch(supervisor, job, entry_point.environment(*env_vars))

    def _run_program(
        self,
        supervisor: Supervisor,
        job: JobRun,
        strategy: DistributionStrategy,
        program: EntryPoint,
        argv: list[str],
        env: dict[str, str],
        completes_job: bool,
    ) -> None:
        begun = time.monotonic()
        entry_point.announce(program, argv)
        process = supervisor.launch(
            program.name,
            argv,
            env=env,
            cwd=program.code_dir,
            signals_group=program.signals_group,
            ask=strategy.stop,
            may_end=not completes_job,
        )
        job.process = process
        if not completes_job:
            log.info(
                f"the job lasts until the programs of other hosts have ended, whatever becomes of {program.name} here"
            )
            # Not even a request to stop reaches it before the programs that decide have ended: they may need it.
            job.await_end()
            return
        ended = supervisor.wait(process)
        if supervisor.stopped_by is not None:
            # What was started on other hosts may have ended before what runs on this one.
            supervisor.serve(strategy.is_idle, lambda signum: None, strategy.is_idle)
        log.info(f"{ended.how()} after {time.monotonic() - begun:.1f} s")
        failure = self._call(lambda: strategy.check_exit(ended), of=strategy, name="check_exit")
        if failure is not None:
            raise failure

    def _failed(self, error: BaseException, supervisor: Supervisor, job: JobRun) -> BaseException:
        """What the job has failed with, once everything on this host is stopped."""
        supervisor.conclude()
        if isinstance(error, JobInterrupted):
            error = error.error
        elif isinstance(error, JobStopped):
            error = JobStopped(error.signum, 0 if job.has_ended_well else None)
        if not isinstance(error, JobStopped):
            job.session.fail(_as_framework_error(error))
        if job.strategy is not None:
            strategy = job.strategy
            supervisor.stop_program(job.process, lambda: strategy.stop(None, signal.SIGTERM), strategy.is_idle)
        supervisor.stop_all()
        if job.needs_cleanup:
            try:
                self._call(self.cleanup)
            except FrameworkError as consequence:
                log.error(str(consequence))  # What came first is the cause.
        if job.strategy is not None:
            job.strategy.close()
        return job.session.verdict(error) if isinstance(error, FrameworkError) else error

    def _call(self, hook: Callable[[], T], of: object = None, name: str | None = None) -> T:
        name = name or hook.__name__
        what = f"{type(of or self).__name__}.{name}"
        returned = _called(what, hook)
        wanted, is_wanted = _RETURNED.get(name, ("", None))
        if is_wanted and not is_wanted(returned):
            raise TrainerError(f"{what} returned {returned!r}, not {wanted}")
        return returned

    # -- choices and moments, for subclasses -------------------------------------------------

    def pre_train(self) -> None:
        """Prepare this host.

        Called first. Raise to fail the job before anything is fetched or started. Does nothing by default.
        """

    def source(self) -> str | None:
        """Where the user's code comes from: an S3 URI, a local folder or archive; None when it is there already.

        By default what the job says (`sagemaker_submit_directory`).
        """
        return str(self._values["module_dir"])

    def entry_point(self) -> EntryPoint:
        """What to run.  Called once, when the user's code is in the code folder.

        By default what the job names (`SAGEMAKER_PROGRAM`, `sagemaker_program`).
        """
        return entry_point.choose(self._values["user_entry_point"], self._values["code_dir"])

    def strategy(self) -> DistributionStrategy:
        """How the entry point is spread over hosts and processes.  Called once, when its requirements are installed.

        By default what the job's hyperparameters ask for.
        """
        return strategies.choose(self._values, self.parameter_servers)

    def args(self) -> list[str]:
        """The program's arguments.  Called once.  By default the user's hyperparameters."""
        from sagemaker_framework.config.hyperparameters import to_cmd_args

        return to_cmd_args(self._values["hyperparameters"])

    def env_vars(self) -> dict[str, str]:
        """The program's variables, besides those of the container.  Called once.

        By default `SM_*` and the others that docs/environment.md lists; extend `super().env_vars()`.
        """
        return self._values.to_env_vars()

    def post_train(self) -> None:
        """Finish what the program has done, such as converting its model.

        Called when the program has succeeded on this host and the servers are stopped. Raising fails the job.
        Does nothing by default.
        """

    def cleanup(self) -> None:
        """Give back what this host holds.

        Always called once `train()` has begun, also when it failed. Raising fails a job that has not failed before.
        Does nothing by default.
        """


def train(stops: Sequence[int] = ()) -> int:
    """Run the job that this container was started for, and report how it ended.

    Reads the configuration, finds the Trainer (`SAGEMAKER_TRAINING_MODULE`), runs it, and writes the success or
    failure file. What the `train` command does.

    Args:
        stops: signals by which the job has been asked to stop already.

    Returns:
        The exit code for the service: the program's own; 128 + n when signal n ended it.
    """
    begun = time.monotonic()
    report = Report(paths.current())
    try:
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, _raise_stopped)
        if stops:
            raise JobStopped(stops[0])
        report.begin()
        values = files.read()
        log.set_level(values.log_level)
        settings.warn_of_unknown()
        _find_or_tell(values)()
    except FrameworkError as error:
        cause = str(error) or _named(error)
        log.error(cause)
        report.failure(cause, getattr(error, "detail", ""))  # An author's own kind of error may have none.
        return error.exit_code & 0xFF or 1  # The system would cut 256 to a success.
    except JobStopped as stop:
        return _stopped(stop, report)
    except BaseException as error:
        cause = f"internal error of sagemaker-framework: {_named(error)}"
        log.error(cause)
        report.failure(cause, _traceback(error, whole=True))
        return 1
    log.info(f"the job succeeded after {time.monotonic() - begun:.1f} s")
    report.success()
    return 0


def _raise_stopped(signum: int, frame: FrameType | None) -> None:
    raise JobStopped(signum)


def _stopped(stop: JobStopped, report: Report) -> int:
    name = signal.Signals(stop.signum).name
    if stop.exit_code == 0:
        log.info(f"the job was stopped by {name}, and its program ended well")
        report.stopped()
    else:
        log.error(f"the job was stopped by {name} before its program ran")
        report.failure(f"the job was stopped by {name} before its program ran")
    return stop.exit_code


def _find_or_tell(values: TrainingEnv) -> Callable[[], object]:
    """What `_find` finds; where it fails, the other hosts, which would wait for this one, are told."""
    try:
        return _find(values)
    except FrameworkError as error:
        with Supervisor(grace_seconds()) as supervisor:
            job = JobRun(values, supervisor)
            try:
                job.join()
                supervisor.conclude()
                job.session.fail(error)
                raise job.session.verdict(error) from error
            finally:
                job.session.close()


def _find(values: TrainingEnv) -> Callable[[], object]:
    """What `SAGEMAKER_TRAINING_MODULE` names, ready to be called; the Trainer itself where it names nothing."""
    named = values["framework_module"]
    if not named:
        return Trainer(values).train
    setting = f"SAGEMAKER_TRAINING_MODULE={named}"
    module_name, colon, attribute = named.partition(":")
    if not (module_name and colon and attribute):
        raise TrainerError(f"{setting} is not of the form pkg.mod:Class or pkg.mod:function")
    from importlib import import_module

    module = _called(f"{setting}: importing {module_name}", lambda: import_module(module_name))
    target: Any = module
    for part in attribute.split("."):
        target = getattr(target, part, None)
        if target is None:
            raise TrainerError(f"{setting}: the module {module_name} has no {attribute}")
    if isinstance(target, type):
        if not issubclass(target, Trainer):
            raise TrainerError(f"{setting}: {attribute} is a class, but no subclass of sagemaker_framework.Trainer")
        trainer = _called(attribute, lambda: target(values))
        if not hasattr(trainer, "_values"):
            raise TrainerError(f"{setting}: {attribute}.__init__ does not call super().__init__(env)")
        return trainer.train
    if not callable(target):
        raise TrainerError(f"{setting}: {attribute} is neither a class nor a function")
    args = _arguments(target, values)
    return lambda: _supervised(named, lambda: target(*args))


def _supervised(named: str, function: Callable[[], T]) -> T:
    """Call an author's function; what it has started, and left running, is stopped when it is over."""
    with Supervisor(grace_seconds()):
        return _called(named, function)


def _arguments(function: Callable[..., object], values: TrainingEnv) -> tuple[object, ...]:
    """The environment, for a function that takes a parameter; nothing, for one that does not."""
    from inspect import Parameter, signature

    try:
        parameters = signature(function).parameters.values()
    except ValueError:  # Some that are written in C do not tell.
        return ()
    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    if not any(parameter.kind in by_position for parameter in parameters):
        return ()
    return (values,)


def _called(what: str, function: Callable[[], T]) -> T:
    """What an author's function returns; what it raises, as an error that names the function."""
    try:
        returned = function()
    except (FrameworkError, JobInterrupted, JobStopped):
        raise
    except SystemExit as stop:
        if stop.code in (None, 0):
            return None  # type: ignore[return-value]
        is_text = isinstance(stop.code, str) and stop.code
        words = f"exited: {stop.code}" if is_text else f"called sys.exit({stop.code!r})"
        raise TrainerError(f"{what} {words}", exit_code=stop.code if isinstance(stop.code, int) else 1) from stop
    except BaseException as error:
        raise TrainerError(f"{what} failed: {_named(error)}", _traceback(error)) from error
    if isinstance(returned, CoroutineType):
        returned.close()
        raise TrainerError(f"{what} is async, so that it has not run: have it call asyncio.run()")
    return returned


def _as_framework_error(error: BaseException) -> FrameworkError:
    if isinstance(error, FrameworkError):
        return error
    return FrameworkError(f"internal error of sagemaker-framework: {_named(error)}", _traceback(error, whole=True))


def _named(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _traceback(error: BaseException, whole: bool = False) -> str:
    """The traceback of an error, without the frames of this module that lead to it unless it is to be `whole`."""
    import traceback

    trace = error.__traceback__
    while trace is not None and not whole and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
