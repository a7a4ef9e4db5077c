"""Ranks, as mpirun and torchrun have them: the real wrapper, started by a launcher that is this test."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from sagemaker_framework import log
from sagemaker_framework.errors import FrameworkError
from sagemaker_framework.processes import rank_wrapper
from sagemaker_framework.processes.rank_server import RankResult, Ranks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="unix sockets that pass streams on")

#: Writes what it is to do as it starts, so that a test can wait for it.
BEGINS = "import os, signal, sys, time\nfrom pathlib import Path\n"
WAITS = f"{BEGINS}Path('begun').write_text(str(os.getpid()))\ntime.sleep(600)\n"


class Launched:
    """What a launcher has started: wrappers, on a host whose ranks run this program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ranks = Ranks(str(folder), "algo-1")
        self.failures: list[RankResult] = []
        self.wrappers: list[subprocess.Popen[bytes]] = []

    def serve(
        self, program: str, args: Sequence[str] = (), env: Mapping[str, str] | None = None, in_group: bool = False
    ) -> None:
        argv = [sys.executable, "-c", program, *args]
        self.ranks.serve("train.py", argv, env or {}, str(self.folder), in_group, self.failures.append)

    def start(self, count: int = 1, **env: str) -> None:
        for number in range(len(self.wrappers), len(self.wrappers) + count):
            variables = {"OMPI_COMM_WORLD_RANK": str(number), "OMPI_COMM_WORLD_SIZE": str(count), **env}
            self.wrappers.append(subprocess.Popen(self.ranks.command, env=variables))

    def finish(self) -> list[int]:
        """The exit codes of the wrappers, once all have ended."""
        codes = [wrapper.wait(30) for wrapper in self.wrappers]
        assert self.ranks.settle(30)
        return codes

    def begun(self) -> int:
        """The process ID of a rank that says so in a file; waits for it."""
        file = self.folder / "begun"
        waited = threading.Event()
        for _ in range(3000):
            if file.exists() and file.read_text():
                return int(file.read_text())
            waited.wait(0.01)
        raise AssertionError("the rank has not begun")

    def wait_until_gone(self, pid: int) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        import select

        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(10_000), f"process {pid} still runs"
        os.close(handle)


@pytest.fixture
def launched(tmp_path: Path) -> Iterator[Launched]:
    made = Launched(tmp_path)
    yield made
    made.ranks.close()
    for wrapper in made.wrappers:
        wrapper.kill()
        wrapper.wait()


# -- what a rank is started with -------------------------------------------------------------------


def test_a_rank_gets_its_arguments_and_variables_intact(launched: Launched) -> None:
    """Whatever is in them, and however long they are, they arrive; the launcher's variables are added to them."""
    args = ["", "a b", 'it\'s "$HOME"', "line 1\nline 2", "\udcff", "ü", "x" * 100_000]
    env = {"NOTE": "line 1\n=2", "EMPTY": "", "ODD": "\udcff", "RANK": "program's"}
    launched.serve(
        "import json, os, sys\njson.dump([sys.argv[1:], dict(os.environ), os.getcwd()], open('facts', 'w'))",
        args,
        env,
    )
    launched.start(RANK="0", PMIX_ID="7", SECRET="of the launcher")

    assert [0] == launched.finish()
    seen_args, seen_env, cwd = json.loads((launched.folder / "facts").read_text())
    assert args == seen_args
    assert {**env, "RANK": "0", "PMIX_ID": "7"} == {name: seen_env.get(name) for name in (*env, "PMIX_ID")}
    assert "SECRET" not in seen_env
    assert str(launched.folder) == cwd


def test_nothing_of_the_program_is_on_the_launchers_command_line(launched: Launched) -> None:
    """The command that a launcher starts names a socket, whatever is run."""
    before = launched.ranks.command
    launched.serve("pass", ["--password", "hunter2"], {"TOKEN": "hunter2"})

    assert before == launched.ranks.command
    assert launched.ranks.command[-1] == launched.ranks.address


def test_variables_that_are_too_long_are_in_a_file(launched: Launched) -> None:
    """As for any program, SM_ENV_FILE names it; it is gone when the ranks are."""
    program = (
        "import json, os\nprint(len(json.load(open(os.environ['SM_ENV_FILE']))['SM_LONG']), os.environ['SM_ENV_FILE'])"
    )
    launched.serve(f"import sys\nsys.stdout = open('facts', 'w')\n{program}", env={"SM_LONG": "x" * 200_000})
    launched.start()

    assert [0] == launched.finish()
    size, file = (launched.folder / "facts").read_text().split()
    assert "200000" == size
    assert os.path.exists(file)
    launched.ranks.close()
    assert not os.path.exists(file)


def test_the_wrapper_imports_little() -> None:
    """It is started once per rank, hundreds of times on some hosts: it has no module that takes long to import."""
    command = [sys.executable, "-I", "-S", "-X", "importtime", rank_wrapper.__file__, "/no/such/socket"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if "|" in line}

    assert {"socket", "threading"} <= imported
    assert not imported & {"site", "re", "json", "typing", "logging", "subprocess", "sagemaker_framework"}


def test_a_socket_that_is_not_there_is_named() -> None:
    """A wrapper that cannot reach its host's train process says where it looked."""
    command = [sys.executable, "-I", "-S", rank_wrapper.__file__, "/no/such/socket"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)

    assert 1 == ran.returncode
    assert ran.stderr.startswith("/no/such/socket: the train process of this host cannot be reached: No such file")


def test_a_folder_that_the_socket_does_not_fit_into_is_named(tmp_path: Path) -> None:
    """The kernel takes 108 bytes for the path of a socket: a longer one is an error that names it."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    ranks = Ranks(str(folder), "algo-1")
    with pytest.raises(FrameworkError, match=r"the socket for ranks cannot be made: .*x/ranks: AF_UNIX path too long"):
        ranks.serve("train.py", ["true"], {}, "/", False, lambda ended: None)
    ranks.close()


# -- what a rank writes ----------------------------------------------------------------------------


def test_each_line_names_its_rank_and_host(launched: Launched, capfd: pytest.CaptureFixture[str]) -> None:
    """Both streams keep apart; a last line without an end gets one."""
    launched.serve("import sys\nprint('one\\n\\ntwo', flush=True)\nsys.stderr.write('bad')")
    launched.start()

    assert [0] == launched.finish()
    assert ("[0,algo-1] one\n[0,algo-1] \n[0,algo-1] two\n", "[0,algo-1] bad\n") == capfd.readouterr()


def test_what_is_no_text_is_passed_on_as_it_is(launched: Launched, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Bytes are not decoded; carriage returns end a line too, so that progress bars show, and CRLF stays one end."""
    launched.serve("import os\nos.write(1, b'\\xff\\0\\r\\n 10%\\r 20%\\r'); os.write(1, b'\\ndone\\n')")
    launched.start()

    assert [0] == launched.finish()
    out = capfdbinary.readouterr().out
    assert b"[0,algo-1] \xff\0\r\n[0,algo-1]  10%\r[0,algo-1]  20%\r\n[0,algo-1] done\n" == out


def test_lines_of_many_ranks_stay_whole(launched: Launched, capfd: pytest.CaptureFixture[str]) -> None:
    """However long they are, and however many write at once."""
    launched.serve(
        "import os\n"
        "letter = 'abcd'[int(os.environ['OMPI_COMM_WORLD_RANK'])]\n"
        "for n in range(200): print(letter * (n * 97), flush=n % 7 == 0)"
    )
    launched.start(4)

    assert [0] * 4 == launched.finish()
    said = capfd.readouterr().out.splitlines()
    for number, letter in enumerate("abcd"):
        assert [line for line in said if line.startswith(f"[{number},")] == [
            f"[{number},algo-1] {letter * (n * 97)}" for n in range(200)
        ]
    assert 800 == len(said)


def test_the_launchers_own_lines_stay_whole_too(launched: Launched, capfd: pytest.CaptureFixture[str]) -> None:
    """What `train` logs waits until no rank is writing, unless that takes long."""
    launched.serve("pass")
    with open(f"{launched.ranks.address}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        logging = threading.Thread(target=log.error, args=["a line"])
        logging.start()
        logging.join(0.1)
        assert "" == capfd.readouterr().err
        fcntl.flock(lock, fcntl.LOCK_UN)
        logging.join()
        assert capfd.readouterr().err.endswith("a line\n")

        fcntl.flock(lock, fcntl.LOCK_EX)
        log.error("another")
        assert capfd.readouterr().err.endswith("another\n")


def test_a_line_is_not_held_back_for_long(launched: Launched, tmp_path: Path) -> None:
    """The beginning of a line shows although its end does not come."""
    reading, writing = os.pipe()
    saved = os.dup(1)
    os.dup2(writing, 1)
    try:
        launched.serve("import sys, time\nsys.stdout.write('are you sure? ')\nsys.stdout.flush()\ntime.sleep(600)")
        launched.start()
        assert b"[0,algo-1] are you sure? \n" == os.read(reading, 100)
    finally:
        os.dup2(saved, 1)
        for end in (saved, reading, writing):
            os.close(end)


def test_a_line_without_an_end_is_broken(launched: Launched, capfd: pytest.CaptureFixture[str]) -> None:
    """So that no memory is taken up by what has no lines at all."""
    launched.serve("print('x' * 1_000_000)")
    launched.start()

    assert [0] == launched.finish()
    lines = capfd.readouterr().out.splitlines()
    assert "x" * 1_000_000 == "".join(
        line.removeprefix("[0,algo-1] ") if sys.version_info > (3, 9) else line[11:] for line in lines
    )
    assert max(len(line) for line in lines) < 400_000


def test_what_a_rank_leaves_running_holds_nothing_up(launched: Launched, capfd: pytest.CaptureFixture[str]) -> None:
    """The end of the rank is the end of its output, although a process that it has started keeps the stream open."""
    launched.serve(
        "import subprocess, sys\n"
        "kept = subprocess.Popen(['sleep', '600'])\n"
        "open('begun', 'w').write(str(kept.pid))\n"
        "print('done')"
    )
    launched.start()

    assert [0] == launched.finish()
    assert "[0,algo-1] done\n" == capfd.readouterr().out
    os.kill(launched.begun(), signal.SIGKILL)


# -- how a rank ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "code", "cause"),
    [
        ("sys.exit(7)", 7, "algo-1, rank 0: train.py exited with code 7"),
        ("raise ValueError('no')", 1, "algo-1, rank 0: train.py exited with code 1: ValueError: no"),
        ("os.abort()", 134, "algo-1, rank 0: train.py was killed by signal 6 (SIGABRT)"),
    ],
    ids=["exits", "raises", "aborts"],
)
def test_a_rank_that_fails(launched: Launched, fault: str, code: int, cause: str) -> None:
    """The launcher sees a shell's exit code; the host is told the cause, with the rank."""
    launched.serve(f"{BEGINS}{fault}")
    launched.start()

    assert [code] == launched.finish()
    (failure,) = launched.failures
    error = failure.error("algo-1", "train.py")
    assert (cause, code) == (str(error), error.exit_code)


def test_each_failure_is_told(launched: Launched) -> None:
    """Of ranks that fail one after the other, the host hears of all, and when each ended."""
    launched.serve(
        f"{BEGINS}rank = int(os.environ['OMPI_COMM_WORLD_RANK'])\n"
        "while rank and not Path('first').exists(): time.sleep(0.01)\n"
        "sys.exit(3 + rank)"
    )
    launched.start(2)
    launched.wrappers[0].wait(30)
    (launched.folder / "first").touch()

    assert [3, 4] == launched.finish()
    assert [0, 1] == [failure.rank for failure in sorted(launched.failures, key=lambda failure: failure.ended_at)]
    assert {0: 3, 1: 4} == {ended.rank: ended.returncode for ended in launched.ranks.ended}
    assert 2 == launched.ranks.world_size


def test_a_program_that_cannot_be_started(launched: Launched) -> None:
    """The failure names what is not there."""
    launched.ranks.serve("train.py", ["/no/such/python"], {}, "/", False, launched.failures.append)
    launched.start()

    assert [127] == launched.finish()
    error = launched.failures[0].error("algo-1", "train.py")
    assert "it cannot be started: /no/such/python: No such file or directory" in str(error)


def test_the_exception_that_torch_has_recorded(launched: Launched) -> None:
    """What torch's @record has written says more than stderr, which the program may have closed."""
    recorded = {
        "message": {
            "message": "KeyError: 'lr'",
            "extraInfo": {"py_callstack": "Traceback (most recent call last):\n  x\nKeyError: 'lr'\n"},
        }
    }
    launched.serve(
        f"import os\nopen(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write({json.dumps(recorded)!r})\nos._exit(1)"
    )
    launched.start(TORCHELASTIC_ERROR_FILE=str(launched.folder / "error.json"))

    assert [1] == launched.finish()
    assert str(launched.failures[0].error("algo-1", "train.py")).endswith("exited with code 1: KeyError: 'lr'")


def test_a_killed_rank(launched: Launched) -> None:
    """A rank that somebody kills has failed."""
    launched.serve(WAITS)
    launched.start()
    os.kill(launched.begun(), signal.SIGKILL)

    assert [128 + signal.SIGKILL] == launched.finish()
    assert [-signal.SIGKILL] == [failure.returncode for failure in launched.failures]


def test_a_killed_wrapper(launched: Launched) -> None:
    """The process between a rank and its host takes the rank with it, and that is a failure too."""
    launched.serve(WAITS)
    launched.start()
    pid = launched.begun()
    (keeper,) = [int(line) for line in Path(f"/proc/{pid}/stat").read_text().split(") ")[1].split()[1:2]]
    os.kill(keeper, signal.SIGKILL)
    launched.finish()

    launched.wait_until_gone(pid)
    assert [-signal.SIGKILL] == [failure.returncode for failure in launched.failures]


# -- who may end a rank ----------------------------------------------------------------------------


def test_the_launchers_signals_reach_the_rank(launched: Launched) -> None:
    """What the launcher ends, because another rank has failed, is no failure of its own."""
    launched.serve(
        f"{BEGINS}signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\nPath('begun').write_text('1')\ntime.sleep(600)"
    )
    launched.start()
    launched.begun()
    launched.wrappers[0].terminate()

    assert [5] == launched.finish()
    assert [True] == [ended.asked_at > 0 for ended in launched.ranks.ended]
    assert [] == launched.failures


def test_a_launcher_that_kills(launched: Launched) -> None:
    """What the launcher kills is killed, with all of its group, although it is asked to stop first."""
    launched.serve(
        f"{BEGINS}import subprocess\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "helper = subprocess.Popen(['sleep', '600'])\n"
        "Path('begun').write_text(str(helper.pid))\n"
        "time.sleep(600)"
    )
    launched.start()
    helper = launched.begun()
    launched.wrappers[0].terminate()
    launched.wrappers[0].kill()
    launched.finish()

    launched.wait_until_gone(helper)
    assert [(-signal.SIGKILL, True)] == [(ended.returncode, ended.asked_at > 0) for ended in launched.ranks.ended]
    assert [] == launched.failures


SAVES = f"""{BEGINS}
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
Path('begun').write_text('1')
while not asked: time.sleep(0.01)
Path('saving').touch()
while not Path('go').exists(): time.sleep(0.01)
print('asked', len(asked))
"""


def test_the_host_alone_ends_a_rank_that_it_stops(launched: Launched, capfd: pytest.CaptureFixture[str]) -> None:
    """Once the job is stopped, a launcher that asks again, or kills, takes no time from a rank that saves."""
    launched.serve(SAVES)
    launched.start()
    launched.begun()
    launched.ranks.signal(signal.SIGTERM)
    while not (launched.folder / "saving").exists():
        threading.Event().wait(0.01)
    launched.wrappers[0].terminate()
    launched.wrappers[0].kill()
    launched.wrappers[0].wait()
    (launched.folder / "go").touch()

    assert launched.ranks.settle(30)
    assert [(0, True)] == [(ended.returncode, ended.asked_at > 0) for ended in launched.ranks.ended]
    assert "[0,algo-1] asked 1\n" == capfd.readouterr().out


def test_no_rank_starts_once_the_job_is_stopped(launched: Launched) -> None:
    """What a launcher starts again then ends at once."""
    launched.serve("open('begun', 'w')")
    launched.ranks.signal(signal.SIGTERM)
    launched.start()

    assert [128 + signal.SIGTERM] == launched.finish()
    assert not (launched.folder / "begun").exists()
    assert [] == launched.ranks.ended


def test_a_signal_for_the_whole_group(launched: Launched) -> None:
    """Where the program is a shell, which passes no signal on, what it runs gets them too."""
    launched.ranks.serve(
        "train.sh", ["sh", "-c", "sleep 600 & echo $! > begun; wait"], {"PATH": os.environ["PATH"]},
        str(launched.folder), True, launched.failures.append,
    )  # fmt: skip
    launched.start()
    helper = launched.begun()
    launched.ranks.signal(signal.SIGTERM)

    launched.finish()
    launched.wait_until_gone(helper)


def test_ranks_end_with_their_host(launched: Launched) -> None:
    """A rank that ignores all it is asked is killed when its host is done."""
    launched.serve(WAITS.replace("\nPath", "\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nPath"))
    launched.start()
    pid = launched.begun()
    launched.ranks.signal(signal.SIGTERM)
    assert not launched.ranks.settle(0.1)
    launched.ranks.close()

    launched.wait_until_gone(pid)


def test_idleness_is_told(launched: Launched) -> None:
    """Whoever waits for the ranks learns when the last one has ended, each time."""
    idle = threading.Semaphore(0)
    launched.ranks.on_idle = idle.release
    launched.serve("pass")
    for _ in range(2):
        launched.start()
        launched.finish()
        assert idle.acquire(timeout=10)
    assert 0 == launched.ranks.running
