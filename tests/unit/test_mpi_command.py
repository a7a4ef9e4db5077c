"""What mpirun is started with; tests/cluster/test_mpi.py runs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from jobs import Job

from sagemaker_framework import strategies
from sagemaker_framework.config import files
from sagemaker_framework.entry_point import PythonEntryPoint, ShellEntryPoint
from sagemaker_framework.errors import ConfigurationError
from sagemaker_framework.strategies.mpi import MPIStrategy


def strategy(job: Job, values: dict[str, Any] | None = None, **asked: Any) -> MPIStrategy:
    """What a job on one host that asks for MPI gets, with `values` as given."""
    job.config("hyperparameters", {"sagemaker_mpi_enabled": True, **asked})
    read = files.read({"SAGEMAKER_BASE_DIR": str(job.base)})
    made = strategies.choose(read.evolve(**(values or {})))
    assert isinstance(made, MPIStrategy)
    return made


def command(made: MPIStrategy, job: Job) -> list[str]:
    """mpirun's argument list, without its own path and the ranks' wrapper, and with a name in place of its folder."""
    program = job.write("train.py", "")
    try:
        made.adverts = {"algo-1": made.advertise()}
        made.plan_result = made.plan(made.adverts)
        argv = made.command(PythonEntryPoint(program.name, str(job.code_dir)), ["--lr", "1"]) or []
        words = argv[1 : argv.index("-I") - 1]
        return [word.replace(made.plan_result["folder"], "FOLDER") for word in words]
    finally:
        made.close()


@pytest.fixture(params=[4, 5])
def version(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """An mpirun on PATH that says that it is of this version."""
    says(tmp_path, f"mpirun (Open MPI) {request.param}.1.4", monkeypatch)
    return int(request.param)


def says(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an mpirun on PATH that says this of its version."""
    mpirun = folder / "mpirun"
    mpirun.write_text(f"#!/bin/sh\necho '{version}'\n")
    mpirun.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("name", ["-np", "--np", "-n"])
def test_the_jobs_own_number_of_processes(job: Job, version: int, name: str) -> None:
    """It replaces ours, as any other option does."""
    words = command(strategy(job, sagemaker_mpi_custom_mpi_options=f"{name} 3"), job)

    assert ["3"] == [words[at + 1] for at, word in enumerate(words) if word.lstrip("-") in ("n", "np")]


def test_the_options_of_python_stay_before_mpi4py(job: Job, version: int) -> None:
    """What an image's own EntryPoint gives to Python is for Python, and not for mpi4py."""

    class Profiled(PythonEntryPoint):
        def command(self, args: Sequence[str]) -> list[str]:
            python, *rest = super().command(args)
            return [python, "-X", "importtime", *rest]

    job.write("train.py", "")
    program = Profiled("train.py", str(job.code_dir))
    command = [sys.executable, "-X", "importtime", "train.py", "--lr", "1"]

    assert command == program.command(["--lr", "1"])
    assert 3 == program.program_at(command)
    assert 0 == ShellEntryPoint("train.sh", str(job.code_dir)).program_at(["/bin/sh", "./train.sh"])


def test_a_host_runs_a_process_for_each_gpu(job: Job) -> None:
    """Or for each Neuron core, or one; or as many as the job says."""
    assert [8, 2, 1] == [
        strategy(job, {"num_gpus": gpus, "num_neurons": cores}).processes() for gpus, cores in ((8, 0), (0, 2), (0, 0))
    ]
    assert 3 == strategy(job, {"num_gpus": 8}, sagemaker_mpi_num_of_processes_per_host="3").processes()


def test_options_of_each_version(job: Job, version: int) -> None:
    """Nothing of the program is among them, and nothing of ssh on a single host."""
    words = command(strategy(job, {"num_gpus": 4}), job)

    assert ["--hostfile", "FOLDER/hosts", "-np", "4"] == words[:4]
    assert "--bind-to none --map-by slot --mca pml ob1" in " ".join(words)
    assert (version == 4) == ("btl_vader_single_copy_mechanism" in words)
    assert not {"--lr", "plm_rsh_agent", "plm_ssh_agent"} & set(words)


def test_a_jobs_options_replace_ours(job: Job, version: int) -> None:
    """They are split as a shell would; those of Open MPI 5 get the two dashes that it wants."""
    given = "-bind-to core --mca pml '^cm' --report-bindings -x 'FOO=a b' -x PATH"
    made = strategy(job, sagemaker_mpi_custom_mpi_options=given)
    words = command(made, job)

    assert ["--bind-to" if version == 5 else "-bind-to", "core", "--mca", "pml", "^cm", "--report-bindings"] == words[
        -6:
    ]
    assert (1, 0) == (words.count("pml"), words.count("none") - (version == 4))
    assert "a b" == made.env_vars()["FOO"]


@pytest.mark.parametrize("given", ["--NCCL_DEBUG WARN", "--NCCL_DEBUG=WARN", "-x NCCL_DEBUG=WARN"])
def test_the_level_of_nccls_log(job: Job, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is INFO where neither the job nor the image says something else."""
    monkeypatch.delenv("NCCL_DEBUG", raising=False)
    assert "INFO" == strategy(job).env_vars()["NCCL_DEBUG"]
    assert "WARN" == strategy(job, sagemaker_mpi_custom_mpi_options=given).env_vars()["NCCL_DEBUG"]
    monkeypatch.setenv("NCCL_DEBUG", "TRACE")
    assert "NCCL_DEBUG" not in strategy(job).env_vars()


def test_more_processes_than_there_is_room_for(job: Job, version: int) -> None:
    """The error names both hyperparameters."""
    made = strategy(job, sagemaker_mpi_num_processes=5, sagemaker_mpi_num_of_processes_per_host=2)
    with pytest.raises(ConfigurationError, match=r"asks for 5 processes \(sagemaker_mpi_num_processes\), but .* run 2"):
        command(made, job)


def test_an_mpirun_that_is_not_open_mpis(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says whose it is."""
    says(tmp_path, "HYDRA build details:", monkeypatch)
    with pytest.raises(ConfigurationError, match="is not Open MPI's: asked for its version, it says 'HYDRA build"):
        command(strategy(job), job)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"sagemaker_mpi_num_of_processes_per_host": "many"}, "_per_host' is 'many', not a number from 1 on"),
        ({"sagemaker_mpi_num_of_processes_per_host": -1}, "_per_host' is -1, not a number from 1 on"),
        ({"sagemaker_mpi_custom_mpi_options": "-x 'FOO"}, "cannot be split into options: No closing quotation"),
    ],
    ids=["no number", "negative", "quote"],
)
def test_what_a_job_cannot_ask_for(job: Job, asked: dict[str, Any], problem: str) -> None:
    """The error names the hyperparameter and its value."""
    with pytest.raises(ConfigurationError, match=problem):
        strategy(job, **asked).processes()
