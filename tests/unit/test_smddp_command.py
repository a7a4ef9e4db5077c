"""What SageMaker's libraries are started with; the libraries themselves are in SageMaker's images only."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from jobs import Job

from sagemaker_framework import strategies
from sagemaker_framework.config import files
from sagemaker_framework.entry_point import PythonEntryPoint
from sagemaker_framework.strategies.mpi import MPIStrategy


def strategy(job: Job, values: dict[str, Any], **asked: Any) -> MPIStrategy:
    """The strategy that hyperparameters choose, where all tools are there and `values` are as given."""
    job.config("hyperparameters", asked)
    read = files.read({"SAGEMAKER_BASE_DIR": str(job.base)})
    changed = {"is_smddprun_installed": True, "is_smddpmprun_installed": True, **values}
    made = strategies.choose(read.evolve(**changed))
    assert isinstance(made, MPIStrategy)
    return made


def rank(job: Job, values: dict[str, Any], **asked: Any) -> list[str]:
    """What mpirun starts for each rank, from the launcher on."""
    program = job.write("train.py", "")
    return strategy(job, values, **asked).rank_command(PythonEntryPoint(program.name, str(job.code_dir)), ["--lr", "1"])


PROGRAM = ["train.py", "--lr", "1"]
SMDDP = {"sagemaker_distributed_dataparallel_enabled": True, "sagemaker_instance_type": "ml.p4d.24xlarge"}
SMP = {
    "sagemaker_mpi_enabled": True,
    "sagemaker_instance_type": "ml.p3.16xlarge",
    "mp_parameters": {"partitions": 2},
}


def test_smddp_runs_each_rank(job: Job) -> None:
    """Each rank of a job with SMDDP runs under `smddprun`, where the image has it."""
    command = rank(job, {}, **SMDDP)

    assert ("smddprun", PROGRAM) == (command[0], command[-3:])
    assert sys.executable == rank(job, {"is_smddprun_installed": False}, **SMDDP)[0]


def test_smddps_options_of_mpirun(job: Job) -> None:
    """SMDDP has a hyperparameter of its own for options of mpirun, and its servers run beside the ranks."""
    asked = {"sagemaker_distributed_dataparallel_custom_mpi_options": "--tag 'a b' -x 'FOO=a b'"}
    made = strategy(job, {}, **SMDDP, **asked)

    assert ["--oversubscribe", "--tag", "a b"] == made.options()
    assert "a b" == made.env_vars()["FOO"]


def test_smddps_server_is_on_the_leader(job: Job) -> None:
    """On several hosts, ranks are told of the leader's server, and of the instance type."""
    job.hosts("algo-1", "algo-2")
    variables = strategy(job, {}, **SMDDP).env_vars()

    assert {
        "RDMAV_FORK_SAFE": "1",
        "SMDATAPARALLEL_USE_HOMOGENEOUS": "1",
        "SMDATAPARALLEL_SERVER_ADDR": "algo-1",
        "SMDATAPARALLEL_SERVER_PORT": "7592",
        "SAGEMAKER_INSTANCE_TYPE": "ml.p4d.24xlarge",
    }.items() <= variables.items()


def test_smddp_on_one_host(job: Job) -> None:
    """On one host there is no server to tell of."""
    variables = strategy(job, {}, **SMDDP).env_vars()

    assert "1" == variables["SMDATAPARALLEL_USE_SINGLENODE"]
    assert "SMDATAPARALLEL_SERVER_ADDR" not in variables


def test_the_instance_type_of_a_heterogeneous_cluster(job: Job) -> None:
    """Where the SDK names no instance type, that of the host counts."""
    job.hosts("algo-1", "algo-2")
    asked = {**SMDDP, "sagemaker_instance_type": None}
    variables = strategy(job, {"current_instance_type": "ml.p3.16xlarge"}, **asked).env_vars()

    assert "ml.p3.16xlarge" == variables["SAGEMAKER_INSTANCE_TYPE"]


def test_model_parallelism_runs_each_rank(job: Job) -> None:
    """Each rank runs under `smddpmprun`, which chooses the backend, where the image has it and the job lets it."""
    command = rank(job, {}, **SMP)

    assert ["smddpmprun", "-i", "ml.p3.16xlarge", "--allow-bypass", sys.executable] == command[:5]
    assert PROGRAM == command[-3:]
    assert sys.executable == rank(job, {"is_smddpmprun_installed": False}, **SMP)[0]
    assert sys.executable == rank(job, {}, **{**SMP, "mp_parameters": {"ddp_dist_backend": "nccl"}})[0]


@pytest.mark.parametrize(
    ("version", "algorithm"), [("1.13.1", None), ("2.0.0", "ring"), ("10.1", "ring"), (None, None)]
)
def test_model_parallelisms_variables(
    job: Job, monkeypatch: pytest.MonkeyPatch, version: str | None, algorithm: str | None
) -> None:
    """In PyTorch's images NCCL has to use its simple protocol, and from torch 2 on its ring algorithm."""
    monkeypatch.delenv("SM_DLC_TORCH_VERSION", raising=False)
    if version:
        monkeypatch.setenv("SM_DLC_TORCH_VERSION", version)
    variables = strategy(job, {}, **SMP).env_vars()

    assert ("simple" if version else None, algorithm) == (variables.get("NCCL_PROTO"), variables.get("NCCL_ALGO"))
