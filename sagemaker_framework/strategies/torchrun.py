"""torchrun: PyTorch's own launcher, one on each host, which runs the program once per GPU."""

from __future__ import annotations

import os
import sys

from sagemaker_framework import log
from sagemaker_framework.config.values import number, words
from sagemaker_framework.errors import ConfigurationError, FrameworkError
from sagemaker_framework.strategies.launcher import LauncherStrategy, private_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint
    from sagemaker_framework.processes.rank_server import RankResult
    from sagemaker_framework.strategies.base import Launch

PROCESSES = "sagemaker_torch_distributed_num_of_processes_per_host"
OPTIONS = "sagemaker_torch_distributed_custom_torchrun_options"

#: Options of torchrun that say who meets where, which is not up to the job.
_OURS = (
    "nnodes node_rank master_addr master_port local_addr rdzv_endpoint standalone module no_python run_path "
    "use_env virtual_local_rank"
).split()


#: What ends the last line that a rank writes when it has lost another (gloo's and NCCL's messages).
_PEER_LOST = (
    b"Connection closed by peer",
    b"Connection reset by peer",
    b"Broken pipe",
    b"remote process exited or there was a network error",
)


class Options:
    """What the job says of how torchrun is to run.

    Attributes:
        processes: processes on each host; None where each host has as many as it has GPUs.
        max_restarts: how often all processes are started again when one has failed.
        backend: by which the hosts' launchers meet, `static` or `c10d`; None where that is not said.
        passed: options to pass on as they are.

    Args:
        env: the job's environment.
        environ: variables; those of torchrun, `PET_*`, say what hyperparameters do not.

    Raises:
        ConfigurationError: one has a value that it cannot have, or is not for jobs to set.
    """

    def __init__(self, env: TrainingEnv, environ: Mapping[str, str] = os.environ) -> None:
        parameters = env.additional_framework_parameters
        given, self.passed = _parse(words(f"hyperparameter {OPTIONS!r}", parameters.get(OPTIONS)))
        ours = [name for name in _OURS if getattr(given, name)]
        if ours:
            raise ConfigurationError(
                f"hyperparameter {OPTIONS!r} sets --{ours[0]}, which the hosts of the job agree on: leave it out"
            )
        self.max_restarts = number(
            "--max_restarts of torchrun", given.max_restarts or environ.get("PET_MAX_RESTARTS") or 0, 0
        )
        self.backend = given.rdzv_backend or environ.get("PET_RDZV_BACKEND")
        if self.backend not in (None, "static", "c10d"):
            raise ConfigurationError(f"torchrun's --rdzv_backend is {self.backend!r}: use c10d or static")
        self.rdzv_conf = given.rdzv_conf or environ.get("PET_RDZV_CONF") or ""
        asked = (
            parameters.get(PROCESSES)
            or given.nproc_per_node
            or environ.get("PET_NPROC_PER_NODE")
            or parameters.get("sagemaker_mpi_num_of_processes_per_host")
        )
        counts = {"gpu": env.num_gpus, "cpu": env.num_cpus, "auto": None}
        asked = counts.get(str(asked), asked)
        self.processes = None if asked is None else number("the number of processes per host of torchrun", asked, 1)


def _parse(given: Sequence[str]) -> tuple[Any, list[str]]:
    """What is to be understood of torchrun's options, and the others."""
    from argparse import ArgumentParser

    class Parser(ArgumentParser):
        def error(self, message: str) -> Any:
            raise ConfigurationError(f"hyperparameter {OPTIONS!r}: {message}")

    parser = Parser(add_help=False, allow_abbrev=False)
    flags = {"standalone", "module", "no_python", "run_path", "use_env", "virtual_local_rank"}
    for name in ("nproc_per_node", "max_restarts", "rdzv_backend", "rdzv_conf", *_OURS):
        spelt = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}", *(["-m"] if name == "module" else [])])
        if name in flags:
            parser.add_argument(*spelt, dest=name, action="store_true")
        else:
            parser.add_argument(*spelt, dest=name)
    return parser.parse_known_args(given)


class TorchrunStrategy(LauncherStrategy):
    """Runs the program once per GPU of each host, or per Neuron core, else once, by torchrun.

    Each host runs a torchrun of its own. They meet at the leader: over a static rendezvous, which is the faster
    one, unless processes are to be restarted, which takes c10d.

    For subclasses, which may override:

    - `processes()`: how many processes this host runs
    - `options()`: more options of torchrun
    """

    launcher = "torchrun"

    def __init__(self, env: TrainingEnv) -> None:
        super().__init__(env)
        self._options = Options(self.env)
        self._folder = ""

    def processes(self) -> int:
        """Return how many processes this host runs.  Called by `advertise`, and later."""
        return self._options.processes or self.env.num_gpus or self.env.num_neurons or 1

    def options(self) -> list[str]:
        """Return more options of torchrun: by default those that the job passes on."""
        return self._options.passed

    def may_start_again(self) -> bool:
        return self._options.max_restarts > 0

    def advertise(self) -> Mapping[str, Any]:
        _torchrun()
        return {"processes": self.processes()}

    def plan(self, adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        from sagemaker_framework.config.variables import MASTER_PORT
        from sagemaker_framework.strategies._network import free_port

        return {"port": free_port(MASTER_PORT)}

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        import tempfile

        self._folder = tempfile.mkdtemp(prefix="sm-ranks-", dir=private_place())
        ranks = self.ranks(self._folder, entry_point, args)
        return [*_torchrun(), *self._arguments(), "--no-python", *ranks.command]

    def _arguments(self) -> list[str]:
        hosts, host = self.hosts(), self.env.current_host
        # One host need not even resolve its own name.
        leader, port = (hosts[0] if len(hosts) > 1 else "127.0.0.1"), self.plan_result["port"]
        given = self._options
        # What a static rendezvous knows of processes is not renewed when they are started again.
        backend = given.backend or ("c10d" if given.max_restarts else "static")
        arguments = {
            "nnodes": len(hosts),
            "nproc_per_node": self.processes(),
            "max_restarts": given.max_restarts,
            "rdzv_backend": backend,
            "rdzv_id": self.env.job_name or "job",
            "log_dir": os.path.join(self._folder, "torchrun"),
        }
        if backend == "static":
            arguments.update(node_rank=hosts.index(host), master_addr=leader, master_port=port)
            conf = given.rdzv_conf
        else:
            # Not left to torchrun, which goes by the names of the machine: those of a container may be others.
            arguments.update(rdzv_endpoint=f"{leader}:{port}", local_addr=host if len(hosts) > 1 else leader)
            conf = ",".join(filter(None, [f"is_host={int(host == hosts[0])}", given.rdzv_conf]))
        if conf:
            arguments["rdzv_conf"] = conf
        return [*(f"--{name}={value}" for name, value in arguments.items()), *self.options()]

    def env_vars(self) -> Mapping[str, str]:
        return {"SM_MASTER_PORT": str(self.plan_result["port"])}

    def start_servers(self, launch: Launch) -> None:
        env = launch.program_env
        for name in _OURS:
            if env.pop(f"PET_{name.upper()}", None) is not None:
                log.warning(f"left out PET_{name.upper()}: the hosts of the job agree on who meets where")
        if self.may_start_again():
            # Each attempt gets a store of its own: from one that is shared, Gloo takes the addresses of the last.
            env.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
        # torchrun would leave each of several processes one thread, however many CPUs there are.
        env.setdefault("OMP_NUM_THREADS", str(max(1, self.env.num_cpus // self.processes())))
        super().start_servers(launch)

    def awaits_ranks(self) -> bool:
        return True

    def summary(self) -> Mapping[str, Any]:
        super().summary()
        if len(self.last()) < self.processes():
            # Such as with --help among its options, or the name of another program.
            raise FrameworkError(
                f"torchrun exited with code 0, but has run {len(self.last())} of {self.processes()} ranks on this "
                f"host: look at the options of {OPTIONS}"
            )
        return {}

    def is_secondary(self, rank: RankResult) -> bool:
        # Gloo and NCCL say so where the process at the other end is gone: it may be slower to exit.
        last = rank.tail.rstrip().rpartition(b"\n")[2]
        return any(words in last for words in _PEER_LOST)

    def last(self) -> list[RankResult]:
        return super().last()[-self.processes() :]

    def all_well(self) -> bool:
        return len(self.last()) == self.processes() and super().all_well()

    def close(self) -> None:
        super().close()
        if self._folder:
            import shutil

            shutil.rmtree(self._folder, ignore_errors=True)


def _torchrun() -> list[str]:
    """The command that is torchrun: that of the Python that runs this framework, else the one on PATH.

    Raises:
        ConfigurationError: there is none.
    """
    from importlib import invalidate_caches
    from importlib.util import find_spec

    from sagemaker_framework.config.hardware import is_on_path

    compiler = "neuron_parallel_compile"
    compiled = [compiler] if os.environ.get("RUN_NEURON_PARALLEL_COMPILE") == "1" else []
    if compiled and not is_on_path(compiler):
        raise ConfigurationError(
            f"RUN_NEURON_PARALLEL_COMPILE is 1, but this image has no {compiler}: install torch-neuronx, or unset it"
        )
    invalidate_caches()  # It may have come with the job's requirements.
    if find_spec("torch") is not None:
        return [*compiled, sys.executable, "-m", "torch.distributed.run"]
    if is_on_path("torchrun"):
        return [*compiled, "torchrun"]
    raise ConfigurationError(
        f"the job asks for torchrun, but neither {sys.executable} has PyTorch nor is torchrun on PATH: "
        "install torch, in the image or with the job's requirements.txt"
    )
