"""What the service and people read of a job's end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from jobs import Job

from sagemaker_framework.excerpts import cause_and_excerpt, shorten
from sagemaker_framework.workflow.report import failure_text

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which takes root")


def test_success_is_marked_where_the_toolkits_and_the_seed_document_say(job: Job) -> None:
    """A job that succeeds leaves an empty output/success and an empty success below the base folder."""
    job.program("print('fine')")
    ended = job.run()

    assert (0, None) == (ended.returncode, ended.failure)
    assert [b"", b""] == [(job.base / name).read_bytes() for name in ("output/success", "success")]


def test_output_holds_nothing_else_after_a_success(job: Job) -> None:
    """The launcher leaves no files of its own in the output folder."""
    job.program("")
    job.run()

    assert ["data", "success"] == sorted(path.name for path in (job.base / "output").iterdir())


def test_output_holds_nothing_else_after_a_failure(job: Job) -> None:
    """After a failure there is the failure file, and no success marker."""
    job.program("raise SystemExit(1)")
    job.run()

    assert ["data", "failure"] == sorted(path.name for path in (job.base / "output").iterdir())


def test_the_cause_comes_first(job: Job) -> None:
    """The first line names the program, its exit code, and the exception."""
    job.program("def f(): raise ValueError('no such layer: 12')\nf()")

    assert "train.py exited with code 1: ValueError: no such layer: 12" == job.run().cause


def test_the_traceback_is_among_what_sagemaker_shows(job: Job) -> None:
    """The innermost frames of the last traceback are within the first 1,024 characters."""
    job.program(
        "import sys\nfor n in range(500): print('noise ValueError', n, file=sys.stderr)\n"
        "def f(n):\n  if n: f(n - 1)\n  raise RuntimeError('the real one')\nf(50)"
    )
    shown = (job.run().failure or "")[:1024]

    assert "RuntimeError: the real one" in shown.split("\n")[0]
    assert "line 5, in f" in shown
    assert "noise" not in shown


def test_what_is_too_long_to_be_shown_is_still_there(job: Job) -> None:
    """Behind the first 1,024 characters the failure file holds the whole traceback."""
    job.program("def f(n):\n  if n: f(n - 1)\n  " + "'" + "x" * 1200 + "'; raise RuntimeError('deep')\nf(3)\n")
    failure = job.run().failure or ""

    assert "Traceback (most recent call last):" in failure[1024:]


def test_a_message_to_sys_exit_is_the_cause(job: Job) -> None:
    """`sys.exit("message")` exits with 1 and gives its message as the cause."""
    job.program("import sys; sys.exit('config file missing')")

    assert "train.py exited with code 1: config file missing" == job.run().cause


def test_a_shell_scripts_last_words_are_the_cause(job: Job) -> None:
    """Without a traceback, the last line on stderr is the cause."""
    job.program("echo first >&2; echo 'nccl: no such device' >&2; exit 9", "run.sh")

    assert "run.sh exited with code 9: nccl: no such device" == job.run().cause


def test_a_message_in_a_frame_is_the_cause() -> None:
    """mpirun frames what it says with lines of dashes: not these, but what is between them tells what is wrong."""
    rule = "-" * 74
    said = f"noise\n{rule}\nmpirun was unable\nto launch:\n\n  Executable: x\n{rule}\n"

    assert "mpirun was unable to launch: Executable: x" == cause_and_excerpt(said.encode())[0]


def test_a_program_that_says_nothing_still_has_a_cause(job: Job) -> None:
    """The exit code is there, whatever the program says."""
    job.program("exit 4", "run.sh")

    assert "run.sh exited with code 4\n" == job.run().failure


def test_a_failure_file_of_the_program_is_kept(job: Job) -> None:
    """What the program itself wrote to output/failure stays as it is."""
    job.program(f"open({str(job.base / 'output/failure')!r}, 'w').write('my own reason'); raise SystemExit(2)")
    ended = job.run()

    assert (2, "my own reason") == (ended.returncode, ended.failure)


def test_what_an_earlier_job_left_is_not_taken_for_this_ones(job: Job) -> None:
    """In a folder that is used again, an old failure or success does not outlive the new job's start."""
    (job.base / "success").touch()
    (job.base / "output/failure").write_text("old")
    job.program("raise SystemExit(1)")
    ended = job.run()

    assert ("train.py exited with code 1", False) == (ended.cause, ended.has_success_marker)


@needs_root
def test_a_full_disk_does_not_silence_the_failure(job: Job) -> None:
    """When the program has filled the disk, the failure file still says why the job failed."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(job.base / "output")], check=True)
    try:
        job.program(f"open({str(job.base / 'output/full')!r}, 'wb', 0).write(b'x' * 2**20)\nopen('/nowhere/x')")
        filled = job.run()
    finally:
        subprocess.run(["umount", str(job.base / "output")], check=True)

    assert "FileNotFoundError" in filled.cause


def test_an_output_folder_that_is_missing_is_made(job: Job) -> None:
    """A container without /opt/ml/output gets one for its failure file."""
    for folder in ("output/data", "output"):
        (job.base / folder).rmdir()
    job.program("raise SystemExit(1)")

    assert "train.py exited with code 1" == job.run().cause


def test_an_output_folder_that_cannot_be_is_no_success(job: Job) -> None:
    """Where no failure file can be written, the exit code and the log still tell the truth."""
    for folder in ("output/data", "output"):
        (job.base / folder).rmdir()
    (job.base / "output").write_text("a file in the way")
    job.program("raise SystemExit(5)")
    ended = job.run()

    assert 5 == ended.returncode
    assert "train.py exited with code 5" in ended.stderr


# -- finding the cause ---------------------------------------------------------------------------------------------

TRACEBACK = 'Traceback (most recent call last):\n  File "t.py", line 1, in <module>\n    f()\n'


@pytest.mark.parametrize(
    ("tail", "cause"),
    [
        pytest.param("", "", id="nothing"),
        pytest.param("one\ntwo\n\n", "two", id="last line"),
        pytest.param(
            "no data\nWARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
            "I0000 00:00:1795573021.124356   23170 port.cc:153] oneDNN custom operations are on.\n"
            "2026-01-01 10:00:00.123456: I tensorflow/core/util/port.cc:113] oneDNN custom operations are on.\n",
            "no data",
            id="what TensorFlow says of itself",
        ),
        pytest.param(TRACEBACK + "E: 1\n" + "step\n" * 50 + "FATAL: no\n", "FATAL: no", id="caught long before"),
        pytest.param("\x1b[1;31mE: 1\x1b[0m\n", "E: 1", id="colours"),
        pytest.param(
            "Fatal Python error: Segmentation fault\n\nCurrent thread (most recent call first):\n  File t.py, line 3\n",
            "Fatal Python error: Segmentation fault",
            id="faulthandler",
        ),
        pytest.param(TRACEBACK + "ValueError: x\n", "ValueError: x", id="traceback"),
        pytest.param(TRACEBACK + "KeyboardInterrupt\n", "KeyboardInterrupt", id="exception without a message"),
        pytest.param(TRACEBACK + "a.b.Error: x\nmore\n", "a.b.Error: x", id="message of two lines"),
        pytest.param(TRACEBACK + "E: 1\n\n" + TRACEBACK + "F: 2\n", "F: 2", id="the last of two"),
        pytest.param(TRACEBACK + "E: 1\n\nbye\n", "E: 1", id="words after it"),
        pytest.param(
            TRACEBACK + "E: 1\nException ignored in: <f>\n" + TRACEBACK + "F: 2\n", "E: 1", id="not an ignored one"
        ),
        pytest.param(
            '  File "t.py", line 1\n    def\n       ^\nSyntaxError: invalid syntax\n',
            "SyntaxError: invalid syntax",
            id="syntax error",
        ),
        pytest.param("10%\r20%\r30%", "30%", id="progress bar"),
        pytest.param("\xff\xfe", "\ufffd\ufffd", id="not UTF-8"),
        pytest.param(
            "".join(f"[1,0]<stderr>:{line}\n[1,1]<stderr>:noise\n" for line in (TRACEBACK + "E: 1").split("\n")),
            "E: 1",
            id="tagged lines of several processes",
        ),
        pytest.param(
            "  + Exception Group Traceback (most recent call last):\n  |   File 't.py', line 1\n"
            "  |     if sys.version_info > (3, 11): raise ExceptionGroup('all', [e])\n"
            "  | ExceptionGroup: all (1 sub-exception)\n  +-+---------------- 1 ----------------\n"
            "    | ValueError: x\n    +------------------------------------\n",
            "ExceptionGroup: all (1 sub-exception)",
            id="exception group",
        ),
    ],
)
def test_cause(tail: str, cause: str) -> None:
    """The cause is the exception of the last traceback that counts, or else the last line."""
    assert cause == cause_and_excerpt(tail.encode("latin-1" if "\xff" in tail else "utf-8"))[0]


def test_an_excerpt_has_the_whole_message() -> None:
    """A message may have empty lines."""
    assert cause_and_excerpt(f"{TRACEBACK}E: one\n\ntwo\n".encode())[1].endswith("E: one\n\ntwo")


def test_an_excerpt_has_the_exceptions_that_led_to_the_last_one() -> None:
    """A chain of exceptions is kept whole."""
    chain = (
        f"{TRACEBACK}KeyError: 'k'\n\nThe above exception was the direct cause of the following exception:\n\n"
        f"{TRACEBACK}ValueError: v"
    )

    assert ("ValueError: v", chain) == cause_and_excerpt(f"noise\n{chain}\n".encode())


@pytest.mark.parametrize("length", [10, 100, 1000, 5000])
def test_shortened_text_fits(length: int) -> None:
    """Shortening keeps to its limit, the first line and the last ones."""
    text = "head\n" + "".join(f"line {n}\n" for n in range(500)) + "tail"
    short = shorten(text, length)

    assert len(short) <= length
    assert short.startswith("head")


@pytest.mark.parametrize("cause", ["short", "long " * 500, "two\nlines"])
def test_a_failure_text_starts_with_one_line_of_cause(cause: str) -> None:
    """However the cause looks, one line of it comes first, and leaves room for the rest."""
    first, second = failure_text(cause, "detail")[:1024].split("\n")[:2]

    assert len(first) <= 512
    assert "detail" == second.rstrip()


def test_names_of_files_that_are_no_text_do_no_harm(job: Job) -> None:
    """Bytes that are no UTF-8 in the program's last words do not keep the failure file from being written."""
    job.program("import sys; sys.stderr.buffer.write(b'\\xff\\n'); sys.exit(1)")

    assert "train.py exited with code 1: \ufffd" == job.run().cause


def test_the_base_folder_may_have_any_name(tmp_path: Path) -> None:
    """The base folder may have spaces and letters beyond ASCII in its name."""
    job = Job(tmp_path / "opt mél")
    job.program("print('fine')")

    assert job.run().succeeded
