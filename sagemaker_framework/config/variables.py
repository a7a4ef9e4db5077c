"""The environment variables that describe the job to a program: `SM_*`, and those that the AWS document names."""

from __future__ import annotations

import os

from sagemaker_framework.config import hyperparameters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sagemaker_framework.config.environment import TrainingEnv

#: The port on the leader that the drivers of the SageMaker SDK 3.x name as MASTER_PORT.
MASTER_PORT = 7777


#: The attributes of `TrainingEnv` that become variables under their own names.
_AS_THEY_ARE = (
    "hosts current_host current_host_rank host_count network_interface_name current_instance_type "
    "current_instance_group current_instance_group_hosts instance_groups instance_groups_dict "
    "distribution_instance_groups is_hetero resource_config input_data_config user_entry_point "
    "module_name module_dir framework_module log_level model_dir input_dir input_config_dir "
    "input_data_dir output_dir output_data_dir output_intermediate_dir num_cpus num_gpus num_neurons"
).split()


def to_env_vars(env: TrainingEnv) -> dict[str, str]:
    """Return the program's environment variables.

    `SM_*` are named as sagemaker-training and the drivers of the SageMaker SDK 3.x name them.
    The others are those of the AWS document (`SAGEMAKER_CHANNELS`, `MODEL_DIR`, ...).
    docs/environment.md lists all of them.
    """
    variables = hyperparameters.to_env_vars(_shown(env))
    channels = {name: variables[name] for name in variables if name.startswith("SM_CHANNEL_")}
    variables.update({name.replace("SM_", "SAGEMAKER_", 1): folder for name, folder in channels.items()})
    variables.update(
        SAGEMAKER_CHANNELS=",".join(sorted(env.channel_input_dirs)),
        SAGEMAKER_MODEL_DIR=env.model_dir,
        MODEL_DIR=env.model_dir,
        SAGEMAKER_JOB_NAME=hyperparameters.passable(env.job_name or ""),
        SAGEMAKER_REGION=hyperparameters.passable(env.region or ""),
        CURRENT_HOST=env.current_host,
    )
    return variables


def _shown(env: TrainingEnv) -> dict[str, object]:
    """Return the values that become `SM_*` variables, by the rest of their names in lower case."""
    shown: dict[str, object] = {name: getattr(env, name) for name in _AS_THEY_ARE}
    shown.update(
        hps=env.hyperparameters,
        framework_params=env.additional_framework_parameters,
        user_args=hyperparameters.to_cmd_args(env.hyperparameters),
        channels=sorted(env.channel_input_dirs),
        training_env=dict(env),
        master_addr=env.master_hostname,
        master_port=MASTER_PORT,
        source_dir=env.code_dir,
        entry_script=env.user_entry_point,
        distributed_config={},
        output_failure=os.path.join(env.output_dir, "failure"),
    )
    if env.topology:
        shown["topology"] = env.topology
    shown.update({f"channel_{name}": folder for name, folder in env.channel_input_dirs.items()})
    shown.update({f"hp_{name}": value for name, value in env.hyperparameters.items()})
    return shown
