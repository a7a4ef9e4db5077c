"""TrainingEnv: what authors and scripts read of a job, and the variables that a program gets."""

from __future__ import annotations

import copy
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import pytest
from jobs import Job

import sagemaker_framework
from sagemaker_framework.config.environment import TrainingEnv
from sagemaker_framework.config.files import training_env
from sagemaker_framework.errors import ConfigurationError

HETEROGENEOUS = {
    "current_host": "algo-3",
    "current_instance_type": "ml.c5.18xlarge",
    "current_group_name": "data_group",
    "hosts": ["algo-1", "algo-2", "algo-3"],
    "instance_groups": [
        {"instance_group_name": "train_group", "instance_type": "ml.p3.16xlarge", "hosts": ["algo-1", "algo-2"]},
        {"instance_group_name": "data_group", "instance_type": "ml.c5.18xlarge", "hosts": ["algo-3"]},
    ],
    "network_interface_name": "eth0",
    "topology": None,
}
HOMOGENEOUS = {
    "current_host": "algo-2",
    "current_instance_type": "ml.c5.xlarge",
    "current_group_name": "homogeneousCluster",
    "hosts": ["algo-1", "algo-2"],
    "instance_groups": [
        {
            "instance_group_name": "homogeneousCluster",
            "instance_type": "ml.c5.xlarge",
            "hosts": ["algo-1", "algo-2"],
        }
    ],
    "network_interface_name": "eth0",
    "topology": None,
}
#: What the service wrote in 2020, and what local modes write still.
WITHOUT_GROUPS = {"current_host": "algo-2", "hosts": ["algo-1", "algo-2"], "network_interface_name": "ethwe"}

CHANNELS = {
    "training": {
        "ContentType": "text/csv",
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    },
    "my-data": {"TrainingInputMode": "FastFile"},
}

#: The keys of sagemaker-training's environment, which scripts find in SM_TRAINING_ENV.
TOOLKIT_KEYS = [
    "additional_framework_parameters",
    "channel_input_dirs",
    "current_host",
    "current_instance_group",
    "current_instance_group_hosts",
    "current_instance_type",
    "distribution_hosts",
    "distribution_instance_groups",
    "framework_module",
    "hosts",
    "hyperparameters",
    "input_config_dir",
    "input_data_config",
    "input_dir",
    "instance_groups",
    "instance_groups_dict",
    "is_hetero",
    "is_master",
    "is_modelparallel_enabled",
    "is_smddpmprun_installed",
    "is_smddprun_installed",
    "job_name",
    "log_level",
    "master_hostname",
    "model_dir",
    "module_dir",
    "module_name",
    "network_interface_name",
    "num_cpus",
    "num_gpus",
    "num_neurons",
    "output_data_dir",
    "output_dir",
    "output_intermediate_dir",
    "resource_config",
    "topology",
    "user_entry_point",
]


def read(
    job: Job,
    hyperparameters: Mapping[str, str] | None = None,
    cluster: Mapping[str, Any] | None = None,
    **environ: str,
) -> TrainingEnv:
    """The environment of a job with these hyperparameters (as the service has them), hosts and variables."""
    job.config("hyperparameters", hyperparameters or {})
    if cluster is not None:
        job.config("resourceconfig", cluster)
    return training_env({"SAGEMAKER_BASE_DIR": str(job.base), **environ})


# -- the object --------------------------------------------------------------------------------------------------


#: The attributes that are keys too.
NAMES = [name for name in TrainingEnv.__annotations__ if name != "settings"]


def test_no_attribute_can_be_set(job: Job) -> None:
    """An attribute can be neither set, added nor deleted; the error says what to do instead."""
    env = read(job)

    with pytest.raises(AttributeError, match=r"read-only: evolve\(hosts=\.\.\.\) makes a copy with another hosts"):
        env.hosts = []  # type: ignore[misc]
    with pytest.raises(AttributeError, match="read-only"):
        del env.hosts
    with pytest.raises(AttributeError, match="read-only"):
        env.something = 1  # type: ignore[attr-defined]


def test_nothing_in_it_can_be_changed(job: Job) -> None:
    """The dicts and lists of an environment, and those in them, refuse it; the error says what to do instead."""
    env = read(job, {"layers": "[64, 10]", "opt": '{"lr": [0.1]}'}, HETEROGENEOUS)
    told = r"the environment is read-only: change a copy, such as copy\.deepcopy\(env\.hyperparameters\); for the"

    with pytest.raises(TypeError, match=told):
        env.hyperparameters["lr"] = 0.5
    with pytest.raises(TypeError, match=told):
        env["hyperparameters"]["opt"]["lr"] = 0.5
    with pytest.raises(TypeError, match=r"change a copy, such as copy\.deepcopy\(env\.hosts\)"):
        env.hosts.append("algo-4")
    for inner in (
        env.hyperparameters["layers"],
        env.hyperparameters["opt"]["lr"],
        env.resource_config["hosts"],
        env.resource_config["instance_groups"],
        env.instance_groups_dict["train_group"]["hosts"],
    ):
        with pytest.raises(TypeError, match="read-only"):
            inner.append(1)


def test_it_is_a_mapping_of_its_attributes(job: Job) -> None:
    """`env["hosts"]` is `env.hosts`, and so with every attribute but the settings."""
    env = read(job)

    assert isinstance(env, Mapping)
    assert {name: getattr(env, name) for name in NAMES} == dict(env) == env
    assert len(NAMES) == len(env)


def test_what_is_no_attribute_is_no_key(job: Job) -> None:
    """Methods, settings and made-up names are no keys."""
    env = read(job)

    assert not {"to_cmd_args", "settings"} & {*env}
    assert "settings" not in env
    assert env.get("is_leader") is None
    with pytest.raises(KeyError):
        env["settings"]


def test_a_changed_copy(job: Job) -> None:
    """`evolve` makes a copy with some attributes changed, as read-only as the first, which stays as it was."""
    env = read(job, {"lr": "0.1"}, TRAINING_JOB_NAME="job-1")
    changed = env.evolve(model_dir="/tmp/model", hyperparameters={**env.hyperparameters, "layers": [64]})

    assert {**env, "model_dir": "/tmp/model", "hyperparameters": {"lr": 0.1, "layers": [64]}} == changed
    assert env.settings is changed.settings
    assert {"lr": 0.1} == env.hyperparameters
    with pytest.raises(TypeError, match="read-only"):
        changed.hyperparameters["layers"].append(10)


def test_a_change_of_nothing_there(job: Job) -> None:
    """A name that is no attribute is a TypeError, of `evolve` and of the constructor."""
    env = read(job)

    with pytest.raises(TypeError, match="TrainingEnv has no attribute model_folder"):
        env.evolve(model_folder="/tmp")
    with pytest.raises(TypeError, match="TrainingEnv has no attribute model_folder"):
        TrainingEnv(model_folder="/tmp", settings=env.settings, **env)
    with pytest.raises(TypeError, match="TrainingEnv needs hyperparameters, "):
        TrainingEnv(settings=env.settings)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hosts": "algo-1"}, "TrainingEnv.hosts must be list, not str"),
        ({"hyperparameters": [("lr", 1)]}, "TrainingEnv.hyperparameters must be dict, not list"),
        ({"region": 5}, "TrainingEnv.region must be str or None, not int"),
        ({"num_gpus": "8"}, "TrainingEnv.num_gpus must be int, not str"),
        ({"settings": {}}, "TrainingEnv.settings must be Settings, not dict"),
    ],
)
def test_a_value_of_another_type(job: Job, changes: dict[str, Any], said: str) -> None:
    """`evolve` refuses it, and names the attribute."""
    with pytest.raises(TypeError, match=said):
        read(job).evolve(**changes)


def test_a_copy_changed_in_nothing(job: Job) -> None:
    """All values that a job has are of the types that are declared; whole numbers do for fractions."""
    env = read(job, {"opt": '{"lr": [0.1]}'}, HETEROGENEOUS)

    assert env == env.evolve()
    assert 5 == env.settings.evolve(grace_seconds=5).grace_seconds


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_of_it(job: Job, copied: Callable[[TrainingEnv], TrainingEnv]) -> None:
    """An environment can be copied and pickled; what comes of it is equal, and read-only too."""
    env = read(job, {"opt": '{"lr": [0.1]}'}, HETEROGENEOUS, SAGEMAKER_FRAMEWORK_CLUSTER_PORT="7000")
    other = copied(env)

    assert env == other
    assert 7000 == other.settings.cluster_port
    with pytest.raises(TypeError, match="read-only"):
        other.hyperparameters["opt"]["lr"].append(0.2)


def test_what_it_holds_is_deeply_plain_when_copied(job: Job) -> None:
    """`copy.deepcopy` of what an environment holds can be changed at every depth."""
    parameters = copy.deepcopy(read(job, {"opt": '{"lr": [0.1]}'}).hyperparameters)
    parameters["opt"]["lr"].append(0.2)

    assert {"opt": {"lr": [0.1, 0.2]}} == parameters


def test_every_attribute_is_documented() -> None:
    """The docstring of the class describes each attribute, in the order of their definition, and no other."""
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(TrainingEnv) or "", re.MULTILINE)

    assert [*TrainingEnv.__annotations__] == documented


def test_its_repr_shows_no_hyperparameters(job: Job) -> None:
    """The repr, which ends up in logs, names the job and the host and nothing that may be secret."""
    env = read(job, {"password": "hunter2"}, TRAINING_JOB_NAME="job-1")

    assert "<TrainingEnv of job 'job-1' on 'algo-1'>" == repr(env)


# -- what is read, and when --------------------------------------------------------------------------------------


def test_the_base_folder_is_read_when_used(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAGEMAKER_BASE_DIR counts as it is when the environment is read, not as it was on import."""
    read(job)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(job.base))

    assert str(job.base / "model") == sagemaker_framework.training_env().model_dir


def test_without_a_base_folder_it_is_opt_ml() -> None:
    """Without SAGEMAKER_BASE_DIR, the files are looked for in /opt/ml."""
    if os.path.exists("/opt/ml/input/config"):
        pytest.skip("this machine has an /opt/ml/input/config of its own")
    with pytest.raises(ConfigurationError, match=r"/opt/ml/input/config/hyperparameters\.json is missing"):
        training_env({})


def test_reading_changes_nothing(job: Job) -> None:
    """Reading the environment and making variables of it writes nothing, to disk or to os.environ."""

    def everything() -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
        stats = {str(path): path.stat() for path in [job.base, *job.base.rglob("*")]}
        return dict(os.environ), {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}

    job.config("hyperparameters", {"epochs": "3", "sagemaker_region": '"eu-west-1"', "sagemaker_job_name": '"j"'})
    before = everything()
    training_env({"SAGEMAKER_BASE_DIR": str(job.base)}).to_env_vars()

    assert before == everything()


#: Tells of every file that is opened for writing, every other change of the file system, and every new process.
WATCH = """
import os, sys

def watch(event, args):
    if event == "open":
        path, mode, flags = args
        wrote = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) if flags else set(mode or "") & set("wax+")
        happened = wrote and not str(path).startswith("/dev/")
    else:
        happened = event in CHANGES
    if happened:
        print(event, args)

CHANGES = (
    "os.mkdir os.remove os.rename os.rmdir os.symlink os.link os.chmod os.truncate os.utime os.putenv os.unsetenv "
    "os.fork os.forkpty os.posix_spawn os.exec os.system subprocess.Popen"
).split()
sys.dont_write_bytecode = True
sys.addaudithook(watch)
"""


def watched(code: str, **environ: str) -> str:
    """What a fresh interpreter does to files, variables and processes while it runs `code`."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH + code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    "code", ["open('x', 'a')", "os.environ['X'] = ''", "import subprocess; subprocess.run('true')"]
)
def test_the_watch_notices(code: str, tmp_path: Path) -> None:
    """The watch of the next two tests sees a file written, a variable set, a process started."""
    assert "" != watched(f"os.chdir({str(tmp_path)!r})\n{code}")


def test_importing_does_nothing() -> None:
    """Importing any module of the package writes no file, sets no variable and starts no process."""
    package = Path(sagemaker_framework.__file__).parent
    files = [file.relative_to(package.parent) for file in package.rglob("*.py") if file.name != "__main__.py"]
    modules = sorted(".".join(file.with_suffix("").parts) for file in files)

    assert "" == watched(f"from importlib import import_module\nfor name in {modules}: import_module(name)")


def test_reading_starts_no_process(job: Job) -> None:
    """Reading the environment, hardware included, writes no file, sets no variable and starts no process."""
    job.config("hyperparameters", {"epochs": "3"})
    code = "from sagemaker_framework import training_env; training_env().to_env_vars()"

    assert "" == watched(code, SAGEMAKER_BASE_DIR=str(job.base), PATH="")


# -- hyperparameters and the program -----------------------------------------------------------------------------


def test_hyperparameters_are_decoded_and_split(job: Job) -> None:
    """The user's hyperparameters are decoded; those of clients and framework are kept apart."""
    env = read(job, {"epochs": "3", "name": '"x"', "sagemaker_mpi_enabled": "true", "sagemaker_program": '"train.py"'})

    assert {"epochs": 3, "name": "x"} == env.hyperparameters
    assert {"sagemaker_mpi_enabled": True} == env.additional_framework_parameters


def test_arguments_are_those_of_the_hyperparameters(job: Job) -> None:
    """`to_cmd_args()` makes arguments of the user's hyperparameters, or of those that it is given."""
    env = read(job, {"epochs": "3", "b": "true", "sagemaker_program": '"train.py"'})

    assert ["-b", "True", "--epochs", "3"] == env.to_cmd_args()
    assert ["--lr", "0.1"] == env.to_cmd_args({"lr": 0.1})


def test_the_usage_example_of_the_aws_document(job: Job) -> None:
    """The steps of the document's example give the arguments and variables that it shows."""
    env = read(job, {"batch-size": "128", "model_dir": '"/opt/ml/model"'})
    hyperparameters = env.hyperparameters
    args = env.to_cmd_args(hyperparameters)
    env_vars = env.to_env_vars()

    assert {"batch-size": 128, "model_dir": "/opt/ml/model"} == hyperparameters
    assert ["--batch-size", "128", "--model_dir", "/opt/ml/model"] == args
    assert {
        "SAGEMAKER_CHANNELS": "training",
        "SAGEMAKER_CHANNEL_TRAINING": f"{job.base}/input/data/training",
        "SAGEMAKER_MODEL_DIR": f"{job.base}/model",
        "MODEL_DIR": f"{job.base}/model",
    } == {name: env_vars[name] for name in env_vars if re.match("SAGEMAKER_(CHANNEL|MODEL)|MODEL_DIR", name)}


@pytest.mark.parametrize(
    ("hyperparameters", "environ", "program"),
    [
        ({"sagemaker_program": '"job.py"'}, {}, "job.py"),
        ({"sagemaker_program": "job.py"}, {}, "job.py"),
        ({}, {"SAGEMAKER_PROGRAM": "image.py"}, "image.py"),
        ({"sagemaker_program": '"job.py"'}, {"SAGEMAKER_PROGRAM": "image.py"}, "image.py"),
        ({"sagemaker_program": '"job.py"'}, {"SAGEMAKER_PROGRAM": ""}, "job.py"),
        ({}, {}, None),
    ],
)
def test_the_program(job: Job, hyperparameters: dict[str, str], environ: dict[str, str], program: str | None) -> None:
    """The program is that of SAGEMAKER_PROGRAM, else of the hyperparameter sagemaker_program."""
    assert program == read(job, hyperparameters, **environ).user_entry_point


@pytest.mark.parametrize(
    ("program", "module"), [("train.py", "train"), ("src/train.py", "src/train"), ("run.sh", "run.sh"), ("pkg", "pkg")]
)
def test_the_module_name(job: Job, program: str, module: str) -> None:
    """The module's name is the program's without `.py`."""
    assert module == read(job, SAGEMAKER_PROGRAM=program).module_name


@pytest.mark.parametrize(
    ("hyperparameters", "environ", "source"),
    [
        ({"sagemaker_submit_directory": '"s3://job/x.tar.gz"'}, {}, "s3://job/x.tar.gz"),
        ({}, {"SAGEMAKER_SUBMIT_DIRECTORY": "/image/code"}, "/image/code"),
        (
            {"sagemaker_submit_directory": '"s3://job/x.tar.gz"'},
            {"SAGEMAKER_SUBMIT_DIRECTORY": "/image/code"},
            "s3://job/x.tar.gz",
        ),
        ({}, {}, None),
    ],
)
def test_the_source(job: Job, hyperparameters: dict[str, str], environ: dict[str, str], source: str | None) -> None:
    """The code comes from sagemaker_submit_directory, else SAGEMAKER_SUBMIT_DIRECTORY, else is in the code folder."""
    assert (source or f"{job.base}/code") == read(job, hyperparameters, **environ).module_dir


@pytest.mark.parametrize(
    ("hyperparameters", "environ", "level"),
    [
        ({}, {}, 20),
        ({"sagemaker_container_log_level": "10"}, {}, 10),
        ({"sagemaker_container_log_level": '"10"'}, {}, 10),
        ({"sagemaker_container_log_level": '"DEBUG"'}, {}, 10),
        ({"sagemaker_container_log_level": "warning"}, {}, 30),
        ({}, {"SAGEMAKER_CONTAINER_LOG_LEVEL": "40"}, 40),
        ({}, {"SAGEMAKER_CONTAINER_LOG_LEVEL": "error"}, 40),
        ({"sagemaker_container_log_level": "10"}, {"SAGEMAKER_CONTAINER_LOG_LEVEL": "40"}, 10),
    ],
)
def test_the_log_level(job: Job, hyperparameters: dict[str, str], environ: dict[str, str], level: int) -> None:
    """The job's log level, by number or by name, wins over the image's; INFO where there is none."""
    assert level == read(job, hyperparameters, **environ).log_level


@pytest.mark.parametrize(
    ("hyperparameters", "environ", "name"),
    [
        ({}, {"TRAINING_JOB_NAME": "service"}, "service"),
        ({"sagemaker_job_name": '"client"'}, {}, "client"),
        ({"sagemaker_job_name": '"client"'}, {"TRAINING_JOB_NAME": "service"}, "service"),
        ({"sagemaker_job_name": "20260101"}, {}, "20260101"),
        ({}, {}, None),
    ],
)
def test_the_job_name(job: Job, hyperparameters: dict[str, str], environ: dict[str, str], name: str | None) -> None:
    """The job's name is the service's (TRAINING_JOB_NAME), else the client's (sagemaker_job_name)."""
    assert name == read(job, hyperparameters, **environ).job_name


@pytest.mark.parametrize(
    ("hyperparameters", "metric"),
    [
        ({"_tuning_objective_metric": "validation:accuracy"}, "validation:accuracy"),
        ({"_tuning_objective_metric": '"loss"'}, "loss"),
        ({"_tuning_objective_metric": "1"}, "1"),
        ({}, None),
    ],
)
def test_the_metric_of_a_tuning_job(job: Job, hyperparameters: dict[str, str], metric: str | None) -> None:
    """A job of a hyperparameter tuning job says what is optimized, and the program does not get that."""
    env = read(job, hyperparameters)

    assert metric == env.tuning_objective_metric
    assert {} == env.hyperparameters


@pytest.mark.parametrize(
    ("hyperparameters", "environ", "region"),
    [
        ({"sagemaker_region": '"eu-west-1"'}, {"AWS_REGION": "us-east-1"}, "eu-west-1"),
        ({}, {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-west-2"}, "us-east-1"),
        ({}, {"AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2"),
        ({}, {}, None),
    ],
)
def test_the_region(job: Job, hyperparameters: dict[str, str], environ: dict[str, str], region: str | None) -> None:
    """The region is the client's (sagemaker_region), else the service's (AWS_REGION), else the AWS SDK's."""
    assert region == read(job, hyperparameters, **environ).region


def test_the_training_module(job: Job) -> None:
    """The framework module is what SAGEMAKER_TRAINING_MODULE says; there may be none."""
    assert "pkg.mod:train" == read(job, SAGEMAKER_TRAINING_MODULE="pkg.mod:train").framework_module
    assert read(job).framework_module is None


@pytest.mark.parametrize(("value", "enabled"), [("", False), ("{}", False), ('{"partitions": 2}', True)])
def test_model_parallelism(job: Job, value: str, enabled: bool) -> None:
    """SageMaker's model parallelism is asked for by parameters in SM_HP_MP_PARAMETERS."""
    assert enabled == read(job, SM_HP_MP_PARAMETERS=value).is_modelparallel_enabled


# -- hosts and groups --------------------------------------------------------------------------------------------


def attributes(env: TrainingEnv, names: str) -> dict[str, Any]:
    return {name: env[name] for name in names.split()}


def test_a_heterogeneous_cluster(job: Job) -> None:
    """Each host knows its own group, all the groups, and that there is more than one."""
    env = read(job, {}, HETEROGENEOUS)

    assert {
        "hosts": ["algo-1", "algo-2", "algo-3"],
        "current_host": "algo-3",
        "current_host_rank": 2,
        "host_count": 3,
        "current_instance_type": "ml.c5.18xlarge",
        "current_instance_group": "data_group",
        "current_instance_group_hosts": ["algo-3"],
        "instance_groups": ["train_group", "data_group"],
        "is_hetero": True,
        "distribution_instance_groups": [],
        "distribution_hosts": [],
        "master_hostname": "algo-1",
        "is_master": False,
        "topology": [],
    } == attributes(
        env,
        "hosts current_host current_host_rank host_count current_instance_type current_instance_group "
        "current_instance_group_hosts instance_groups is_hetero distribution_instance_groups distribution_hosts "
        "master_hostname is_master topology",
    )
    assert HETEROGENEOUS["instance_groups"] == list(env.instance_groups_dict.values())


def test_the_groups_that_take_part(job: Job) -> None:
    """sagemaker_distribution_instance_groups says which groups take part; the leader is the first of their hosts."""
    env = read(job, {"sagemaker_distribution_instance_groups": '["data_group"]'}, HETEROGENEOUS)

    assert {
        "distribution_instance_groups": ["data_group"],
        "distribution_hosts": ["algo-3"],
        "master_hostname": "algo-3",
        "is_master": True,
    } == attributes(env, "distribution_instance_groups distribution_hosts master_hostname is_master")


def test_all_groups_take_part_where_none_is_named(job: Job) -> None:
    """A heterogeneous cluster that is distributed over no group in particular has one leader, not one a group."""
    env = read(job, {"sagemaker_mpi_enabled": "true"}, HETEROGENEOUS)

    assert {
        "distribution_instance_groups": ["train_group", "data_group"],
        "distribution_hosts": ["algo-1", "algo-2", "algo-3"],
        "master_hostname": "algo-1",
    } == attributes(env, "distribution_instance_groups distribution_hosts master_hostname")


def test_model_parallelism_is_known_by_its_parameters(job: Job) -> None:
    """A job with mp_parameters is model-parallel before any variable says so."""
    assert read(job, {"mp_parameters": '{"partitions": 2}'}, HOMOGENEOUS).is_modelparallel_enabled
    assert not read(job, {"mp_parameters": "{}"}, HOMOGENEOUS).is_modelparallel_enabled


def test_a_homogeneous_cluster(job: Job) -> None:
    """The one group that the service names is a group like any other, and the cluster is not heterogeneous."""
    env = read(job, {"sagemaker_mpi_enabled": "true"}, HOMOGENEOUS)

    assert {
        "current_host_rank": 1,
        "current_instance_type": "ml.c5.xlarge",
        "current_instance_group": "homogeneousCluster",
        "current_instance_group_hosts": ["algo-1", "algo-2"],
        "instance_groups": ["homogeneousCluster"],
        "is_hetero": False,
        "distribution_instance_groups": ["homogeneousCluster"],
        "distribution_hosts": ["algo-1", "algo-2"],
        "master_hostname": "algo-1",
    } == attributes(
        env,
        "current_host_rank current_instance_type current_instance_group current_instance_group_hosts instance_groups "
        "is_hetero distribution_instance_groups distribution_hosts master_hostname",
    )


def test_a_cluster_without_groups(job: Job) -> None:
    """Where resourceconfig.json tells of no groups and types, all hosts take part, and the type is `local`."""
    env = read(job, {}, WITHOUT_GROUPS)

    assert {
        "current_instance_type": "local",
        "current_instance_group": "homogeneousCluster",
        "current_instance_group_hosts": [],
        "instance_groups": [],
        "instance_groups_dict": {},
        "is_hetero": False,
        "distribution_hosts": ["algo-1", "algo-2"],
        "master_hostname": "algo-1",
        "network_interface_name": "ethwe",
        "topology": [],
    } == attributes(
        env,
        "current_instance_type current_instance_group current_instance_group_hosts instance_groups "
        "instance_groups_dict is_hetero distribution_hosts master_hostname network_interface_name topology",
    )


def test_the_network_interface_has_a_default(job: Job) -> None:
    """Where no network interface is named, it is eth0."""
    assert "eth0" == read(job, {}, {"current_host": "algo-1", "hosts": ["algo-1"]}).network_interface_name


def test_the_order_of_hosts_is_the_services(job: Job) -> None:
    """Rank goes by the place in the list of hosts, never by the number in the name."""
    env = read(job, {}, {"current_host": "algo-2", "hosts": ["algo-1", "algo-10", "algo-2"]})

    assert (2, ["algo-1", "algo-10", "algo-2"]) == (env.current_host_rank, env.hosts)


@pytest.mark.parametrize(("host", "leads"), [("algo-1", True), ("algo-2", False)])
def test_the_leader(job: Job, host: str, leads: bool) -> None:
    """The leader is the first host; `leader` and `is_leader` are its names in this framework."""
    env = read(job, {}, {**WITHOUT_GROUPS, "current_host": host})

    assert ("algo-1", leads) == (env.leader, env.is_leader)


def test_asking_for_a_distribution(job: Job) -> None:
    """`is_enabled` tells whether the job asks for a distribution by its name."""
    env = read(job, {"sagemaker_parameter_server_enabled": "true", "sagemaker_mpi_enabled": "false"})

    assert [True, False, False] == [env.is_enabled(name) for name in ("parameter_server", "mpi", "torch_distributed")]


def test_the_distributions_that_are_asked_for(job: Job) -> None:
    """`distributions` lists those that are on, and nothing else that ends with `_enabled`."""
    asked = {"sagemaker_parameter_server_enabled": "true", "sagemaker_mpi_enabled": "1", "sagemaker_x_enabled": "true"}
    env = read(job, {**asked, "sagemaker_torch_distributed_enabled": "false"})

    assert ["mpi", "parameter_server"] == env.distributions
    assert [] == read(job, {}).distributions


def test_unknown_keys_are_tolerated(job: Job) -> None:
    """Keys that the service may add one day are kept in the raw configuration, and no reason to fail."""
    job.config("inputdataconfig", {"training": {"TrainingInputMode": "File", "NewIn2027": {"a": [1]}}})
    env = read(job, {}, {**HOMOGENEOUS, "new_in_2027": {"a": [1]}})

    assert {"a": [1]} == env.resource_config["new_in_2027"] == env.input_data_config["training"]["NewIn2027"]


def test_only_three_files_are_needed(job: Job) -> None:
    """Nothing but hyperparameters.json, resourceconfig.json and inputdataconfig.json has to be there."""
    read(job)

    assert ["hyperparameters.json", "inputdataconfig.json", "resourceconfig.json"] == sorted(
        os.listdir(job.base / "input/config")
    )


def test_channels(job: Job) -> None:
    """Each channel has its folder, by its own name."""
    job.config("inputdataconfig", CHANNELS)

    assert {
        "training": f"{job.base}/input/data/training",
        "my-data": f"{job.base}/input/data/my-data",
    } == read(job).channel_input_dirs


# -- what is wrong with it ---------------------------------------------------------------------------------------


def problems(job: Job) -> list[str]:
    """What is wrong with the job's files, without the folder that they are in."""
    with pytest.raises(ConfigurationError) as raised:
        training_env({"SAGEMAKER_BASE_DIR": str(job.base)})
    return [problem.replace(f"{job.base}/input/config/", "") for problem in raised.value.problems]


def test_all_problems_are_named_at_once(job: Job) -> None:
    """A missing file, a broken one and a wrong value are three problems of one error."""
    job.config("resourceconfig", {"current_host": "algo-1"})
    job.config("inputdataconfig", "[]")

    assert [
        "hyperparameters.json is missing: SageMaker writes it for every training job",
        "inputdataconfig.json, line 1: holds a list, not an object",
        "resourceconfig.json, line 1: 'hosts' is missing",
    ] == problems(job)


def test_broken_settings_are_named_with_broken_files(job: Job) -> None:
    """Five broken settings and two broken files are seven problems of one failed job."""
    job.config("hyperparameters", "{")
    job.config("inputdataconfig", "[]")
    job.env.update(
        SAGEMAKER_FRAMEWORK_GRACE_SECONDS="soon",
        SAGEMAKER_FRAMEWORK_CLUSTER="perhaps",
        SAGEMAKER_FRAMEWORK_CLUSTER_PORT="0",
        SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS="-1",
        SAGEMAKER_CONTAINER_LOG_LEVEL="LOUD",
    )
    ended = job.run()
    words = ["hyperparameters.json, line 1", "inputdataconfig.json, line 1", "'soon'", "'perhaps'", "'0'", "'-1'"]

    assert (1, "") == (ended.returncode, ended.stdout)
    assert [] == [word for word in [*words, "'LOUD'"] if word not in str(ended.failure)]


def broken(job: Job, **environ: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as raised:
        training_env({"SAGEMAKER_BASE_DIR": str(job.base), **environ})
    return raised.value


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("inputdataconfig", "["),
        ("inputdataconfig", '{"a": 1}'),
        ("hyperparameters", '{"sagemaker_program": "3"}'),
        ("hyperparameters", '{"sagemaker_mpi_enabled": "perhaps"}'),
        ("resourceconfig", None),
    ],
)
def test_what_could_be_read_goes_with_the_error(job: Job, file: str, content: str | None) -> None:
    """Where hosts and hyperparameters are known, the error has an environment to tell the other hosts by."""
    job.hosts("algo-1", "algo-2")
    job.config("hyperparameters", {"lr": "1"})
    if content is not None:
        job.config(file, content)
    variables = {
        "SAGEMAKER_FRAMEWORK_GRACE_SECONDS": "soon",
        "SAGEMAKER_FRAMEWORK_CLUSTER_PORT": "7000",
        "SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS": "x",
    }
    env = broken(job, **variables).env

    assert env is not None
    assert (["algo-1", "algo-2"], "algo-1", True) == (env.hosts, env.current_host, env.is_leader)
    assert content is not None or {"lr": 1} == env.hyperparameters
    assert (100, 7000, 900) == (
        env.settings.grace_seconds,
        env.settings.cluster_port,
        env.settings.cluster_timeout_seconds,
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("hyperparameters", "{"),
        ("hyperparameters", "[]"),
        ("resourceconfig", "{"),
        ("resourceconfig", '{"current_host": "algo-3", "hosts": ["algo-1", "algo-2"]}'),
        ("resourceconfig", '{"current_host": "algo-1", "hosts": ["algo-1"], "instance_groups": 3}'),
    ],
)
def test_a_host_that_cannot_prove_itself(job: Job, file: str, content: str) -> None:
    """Without hosts or hyperparameters, from which the job's key is derived, there is no environment."""
    job.config("hyperparameters", {})
    job.config(file, content)

    assert broken(job).env is None


def test_settings_stay_with_the_launcher(job: Job) -> None:
    """No setting is among the program's SM_* variables, the key least of all, nor is the key in any repr or log."""
    job.env.update(SAGEMAKER_FRAMEWORK_CLUSTER_KEY="a-key-of-ours", SAGEMAKER_FRAMEWORK_CLUSTER_PORT="7654")
    job.program("print('a-key-of-ours'); raise SystemExit('a-key-of-ours is told')")
    ended = job.run()
    env = training_env(job.environ())
    told = json.dumps(env.to_env_vars())

    assert "a-key-of-ours" == env.settings.cluster_key
    assert not {"a-key-of-ours", "7654", "settings", "cluster_key"} & set(re.findall(r"[\w-]+", told))
    assert "a-key-of-ours" not in repr(env) + repr(env.settings)
    assert "****** is told" in ended.cause


def test_unknown_settings_are_told(job: Job) -> None:
    """A misspelt setting is a warning in the log of a job that goes on."""
    job.program("print('the program')")
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER_PROT"] = "7000"
    ended = job.run()

    assert ended.succeeded
    assert "SAGEMAKER_FRAMEWORK_CLUSTER_PROT is not a setting of sagemaker-framework: is SAGEM" in ended.stderr


def test_a_problem_names_file_key_and_line(job: Job) -> None:
    """A wrong value is named by its file, its line and its key."""
    job.config("hyperparameters", {})
    job.config("resourceconfig", json.dumps({"current_host": "algo-1", "topology": None, "hosts": "algo-1"}, indent=1))

    assert ["resourceconfig.json, line 4: 'hosts' is not a list of one or more host names"] == problems(job)


def test_broken_json_is_named_by_its_line(job: Job) -> None:
    """A file that is no JSON is named with the line where it breaks."""
    job.config("hyperparameters", '{\n "epochs": "3",\n "lr": 0.1"\n}')

    assert ["hyperparameters.json, line 3: not valid JSON"] == [problem.split(" (")[0] for problem in problems(job)]


# -- variables ---------------------------------------------------------------------------------------------------


def test_every_variable_of_a_job(job: Job) -> None:
    """A program gets exactly these variables, besides those of the container, with exactly these values."""
    job.config("inputdataconfig", CHANNELS)
    env = read(
        job,
        {
            "epochs": "3",
            "dash-name": '"x y"',
            "layers": '[64, "a"]',
            "on": "true",
            "none": "null",
            "sagemaker_program": '"src/train.py"',
            "sagemaker_submit_directory": '"s3://bucket/source.tar.gz"',
            "sagemaker_container_log_level": "10",
            "sagemaker_region": '"us-west-2"',
            "sagemaker_mine": "1",
        },
        HETEROGENEOUS,
        TRAINING_JOB_NAME="job-1",
        SAGEMAKER_TRAINING_MODULE="pkg.mod:train",
    )
    variables = env.to_env_vars()
    whole = variables.pop("SM_TRAINING_ENV")

    base = str(job.base)
    groups = (
        '{"data_group":{"hosts":["algo-3"],"instance_group_name":"data_group","instance_type":"ml.c5.18xlarge"},'
        '"train_group":{"hosts":["algo-1","algo-2"],"instance_group_name":"train_group",'
        '"instance_type":"ml.p3.16xlarge"}}'
    )
    assert dict(env) == json.loads(whole)
    assert {
        "SM_HOSTS": '["algo-1","algo-2","algo-3"]',
        "SM_HOST_COUNT": "3",
        "SM_CURRENT_HOST": "algo-3",
        "SM_CURRENT_HOST_RANK": "2",
        "SM_MASTER_ADDR": "algo-1",
        "SM_MASTER_PORT": "7777",
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_CURRENT_INSTANCE_TYPE": "ml.c5.18xlarge",
        "SM_CURRENT_INSTANCE_GROUP": "data_group",
        "SM_CURRENT_INSTANCE_GROUP_HOSTS": '["algo-3"]',
        "SM_INSTANCE_GROUPS": '["train_group","data_group"]',
        "SM_INSTANCE_GROUPS_DICT": groups,
        "SM_DISTRIBUTION_INSTANCE_GROUPS": "[]",
        "SM_IS_HETERO": "true",
        "SM_HPS": '{"dash-name":"x y","epochs":3,"layers":[64,"a"],"none":null,"on":true}',
        "SM_HP_EPOCHS": "3",
        "SM_HP_DASH-NAME": "x y",
        "SM_HP_DASH_NAME": "x y",
        "SM_HP_LAYERS": '[64,"a"]',
        "SM_HP_ON": "true",
        "SM_HP_NONE": "",
        "SM_USER_ARGS": '["--dash-name","x y","--epochs","3","--layers","[64, \'a\']","--none","","--on","True"]',
        "SM_USER_ENTRY_POINT": "src/train.py",
        "SM_ENTRY_SCRIPT": "src/train.py",
        "SM_MODULE_NAME": "src/train",
        "SM_MODULE_DIR": "s3://bucket/source.tar.gz",
        "SM_SOURCE_DIR": f"{base}/code",
        "SM_FRAMEWORK_MODULE": "pkg.mod:train",
        "SM_FRAMEWORK_PARAMS": '{"sagemaker_mine":1}',
        "SM_DISTRIBUTED_CONFIG": "{}",
        "SM_RESOURCE_CONFIG": json.dumps(HETEROGENEOUS, sort_keys=True, separators=(",", ":")),
        "SM_INPUT_DATA_CONFIG": json.dumps(CHANNELS, sort_keys=True, separators=(",", ":")),
        "SM_CHANNELS": '["my-data","training"]',
        "SM_CHANNEL_TRAINING": f"{base}/input/data/training",
        "SM_CHANNEL_MY-DATA": f"{base}/input/data/my-data",
        "SM_CHANNEL_MY_DATA": f"{base}/input/data/my-data",
        "SM_MODEL_DIR": f"{base}/model",
        "SM_INPUT_DIR": f"{base}/input",
        "SM_INPUT_CONFIG_DIR": f"{base}/input/config",
        "SM_INPUT_DATA_DIR": f"{base}/input/data",
        "SM_OUTPUT_DIR": f"{base}/output",
        "SM_OUTPUT_DATA_DIR": f"{base}/output/data",
        "SM_OUTPUT_INTERMEDIATE_DIR": f"{base}/output/intermediate",
        "SM_OUTPUT_FAILURE": f"{base}/output/failure",
        "SM_NUM_CPUS": str(env.num_cpus),
        "SM_NUM_GPUS": str(env.num_gpus),
        "SM_NUM_NEURONS": str(env.num_neurons),
        "SM_LOG_LEVEL": "10",
        "SAGEMAKER_CHANNELS": "my-data,training",
        "SAGEMAKER_CHANNEL_TRAINING": f"{base}/input/data/training",
        "SAGEMAKER_CHANNEL_MY-DATA": f"{base}/input/data/my-data",
        "SAGEMAKER_CHANNEL_MY_DATA": f"{base}/input/data/my-data",
        "SAGEMAKER_MODEL_DIR": f"{base}/model",
        "MODEL_DIR": f"{base}/model",
        "SAGEMAKER_JOB_NAME": "job-1",
        "SAGEMAKER_REGION": "us-west-2",
        "CURRENT_HOST": "algo-3",
    } == variables


def test_the_whole_environment_is_one_variable(job: Job) -> None:
    """SM_TRAINING_ENV is JSON of all attributes, those of sagemaker-training among them."""
    whole = json.loads(read(job, {}, HETEROGENEOUS).to_env_vars()["SM_TRAINING_ENV"])

    assert [] == [name for name in TOOLKIT_KEYS if name not in whole]


def test_the_variables_of_a_cluster_without_groups(job: Job) -> None:
    """Where the service tells of no groups, the variables that describe them are there and empty."""
    variables = read(job, {}, WITHOUT_GROUPS).to_env_vars()

    assert {
        "SM_CURRENT_INSTANCE_TYPE": "local",
        "SM_CURRENT_INSTANCE_GROUP": "homogeneousCluster",
        "SM_CURRENT_INSTANCE_GROUP_HOSTS": "[]",
        "SM_INSTANCE_GROUPS": "[]",
        "SM_INSTANCE_GROUPS_DICT": "{}",
        "SM_DISTRIBUTION_INSTANCE_GROUPS": "[]",
        "SM_IS_HETERO": "false",
    } == {name: value for name, value in variables.items() if re.search("INSTANCE|HETERO", name)}


def test_the_variables_of_a_job_that_says_little(job: Job) -> None:
    """What nobody named is an empty variable, not the word None."""
    job.config("inputdataconfig", {})
    variables = read(job).to_env_vars()

    expected = {
        "SM_USER_ENTRY_POINT": "",
        "SM_ENTRY_SCRIPT": "",
        "SM_MODULE_NAME": "",
        "SM_FRAMEWORK_MODULE": "",
        "SM_FRAMEWORK_PARAMS": "{}",
        "SM_INPUT_DATA_CONFIG": "{}",
        "SM_CHANNELS": "[]",
        "SM_HPS": "{}",
        "SM_USER_ARGS": "[]",
        "SAGEMAKER_CHANNELS": "",
        "SAGEMAKER_JOB_NAME": "",
        "SAGEMAKER_REGION": "",
    }

    assert expected == {name: variables[name] for name in expected}
    assert [] == [name for name, value in variables.items() if value == "None"]


def test_the_topology_is_a_variable_where_there_is_one(job: Job) -> None:
    """SM_TOPOLOGY is there on UltraServers alone, which have a topology."""
    topology = [{"hostName": "algo-1", "capacityUnitId": "unit-1"}]
    cluster = {"current_host": "algo-1", "hosts": ["algo-1"], "topology": topology}

    assert '[{"capacityUnitId":"unit-1","hostName":"algo-1"}]' == read(job, {}, cluster).to_env_vars()["SM_TOPOLOGY"]
    assert "SM_TOPOLOGY" not in read(job, {}, HOMOGENEOUS).to_env_vars()


def test_the_program_gets_these_variables(job: Job) -> None:
    """What `to_env_vars` says is what a program that `train` runs finds in its environment."""
    job.config("inputdataconfig", CHANNELS)
    job.hyperparameters.update({"epochs": 3, "dash-name": "it's \U0001f600"})
    job.program("import json, os; json.dump(dict(os.environ), open(os.environ['SM_MODEL_DIR'] + '/env', 'w'))")
    done = job.run()
    told = training_env(job.environ()).to_env_vars()

    assert done.succeeded, done.stderr
    got = json.loads((job.base / "model/env").read_text())
    assert told == {name: got.get(name) for name in told}


def test_a_relative_base_folder(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program, which runs in another folder, finds its own by whole paths."""
    job.program("import os; print(os.path.isdir(os.environ['SM_MODEL_DIR']))")
    monkeypatch.chdir(job.base.parent)
    job.env["SAGEMAKER_BASE_DIR"] = job.base.name

    assert "True\n" == job.run().stdout


def test_a_misspelt_setting_is_told_beside_what_is_broken(job: Job) -> None:
    """Where the job fails of another setting, the log still says which one is not a setting."""
    job.env.update(SAGEMAKER_FRAMEWORK_CLUSTER_PROT="1", SAGEMAKER_FRAMEWORK_GRACE_SECONDS="soon")
    job.program("print('not reached')")
    ended = job.run()

    assert "SAGEMAKER_FRAMEWORK_GRACE_SECONDS is 'soon'" in ended.cause
    assert "SAGEMAKER_FRAMEWORK_CLUSTER_PROT is not a setting" in ended.stderr
