"""Training jobs for tests: an /opt/ml tree in a temporary folder, and the real `train` command run on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

#: The command as a process: what the console script `train` does.
TRAIN = [sys.executable, "-c", "import sys; from sagemaker_framework.cli import train; sys.exit(train())"]


class Finished:
    """How a `train` command ended."""

    def __init__(self, job: Job, returncode: int, stdout: bytes, stderr: bytes) -> None:
        self.returncode = returncode
        self.stdout = stdout.decode("utf-8", "replace")
        self.stderr = stderr.decode("utf-8", "replace")
        self.failure: str | None = job.failure
        self.succeeded = (job.base / "output/success").exists() and (job.base / "success").exists()
        self.has_success_marker = (job.base / "output/success").exists() or (job.base / "success").exists()

    @property
    def cause(self) -> str:
        """The first line of the failure file."""
        return (self.failure or "").split("\n", 1)[0]


class Job:
    """One host's /opt/ml, configured as SageMaker does it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._mark = f"TEST_JOB={uuid.uuid4().hex}"
        self.code_dir = base / "code"
        self.hyperparameters: dict[str, Any] = {}
        self.env: dict[str, str] = {}
        for folder in ("input/config", "input/data/training", "code", "model", "output/data"):
            (base / folder).mkdir(parents=True)
        self.config("resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"})
        self.config("inputdataconfig", {"training": {"TrainingInputMode": "File"}})

    @property
    def failure(self) -> str | None:
        """The content of the failure file, if there is one."""
        file = self.base / "output/failure"
        return file.read_text("utf-8") if file.exists() else None

    def config(self, name: str, content: object) -> None:
        """Write one of the configuration files: as JSON, or as it is if it is a text."""
        text = content if isinstance(content, str) else json.dumps(content)
        (self.base / f"input/config/{name}.json").write_text(text, "utf-8")

    def hosts(self, *names: str) -> None:
        """Have the job run on these hosts; this one is the first."""
        self.config("resourceconfig", {"current_host": names[0], "hosts": list(names), "network_interface_name": "lo"})

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Put a file into the code folder."""
        file = self.code_dir / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"), "utf-8")
        file.chmod(mode)
        return file

    def program(self, text: str, name: str = "train.py") -> None:
        """Make this text the job's entry point."""
        self.write(name, text)
        self.hyperparameters["sagemaker_program"] = name

    def start(self, command: Sequence[str] = TRAIN, **popen: Any) -> subprocess.Popen[bytes]:
        """Start the `train` command and go on; hyperparameters are encoded as the SageMaker SDK does."""
        encoded = {name: json.dumps(value) for name, value in self.hyperparameters.items()}
        if not (self.base / "input/config/hyperparameters.json").exists():
            self.config("hyperparameters", encoded)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, **{**streams, "env": self.environ(), **popen})

    def environ(self) -> Mapping[str, str]:
        """The variables of the container."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SM_", "SAGEMAKER_"))}
        mark, _, value = self._mark.partition("=")
        return {**inherited, "SAGEMAKER_BASE_DIR": str(self.base), mark: value, **self.env}

    def running(self) -> list[str]:
        """The command lines of all processes that have the variables of this job."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
            except OSError:
                pass  # Another user's, or gone.
        return found

    def finish(self, process: subprocess.Popen[bytes], timeout: float = 60) -> Finished:
        """Wait for a started command."""
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            raise
        return Finished(self, process.returncode, stdout or b"", stderr or b"")

    def run(self, command: Sequence[str] = TRAIN, **popen: Any) -> Finished:
        """Run the `train` command to its end."""
        return self.finish(self.start(command, **popen))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job on one host, with one channel, and nothing to run yet."""
    return Job(tmp_path / "ml")
