"""The images of examples/: what is in them, and that jobs run in their containers as on SageMaker."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from images import PATH, ROOT, Container, ContainerCluster, Engine, Image

from sagemaker_framework.local.backends.namespace.hosts import Hosts

pytestmark = pytest.mark.images

MakeHosts = Callable[..., Hosts]

#: The releases of Debian whose Python is that of the Dockerfiles' own base images.
BASES = {"mxnet": "bookworm", "tensorflow": "trixie"}

TRAINERS = {
    "mxnet": "mxnet_container.training:MXNetTrainer",
    "tensorflow": "tensorflow_container.training:TensorFlowTrainer",
}

#: What an image adds to its base, in MB: at most this.
SIZES = {"mxnet": 400, "tensorflow": 1400}


@pytest.fixture(params=BASES)
def example(request: pytest.FixtureRequest) -> str:
    """Each folder of examples/ that is a container."""
    return str(request.param)


@pytest.fixture
def image(engine: Engine, example: str) -> Image:
    """The image of each."""
    return engine.build(example, engine.base(BASES[example]))


@pytest.fixture
def job(image: Image, tmp_path: Path) -> Container:
    """A job in a container of each image."""
    return Container(image, tmp_path / "ml")


def train_on_digits(job: Container, example: str) -> None:
    """Have the job run the example's script."""
    import numpy as np
    from sklearn.datasets import load_digits

    job.program((ROOT / "examples" / example / "train.py").read_text())
    table = np.column_stack(load_digits(return_X_y=True))
    np.savetxt(job.base / "input/data/training/digits.csv", table, fmt="%d", delimiter=",")


def accuracy(stdout: str, processes: int) -> float:
    """What a script of examples/ has come to."""
    (found,) = re.findall(rf"processes={processes} accuracy=([\d.]+)", stdout)
    return float(found)


def leftovers(image: Image) -> set[str]:
    """The files of an image that were of use only when something was installed."""
    folders = ["root/.cache", "context", "tmp", "mnt", "var/cache/apt", "var/lib/apt/lists"]
    tools = ["cc", "c++", "gcc", "g++", "clang", "cpp", "ld", "as", "make"]
    with image.files() as root:
        files = [file for folder in folders for file in (root / folder).rglob("*") if not file.is_dir()]
        files += [file for folder in PATH.split(":") for file in (root / folder[1:]).iterdir() if file.name in tools]
        files += root.rglob("pip.conf")
        return {str(file.relative_to(root)) for file in files}


def private_keys(image: Image) -> list[str]:
    """The files of an image that are private keys."""
    key = re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----", re.MULTILINE)
    with image.files() as root:
        files = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink()]
        small = [file for file in files if file.stat().st_size < 1 << 16]
        return [str(file.relative_to(root)) for file in small if key.search(file.read_bytes())]


def test_a_model_is_trained(job: Container, example: str) -> None:
    """The example's script runs in its container, alone, and leaves a model in the mounted folder."""
    train_on_digits(job, example)
    ended = job.run()

    assert (0, True, None) == (ended.returncode, ended.succeeded, ended.failure), ended.stderr
    assert accuracy(ended.stdout, 1) > 0.9
    assert list((job.base / "model").iterdir())


def test_train_is_the_first_process(job: Container) -> None:
    """SageMaker's `docker run IMAGE train` has `train` run as PID 1, and the program as its child: no shell between."""
    job.program("import os; print(os.getppid(), open('/proc/1/cmdline').read().split('\\0'))")

    assert "1 ['/opt/container/bin/python3', '/opt/container/bin/train', '']\n" == job.run().stdout


def test_an_exit_code_is_passed_on(job: Container) -> None:
    """The container ends with the program's exit code, and the reason is in the mounted folder."""
    job.program("import sys; sys.exit(7)")
    ended = job.run()

    assert (7, False, "train.py exited with code 7") == (ended.returncode, ended.has_success_marker, ended.cause)


def test_a_stopped_job_saves(job: Container) -> None:
    """SIGTERM to the container reaches the program, which saves what it has; then the container ends by itself."""
    job.program(
        """
        import os, signal, sys

        def stop(signum, frame):
            with open(os.path.join(os.environ["SM_MODEL_DIR"], "checkpoint"), "w") as file:
                file.write("saved")
            sys.exit(0)

        signal.signal(signal.SIGTERM, stop)
        print("ready", flush=True)
        signal.pause()
        """
    )
    started = job.start()
    assert started.stdout
    assert b"ready\n" == started.stdout.readline()
    job.stop()
    ended = job.finish(started)

    assert (0, False) == (ended.returncode, ended.has_success_marker)
    assert "saved" == (job.base / "model/checkpoint").read_text()


def test_how_containers_are_started(image: Image, example: str) -> None:
    """An image sets two variables, and no entry point: what SageMaker says is run as it is."""
    expected = {f"PATH=/opt/container/bin:{PATH}", f"SAGEMAKER_TRAINING_MODULE={TRAINERS[example]}"}

    assert expected == set(image.config["Env"])
    assert not image.config.get("Entrypoint")


def test_what_an_image_adds(image: Image, engine: Engine, example: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An image is not much larger than the framework in it."""
    base = Image(engine, engine.base(BASES[example]))
    added = (image.size - base.size) / 1e6
    with capsys.disabled():
        print(f"\n{example}: {image.size / 1e6:.0f} MB, of which {base.size / 1e6:.0f} are the base image's")

    assert added < SIZES[example]


def test_nothing_else_is_left(image: Image, engine: Engine, example: str) -> None:
    """No compiler, no cache, no list of packages, and nothing of what was there only to build the image."""
    assert set() == leftovers(image) - leftovers(Image(engine, engine.base(BASES[example])))


def test_no_secrets(image: Image) -> None:
    """No private key is in an image, of ssh or of anything else, and it does not know how it was built."""
    assert [] == private_keys(image)
    assert "PIP_" not in image.history + json.dumps(image.config)


def test_podman_builds_it_too(engine: Engine, tmp_path: Path) -> None:
    """`podman build` makes an image in which the same job runs."""
    job = Container(engine.build("mxnet", engine.base(BASES["mxnet"]), tool="podman"), tmp_path / "ml")
    train_on_digits(job, "mxnet")

    assert accuracy(job.run().stdout, 1) > 0.9


@pytest.mark.parametrize(
    ("example", "asked"),
    [
        ("mxnet", "parameter_server"),
        ("tensorflow", "parameter_server"),
        ("tensorflow", "multi_worker_mirrored_strategy"),
    ],
)
def test_two_containers_are_one_job(
    image: Image, example: str, asked: str, make_hosts: MakeHosts, tmp_path: Path
) -> None:
    """Two containers train one model, on a network that has nothing but them."""
    cluster = ContainerCluster(image, make_hosts(2), tmp_path)
    for job in cluster.jobs.values():
        train_on_digits(job, example)
        job.hyperparameters[f"sagemaker_{asked}_enabled"] = True
    ended = cluster.run()

    assert {"algo-1": None, "algo-2": None} == {name: host.failure for name, host in ended.items()}
    assert all(host.succeeded for host in ended.values())
    # Which of them tells depends on the order in which MXNet's workers have met.
    assert accuracy("".join(host.stdout for host in ended.values()), 2) > 0.9


def test_open_mpi_on_request(engine: Engine, make_hosts: MakeHosts, tmp_path: Path) -> None:
    """With OPEN_MPI, an image has what MPI jobs need, but neither a compiler nor ssh keys that all would share."""
    base = engine.base(BASES["tensorflow"])
    image = engine.build("tensorflow", base, OPEN_MPI="yes")
    cluster = ContainerCluster(image, make_hosts(2), tmp_path)
    for job in cluster.jobs.values():
        job.program(
            "from mpi4py import MPI; print('sum', MPI.COMM_WORLD.allreduce(MPI.COMM_WORLD.rank + 1), flush=True)"
        )
        job.hyperparameters["sagemaker_mpi_enabled"] = True
    ended = cluster.run()

    assert {"algo-1": None, "algo-2": None} == {name: host.failure for name, host in ended.items()}
    assert {"algo-1": "[0,algo-1] sum 3\n", "algo-2": "[1,algo-2] sum 3\n"} == {
        name: host.stdout for name, host in ended.items()
    }
    assert set() == leftovers(image) - leftovers(Image(engine, base))
    assert [] == private_keys(image)
