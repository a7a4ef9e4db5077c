"""LauncherStrategy with a launcher of an image's own: which of its ranks' failures is the job's."""

from __future__ import annotations

from pathlib import Path

from jobs import Finished, Job

CONTAINER = """
import shutil, sys, tempfile
from sagemaker_framework import LauncherStrategy, Trainer

#: Starts two ranks, and waits for both, however they end; says when the second has.
LAUNCHER = '''
import os, subprocess, sys
ranks = [subprocess.Popen(sys.argv[1:], env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}) for rank in range(2)]
second = ranks[1].wait()
open("second has ended", "w").close()
sys.exit(max(second, ranks[0].wait()))
'''

class Two(LauncherStrategy):
    launcher = "two"

    def command(self, entry_point, args):
        self.folder = tempfile.mkdtemp()
        return [sys.executable, "-c", LAUNCHER, *self.ranks(self.folder, entry_point, args).command]

    def is_secondary(self, rank):
        return rank.returncode == 14

    def close(self):
        super().close()
        shutil.rmtree(self.folder)

class MyTrainer(Trainer):
    def strategy(self):
        return Two(self.env)
"""


def run(job: Job, folder: Path, program: str) -> Finished:
    (folder / "container.py").write_text(CONTAINER)
    job.env.update(PYTHONPATH=str(folder), SAGEMAKER_TRAINING_MODULE="container:MyTrainer")
    job.program(f"import os, sys, time\nrank = int(os.environ['RANK'])\n{program}")
    return job.run()


def test_ranks_of_another_launcher(job: Job, tmp_path: Path) -> None:
    """Each runs the program, with its number."""
    ended = run(job, tmp_path, "print(rank, os.environ['WORLD_SIZE'])")

    assert ended.succeeded, ended.stderr
    assert ["[0,algo-1] 0 2", "[1,algo-1] 1 2"] == sorted(ended.stdout.splitlines())


def test_a_likely_consequence_that_is_seen_first(job: Job, tmp_path: Path) -> None:
    """A failure that another has probably caused waits for that one to show."""
    waits = "while not os.path.exists('second has ended'): time.sleep(0.01)"
    ended = run(job, tmp_path, f"if rank: os._exit(14)\n{waits}\nraise ValueError('no such layer')")

    assert (1, "algo-1, rank 0: train.py exited with code 1: ValueError: no such layer") == (
        ended.returncode,
        ended.cause,
    )


def test_a_likely_consequence_that_nothing_explains(job: Job, tmp_path: Path) -> None:
    """Where nothing else fails, it is the cause, soon enough."""
    ended = run(job, tmp_path, "if rank: os._exit(14)\ntime.sleep(600)")

    assert (14, "algo-1, rank 1: train.py exited with code 14") == (ended.returncode, ended.cause)
