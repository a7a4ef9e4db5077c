"""Which strategy the hyperparameters of the SageMaker SDK ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jobs import Job

from sagemaker_framework import strategies
from sagemaker_framework.config import files
from sagemaker_framework.errors import ConfigurationError

REQUESTS = Path(__file__).parents[1] / "data/requests"


def chosen(job: Job, **asked: Any) -> str:
    """The name of the strategy for hyperparameters as they are on the wire."""
    job.config("hyperparameters", asked)
    values = files.read({"SAGEMAKER_BASE_DIR": str(job.base)})
    return type(strategies.choose(values)).__name__


@pytest.mark.parametrize(
    ("asked", "strategy"),
    [
        ("", "SingleProcessStrategy"),
        ("sagemaker_mpi_enabled", "MPIStrategy"),
        ("sagemaker_torch_distributed_enabled", "TorchrunStrategy"),
        ("sagemaker_distributed_dataparallel_enabled", "SMDDPStrategy"),
        ("sagemaker_pytorch_ddp_enabled", "SMDDPStrategy"),
        ("sagemaker_pytorch_ddp_enabled sagemaker_distributed_dataparallel_enabled", "SMDDPStrategy"),
        ("sagemaker_torch_distributed_enabled sagemaker_distributed_dataparallel_enabled", "TorchrunStrategy"),
        ("sagemaker_multi_worker_mirrored_strategy_enabled", "MultiWorkerStrategy"),
        ("sagemaker_pytorch_xla_multi_worker_enabled", "XLAStrategy"),
    ],
)
def test_each_hyperparameter_has_its_strategy(job: Job, asked: str, strategy: str) -> None:
    """Each hyperparameter, and each two that go together, choose one strategy."""
    assert strategy == chosen(job, **dict.fromkeys(asked.split(), "true"))


@pytest.mark.parametrize("value", ["true", "True", '"true"', '"True"', "1", True])
def test_what_switches_a_strategy_on(job: Job, value: object) -> None:
    """JSON's true, Python's, and the text, which clients send too."""
    assert "TorchrunStrategy" == chosen(job, sagemaker_torch_distributed_enabled=value)


@pytest.mark.parametrize("value", ["false", "False", '"false"', "null", "0", '""', "", False])
def test_what_does_not_switch_a_strategy_on(job: Job, value: object) -> None:
    """A switch that is off, in any spelling, asks for nothing."""
    assert "SingleProcessStrategy" == chosen(job, sagemaker_torch_distributed_enabled=value)


def test_a_switch_that_is_neither_on_nor_off(job: Job) -> None:
    """A value that says neither is refused before anything else is done."""
    with pytest.raises(ConfigurationError, match="'sagemaker_mpi_enabled' is 'maybe', neither true nor false"):
        chosen(job, sagemaker_mpi_enabled="maybe")


def test_model_parallelism_runs_over_mpi(job: Job) -> None:
    """MPI with parameters of SageMaker's model parallelism is that library's launch."""
    asked = {"sagemaker_mpi_enabled": "true", "mp_parameters": '{"partitions": 2}'}

    assert "ModelParallelStrategy" == chosen(job, **asked)


def test_strategies_that_contradict_each_other(job: Job) -> None:
    """Two strategies that cannot both run the program are refused, by the names that asked for them."""
    with pytest.raises(
        ConfigurationError, match=r"sagemaker_mpi_enabled and sagemaker_torch_distributed_enabled, .* leave out all but"
    ):
        chosen(job, sagemaker_mpi_enabled="true", sagemaker_torch_distributed_enabled="true")


def test_parameter_servers_are_for_the_image(job: Job) -> None:
    """Where the image has no parameter servers of its own, the error says who has to bring them."""
    with pytest.raises(ConfigurationError, match=r"sagemaker_parameter_server_enabled, .* Trainer must name its own"):
        chosen(job, sagemaker_parameter_server_enabled="true")


@pytest.mark.parametrize(
    ("request_name", "strategy"),
    [
        ("v2/pytorch_torch_distributed", "TorchrunStrategy"),
        ("v2/pytorch_torch_distributed_trn1", "TorchrunStrategy"),
        ("v2/pytorch_smddp_torchrun", "TorchrunStrategy"),
        ("v2/pytorch_smmodelparallel_v2_torchrun", "TorchrunStrategy"),
        ("v2/pytorch_smddp", "SMDDPStrategy"),
        ("v2/pytorch_pytorchddp", "SMDDPStrategy"),
        ("v2/hetero_pytorch_smdataparallel", "SMDDPStrategy"),
        ("v2/pytorch_smmodelparallel", "ModelParallelStrategy"),
        ("v2/pytorch_mpi", "MPIStrategy"),
        ("v2/tf_mpi", "MPIStrategy"),
        ("v2/tf_mwms", "MultiWorkerStrategy"),
        ("v2/pytorch_plain", "SingleProcessStrategy"),
    ],
)
def test_requests_of_real_clients(job: Job, request_name: str, strategy: str) -> None:
    """Each way to distribute a job that the SageMaker SDK offers comes to its strategy."""
    sent = json.loads((REQUESTS / f"{request_name}.json").read_text())["HyperParameters"]
    group = {"instance_group_name": "train_group", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-1"]}
    job.config("resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1"], "instance_groups": [group]})

    assert strategy == chosen(job, **sent)
