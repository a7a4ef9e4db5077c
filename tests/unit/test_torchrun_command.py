"""What strategies without mpirun run on each host, and with which variables; nothing is run."""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from jobs import TRAIN, Job

from sagemaker_framework import strategies
from sagemaker_framework.config import files
from sagemaker_framework.entry_point import PythonEntryPoint
from sagemaker_framework.errors import ConfigurationError
from sagemaker_framework.strategies._network import await_listener, efa_variables, free_port, interface_variables
from sagemaker_framework.strategies.base import DistributionStrategy
from sagemaker_framework.strategies.multi_worker import MultiWorkerStrategy


def strategy(job: Job, name: str, values: dict[str, Any] | None = None, **asked: Any) -> DistributionStrategy:
    """The strategy that `sagemaker_<name>_enabled` chooses, once the hosts have agreed; `values` are as given."""
    job.config("hyperparameters", {f"sagemaker_{name}_enabled": True, **asked})
    read = files.read({"SAGEMAKER_BASE_DIR": str(job.base), "TRAINING_JOB_NAME": "digits-1"})
    made = strategies.choose(read.evolve(**(values or {})))
    made.plan_result = made.plan({host: {"port": 8890, "processes": 1} for host in made.hosts()})
    return made


def command(job: Job, name: str, values: dict[str, Any] | None = None, **asked: Any) -> list[str]:
    """The argument list of this host for `train.py --lr 1`."""
    program = job.write("train.py", "")
    made = strategy(job, name, values, **asked)
    try:
        return made.command(PythonEntryPoint(program.name, str(job.code_dir)), ["--lr", "1"]) or []
    finally:
        made.close()


@pytest.fixture
def torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchrun on PATH, in case that the Python of the tests has none."""
    for name in ("torchrun", "neuron_parallel_compile"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("PET_NPROC_PER_NODE", "PET_MAX_RESTARTS", "PET_RDZV_BACKEND", "PET_RDZV_CONF"):
        monkeypatch.delenv(name, raising=False)


def options(argv: list[str]) -> dict[str, str]:
    """torchrun's options, without the folder of its log, which is new each time."""
    assert argv[0] == "torchrun" or argv[:3] == [sys.executable, "-m", "torch.distributed.run"]
    found = dict(word[2:].partition("=")[::2] for word in argv[: argv.index("--no-python")] if word.startswith("--"))
    assert found.pop("log_dir")
    return found


TWO_HOSTS = {"nnodes": "2", "nproc_per_node": "1", "rdzv_id": "digits-1"}


def test_hosts_meet_at_the_leader(torchrun: None, job: Job) -> None:
    """Each host's torchrun knows how many hosts there are, which one it is, and where the leader listens."""
    job.hosts("algo-2", "algo-1")
    job.config("resourceconfig", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    got = options(command(job, "torch_distributed"))

    assert got.pop("master_port").isdecimal()
    assert {
        **TWO_HOSTS,
        "max_restarts": "0",
        "rdzv_backend": "static",
        "node_rank": "1",
        "master_addr": "algo-1",
    } == got


@pytest.mark.parametrize(("host", "is_host"), [("algo-1", "1"), ("algo-2", "0")])
def test_hosts_that_restart_together_meet_by_c10d(torchrun: None, job: Job, host: str, is_host: str) -> None:
    """A static rendezvous cannot start processes again: c10d can, with its store on the leader."""
    job.config("resourceconfig", {"current_host": host, "hosts": ["algo-1", "algo-2"]})
    asked = {"sagemaker_torch_distributed_custom_torchrun_options": "--max-restarts 3 --rdzv-conf timeout=60"}
    got = options(command(job, "torch_distributed", **asked))

    assert got.pop("rdzv_endpoint").startswith("algo-1:")
    assert {
        **TWO_HOSTS,
        "max_restarts": "3",
        "rdzv_backend": "c10d",
        "local_addr": host,
        "rdzv_conf": f"is_host={is_host},timeout=60",
    } == got


def test_one_host_does_not_look_for_itself(torchrun: None, job: Job) -> None:
    """A single host need not be able to resolve its own name."""
    assert "127.0.0.1" == options(command(job, "torch_distributed"))["master_addr"]


def test_c10d_when_asked_for(torchrun: None, job: Job) -> None:
    """The job may say how hosts meet."""
    job.hosts("algo-1", "algo-2")
    asked = {"sagemaker_torch_distributed_custom_torchrun_options": "--rdzv_backend c10d"}

    assert "c10d" == options(command(job, "torch_distributed", **asked))["rdzv_backend"]


@pytest.mark.parametrize(
    ("asked", "values", "processes"),
    [
        ({}, {"num_gpus": 0, "num_neurons": 0}, "1"),
        ({}, {"num_gpus": 8}, "8"),
        ({}, {"num_gpus": 0, "num_neurons": 32}, "32"),
        ({"sagemaker_torch_distributed_num_of_processes_per_host": "4"}, {"num_gpus": 8}, "4"),
        ({"sagemaker_mpi_num_of_processes_per_host": "2"}, {"num_gpus": 8}, "2"),
        ({"sagemaker_torch_distributed_custom_torchrun_options": "--nproc-per-node 3"}, {"num_gpus": 8}, "3"),
        ({"sagemaker_torch_distributed_custom_torchrun_options": "--nproc_per_node=cpu"}, {"num_cpus": 5}, "5"),
    ],
)
def test_processes_of_a_host(
    torchrun: None, job: Job, asked: dict[str, Any], values: dict[str, Any], processes: str
) -> None:
    """One process a GPU of this host, else one a Neuron core, else one, unless the job says how many."""
    assert processes == options(command(job, "torch_distributed", values, **asked))["nproc_per_node"]


def test_torchruns_own_variables(torchrun: None, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun's PET_* variables say what the hyperparameters do not."""
    monkeypatch.setenv("PET_NPROC_PER_NODE", "6")
    monkeypatch.setenv("PET_MAX_RESTARTS", "2")
    got = options(command(job, "torch_distributed"))

    assert ("6", "2") == (got["nproc_per_node"], got["max_restarts"])


def test_other_options_are_passed_on(torchrun: None, job: Job) -> None:
    """What the framework need not understand reaches torchrun as a shell would split it."""
    asked = "--monitor-interval 1 --role 'a trainer' --max_restarts 0"
    argv = command(job, "torch_distributed", sagemaker_torch_distributed_custom_torchrun_options=asked)
    end = argv.index("--no-python")

    assert ["--monitor-interval", "1", "--role", "a trainer"] == argv[end - 4 : end]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("--master_addr algo-9", "sets --master_addr, which the hosts of the job agree on: leave it out"),
        ("--nnodes=1:4", "sets --nnodes"),
        ("--standalone", "sets --standalone"),
        ("-m", "sets --module"),
        ("--max_restarts some", r"--max_restarts of torchrun is 'some', not a number from 0 on"),
        ("--max_restarts", "expected one argument"),
        ("--nproc_per_node 0", "the number of processes per host of torchrun is '0', not a number from 1 on"),
        ("--rdzv_backend etcd", "--rdzv_backend is 'etcd': use c10d or static"),
        ("'open", "cannot be split into options: No closing quotation"),
        (3, "cannot be split into options"),
    ],
)
def test_options_that_cannot_be(torchrun: None, job: Job, given: object, problem: str) -> None:
    """Options that make no sense, or would keep the hosts from meeting, are refused before anything starts."""
    with pytest.raises(ConfigurationError, match=problem):
        command(job, "torch_distributed", sagemaker_torch_distributed_custom_torchrun_options=given)


def test_no_value_is_on_the_command_line(torchrun: None, job: Job) -> None:
    """Neither the program nor its arguments are on torchrun's command line, which others can read."""
    argv = command(job, "torch_distributed")

    assert not {"train.py", "--lr", "1"} & set(argv)


def test_neuron_graphs_are_compiled_ahead(torchrun: None, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """RUN_NEURON_PARALLEL_COMPILE=1 runs torchrun under neuron_parallel_compile."""
    monkeypatch.setenv("RUN_NEURON_PARALLEL_COMPILE", "1")

    assert "neuron_parallel_compile" == command(job, "torch_distributed")[0]


def test_an_image_without_torchrun(job: Job) -> None:
    """Where there is no torchrun, the job fails before it starts anything, and says what to install."""
    job.program("print('ran')")
    job.hyperparameters["sagemaker_torch_distributed_enabled"] = True
    job.env["PATH"] = "/nowhere"
    path = str(Path(files.__file__).parents[1])
    # -S: not even the packages of the Python that runs the tests.
    ended = job.run([TRAIN[0], "-S", "-c", f"import sys; sys.path.insert(0, {path!r}); {TRAIN[-1]}"])

    assert f"neither {sys.executable} has PyTorch nor is torchrun on PATH: install torch" in ended.cause
    assert "" == ended.stdout


def test_the_port_is_another_one_where_it_is_taken(job: Job) -> None:
    """The usual port is used if it is free; else all hosts are told of one that is."""
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        taken = other.getsockname()[1]

        assert taken != free_port(taken)
    assert taken == free_port(taken)


def test_the_interface_of_the_job(tmp_path: Path, job: Job) -> None:
    """Gloo and NCCL are told of the job's interface, unless they are told already, or it is not there."""
    job.config("hyperparameters", {})
    env = files.read({"SAGEMAKER_BASE_DIR": str(job.base)}).evolve(network_interface_name="eth7")
    (tmp_path / "sys/class/net/eth7").mkdir(parents=True)
    both = {"GLOO_SOCKET_IFNAME": "eth7", "NCCL_SOCKET_IFNAME": "eth7"}

    assert both == interface_variables(env, {}, str(tmp_path))
    assert {"NCCL_SOCKET_IFNAME": "eth7"} == interface_variables(env, {"GLOO_SOCKET_IFNAME": "x"}, str(tmp_path))
    assert {} == interface_variables(env.evolve(network_interface_name="eth8"), {}, str(tmp_path))


EFA = {"FI_PROVIDER": "efa", "NCCL_PROTO": "simple", "RDMAV_FORK_SAFE": "1"}


@pytest.mark.parametrize(
    ("adapters", "variables"),
    [
        ([], {}),
        ([("0x15b3", "0x101e")], {}),
        ([("0x1d0f", "0xefa0")], EFA),
        ([("0x15b3", "0x101e"), ("0x1d0f", "0xefa1")], {**EFA, "FI_EFA_USE_DEVICE_RDMA": "1"}),
    ],
    ids=["none", "of another make", "first", "with RDMA"],
)
def test_fabric_adapters(tmp_path: Path, adapters: list[tuple[str, str]], variables: dict[str, str]) -> None:
    """NCCL and libfabric use the EFAs that this container has been given, as what they are."""
    for at, (vendor, model) in enumerate(adapters):
        device = tmp_path / f"sys/class/infiniband/rdmap{at}/device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "device").write_text(f"{model}\n")

    assert {} == efa_variables({}, str(tmp_path))
    (tmp_path / "dev/infiniband").mkdir(parents=True)
    (tmp_path / "dev/infiniband/uverbs0").touch()
    assert variables == efa_variables({}, str(tmp_path))
    assert "FI_PROVIDER" not in efa_variables({"FI_PROVIDER": "tcp"}, str(tmp_path))


def test_tensorflows_workers_know_each_other(job: Job) -> None:
    """TF_CONFIG has every host's address, in the order of hosts, and this host's place among them."""
    job.config("resourceconfig", {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]})
    made = strategy(job, "multi_worker_mirrored_strategy")

    assert {
        "cluster": {"worker": ["algo-1:8890", "algo-2:8890"]},
        "task": {"type": "worker", "index": 1},
        "environment": "cloud",
    } == json.loads(made.env_vars()["TF_CONFIG"])


def test_the_documented_cluster_with_a_chief(job: Job) -> None:
    """The example of docs/distribution.md makes the leader's task the chief, and the others workers."""
    document = Path(__file__).parents[2] / "docs/distribution.md"
    (block,) = re.findall(r"```python\n(class WithChief.*?)```", document.read_text(), re.DOTALL)
    names: dict[str, Any] = {"MultiWorkerStrategy": MultiWorkerStrategy}
    exec(block, names)
    job.config("hyperparameters", {})
    job.hosts("algo-1", "algo-2", "algo-3")
    env = files.read({"SAGEMAKER_BASE_DIR": str(job.base)})
    configs = []
    for host in env.hosts:
        made = names["WithChief"](env.evolve(current_host=host))
        made.plan_result = {"ports": {"algo-1": 1, "algo-2": 2, "algo-3": 3}}
        configs.append(json.loads(made.env_vars()["TF_CONFIG"]))

    assert {"chief": ["algo-1:1"], "worker": ["algo-2:2", "algo-3:3"]} == configs[0]["cluster"]
    assert [("chief", 0), ("worker", 0), ("worker", 1)] == [
        (config["task"]["type"], config["task"]["index"]) for config in configs
    ]


def test_xla_spawns_a_process_a_gpu(job: Job) -> None:
    """PyTorch/XLA's launcher runs the script, and its runtimes know each other."""
    job.hosts("algo-1", "algo-2")
    spawn = [sys.executable, "-m", "torch_xla.distributed.xla_spawn", "--num_gpus", "8", "train.py", "--lr", "1"]
    variables = strategy(job, "pytorch_xla_multi_worker", {"num_gpus": 8}).env_vars()

    assert spawn == command(job, "pytorch_xla_multi_worker", {"num_gpus": 8})
    assert "localservice:0;algo-1:43857|localservice:1;algo-2:43857" == variables["XRT_WORKERS"]
    assert ("0", "2", "algo-1:53957") == tuple(
        variables[f"XRT_{name}"] for name in ("HOST_ORDINAL", "SHARD_WORLD_SIZE", "MESH_SERVICE_ADDRESS")
    )


def test_programs_on_several_hosts_know_where_to_meet(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any strategy, the program finds the leader as in the images for PyTorch, unless the job says."""
    job.hosts("algo-1", "algo-2")
    job.config("hyperparameters", {})
    values = files.read({"SAGEMAKER_BASE_DIR": str(job.base)})
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", "1234")
    variables = strategies.choose(values).env_vars()

    assert ("algo-1", None) == (variables["MASTER_ADDR"], variables.get("MASTER_PORT"))


def test_whether_somebody_listens() -> None:
    """A port is listened at from when a server is there, and not when it is merely bound."""
    with socket.socket() as server:
        server.bind(("", 0))
        port = server.getsockname()[1]
        assert not await_listener(port, 0)
        server.listen()
        assert await_listener(port, 0)
