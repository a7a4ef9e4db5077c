"""The launcher's own log."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest
from jobs import Job

from sagemaker_framework.log import parse_level

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} sagemaker-framework (DEBUG|INFO|WARNING|ERROR) +\S.*")


@pytest.mark.parametrize(
    ("value", "level"),
    [(10, 10), ("20", 20), (30.0, 30), ("INFO", 20), ("warning", 30), ("Warn", 30), (" error ", 40), ("CRITICAL", 50)],
)
def test_a_level_is_a_number_or_a_name(value: object, level: int) -> None:
    """sagemaker_container_log_level may be what the SDK sends, or what people write."""
    assert level == parse_level(value)


@pytest.mark.parametrize("value", ["loud", "", None, True, 1.5, [20]])
def test_anything_else_is_no_level(value: object) -> None:
    """A wrong level is refused with the names there are."""
    with pytest.raises(ValueError, match="DEBUG, INFO, WARNING, ERROR, CRITICAL"):
        parse_level(value)


def test_each_event_is_one_line(job: Job) -> None:
    """At INFO a job's log says what runs, where, with which arguments, how it ended: a few lines, one an event."""
    job.program("")
    job.hyperparameters["text"] = "two\nlines"
    lines = job.run().stderr.splitlines()

    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert len(lines) <= 4
    assert f"running train.py in {job.code_dir}: " in lines[0]
    assert "train.py --text 'two\\nlines'" in lines[0]


def test_the_environment_is_not_dumped(job: Job) -> None:
    """No variable's value is in the log at INFO."""
    job.program("")
    job.env["OF_THE_IMAGE"] = "some-value"

    assert not [word for word in ("some-value", "SM_HOSTS", "SM_TRAINING_ENV") if word in job.run().stderr]


def test_a_reader_that_stalls_is_waited_for_once() -> None:
    """Lines are lost then, without a wait for each; once the reader reads again, they are written."""
    code = """
        import os
        from sagemaker_framework import log

        log._PATIENCE = 100
        reading, writing = os.pipe()
        os.dup2(writing, 2)
        for number in range(2000):
            log.info(f"{number} {'x' * 1000}")
        os.set_blocking(reading, False)
        try:
            while os.read(reading, 65536): pass
        except BlockingIOError:
            log.info("it reads again")
        assert b"it reads again" in os.read(reading, 4096)
        """
    # Two thousand waits would take 200 s.
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


@pytest.mark.parametrize(("level", "quiet"), [(20, False), ("ERROR", True), (50, True), ("debug", False)])
def test_the_jobs_level_is_kept_to(job: Job, level: object, quiet: bool) -> None:
    """Below the job's level nothing is written."""
    job.program("")
    job.hyperparameters["sagemaker_container_log_level"] = level

    assert quiet == (job.run().stderr == "")
