"""The kit of the tests that run a job on several hosts."""

from __future__ import annotations

import shutil
import sys

import pytest
from cluster import MakeCluster, Mpirun

pytestmark = pytest.mark.cluster


def test_each_host_runs_its_part(cluster: MakeCluster) -> None:
    """Each host runs the real `train`, with its own name, the common hyperparameters and its own variables."""
    job = cluster(3)
    job.hyperparameters["rate"] = 0.5
    job.env["COMMON"] = "all"
    job["algo-2"].env["OWN"] = "two"
    job.program("import os, sys; e = os.environ; print(e['SM_CURRENT_HOST'], e['COMMON'], e.get('OWN'), *sys.argv[1:])")
    ended = job.run()

    assert ["algo-1 all None --rate 0.5\n", "algo-2 all two --rate 0.5\n", "algo-3 all None --rate 0.5\n"] == [
        ended[name].stdout for name in job.names
    ]
    assert all(host.succeeded and not host.left for host in ended.values())


def test_some_hosts_start_later_or_never(cluster: MakeCluster) -> None:
    """A test can start some hosts, wait for what they write, kill one, and start others."""
    job = cluster(3)
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER"] = "off"
    job.program(
        "import os, time; print('running', flush=True); os.environ['SM_CURRENT_HOST'] == 'algo-1' and time.sleep(60)"
    )
    job.start("algo-1")
    job.expect("algo-1", "running")
    job["algo-1"].host.kill()
    job.start("algo-2")
    ended = job.finish()

    assert {"algo-1": -9, "algo-2": 0} == {name: host.returncode for name, host in ended.items()}
    assert ended["algo-1"].at < ended["algo-2"].at


def test_what_is_left_behind(cluster: MakeCluster) -> None:
    """What still runs on a host when its command ends is told, and not waited for, though it holds the streams open."""
    job = cluster(2)
    ended = job.run(command=["sh", "-c", "echo text; sleep 60 & exit 3"])

    assert [(3, "text\n")] * 2 == [(host.returncode, host.stdout) for host in ended.values()]
    assert all(1 == len(host.left) for host in ended.values())


def test_what_takes_too_long(cluster: MakeCluster) -> None:
    """A wait that is over tells what was waited for, and what every host did."""
    job = cluster(2)
    job.start("algo-2", command=["sh", "-c", "echo text; exec sleep 60"])
    with pytest.raises(AssertionError, match=r"waited 0.5 s for algo-2: 'ready'") as caught:
        job.expect("algo-2", "ready", timeout=0.5)

    assert "--- algo-1: not started" in str(caught.value)
    assert "--- algo-2: exit code None; running: ['sleep 60']\nfailure: None\ntext" in str(caught.value)


def test_instance_groups(cluster: MakeCluster) -> None:
    """The hosts of a job can be in several instance groups."""
    job = cluster(3)
    job.groups({"one": ["algo-1"], "two": ["algo-2", "algo-3"]})
    job.program("import os; print(os.environ['SM_CURRENT_INSTANCE_GROUP'], os.environ['SM_HOSTS'])")
    ended = job.run()

    hosts = '["algo-1","algo-2","algo-3"]'
    assert [f"one {hosts}\n", f"two {hosts}\n", f"two {hosts}\n"] == [host.stdout for host in ended.values()]


def test_each_open_mpi_is_the_one_it_says(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """Neither version of Open MPI is taken for the other: the mpirun on PATH, and the library of its ranks."""
    job = cluster(1)
    job.env.update(mpirun.env)
    code = "from mpi4py import MPI; MPI.COMM_WORLD.Barrier(); print(MPI.Get_library_version()[:11])"
    options = ["--allow-run-as-root", "--bind-to", "none", "--oversubscribe", "-np", "2"]
    ended = job.run(command=["mpirun", *options, sys.executable, "-c", code])["algo-1"]

    assert f"Open MPI v{mpirun.version}\n" * 2 == ended.stdout, ended.stderr
    assert mpirun.path == shutil.which("mpirun", path=mpirun.env["PATH"])
