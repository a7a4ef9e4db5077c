"""The container of examples/mxnet, with real MXNet on real hosts: its servers, its faults, its ends."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from cluster import SOON, Cluster, Ended, MakeCluster, assert_all_begin, place

pytestmark = pytest.mark.frameworks

EXAMPLE = Path(__file__).parents[2] / "examples/mxnet"

#: Seconds in which all hosts have to be gone: after the last worker; after a fault.
AT_ONCE = 2.0

#: Put before a program: tells what it has got.
TELLS = """
import os, sys
knobs = [each for each in (*sys.argv, *os.environ) if "PS_PORT" in each.upper() or "ps_" in each]
print("knobs:", sorted(knobs), "root:", os.environ.get("DMLC_PS_ROOT_URI"), flush=True)
"""

#: A worker that goes on until something happens to it; all workers take part in each step.
STEPS = """
import os, sys, time
import mxnet as mx
kvstore = mx.kv.create("dist_sync")
host = os.environ["SM_CURRENT_HOST"]
kvstore.init("weights", mx.nd.zeros(8))
weights = mx.nd.zeros(8)
for step in range(100000):
    kvstore.push("weights", mx.nd.ones(8))
    kvstore.pull("weights", out=weights)
    weights.wait_to_read()
    if step == 20:
        print("begun", flush=True)
    if step == 25 and host == {host!r}:
        {what}
"""


def mxnet(job: Cluster, program: str, servers: bool = True) -> None:
    """Make this a job of the example's image, with the digits in its channel."""
    import numpy as np
    from sklearn.datasets import load_digits

    job.env.update(PYTHONPATH=str(EXAMPLE), SAGEMAKER_TRAINING_MODULE="mxnet_container.training:MXNetTrainer")
    job.hyperparameters["sagemaker_parameter_server_enabled"] = servers
    job.program(program)
    table = np.column_stack(load_digits(return_X_y=True))
    for each in job.jobs.values():
        np.savetxt(each.base / "input/data/training/digits.csv", table, fmt="%d", delimiter=",")


def steps(job: Cluster, host: str = "", what: str = "pass") -> None:
    """Have workers take steps together; on one host something happens after a while."""
    mxnet(job, STEPS.format(host=host, what=what))


def began(job: Cluster) -> None:
    """Start a job, and wait until its workers train on all hosts."""
    job.start()
    for name in job.names:
        job.expect(name, "begun")


def train_digits(job: Cluster, servers: bool = True, tells: str = "") -> tuple[float, dict[str, Ended]]:
    """Train with the example's program; the accuracy that it comes to."""
    mxnet(job, tells + (EXAMPLE / "train.py").read_text(), servers)
    ended = job.run()
    assert all(host.succeeded and not host.left for host in ended.values()), job._report()
    output = "".join(host.stdout for host in ended.values())
    (found,) = re.findall(rf"processes={len(job.names)} accuracy=([\d.]+)", output)
    return float(found), ended


def process(job: Cluster, host: str, role: str) -> int:
    """The process ID of the scheduler, the server or the worker on a host."""
    found = []
    for running in job[host].host.processes():
        variables = Path(f"/proc/{running.pid}/environ").read_bytes().split(b"\0")
        if f"DMLC_ROLE={role}".encode() in variables and "python" in running.command:
            found.append(running.pid)
    (pid,) = found
    return pid


def launcher(job: Cluster, host: str) -> int:
    """The process ID of a host's `train` command."""
    (train,) = [running for running in job[host].host.processes() if "sagemaker_framework.cli" in running.command]
    return train.pid


def worker_ended(host: Ended) -> float:
    """When the worker of a host had ended, by the launcher's log, in seconds of the day."""
    (at,) = re.findall(r"([\d:]+,\d+) \S+ INFO +train\.py exited with code 0", host.stderr)
    hours, minutes, seconds = at.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def seconds_to_the_end(ended: Mapping[str, Ended]) -> float:
    """From the end of the last worker to that of the last host, in seconds."""
    moment = time.localtime(now := time.time())
    today = moment.tm_hour * 3600 + moment.tm_min * 60 + moment.tm_sec + now % 1
    last_host = today - (time.monotonic() - max(host.at for host in ended.values()))
    return (last_host - max(worker_ended(host) for host in ended.values())) % 86400


# -- what an author writes -----------------------------------------------------------------------------------------


def test_the_strategy_is_short() -> None:
    """What is special about MXNet takes an author 40 lines at most."""
    tree = ast.parse((EXAMPLE / "mxnet_container/training.py").read_text())
    (strategy,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "MXNetServers"]

    assert 40 >= (strategy.end_lineno or 0) - strategy.lineno + 1


def test_the_launcher_does_without_mxnet() -> None:
    """The module that the image names imports no framework: its time and memory are the script's alone."""
    code = "import sys, mxnet_container.training; print('mxnet' in sys.modules, 'numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLE, capture_output=True, text=True, check=True)

    assert "False False\n" == ran.stdout


# -- training ------------------------------------------------------------------------------------------------------


def test_two_hosts_come_to_the_accuracy_of_one(cluster: MakeCluster) -> None:
    """Two workers, two servers and a scheduler train the network that one process trains alone."""
    alone, _ = train_digits(cluster(1), servers=False)
    job = cluster(2)
    together, _ = train_digits(job)

    assert alone == pytest.approx(together, abs=0.01)
    assert alone > 0.9
    saved = [sorted(each.name for each in (host.base / "model").iterdir()) for host in job.jobs.values()]
    assert [[], ["model-0000.params", "model-symbol.json"]] == sorted(saved)


def test_all_hosts_end_with_the_last_worker(cluster: MakeCluster) -> None:
    """Servers and scheduler do not keep a job whose workers have ended."""
    _, ended = train_digits(cluster(2))

    assert AT_ONCE > seconds_to_the_end(ended)


def test_parameter_servers_on_one_host(cluster: MakeCluster) -> None:
    """A job that asks for parameter servers on one host trains with one of each role."""
    accuracy, _ = train_digits(cluster(1))

    assert accuracy > 0.9


def test_the_knobs_are_not_for_the_script(cluster: MakeCluster) -> None:
    """_ps_port and _ps_verbose are neither arguments nor SM_HP_* variables; MXNet's own name an IP address."""
    job = cluster(2)
    job.hyperparameters.update(_ps_port=9123, _ps_verbose=1)
    _, ended = train_digits(job, tells=TELLS)

    told = [re.findall(r"knobs: (.*) root: (.*)", host.stdout) for host in ended.values()]
    assert [[("[]", "10.77.0.2")]] * 2 == told


@pytest.mark.parametrize("port", [9123, "9123"])
def test_the_scheduler_listens_at_the_port_of_the_job(cluster: MakeCluster, port: object) -> None:
    """_ps_port works as a number and as a text, and _ps_verbose has MXNet tell of it."""
    job = cluster(1)
    job.hyperparameters.update(_ps_port=port, _ps_verbose=1)
    _, ended = train_digits(job)

    assert "role=scheduler, id=1, ip=10.77.0.2, port=9123" in ended["algo-1"].stderr


# -- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.fault
@pytest.mark.parametrize(
    ("host", "role"),
    [
        ("algo-1", "scheduler"),
        ("algo-1", "server"),
        ("algo-2", "server"),
        ("algo-1", "worker"),
        ("algo-2", "worker"),
    ],
)
def test_a_process_that_is_killed(cluster: MakeCluster, host: str, role: str) -> None:
    """The death of any of MXNet's processes ends the job on all hosts, and all name it."""
    job = cluster(2)
    steps(job)
    began(job)
    os.kill(process(job, host, role), signal.SIGKILL)
    ended = job.finish(SOON)

    name = "train.py" if role == "worker" else role
    assert_all_begin(ended, f"{place(job, host)}: {name} was killed by signal 9 (SIGKILL)", 137)


@pytest.mark.fault
@pytest.mark.parametrize("host", ["algo-1", "algo-2"])
@pytest.mark.parametrize(
    ("what", "code", "cause"),
    [
        ("raise ValueError('no such layer')", 1, "ValueError: no such layer"),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no data')", 1, "no data"),
    ],
)
def test_a_worker_that_fails(cluster: MakeCluster, host: str, what: str, code: int, cause: str) -> None:
    """A script that fails on one host ends the job with its own words, though MXNet would wait for the others."""
    job = cluster(2)
    steps(job, host, what)
    job.start()
    for name in job.names:
        job.expect(name, "begun")
    ended = job.finish(SOON)

    how = f"{place(job, host)}: train.py exited with code {code}"
    assert_all_begin(ended, f"{how}: {cause}" if cause else how, code)


@pytest.mark.fault
def test_a_port_that_is_taken(cluster: MakeCluster) -> None:
    """A _ps_port at which somebody else listens on the leader fails the job before anything starts."""
    job = cluster(2)
    steps(job)
    job.hyperparameters["_ps_port"] = 9123
    listen = "import signal, socket; s = socket.create_server(('', 9123)); print(flush=True); signal.pause()"
    taking = job["algo-1"].host.popen([sys.executable, "-c", listen], stdout=-1)
    with taking:
        assert taking.stdout is not None
        taking.stdout.readline()
        ended = job.run(SOON)
        taking.kill()

    how = "port 9123, which the job sets for scheduler, is taken on this host: leave it out, or set another"
    assert ["algo-1 (host 1 of 2): " + how] * 2 == [host.cause for host in ended.values()]
    assert [1, 1] == [host.returncode for host in ended.values()]
    assert ["", ""] == [host.stdout for host in ended.values()]
    assert not any(host.has_success_marker for host in ended.values())


@pytest.mark.fault
def test_a_stopped_job_whose_script_saves(cluster: MakeCluster) -> None:
    """SIGTERM on one host reaches the scripts of all, which save as the README tells, although they wait in MXNet."""
    job = cluster(2)
    (saves,) = re.findall(
        r"```python\n(import os, signal, threading.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL
    )
    puts_aside = "    latest = {'weights': weights.asnumpy()}\n    if step == 20:"
    mxnet(job, saves + STEPS.format(host="", what="pass").replace("    if step == 20:", puts_aside))
    began(job)
    os.kill(launcher(job, "algo-2"), signal.SIGTERM)
    ended = job.finish(SOON)

    assert [(0, None, [])] * 2 == [(host.returncode, host.failure, host.left) for host in ended.values()]
    assert not any(host.has_success_marker for host in ended.values())
    assert all((each.base / "model/checkpoint.npz").exists() for each in job.jobs.values())


@pytest.mark.fault
def test_a_stopped_job_whose_script_does_not_mind(cluster: MakeCluster) -> None:
    """SIGTERM ends a job whose script has no handler, on all hosts, as the signal does."""
    job = cluster(2)
    steps(job)
    began(job)
    os.kill(launcher(job, "algo-1"), signal.SIGTERM)
    ended = job.finish(SOON)

    assert [(143, [])] * 2 == [(host.returncode, host.left) for host in ended.values()]
    assert all("the job was stopped by SIGTERM" in host.cause for host in ended.values())
    assert not any(host.has_success_marker for host in ended.values())


# -- the container of the AWS document -----------------------------------------------------------------------------

#: Its distributed training, with this package in the place of sagemaker_containers; what starts MXNet's processes is
#: left to the reader there.
SEED = """
import os, socket, subprocess, sys
import sagemaker_framework as framework

def variables(role, hosts, ps_port):
    return {
        "DMLC_ROLE": role,
        "DMLC_NUM_WORKER": str(len(hosts)),
        "DMLC_NUM_SERVER": str(len(hosts)),
        "DMLC_PS_ROOT_URI": socket.gethostbyname("algo-1"),
        "DMLC_PS_ROOT_PORT": ps_port,
    }

def _run_mxnet_process(role, hosts, ps_port):
    env = {**os.environ, **variables(role, hosts, ps_port)}
    subprocess.Popen([sys.executable, "-c", "import mxnet"], env=env)

def train(env):
    env = framework.training_env()
    ps_port = "8000"
    # starts the MXNet scheduler only in the first instance
    if env.current_host == "algo-1":
        _run_mxnet_process("scheduler", env.hosts, ps_port)
    # starts MXNet parameter server in all instances
    _run_mxnet_process("server", env.hosts, ps_port)
    os.environ.update(variables("worker", env.hosts, ps_port))
    framework.entry_point.run(env.module_dir, env.user_entry_point, env.to_cmd_args(), env.to_env_vars())
"""


def of_the_document(job: Cluster, program: str) -> dict[str, Ended]:
    """Run a job with the document's container, as a function of the image."""
    mxnet(job, program)
    job.write("pkg/__init__.py", "")
    job.write("pkg/training.py", SEED)
    job.env.update(PYTHONPATH="/opt/ml/code", SAGEMAKER_TRAINING_MODULE="pkg.training:train")
    return job.run()


def test_the_documents_container_trains(cluster: MakeCluster) -> None:
    """Its function starts MXNet's processes itself; the job succeeds on both hosts, and leaves none of them."""
    ended = of_the_document(cluster(2), (EXAMPLE / "train.py").read_text())

    assert [(True, [])] * 2 == [(host.succeeded, host.left) for host in ended.values()], ended["algo-1"].stderr
    (accuracy,) = re.findall(r"processes=2 accuracy=([\d.]+)", "".join(host.stdout for host in ended.values()))
    assert float(accuracy) > 0.9


def test_the_documents_container_whose_script_fails(cluster: MakeCluster) -> None:
    """Servers and scheduler, which wait for workers for ever, are stopped where the script has failed."""
    ended = of_the_document(cluster(2), "raise ValueError('no such layer')")

    assert_all_begin(ended, "train.py exited with code 1: ValueError: no such layer", 1)
