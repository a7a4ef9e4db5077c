"""The commands that an installation brings."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest
from jobs import TRAIN, Job

SCRIPTS = Path(sysconfig.get_path("scripts"))
COMMANDS = [
    [str(SCRIPTS / "train")],
    [str(SCRIPTS / "train"), "train"],
    [str(SCRIPTS / "sagemaker-framework"), "train"],
    [sys.executable, "-m", "sagemaker_framework", "train"],
]
installed = pytest.mark.skipif(not (SCRIPTS / "train").exists(), reason="needs the package to be installed")


@installed
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_way_to_call_train(job: Job, command: list[str]) -> None:
    """`train`, also with the word that SageMaker appends to an ENTRYPOINT, and `sagemaker-framework train`."""
    job.program("print('ran')")

    assert (0, "ran\n") == (job.run(command).returncode, job.run(command).stdout)


@installed
@pytest.mark.parametrize("command", ["train", "sagemaker-framework"])
def test_version(command: str) -> None:
    """`--version` prints the version of the distribution, and runs nothing."""
    shown = subprocess.run([SCRIPTS / command, "--version"], capture_output=True, text=True)

    assert (0, f"sagemaker-framework {version('sagemaker-framework')}\n") == (shown.returncode, shown.stdout)


@installed
@pytest.mark.parametrize("command", ["train", "sagemaker-framework"])
def test_help(command: str) -> None:
    """`--help` says what the command is for, and runs nothing."""
    shown = subprocess.run([SCRIPTS / command, "--help"], capture_output=True, text=True)

    assert 0 == shown.returncode
    assert f"usage: {command}" in shown.stdout


def test_an_unknown_subcommand() -> None:
    """A subcommand that is not there is an error that names those that are."""
    shown = subprocess.run([sys.executable, "-m", "sagemaker_framework", "tarin"], capture_output=True, text=True)

    assert 2 == shown.returncode
    assert "'train'" in shown.stderr


def test_arguments_that_mean_nothing_are_ignored_with_a_warning(job: Job) -> None:
    """`train` runs what the configuration says; it tells of arguments that it has no use for."""
    job.program("print('ran')")
    code = "import sys; from sagemaker_framework.cli import train; sys.exit(train(['serve']))"
    ended = job.run([sys.executable, "-c", code])

    assert "ran\n" == ended.stdout
    assert "ignored the arguments serve" in ended.stderr


@pytest.mark.parametrize(
    "left", ["threading.Thread(target=time.sleep, args=(600,))", "Process(target=time.sleep, args=(600,))"]
)
@pytest.mark.parametrize("end", ["pass", "sys.exit(3)"])
def test_what_the_training_module_leaves_does_not_hold_up_the_end(
    job: Job, tmp_path: Path, left: str, end: str
) -> None:
    """Neither a thread nor a process that the image's own module has left keeps `train` from ending."""
    imports = "import sys, threading, time\nfrom multiprocessing import Process\n"
    module = f"{imports}def train():\n    {left}.start()\n    {end}\n"
    (tmp_path / "container.py").write_text(module)
    job.env.update(PYTHONPATH=str(tmp_path), SAGEMAKER_TRAINING_MODULE="container:train")

    assert (3 if end != "pass" else 0) == job.run().returncode


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(job: Job, closed: str) -> None:
    """A container whose streams are closed runs its job all the same."""
    job.program("print('ran')")

    assert job.run(["sh", "-c", f'exec "$@" {closed}', "sh", *TRAIN]).succeeded
