"""The strategy that CONTRIBUTING.md has for an example works on several hosts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster import MakeCluster

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
TRAINER = """

from sagemaker_framework import Trainer


class MyTrainer(Trainer):
    def strategy(self):
        return SharedSeedStrategy(self.env)
"""


def test_all_hosts_get_one_seed(cluster: MakeCluster) -> None:
    """What the leader plans reaches the program on every host."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    job = cluster(2)
    for host in job.jobs.values():
        host.write("my_container.py", block + TRAINER)
    job.env.update(PYTHONPATH="/opt/ml/code", SAGEMAKER_TRAINING_MODULE="my_container:MyTrainer")
    job.program("import os; print(os.environ['SHARED_SEED'])")
    ended = job.run()

    assert ["", ""] == [host.cause for host in ended.values()]
    assert ended["algo-1"].stdout == ended["algo-2"].stdout != ""
