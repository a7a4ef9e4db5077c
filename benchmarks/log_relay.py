"""How fast `train` passes on what a program prints.

A script prints 1,000,000 lines, unbuffered (PYTHONUNBUFFERED=1), into a pipe that `cat` reads. The baseline is the
same script with the same buffering and the same pipe, run by the same interpreter without us. A round runs all
pipelines in turn; the medians over the rounds are compared. The time is that of the whole pipeline, from the first
start to the last end, so that starting up counts too.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from statistics import median

from job import Job

SCRIPT = """
import os, sys
stream = getattr(sys, os.environ["STREAM"])
print(os.environ["FIRST_LINE"], file=stream)
for number in range(1, {lines}):
    print("epoch", number, "loss 0.25", sep=" ", file=stream)
"""

#: name: (the stream that the script prints to, what a shell would make of the streams, the first line)
VARIANTS = {
    "stdout": ("stdout", "| cat", "epoch 0 loss 0.25"),
    "stdout, an exception named first": ("stdout", "| cat", "ValueError: no failure, only a line of the log"),
    "stdout, merged with stderr": ("stdout", "2>&1 | cat", "epoch 0 loss 0.25"),
    "stderr": ("stderr", "2>&1 >/dev/null | cat", "epoch 0 loss 0.25"),
}


def seconds(command: list[str], job: Job, variant: tuple[str, str, str]) -> float:
    """How long a pipeline of the command and `cat` takes."""
    stream, pipeline, first_line = variant
    environment = {**job.environment, "STREAM": stream, "FIRST_LINE": first_line}
    begun = time.perf_counter()
    ended = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {pipeline} >/dev/null', "bash", *command],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    taken = time.perf_counter() - begun
    if ended.returncode:
        sys.exit(f"{shlex.join(command)} {pipeline} exited with code {ended.returncode}:\n{ended.stderr}")
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000, help="that the script prints; 1,000,000 if not given")
    parser.add_argument("--rounds", type=int, default=3, help="3 if not given")
    parser.add_argument("--min-ratio", type=float, default=0.0, help="fail if lines on stdout are slower than this")
    arguments = parser.parse_args()

    failed = False
    print(f"Python {sys.version.split()[0]}, {arguments.lines:,} lines, {arguments.rounds} rounds; lines/s")
    print(f"{'':34}{'bare':>11}{'train':>11}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as base:
        job = Job(base, SCRIPT.format(lines=arguments.lines))
        for name, variant in VARIANTS.items():
            rounds = [
                (seconds(job.bare, job, variant), seconds(job.train, job, variant)) for _ in range(arguments.rounds)
            ]
            bare, train = (arguments.lines / median(column) for column in zip(*rounds))
            ratio = train / bare
            failed |= name.startswith("stdout") and ratio < arguments.min_ratio
            print(f"{name:34}{bare:>11,.0f}{train:>11,.0f}{ratio:>8.2f}", flush=True)
    if failed:
        print(f"FAILED: a ratio on stdout is below {arguments.min_ratio:g}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
