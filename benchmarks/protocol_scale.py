"""What deciding costs the leader of 10,000 hosts, for each of them, compared with 1,000: CPU time and memory.

The real `LeaderState` (cluster/protocol.py) in one process, without sockets: jobs that succeed, fail, lose all their
hosts, and are stopped. Both sizes are measured in turns, and the medians compared.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable

from sagemaker_framework import timing
from sagemaker_framework.cluster.events import (
    Acknowledged,
    Arrived,
    Closing,
    Connected,
    Disconnected,
    Event,
    Failed,
    Heard,
    Left,
    StopRequested,
    Tick,
)
from sagemaker_framework.cluster.protocol import LeaderState
from sagemaker_framework.failures import CONSEQUENCE, Failure

SMALL, LARGE = 1_000, 10_000
IDLE = 60.0  # seconds of training, in which hosts give signs of life


class Job:
    """A leader that hears of so many hosts."""

    def __init__(self, count: int) -> None:
        self.hosts = [f"algo-{place + 1}" for place in range(count)]
        self.followers = self.hosts[1:]
        self.state = LeaderState(self.hosts, self.hosts[0], timeout=900)
        self.now = 0.0

    def hear(self, event: Event) -> None:
        """Handle an event."""
        self.state.handle(event, self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, with its ticks, and with signs of life."""
        for turn in range(int(seconds / timing.BEAT) + 1):
            for host in self.followers if turn else ():
                self.hear(Heard(host))
            for _ in range(6):
                self.now += timing.BEAT / 6
                self.hear(Tick())

    def begin(self) -> None:
        """Have all hosts connect, get ready, and train for a while."""
        for host in self.followers:
            self.hear(Connected(host))
            self.hear(Heard(host))
        self.arrive("ready", "serving")
        self.wait(IDLE)

    def arrive(self, *phases: str) -> None:
        """Have all hosts come to phases."""
        for phase in phases:
            for host in self.hosts:
                sent = None if host == self.hosts[0] else self.now
                self.hear(Arrived(host, phase, {"completes_job": True}, sent))

    def leave(self) -> None:
        """Have all hosts say goodbye, and the leader close."""
        for host in self.followers:
            self.hear(Left(host))
        self.hear(Closing())
        self.wait(timing.FAREWELL)


def succeed(job: Job) -> None:
    """All programs end well."""
    job.arrive("ended", "done")
    job.leave()


def fail(job: Job) -> None:
    """A host fails, and all others because of it."""
    for place, host in enumerate(job.hosts):
        failure = Failure(host, f"{host} fails", raised_at=job.now, kind=CONSEQUENCE if place else "cause")
        job.hear(Failed(host, failure, job.now if place else None))
    job.wait(timing.WINDOW)
    job.leave()


def lose(job: Job) -> None:
    """The connections of all hosts are closed."""
    for host in job.followers:
        job.hear(Disconnected(host, "went away"))
    job.wait(timing.WINDOW)
    job.hear(Closing())
    job.wait(timing.LATECOMERS)


def stop(job: Job) -> None:
    """All hosts are asked to stop; half of the programs end well, in a mixed order."""
    for host in job.hosts:
        job.hear(StopRequested(host, 15))
    for place, host in enumerate(job.followers):
        job.hear(Acknowledged(host))
        job.hear(Arrived(host, "ended", {}, job.now) if place % 2 else Left(host))
    job.leave()


def run(end: Callable[[Job], None], count: int) -> None:
    """Run a job of so many hosts."""
    job = Job(count)
    job.begin()
    end(job)


def cpu(end: Callable[[Job], None], count: int, jobs: int) -> float:
    """Return the microseconds of CPU time that a host takes."""
    gc.collect()
    begun = time.process_time()
    for _ in range(jobs):
        run(end, count)
    return (time.process_time() - begun) / (count * jobs) * 1e6


def memory(end: Callable[[Job], None], count: int) -> float:
    """Return the bytes of memory that a host takes, at most."""
    tracemalloc.start()
    run(end, count)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / count


def main() -> int:
    """Measure; fail if a host of many takes more than one of few by more than the ratio that is allowed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--max-ratio", type=float, default=1.3)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    worst = 0.0
    for end in (succeed, fail, lose, stop):
        few, many = [], []
        for _ in range(args.runs):
            few.append(cpu(end, SMALL, LARGE // SMALL))
            many.append(cpu(end, LARGE, 1))
        for unit, small, large in (
            ("us of CPU", statistics.median(few), statistics.median(many)),
            ("bytes", memory(end, SMALL), memory(end, LARGE)),
        ):
            worst = max(worst, large / small)
            figures = f"{small:8.1f} {unit} a host of {SMALL:,}, {large:8.1f} of {LARGE:,}"
            print(f"{end.__name__:8} {figures}: {large / small:.2f}")
    print(f"{worst:.2f} at most, {args.max_ratio:g} allowed")
    return worst > args.max_ratio


if __name__ == "__main__":
    sys.exit(main())
