"""Reads the job's configuration files and environment variables into one `TrainingEnv`.

Nothing is written, neither to disk nor to `os.environ`.
"""

from __future__ import annotations

import os

from sagemaker_framework import log
from sagemaker_framework.config import hardware, hyperparameters, paths, resources, settings
from sagemaker_framework.config.environment import TrainingEnv
from sagemaker_framework.config.hyperparameters import DISTRIBUTIONS
from sagemaker_framework.config.hyperparameters import distributions as distributions  # for containers of 0.1.0
from sagemaker_framework.config.json_file import JsonFile, kind
from sagemaker_framework.config.readonly import read_only
from sagemaker_framework.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypedDict

    from sagemaker_framework.config.settings import Settings

    # Parts of `TrainingEnv`, by the names of its attributes.

    class Program(TypedDict):
        user_entry_point: str | None
        module_name: str | None
        module_dir: str
        log_level: int
        framework_module: str | None

    class Folders(TypedDict):
        base_dir: str
        code_dir: str
        model_dir: str
        input_dir: str
        input_config_dir: str
        input_data_dir: str
        output_dir: str
        output_data_dir: str
        output_intermediate_dir: str

    class Job(TypedDict):
        job_name: str | None
        region: str | None
        s3_output: str | None
        tuning_objective_metric: str | None

    class Hardware(TypedDict):
        num_cpus: int
        num_gpus: int
        num_neurons: int
        memory: int
        is_modelparallel_enabled: bool
        is_smddprun_installed: bool
        is_smddpmprun_installed: bool


def read(environ: Mapping[str, str] | None = None) -> TrainingEnv:
    """Read the job's configuration.

    Args:
        environ: the environment variables to read; `os.environ` if None.

    Raises:
        ConfigurationError: something is wrong; the error names every problem of every file and setting. If
            hyperparameters.json and resourceconfig.json could be read, its `env` is the environment, with defaults
            for what is broken.
    """
    environ = os.environ if environ is None else environ
    where = paths.current(environ)
    problems: list[str] = []
    names = ("hyperparameters", "resourceconfig", "inputdataconfig")
    parameters, hosts, channels = (JsonFile(where.config(f"{name}.json"), problems) for name in names)
    user, framework, launcher = _split(parameters, problems)
    given = _settings(environ, problems)
    program = _program(launcher, environ, where, problems)
    cluster = resources.read(hosts, framework, problems) if hosts.is_usable else None
    folders = _channels(channels, where)
    if cluster is None or not (hosts.is_usable and parameters.is_usable):
        raise ConfigurationError(problems)
    env = TrainingEnv(
        hyperparameters=read_only(user),
        additional_framework_parameters=read_only(framework),
        resource_config=read_only(hosts.content),
        input_data_config=read_only(channels.content),
        channel_input_dirs=read_only(folders),
        settings=given,
        **program,
        **cluster,
        **_folders(where),
        **_job(launcher, environ),
        **_hardware(environ, user),
    )
    if problems:
        raise ConfigurationError(problems, env)
    return env


#: The public name of `read`, for authors and scripts.
training_env = read


def _split(file: JsonFile, problems: list[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Decode hyperparameters.json and split it by recipient; from now on the log hides the secrets in it."""
    user, framework, launcher = hyperparameters.split(hyperparameters.decode(file.content))
    for name, value in (*user.items(), *framework.items()):
        _hide_secret(name, value)
    problems += [
        f"hyperparameter {name!r} is {framework[name]!r}, neither true nor false"
        for name in DISTRIBUTIONS
        if hyperparameters.flag(framework.get(name)) is None
    ]
    return user, framework, launcher


def _hide_secret(name: str, value: object) -> None:
    left = [(name, value)]  # No recursion: hyperparameters may be nested deeper than Python's limit.
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += value.items()
        else:
            log.redact.hide_named({name: value})


def _settings(environ: Mapping[str, str], problems: list[str]) -> Settings:
    """Read the settings; from now on the log hides the secrets among the variables."""
    log.redact.hide_named(environ)
    given = settings.read(environ, problems)
    if given.cluster_key:
        log.redact.hide(given.cluster_key)
    return given


def _program(
    launcher: Mapping[str, Any], environ: Mapping[str, str], where: paths.Paths, problems: list[str]
) -> Program:
    """Choose the program, the source of its code, and the log level."""
    entry_point = environ.get("SAGEMAKER_PROGRAM") or launcher.get("sagemaker_program")
    source = launcher.get("sagemaker_submit_directory") or environ.get("SAGEMAKER_SUBMIT_DIRECTORY") or where.code
    levels = (("sagemaker_container_log_level", launcher), ("SAGEMAKER_CONTAINER_LOG_LEVEL", environ))
    set_by, level = next(((name, given[name]) for name, given in levels if name in given), ("", log.INFO))
    for name, value in (("sagemaker_program", entry_point), ("sagemaker_submit_directory", source)):
        if value is not None and (not isinstance(value, str) or "\0" in value):
            problems.append(f"hyperparameter {name!r} is {value!r}, not the name of a file or folder")
    try:
        log_level = log.parse_level(level)
    except (ValueError, OverflowError) as error:
        problems.append(f"{set_by}: {error}")
        log_level = log.INFO
    entry_point = entry_point if isinstance(entry_point, str) else None
    return {
        "user_entry_point": entry_point,
        "module_name": entry_point[:-3] if entry_point and entry_point.endswith(".py") else entry_point,
        "module_dir": str(source),
        "log_level": log_level,
        "framework_module": environ.get("SAGEMAKER_TRAINING_MODULE") or None,
    }


def _channels(file: JsonFile, where: paths.Paths) -> dict[str, str]:
    """Return the folder of each channel."""
    for name, channel in file.content.items():
        if not isinstance(channel, dict):
            file.problem(name, f"is {kind(channel)}, not an object that describes a channel")
        elif name in ("", ".", "..") or "/" in name or not name.isprintable():
            file.problem(name, "is not a channel name; use letters, digits, '.', '-' and '_'")
    return {name: where.channel(name) for name in file.content}


def _folders(where: paths.Paths) -> Folders:
    return {
        "base_dir": where.base,
        "code_dir": where.code,
        "model_dir": where.model,
        "input_dir": where.input,
        "input_config_dir": where.input_config,
        "input_data_dir": where.input_data,
        "output_dir": where.output,
        "output_data_dir": where.output_data,
        "output_intermediate_dir": where.output_intermediate,
    }


def _job(launcher: Mapping[str, Any], environ: Mapping[str, str]) -> Job:
    name = environ.get("TRAINING_JOB_NAME") or launcher.get("sagemaker_job_name")
    region = (
        launcher.get("sagemaker_region")
        or environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or environ.get("SAGEMAKER_REGION")
    )
    s3_output = launcher.get("sagemaker_s3_output")
    tuned = launcher.get("_tuning_objective_metric")
    return {
        "job_name": None if name is None else str(name),
        "region": None if region is None else str(region),
        "s3_output": None if s3_output is None else str(s3_output),
        "tuning_objective_metric": None if tuned is None else str(tuned),
    }


def _hardware(environ: Mapping[str, str], user: Mapping[str, Any]) -> Hardware:
    mp_parameters = environ.get("SM_HP_MP_PARAMETERS", "{}")
    return {
        "num_cpus": hardware.count_cpus(),
        "num_gpus": hardware.count_gpus(),
        "num_neurons": hardware.count_neuron_cores(),
        "memory": hardware.count_memory(),
        "is_modelparallel_enabled": mp_parameters not in ("", "{}") or bool(user.get("mp_parameters")),
        "is_smddprun_installed": hardware.is_on_path("smddprun"),
        "is_smddpmprun_installed": hardware.is_on_path("smddpmprun"),
    }
