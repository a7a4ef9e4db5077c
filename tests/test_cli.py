"""The commands that an installation brings."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest
from jobs import Job

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
