"""The programs of examples/digits that run on several hosts come to the same accuracy as on one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster import Cluster, MakeCluster, Mpirun

pytestmark = pytest.mark.cluster

DIGITS = Path(__file__).parents[2] / "examples/digits"


def accuracy(job: Cluster, program: str, model: str) -> float:
    """Train with a program of examples/digits, one process on each host; the accuracy that it comes to."""
    import numpy as np
    from sklearn.datasets import load_digits

    job.program((DIGITS / program).read_text())
    table = np.column_stack(load_digits(return_X_y=True))
    for each in job.jobs.values():
        np.savetxt(each.base / "input/data/training/digits.csv", table, fmt="%d", delimiter=",")
    ended = job.run()
    assert all(host.succeeded for host in ended.values())
    assert (job["algo-1"].base / "model" / model).exists()
    (found,) = re.findall(rf"processes={len(job.names)} accuracy=([\d.]+)", ended["algo-1"].stdout)
    return float(found)


def test_distributed_data_parallel(cluster: MakeCluster) -> None:
    """ddp.py trains the same network with torchrun on two hosts as on one."""
    one, two = cluster(1), cluster(2)
    for job in (one, two):
        job.hyperparameters["sagemaker_torch_distributed_enabled"] = True

    assert accuracy(one, "ddp.py", "model.pt") == accuracy(two, "ddp.py", "model.pt") > 0.9


def test_mpi4py(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """mpi.py trains the same regression with mpirun on two hosts as on one."""
    one, two = cluster(1), cluster(2)
    for job in (one, two):
        job.hyperparameters["sagemaker_mpi_enabled"] = True
        job.env.update(mpirun.env)

    assert accuracy(one, "mpi.py", "weights.npy") == accuracy(two, "mpi.py", "weights.npy") > 0.9
