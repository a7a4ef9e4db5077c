"""MPI: mpirun on the leader, which starts the program's ranks on all hosts."""

from __future__ import annotations

import os

from sagemaker_framework import timing
from sagemaker_framework.config.values import number, words
from sagemaker_framework.errors import ConfigurationError, FrameworkError, ProgramError
from sagemaker_framework.strategies._network import await_listener
from sagemaker_framework.strategies.launcher import LauncherStrategy, private_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.processes.rank_server import RankResult
    from sagemaker_framework.strategies._ssh import Client, Server
    from sagemaker_framework.strategies.base import Launch

PROCESSES_PER_HOST = "sagemaker_mpi_num_of_processes_per_host"
PROCESSES = "sagemaker_mpi_num_processes"
OPTIONS = "sagemaker_mpi_custom_mpi_options"

#: Exit codes of Open MPI's library after it has lost another rank, or mpirun: MPI_ERR_UNKNOWN, MPI_ERR_OTHER,
#: MPI_ERR_INTERN, MPI_ERR_PROC_FAILED, MPI_ERR_PROC_FAILED_PENDING, MPI_ERR_REVOKED (mpi.h), and, modulo 256,
#: PMIX_ERR_LOST_CONNECTION_TO_SERVER and PMIX_ERR_LOST_CONNECTION (pmix_common.h).
_ERROR_CLASSES = (14, 16, 17, 75, 76, 77, 256 - 101, 256 - 61)


#: The names of mpirun's option for the number of processes.
_COUNTS = ("-np", "-n", "-c")


class MPIStrategy(LauncherStrategy):
    """Runs the program by Open MPI's mpirun, 4 or 5: once per GPU of each host, else per Neuron core, else once.

    The leader runs mpirun. The other hosts run an sshd of the job's own, and serve until mpirun has ended.

    Subclasses may override:

    - `rank_command(entry_point, args)`: the argument list that each rank runs
    - `processes()`: the number of processes on this host
    - `options()`: more options of mpirun

    Attributes:
        options_hyperparameter: the hyperparameter with the job's own options of mpirun.
    """

    launcher = "mpirun"
    options_hyperparameter: str = OPTIONS

    def __init__(self, env: TrainingEnv) -> None:
        super().__init__(env)
        self._folders: list[str] = []
        self._server: Server | None = None
        self._client: Client | None = None
        name = self.options_hyperparameter
        self._options, self._variables = _understood(
            words(f"hyperparameter {name!r}", self.env.additional_framework_parameters.get(name))
        )

    def rank_command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str]:
        """Return the argument list that each rank runs: a Python program under mpi4py, if that is installed.

        After an uncaught exception, mpi4py ends all ranks, and not only its own.
        """
        command = entry_point.command(args)
        at = entry_point.program_at(command)
        if at and _has_mpi4py(command[0]):
            command[at:at] = ["-m", "mpi4py"]
        return command

    def processes(self) -> int:
        """Return the number of processes on this host.  Called by `advertise`."""
        given = _number(self.env, PROCESSES_PER_HOST)
        return int(given or self.env.num_gpus or self.env.num_neurons or 1)

    def options(self) -> list[str]:
        """Return more options of mpirun.  By default, those that the job gives."""
        return self._options

    def env_vars(self) -> Mapping[str, str]:
        given = self._variables
        return given if "NCCL_DEBUG" in {**os.environ, **given} else {**given, "NCCL_DEBUG": "INFO"}

    # -- how the hosts agree -----------------------------------------------------------------

    def advertise(self) -> Mapping[str, Any]:
        _mpirun()
        advert: dict[str, Any] = {"processes": self.processes()}
        if self.is_leader or len(self.hosts()) == 1:
            return advert
        from sagemaker_framework.strategies._ssh import Server

        self._server = Server(self._private_folder())
        return {**advert, "ssh": self._server.advert}

    def plan(self, adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        slots = sum(advert["processes"] for advert in adverts.values())
        count = _number(self.env, PROCESSES) or slots
        if count > slots:
            raise ConfigurationError(
                f"the job asks for {count} processes ({PROCESSES}), but its {len(adverts)} hosts run {slots}: "
                f"raise {PROCESSES_PER_HOST}"
            )
        folder = self._private_folder()
        planned = {"processes": count, "folder": folder}
        if len(adverts) == 1:
            return planned
        from sagemaker_framework.strategies._ssh import Client

        self._client = Client(folder)
        return {**planned, "key": self._client.public_key}

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        folder = self.plan_result["folder"]  # the same on all hosts, as mpirun starts the same command on all
        if not self.is_leader:
            self._private_folder(folder)
        ranks = self.ranks(folder, entry_point, args)
        if not self.is_leader:
            return None
        return [*self._mpirun(folder), *ranks.command]

    def start_servers(self, launch: Launch) -> None:
        super().start_servers(launch)
        if self._server is not None:
            launch("sshd", self._server.command(self.plan_result["key"]), env=os.environ)
            # mpirun connects as soon as every host has started its sshd; it reports one that never listens itself.
            await_listener(self._server.port, timing.SSHD_LISTENS)

    def _mpirun(self, folder: str) -> list[str]:
        hosts = [(host, self.adverts[host]["processes"]) for host in self.hosts()]
        mpirun = _mpirun()
        version = _version(mpirun)
        # mpirun starts the leader's ranks without ssh, under whatever name; the other hosts have their own names.
        lines = [f"{host if at else 'localhost'} slots={slots}\n" for at, (host, slots) in enumerate(hosts)]
        hostfile = os.path.join(folder, "hosts")
        with open(hostfile, "w", encoding="utf-8") as file:
            file.writelines(lines)
        agent = None
        if self._client is not None:
            agent = self._client.command({host: self.adverts[host]["ssh"] for host, _ in hosts[1:]})
        given = self.options() if version < 5 else _double_dashed(self.options())
        own = _defaults(version, self._interface() if agent else None, agent)
        kept = [word for option in own if not _is_given(option, given) for word in option]
        if not any(_is_given([name], given) for name in _COUNTS):
            kept = ["-np", str(self.plan_result["processes"]), *kept]
        return [mpirun, "--hostfile", hostfile, *kept, *given]

    def _interface(self) -> str | None:
        name: str = self.env.network_interface_name
        return name if os.path.exists(f"/sys/class/net/{name}") else None

    def _private_folder(self, path: str | None = None) -> str:
        import tempfile

        try:
            if path is None:
                path = tempfile.mkdtemp(prefix="sm-mpi-", dir=private_place())
            else:
                os.mkdir(path, mode=0o700)
        except OSError as error:
            raise FrameworkError(
                f"no private folder for mpirun can be made: {error.filename or tempfile.gettempdir()}: {error.strerror}"
            ) from error
        self._folders.append(path)
        return path

    def is_secondary(self, rank: RankResult) -> bool:
        # The library lets mpirun report the reason.
        return rank.returncode in _ERROR_CLASSES and not rank.has_raised

    def awaits_ranks(self) -> bool:
        # With the job's options, mpirun may start none on the leader.
        return self.is_leader and not self.options()

    # -- the outcome -------------------------------------------------------------------------

    def summary(self) -> Mapping[str, Any]:
        super().summary()
        assert self._ranks is not None
        return {"ended_well": sorted({rank.rank for rank in self.last()}), "world_size": self._ranks.world_size}

    def verify(self, summaries: Mapping[str, Mapping[str, Any]]) -> None:
        # mpirun's exit code is not enough: Open MPI 5's is 0 even if a host has died.
        expected = max((each["world_size"] or 0) for each in summaries.values())
        missing = set(range(expected)) - {rank for each in summaries.values() for rank in each["ended_well"]}
        if missing or not expected:
            which = ", ".join(map(str, sorted(missing)[:10])) or "any"
            raise ProgramError(f"mpirun exited with code 0, but of {expected} ranks, nothing is known of {which}", 1)

    def close(self) -> None:
        super().close()
        import shutil

        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        self._folders.clear()


# -- the job's options -------------------------------------------------------------------------


def _number(env: TrainingEnv, name: str) -> int | None:
    given = env.additional_framework_parameters.get(name)
    return None if given in (None, "", 0) else number(f"hyperparameter {name!r}", given, 1)


def _understood(given: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return mpirun's options, and the variables that the others set: `-x NAME=VALUE`, `--NCCL_DEBUG VALUE`."""
    options, variables = [], {}
    left: Iterator[str] = iter(given)
    for word in left:
        name, equals, value = word.partition("=")
        if word == "-x":
            name, equals, value = next(left, "").partition("=")
            if equals:  # Each rank has the variables of its container anyway.
                variables[name] = value
        elif name in ("--NCCL_DEBUG", "-NCCL_DEBUG"):
            variables["NCCL_DEBUG"] = value if equals else next(left, "")
        else:
            options.append(word)
    return options, variables


# -- mpirun ------------------------------------------------------------------------------------


def _mpirun() -> str:
    from shutil import which

    found = which("mpirun")
    if found is None:
        raise ConfigurationError(
            "the job asks for MPI, but there is no mpirun on PATH: install Open MPI in the Dockerfile, "
            "such as Debian's openmpi-bin"
        )
    return found


def _version(mpirun: str) -> int:
    """Return the major version of Open MPI that an mpirun belongs to."""
    import re
    import subprocess

    asked = subprocess.run(
        [mpirun, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    found = re.search(r"\(Open MPI\) (\d+)\.", asked.stdout)
    if not found:
        said = (asked.stdout or asked.stderr).strip().partition("\n")[0]
        raise ConfigurationError(f"{mpirun} is not Open MPI's: asked for its version, it says {said!r}")
    return int(found[1])


def _defaults(version: int, interface: str | None, agent: list[str] | None) -> list[list[str]]:
    """Return the options that mpirun gets unless the job gives others."""
    options = [["--bind-to", "none"], ["--map-by", "slot"], ["--mca", "pml", "ob1"]]
    if os.geteuid() == 0:
        options.append(["--allow-run-as-root"])
    launch, prefix = ("plm_rsh", "--mca") if version < 5 else ("plm_ssh", "--prtemca")
    if version < 5:
        options += [
            ["--mca", "btl", "^openib"],
            ["--mca", "btl_vader_single_copy_mechanism", "none"],  # Containers may not read each other's memory.
            ["--mca", "orte_keep_fqdn_hostnames", "1"],  # Otherwise it looks for a host `a.b` under the name `a`.
        ]
    if interface:
        options += [
            ["--mca", "btl_tcp_if_include", interface],
            [prefix, "oob_tcp_if_include" if version < 5 else "prte_if_include", interface],
        ]
    if agent:
        # Every connection starts at the leader, which alone has the key.
        options += [[prefix, f"{launch}_agent", " ".join(agent)], [prefix, f"{launch}_no_tree_spawn", "1"]]
    return options


def _is_given(option: list[str], given: Sequence[str]) -> bool:
    wanted = [option[0].lstrip("-"), *option[1:2]] if "mca" in option[0] else [option[0].lstrip("-")]
    words = [word.lstrip("-") for word in given]
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words)))


def _double_dashed(words: Sequence[str]) -> list[str]:
    """Give options two dashes: Open MPI 5 no longer takes options of several letters with one dash."""
    return [f"-{word}" if word[:1] == "-" and word[1:2].isalpha() and len(word) > 2 else word for word in words]


def _has_mpi4py(interpreter: str) -> bool:
    import subprocess
    import sys

    if interpreter == sys.executable:
        from importlib import invalidate_caches
        from importlib.util import find_spec

        invalidate_caches()  # The job's requirements may have installed it.
        return find_spec("mpi4py") is not None
    return not subprocess.run([interpreter, "-c", "import mpi4py"], capture_output=True, check=False).returncode
