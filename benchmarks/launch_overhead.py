"""What `train` costs a program that only prints: wall time, memory, processes, modules.

Time: the installed `train` command against its baseline, `python script.py` by the same interpreter. Both are run
in turn, so that whatever else the machine does meets both; the medians are compared. The job's code is in the code
folder already, and its requirements are none.

Memory: the peak of the launcher's own resident set, VmHWM of /proc/self/status, read by the launcher itself as its
last act. What wait4() tells of a child would not do: it includes the children of that child, here the program, and
the size that the process had before it called exec.

Processes: an audit hook in the launcher sees every fork, exec and spawn before it happens. The program has to be
the only one.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

from job import Job

SCRIPT = "print('hello')\n"

#: Runs a command of Python's in this process, as its own first line would, and tells what the process did.
OBSERVER = """
import atexit, os, sys
report, command = sys.argv[1:]
sys.argv[:], sys.path[0] = [command], os.path.dirname(command)
started = []
kinds = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system", "pty.spawn")
sys.addaudithook(lambda event, args: started.append((event, str(args[1:2]))) if event in kinds else None)

@atexit.register
def tell():
    modules = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    import json
    with open(report, "w") as file:
        json.dump({"peak_kib": peak, "started": started, "modules": modules}, file)

exec(compile(open(command).read(), command, "exec"), {"__name__": "__main__"})
"""


def run(command: list[str], job: Job) -> float:
    """Run a command.  How many seconds it took, from before its start until it has been waited for."""
    begun = time.perf_counter()
    ended = subprocess.run(command, env=job.environment, capture_output=True, text=True)
    taken = time.perf_counter() - begun
    if ended.returncode:
        sys.exit(f"{shlex.join(command)} exited with code {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return taken


def observe(command: str, job: Job) -> dict[str, Any]:
    """What the process of a Python command did: its peak memory, the processes it started, the modules it loaded."""
    with tempfile.NamedTemporaryFile() as report:
        run([sys.executable, "-c", OBSERVER, report.name, command], job)
        return json.load(report)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21, metavar="N", help="of each command; 21 if not given")
    parser.add_argument("--max-ratio", type=float, default=float("inf"), help="fail beyond this ratio of wall times")
    parser.add_argument("--max-mib", type=float, default=float("inf"), help="fail beyond this peak of memory")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as base:
        job = Job(base, SCRIPT)
        for command in (job.bare, job.train):  # Once unmeasured: the first run compiles modules and fills caches.
            run(command, job)
        times = [(run(job.bare, job), run(job.train, job)) for _ in range(arguments.runs)]
        bare, launcher = observe(str(job.script), job), observe(job.train[0], job)

    bare_time, train_time = (median(column) for column in zip(*times))
    ratio, mib = train_time / bare_time, launcher["peak_kib"] / 1024
    helpers = [event for event in launcher["started"] if "script.py" not in event[1]]
    added = {name: file for name, file in launcher["modules"].items() if name not in bare["modules"]}
    installed = {name.partition(".")[0] for name, file in added.items() if "site-packages" in file}

    print(f"Python {sys.version.split()[0]}, {arguments.runs} runs of each in turn")
    print(f"python script.py    median {bare_time * 1000:.1f} ms")
    print(f"train               median {train_time * 1000:.1f} ms, {ratio:.2f} times as long")
    print(f"launcher's peak     {mib:.1f} MiB (bare Python: {bare['peak_kib'] / 1024:.1f} MiB)")
    print(f"processes started   {len(helpers)} besides the program {helpers or ''}")
    sources = ", ".join([*sorted(installed), "the standard library"])
    print(f"modules loaded      {len(launcher['modules'])} (bare Python: {len(bare['modules'])}), from {sources}")

    failures = {
        f"the ratio is above {arguments.max_ratio:g}": ratio > arguments.max_ratio,
        f"the launcher's peak is above {arguments.max_mib:g} MiB": mib > arguments.max_mib,
        "other processes than the program were started": len(launcher["started"]) != 1 or helpers,
    }
    for failure in filter(failures.get, failures):
        print(f"FAILED: {failure}", file=sys.stderr)
    return int(any(failures.values()))


if __name__ == "__main__":
    sys.exit(main())
