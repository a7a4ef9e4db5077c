"""Requests to stop at every moment of a job: exit code, success files and failure file always agree."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from jobs import TRAIN, Finished, Job
from sweep import UNCHANGED, outcome

ENDS_WELL_WHEN_ASKED = """
    import signal, sys
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("ready")
    while True: signal.pause()
"""


def read_until(process: subprocess.Popen[bytes], word: str) -> None:
    """Read lines of a job's stdout until one has `word` in it."""
    assert process.stdout is not None
    assert any(word in line.decode() for line in process.stdout), f"the job ended before {word!r} came"


def train_asked_at(event: str, of: str) -> list[str]:
    """The `train` command, which sends itself SIGTERM when an audit event of Python has this in its first argument."""
    hook = (
        "import os, sys\n"
        "def ask(event, args):\n"
        f"    if event == {event!r} and {of!r} in str(args[:1]): os.kill(os.getpid(), 15)\n"
        "sys.addaudithook(ask)\n"
    )
    return [TRAIN[0], TRAIN[1], hook + TRAIN[2].replace("; ", "\n")]


def trainer(job: Job, folder: Path, text: str) -> None:
    """Have the image's Trainer be `MyTrainer` in this text."""
    folder.mkdir()
    (folder / "container.py").write_text(textwrap.dedent(text))
    job.env.update(PYTHONPATH=str(folder), SAGEMAKER_TRAINING_MODULE="container:MyTrainer")


def free_port() -> int:
    """A TCP port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def run_and_ask(job: Job, word: str = "ready", times: int = 1) -> Finished:
    """Run a job, and ask it to stop when it has written a word."""
    process = job.start()
    read_until(process, word)
    for _ in range(times):
        process.terminate()
    return job.finish(process)


# -- when the verdict is known -----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["output/success", "/.failure.reserved"])
def test_a_request_while_success_is_declared(job: Job, file: str) -> None:
    """A job that has succeeded has succeeded, though it is asked to stop while it says so."""
    job.program("")
    event = "open" if file == "output/success" else "os.remove"
    ended = job.run(train_asked_at(event, file))

    assert (0, True, None) == (ended.returncode, ended.succeeded, ended.failure)


def test_a_request_while_the_failure_is_reported(job: Job) -> None:
    """The exit code and the failure file of a failed job are those of its program."""
    job.program("raise SystemExit(7)")
    ended = job.run(train_asked_at("os.rename", ".failure.reserved"))

    assert (7, "train.py exited with code 7") == (ended.returncode, ended.cause)


def test_a_request_while_python_ends(job: Job) -> None:
    """The exit code is the job's also where the signal comes after Python has given handlers back."""
    job.program("raise SystemExit(7)")
    last = (
        "import os, sys\n"
        "class Last:\n"
        "    def __del__(self, kill=os.kill, pid=os.getpid()): kill(pid, 15)\n"
        "sys.last = Last()\n"
    )
    ended = job.run([TRAIN[0], TRAIN[1], last + TRAIN[2]])

    assert (7, "train.py exited with code 7") == (ended.returncode, ended.cause)


def test_the_failure_file_does_not_wait_for_who_reads_the_log(job: Job) -> None:
    """It is there before the line that tells of the failure, though nobody takes that in; SIGTERM changes nothing."""
    job.program("raise SystemExit(7)")
    job.env["SAGEMAKER_CONTAINER_LOG_LEVEL"] = "40"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    process = job.start(stderr=writing)
    os.close(writing)
    deadline = time.monotonic() + 60
    while job.failure is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    os.close(reading)

    assert 7 == process.wait(60)
    assert (job.failure or "").startswith("train.py exited with code 7")


# -- once the program has ended well -----------------------------------------------------------------------------


def test_a_request_after_the_program_has_ended_well(job: Job, tmp_path: Path) -> None:
    """It comes too late: `post_train` and `cleanup` finish their work, and the job succeeds."""
    job.program("")
    trainer(
        job,
        tmp_path / "site",
        """
        import os, signal
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def post_train(self):
                os.kill(os.getpid(), signal.SIGTERM)
                print("converted", flush=True)
            def cleanup(self):
                print("cleaned up", flush=True)
        """,
    )
    ended = job.run()

    assert (0, True, "converted\ncleaned up\n") == (ended.returncode, ended.succeeded, ended.stdout)
    assert "SIGTERM came after the program had ended well: the job goes on" in ended.stderr


def test_a_late_request_has_an_end_too(job: Job, tmp_path: Path) -> None:
    """A `post_train` that is not done when the grace period has passed is interrupted: the job was stopped."""
    job.program("")
    job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "0.5"
    trainer(
        job,
        tmp_path / "site",
        """
        import time
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def post_train(self):
                print("ready", flush=True)
                time.sleep(600)
            def cleanup(self):
                print("cleaned up", flush=True)
        """,
    )
    ended = run_and_ask(job)

    assert (0, False, None) == (ended.returncode, ended.has_success_marker, ended.failure)
    assert ended.stdout.endswith("cleaned up\n")


def test_a_program_that_post_train_runs_is_not_asked(job: Job, tmp_path: Path) -> None:
    """What runs after the program has until the end of the grace period, as `post_train` itself has."""
    job.program("")
    job.write("convert.py", "import time\nprint('ready', flush=True)\ntime.sleep(0.5)\nprint('converted')\n")
    trainer(
        job,
        tmp_path / "site",
        """
        from sagemaker_framework import Trainer, entry_point
        class MyTrainer(Trainer):
            def post_train(self): entry_point.run("convert.py", [], {})
        """,
    )
    ended = run_and_ask(job)

    assert (True, "converted\n") == (ended.succeeded, ended.stdout)


@pytest.mark.parametrize("end", ["sys.exit(0)", "sys.exit(3)", "None"])
def test_a_program_that_post_train_runs_has_an_end_too(job: Job, tmp_path: Path, end: str) -> None:
    """At the end of the grace period it is asked, then killed: the job was stopped, and has not failed."""
    job.program("")
    job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "0.5"
    job.write(
        "convert.py",
        f"""
        import os, signal, sys
        signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"asked\\n"), {end}))
        print("ready", flush=True)
        while True: signal.pause()
        """,
    )
    trainer(
        job,
        tmp_path / "site",
        """
        from sagemaker_framework import Trainer, entry_point
        class MyTrainer(Trainer):
            def post_train(self):
                entry_point.run("convert.py", [], {})
                print("goes on", flush=True)
            def cleanup(self): print("cleaned up", flush=True)
        """,
    )
    ended = run_and_ask(job)

    assert (0, False, None) == (ended.returncode, ended.has_success_marker, ended.failure)
    assert "asked\ncleaned up\n" == ended.stdout


LASTING = """
    import os, sys, time
    from sagemaker_framework import SingleProcessStrategy, Trainer
    class Serving(SingleProcessStrategy):
        def start_servers(self, launch):
            if SERVES:
                code = "import signal; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w'); signal.pause()"
                served = os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "served")
                launch("server", [sys.executable, "-c", "import sys; " + code, served])
                while not os.path.exists(served): time.sleep(0.01)
        def close(self): print("closed", flush=True)
    class MyTrainer(Trainer):
        def strategy(self): return Serving(self.env)
        def cleanup(self):
            print("cleaning up", flush=True)
            time.sleep(SECONDS)
"""


@pytest.mark.parametrize(("serves", "seconds"), [(True, "0.1"), (True, "600"), (False, "600")])
def test_cleanup_and_close_are_called_when_the_grace_period_is_over(
    job: Job, tmp_path: Path, serves: bool, seconds: str
) -> None:
    """Neither a server nor `cleanup` can use up the time of what is always called; the outcome stays the program's."""
    job.program("""
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        print("ready", flush=True)
        while True: signal.pause()
        """)
    job.env.update(SAGEMAKER_FRAMEWORK_GRACE_SECONDS="0.5")
    trainer(job, tmp_path / "site", LASTING.replace("SERVES", str(serves)).replace("SECONDS", seconds))
    ended = run_and_ask(job)

    assert (7, False) == (ended.returncode, ended.has_success_marker)
    assert "cleaning up\nclosed\n" == ended.stdout
    assert (seconds == "600") == ("MyTrainer.cleanup did not end in time" in ended.stderr)
    assert "close did not end" not in ended.stderr


def test_cleanup_is_called_after_a_post_train_that_swallowed_the_end_of_the_grace_period(
    job: Job, tmp_path: Path
) -> None:
    """What `post_train` caught comes up again before `cleanup`, and costs it nothing: the job was stopped."""
    job.program("")
    job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "0.5"
    trainer(
        job,
        tmp_path / "site",
        """
        import time
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def post_train(self):
                print("ready", flush=True)
                try:
                    time.sleep(600)
                except BaseException:
                    pass
            def cleanup(self): print("cleaned up", flush=True)
        """,
    )
    ended = run_and_ask(job)

    assert (0, None, False) == (ended.returncode, ended.failure, ended.has_success_marker)
    assert "cleaned up\n" == ended.stdout


# -- before, and while the program runs --------------------------------------------------------------------------


def test_a_second_request_does_not_reach_the_program(job: Job) -> None:
    """The program is asked once; the log tells of the second request."""
    job.program("""
        import signal, sys, time
        asked = []
        def stop(*_):
            asked.append(1)
            print("asked", flush=True)
        signal.signal(signal.SIGTERM, stop)
        print("ready", flush=True)
        while not asked: signal.pause()
        sys.stdin.read()
        sys.exit(len(asked))
        """)
    process = job.start(stdin=subprocess.PIPE)
    read_until(process, "ready")
    process.terminate()
    read_until(process, "asked")
    process.terminate()
    assert process.stderr is not None
    assert any(b"SIGTERM came once more: the job is being stopped already" in line for line in process.stderr)
    ended = job.finish(process)

    assert (1, "the job was stopped by SIGTERM: train.py exited with code 1") == (ended.returncode, ended.cause)


def test_a_hook_that_swallows_the_request_does_not_keep_the_job(job: Job, tmp_path: Path) -> None:
    """What a hook catches by mistake comes up again when the hook has returned."""
    job.program("print('ran')")
    trainer(
        job,
        tmp_path / "site",
        """
        import time
        from sagemaker_framework import Trainer
        class MyTrainer(Trainer):
            def pre_train(self):
                print("ready", flush=True)
                try:
                    time.sleep(600)
                except BaseException:
                    pass
        """,
    )
    ended = run_and_ask(job)

    assert (143, "the job was stopped by SIGTERM before its program ran") == (ended.returncode, ended.cause)
    assert "" == ended.stdout


def test_a_strategy_that_cannot_pass_the_request_on(job: Job, tmp_path: Path) -> None:
    """An exception of `stop`, which a signal handler calls, fails the job and is named; the program is killed."""
    job.program(ENDS_WELL_WHEN_ASKED)
    job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "1"
    trainer(
        job,
        tmp_path / "site",
        """
        from sagemaker_framework import SingleProcessStrategy, Trainer
        class Broken(SingleProcessStrategy):
            def stop(self, process, signum): raise OSError("of no use")
        class MyTrainer(Trainer):
            def strategy(self): return Broken(self.env)
        """,
    )
    ended = run_and_ask(job)

    assert (1, "Broken.stop failed: OSError: of no use") == (ended.returncode, ended.cause)


# -- at any line -------------------------------------------------------------------------------------------------

#: The `train` command, which sends itself SIGTERM when so many lines of the package have run; writes how many do.
AT_A_LINE = """
import os, sys
moment, file = int(sys.argv[1]), sys.argv[2]
lines = 0
def trace(frame, event, arg):
    global lines
    if "sagemaker_framework" not in frame.f_code.co_filename:
        return None
    if event == "line":
        lines += 1
        if lines == moment:
            sys.settrace(None)  # The rest is quicker without.
            os.kill(os.getpid(), 15)
    return trace
from sagemaker_framework.cli import train_command
sys.settrace(trace)
code = train_command.run([])
sys.settrace(None)
open(file, "w").write(str(lines))
sys.exit(code)
"""
MOMENTS = 24


@pytest.mark.parametrize("exit_code", [0, 7])
def test_a_request_at_any_line(tmp_path: Path, exit_code: int) -> None:
    """Wherever in the launcher's own code the signal comes, the outcome is one of those that are documented."""

    def run(moment: int) -> Finished:
        job = Job(tmp_path / str(moment))
        job.program(f"raise SystemExit({exit_code})")
        return job.run([sys.executable, "-c", AT_A_LINE, str(moment), str(tmp_path / "lines")])

    assert UNCHANGED == outcome(run(0), exit_code)
    lines = int((tmp_path / "lines").read_text())
    moments = [*range(lines // MOMENTS, lines - 12, lines // MOMENTS), *range(lines - 12, lines + 1)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [
            (moment, ended) for moment, ended in zip(moments, pool.map(run, moments)) if not outcome(ended, exit_code)
        ]

    assert [] == [(moment, ended.returncode, ended.failure, ended.stderr) for moment, ended in wrong]


def test_the_signals_of_before_are_those_of_the_first_line() -> None:
    """Handlers are set in the first statement of the command: what comes before is the kernel's to decide."""
    code = (
        "import os, signal, sys\n"
        "from sagemaker_framework.cli import train_command\n"
        "first = []\n"
        "def trace(frame, event, arg):\n"
        "    if event == 'call' and not first and frame.f_code.co_name != 'run':\n"
        "        first.append(frame.f_code.co_name)\n"
        "sys.setprofile(trace)\n"
        "try: train_command.run(['--version'])\n"
        "except SystemExit: pass\n"
        "sys.setprofile(None)\n"
        "print(first, signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.endswith("['_note_requests_to_stop'] True\n")
    assert signal.SIGTERM == 15
