"""The example of CONTRIBUTING.md works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jobs import Job

ROOT = Path(__file__).resolve().parents[2]
TRAINER = """

from sagemaker_framework import Trainer


class MyTrainer(Trainer):
    def strategy(self):
        return SharedSeedStrategy(self.env)
"""

pytestmark = pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").exists(), reason="needs the checkout")


def test_the_program_gets_a_seed(job: Job, tmp_path: Path) -> None:
    """On one host too, the strategy plans and hands on what it has planned."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (tmp_path / "my_container.py").write_text(block + TRAINER)
    job.env.update(PYTHONPATH=str(tmp_path), SAGEMAKER_TRAINING_MODULE="my_container:MyTrainer")
    job.program("import os; print(0 <= int(os.environ['SHARED_SEED']) < 2**32)")

    assert "True\n" == job.run().stdout
