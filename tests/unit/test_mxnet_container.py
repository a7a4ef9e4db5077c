"""What of the example container for MXNet needs no MXNet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONTAINER = Path(__file__).parents[2] / "examples/mxnet"


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("print('ran')", 0),
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(0)", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('no data')", 1),
        ("import sys; sys.exit('')", 1),
        ("raise ValueError('no data')", 1),
        ("import sys; sys.stdout.close(); raise ValueError('no data')", 1),
        ("import sys\ndef hook(*_): raise KeyError\nsys.excepthook = hook\nraise ValueError('no data')", 1),
    ],
)
def test_a_worker_ends_as_its_program_does(tmp_path: Path, program: str, code: int) -> None:
    """With Python's exit codes; where it fails, without what Python does on its way out, in which MXNet would wait."""
    waits = "import atexit, time\natexit.register(time.sleep, 60)\n" if code else ""
    (tmp_path / "train.py").write_text(waits + program)
    command = [sys.executable, "-m", "mxnet_container.worker", "train.py"]
    ran = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(CONTAINER)}, capture_output=True, text=True, timeout=30
    )

    assert code == ran.returncode, ran.stderr
    assert ("no data" in program) == ("no data" in ran.stderr) or "hook" in program
