"""The container of examples/tensorflow without TensorFlow; tests/frameworks/test_tensorflow.py has the rest."""

from __future__ import annotations

import inspect
import json
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from jobs import Finished, Job

from sagemaker_framework import FrameworkError, MPIStrategy, MultiWorkerStrategy, SingleProcessStrategy
from sagemaker_framework.config import files

EXAMPLE = Path(__file__).parents[2] / "examples/tensorflow"
sys.path.append(str(EXAMPLE))

from tensorflow_container import training  # noqa: E402

BUCKET = "s3://models"


def values(job: Job, host: str = "algo-1", of: int = 2, **hyperparameters: Any) -> Mapping[str, Any]:
    """The environment of one of several hosts."""
    hosts = [f"algo-{number + 1}" for number in range(of)]
    job.config("resourceconfig", {"current_host": host, "hosts": hosts, "network_interface_name": "lo"})
    job.config("hyperparameters", {name: json.dumps(value) for name, value in hyperparameters.items()})
    return files.read({"SAGEMAKER_BASE_DIR": str(job.base), "TRAINING_JOB_NAME": "digits-7"})


def servers(job: Job, host: str, of: int = 2, **hyperparameters: Any) -> Any:
    """The strategy of one of several hosts with parameter servers, once all have agreed on the usual ports."""
    made = training.TensorFlowServers(values(job, host, of, **hyperparameters))
    ports = {name: dict(made.ports()) for name in made.hosts()}
    made.plan_result = {"leader": "10.0.0.1", "ports": ports}
    return made


def config(variables: Mapping[str, str]) -> Any:
    return json.loads(variables["TF_CONFIG"])


def run(job: Job, program: str, **hyperparameters: Any) -> Finished:
    """Run a program in the example's container, on one host."""
    job.env.update(PYTHONPATH=str(EXAMPLE), SAGEMAKER_TRAINING_MODULE="tensorflow_container.training:TensorFlowTrainer")
    job.hyperparameters.update(hyperparameters)
    job.program(program)
    return job.run()


# -- parameter servers ---------------------------------------------------------------------------------------------


def test_the_tasks_of_each_host(job: Job) -> None:
    """The leader is the chief, the others are workers, from 0, and all know where every task listens."""
    cluster = {
        "chief": ["algo-1:2222"],
        "worker": ["algo-2:2222", "algo-3:2222"],
        "ps": ["algo-1:2223", "algo-2:2223", "algo-3:2223"],
    }
    tasks = [("chief", 0), ("worker", 0), ("worker", 1)]
    expected = [
        {"cluster": cluster, "task": {"type": kind, "index": index}, "environment": "cloud"} for kind, index in tasks
    ]

    assert expected == [config(servers(job, f"algo-{number}", 3).env_vars()) for number in (1, 2, 3)]


def test_servers_are_numbered_over_all_hosts(job: Job) -> None:
    """Each host has one parameter server, numbered as the host is."""
    found = [config(servers(job, f"algo-{number}", 3).role_env("ps"))["task"] for number in (1, 2, 3)]

    assert [{"type": "ps", "index": index} for index in (0, 1, 2)] == found


def test_a_group_that_takes_no_part(job: Job) -> None:
    """Only the hosts of the groups that the job is distributed over have tasks; the first of them is the chief."""
    env = dict(values(job, "algo-3", 3, sagemaker_parameter_server_enabled=True))
    env.update(distribution_hosts=["algo-2", "algo-3"], master_hostname="algo-2")
    made = training.TensorFlowServers(env)
    made.plan_result = {"ports": {name: made.ports() for name in made.hosts()}}
    found = config(made.env_vars())

    cluster = {"chief": ["algo-2:2222"], "worker": ["algo-3:2222"], "ps": ["algo-2:2223", "algo-3:2223"]}
    assert (cluster, {"type": "worker", "index": 0}) == (found["cluster"], found["task"])


def test_the_older_name_of_the_chief(job: Job) -> None:
    """The task that scripts of TensorFlow 1 look for is called master where the job says so."""
    found = config(servers(job, "algo-1", sagemaker_tensorflow_chief_name="master").env_vars())

    assert ["algo-1:2222"] == found["cluster"]["master"]
    assert "chief" not in found["cluster"]
    assert {"type": "master", "index": 0} == found["task"]


@pytest.mark.parametrize("name", ["boss", "", None, 1, ["chief"]])
def test_a_name_of_the_chief_that_tensorflow_does_not_know(job: Job, name: object) -> None:
    """It fails the job with the hyperparameter and its value."""
    with pytest.raises(FrameworkError) as error:
        servers(job, "algo-1", sagemaker_tensorflow_chief_name=name)

    expected = f"the hyperparameter sagemaker_tensorflow_chief_name is {name!r}: TensorFlow knows chief and master"
    assert expected == str(error.value)


def test_only_the_chief_decides(job: Job) -> None:
    """Workers never end by themselves, so that the job lasts until the chief has ended."""
    assert [True, False] == [servers(job, name).completes_job() for name in ("algo-1", "algo-2")]


def test_a_server_has_no_gpu(job: Job) -> None:
    """Each host starts one server, by the Python that has TensorFlow, which sees no GPU and knows its task."""
    started = []
    servers(job, "algo-2").start_servers(lambda name, argv, env_vars: started.append((name, argv, env_vars)))
    ((name, argv, env_vars),) = started

    assert ("ps", [sys.executable, "-c", training.SERVE]) == (name, argv)
    assert "" == env_vars["CUDA_VISIBLE_DEVICES"]
    assert {"type": "ps", "index": 1} == config(env_vars)["task"]


def test_what_the_container_says_of_grpc_stays(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """GRPC_FAIL_FAST is as TensorFlow wants it for parameter servers, unless the image or the job has set it."""
    monkeypatch.delenv("GRPC_FAIL_FAST", raising=False)
    assert "use_caller" == servers(job, "algo-1").env_vars()["GRPC_FAIL_FAST"]

    monkeypatch.setenv("GRPC_FAIL_FAST", "true")
    assert "GRPC_FAIL_FAST" not in servers(job, "algo-1").env_vars()


def test_the_strategy_is_short() -> None:
    """An author needs at most 60 lines for parameter servers, the server's own program included."""
    lines = inspect.getsource(training.TensorFlowServers).splitlines() + training.SERVE.strip().splitlines()

    assert len(lines) <= 60


@pytest.mark.parametrize(
    ("hosts", "asked", "strategy"),
    [
        (1, "", SingleProcessStrategy),
        (2, "", SingleProcessStrategy),
        (1, "parameter_server", SingleProcessStrategy),
        (2, "parameter_server", None),
        (2, "multi_worker_mirrored_strategy", MultiWorkerStrategy),
        (2, "mpi", MPIStrategy),
    ],
)
def test_what_each_job_gets(job: Job, hosts: int, asked: str, strategy: type | None) -> None:
    """Parameter servers where there are several hosts for them, and the SDK's own strategies."""
    flags = {f"sagemaker_{asked}_enabled": True} if asked else {}
    trainer = training.TensorFlowTrainer(values(job, of=hosts, **flags))

    assert (strategy or training.TensorFlowServers) is type(trainer.strategy())


def test_parameter_servers_and_mpi(job: Job) -> None:
    """Two distributions at once are refused, by the names that asked for them."""
    asked = {"sagemaker_parameter_server_enabled": True, "sagemaker_mpi_enabled": True}

    with pytest.raises(FrameworkError, match="sagemaker_mpi_enabled and sagemaker_parameter_server_enabled"):
        training.TensorFlowTrainer(values(job, **asked)).strategy()


def test_parameter_servers_on_one_host(job: Job) -> None:
    """There the program runs alone: no TF_CONFIG, no server."""
    ended = run(job, "import os; print('TF_CONFIG' in os.environ)", sagemaker_parameter_server_enabled=True)

    assert ended.succeeded, ended.stderr
    assert "False\n" == ended.stdout


# -- model_dir -----------------------------------------------------------------------------------------------------

TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ.get('SM_HP_MODEL_DIR')]))"


@pytest.mark.parametrize(
    ("model_dir", "name", "expected"),
    [
        ("s3://models/digits", "digits-7", "s3://models/digits/digits-7/model"),
        ("s3://models/digits/", "digits-7", "s3://models/digits/digits-7/model"),
        ("/opt/ml/model", "digits-7", "/opt/ml/model"),
        (None, "digits-7", None),
    ],
)
def test_the_trainings_of_a_tuning_job(job: Job, model_dir: object, name: str, expected: object) -> None:
    """Each has a model_dir of its own on S3, in arguments and variables; no other place is changed."""
    given = {} if model_dir is None else {"model_dir": model_dir}
    job.env["TRAINING_JOB_NAME"] = name
    job.env["S3_REGION"] = "us-west-2"  # So that no bucket is asked for its own.
    ended = run(job, TELL, _tuning_objective_metric="accuracy", **given)

    assert [["--model_dir", expected] if given else [], expected] == json.loads(ended.stdout)


def test_model_dir_is_the_users(job: Job) -> None:
    """Where no tuning job has started the training, model_dir is passed on as it is."""
    job.env.update(TRAINING_JOB_NAME="digits-7", S3_REGION="us-west-2")
    ended = run(job, TELL, model_dir="s3://models/digits")

    assert [["--model_dir", "s3://models/digits"], "s3://models/digits"] == json.loads(ended.stdout)


# -- S3 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_dir", [None, "/opt/ml/model", 3])
def test_a_model_that_is_not_on_s3(model_dir: object) -> None:
    """No variable is set for one."""
    assert {} == training.s3_variables(model_dir, "us-west-2", {})


def test_the_region_of_the_bucket(s3: Any) -> None:
    """It is the bucket's own, whatever region the job is in, and AWS_REGION, which TensorFlow goes by, tells it too."""
    elsewhere = boto3.Session().client("s3", region_name="eu-north-1")
    elsewhere.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    variables = training.s3_variables(BUCKET, "us-west-2", {"AWS_REGION": "us-west-2"})

    assert {
        "AWS_REGION": "eu-north-1",
        "S3_REGION": "eu-north-1",
        "S3_USE_HTTPS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "1",
    } == variables


def test_a_bucket_that_is_not_there(s3: Any) -> None:
    """The region is the job's."""
    variables = training.s3_variables("s3://no-such-bucket/model", "us-west-2", {})

    assert ("us-west-2", "us-west-2") == (variables["AWS_REGION"], variables["S3_REGION"])


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_s3_that_does_not_answer(job: Job, silent: str) -> None:
    """The job goes on, with the region of its own, and the log says why."""
    job.env.update(AWS_ENDPOINT_URL_S3=silent, AWS_REGION="us-west-2", NO_PROXY="127.0.0.1")
    job.env["S3_ENDPOINT_URL"] = ""
    ended = run(job, "import os; print(os.environ['S3_REGION'])", model_dir="s3://models/digits")

    assert ended.succeeded, ended.stderr
    assert "us-west-2\n" == ended.stdout
    assert "the region of the bucket models is not known, and taken to be the job's: " in ended.stderr


def test_a_model_dir_that_names_no_bucket(job: Job) -> None:
    """It is the program's to complain about; the job starts."""
    ended = run(job, "print('ran')", model_dir="s3://")

    assert "ran\n" == ended.stdout


def test_what_the_container_says_of_s3_stays() -> None:
    """Variables that the image or the job has set are not replaced; one that names the region saves the question."""
    given = {"S3_REGION": "eu-west-1", "S3_USE_HTTPS": "0", "TF_CPP_MIN_LOG_LEVEL": "0"}

    assert {"AWS_REGION": "eu-west-1"} == training.s3_variables(BUCKET, "us-west-2", given)


# -- what was saved ------------------------------------------------------------------------------------------------

SAVE = """
import os
for path in {paths!r}:
    file = os.path.join(os.environ["SM_MODEL_DIR"], path)
    os.makedirs(os.path.dirname(file), exist_ok=True)
    open(file, "w").close()
"""


def warnings(ended: Finished) -> list[str]:
    return [line.partition("WARNING  ")[2] for line in ended.stderr.splitlines() if " WARNING " in line]


@pytest.mark.parametrize(
    ("paths", "warning"),
    [
        ([], "nothing was saved in FOLDER, so that the job has no model: programs find that folder in SM_MODEL_DIR"),
        (
            ["weights.npy"],
            "there is no SavedModel in FOLDER: TensorFlow Serving loads FOLDER/<name>/<version>/saved_model.pb only",
        ),
        (
            ["digits/saved_model.pb"],
            "FOLDER/digits is not named by a number: "
            "TensorFlow Serving loads FOLDER/<name>/<version>/saved_model.pb only",
        ),
        (["digits/1/saved_model.pb"], None),
        (["1/saved_model.pb", "digits/saved_model.pb"], None),
    ],
)
def test_what_tensorflow_serving_cannot_load(job: Job, paths: list[str], warning: str | None) -> None:
    """A job that has succeeded without a model that can be served is warned, in one line, and has succeeded."""
    ended = run(job, SAVE.format(paths=paths))

    assert ended.succeeded, ended.stderr
    assert ([warning.replace("FOLDER", f"{job.base}/model")] if warning else []) == warnings(ended)


def test_a_model_on_s3_is_not_looked_for(job: Job) -> None:
    """There is nothing to warn of where the model goes to S3 at once."""
    job.env["S3_REGION"] = "us-west-2"
    ended = run(job, "print('ran')", model_dir="s3://models/digits")

    assert ended.succeeded
    assert [] == warnings(ended)


def test_a_job_that_has_failed_has_no_model(job: Job) -> None:
    """It is not warned of that as well."""
    assert [] == warnings(run(job, "raise SystemExit(3)"))


def test_only_the_leader_has_a_model(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    """The other hosts save nothing, and are not warned."""
    for name in ("algo-2", "algo-1"):
        training.TensorFlowTrainer(values(job, name)).post_train()
        assert ("nothing was saved" in capfd.readouterr().err) == (name == "algo-1")


# -- the launcher --------------------------------------------------------------------------------------------------


def test_the_launcher_imports_no_tensorflow(job: Job) -> None:
    """Neither TensorFlow nor what comes with it is loaded by `train`."""
    job.env.update(PYTHONPATH=str(EXAMPLE), SAGEMAKER_TRAINING_MODULE="tensorflow_container.training:TensorFlowTrainer")
    job.program("print('ran')")
    code = (
        "import json, sys; from sagemaker_framework import trainer; trainer.train();"
        "print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    )
    ran, loaded = job.run([sys.executable, "-c", code]).stdout.splitlines()

    assert "ran" == ran
    assert "tensorflow_container" in json.loads(loaded)
    assert not {"tensorflow", "keras", "numpy"} & set(json.loads(loaded))
