"""Asks jobs to stop at moments all over their lives, and checks that what they then say agrees, as `make sweep` does.

A no-op job that succeeds, and one that fails with exit code 7, get SIGTERM at so many moments: half of them spread from
the start on, half from the end of the program until that of `train`. So do jobs on three hosts, one host after the
other, 0 to 90 ms apart. Exit code, success files and failure file have to agree with one outcome of docs/exit.md, and
no host may say that the job has succeeded while another says that it has not. Signals that come before `train` has set
its handlers are counted apart: they are the kernel's.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from cluster import SHARED, Cluster
from jobs import TRAIN, Finished, Job

from sagemaker_framework.errors import HostsError
from sagemaker_framework.local.backends.namespace.hosts import Hosts

#: Outcomes, of which the first is that of a job that nobody has asked to stop, or too late.
UNCHANGED = "as if nobody had asked"
ENDED_WELL = "stopped: 0, no file"
KILLED = "stopped: 143, failure file"
FAILED = "stopped: the program's code, failure file"
FAILED_ELSEWHERE = "failed: the code of another host"
DIED = "died of the signal, no file"

#: What a process does with SIGTERM, by its masks in /proc: before `train` has begun, then, when its verdict is known.
DEFAULT, CAUGHT, IGNORED, GONE = "default", "caught", "ignored", "gone"

WORD = b"done\n"
LONGEST_GAP = 0.09  # seconds between the signals to two hosts
AS_PID_1 = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", *TRAIN]


def outcome(ended: Finished, exit_code: int) -> str | None:
    """The outcome of docs/exit.md that a job has come to; None where what it says does not agree.

    Args:
        ended: how `train` ended.
        exit_code: what the program exits with when it is not asked to stop.
    """
    has_failed, cause, code = ended.failure is not None, ended.cause, ended.returncode
    if ended.has_success_marker:
        return UNCHANGED if (ended.succeeded, has_failed, code, exit_code) == (True, False, 0, 0) else None
    if not has_failed:
        return {0: ENDED_WELL, -signal.SIGTERM: DIED}.get(code)
    if "stopped by SIGTERM" in cause:
        return {143: KILLED, exit_code or 143: FAILED if exit_code else KILLED}.get(code)
    if exit_code and code == exit_code and f"train.py exited with code {exit_code}" in cause:
        return UNCHANGED
    return FAILED_ELSEWHERE if exit_code and code == 143 and "killed by signal 15" in cause else None


class Sent(NamedTuple):
    """A signal that was sent.

    Attributes:
        at: after how many seconds.
        state: what the process did with it then.
        is_early: whether the program cannot have ended before.
    """

    at: float
    state: str
    is_early: bool


class Disagreement(NamedTuple):
    """A run in which what was said does not agree."""

    what: str
    log: str


def state(pid: int | None) -> str:
    """What a process does with SIGTERM at this moment."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return GONE
    masks = {
        name: int(value, 16)
        for name, _, value in (line.partition(":\t") for line in lines)
        if name[:3] == "Sig" and name != "SigQ"
    }
    bit = 1 << (signal.SIGTERM - 1)
    if not masks.get("SigCgt", 0) | masks.get("SigIgn", 0):
        return GONE if any(line.startswith("State:\tZ") for line in lines) else DEFAULT
    return CAUGHT if masks["SigCgt"] & bit else IGNORED if masks["SigIgn"] & bit else DEFAULT


def child(pid: int) -> int | None:
    """The process that `unshare` has made, once it has."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    except (OSError, IndexError):
        return None


def judge(ended: Finished, exit_code: int, sent: Sent, is_pid_1: bool) -> str | None:
    """The outcome, if it is one that a signal at that moment may have."""
    found = outcome(ended, exit_code)
    if found == DIED and (sent.state != DEFAULT or is_pid_1):
        return None
    if found == UNCHANGED and sent.is_early and sent.state != DEFAULT:
        return None
    return found


# -- one host ----------------------------------------------------------------------------------------------------


def make_job(folder: str, exit_code: int) -> Job:
    """A job whose program says a word, and ends."""
    job = Job(Path(folder, "ml"))
    job.program(f"import os\nos.write(1, {WORD!r})\nos._exit({exit_code})\n")
    return job


def run_one(exit_code: int, is_pid_1: bool, moment: Moment | None) -> tuple[Finished, Sent | None, tuple[float, float]]:
    """Run a job, and ask it to stop at a moment.

    Returns:
        How it ended; the signal, if the job was still there for it; when the program and when `train` had ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(folder, exit_code)
        begun = time.monotonic()
        process = job.start(AS_PID_1 if is_pid_1 else TRAIN)
        assert process.stdout is not None
        if moment is None:
            process.stdout.read(1)
            word = time.monotonic() - begun
            return job.finish(process), None, (word, time.monotonic() - begun)
        if moment.is_from_word:
            select.select([process.stdout], [], [])
        time.sleep(moment.delay)
        pid = child(process.pid) if is_pid_1 else process.pid
        before = state(pid)
        sent = None
        if pid is not None and before != GONE:
            os.kill(pid, signal.SIGTERM)
            is_early = not select.select([process.stdout], [], [], 0)[0]
            sent = Sent(time.monotonic() - begun, before, is_early)
        return job.finish(process), sent, (0.0, 0.0)


class Moment(NamedTuple):
    """When to send a signal: so many seconds after the start, or after the program's last word."""

    delay: float
    is_from_word: bool


def moments(count: int, word: float, end: float) -> list[Moment]:
    """So many moments: half from the start to the end, half from the program's last word to the end of `train`."""
    early = count // 2
    late = count - early
    return [Moment(end * at / early, False) for at in range(early)] + [
        Moment((end - word) * 1.2 * at / late, True) for at in range(late)
    ]


def sweep_one(exit_code: int, is_pid_1: bool, count: int) -> Iterator[tuple[str, Disagreement | None]]:
    """Sweep jobs on one host; yield the outcome of each run, and what does not agree."""
    times = [run_one(exit_code, is_pid_1, None)[2] for _ in range(5)]
    word, end = (sorted(each)[2] for each in zip(*times))

    def run(moment: Moment) -> tuple[str, Disagreement | None]:
        ended, sent, _ = run_one(exit_code, is_pid_1, moment)
        if sent is None:
            return "had ended before", None
        found = judge(ended, exit_code, sent, is_pid_1)
        if found is not None:
            return f"{'before its first line: ' if sent.state == DEFAULT else ''}{found}", None
        return "DISAGREES", Disagreement(f"{moment}, {sent}: {describe(ended)}", ended.stderr)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(run, moments(count, word, end))


def describe(ended: Finished) -> str:
    """What a host has said."""
    return f"exit code {ended.returncode}, success {ended.has_success_marker}, failure {ended.cause or None!r}"


# -- three hosts -------------------------------------------------------------------------------------------------


def run_hosts(hosts: Hosts, exit_code: int, moment: Moment | None, gap: float) -> HostsRun:
    """Run a job on hosts, and ask them to stop, one `gap` seconds after the other."""
    for host in hosts:
        for left in host.path("/opt/ml").glob("*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    with ExitStack() as stack:
        job = Cluster(hosts)
        stack.callback(job.close)
        job.program(f"import os\nos.write(1, {WORD!r})\nos._exit({exit_code})\n")
        begun = time.monotonic()
        job.start()
        if moment is None or moment.is_from_word:
            job.expect_any(WORD.decode())
        word = time.monotonic() - begun
        sent: dict[str, Sent] = {}
        if moment is not None:
            time.sleep(moment.delay)
            for at, name in enumerate(job.names):
                time.sleep(gap if at else 0)
                process = job[name].process
                assert process is not None
                before = state(process.pid)
                if before != GONE:
                    os.kill(process.pid, signal.SIGTERM)
                    sent[name] = Sent(time.monotonic() - begun, before, False)
        ended = job.finish(120)
    return HostsRun(dict(ended), sent, (word, max(each.at for each in ended.values()) - begun))


class HostsRun(NamedTuple):
    """How a job on several hosts ended."""

    ended: Mapping[str, Finished]
    sent: Mapping[str, Sent]
    times: tuple[float, float]


def judge_hosts(run: HostsRun, exit_code: int) -> str | None:
    """The outcomes of all hosts, if they agree."""
    found = []
    for name, ended in run.ended.items():
        sent = run.sent.get(name)
        each = outcome(ended, exit_code)
        if each is None or (each == DIED and (sent is None or sent.state != DEFAULT)):
            return None
        found.append(each)
    if exit_code == 0 and UNCHANGED in found and set(found) != {UNCHANGED}:
        return None
    return "; ".join(f"{count} x {each}" for each, count in sorted(Counter(found).items()))


def sweep_hosts(hosts: Hosts, exit_code: int, count: int) -> Iterator[tuple[str, Disagreement | None]]:
    """Sweep jobs on hosts, likewise."""
    times = [run_hosts(hosts, exit_code, None, 0).times for _ in range(3)]
    word, end = (sorted(each)[1] for each in zip(*times))
    for at, moment in enumerate(moments(count, word, end)):
        gap = LONGEST_GAP * (at % 7) / 6
        run = run_hosts(hosts, exit_code, moment, gap)
        if not run.sent:
            yield "had ended before", None
            continue
        found = judge_hosts(run, exit_code)
        if found is not None:
            before = any(each.state == DEFAULT for each in run.sent.values())
            yield f"{'before a first line: ' if before else ''}{found}", None
            continue
        said = "; ".join(f"{name}: {describe(ended)}" for name, ended in run.ended.items())
        logs = "\n".join(f"--- {name}\n{ended.stderr}" for name, ended in run.ended.items())
        yield "DISAGREES", Disagreement(f"{moment}, {gap:.3f} s apart, {json.dumps(run.sent)}: {said}", logs)


# -- the command -------------------------------------------------------------------------------------------------


def show(name: str, runs: Iterator[tuple[str, Disagreement | None]]) -> int:
    """Print a table of outcomes, and each disagreement; return how many there were."""
    begun = time.monotonic()
    found: Counter[str] = Counter()
    wrong = []
    for each, disagreement in runs:
        found[each] += 1
        if disagreement is not None:
            wrong.append(disagreement)
    lines = [f"== {name}: {sum(found.values())} moments in {time.monotonic() - begun:.0f} s"]
    lines += [f"{count:6}  {each}" for each, count in found.most_common()]
    lines += [f"-- {what}\n{log}" for what, log in wrong]
    print("\n".join(lines), flush=True)
    return len(wrong)


def on_one_host(count: int) -> int:
    """Sweep jobs on one host; return how many disagree."""
    wrong = 0
    for is_pid_1 in (False, True) if os.geteuid() == 0 else (False,):
        for exit_code in (0, 7):
            name = f"exit code {exit_code}{', as PID 1' if is_pid_1 else ''}"
            wrong += show(name, sweep_one(exit_code, is_pid_1, count))
    return wrong


def on_hosts(exit_code: int, count: int) -> int:
    """Sweep jobs on three hosts, where hosts can be made; return how many disagree."""
    name = f"exit code {exit_code}, on three hosts"
    try:
        with Hosts(3, share=SHARED) as hosts:
            return show(name, sweep_hosts(hosts, exit_code, count))
    except HostsError as error:
        if not error.forbidden:
            raise
        print(f"== {name}: left out: {error}")
        return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=40, help="for each kind of job")
    parser.add_argument("--only", choices=("one", "hosts"), help="jobs on one host, or on three")
    arguments = parser.parse_args()
    wrong = 0
    if arguments.only != "hosts":
        wrong += on_one_host(arguments.moments)
        if os.geteuid() != 0:
            print("== as PID 1: left out: takes root")
    if arguments.only != "one":
        # Jobs on several hosts wait more than they compute.
        with ProcessPoolExecutor(2) as pool:
            wrong += sum(pool.map(on_hosts, (0, 7), [arguments.moments] * 2))
    print(f"{wrong} disagree")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
