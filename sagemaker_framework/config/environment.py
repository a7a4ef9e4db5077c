"""TrainingEnv: the facts about the job on this host."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sagemaker_framework.config import settings as _settings
from sagemaker_framework.config import variables
from sagemaker_framework.config.hyperparameters import distributions, flag, to_cmd_args
from sagemaker_framework.config.readonly import Record, check_types
from sagemaker_framework.errors import TrainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from sagemaker_framework.config.readonly import ReadOnlyDict, ReadOnlyList
    from sagemaker_framework.config.settings import Settings


class TrainingEnv(Mapping["str", "Any"], Record):
    """A read-only snapshot of the job on this host.

    It is also a mapping of its attributes, except `settings`: `env["hosts"]` is `env.hosts`. Attributes that exist in
    sagemaker-containers and sagemaker-training keep their names and values.

    Neither the attributes nor the dicts and lists in them can be changed; `evolve(model_dir="/tmp")` returns a changed
    copy. `dict(env.hyperparameters)` and `list(env.hosts)` are plain copies whose nested values are still read-only;
    `copy.deepcopy` makes a copy that is plain throughout.

    Methods and properties: `is_enabled(distribution)`, `to_cmd_args(hyperparameters)`, `to_env_vars()`,
    `distributions`, `leader`, `is_leader`.

    Attributes:
        hyperparameters: the decoded hyperparameters of the user's program.
        additional_framework_parameters: the `sagemaker_*` hyperparameters for the image's framework.
        resource_config: the content of resourceconfig.json.
        input_data_config: the content of inputdataconfig.json.
        user_entry_point: the program's name, from `SAGEMAKER_PROGRAM` or `sagemaker_program`; None if neither is set.
        module_name: `user_entry_point` without a trailing `.py`.
        module_dir: the source of the user's code: an S3 URI, or the path of a folder, an archive or a file.
        log_level: the log level as Python's `logging` numbers it (20 is INFO).
        framework_module: the value of `SAGEMAKER_TRAINING_MODULE`, or None.
        current_host: this host's name, such as `algo-1`.
        hosts: the names of all hosts, in the service's order.
        host_count: the number of hosts.
        current_host_rank: this host's index in `hosts`, from 0.
        master_hostname: the leader's name: the first host that takes part in the distribution.
        is_master: True if this host is the leader.
        current_instance_type: this host's instance type, such as `ml.m5.xlarge`; `local` if the service names none.
        current_instance_group: this host's instance group; `homogeneousCluster` if the job has no groups.
        current_instance_group_hosts: the hosts of that group.
        instance_groups: the names of the groups of a heterogeneous cluster.
        instance_groups_dict: the groups as resourceconfig.json describes them, by name.
        is_hetero: True if there is more than one group.
        distribution_instance_groups: the groups that take part in the distribution.
        distribution_hosts: the hosts that take part in it.
        network_interface_name: the network interface between hosts, such as `eth0`.
        topology: the capacity unit of each host (UltraServers); empty elsewhere.
        channel_input_dirs: the folder of each channel, by the channel's name.
        base_dir: `/opt/ml`, or `SAGEMAKER_BASE_DIR`.
        code_dir: the folder of the program.
        model_dir: the folder for the model; SageMaker packs it into model.tar.gz.
        input_dir: the folder of configuration and data.
        input_config_dir: the folder of the configuration files.
        input_data_dir: the folder of the channels' folders.
        output_dir: the folder of the failure and success files.
        output_data_dir: the folder for other results; SageMaker packs it into output.tar.gz.
        output_intermediate_dir: the folder for files that are uploaded while training runs.
        job_name: the job's name, or None.
        region: the AWS region, or None.
        s3_output: the value of `sagemaker_s3_output`, or None.
        tuning_objective_metric: the metric that the job's hyperparameter tuning job optimizes; None if there is none.
        num_cpus: the number of CPUs that this container may use at once.
        num_gpus: the number of NVIDIA GPUs of this container.
        num_neurons: the number of AWS Neuron cores of this container.
        memory: the memory that this container may use, in bytes.
        is_modelparallel_enabled: True if `SM_HP_MP_PARAMETERS` asks for SageMaker's model parallelism.
        is_smddprun_installed: True if the image has `smddprun`.
        is_smddpmprun_installed: True if the image has `smddpmprun`.
        settings: the settings of this framework; not a key of the mapping, so that no program gets them.
    """

    hyperparameters: ReadOnlyDict[str, Any]
    additional_framework_parameters: ReadOnlyDict[str, Any]
    resource_config: ReadOnlyDict[str, Any]
    input_data_config: ReadOnlyDict[str, Any]
    user_entry_point: str | None
    module_name: str | None
    module_dir: str
    log_level: int
    framework_module: str | None
    current_host: str
    hosts: ReadOnlyList[str]
    host_count: int
    current_host_rank: int
    master_hostname: str
    is_master: bool
    current_instance_type: str
    current_instance_group: str
    current_instance_group_hosts: ReadOnlyList[str]
    instance_groups: ReadOnlyList[str]
    instance_groups_dict: ReadOnlyDict[str, Any]
    is_hetero: bool
    distribution_instance_groups: ReadOnlyList[str]
    distribution_hosts: ReadOnlyList[str]
    network_interface_name: str
    topology: ReadOnlyList[Any]
    channel_input_dirs: ReadOnlyDict[str, str]
    base_dir: str
    code_dir: str
    model_dir: str
    input_dir: str
    input_config_dir: str
    input_data_dir: str
    output_dir: str
    output_data_dir: str
    output_intermediate_dir: str
    job_name: str | None
    region: str | None
    s3_output: str | None
    tuning_objective_metric: str | None
    num_cpus: int
    num_gpus: int
    num_neurons: int
    memory: int
    is_modelparallel_enabled: bool
    is_smddprun_installed: bool
    is_smddpmprun_installed: bool
    settings: Settings
    __slots__ = tuple(__annotations__)

    @property
    def leader(self) -> str:
        """The leader's name.  The same as `master_hostname`."""
        return self.master_hostname

    @property
    def is_leader(self) -> bool:
        """True if this host is the leader.  The same as `is_master`."""
        return self.is_master

    @property
    def distributions(self) -> list[str]:
        """The distributions that the job asks for, by the names that `is_enabled` takes: `["parameter_server"]`."""
        asked = distributions(self.additional_framework_parameters)
        return [name.removeprefix("sagemaker_").removesuffix("_enabled") for name in asked]

    def is_enabled(self, distribution: str) -> bool:
        """Tell whether the job asks for a distribution, such as `parameter_server` or `mpi`.

        Args:
            distribution: the middle of the hyperparameter `sagemaker_<distribution>_enabled`.
        """
        return bool(flag(self.additional_framework_parameters.get(f"sagemaker_{distribution}_enabled")))

    def to_cmd_args(self, hyperparameters: Mapping[str, Any] | None = None) -> list[str]:
        """Return hyperparameters as arguments of a program, as `config.hyperparameters.to_cmd_args` does.

        Args:
            hyperparameters: the hyperparameters; the user's if None.
        """
        return to_cmd_args(self.hyperparameters if hyperparameters is None else hyperparameters)

    def to_env_vars(self) -> dict[str, str]:
        """Return the program's environment variables: `SM_*`, and those that the AWS document names."""
        return variables.to_env_vars(self)

    def __getitem__(self, name: str) -> Any:
        if name not in _NAMES:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)

    def __repr__(self) -> str:
        # Without hyperparameters, which may be secret: this ends up in logs.
        return f"<TrainingEnv of job {self.job_name!r} on {self.current_host!r}>"


#: The keys of the mapping.
_NAMES: dict[str, None] = dict.fromkeys(name for name in TrainingEnv.__slots__ if name != "settings")


def checked(env: object, owner: object) -> TrainingEnv:
    """Return an environment that an author has handed on, as a `TrainingEnv`.

    Args:
        env: a `TrainingEnv`; or another mapping with its names, such as `{**env, "model_dir": "/tmp"}`, to which the
            settings of this process are added.
        owner: the object that was given the environment, for messages.

    Raises:
        TrainerError: `env` is neither.
    """
    if isinstance(env, TrainingEnv):
        return env
    name = type(owner).__name__
    if not isinstance(env, Mapping):
        raise TrainerError(f"{name}.__init__ was given {type(env).__name__} for an environment, not a TrainingEnv")
    try:
        made = TrainingEnv(**{"settings": _settings.read(os.environ, []), **env})
        check_types(made)
    except TypeError as error:
        raise TrainerError(f"{name}.__init__ was given a mapping that is not an environment: {error}") from error
    return made


def claim(env: TrainingEnv, names: Collection[str]) -> TrainingEnv:
    """Return the environment with some hyperparameters moved from the program's to the image's.

    Args:
        env: the environment.
        names: the names of the hyperparameters; the job need not have them.
    """
    claimed = {name: value for name, value in env.hyperparameters.items() if name in names}
    if not claimed:
        return env
    return env.evolve(
        hyperparameters={name: value for name, value in env.hyperparameters.items() if name not in claimed},
        additional_framework_parameters={**env.additional_framework_parameters, **claimed},
    )
