"""torchrun: PyTorch's own launcher; one on each host, which runs the program once per GPU."""

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

#: Options of torchrun that say where processes meet; the hosts agree on that, so jobs must not set them.
_OURS = (
    "nnodes node_rank master_addr master_port local_addr rdzv_endpoint standalone module no_python run_path "
    "use_env virtual_local_rank"
).split()


#: The endings of the last line that a rank writes when it has lost another (messages of gloo and NCCL).
_PEER_LOST = (
    b"Connection closed by peer",
    b"Connection reset by peer",
    b"Broken pipe",
    b"remote process exited or there was a network error",
)


class Options:
    """The job's options of torchrun.

    Attributes:
        processes: the number of processes on each host; None for one per GPU.
        max_restarts: how often all processes are restarted after one has failed.
        backend: the rendezvous backend of the hosts' launchers, `static` or `c10d`; None if the job does not say.
        passed: options that are passed on to torchrun unchanged.

    Args:
        env: the job's environment.
        environ: environment variables; torchrun's own, `PET_*`, apply unless hyperparameters say otherwise.

    Raises:
        ConfigurationError: an option has a wrong value, or jobs must not set it.
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
    """Split torchrun's options into those that matter here, parsed, and all others."""
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
    """Runs the program by torchrun: once per GPU of each host, else per Neuron core, else once.

    Each host runs a torchrun of its own. They meet at the leader, by a static rendezvous, which is faster, or by c10d
    if processes may be restarted.

    Subclasses may override:

    - `processes()`: the number of processes on this host
    - `options()`: more options of torchrun
    """

    launcher = "torchrun"

    def __init__(self, env: TrainingEnv) -> None:
        super().__init__(env)
        self._options = Options(self.env)
        self._folder = ""

    def processes(self) -> int:
        """Return the number of processes on this host.  Called by `advertise`, and later."""
        return self._options.processes or self.env.num_gpus or self.env.num_neurons or 1

    def options(self) -> list[str]:
        """Return more options of torchrun.  By default, those that the job passes on."""
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
        # With one host, torchrun need not resolve any name.
        leader, port = (hosts[0] if len(hosts) > 1 else "127.0.0.1"), self.plan_result["port"]
        given = self._options
        # A static rendezvous does not update its facts about processes when they are restarted.
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
            # Not left to torchrun, which compares names of the machine; a container may have another name.
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
                log.warning(f"ignored PET_{name.upper()}: the hosts of the job agree on where processes meet")
        if self.may_start_again():
            # Each attempt gets a store of its own: in a shared one, Gloo finds the addresses of the last attempt.
            env.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
        # torchrun would give each of several processes one thread only, however many CPUs there are.
        env.setdefault("OMP_NUM_THREADS", str(max(1, self.env.num_cpus // self.processes())))
        super().start_servers(launch)

    def awaits_ranks(self) -> bool:
        return True

    def summary(self) -> Mapping[str, Any]:
        super().summary()
        if len(self.last()) < self.processes():
            # This happens with --help among its options, or with the name of another program.
            raise FrameworkError(
                f"torchrun exited with code 0, but has run {len(self.last())} of {self.processes()} ranks on this "
                f"host: look at the options of {OPTIONS}"
            )
        return {}

    def is_secondary(self, rank: RankResult) -> bool:
        # Gloo and NCCL report that when the process at the other end is gone, which may be slower to exit.
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
    """Return the command for torchrun: that of the Python that runs this framework, else the one on PATH.

    Raises:
        ConfigurationError: there is neither.
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
    invalidate_caches()  # The job's requirements may have installed it.
    if find_spec("torch") is not None:
        return [*compiled, sys.executable, "-m", "torch.distributed.run"]
    if is_on_path("torchrun"):
        return [*compiled, "torchrun"]
    raise ConfigurationError(
        f"the job asks for torchrun, but neither {sys.executable} has PyTorch nor is torchrun on PATH: "
        "install torch, in the image or with the job's requirements.txt"
    )
