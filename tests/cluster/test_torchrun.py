"""Jobs that torchrun runs, on real hosts: the real torchrun, with Gloo where processes talk to each other."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from cluster import SOON, Cluster, Ended, MakeCluster, assert_all_ended_at_once, assert_all_failed, running

pytestmark = pytest.mark.cluster


def torchrun(job: Cluster, program: str, processes: int = 2, options: str = "") -> None:
    """Have torchrun run a program, so many times on each host."""
    job.program(program)
    job.hyperparameters.update(
        sagemaker_torch_distributed_enabled=True,
        sagemaker_torch_distributed_num_of_processes_per_host=processes,
        sagemaker_torch_distributed_custom_torchrun_options=options,
    )


def test_ranks_find_each_other(cluster: MakeCluster) -> None:
    """Ranks on all hosts reduce over Gloo; each gets its arguments and variables intact, and tags what it says.

    No value of a hyperparameter is on any command line but the program's own.
    """
    note = 'line 1\nit\'s "2" $HOME'
    job = cluster(2)
    torchrun(
        job,
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "total = torch.ones(1) * dist.get_rank()\n"
        "dist.all_reduce(total)\n"
        "names = 'CURRENT_HOST LOCAL_RANK OMP_NUM_THREADS GLOO_SOCKET_IFNAME MASTER_ADDR SM_HP_NOTE'.split()\n"
        "shown = [file for file in Path('/proc').glob('[0-9]*/cmdline') if b'it\\'s' in file.read_bytes()]\n"
        "facts = [total.item(), sys.argv[1:], {name: os.environ[name] for name in names}, len(shown)]\n"
        "dist.barrier()\n"
        "print(json.dumps(facts))\n"
        "dist.destroy_process_group()\n",
    )
    job.hyperparameters["note"] = note
    job["algo-2"].env["OMP_NUM_THREADS"] = "5"
    ended = job.run()

    for at, (name, host) in enumerate(ended.items()):
        said = dict(re.findall(rf"^\[(\d),{name}\] (.*)$", host.stdout, re.MULTILINE))
        assert {str(2 * at), str(2 * at + 1)} == set(said)
        for rank, line in said.items():
            assert json.loads(line) == [
                0 + 1 + 2 + 3,
                ["--note", note],
                {
                    "CURRENT_HOST": name,
                    "LOCAL_RANK": str(int(rank) % 2),
                    "OMP_NUM_THREADS": ["1", "5"][at],
                    "GLOO_SOCKET_IFNAME": "eth0",
                    "MASTER_ADDR": "algo-1",
                    "SM_HP_NOTE": note,
                },
                2,
            ]
        assert host.succeeded
        assert [] == host.left


@pytest.mark.parametrize(("program", "file"), [("-m pkg.mod", "pkg/mod.py"), ("pkg", "pkg/__main__.py")])
def test_modules_and_packages(cluster: MakeCluster, program: str, file: str) -> None:
    """A module, and a package, run with their neighbours at hand; on one host too."""
    job = cluster(1)
    torchrun(job, "from .other import rank; print(rank, __package__)", options="--rdzv_backend=c10d")
    job.write("pkg/other.py", "import os; rank = os.environ['RANK']")
    job.write("pkg/__init__.py", "")
    job.write(file, (job["algo-1"].code_dir / "train.py").read_text())
    job.hyperparameters["sagemaker_program"] = program
    ended = job.run()["algo-1"]

    assert ended.succeeded
    assert {"[0,algo-1] 0 pkg", "[1,algo-1] 1 pkg"} == set(ended.stdout.splitlines())


@pytest.mark.fault
@pytest.mark.parametrize(
    ("fault", "how", "exit_code"),
    [
        ("raise ValueError('no such optimizer')", "exited with code 1: ValueError: no such optimizer", 1),
        ("sys.exit(7)", "exited with code 7", 7),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "was killed by signal 9 (SIGKILL): unless something in this container sent that, it has run out of memory",
            137,
        ),
    ],
    ids=["raises", "exits", "killed"],
)
def test_a_rank_that_fails(cluster: MakeCluster, fault: str, how: str, exit_code: int) -> None:
    """The failure of one rank ends the job everywhere at once, whatever torchrun waits for, and is the cause."""
    job = cluster(2)
    torchrun(
        job,
        "import os, signal, sys, time\n"
        "rank = int(os.environ['RANK'])\n"
        "if rank == 3:\n"
        "    time.sleep(1)\n"
        "    print('now', flush=True)\n"
        f"    {fault}\n"
        "if rank == 2: time.sleep(600)\n",
    )
    job.start()
    job.expect("algo-2", "now")
    ended = job.finish(SOON)

    assert_all_failed(ended, f"algo-2, rank 3: train.py {how}", exit_code)
    assert_all_ended_at_once(ended)


@pytest.mark.parametrize("options", ["--help", "--monitor_interval 1 other.py"])
def test_options_by_which_no_rank_runs(cluster: MakeCluster, options: str) -> None:
    """Where torchrun ends well, but has run no rank, the job has not succeeded."""
    job = cluster(1)
    torchrun(job, "print('ran')", options=options)
    job.write("other.py", "")
    ended = job.run()["algo-1"]

    assert "torchrun exited with code 0, but has run 0 of 2 ranks on this host" in ended.cause
    assert (1, False) == (ended.returncode, ended.has_success_marker)


def test_variables_of_torchrun_that_say_who_meets_where(cluster: MakeCluster) -> None:
    """They are left out, as they would have the hosts of the job not find each other."""
    job = cluster(2)
    torchrun(job, "import os; print(os.environ['WORLD_SIZE'])", processes=1)
    job.env.update(PET_NNODES="1", PET_NODE_RANK="0", PET_RDZV_ENDPOINT="x:1", PET_STANDALONE="1")
    ended = job.run()

    assert ["[0,algo-1] 2\n", "[1,algo-2] 2\n"] == [host.stdout for host in ended.values()], ended["algo-1"].stderr


@pytest.mark.fault
def test_a_rank_that_is_slow_to_fail(cluster: MakeCluster) -> None:
    """What other ranks say when they have lost it is not the cause, although they are gone before it is."""
    job = cluster(2)
    torchrun(
        job,
        "import atexit, time\n"
        "import torch\n"
        "import torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "dist.barrier()\n"
        "if dist.get_rank() == 3:\n"
        "    atexit.register(time.sleep, 1)\n"
        "    atexit.register(dist.destroy_process_group)\n"
        "    raise ValueError('no such optimizer')\n"
        "while True: dist.all_reduce(torch.ones(1))\n",
    )
    ended = job.run()

    (cause,) = {host.cause for host in ended.values()}
    assert re.fullmatch("algo-2, rank 3: train.py .*: ValueError: no such optimizer", cause)
    assert [False, False] == [host.has_success_marker for host in ended.values()]


def test_the_recorded_exception_of_a_rank(cluster: MakeCluster) -> None:
    """Under torch's @record, the exception is known even where the program has no stderr."""
    job = cluster(1)
    torchrun(
        job,
        "import os\n"
        "from torch.distributed.elastic.multiprocessing.errors import record\n"
        "@record\n"
        "def main():\n"
        "    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)\n"
        "    raise KeyError('learning rate')\n"
        "main()\n",
        processes=1,
    )

    assert_all_failed(job.run(), "algo-1, rank 0: train.py exited with code 1: KeyError: 'learning rate'", 1)


FAILS_AT_FIRST = """
import os, sys, time
import torch.distributed as dist
rank, attempt = int(os.environ['RANK']), int(os.environ['TORCHELASTIC_RESTART_COUNT'])
if os.environ['GROUP_RANK'] == '1' and attempt <= {failures}:
    if os.environ['LOCAL_RANK'] == '1':
        raise ValueError(f'attempt {{attempt}}')
    time.sleep(600)
dist.init_process_group('gloo')
dist.barrier()
print('all', dist.get_world_size(), 'are here')
dist.destroy_process_group()
"""


def test_ranks_are_restarted(cluster: MakeCluster) -> None:
    """A rank that fails does not fail the job while torchrun restarts: all hosts begin anew, and succeed."""
    job = cluster(2)
    torchrun(job, FAILS_AT_FIRST.format(failures=0), options="--max_restarts=1")
    ended = job.run()

    assert all(host.succeeded for host in ended.values())
    assert 4 == sum(host.stdout.count("all 4 are here") for host in ended.values())
    assert "ValueError: attempt 0" in "".join(host.stderr for host in ended.values())


@pytest.mark.fault
def test_restarts_that_do_not_help(cluster: MakeCluster) -> None:
    """When torchrun gives up, the job fails with the failure of the last attempt."""
    job = cluster(2)
    torchrun(job, FAILS_AT_FIRST.format(failures=1), options="--max_restarts=1")
    ended = job.run()

    (cause,) = {host.cause for host in ended.values()}
    assert re.fullmatch(r"algo-\d, rank \d: train.py exited with code 1: ValueError: attempt 1", cause)
    assert_all_failed(ended, cause, 1)


#: Says that it has begun; when it is to stop, saves, which takes rank 1 longer, and exits.
SAVES = """
import os, signal, sys, time
def save(signum, frame):
    os.write(1, b'asked\\n')
    if os.environ['RANK'] == '1':
        time.sleep(1.5)
        os.write(1, b'saved\\n')
    sys.exit({code})
signal.signal(signal.SIGTERM, save)
os.write(1, b'begun\\n')
time.sleep(600)
"""


def stopped(job: Cluster) -> dict[str, Ended]:
    """How a job ends that is asked to stop on its last host, once all its ranks have begun."""
    job.start()
    for at, name in enumerate(job.names):
        for rank in (2 * at, 2 * at + 1):
            job.expect(name, f"[{rank},{name}] begun")
    os.kill(running(job, job.names[-1], "sagemaker_framework.cli")[0], signal.SIGTERM)
    return job.finish(SOON)


@pytest.mark.fault
def test_a_request_to_stop(cluster: MakeCluster) -> None:
    """SIGTERM reaches each rank once, on all hosts; where all save and end well, the job has."""
    job = cluster(2)
    torchrun(job, SAVES.format(code=0))
    ended = stopped(job)
    said = "".join(host.stdout for host in ended.values())

    assert [(0, None, [])] * 2 == [(host.returncode, host.failure, host.left) for host in ended.values()]
    assert ({f"{rank}": 1 for rank in range(4)}, 1) == (
        {rank: said.count(f"[{rank},algo-{int(rank) // 2 + 1}] asked") for rank in "0123"},
        said.count("saved"),
    )


@pytest.mark.fault
def test_ranks_that_fail_when_asked_to_stop(cluster: MakeCluster) -> None:
    """A rank that fails at once on SIGTERM, which torchrun may restart, takes no time from one that still saves."""
    job = cluster(1)
    torchrun(job, SAVES.format(code=3), options="--max_restarts=2")
    ended = stopped(job)

    assert_all_failed(ended, "algo-1, rank 0: the job was stopped by SIGTERM: train.py exited with code 3", 3)
    assert (2, 1, 2) == tuple(ended["algo-1"].stdout.count(word) for word in ("begun", "saved", "asked"))


@pytest.mark.fault
def test_ranks_that_do_not_stop(cluster: MakeCluster) -> None:
    """What still runs when the grace period is over is killed: torchrun and its ranks."""
    job = cluster(1)
    job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "1"
    torchrun(
        job,
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.write(1, b'begun\\n')\n"
        "time.sleep(600)\n",
    )
    ended = stopped(job)["algo-1"]

    how = r"algo-1, rank \d: the job was stopped by SIGTERM: train.py was killed by signal 9 \(SIGKILL\)"
    assert re.fullmatch(how, ended.cause)
    assert (137, []) == (ended.returncode, ended.left)


@pytest.mark.fault
def test_a_request_to_stop_before_there_are_ranks(cluster: MakeCluster) -> None:
    """A job that is stopped while torchrun starts has been stopped before its program ran."""
    job = cluster(1)
    torchrun(job, SAVES.format(code=0))
    job.start()
    job.expect("algo-1", "running train.py")
    os.kill(running(job, "algo-1", "sagemaker_framework.cli")[0], signal.SIGTERM)
    ended = job.finish(SOON)["algo-1"]

    assert "the job was stopped by SIGTERM before its program ran" == ended.cause
    assert (128 + signal.SIGTERM, "", []) == (ended.returncode, ended.stdout, ended.left)


@pytest.mark.fault
@pytest.mark.parametrize("when", ["start", "middle", "end"])
def test_a_worker_that_is_killed(cluster: MakeCluster, when: str) -> None:
    """The loss of a host ends the job on the others, with its name."""
    job = cluster(2)
    ends = "if os.environ['GROUP_RANK'] == '0': sys.exit()\ntime.sleep(600)"
    torchrun(job, SAVES.format(code=0).replace("time.sleep(600)", ends if when == "end" else "time.sleep(600)"))
    job.start()
    job.expect("algo-2", "running train.py" if when == "start" else "[3,algo-2] begun")
    if when == "end":
        job.expect("algo-1", "[1,algo-1] begun")
    job["algo-2"].host.kill()
    ended = job.finish(SOON)["algo-1"]

    assert re.match(r"algo-2 \(host 2 of 2\): this host (went away|has not answered)", ended.cause)
    assert (1, False, []) == (ended.returncode, ended.has_success_marker, ended.left)


@pytest.mark.fault
def test_a_leader_that_is_killed(cluster: MakeCluster) -> None:
    """The loss of the leader ends the job on the others."""
    job = cluster(2)
    torchrun(job, SAVES.format(code=0))
    job.start()
    job.expect("algo-2", "[3,algo-2] begun")
    job["algo-1"].host.kill()
    ended = job.finish(SOON)["algo-2"]

    assert re.match(r"algo-1 \(host 1 of 2\): the leader (went away|has not answered)", ended.cause)
    assert (1, False, []) == (ended.returncode, ended.has_success_marker, ended.left)


@pytest.mark.fault
def test_a_link_that_is_cut(cluster: MakeCluster) -> None:
    """Hosts that cannot reach each other any more end, each with the name of the other."""
    job = cluster(2)
    torchrun(job, SAVES.format(code=0))
    job.start()
    job.expect("algo-1", "[1,algo-1] begun")
    job.expect("algo-2", "[3,algo-2] begun")
    job["algo-2"].host.partition()
    ended = job.finish(10 + SOON)

    for host, lost in (("algo-1", "algo-2 (host 2 of 2): this host"), ("algo-2", "algo-1 (host 1 of 2): the leader")):
        assert ended[host].cause.startswith(f"{lost} has not answered")
        assert (1, False, []) == (ended[host].returncode, ended[host].has_success_marker, ended[host].left)


@pytest.mark.fault
def test_a_torchrun_that_is_killed(cluster: MakeCluster) -> None:
    """Without torchrun the job fails, and none of its ranks is left."""
    job = cluster(1)
    torchrun(job, SAVES.format(code=0))
    job.start()
    job.expect("algo-1", "[1,algo-1] begun")
    os.kill(running(job, "algo-1", "torch.distributed.run")[0], signal.SIGKILL)
    ended = job.finish(SOON)["algo-1"]

    assert ended.cause.startswith("torchrun of train.py was killed by signal 9 (SIGKILL)")
    assert (137, []) == (ended.returncode, ended.left)


def test_a_heterogeneous_cluster(cluster: MakeCluster) -> None:
    """Each host runs as many ranks as it says; one outside the distribution runs the program alone."""
    job = cluster(3)
    job.groups({"data": ["algo-1"], "train": ["algo-2", "algo-3"]})
    torchrun(job, "import os; print(os.environ.get('RANK', 'alone'), os.environ.get('WORLD_SIZE', ''))", processes=0)
    job.hyperparameters["sagemaker_distribution_instance_groups"] = ["train"]
    job["algo-3"].env["PET_NPROC_PER_NODE"] = "2"
    ended = job.run()

    assert ["alone \n", "[0,algo-2] 0 3\n"] == [ended[name].stdout for name in ("algo-1", "algo-2")]
    assert {"[1,algo-3] 1 3", "[2,algo-3] 2 3"} == set(ended["algo-3"].stdout.splitlines())
    assert all(host.succeeded for host in ended.values())


@pytest.mark.fault
def test_a_host_outside_the_distribution_that_fails(cluster: MakeCluster) -> None:
    """A host that runs the program alone is part of the job: when it fails, all do."""
    job = cluster(2)
    job.groups({"train": ["algo-1"], "data": ["algo-2"]})
    torchrun(job, "import os, sys, time\nif 'RANK' not in os.environ: sys.exit(7)\ntime.sleep(600)")
    job.hyperparameters["sagemaker_distribution_instance_groups"] = ["train"]

    assert_all_failed(job.run(), "algo-2 (host 2 of 2): train.py exited with code 7", 7)


def test_tensorflows_workers(cluster: MakeCluster) -> None:
    """Every host runs the program once, with the addresses of all workers and its own place."""
    job = cluster(2)
    job.program("import os; print(os.environ['TF_CONFIG'])")
    job.hyperparameters["sagemaker_multi_worker_mirrored_strategy_enabled"] = True
    ended = job.run()

    assert [
        {
            "cluster": {"worker": ["algo-1:8890", "algo-2:8890"]},
            "task": {"type": "worker", "index": at},
            "environment": "cloud",
        }
        for at in range(2)
    ] == [json.loads(host.stdout) for host in ended.values()]
