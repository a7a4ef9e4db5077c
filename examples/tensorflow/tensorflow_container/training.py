"""What is special about TensorFlow in a training container: parameter servers, model_dir, and what Serving can load."""

from __future__ import annotations

import json
import os
import sys

from sagemaker_framework import FrameworkError, ParameterServerStrategy, SingleProcessStrategy, Trainer, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagemaker_framework import DistributionStrategy, Launch, TrainingEnv

#: The names that TensorFlow has had for the task that leads the others; scripts of TensorFlow 1 know the second.
CHIEF_NAMES = ("chief", "master")

#: A parameter server: it does what others ask, and never returns.
SERVE = """
import tensorflow as tf
task = tf.distribute.cluster_resolver.TFConfigClusterResolver()
tf.distribute.Server(task.cluster_spec(), job_name=task.task_type, task_index=task.task_id, protocol="grpc").join()
"""

_PATIENCE = 2  # seconds that S3 has to say where a bucket is


class TensorFlowServers(ParameterServerStrategy):
    """A chief on the leader, a worker on each other host, and beside each a parameter server; all know TF_CONFIG."""

    def __init__(self, env: TrainingEnv) -> None:
        super().__init__(env)
        self.chief = self.env.additional_framework_parameters.get("sagemaker_tensorflow_chief_name", CHIEF_NAMES[0])
        if self.chief not in CHIEF_NAMES:
            raise FrameworkError(
                f"the hyperparameter sagemaker_tensorflow_chief_name is {self.chief!r}: "
                f"TensorFlow knows {' and '.join(CHIEF_NAMES)}"
            )

    def ports(self) -> Mapping[str, int]:
        return {"worker": 2222, "ps": 2223}

    def start_servers(self, launch: Launch) -> None:
        # The GPUs are for the program, which would find their memory taken.
        launch("ps", [sys.executable, "-c", SERVE], env_vars={**self.role_env("ps"), "CUDA_VISIBLE_DEVICES": ""})

    def role(self) -> str:
        return self.chief if self.is_leader else "worker"

    def role_env(self, role: str) -> Mapping[str, str]:
        leader, *others = hosts = self.hosts()
        tasks = {self.chief: [leader], "worker": others, "ps": hosts}
        cluster = {
            name: [self.address("ps" if name == "ps" else "worker", host) for host in its_hosts]
            for name, its_hosts in tasks.items()
        }
        task = {"type": role, "index": tasks[role].index(self.env.current_host)}
        config = {"cluster": cluster, "task": task, "environment": "cloud"}
        # Wait for tasks that are not up yet, as TensorFlow's guide to parameter servers has it.
        patience = {} if "GRPC_FAIL_FAST" in os.environ else {"GRPC_FAIL_FAST": "use_caller"}
        return {**patience, "TF_CONFIG": json.dumps(config)}

    def completes_job(self) -> bool:
        # Workers wait for work, and never know that there will be no more.
        return self.is_leader


class TensorFlowTrainer(Trainer):
    """Runs TensorFlow programs.

    Args:
        env: the job's environment. In a tuning job, where trainings would overwrite each other's, a `model_dir` on S3
            becomes `<model_dir>/<job name>/model`, in the program's arguments and variables alike.
    """

    def __init__(self, env: TrainingEnv) -> None:
        model_dir = env.hyperparameters.get("model_dir")
        if env.tuning_objective_metric and env.job_name and _is_on_s3(model_dir):
            model_dir = f"{str(model_dir).rstrip('/')}/{env.job_name}/model"
            log.info(f"model_dir is {model_dir}: this is one of the trainings of a tuning job")
            env = env.evolve(hyperparameters={**env.hyperparameters, "model_dir": model_dir})
        super().__init__(env)

    def strategy(self) -> DistributionStrategy:
        if self.env.distributions == ["parameter_server"]:
            servers = TensorFlowServers(self.env)
            return servers if len(servers.hosts()) > 1 else SingleProcessStrategy(self.env)
        return super().strategy()  # Which also says it where the job asks for two that do not go together.

    def env_vars(self) -> dict[str, str]:
        return {**super().env_vars(), **s3_variables(self.env.hyperparameters.get("model_dir"), self.env.region)}

    def post_train(self) -> None:
        if self.env.is_leader and not _is_on_s3(self.env.hyperparameters.get("model_dir")):
            problem = not_servable(self.env.model_dir)
            if problem:
                log.warning(problem)


def _is_on_s3(model_dir: object) -> bool:
    return isinstance(model_dir, str) and model_dir.startswith("s3://")


def s3_variables(model_dir: object, region: str | None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What TensorFlow's access to S3 goes by, where the model is to be there; nothing where it is not.

    Args:
        model_dir: the hyperparameter.
        region: the job's, for a bucket that does not tell its own.
        environ: variables that there are already, which stay as they are, but for AWS_REGION: the service sets it to
            the job's region, and TensorFlow takes it for the bucket's.
    """
    if not _is_on_s3(model_dir):
        return {}
    variables = {"S3_USE_HTTPS": "1", "TF_CPP_MIN_LOG_LEVEL": "1"}  # It logs each request otherwise.
    region = environ.get("S3_REGION") or _bucket_region(str(model_dir), region) or region
    if region:
        variables["S3_REGION"] = region
    variables = {name: value for name, value in variables.items() if name not in environ}
    return {**variables, "AWS_REGION": region} if region else variables


def _bucket_region(uri: str, region: str | None) -> str | None:
    """Where the bucket of an S3 URI is; None where S3 does not say so within seconds."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ClientError

    bucket = uri.partition("://")[2].partition("/")[0]
    # S3 tells it to everybody, also with its refusal: no credentials to look for, and no permission is needed.
    config = Config(
        signature_version=UNSIGNED,
        connect_timeout=_PATIENCE,
        read_timeout=_PATIENCE,
        retries={"total_max_attempts": 1},
    )
    try:
        client = boto3.Session().client(
            "s3",
            region_name=region or "us-east-1",
            endpoint_url=os.environ.get("S3_ENDPOINT_URL") or None,
            config=config,
        )
        try:
            response = client.head_bucket(Bucket=bucket)
        except ClientError as refusal:
            response = refusal.response
    except Exception as error:  # Whatever it is, the job can go on.
        log.info(f"the region of the bucket {bucket} is not known, and taken to be the job's: {error}")
        return None
    found: str | None = response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    return found


def not_servable(folder: str) -> str | None:
    """Why TensorFlow Serving could not load what was saved, in one line; None where it could.

    Args:
        folder: what becomes model.tar.gz.
    """
    saved = {path: files for path, _, files in os.walk(folder) if files}
    if not saved:
        return f"nothing was saved in {folder}, so that the job has no model: programs find that folder in SM_MODEL_DIR"
    models = [path for path, files in saved.items() if "saved_model.pb" in files]
    if any(os.path.basename(path).isdecimal() for path in models):
        return None
    found = f"{models[0]} is not named by a number" if models else f"there is no SavedModel in {folder}"
    return f"{found}: TensorFlow Serving loads {folder}/<name>/<version>/saved_model.pb only"
