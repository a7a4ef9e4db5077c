"""One process: starts it, and records its output and its end."""

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

#: Exit codes of a process that others have killed.
_KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)


class ProcessResult:
    """The end of a process.  `DistributionStrategy.check_exit` is given the program's, and `Run` returns one.

    For authors: `how()`, `error()`, `exit_code`.

    Attributes:
        name: the process's name in messages.
        returncode: its exit code; -n if signal n killed it.
        tail: the last 64 KiB that it wrote to stderr.
        stopped_by: the signal by which the job was asked to stop before the process ended, or None.
        out_of_memory: True if the kernel killed processes of this container meanwhile, for lack of memory.
        needed_by: the process that was still running and needed this one; empty if there was none.
        at: the time of the failure (`time.monotonic`): when it wrote its exception, or else began to end; None if that
            is not known.
        role: `program`, or `server` for one that runs beside it.
        together: the program's server that failed at the same moment, if any; the error names both.
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
        """The exit code as a shell has it: 128 + n if signal n killed it; never 0 if it was still needed."""
        if self.returncode < 0:
            return 128 - self.returncode
        return self.returncode or int(bool(self.needed_by))

    def how(self) -> str:
        """Describe the end in one line, such as `train.py exited with code 3`."""
        meanwhile = f" while {self.needed_by} was running" if self.needed_by else ""
        if self.returncode >= 0:
            return f"{self.name} exited with code {self.returncode}{meanwhile}"
        return f"{self.name} was killed by signal {-self.returncode} ({signal_name(-self.returncode)}){meanwhile}"

    def error(self) -> FrameworkError:
        """Return the failure of the process, with the cause that it wrote itself; raise it or return it."""
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
        # What a program wrote before others killed it is not a cause, unless it is an exception.
        if cause and (self.returncode not in _KILLED or "Traceback" in excerpt):
            parts.append(cause)
        error = ProgramError(": ".join(parts), self.exit_code, excerpt)
        error.process = self.role
        if self.at is not None:
            error.at = self.at
        return error


class Run(Protocol):
    """Runs a process to its end: `run(name, argv, env=..., cwd=...)`.  `EntryPoint.install` is given one.

    This is the type of a function; a class need not inherit it.
    """

    def __call__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> ProcessResult:
        """Start a process, and wait for its end. Requests to stop the job are passed on to it.

        Args:
            name: its name in messages.
            argv: the program and its arguments, passed unchanged, without a shell.
            env: all of its environment variables; those of `train` if None.
            cwd: the folder to start it in; the current one if None.

        Returns:
            The end of the process, with any exit code; if that is not 0, `result.error()` is the failure to raise.

        Raises:
            EntryPointError: the process cannot be started.
            JobInterrupted: the job failed elsewhere meanwhile.
        """


class Process:
    """A process that the supervisor has started.  `Launch` returns one, `DistributionStrategy.stop` is given one.

    For authors: `signal(signum)`.

    Attributes:
        name: its name in messages.
        pid: its process ID, which is also its group's.
        returncode: None while it runs; then its exit code, or -n if signal n killed it.
        may_end: True if it may end with exit code 0 while the process that needs it still runs.
        signals_group: True if a request to stop goes to its whole group at once, as for a shell, which passes no signal
            on; else it goes to the process alone, which knows best what to do with its helpers.
        ask: sends a signal as a request to stop; only the first call does something. For the supervisor.
        relay: passes on its stderr. For the supervisor.
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
        """Note the end of the process."""
        self.returncode = returncode
        self._ended_at = time.monotonic()

    @property
    def failed_at(self) -> float:
        """The time at which it wrote the exception that ended it; without one, when its end or last output began."""
        if self.has_raised:
            return self.relay.raised_at
        last_words = self.relay.written_at
        if self._ended_at - last_words < timing.LAST_WORDS:
            return min(last_words, self._ended_at)
        # Others notice that an interpreter closes its connections, some time before it has ended.
        return self._ended_at - (timing.TIDYING if (self.returncode or 0) > 0 else 0)

    @property
    def has_raised(self) -> bool:
        """True if its last output is an exception."""
        return bool(self.relay.raised_at) and "Traceback" in excerpts.cause_and_excerpt(self.relay.tail)[1]

    @property
    def ended_too_early(self) -> bool:
        """True if it has ended although it was not allowed to."""
        return self.returncode is not None and not (self.may_end and self.returncode == 0)

    def asked_by(self, ask: Callable[[Process, int], None]) -> None:
        """Send requests to stop to the process in another way, from now on."""
        self.ask = Once(lambda signum: ask(self, signum))

    def signal(self, signum: int, *, group: bool = False) -> bool:
        """Send a signal to the process, or to its whole group.  Does not wait.

        Args:
            signum: the signal, such as `signal.SIGTERM`.
            group: True to send it to all processes of the group, even if the process itself has ended.

        Returns:
            False if there was nobody to receive it.
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
    """Return the first failure; the program's with its server's in it, if the two failed together.

    Args:
        program: the end of the program; None if it has not ended.
        servers: the ends of servers that ended too early; one or more if there is no program.
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

    Its stdout is this process's. Its stderr passes through a relay, which remembers the end of it.

    Args:
        name: its name in messages.
        argv: the program and its arguments, passed unchanged, without a shell.
        env: all of its environment variables.
        cwd: the folder to start it in; this process's own if None.
        signals_group: see `Process`.
        own_limit: the limit of open files that the program must not inherit.

    Raises:
        EntryPointError: the process cannot be started.
    """
    reading, writing = os.pipe()
    streams = [(os.POSIX_SPAWN_DUP2, writing, 2)]
    if same_stream(1, 2):
        # One stream for both keeps the order of the program's output.
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
    """Call `start` in `folder`: posix_spawn, unlike fork, cannot change the folder."""
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
        return f"{argv[0]} is not a program for this machine"
    return f"{argv[0]}: {error.strerror}"


def signal_name(signum: int) -> str:
    """Return the name of a signal, such as `SIGTERM`."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


def _mib(size: int) -> str:
    return f"{size // 2**20} MiB"
