"""ParameterServerStrategy, as an author of a framework's container meets it, on one host."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import Finished, Job

#: A framework with a scheduler: it and the servers write what they know into files, and wait.
CONTAINER = """
import json, sys
from sagemaker_framework import ParameterServerStrategy, Trainer

SERVE = '''
import json, os, signal, sys
name = os.environ["ROLE"]
if name == os.environ.get("DIES"):
    sys.exit("no memory for keys")
with open(f"/{sys.argv[1]}/{name}.new", "w") as file:
    print(os.environ["SCHEDULER"], file=file)
os.rename(f"/{sys.argv[1]}/{name}.new", f"/{sys.argv[1]}/{name}")
while True: signal.pause()
'''

class Servers(ParameterServerStrategy):
    def ports(self):
        return {"scheduler": 8000, "control": 0}

    def start_servers(self, launch):
        for role in ("scheduler", "server"):
            launch(role, [sys.executable, "-c", SERVE, self.env.model_dir], env_vars=self.role_env(role))

    def role_env(self, role):
        return {
            "ROLE": role,
            "SCHEDULER": f"{self.leader_address}:{self.port('scheduler')}",
            "OWN": self.own_address,
            "CONTROL": self.address("control", "algo-1"),
        }

class MyTrainer(Trainer):
    parameter_servers = Servers
"""

#: Waits for both, and tells what it knows.
PROGRAM = """
import json, os, time
model = os.environ["SM_MODEL_DIR"]
while not all(os.path.exists(f"{model}/{name}") for name in ("scheduler", "server")):
    time.sleep(0.01)
said = [open(f"{model}/{name}").read().strip() for name in ("scheduler", "server")]
print(json.dumps([os.environ["ROLE"], os.environ["SCHEDULER"], os.environ["CONTROL"], os.environ["OWN"], said]))
"""


def run(job: Job, folder: Path, **hyperparameters: Any) -> Finished:
    (folder / "container.py").write_text(CONTAINER)
    job.env.update(PYTHONPATH=str(folder), SAGEMAKER_TRAINING_MODULE="container:MyTrainer")
    job.hyperparameters.update(sagemaker_parameter_server_enabled=True, **hyperparameters)
    job.program(PROGRAM)
    return job.run()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def free() -> int:
    with socket.create_server(("", 0)) as server:
        return int(server.getsockname()[1])


def test_the_program_and_its_servers_find_each_other(job: Job, tmp_path: Path) -> None:
    """All get their roles, the leader's IP address, and the ports that were chosen; nothing is left afterwards."""
    port = free()
    ended = run(job, tmp_path, sagemaker_scheduler_port=port)
    role, scheduler, control, own, said = json.loads(ended.stdout)
    address = scheduler.partition(":")[0]

    assert ended.succeeded, ended.stderr
    assert ("worker", f"{address}:{port}", [scheduler] * 2) == (role, scheduler, said)
    assert address == socket.inet_ntoa(socket.inet_aton(address))
    assert control.startswith("algo-1:")
    assert address == own


def test_the_port_and_the_address_of_the_leader(job: Job, tmp_path: Path) -> None:
    """`port` and `address` are the leader's where no host is given."""
    text = CONTAINER.replace('self.address("control", "algo-1")', 'self.address("control")')
    text = text.replace('"OWN": self.own_address', """"OWN": f"algo-1:{self.port('control')}\"""")
    assert CONTAINER != text
    (tmp_path / "container.py").write_text(text)
    job.env.update(PYTHONPATH=str(tmp_path), SAGEMAKER_TRAINING_MODULE="container:MyTrainer")
    job.hyperparameters["sagemaker_parameter_server_enabled"] = True
    job.program(PROGRAM)
    ended = job.run()

    assert ended.succeeded, ended.stderr
    _, _, control, own, _ = json.loads(ended.stdout)
    assert own == control


def test_a_port_that_is_taken_is_not_used(job: Job, tmp_path: Path, taken: int) -> None:
    """Where the job does not insist on a port, one that is free is taken."""
    with_port = CONTAINER.replace("8000", str(taken))
    assert f'"scheduler": {taken}' in with_port
    (tmp_path / "site").mkdir()
    ended = run(job, tmp_path / "site")
    assert ended.succeeded

    (tmp_path / "site/container.py").write_text(with_port)
    ended = job.run()
    assert ended.succeeded
    assert f":{taken}" not in ended.stdout


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (
            "taken",
            "port {taken}, which the job sets for scheduler, is taken on this host: leave it out, or set another",
        ),
        (70000, "the port of scheduler is 70000, not a number from 1 to 65535"),
        ("a", "the port of scheduler is 'a', not a number from 1 to 65535"),
        (True, "the port of scheduler is True, not a number from 1 to 65535"),
        (-1, "the port of scheduler is -1, not a number from 1 to 65535"),
    ],
)
def test_a_port_that_cannot_be_had(job: Job, tmp_path: Path, taken: int, given: object, cause: str) -> None:
    """A port that the job insists on, and that cannot be listened at, fails the job before anything starts."""
    ended = run(job, tmp_path, sagemaker_scheduler_port=taken if given == "taken" else given)

    assert (1, cause.format(taken=taken)) == (ended.returncode, ended.cause)
    assert "" == ended.stdout


def test_two_processes_at_one_port(job: Job, tmp_path: Path) -> None:
    """The same port for two processes of a host is a mistake of the job."""
    port = free()
    ended = run(job, tmp_path, sagemaker_scheduler_port=port, sagemaker_control_port=port)

    assert ended.cause.startswith("two processes of a host cannot listen at the same port")


def test_a_fixed_port_that_another_prefers(job: Job, tmp_path: Path) -> None:
    """The other takes one that is free."""
    ended = run(job, tmp_path, sagemaker_control_port=8000)

    assert ended.succeeded, ended.stderr
    _, scheduler, control, _, _ = json.loads(ended.stdout)
    assert ("algo-1:8000", False) == (control, scheduler.endswith(":8000"))


@pytest.mark.parametrize("ports", ["None", "{'scheduler': '8000'}", "{'scheduler': -1}", "{'scheduler': 70000}"])
def test_ports_that_are_none(job: Job, tmp_path: Path, ports: str) -> None:
    """What an author's `ports` returns by mistake is named."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/container.py").write_text(CONTAINER.replace('{"scheduler": 8000, "control": 0}', ports))
    job.env.update(PYTHONPATH=str(tmp_path / "site"), SAGEMAKER_TRAINING_MODULE="container:MyTrainer")
    job.hyperparameters["sagemaker_parameter_server_enabled"] = True
    job.program("print('ran')")

    assert f"Servers.ports returned {ports}, not a mapping of names to numbers from 0 to 65535" == job.run().cause


def test_a_server_that_dies(job: Job, tmp_path: Path) -> None:
    """It fails the job, with its name and last words."""
    job.env["DIES"] = "server"
    ended = run(job, tmp_path)

    assert (1, "server exited with code 1 while train.py was running: no memory for keys") == (
        ended.returncode,
        ended.cause,
    )
    assert not ended.has_success_marker


def test_a_subclass_that_is_not_whole(job: Job, tmp_path: Path) -> None:
    """What an author has to write is named, and nothing is started without it."""
    text = CONTAINER.replace("def role_env", "def role_environment")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/container.py").write_text(text)
    job.env.update(PYTHONPATH=str(tmp_path / "site"), SAGEMAKER_TRAINING_MODULE="container:MyTrainer")
    job.hyperparameters["sagemaker_parameter_server_enabled"] = True
    job.program("print('ran')")
    ended = job.run()

    assert "abstract" in ended.cause
    assert "role_env" in ended.cause
    assert "" == ended.stdout
