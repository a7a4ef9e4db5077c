"""examples/tensorflow with the real TensorFlow, on real hosts: it trains, and it ends, whatever breaks.

tests/test_tensorflow_container.py has what needs no TensorFlow.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, Ended, MakeCluster

pytestmark = pytest.mark.frameworks

EXAMPLE = Path(__file__).parents[1] / "examples/tensorflow"

#: Seconds in which all hosts have to be gone after a fault, and after the end of the last program that matters.
SOON, AT_ONCE = 15.0, 2.0

#: Longer than any training here takes on a machine that has much else to do.
PATIENCE = 180.0


@pytest.fixture
def tensorflow(cluster: MakeCluster) -> Callable[..., Cluster]:
    """Makes jobs in the example's container, on so many hosts."""

    def make(count: int = 2, **hyperparameters: Any) -> Cluster:
        job = cluster(count)
        job.env.update(
            PYTHONPATH=str(EXAMPLE),
            SAGEMAKER_TRAINING_MODULE="tensorflow_container.training:TensorFlowTrainer",
            TF_CPP_MIN_LOG_LEVEL="2",
            CUDA_VISIBLE_DEVICES="",
        )
        job.hyperparameters.update(hyperparameters)
        return job

    return make


def digits(job: Cluster) -> None:
    """Have the job train with the example's program."""
    import numpy as np
    from sklearn.datasets import load_digits

    job.program((EXAMPLE / "train.py").read_text())
    table = np.column_stack(load_digits(return_X_y=True))
    for each in job.jobs.values():
        np.savetxt(each.base / "input/data/training/digits.csv", table, fmt="%d", delimiter=",")


def accuracy(job: Cluster, ended: dict[str, Ended]) -> float:
    """What a job that has succeeded on all hosts, with its model saved and nothing left, says of its accuracy."""
    assert all(host.succeeded and not host.left for host in ended.values()), ended["algo-1"].stderr
    assert (job["algo-1"].base / "model/digits/1/saved_model.pb").exists()
    assert "WARNING" not in re.sub(r"(?m)^(?!.* sagemaker-framework ).*$", "", ended["algo-1"].stderr)
    (found,) = re.findall(rf"processes={len(job.names)} accuracy=([\d.]+)", ended["algo-1"].stdout)
    return float(found)


def finish_at_once(job: Cluster, last: list[str]) -> dict[str, Ended]:
    """Wait for the programs of these hosts to end well; all hosts have to within 2 s of the last one."""
    for name in last:
        job.expect(name, "train.py exited with code 0", PATIENCE)
    at = time.monotonic()
    ended = job.finish(SOON)
    took = max(host.at for host in ended.values()) - at
    print(f"the last host ended {took:.2f} s after the last program that matters")
    assert took < AT_ONCE
    return ended


@pytest.fixture(scope="module")
def alone() -> dict[str, float]:
    """What the single-host run comes to, once it has been asked for."""
    return {}


def accuracy_alone(tensorflow: Callable[..., Cluster], known: dict[str, float]) -> float:
    if not known:
        job = tensorflow(1)
        digits(job)
        known["accuracy"] = accuracy(job, job.run(PATIENCE))
    return known["accuracy"]


def test_parameter_servers_train_as_one_host_does(
    tensorflow: Callable[..., Cluster], alone: dict[str, float]
) -> None:
    """A chief, a worker and two parameter servers on two hosts come to the accuracy of one, and end with the chief."""
    job = tensorflow(2, sagemaker_parameter_server_enabled=True)
    digits(job)
    job.start()
    found = accuracy(job, finish_at_once(job, ["algo-1"]))

    assert accuracy_alone(tensorflow, alone) == pytest.approx(found, abs=0.02)
    assert found > 0.93
