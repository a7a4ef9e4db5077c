"""MPI jobs on real hosts: the real mpirun of Open MPI 4 and 5, over the job's own sshd."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import (
    PATIENCE,
    SHARED,
    SOON,
    Cluster,
    MakeCluster,
    Mpirun,
    assert_all_ended_at_once,
    assert_all_failed,
    call,
    running,
)
from jobs import TRAIN

pytestmark = pytest.mark.cluster


def mpi(job: Cluster, mpirun: Mpirun, program: str, processes: int = 2, options: str = "") -> None:
    """Have mpirun run a program, so many times on each host."""
    job.program(program)
    job.env.update(mpirun.env)
    job.hyperparameters.update(
        sagemaker_mpi_enabled=True,
        sagemaker_mpi_num_of_processes_per_host=processes,
        sagemaker_mpi_custom_mpi_options=options,
    )


def test_ranks_find_each_other(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """Ranks on all hosts reduce; each gets its arguments and its own host's variables, and tags what it says.

    No value of a hyperparameter is on any command line but the program's own.
    """
    note = 'line 1\nit\'s "2" $HOME'
    job = cluster(2)
    mpi(
        job,
        mpirun,
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "from mpi4py import MPI\n"
        "world = MPI.COMM_WORLD\n"
        "total = world.allreduce(world.rank)\n"
        "shown = [file for file in Path('/proc').glob('[0-9]*/cmdline') if b'it\\'s' in file.read_bytes()]\n"
        "names = ['CURRENT_HOST', 'SM_HP_NOTE', 'NCCL_DEBUG', 'FOO']\n"
        "facts = [total, world.size, sys.argv[1:], [os.environ[name] for name in names], len(shown)]\n"
        "world.barrier()\n"
        "print(json.dumps(facts))\n",
        options="-x FOO='a b' -x PATH --NCCL_DEBUG WARN",
    )
    job.hyperparameters["note"] = note
    ended = job.run()

    for at, (name, host) in enumerate(ended.items()):
        assert host.succeeded, host.stderr
        said = dict(re.findall(rf"^\[(\d),{name}\] (.*)$", host.stdout, re.MULTILINE))
        assert {str(2 * at), str(2 * at + 1)} == set(said)
        for line in said.values():
            assert json.loads(line) == [6, 4, ["--note", note], [name, note, "WARN", "a b"], 2]
        assert [] == host.left


def test_a_single_host(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """One host needs neither sshd nor a name that resolves."""
    job = cluster(1)
    mpi(job, mpirun, "from mpi4py import MPI; print(MPI.COMM_WORLD.allreduce(1))", processes=3)
    ended = job.run()["algo-1"]

    assert ended.succeeded, ended.stderr
    assert {f"[{rank},algo-1] 3" for rank in range(3)} == set(ended.stdout.splitlines())


def test_programs_that_know_nothing_of_mpi(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """A shell script runs in each rank, with its arguments; it is for it to say what it does with its number."""
    job = cluster(2)
    mpi(job, mpirun, "", processes=1)
    job.program('echo "$OMPI_COMM_WORLD_RANK $1 $2"', name="train.sh")
    job.hyperparameters["note"] = "a b"
    ended = job.run()

    assert ["[0,algo-1] 0 --note a b\n", "[1,algo-2] 1 --note a b\n"] == [host.stdout for host in ended.values()]
    assert all(host.succeeded for host in ended.values())


def test_hosts_run_as_many_ranks_as_they_say(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """In a heterogeneous cluster, hosts differ; one outside the distribution runs the program alone."""
    job = cluster(3)
    job.groups({"data": ["algo-1"], "train": ["algo-2", "algo-3"]})
    mpi(job, mpirun, "import os; print(os.environ.get('OMPI_COMM_WORLD_SIZE', 'alone'))", processes=0)
    job.write(
        "own.py",
        "from sagemaker_framework import MPIStrategy, Trainer\n"
        "class Strategy(MPIStrategy):\n"
        "    def processes(self): return 2 if self.env.current_host == 'algo-3' else super().processes()\n"
        "class Own(Trainer):\n"
        "    def strategy(self): return Strategy(self.env)\n",
    )
    job.env.update(SAGEMAKER_TRAINING_MODULE="own:Own", PYTHONPATH="/opt/ml/code")
    job.hyperparameters["sagemaker_distribution_instance_groups"] = ["train"]
    ended = job.run()

    assert all(host.succeeded for host in ended.values()), ended["algo-1"].stderr
    assert ["alone\n", "[0,algo-2] 3\n"] == [ended[name].stdout for name in ("algo-1", "algo-2")]
    assert {"[1,algo-3] 3", "[2,algo-3] 3"} == set(ended["algo-3"].stdout.splitlines())


def test_fewer_processes_than_there_is_room_for(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """`sagemaker_mpi_num_processes` is how many there are in all; the first hosts are filled first."""
    job = cluster(2)
    mpi(job, mpirun, "from mpi4py import MPI; print(MPI.COMM_WORLD.size)")
    job.hyperparameters["sagemaker_mpi_num_processes"] = 3
    ended = job.run()

    assert [2, 1] == [host.stdout.count("] 3\n") for host in ended.values()]
    assert all(host.succeeded for host in ended.values())


def test_a_jobs_own_options(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """The job's options replace ours; those with one dash are understood by Open MPI 5 too."""
    job = cluster(2)
    mpi(job, mpirun, "from mpi4py import MPI; print(MPI.COMM_WORLD.rank)", options="-map-by node -mca pml ob1")
    ended = job.run()

    assert [{"[0,algo-1] 0", "[2,algo-1] 2"}, {"[1,algo-2] 1", "[3,algo-2] 3"}] == [
        set(host.stdout.splitlines()) for host in ended.values()
    ]


def test_nothing_is_left_of_the_keys(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """No key outlives the job, and neither ~/.ssh nor /etc/ssh is touched; the private one is on the leader only."""
    job = cluster(2)
    mpi(
        job,
        mpirun,
        "import os, stat, sys\n"
        "from pathlib import Path\n"
        "folders = list(Path('/tmp').glob('sm-mpi-*'))\n"
        "print(sorted({file.name for folder in folders for file in folder.iterdir()}))\n"
        "print({oct(folder.stat().st_mode & 0o777) for folder in folders})\n",
        processes=1,
    )
    paths = [job[name].host.path(path) for name in job.names for path in ("/etc/ssh", "/root/.ssh")]
    before = [sorted(path.rglob("*")) if path.exists() else None for path in paths]
    ended = job.run()

    assert all(host.succeeded for host in ended.values()), ended["algo-2"].stderr
    assert before == [sorted(path.rglob("*")) if path.exists() else None for path in paths]
    assert [] == [path for name in job.names for path in job[name].host.path("/tmp").glob("sm-mpi-*")]
    leader, worker = (host.stdout for host in ended.values())
    assert "'key'" in leader
    assert "'key'" not in worker
    assert "'host_key'" in worker
    assert leader.count("{'0o700'}") == worker.count("{'0o700'}") == 1


def test_only_the_leader_is_let_in(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """A process on another host that has no key of the job cannot log in, nor can one that has another key."""
    job = cluster(2)
    mpi(job, mpirun, "import time; print('begun', flush=True); time.sleep(600)", processes=1)
    job.start()
    job.expect("algo-2", "begun")
    (settings,) = job["algo-2"].host.path("/tmp").glob("sm-mpi-*/sshd_config")
    (port,) = re.findall(r"^Port (\d+)$", settings.read_text(), re.MULTILINE)
    attempt = (
        f"ssh-keygen -q -t ed25519 -N '' -f /tmp/other; ssh -i /tmp/other -p {port} "
        "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes algo-2 true"
    )
    refused = job["algo-1"].host.popen(["sh", "-c", attempt], stderr=subprocess.PIPE, text=True)

    assert "Permission denied (publickey)" in refused.communicate(timeout=PATIENCE)[1]
    assert 255 == refused.returncode
    os.kill(running(job, "algo-1", "sagemaker_framework.cli")[0], signal.SIGTERM)
    job.finish(SOON)


def test_another_host_in_place_of_one_of_the_job(cluster: MakeCluster) -> None:
    """ssh goes on only where the other side has the key that the host has told of in the session."""
    (job,) = cluster(1).jobs.values()
    tried = job.host.popen(
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys, tempfile\n"
            "from sagemaker_framework.strategies._ssh import Client, Server\n"
            "client, *both = [each(tempfile.mkdtemp()) for each in (Client, Server, Server)]\n"
            "server, other = both\n"
            "sshd = subprocess.Popen(server.command(client.public_key), stderr=subprocess.DEVNULL)\n"
            "own = client.command({'algo-1': server.advert})\n"
            "say = ['algo-1', 'echo', '$PATH']\n"
            "while subprocess.run([*own, *say], stderr=subprocess.DEVNULL).returncode: pass\n"
            "os.unlink(own[-1]), os.unlink(os.path.join(os.path.dirname(own[-1]), 'known_hosts'))\n"
            "changed = client.command({'algo-1': {**server.advert, 'host_key': other.advert['host_key']}})\n"
            "print(subprocess.run([*changed, *say]).returncode)\n"
            "sshd.kill()\n",
        ],
        env={**os.environ, "PATH": "/own/bin:" + os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = tried.communicate(timeout=PATIENCE)

    assert ["/own/bin:" + os.environ["PATH"], "255"] == out.splitlines(), err
    assert "Host key verification failed" in err


def test_a_locked_account(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """A user who cannot log in with any password, as root of many images, is let in with the job's key."""
    job = cluster(2)
    mpi(job, mpirun, "print('ran')", processes=1)
    for each in job.jobs.values():
        assert 0 == call(each.host, "usermod", "--lock", "root")
    ended = job.run()

    assert ["[0,algo-1] ran\n", "[1,algo-2] ran\n"] == [host.stdout for host in ended.values()], ended["algo-2"].stderr


def test_an_sshd_that_is_slow_to_come_up(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """mpirun connects when it listens, and not before."""
    job = cluster(2)
    mpi(job, mpirun, "print('ran')", processes=1)
    slow = (
        "mv /usr/sbin/sshd /usr/sbin/sshd.own && "
        "printf '#!/bin/sh\\nsleep 1\\nexec /usr/sbin/sshd.own \"$@\"\\n' > /usr/sbin/sshd && chmod +x /usr/sbin/sshd"
    )
    assert 0 == call(job["algo-2"].host, "sh", "-c", slow)
    ended = job.run()

    assert ["[0,algo-1] ran\n", "[1,algo-2] ran\n"] == [host.stdout for host in ended.values()], ended["algo-1"].stderr


def test_an_image_without_root(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """Where the container runs as another user, so do mpirun, sshd and the ranks."""
    job = cluster(2)
    mpi(job, mpirun, "import os; print(os.getuid(), os.environ['OMPI_COMM_WORLD_SIZE'])", processes=1)
    # Each host has its own of the folders above what it shares with the machine.
    above = " ".join(str(parent) for path in SHARED for parent in Path(path).parents)
    for each in job.jobs.values():
        script = f"useradd -m -u 4711 trainer && chown -R trainer /opt/ml /home/trainer && chmod a+x {above}"
        made = each.host.popen(["sh", "-c", script])
        assert 0 == made.wait(PATIENCE)
        each.env["HOME"] = "/home/trainer"
    job.start(command=["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", *TRAIN])
    ended = job.finish()

    assert ["[0,algo-1] 4711 2\n", "[1,algo-2] 4711 2\n"] == [host.stdout for host in ended.values()], ended[
        "algo-1"
    ].stderr
    assert all(host.succeeded for host in ended.values())


# -- faults ------------------------------------------------------------------------------------


RANK_3 = """
import os, signal, sys, time
from mpi4py import MPI
world = MPI.COMM_WORLD
world.barrier()
if world.rank == 3:
    print('now', flush=True)
    {fault}
world.barrier()
time.sleep(600)
"""


def said_of_the_end(cause: str | None) -> str:
    """A cause without what Open MPI has written about its own end."""
    return re.sub(r"(code 9): .*", r"\1", cause or "")


@pytest.mark.fault
@pytest.mark.parametrize(
    ("fault", "how", "exit_code"),
    [
        ("raise ValueError('no such optimizer')", "exited with code 1: ValueError: no such optimizer", 1),
        ("os._exit(7)", "exited with code 7", 7),
        ("world.Abort(9)", "exited with code 9", 9),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "was killed by signal 9 (SIGKILL): unless something in this container sent that, it has run out of memory",
            137,
        ),
    ],
    ids=["raises", "exits", "aborts", "killed"],
)
def test_a_rank_that_fails(cluster: MakeCluster, mpirun: Mpirun, fault: str, how: str, exit_code: int) -> None:
    """The failure of one rank ends the job everywhere at once, and is the cause on every host."""
    job = cluster(2)
    mpi(job, mpirun, RANK_3.format(fault=fault))
    job.start()
    job.expect("algo-2", "now")
    ended = job.finish(SOON)

    for host in ended.values():
        assert f"algo-2, rank 3: train.py {how}" == said_of_the_end(host.cause), ended["algo-1"].stderr
        assert (exit_code, False, []) == (host.returncode, host.has_success_marker, host.left), host.stderr
    assert_all_ended_at_once(ended)


#: Says that it has begun; when it is to stop, saves, which takes rank 1 longer, and exits.
SAVES = """
import os, signal, sys, time
from mpi4py import MPI
rank = MPI.COMM_WORLD.rank
def save(signum, frame):
    os.write(1, b'asked\\n')
    if rank == 1:
        time.sleep(1.5)
        os.write(1, b'saved\\n')
    sys.exit({code})
signal.signal(signal.SIGTERM, save)
MPI.COMM_WORLD.barrier()
os.write(1, b'begun\\n')
time.sleep(600)
"""


def begin(job: Cluster) -> None:
    """Start a job, and wait until all its ranks, two on each host, have begun."""
    job.start()
    for at, name in enumerate(job.names):
        for rank in (2 * at, 2 * at + 1):
            job.expect(name, f"[{rank},{name}] begun")


@pytest.mark.fault
@pytest.mark.parametrize("asked", ["algo-1", "algo-2"])
def test_a_request_to_stop(cluster: MakeCluster, mpirun: Mpirun, asked: str) -> None:
    """SIGTERM reaches each rank once, on all hosts, whichever was asked; where all end well, the job has."""
    job = cluster(2)
    mpi(job, mpirun, SAVES.format(code=0))
    begin(job)
    os.kill(running(job, asked, "sagemaker_framework.cli")[0], signal.SIGTERM)
    ended = job.finish(SOON)
    said = "".join(host.stdout for host in ended.values())

    assert [(0, None, [])] * 2 == [(host.returncode, host.failure, host.left) for host in ended.values()], said
    assert [1, 1, 1, 1, 1] == [
        *(said.count(f"[{rank},algo-{rank // 2 + 1}] asked") for rank in range(4)),
        said.count("saved"),
    ]


@pytest.mark.fault
def test_a_rank_that_saves_while_others_fail(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """Ranks that fail when they are asked to stop, the leader's too, take no time from one elsewhere that saves."""
    job = cluster(2)
    job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "5"  # Ranks that have no mpirun any more may hang when they end.
    mpi(job, mpirun, SAVES.format(code=1).replace("rank == 1", "rank == 3"))
    begin(job)
    os.kill(running(job, "algo-1", "sagemaker_framework.cli")[0], signal.SIGTERM)
    ended = job.finish(SOON)

    assert "[3,algo-2] saved\n" in ended["algo-2"].stdout
    for host in ended.values():
        assert "the job was stopped by SIGTERM: train.py" in host.cause
        assert host.returncode
        assert (False, []) == (host.has_success_marker, host.left)


@pytest.mark.fault
@pytest.mark.parametrize("first", ["algo-1", "algo-2"])
def test_a_request_to_stop_on_all_hosts(cluster: MakeCluster, mpirun: Mpirun, first: str) -> None:
    """Where the service asks every host, as it does, each rank is asked once all the same."""
    job = cluster(2)
    mpi(job, mpirun, SAVES.format(code=0))
    begin(job)
    (second,) = set(job.names) - {first}
    os.kill(running(job, first, "sagemaker_framework.cli")[0], signal.SIGTERM)
    job.expect("algo-1", "asked")
    job.expect("algo-2", "asked")
    os.kill(running(job, second, "sagemaker_framework.cli")[0], signal.SIGTERM)
    ended = job.finish(SOON)
    said = "".join(host.stdout for host in ended.values())

    assert [(0, None, [])] * 2 == [(host.returncode, host.failure, host.left) for host in ended.values()], said
    assert (4, 1) == (said.count("asked"), said.count("saved"))


@pytest.mark.fault
def test_ranks_that_do_not_stop(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """Ranks that hang are killed when the grace period is over, on all hosts; the job was stopped."""
    job = cluster(2)
    job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "1"
    mpi(
        job,
        mpirun,
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "from mpi4py import MPI\n"
        "MPI.COMM_WORLD.barrier()\n"
        "os.write(1, b'begun\\n')\n"
        "while True: time.sleep(600)\n",
    )
    begin(job)
    os.kill(running(job, "algo-1", "sagemaker_framework.cli")[0], signal.SIGTERM)
    ended = job.finish(SOON)

    for host in ended.values():
        assert "the job was stopped by SIGTERM" in host.cause
        assert (137, False, []) == (host.returncode, host.has_success_marker, host.left), host.stderr


@pytest.mark.fault
def test_a_killed_mpirun(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """Without mpirun the job fails, and none of its ranks is left on any host."""
    job = cluster(2)
    mpi(job, mpirun, SAVES.format(code=0))
    begin(job)
    os.kill(running(job, "algo-1", " --hostfile ")[0], signal.SIGKILL)

    assert_all_failed(
        job.finish(SOON),
        "algo-1 (host 1 of 2): mpirun of train.py was killed by signal 9 (SIGKILL): unless something in this container "
        "sent that, it has run out of memory",
        137,
    )


@pytest.mark.fault
@pytest.mark.parametrize("when", ["start", "middle", "end"])
def test_a_killed_worker(cluster: MakeCluster, mpirun: Mpirun, when: str) -> None:
    """The loss of a host ends the job on the leader, with its name, although Open MPI 5 calls that a success."""
    job = cluster(2)
    ends = "if rank < 2: sys.exit()\ntime.sleep(600)" if when == "end" else "time.sleep(600)"
    mpi(job, mpirun, SAVES.format(code=0).replace("time.sleep(600)", ends))
    if when == "start":
        job.start()
        job.expect("algo-1", "running train.py")
    else:
        begin(job)
    job["algo-2"].host.kill()
    ended = job.finish(SOON)["algo-1"]

    assert re.match(r"algo-2 \(host 2 of 2\): this host (went away|has not answered)", ended.cause), ended.stderr
    assert (1, False, []) == (ended.returncode, ended.has_success_marker, ended.left)


@pytest.mark.fault
def test_a_killed_leader(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """The loss of the leader ends the job on the other host."""
    job = cluster(2)
    mpi(job, mpirun, SAVES.format(code=0))
    begin(job)
    job["algo-1"].host.kill()
    ended = job.finish(SOON)["algo-2"]

    assert re.match(r"algo-1 \(host 1 of 2\): the leader (went away|has not answered)", ended.cause), ended.stderr
    assert (1, False, []) == (ended.returncode, ended.has_success_marker, ended.left)


@pytest.mark.fault
def test_a_cut_link(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """Hosts that cannot reach each other any more end, each with the name of the other; Open MPI notices nothing."""
    job = cluster(2)
    mpi(job, mpirun, SAVES.format(code=0))
    begin(job)
    job["algo-2"].host.partition()
    ended = job.finish(10 + SOON)

    for host, lost in (("algo-1", "algo-2 (host 2 of 2): this host"), ("algo-2", "algo-1 (host 1 of 2): the leader")):
        assert ended[host].cause.startswith(f"{lost} has not answered"), host
        assert (1, False, []) == (ended[host].returncode, ended[host].has_success_marker, ended[host].left)


@pytest.mark.fault
def test_a_missing_sshd(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """An image without sshd is told to install it, on all hosts."""
    job = cluster(2)
    mpi(job, mpirun, "print('not reached')")
    hidden = job["algo-2"].host.popen(["mount", "--bind", "/dev/null", "/usr/sbin/sshd"])
    assert 0 == hidden.wait(PATIENCE)
    cause = "this image has no sshd, which MPI on several hosts needs: install openssh-server in the Dockerfile"

    assert_all_failed(job.run(SOON), f"algo-2 (host 2 of 2): {cause}", 1)


@pytest.mark.fault
def test_an_account_that_can_run_nothing(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """An account whose shell refuses everybody is named, instead of what mpirun makes of it."""
    job = cluster(2)
    mpi(job, mpirun, "print('not reached')")
    assert 0 == call(job["algo-2"].host, "usermod", "--shell", "/usr/sbin/nologin", "root")
    ended = job.run(SOON)

    (cause,) = {host.cause for host in ended.values()}
    assert cause.startswith("algo-2 (host 2 of 2): the account of root has /usr/sbin/nologin as its shell")
    assert_all_failed(ended, cause, 1)


@pytest.mark.fault
def test_daemons_that_do_not_start(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """The wait for mpirun to start ranks ends, too."""
    job = cluster(2)
    mpi(job, mpirun, "print('not reached')")
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS"] = "8"
    job["algo-2"].host.path("/root/.bashrc").write_text("sleep 600\n")
    job.start()
    ended = job.finish(SOON + 10)

    assert_all_failed(
        ended, "algo-1 (host 1 of 2): mpirun has started no rank on this host within 8 s: look at its output", 1
    )


@pytest.mark.fault
def test_a_missing_mpirun(cluster: MakeCluster) -> None:
    """An image without mpirun is told to install it, on all hosts."""
    job = cluster(2)
    job.program("print('not reached')")
    job.hyperparameters["sagemaker_mpi_enabled"] = True
    job.env["PATH"] = "/nowhere"
    ended = job.run(SOON)

    (cause,) = {host.cause for host in ended.values()}
    assert re.fullmatch(
        r"algo-\d \(host \d of 2\): the job asks for MPI, but there is no mpirun on PATH: install Open MPI in the "
        "Dockerfile, such as Debian's openmpi-bin",
        cause,
    )
    assert_all_failed(ended, cause, 1)


@pytest.mark.fault
def test_a_host_that_never_comes_up(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """The others wait for it until the deadline, and say so."""
    job = cluster(2)
    mpi(job, mpirun, "print('not reached')")
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS"] = "2"
    job.start("algo-1")
    ended = job.finish(SOON)["algo-1"]

    assert ended.cause.startswith("algo-2 (host 2 of 2): "), ended.cause
    assert (1, False, []) == (ended.returncode, ended.has_success_marker, ended.left)


@pytest.mark.fault
def test_a_name_that_never_resolves(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """Nothing is started for a host whose name leads nowhere, and that is the reason given, on all hosts."""
    job = cluster(2)
    mpi(job, mpirun, "print('not reached')")
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS"] = "2"
    for name in job.names:
        hosts = [*job.names, "algo-9"]
        job[name].config("resourceconfig", {"current_host": name, "hosts": hosts, "network_interface_name": "eth0"})
    late = "waited for algo-9 (its name does not resolve)"

    assert_all_failed(
        job.run(SOON), f"algo-9 (host 3 of 3): not all hosts were ready 2 s after the first was: {late}", 1
    )


def test_hosts_leave_with_the_leader(cluster: MakeCluster, mpirun: Mpirun) -> None:
    """When the last rank has ended, the other hosts end at the leader's word, and none because the leader has gone."""
    job = cluster(4)
    mpi(job, mpirun, "from mpi4py import MPI; MPI.COMM_WORLD.barrier()", processes=1)
    ended = job.run()

    assert all(host.succeeded for host in ended.values())
    assert_all_ended_at_once(ended)
    assert not any("leader went away" in host.stderr for host in ended.values())
