"""A job for one host, to measure with: an /opt/ml tree whose program is a Python script."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from pathlib import Path

#: The installed command, of the interpreter that runs the benchmark.
TRAIN = str(Path(sysconfig.get_path("scripts")) / "train")


class Job:
    """Lays the tree out in the folder `base`; the script, in the code folder already, has the lines of `script`."""

    def __init__(self, base: str, script: str) -> None:
        self.script = Path(base, "code", "script.py")
        self.environment = {**os.environ, "SAGEMAKER_BASE_DIR": base, "PYTHONUNBUFFERED": "1"}
        config = {
            "hyperparameters": {"sagemaker_program": '"script.py"', "epochs": "3", "learning-rate": "0.01"},
            "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"},
            "inputdataconfig": {"training": {"TrainingInputMode": "File"}},
        }
        for folder in ("code", "input/config", "input/data/training", "model", "output/data"):
            Path(base, folder).mkdir(parents=True)
        for name, content in config.items():
            Path(base, "input", "config", f"{name}.json").write_text(json.dumps(content))
        self.script.write_text(script)

    @property
    def bare(self) -> list[str]:
        """The command of the baseline: the script without us."""
        return [sys.executable, str(self.script)]

    @property
    def train(self) -> list[str]:
        """The command that is measured."""
        return [TRAIN]
