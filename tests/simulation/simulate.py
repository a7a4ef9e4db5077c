"""Simulates jobs on several hosts, and checks that they end as they should: `make simulate SEEDS=100000`.

A seed stands for one job, with all that goes wrong in it. Of one that ends otherwise than it should, the timeline is
printed, and the command that repeats it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__" and "--mutant" in sys.argv:  # Before the protocol is loaded.
    import mutants

    mutants.install(sys.argv[sys.argv.index("--mutant") + 1])

from faults import FAULTS, named
from invariants import Outcome, violations
from scenario import Job

#: What many seeds together have to cover.
EXPECTED = [
    *(f"end: {end}" for end in ("success", "stopped", "failed", "no word of the leader")),
    *(f"size: {size} hosts" for size in ("2", "3 to 8", "9 to 64")),
    *(f"fault: {named(fault)}" for fault in FAULTS),
]

CHUNK = 250  # seeds that a process is given at a time


def check(seed: int, tells: bool = False) -> tuple[list[str], Job]:
    """Simulate one job; return what should not be so, and the job."""
    job = Job(seed, tells)
    try:
        job.run()
        return violations(job), job
    except Exception as error:
        if tells:
            job.world.timeline.append(f"{type(error).__name__}: {error}")
        return [f"the simulation breaks off: {type(error).__name__}: {error}"], job


def told(seed: int) -> str:
    """Return the timeline of a job, what should not be so, and how to see that again."""
    wrong, job = check(seed, tells=True)
    hosts = [f"            {host.name:8} {host.report or 'no report'}" for host in job.hosts]
    again = f"\nrepeat it with: make simulate SEED={seed}"
    covers = f"seed {seed}: {len(job.hosts)} hosts, {', '.join(map(named, job.faults)) or 'no faults'}"
    return "\n".join([covers, *job.world.timeline, "", *hosts, "", *(wrong or ["all is as it should be"]), again])


def covered(job: Job) -> Iterable[str]:
    """Return what a job is an instance of."""
    seen = Outcome(job)
    yield f"end: {seen.word or 'no word of the leader'}"
    yield from (f"fault: {named(fault)}" for fault in job.faults)
    size = len(job.hosts)
    yield f"size: {'2' if size == 2 else '3 to 8' if size < 9 else '9 to 64'} hosts"
    yield f"hosts that can talk: {'all' if all(map(seen.can_talk, job.hosts)) else 'some'}"
    yield from {f"a host reports: {host.report.outcome}" for host in job.hosts if host.report}
    yield from {f"leader: {type(it).__name__}" for _, it in seen.log}


def simulate(seeds: Iterable[int]) -> tuple[list[int], Counter[str]]:
    """Simulate many jobs; return the seeds of those that end as they should not, and what was covered."""
    failed, counts = [], Counter[str]()
    for seed in seeds:
        wrong, job = check(seed)
        counts.update(covered(job))
        if wrong:
            failed.append(seed)
    return failed, counts


def main() -> int:
    """Simulate what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="one job, whose timeline is printed")
    parser.add_argument("--seeds", type=int, default=10_000, help="so many jobs")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--mutant", help="with the protocol changed as a file in mutants/ says; until the first find")
    args = parser.parse_args()
    if args.seed is not None:
        print(told(args.seed))
        return bool(check(args.seed)[0])
    if args.mutant:
        found = next((seed for seed in range(args.first, args.first + args.seeds) if check(seed)[0]), None)
        print("not found" if found is None else f"found by seed {found}: {check(found)[0][0]}")
        return found is not None
    return simulate_all(range(args.first, args.first + args.seeds), args.processes)


def simulate_all(seeds: range, processes: int) -> int:
    """Simulate on several processors, and print what was found and covered."""
    begun, failed, counts = time.monotonic(), [], Counter[str]()
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes) as pool:
        for wrong, covered_here in pool.map(simulate, chunks):
            failed += wrong
            counts += covered_here
    seconds = time.monotonic() - begun
    for name, count in sorted(counts.items()):
        print(f"{count:9,}  {name}")
    pace = f"{seconds:.1f} s, {len(seeds) / seconds:.0f} seeds/s"
    print(f"{len(seeds):,} jobs in {pace}: {len(failed) or 'none'} ended otherwise than it should")
    for seed in failed[:3]:
        print(f"\n{told(seed)}")
    if failed:
        print(f"\nseeds: {' '.join(map(str, failed[:50]))}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
