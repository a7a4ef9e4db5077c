"""Mistakes of an author, each of which mypy --strict tells, with the code that the comment names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sagemaker_framework
from sagemaker_framework import (
    DistributionStrategy,
    EntryPoint,
    Launch,
    LauncherStrategy,
    ParameterServerStrategy,
    Process,
    ProcessResult,
    RankResult,
    Run,
    Trainer,
    TrainingEnv,
    log,
)


def environment(env: TrainingEnv) -> None:
    """The environment is read-only, and knows what it has."""
    env.hyperparameters["lr"] = 0.5  # E: operator
    del env.hyperparameters["lr"]  # E: operator
    env.hyperparameters.update(lr=0.5)  # E: operator
    env.hyperparameters = {}  # E: assignment, misc
    env.hosts.append("algo-3")  # E: operator
    env.hosts[0] = "algo-3"  # E: operator
    env.hosts.sort()  # E: operator
    env.model_dir = "/tmp"  # E: misc
    env.distributions = []  # E: misc
    print(env.model_dirr)  # E: attr-defined
    env.is_enabled(1)  # E: arg-type
    name: str = env.user_entry_point  # E: assignment
    log.info("program", name)  # E: call-arg
    sagemaker_framework.supervisor.run()  # E: attr-defined


class MyTrainer(Trainer):
    """Hooks with types that they do not have."""

    parameter_servers = EntryPoint  # E: assignment

    def pre_train(self) -> None:
        self.env = self.env.evolve(model_dir="/tmp")  # E: misc

    def source(self) -> int:  # E: override
        return 1

    def args(self) -> str:  # E: override
        return ""

    def env_vars(self) -> dict[str, int]:  # E: override
        return {}

    def strategy(self, env: TrainingEnv) -> DistributionStrategy:  # E: override
        raise NotImplementedError(env)

    def cleanup(self) -> None:
        Strategy(self.env)  # E: abstract
        EntryPoint("train.py", self.env.code_dir)  # E: abstract

    def post_train(self) -> None:
        log.warn("a name of logging's")  # E: attr-defined


class Strategy(DistributionStrategy):
    """One that lacks `command`."""

    def completes_job(self) -> str:  # E: override
        return "yes"

    def plan(self, adverts: list[str]) -> Mapping[str, str]:  # E: override
        return {}

    def start_servers(self, launch: Launch) -> None:
        launch("cache", ["redis-server"], env_vars={"PORT": 6379})  # E: dict-item
        launch("cache", ["redis-server"], shell=True)  # E: call-arg
        launch(["redis-server"])  # E: arg-type, call-arg
        launch.fail("no memory")  # E: arg-type

    def stop(self, process: Process, signum: int) -> None:  # E: override
        process.kill()  # E: attr-defined

    def check_exit(self, result: ProcessResult) -> str:  # E: override
        return result.returncode  # E: return-value


class Servers(ParameterServerStrategy):
    """One that lacks `role_env`."""

    def start_servers(self, launch: Launch) -> None:
        self.port(8000)  # E: arg-type

    def ports(self) -> Sequence[int]:  # E: override
        return [8000]


class MyLauncher(LauncherStrategy):
    """A rank is not a process."""

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        return self.ranks("/tmp", entry_point, args)  # E: return-value

    def is_secondary(self, rank: RankResult) -> bool:
        return "peer" in rank.tail  # E: operator

    def last(self) -> list[ProcessResult]:  # E: override
        return []


class Quiet(EntryPoint):
    """An installer that is called in the wrong way."""

    def command(self, args: Sequence[str]) -> tuple[str, ...]:  # E: override
        return ("python", *args)

    def install(self, run: Run, region: str | None = None) -> None:
        run("pip install .")  # E: call-arg
        result: bytes = run("pip", ["pip", "install", "."])  # E: assignment
        log.info(result)  # E: arg-type


Servers(MyTrainer)  # E: abstract, arg-type
