"""examples/tensorflow with the real TensorFlow, on real hosts: it trains, and it ends, whatever breaks.

tests/unit/test_tensorflow_container.py has what needs no TensorFlow.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import SOON, Cluster, Ended, MakeCluster, assert_all_begin

pytestmark = pytest.mark.frameworks

EXAMPLE = Path(__file__).parents[2] / "examples/tensorflow"

#: Seconds in which all hosts have to be gone after a fault, and after the end of the last program that matters.
AT_ONCE = 2.0

#: Longer than any training here takes on a machine that has much else to do.
PATIENCE = 180.0


@pytest.fixture
def tensorflow(cluster: MakeCluster) -> Callable[..., Cluster]:
    """Makes jobs in the example's container, on so many hosts."""

    def make(count: int = 2, **hyperparameters: Any) -> Cluster:
        job = cluster(count)
        job.env.update(
            PYTHONPATH=str(EXAMPLE),
            SAGEMAKER_TRAINING_MODULE="tensorflow_container.training:TensorFlowTrainer",
            TF_CPP_MIN_LOG_LEVEL="2",
            CUDA_VISIBLE_DEVICES="",
        )
        job.hyperparameters.update(hyperparameters)
        return job

    return make


def digits(job: Cluster) -> None:
    """Have the job train with the example's program."""
    import numpy as np
    from sklearn.datasets import load_digits

    job.program((EXAMPLE / "train.py").read_text())
    table = np.column_stack(load_digits(return_X_y=True))
    for each in job.jobs.values():
        np.savetxt(each.base / "input/data/training/digits.csv", table, fmt="%d", delimiter=",")


def accuracy(job: Cluster, ended: dict[str, Ended]) -> float:
    """What a job that has succeeded on all hosts, with its model saved and nothing left, says of its accuracy."""
    assert all(host.succeeded and not host.left for host in ended.values()), ended["algo-1"].stderr
    assert (job["algo-1"].base / "model/digits/1/saved_model.pb").exists()
    assert "WARNING" not in re.sub(r"(?m)^(?!.* sagemaker-framework ).*$", "", ended["algo-1"].stderr)
    (found,) = re.findall(rf"processes={len(job.names)} accuracy=([\d.]+)", ended["algo-1"].stdout)
    return float(found)


def finish_at_once(job: Cluster, last: list[str]) -> dict[str, Ended]:
    """Wait for the programs of these hosts to end well; all hosts have to within 2 s of the last one."""
    for name in last:
        job.expect(name, "train.py exited with code 0", PATIENCE)
    at = time.monotonic()
    ended = job.finish(SOON)
    took = max(host.at for host in ended.values()) - at
    print(f"the last host ended {took:.2f} s after the last program that matters")
    assert took < AT_ONCE
    return ended


@pytest.fixture(scope="module")
def alone() -> dict[str, float]:
    """What the single-host run comes to, once it has been asked for."""
    return {}


def accuracy_alone(tensorflow: Callable[..., Cluster], known: dict[str, float]) -> float:
    if not known:
        job = tensorflow(1)
        digits(job)
        known["accuracy"] = accuracy(job, job.run(PATIENCE))
    return known["accuracy"]


def test_parameter_servers_train_as_one_host_does(tensorflow: Callable[..., Cluster], alone: dict[str, float]) -> None:
    """A chief, a worker and two parameter servers on two hosts come to the accuracy of one, and end with the chief."""
    job = tensorflow(2, sagemaker_parameter_server_enabled=True)
    digits(job)
    job.start()
    found = accuracy(job, finish_at_once(job, ["algo-1"]))

    assert accuracy_alone(tensorflow, alone) == pytest.approx(found, abs=0.02)
    assert found > 0.93


def test_mirrored_workers_train_as_one_host_does(tensorflow: Callable[..., Cluster], alone: dict[str, float]) -> None:
    """Two workers of MultiWorkerMirroredStrategy come to the accuracy of one host, and end with the last of them."""
    job = tensorflow(2, sagemaker_multi_worker_mirrored_strategy_enabled=True)
    digits(job)
    job.start()
    found = accuracy(job, finish_at_once(job, job.names))

    assert accuracy_alone(tensorflow, alone) == pytest.approx(found, abs=0.02)
    assert found > 0.93


#: As scripts of TensorFlow 1 do it: a session, and variables that are placed on the parameter servers.
OF_TENSORFLOW_1 = """
import json, os
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
config = json.loads(os.environ["TF_CONFIG"])
cluster, task = tf.train.ClusterSpec(config["cluster"]), config["task"]
server = tf.train.Server(cluster, job_name=task["type"], task_index=task["index"])
if task["type"] == "worker":
    server.join()
with tf.device(tf.train.replica_device_setter(cluster=cluster, worker_device="/job:master/task:0")):
    counters = [tf.get_variable(name, initializer=0) for name in ("first", "second")]
    count = [counter.assign_add(1) for counter in counters]
with tf.Session(server.target) as session:
    session.run(tf.global_variables_initializer())
    for _ in range(10):
        counted = session.run(count)
print(*counted, *[counter.device for counter in counters], flush=True)
"""


def test_a_script_of_tensorflow_1(tensorflow: Callable[..., Cluster]) -> None:
    """Where the chief is to be called master, a script that knows no other name trains with variables on servers."""
    job = tensorflow(2, sagemaker_parameter_server_enabled=True, sagemaker_tensorflow_chief_name="master")
    job.program(OF_TENSORFLOW_1)
    job.start()
    ended = finish_at_once(job, ["algo-1"])

    assert all(host.succeeded and not host.left for host in ended.values()), ended["algo-1"].stderr
    assert "10 10 /job:ps/task:0 /job:ps/task:1\n" == ended["algo-1"].stdout


#: Keeps a port, as somebody else's server would.
LISTEN = """
import signal, socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("listening", flush=True)
signal.pause()
"""


def take(job: Cluster, name: str, port: int) -> None:
    """Have somebody listen at a port of a host."""
    listening = job[name].host.popen([sys.executable, "-c", LISTEN, str(port)], stdout=subprocess.PIPE)
    assert listening.stdout is not None
    with listening.stdout as said:
        assert b"listening\n" == said.readline()


def without_listener(ended: dict[str, Ended]) -> dict[str, Ended]:
    """What the job has left on its hosts, but for who has taken a port."""
    for host in ended.values():
        host.left = [process for process in host.left if "create_server" not in process.command]
    return ended


def addresses(job: Cluster) -> dict[str, list[str]]:
    """Where the tasks of a job with parameter servers listen, by what its chief is told."""
    job.program("import os; print(os.environ['TF_CONFIG'])")
    ended = without_listener(job.run())
    assert all(host.succeeded and not host.left for host in ended.values()), ended["algo-1"].stderr
    cluster: dict[str, list[str]] = json.loads(ended["algo-1"].stdout)["cluster"]
    return cluster


def test_ports(tensorflow: Callable[..., Cluster]) -> None:
    """Programs listen at 2222 and servers at 2223, unless the job sets a port, or it is taken: on that host, then."""
    job = tensorflow(2, sagemaker_parameter_server_enabled=True)
    expected = {"chief": ["algo-1:2222"], "worker": ["algo-2:2222"], "ps": ["algo-1:2223", "algo-2:2223"]}
    assert expected == addresses(job)

    job = tensorflow(2, sagemaker_parameter_server_enabled=True, sagemaker_worker_port=4000)
    take(job, "algo-2", 2223)
    found = addresses(job)
    replaced = found["ps"].pop()
    assert {"chief": ["algo-1:4000"], "worker": ["algo-2:4000"], "ps": ["algo-1:2223"]} == found
    assert re.fullmatch(r"algo-2:(?!2223)\d+", replaced)


def launcher(job: Cluster, name: str) -> int:
    """The process ID of a host's `train` command."""
    return pid(job, name, "sagemaker_framework.cli")


def pid(job: Cluster, name: str, words: str) -> int:
    """The ID of the one process of a host with these words in its command line."""
    (found,) = [process.pid for process in job[name].host.processes() if words in process.command]
    return found


def test_the_launcher_has_no_tensorflow(tensorflow: Callable[..., Cluster]) -> None:
    """TensorFlow is mapped into the memory of the programs, and never into that of `train`."""
    job = tensorflow(2, sagemaker_parameter_server_enabled=True)
    job.program("import tensorflow, time\nprint('begun', flush=True)\ntime.sleep(600)")
    job.start()
    for name in job.names:
        job.expect(name, "begun", PATIENCE)
        with_tensorflow = [
            "site-packages/tensorflow/" in Path(f"/proc/{pid}/maps").read_text()
            for pid in (pid(job, name, "train.py"), launcher(job, name))
        ]
        assert [True, False] == with_tensorflow


#: Trains for ever, with one variable on each server, and does what a test asks for by a file or a variable.
ENDLESS = """
import os, signal, sys, time
import tensorflow as tf

task = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if task.task_type == "worker":
    server = tf.distribute.Server(task.cluster_spec(), job_name="worker", task_index=task.task_id)
    while not os.path.exists("/opt/ml/code/raise"):
        time.sleep(0.05)
    raise ValueError("no such image: 7.png")

stopping = []
if "SAVES" in os.environ:
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
strategy = tf.distribute.ParameterServerStrategy(task)
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    first, second = tf.Variable(0), tf.Variable(0)

@tf.function
def step():
    first.assign_add(1)
    second.assign_add(1)

while not stopping:
    coordinator.schedule(step)
    coordinator.join()
    if first.numpy() == 10:
        print("training", first.device, second.device, flush=True)
    if os.path.exists("/opt/ml/code/exit"):
        sys.exit(3)

time.sleep(1)  # Long enough for servers that were asked to stop at the same time to be gone.
here = tf.train.CheckpointOptions(experimental_io_device="/job:chief")
path = tf.train.Checkpoint(first=first, second=second).write("/opt/ml/checkpoints/last", options=here)
saved = tf.train.load_checkpoint(path)
values = [saved.get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in ("first", "second")]
print("saved", values[0] == values[1] >= 10, flush=True)
os._exit(0)
"""


@pytest.fixture
def training(tensorflow: Callable[..., Cluster]) -> Callable[..., Cluster]:
    """Starts a job on two hosts, with these variables, that trains for ever; it does so now."""

    def start(**env: str) -> Cluster:
        job = tensorflow(2, sagemaker_parameter_server_enabled=True)
        job.env.update(env)
        job.program(ENDLESS)
        job.start()
        job.expect("algo-1", "training", PATIENCE)
        return job

    return start


@pytest.mark.fault
@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("algo-1", "algo-1 (host 1 of 2): ps was killed by signal 9 (SIGKILL) while train.py was running"),
        ("algo-2", "algo-2 (host 2 of 2): ps was killed by signal 9 (SIGKILL) while the job was running"),
    ],
)
def test_a_server_is_killed(training: Callable[..., Cluster], name: str, cause: str) -> None:
    """It is the cause on all hosts, whatever the chief says that it has lost."""
    job = training()
    os.kill(pid(job, name, "tf.distribute.Server"), signal.SIGKILL)

    assert_all_begin(job.finish(SOON), cause, 137)


@pytest.mark.fault
def test_a_worker_is_killed(training: Callable[..., Cluster]) -> None:
    """It is the cause on all hosts."""
    job = training()
    os.kill(pid(job, "algo-2", "train.py"), signal.SIGKILL)

    cause = "algo-2 (host 2 of 2): train.py was killed by signal 9 (SIGKILL) while the job was running"
    assert_all_begin(job.finish(SOON), cause, 137)


@pytest.mark.fault
def test_a_worker_raises(training: Callable[..., Cluster]) -> None:
    """Its exception is the cause on all hosts."""
    job = training()
    job["algo-2"].write("raise", "")

    cause = (
        "algo-2 (host 2 of 2): train.py exited with code 1 while the job was running: ValueError: no such image: 7.png"
    )
    assert_all_begin(job.finish(SOON), cause, 1)


@pytest.mark.fault
def test_the_chief_fails(training: Callable[..., Cluster]) -> None:
    """Its exit code is the job's."""
    job = training()
    job["algo-1"].write("exit", "")

    assert_all_begin(job.finish(SOON), "algo-1 (host 1 of 2): train.py exited with code 3", 3)


@pytest.mark.fault
def test_a_port_that_the_job_sets_is_taken(tensorflow: Callable[..., Cluster]) -> None:
    """It is the cause on all hosts, and nothing has run."""
    job = tensorflow(2, sagemaker_parameter_server_enabled=True, sagemaker_ps_port=3000)
    job.program("print('ran')")
    take(job, "algo-2", 3000)
    ended = without_listener(job.run(SOON))

    cause = "port 3000, which the job sets for ps, is taken on this host: leave it out, or set another"
    assert_all_begin(ended, f"algo-2 (host 2 of 2): {cause}", 1)
    assert ["", ""] == [host.stdout for host in ended.values()]


@pytest.mark.fault
def test_a_stopped_chief_saves_what_is_on_the_servers(training: Callable[..., Cluster]) -> None:
    """SIGTERM on any host leaves the servers and workers alone until the chief has saved the variables on them."""
    job = training(SAVES="yes")
    os.kill(launcher(job, "algo-2"), signal.SIGTERM)
    ended = job.finish(SOON)

    assert [(0, None, [], False)] * 2 == [
        (host.returncode, host.failure, host.left, host.has_success_marker) for host in ended.values()
    ], ended["algo-1"].stderr
    servers = "/job:ps/replica:0/task:0/device:CPU:0 /job:ps/replica:0/task:1/device:CPU:0"
    assert f"training {servers}\nsaved True\n" == ended["algo-1"].stdout
    assert (job["algo-1"].base / "checkpoints/last.index").exists()


@pytest.mark.fault
def test_a_stopped_chief_that_does_not_save(training: Callable[..., Cluster]) -> None:
    """Without a handler SIGTERM ends the chief, and with it the job: only the chief's host has failed."""
    job = training()
    os.kill(launcher(job, "algo-1"), signal.SIGTERM)
    ended = job.finish(SOON)

    assert [(143, [], False), (0, [], False)] == [
        (host.returncode, host.left, host.has_success_marker) for host in ended.values()
    ]
    assert ended["algo-1"].cause.startswith(
        "the job was stopped by SIGTERM: train.py was killed by signal 15 (SIGTERM)"
    )
    assert ended["algo-2"].failure is None
