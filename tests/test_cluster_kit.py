"""The kit of the tests that run a job on several hosts."""

from __future__ import annotations

import pytest
from cluster import MakeCluster

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
