"""A container as its author writes it, with types: mypy --strict has nothing to say about it."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from sagemaker_framework import (
    DistributionStrategy,
    EntryPoint,
    FrameworkError,
    Launch,
    LauncherStrategy,
    ModelParallelStrategy,
    MPIStrategy,
    MultiWorkerStrategy,
    ParameterServerStrategy,
    Process,
    ProcessResult,
    PythonEntryPoint,
    RankResult,
    Ranks,
    Run,
    Settings,
    ShellEntryPoint,
    SingleProcessStrategy,
    SMDDPStrategy,
    TorchrunStrategy,
    Trainer,
    TrainingEnv,
    XLAStrategy,
    entry_point,
    errors,
    log,
    trainer,
    training_env,
)


class ProfiledPython(PythonEntryPoint):
    """Python with an option, and a mirror for what it requires."""

    interpreter = sys.executable
    signals_group = False

    def command(self, args: Sequence[str]) -> list[str]:
        python, *rest = super().command(args)
        return [python, "-X", "importtime", *rest]

    def program_at(self, command: Sequence[str]) -> int:
        return super().program_at(command) + 2

    def install(self, run: Run, region: str | None = None) -> None:
        result: ProcessResult = run("mirror", ["mirror", self.code_dir, region or "us-east-1"], cwd=self.code_dir)
        if result.exit_code:
            raise errors.InstallError(f"{self.name}: {result.how()}", result.tail.decode(errors="replace"))
        super().install(run, region)

    def env_vars(self) -> dict[str, str]:
        return {**super().env_vars(), "PYTHONHASHSEED": "0"}


class Notebook(EntryPoint):
    """A notebook, which is neither Python's nor a shell's."""

    def command(self, args: Sequence[str]) -> list[str]:
        if not self.name.endswith(".ipynb"):
            raise errors.EntryPointError(f"{self.name} is not a notebook")
        return ["jupyter", "execute", self.name, *args]


class SharedSeed(DistributionStrategy):
    """One program on each host, with one seed for all, and a cache beside it."""

    is_distributed = True

    def __init__(self, env: TrainingEnv) -> None:
        super().__init__(env)
        self.launch: Launch | None = None
        self.is_alone = len(self.hosts()) == 1

    def advertise(self) -> Mapping[str, Any]:
        return {"memory": self.env.memory}

    def plan(self, adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        least = min(adverts, key=lambda host: int(adverts[host]["memory"]))
        return {"seed": 7, "least": least}

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        return entry_point.command(args) if self.is_leader or not self.is_alone else None

    def env_vars(self) -> Mapping[str, str]:
        return {"SEED": str(self.plan_result["seed"])}

    def start_servers(self, launch: Launch) -> None:
        self.launch = launch
        launch.program_env.setdefault("CACHE", "127.0.0.1:6379")
        cache: Process = launch("cache", ["redis-server"], env_vars={"A": "1"}, cwd="/tmp", may_end=True)
        launch("exporter", ("exporter", str(cache.pid)), env={"PATH": "/usr/bin"})
        if launch.stopped_by is not None:
            launch.fail(FrameworkError("too late", "after the request to stop"))

    def completes_job(self) -> bool:
        return self.is_leader

    def stop(self, process: Process | None, signum: int) -> None:
        if process is not None and process.returncode is None:
            process.signal(signal.SIGUSR1)
            process.signal(signum, group=process.signals_group)

    def is_idle(self) -> bool:
        return True

    def check_exit(self, result: ProcessResult) -> FrameworkError | None:
        if result.exit_code == 3:
            return errors.ProgramError("no data is left", result.exit_code)
        return super().check_exit(result)

    def summary(self) -> Mapping[str, Any]:
        return {"host": self.env.current_host}

    def verify(self, summaries: Mapping[str, Mapping[str, Any]]) -> None:
        missing = set(self.hosts()) - {str(each["host"]) for each in summaries.values()}
        if missing or not self.adverts:
            raise FrameworkError(f"nothing is known of {sorted(missing)}")

    def close(self) -> None:
        self.launch = None


class Servers(ParameterServerStrategy):
    """A server on each host, and a scheduler on the leader."""

    def ports(self) -> Mapping[str, int]:
        return {"scheduler": 8000, "server": 0} if self.is_leader else {"server": 0}

    def fixed_port(self, name: str) -> int | str | None:
        return super().fixed_port(name) if name == "scheduler" else None

    def start_servers(self, launch: Launch) -> None:
        port = self.port("server", self.env.current_host)
        launch("server", ["serve", str(port)], env_vars=self.role_env("server"))

    def role(self) -> str:
        return "chief" if self.is_leader else "worker"

    def role_env(self, role: str) -> Mapping[str, str]:
        servers = [self.address("server", host) for host in self.hosts()]
        return {
            "ROLE": role,
            "SCHEDULER": self.address("scheduler"),
            "SERVERS": ",".join(servers),
            "LEADER": self.leader_address,
            "OWN": self.own_address,
        }

    def completes_job(self) -> bool:
        return self.is_leader


class MyLauncher(LauncherStrategy):
    """A launcher of the image's own."""

    launcher = "my-launcher"
    folder = ""

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        self.folder = tempfile.mkdtemp()
        ranks: Ranks = self.ranks(self.folder, entry_point, args)
        return ["my-launcher", "--processes", "4", "--", *ranks.command]

    def rank_command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str]:
        return ["numactl", "--localalloc", *super().rank_command(entry_point, args)]

    def is_secondary(self, rank: RankResult) -> bool:
        return rank.returncode == 14 and not rank.has_raised and b"peer" in rank.tail

    def may_start_again(self) -> bool:
        return False

    def awaits_ranks(self) -> bool:
        return self.is_leader

    def summary(self) -> Mapping[str, Any]:
        results: list[RankResult] = self.last()
        failed = [rank for rank in results if rank.failed_by_itself]
        if failed:
            raise failed[0].error(self.env.current_host, "train.py")
        return {"ended_well": self.all_well(), "slowest": max(rank.ended_at for rank in results)}

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Bound(MPIStrategy):
    """mpirun, with two processes bound to cores."""

    def processes(self) -> int:
        return 2

    def options(self) -> list[str]:
        return ["--bind-to", "core", *super().options()]


class Restarted(TorchrunStrategy):
    """torchrun, with an option."""

    def processes(self) -> int:
        return self.env.num_gpus or super().processes()

    def options(self) -> list[str]:
        return [*super().options(), "--monitor-interval=1"]


class WithChief(MultiWorkerStrategy):
    """TensorFlow's workers, the first of which is a chief."""

    def cluster(self) -> Mapping[str, Sequence[str]]:
        first, *others = super().cluster()["worker"]
        return {"chief": [first], "worker": others}

    def task(self) -> tuple[str, int]:
        _, at = super().task()
        return ("worker", at - 1) if at else ("chief", 0)


class MyTrainer(Trainer):
    """The container: each hook, in the order in which they are called."""

    framework_hyperparameters = ("cache",)
    parameter_servers = Servers

    def __init__(self, env: TrainingEnv) -> None:
        super().__init__(env.evolve(hyperparameters={**env.hyperparameters, "seed": 1}))
        self.copied: list[str] = []

    def pre_train(self) -> None:
        settings: Settings = self.env.settings
        if settings.grace_seconds < 10:
            log.warning("checkpoints of this image take 10 s")
        if "training" not in self.env.channel_input_dirs:
            raise FrameworkError("this image needs a channel called 'training'")
        log.info(f"host {self.env.current_host_rank + 1} of {self.env.host_count}, {self.env.memory / 2**30:.0f} GiB")

    def source(self) -> str | None:
        return super().source() if self.env.user_entry_point else None

    def entry_point(self) -> EntryPoint:
        name = self.env.user_entry_point
        if name and name.endswith(".ipynb"):
            return Notebook(name, self.env.code_dir)
        if name and name.endswith(".sh"):
            return ShellEntryPoint(name, self.env.code_dir)
        return ProfiledPython(name, self.env.code_dir)

    def strategy(self) -> DistributionStrategy:
        ours: dict[str, type[DistributionStrategy]] = {
            "mpi": Bound,
            "torch_distributed": Restarted,
            "multi_worker_mirrored_strategy": WithChief,
            "distributed_dataparallel": SMDDPStrategy,
            "pytorch_xla_multi_worker": XLAStrategy,
        }
        if self.env.is_enabled("mpi") and self.env.is_modelparallel_enabled:
            return ModelParallelStrategy(self.env)
        asked = self.env.distributions
        if not asked:
            return SharedSeed(self.env) if len(self.env.hosts) > 1 else SingleProcessStrategy(self.env)
        return ours[asked[0]](self.env) if asked[0] in ours else super().strategy()

    def args(self) -> list[str]:
        return [*self.env.to_cmd_args(), *self.env.to_cmd_args({"verbose": True})]

    def env_vars(self) -> dict[str, str]:
        return {**super().env_vars(), "OMP_NUM_THREADS": str(self.env.num_cpus)}

    def post_train(self) -> None:
        self.copied.append(shutil.copy("/etc/os-release", self.env.model_dir))
        with open(f"{self.env.output_data_dir}/hyperparameters.json", "w", encoding="utf-8") as file:
            json.dump(self.env.hyperparameters, file)

    def cleanup(self) -> None:
        log.debug(f"{len(self.copied)} files were copied")


def train(env: TrainingEnv) -> None:
    """A function instead of a Trainer."""
    log.redact.hide(str(env.hyperparameters["token"]))
    hosts: list[str] = list(env.hosts)
    parameters: dict[str, Any] = dict(env.hyperparameters)
    try:
        entry_point.run(env.module_dir, env.user_entry_point, env.to_cmd_args(), env.to_env_vars())
    except errors.ProgramError as error:
        log.error(f"{error} on one of {hosts}, with {sorted(parameters)}: exit code {error.exit_code}")
        raise


if __name__ == "__main__":
    log.warning(f"the job {training_env().job_name} is run by hand")
    sys.exit(trainer.train())
