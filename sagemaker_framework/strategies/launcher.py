"""LauncherStrategy: the program runs in ranks, which a launcher such as mpirun or torchrun starts."""

from __future__ import annotations

import os
import signal

from sagemaker_framework import log, timing
from sagemaker_framework.errors import FrameworkError, JobStopped, ProgramError
from sagemaker_framework.failures import first_error
from sagemaker_framework.processes.process import signal_name
from sagemaker_framework.strategies._network import efa_variables, interface_variables
from sagemaker_framework.strategies.base import DistributionStrategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from threading import Timer
    from typing import Any

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.processes.process import Process, ProcessResult
    from sagemaker_framework.processes.rank_server import RankResult, Ranks
    from sagemaker_framework.strategies.base import Launch


class LauncherStrategy(DistributionStrategy):
    """Lets a launcher start ranks; each host looks after its own.

    The launcher only decides where ranks run. Their arguments and variables come from their host, which also relays
    their output, stops them, and learns how they end. See `processes/rank_server.py`.

    Must be overridden:

    - `command(entry_point, args)`: the launcher's command, which starts `self.ranks(...).command` for each rank

    May be overridden:

    - `rank_command(entry_point, args)`: the argument list that each rank runs
    - `is_secondary(rank)`: True if a rank failed because of another
    - `may_start_again()`: True if the launcher restarts ranks that have failed
    - `awaits_ranks()`: True if the job fails when the launcher starts no rank on this host
    - `last()`, `all_well()`: the ends of the ranks, and whether all ended well

    For subclasses: `ranks(folder, entry_point, args)`.

    Attributes:
        launcher: the launcher's name in messages.
    """

    launcher: str

    def __init__(self, env: TrainingEnv) -> None:
        super().__init__(env)
        self._name = ""
        self._rank: tuple[list[str], str, bool] = ([], "", False)
        self._ranks: Ranks | None = None
        self._launch: Launch | None = None
        self._process: Process | None = None
        self._doubt: Timer | None = None
        self._limit = 0.0
        self._is_stopping = False
        self._has_failed = False

    def rank_command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str]:
        """Return the argument list that each rank runs.  Called by `ranks`."""
        return entry_point.command(args)

    def may_start_again(self) -> bool:
        """Tell whether the launcher restarts ranks that have failed; if not, the first to fail fails the job."""
        return False

    def is_secondary(self, rank: RankResult) -> bool:
        """Tell whether a rank probably failed because of another, although nobody asked it to end.

        Called in a thread, for each rank that has failed. If True, another rank's failure becomes the job's, if one
        shows soon.

        Args:
            rank: the end of the rank.
        """
        return False

    def ranks(self, folder: str, entry_point: EntryPoint, args: Sequence[str]) -> Ranks:
        """Return this host's ranks.  `command` must call it, once.

        Args:
            folder: a private folder for the socket that they connect to; `close` must remove it.
            entry_point: the user's program.
            args: the program's arguments.
        """
        from sagemaker_framework.processes.rank_server import Ranks

        self._name = entry_point.name
        self._rank = self.rank_command(entry_point, args), entry_point.code_dir, entry_point.signals_group
        self._ranks = Ranks(folder, self.env.current_host)
        self._ranks.on_idle = self._release
        return self._ranks

    def start_servers(self, launch: Launch) -> None:
        assert self._ranks is not None
        self._launch = launch
        env = launch.program_env
        env.update({**interface_variables(self.env, env), **efa_variables(env)})
        argv, cwd, signals_group = self._rank
        self._ranks.serve(self._name, argv, env, cwd, signals_group, self._on_failure)
        self._limit = self.env.settings.cluster_timeout_seconds
        if self.awaits_ranks():
            self._ranks.await_first(self._on_silence)

    def awaits_ranks(self) -> bool:
        """Tell whether the launcher always starts ranks on this host; if it does not in time, the job fails."""
        return False

    def _on_silence(self, seconds: float) -> None:
        """Log, and in the end fail the job, if the launcher has not started a rank for `seconds`."""
        assert self._launch is not None
        limit = self._limit
        if seconds < limit:
            log.info(f"waiting for {self.launcher} to start ranks on this host")
        elif self._launch.stopped_by is None:
            self._launch.fail(
                FrameworkError(
                    f"{self.launcher} has started no rank on this host within {limit:g} s: look at its output"
                )
            )

    # -- when ranks fail, or must stop -------------------------------------------------------

    def _on_failure(self, rank: RankResult) -> None:
        if self.may_start_again() or self._launch is None or self._launch.stopped_by is not None:
            return
        error = self._error(rank)
        if not error.is_secondary:
            # Not delayed: a launcher would first wait for this host's other ranks, and for other hosts' for minutes.
            self._launch.fail(error)
        elif self._doubt is None:
            from threading import Timer

            self._doubt = Timer(timing.DOUBT, self._tell_of_consequences)
            self._doubt.daemon = True
            self._doubt.start()

    def _tell_of_consequences(self) -> None:
        """Fail the job with the first of the ranks' failures, which are all probably due to one that is not known."""
        errors = [self._error(rank) for rank in self.last() if rank.failed_by_itself]
        if errors and self._launch is not None and self._launch.stopped_by is None:
            self._launch.fail(first_error(errors, self.env.current_host))

    def stop(self, process: Process | None, signum: int) -> None:
        assert self._ranks is not None
        # Not to the launcher, which would kill the ranks after 1 to 30 seconds, or restart them.
        self._has_failed = self._is_stopping or self._launch is None or self._launch.stopped_by is None
        self._is_stopping = True
        self._process = process
        self._ranks.signal(signum)
        self._release()

    def _release(self) -> None:
        """Let the launcher end once there is nothing left for it to do."""
        process = self._process
        if process is None or process.returncode is not None or self._ranks is None or self._ranks.running:
            return
        # If all went well, it waits for the other hosts' launchers, which may need what it keeps for them.
        if self._has_failed or not self.all_well():
            process.signal(signal.SIGKILL, group=True)

    def is_idle(self) -> bool:
        return self._ranks is None or not self._ranks.running

    def last(self) -> list[RankResult]:
        """Return the ends of this host's ranks in their last attempt."""
        return self._ranks.ended if self._ranks is not None else []

    def all_well(self) -> bool:
        """Tell whether all ranks of this host have ended well."""
        return bool(self.last()) and not any(rank.returncode for rank in self.last())

    def check_exit(self, result: ProcessResult) -> FrameworkError | None:
        self._settle(result.stopped_by)
        if result.stopped_by is not None:
            if self.all_well():
                return None
            if not self.last():
                raise JobStopped(result.stopped_by)
        elif not result.exit_code:
            return None
        failed = [self._error(rank, result.stopped_by) for rank in self.last() if rank.returncode]
        if result.stopped_by is not None and failed:
            return first_error(failed, self.env.current_host)
        return self._first_failure(result)

    def _first_failure(self, result: ProcessResult) -> FrameworkError:
        """Return the failure of the rank that brought down the others, or of the launcher."""
        result.name = f"{self.launcher} of {result.name}"
        launchers = result.error()
        launchers.is_secondary = result.returncode > 0  # A rank on any host may be the reason.
        errors = [self._error(rank) for rank in self.last() if rank.failed_by_itself]
        return first_error([*errors, launchers], self.env.current_host)

    def summary(self) -> Mapping[str, Any]:
        stopped_by = self._launch.stopped_by if self._launch is not None else None
        self._settle(stopped_by)
        if stopped_by is not None and not self.last():
            words = f"the job was stopped by {signal_name(stopped_by)} before its program ran on this host"
            raise ProgramError(words, 128 + stopped_by)
        failed = [self._error(rank, stopped_by) for rank in self.last() if rank.returncode]
        if failed:
            raise first_error(failed, self.env.current_host)
        return {}

    def _settle(self, stopped_by: int | None) -> None:
        """Wait for the ends of all ranks, some of which may come just before the launcher's."""
        if self._ranks is not None:
            if stopped_by is not None and self._ranks.running:
                self._ranks.signal(signal.SIGKILL)  # The grace period is over.
            self._ranks.settle(timing.RANKS_SETTLE)

    def _error(self, rank: RankResult, stopped_by: int | None = None) -> FrameworkError:
        error = rank.error(self.env.current_host, self._name, stopped_by)
        error.is_secondary = self.is_secondary(rank) or rank.was_ended
        return error

    def close(self) -> None:
        if self._doubt is not None:
            self._doubt.cancel()
            # Another host has failed meanwhile: the leader is about to decide which failure was the first.
            self._tell_of_consequences()
        if self._ranks is not None:
            self._ranks.close()


def private_place() -> str | None:
    """Return the folder in which private folders are made; None for the system's choice (`TMPDIR`).

    The paths of private folders are the same on all hosts, stand in ssh's configuration, and name sockets, whose paths
    must be short. Each host has a /tmp of its own.
    """
    return "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None
