"""Hyperparameters as real clients put them on the wire.

tests/data/requests holds bodies of CreateTrainingJob requests that the SageMaker Python SDK 2.257.7 (v2) and
3.27.0 (v3) have sent; the accounts and buckets in them are made up.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from jobs import Job

from sagemaker_framework import training_env

REQUESTS = Path(__file__).parents[1] / "data/requests"

#: What the caller's Python had for the requests called "all_types".
SENT: dict[str, Any] = {
    "an_int": 3,
    "neg": -7,
    "a_float": 0.001,
    "sci": 1e-05,
    "big": 10**20,
    "inf": math.inf,
    "a_str": "plain",
    "num_str": "12",
    "json_str": '{"a": 1}',
    "empty": "",
    "quotes": 'say "hi" it\'s',
    "spaces": " lead and trail ",
    "newline": "line1\nline2\ttab",
    "unicode": "héllo ✓ 日本",
    "backslash": "C:\\x",
    "dollar": "$HOME `id` ; rm",
    "a_list": [1, "two", 3.5, None],
    "a_dict": {"k": [1, {"z": True}], "s": 'q"q'},
    "a_bool": True,
    "f_bool": False,
    "a_none": None,
    "tuple": [1, 2],
    "dash-name": 1,
    "under_score": 2,
    "s": "single",
    "true_str": "True",
    "path": "s3://b/k",
}
#: The types that a client loses before anything is on the wire.
LOST = {
    "v2/pytorch_hyperparameters_all_types": {},
    "v2/byoc_no_entry_point_hyperparameters_all_types": {
        "inf": "inf",
        "num_str": 12,
        "json_str": {"a": 1},
        "a_list": "[1, 'two', 3.5, None]",
        "a_dict": "{'k': [1, {'z': True}], 's': 'q\"q'}",
        "a_bool": "True",
        "f_bool": "False",
        "a_none": "None",
        "tuple": "(1, 2)",
    },
    "v3/no_source_code_hyperparameters_all_types": {"num_str": 12, "json_str": {"a": 1}},
}


#: The arguments that sagemaker-training 5.1.4 makes of them, where no type is lost.
ARGUMENTS = {
    "--a_bool": "True",
    "--a_dict": "k=[1, {'z': True}],s=q\"q",
    "--a_float": "0.001",
    "--a_list": "[1, 'two', 3.5, None]",
    "--a_none": "",
    "--a_str": "plain",
    "--an_int": "3",
    "--backslash": "C:\\x",
    "--big": "100000000000000000000",
    "--dash-name": "1",
    "--dollar": "$HOME `id` ; rm",
    "--empty": "",
    "--f_bool": "False",
    "--inf": "inf",
    "--json_str": '{"a": 1}',
    "--neg": "-7",
    "--newline": "line1\nline2\ttab",
    "--num_str": "12",
    "--path": "s3://b/k",
    "--quotes": 'say "hi" it\'s',
    "-s": "single",
    "--sci": "1e-05",
    "--spaces": " lead and trail ",
    "--true_str": "True",
    "--tuple": "[1, 2]",
    "--under_score": "2",
    "--unicode": "héllo ✓ 日本",
}


def configure(job: Job, request: str) -> dict[str, str]:
    """Lay the hyperparameters of a request out as the service does."""
    hyperparameters: dict[str, str] = json.loads((REQUESTS / f"{request}.json").read_text())["HyperParameters"]
    job.config("hyperparameters", hyperparameters)
    return hyperparameters


@pytest.mark.parametrize("request_", LOST)
def test_values_come_back_as_the_caller_had_them(job: Job, request_: str) -> None:
    """Each client's dialect is decoded into the caller's values, but for the types that the client itself loses."""
    configure(job, request_)

    assert {**SENT, **LOST[request_]} == training_env(job.environ()).hyperparameters


@pytest.mark.parametrize("request_", sorted(str(file.relative_to(REQUESTS))[:-5] for file in REQUESTS.rglob("*.json")))
def test_the_program_gets_the_callers_hyperparameters_alone(job: Job, request_: str) -> None:
    """What the SDK adds for the launcher and the framework is no argument; everything else is one, sorted."""
    sent = configure(job, request_)
    env = training_env(job.environ())
    names = sorted(name for name in sent if not name.startswith("sagemaker_"))

    assert [f"--{name}" if len(name) > 1 else f"-{name}" for name in names] == env.to_cmd_args()[::2]
    assert sent.get("sagemaker_program", "null") == json.dumps(env.user_entry_point)


@pytest.mark.parametrize(
    ("request_", "distribution"),
    [
        ("v2/tf_mpi", "mpi"),
        ("v2/pytorch_torch_distributed", "torch_distributed"),
        ("v2/mxnet_parameter_server", "parameter_server"),
        ("v2/hetero_pytorch_smdataparallel", "distributed_dataparallel"),
    ],
)
def test_the_distribution_that_a_caller_asks_for_is_known(job: Job, request_: str, distribution: str) -> None:
    """`is_enabled` tells an author's Trainer what the job asks for."""
    configure(job, request_)

    assert training_env(job.environ()).is_enabled(distribution)


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        ("v2/byoc_entry_point", {"--epochs": "3", "--lr": "0.1", "--name": "x y"}),
        (
            "v2/pytorch_smmodelparallel",
            {"--mp_parameters": "ddp=True,microbatches=4,partitions=2,placement_strategy=spread"},
        ),
        ("v3/torchrun_smp", {"--mp_parameters": "hybrid_shard_degree=4,tensor_parallel_degree=2"}),
        ("v2/pytorch_hyperparameters_all_types", ARGUMENTS),
        ("v3/no_source_code_hyperparameters_all_types", {**ARGUMENTS, "--json_str": "a=1"}),
        (
            "v2/byoc_no_entry_point_hyperparameters_all_types",
            {
                **ARGUMENTS,
                "--a_dict": "{'k': [1, {'z': True}], 's': 'q\"q'}",
                "--a_none": "None",
                "--json_str": "a=1",
                "--tuple": "(1, 2)",
            },
        ),
    ],
)
def test_a_real_request_gives_the_toolkits_arguments(job: Job, request_: str, arguments: dict[str, str]) -> None:
    """A real request gives the argument list that sagemaker-training 5.1.4 makes of it, in its order."""
    configure(job, request_)

    assert [part for argument in arguments.items() for part in argument] == training_env(job.environ()).to_cmd_args()
