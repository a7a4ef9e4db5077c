"""One process: how it is started, what it wrote, how it ended."""

from __future__ import annotations

import errno
import os
import signal
import time

from sagemaker_framework import excerpts, log, timing
from sagemaker_framework.config import hardware
from sagemaker_framework.errors import EntryPointError, ProgramError
from sagemaker_framework.failures import first_error
from sagemaker_framework.processes import limits
from sagemaker_framework.processes.relay import Relay, same_stream
from sagemaker_framework.processes.signals import Once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from sagemaker_framework.errors import FrameworkError
else:
    Protocol = object  # Importing typing would take a launcher longer than reading the configuration.

_TIDYING = 0.05  # seconds that a process needs to end, at least, once it has begun to
#: What a process does not do to itself.
_KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)


class ProcessResult:
    """The end of a process: `DistributionStrategy.check_exit` is handed the program's, `Run` returns one.

    For authors: `how()`, `error()`, `exit_code`.

    Attributes:
        name: what the process is called in messages.
        returncode: its exit code; -n when signal n killed it.
        tail: the last 64 KiB that it wrote to stderr.
        stopped_by: the signal by which the job was asked to stop before the process ended, or None.
        out_of_memory: whether the kernel killed processes of this container for lack of memory meanwhile.
        needed_by: what was still running, and needed this process, when it ended; empty where nothing did.
        at: when it failed (`time.monotonic`): when it wrote its exception, or else began to end; None where that does
            not matter.
        role: `program`, or `server` for one that runs beside it.
        together: the program's server that failed at the same moment, if one did; the error names both.
    """

    def __init__(
        self,
        name: str,
        returncode: int,
        tail: bytes,
        stopped_by: int | None,
        out_of_memory: bool,
        needed_by: str = "",
        at: float | None = None,
        role: str = "program",
        together: ProcessResult | None = None,
    ) -> None:
        self.at = at
        self.role = role
        self.together = together
        self.name = name
        self.returncode = returncode
        self.tail = tail
        self.stopped_by = stopped_by
        self.out_of_memory = out_of_memory
        self.needed_by = needed_by

    @property
    def exit_code(self) -> int:
        """The exit code as a shell has it: 128 + n when signal n killed it; never 0 where something needed it."""
        if self.returncode < 0:
            return 128 - self.returncode
        return self.returncode or int(bool(self.needed_by))

    def how(self) -> str:
        """Say in one line how it ended, such as `train.py exited with code 3`."""
        meanwhile = f" while {self.needed_by} was running" if self.needed_by else ""
        if self.returncode >= 0:
            return f"{self.name} exited with code {self.returncode}{meanwhile}"
        return f"{self.name} was killed by signal {-self.returncode} ({signal_name(-self.returncode)}){meanwhile}"

    def error(self) -> FrameworkError:
        """Make the failure that this end is, with the cause that the process itself gave; to be raised or returned."""
        errors = [each._own_error() for each in (self, self.together) if each is not None]
        return first_error(errors, "")

    def _own_error(self) -> ProgramError:
        cause, excerpt = excerpts.cause_and_excerpt(self.tail)
        parts = [self.how()]
        if self.stopped_by is not None:
            parts.insert(0, f"the job was stopped by {signal_name(self.stopped_by)}")
        elif self.out_of_memory:
            parts.append(
                f"this container ran out of memory ({_mib(hardware.count_memory())}): "
                "use an instance with more, or a smaller batch or model"
            )
        elif self.exit_code == 128 + signal.SIGKILL:
            parts.append("unless something in this container sent that, it has run out of memory")
        # What a program wrote before it was killed from outside is no cause, unless it is an exception.
        if cause and (self.returncode not in _KILLED or "Traceback" in excerpt):
            parts.append(cause)
        error = ProgramError(": ".join(parts), self.exit_code, excerpt)
        error.process = self.role
        if self.at is not None:
            error.at = self.at
        return error


class Run(Protocol):
    """Runs a process to its end: `run(name, argv, env=..., cwd=...)`; the tool that `EntryPoint.install` is handed.

    The type of a function: no class has to inherit it.
    """

    def __call__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> ProcessResult:
        """Start a process, and wait until it has ended. A request to stop the job is passed on to it.

        Args:
            name: what to call it in messages.
            argv: its program and arguments, passed as they are; no shell.
            env: all of its variables; those of `train` where they are not given.
            cwd: the folder to start it in; the current one where it is not given.

        Returns:
            How it ended, with whatever exit code; `result.error()` is the failure to raise for one that is not 0.

        Raises:
            EntryPointError: it cannot be started.
            JobInterrupted: the job has failed elsewhere meanwhile.
        """


class Process:
    """A process that the supervisor has started: `Launch` returns one, `DistributionStrategy.stop` is handed one.

    For authors: `signal(signum)`.

    Attributes:
        name: what it is called in messages.
        pid: its process ID, and that of its group.
        returncode: None while it runs; then its exit code, or -n when signal n killed it.
        may_end: whether it may end, with exit code 0, before what needs it.
        signals_group: whether a request to stop goes to its whole group at once, because it passes no signal on, as
            a shell does not; else it goes to the process alone, which knows best what to do with its helpers.
        ask: sends a signal as a request to stop, once, whoever calls it first. For the supervisor.
        relay: passes on what it writes to stderr. For the supervisor.
    """

    returncode: int | None
    may_end: bool

    def __init__(self, name: str, pid: int, relay: Relay, signals_group: bool) -> None:
        self.name = name
        self.pid = pid
        self.returncode = None
        self.relay = relay
        self.signals_group = signals_group
        self.may_end = False
        self.ask = Once(lambda signum: self.signal(signum, group=self.signals_group))
        self._ended_at = 0.0

    def end(self, returncode: int) -> None:
        """Take note of its end."""
        self.returncode = returncode
        self._ended_at = time.monotonic()

    @property
    def failed_at(self) -> float:
        """When it wrote the exception that ended it; without one, when its end, or its last words, began."""
        if self.has_raised:
            return self.relay.raised_at
        last_words = self.relay.written_at
        if self._ended_at - last_words < timing.LAST_WORDS:
            return min(last_words, self._ended_at)
        # An interpreter closes its connections, of which others hear, some time before it has ended.
        return self._ended_at - (_TIDYING if (self.returncode or 0) > 0 else 0)

    @property
    def has_raised(self) -> bool:
        """Whether what it wrote last is an exception."""
        return bool(self.relay.raised_at) and "Traceback" in excerpts.cause_and_excerpt(self.relay.tail)[1]

    @property
    def ended_too_early(self) -> bool:
        """Whether it has ended although it may not."""
        return self.returncode is not None and not (self.may_end and self.returncode == 0)

    def asked_by(self, ask: Callable[[Process, int], None]) -> None:
        """Have requests to stop reach the process in another way."""
        self.ask = Once(lambda signum: ask(self, signum))

    def signal(self, signum: int, *, group: bool = False) -> bool:
        """Send a signal to the process, or to its whole group.  Does not wait.

        Args:
            signum: the signal, such as `signal.SIGTERM`.
            group: whether all processes of its group get it, also when the process itself has ended.

        Returns:
            Whether there was anyone to get it.
        """
        try:
            if group:
                os.killpg(self.pid, signum)
            elif self.returncode is None:
                os.kill(self.pid, signum)
            else:
                return False
        except ProcessLookupError:
            return False
        return True


def first_to_fail(program: ProcessResult | None, servers: Sequence[ProcessResult]) -> ProcessResult:
    """Return which of these failed first; the program with its server in it, where the two failed together.

    Args:
        program: how the program ended; None where it has not.
        servers: how servers that it needs ended before it might; at least one where there is no program.
    """
    results = [*([program] if program is not None else []), *servers]
    errors = [each._own_error() for each in results]
    first = first_error(errors, "")
    for result, error in zip(results, errors):
        if error is first:
            return result
    assert program is not None
    program.together = min(servers, key=lambda each: each.at or 0.0)
    return program


def start(
    name: str,
    argv: list[str],
    env: dict[str, str],
    cwd: str | None,
    signals_group: bool,
    own_limit: limits.OwnLimit,
) -> Process:
    """Start a process, in a session and process group of its own.

    Its stdout is ours; its stderr comes to ours through a relay, which remembers the end of it.

    Args:
        name: what to call it in messages.
        argv: the program and its arguments, passed as they are; no shell.
        env: all of its environment variables.
        cwd: the folder to start it in; this process's own when None.
        signals_group: see `Process.ask`.
        own_limit: the limit of open files that is not to be the program's.

    Raises:
        EntryPointError: it cannot be started.
    """
    reading, writing = os.pipe()
    streams = [(os.POSIX_SPAWN_DUP2, writing, 2)]
    if same_stream(1, 2):
        # One stream for both, so that what the program writes stays in order.
        streams.append((os.POSIX_SPAWN_DUP2, writing, 1))
    broken = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores these; programs expect not to.

    def spawn() -> int:
        return os.posix_spawnp(argv[0], argv, env, file_actions=streams, setsid=True, setsigdef=broken)

    try:
        pid = _in_folder(cwd, lambda: own_limit.without(spawn))
    except (OSError, ValueError) as error:
        os.close(reading)
        raise EntryPointError(f"{name} cannot be started: {_start_problem(error, argv)}") from error
    finally:
        os.close(writing)
    log.debug(f"{name} has process ID {pid}")
    return Process(name, pid, Relay(reading, 2), signals_group)


def _in_folder(folder: str | None, start: Callable[[], int]) -> int:
    """Call `start` from within `folder`: posix_spawn, unlike fork, takes no folder."""
    if folder is None:
        return start()
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)
        try:
            return start()
        finally:
            os.fchdir(here)
    finally:
        os.close(here)


def _start_problem(error: OSError | ValueError, argv: list[str]) -> str:
    if not isinstance(error, OSError):
        return str(error)
    if error.errno == errno.E2BIG:
        at = max(range(len(argv)), key=lambda index: len(argv[index]))
        of = f", after {argv[at - 1]}" if at and argv[at - 1].startswith("-") else ""
        return f"its arguments are longer than the kernel allows: the longest{of}, has {len(argv[at]):,} characters"
    if error.errno == errno.ENOENT:
        return f"{argv[0]} is not there, or the interpreter that its first line names is not"
    if error.errno == errno.ENOEXEC:
        return f"{argv[0]} is no program for this machine"
    return f"{argv[0]}: {error.strerror}"


def signal_name(signum: int) -> str:
    """Such as `SIGTERM`."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _mib(size: int) -> str:
    return f"{size // 2**20} MiB"
