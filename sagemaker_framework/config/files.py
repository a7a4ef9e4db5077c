"""Reads the job's configuration files into the values that `TrainingEnv` shows.

Plain values, so that the launcher need not import attrs before the program starts
(benchmarks/launch_overhead.py). Nothing is written, to disk or to `os.environ`.
"""

from __future__ import annotations

import json
import os

from sagemaker_framework import log
from sagemaker_framework.config import hardware, hyperparameters, paths
from sagemaker_framework.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

#: The port that the 3.x SDK's drivers tell scripts to meet at, on the leader.
MASTER_PORT = 7777

#: Hyperparameters that say how the program is spread over hosts and processes.
DISTRIBUTIONS = (
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
)


def read(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Everything that is known of the job on this host, by the names of `TrainingEnv`.

    Args:
        environ: the environment variables to go by; `os.environ` when not given.

    Raises:
        ConfigurationError: naming every problem of every file.
    """
    environ = os.environ if environ is None else environ
    where = paths.current(environ)
    problems: list[str] = []
    files = {
        name: _File(where.config(f"{name}.json"), problems)
        for name in ("hyperparameters", "resourceconfig", "inputdataconfig")
    }
    decoded = hyperparameters.decode(files["hyperparameters"].content)
    user, framework, launcher = hyperparameters.split(decoded)
    for name in (*user, *framework):
        _hide_secret(name, decoded[name])
    problems += [
        f"hyperparameter {name!r} is {framework[name]!r}, neither true nor false"
        for name in DISTRIBUTIONS
        if hyperparameters.flag(framework.get(name)) is None
    ]
    log.redact.hide_named(environ)

    values: dict[str, Any] = {
        "hyperparameters": user,
        "additional_framework_parameters": framework,
        "resource_config": files["resourceconfig"].content,
        "input_data_config": files["inputdataconfig"].content,
        **_program(launcher, environ, where, problems),
        **_cluster(files["resourceconfig"], framework, problems),
        **_channels(files["inputdataconfig"], where),
        **_folders(where),
        **_job(launcher, environ),
    }
    if problems:
        raise ConfigurationError(problems)
    values.update(_hardware(environ, user))
    return values


def claim(values: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """The environment of an image for which these hyperparameters are, and not for the program.

    Args:
        values: the environment.
        names: of hyperparameters, whether the job has them or not.
    """
    claimed = {name: value for name, value in values["hyperparameters"].items() if name in names}
    if not claimed:
        return values
    return {
        **values,
        "hyperparameters": {name: value for name, value in values["hyperparameters"].items() if name not in claimed},
        "additional_framework_parameters": {**values["additional_framework_parameters"], **claimed},
    }


def distributions(framework: Mapping[str, Any]) -> list[str]:
    """Those of `DISTRIBUTIONS` that a job asks for.

    Args:
        framework: its `additional_framework_parameters`.
    """
    return [name for name in DISTRIBUTIONS if hyperparameters.flag(framework.get(name))]


class _File:
    """One configuration file: its content, and what is wrong with it, with the line."""

    def __init__(self, path: str, problems: list[str]) -> None:
        self.path = path
        self.content: dict[str, Any] = {}
        self.is_usable = False
        self._problems = problems
        self._text = ""
        try:
            with open(path, encoding="utf-8-sig") as opened:
                self._text = opened.read()
            content = json.loads(self._text)
        except FileNotFoundError:
            problems.append(f"{path} is missing: SageMaker writes it for every training job")
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            problems.append(f"{path} is not UTF-8 text (byte {error.start})")
        except RecursionError:
            problems.append(f"{path} is nested too deeply to be read")
        except ValueError as error:
            at = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            problems.append(f"{path}{at}: not valid JSON ({error})" if self._text.strip() else f"{path} is empty")
        else:
            self.is_usable = isinstance(content, dict)
            if self.is_usable:
                self.content = content
            else:
                problems.append(f"{path}, line 1: holds {_kind(content)}, not an object")

    def problem(self, key: str, what: str) -> None:
        """Report that the value of `key` is wrong."""
        at = self._text.find(json.dumps(key))
        line = self._text.count("\n", 0, max(at, 0)) + 1
        self._problems.append(f"{self.path}, line {line}: {key!r} {what}")

    def text(self, key: str, default: str | None = None) -> str:
        """The text at `key`; a problem where it is something else, or missing with no default."""
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value:
            is_there = key in self.content
            self.problem(key, f"is {_kind(value)}, not a text with something in it" if is_there else "is missing")
            return default or ""
        return value


def _kind(value: object) -> str:
    kinds = {
        type(None): "null",
        bool: "a boolean",
        dict: "an object",
        list: "a list",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "an empty text" if value == "" else "a text")


def _hide_secret(name: str, value: object) -> None:
    left = [(name, value)]  # No recursion: hyperparameters may be nested more deeply than Python goes.
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += value.items()
        else:
            log.redact.hide_named({name: value})


def _program(
    launcher: Mapping[str, Any], environ: Mapping[str, str], where: paths.Paths, problems: list[str]
) -> dict[str, Any]:
    entry_point = environ.get("SAGEMAKER_PROGRAM") or launcher.get("sagemaker_program")
    source = launcher.get("sagemaker_submit_directory") or environ.get("SAGEMAKER_SUBMIT_DIRECTORY") or where.code
    levels = (("sagemaker_container_log_level", launcher), ("SAGEMAKER_CONTAINER_LOG_LEVEL", environ))
    set_by, level = next(((name, values[name]) for name, values in levels if name in values), ("", log.INFO))
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


def _cluster(file: _File, framework: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    if not file.is_usable:
        return {}
    current_host = file.text("current_host")
    hosts = _hosts(file)
    if current_host and hosts and current_host not in hosts:
        file.problem("current_host", f"is {current_host!r}, which is not among the hosts")
    groups = _groups(file, hosts)
    current_group = file.text("current_group_name", "homogeneousCluster")
    if groups and file.content.get("current_group_name") and current_group not in groups:
        file.problem("current_group_name", f"is {current_group!r}, which is not among the instance_groups")
    distribution_groups = framework.get("sagemaker_distribution_instance_groups")
    if distribution_groups is None:
        distribution_groups = (list(groups) or [current_group]) if distributions(framework) else []
    elif not _is_texts(distribution_groups):
        problems.append("hyperparameter 'sagemaker_distribution_instance_groups' is not a list of group names")
        distribution_groups = []
    elif groups and not set(distribution_groups) <= set(groups):
        problems.append(
            f"hyperparameter 'sagemaker_distribution_instance_groups' names {_others(distribution_groups, groups)}, "
            f"but the instance groups of this job are {', '.join(groups)}"
        )
    distribution_hosts = [
        host for name, group in groups.items() if name in distribution_groups for host in group["hosts"]
    ]
    if not groups:
        distribution_hosts = list(hosts)
    leader = next(iter(distribution_hosts or hosts), "")
    return {
        "current_host": current_host,
        "hosts": hosts,
        "host_count": len(hosts),
        "current_host_rank": hosts.index(current_host) if current_host in hosts else 0,
        "master_hostname": leader,
        "is_master": current_host == leader,
        "current_instance_type": file.text("current_instance_type", "local"),
        "current_instance_group": current_group,
        "current_instance_group_hosts": list(groups.get(current_group, {}).get("hosts", [])),
        "instance_groups": list(groups),
        "instance_groups_dict": groups,
        "is_hetero": len(groups) > 1,
        "distribution_instance_groups": distribution_groups,
        "distribution_hosts": distribution_hosts,
        "network_interface_name": file.text("network_interface_name", "eth0"),
        "topology": _topology(file),
    }


def _hosts(file: _File) -> list[str]:
    hosts = file.content.get("hosts")
    if not _is_texts(hosts) or not hosts:
        file.problem("hosts", "is missing" if hosts is None else "is not a list of host names with one at the least")
        return []
    if len(set(hosts)) < len(hosts):
        file.problem("hosts", f"names {_repeated(hosts)} more than once")
    unusable = [host for host in hosts if not host.isprintable()]
    if unusable:
        file.problem("hosts", f"names {', '.join(map(repr, unusable))}, which cannot be the name of a host")
    return list(hosts)


def _groups(file: _File, hosts: list[str]) -> dict[str, Any]:
    groups = file.content.get("instance_groups") or []
    if not isinstance(groups, list) or not all(_is_group(group) for group in groups):
        file.problem("instance_groups", "is not a list of objects with an 'instance_group_name' and 'hosts'")
        return {}
    names = [group["instance_group_name"] for group in groups]
    if len(set(names)) < len(names):
        file.problem("instance_groups", f"names {_repeated(names)} more than once")
    strangers = _others((host for group in groups for host in group["hosts"]), hosts)
    if hosts and strangers:
        file.problem("instance_groups", f"names {strangers}, which is not among the hosts")
    return dict(zip(names, groups))


def _topology(file: _File) -> list[Any]:
    topology = file.content.get("topology") or []
    if not isinstance(topology, list):
        file.problem("topology", f"is {_kind(topology)}, not a list")
        return []
    return topology


def _repeated(names: list[str]) -> str:
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))


def _others(names: Iterable[str], known: Iterable[str]) -> str:
    return ", ".join(sorted(set(names) - set(known)))


def _is_group(value: object) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("instance_group_name"), str) and _is_texts(value.get("hosts"))
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _channels(file: _File, where: paths.Paths) -> dict[str, Any]:
    for name, channel in file.content.items():
        if not isinstance(channel, dict):
            file.problem(name, f"is {_kind(channel)}, not an object that describes a channel")
        elif name in ("", ".", "..") or "/" in name or not name.isprintable():
            file.problem(name, "is no name for a channel: letters, digits, '.', '-' and '_' are")
    return {"channel_input_dirs": {name: where.channel(name) for name in file.content}}


def _folders(where: paths.Paths) -> dict[str, Any]:
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


def _job(launcher: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
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


def _hardware(environ: Mapping[str, str], user: Mapping[str, Any]) -> dict[str, Any]:
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


def to_env_vars(values: Mapping[str, Any]) -> dict[str, str]:
    """The environment as variables for the program.

    `SM_*` as sagemaker-training and the drivers of the SageMaker SDK 3.x name them, and
    the names that the AWS document shows (`SAGEMAKER_CHANNELS`, `MODEL_DIR`, ...);
    docs/environment.md has the whole list.
    """
    shown: dict[str, Any] = {
        name: values[name]
        for name in (
            "hosts current_host current_host_rank host_count network_interface_name current_instance_type "
            "current_instance_group current_instance_group_hosts instance_groups instance_groups_dict "
            "distribution_instance_groups is_hetero resource_config input_data_config user_entry_point "
            "module_name module_dir framework_module log_level model_dir input_dir input_config_dir "
            "input_data_dir output_dir output_data_dir output_intermediate_dir num_cpus num_gpus num_neurons"
        ).split()
    }
    shown.update(
        hps=values["hyperparameters"],
        framework_params=values["additional_framework_parameters"],
        user_args=hyperparameters.to_cmd_args(values["hyperparameters"]),
        channels=sorted(values["channel_input_dirs"]),
        training_env=dict(values),
        master_addr=values["master_hostname"],
        master_port=MASTER_PORT,
        source_dir=values["code_dir"],
        entry_script=values["user_entry_point"],
        distributed_config={},
        output_failure=os.path.join(values["output_dir"], "failure"),
    )
    if values["topology"]:
        shown["topology"] = values["topology"]
    shown.update({f"channel_{name}": folder for name, folder in values["channel_input_dirs"].items()})
    shown.update({f"hp_{name}": value for name, value in values["hyperparameters"].items()})
    variables = hyperparameters.to_env_vars(shown)

    channels = {name: variables[name] for name in variables if name.startswith("SM_CHANNEL_")}
    variables.update({name.replace("SM_", "SAGEMAKER_", 1): folder for name, folder in channels.items()})
    variables.update(
        SAGEMAKER_CHANNELS=",".join(shown["channels"]),
        SAGEMAKER_MODEL_DIR=values["model_dir"],
        MODEL_DIR=values["model_dir"],
        SAGEMAKER_JOB_NAME=hyperparameters.passable(values["job_name"] or ""),
        SAGEMAKER_REGION=hyperparameters.passable(values["region"] or ""),
        CURRENT_HOST=values["current_host"],
    )
    return variables
