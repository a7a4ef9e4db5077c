"""The job's hosts and instance groups, from resourceconfig.json and the hyperparameters."""

from __future__ import annotations

from sagemaker_framework.config.hyperparameters import distributions
from sagemaker_framework.config.json_file import kind
from sagemaker_framework.config.readonly import read_only

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TypedDict

    from sagemaker_framework.config.json_file import JsonFile
    from sagemaker_framework.config.readonly import ReadOnlyDict, ReadOnlyList

    class Resources(TypedDict):
        """The attributes of `TrainingEnv` that describe hosts, by the same names."""

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


def read(file: JsonFile, framework: Mapping[str, Any], problems: list[str]) -> Resources:
    """Read the facts about hosts.

    Args:
        file: resourceconfig.json; problems with it are reported to it.
        framework: the job's `additional_framework_parameters`.
        problems: a line for each problem with those is added here.
    """
    current_host = file.text("current_host")
    hosts = _hosts(file)
    if current_host and hosts and current_host not in hosts:
        file.problem("current_host", f"is {current_host!r}, which is not among the hosts")
    groups = _groups(file, hosts)
    current_group = file.text("current_group_name", "homogeneousCluster")
    if groups and file.content.get("current_group_name") and current_group not in groups:
        file.problem("current_group_name", f"is {current_group!r}, which is not among the instance_groups")
    taking_part = _distribution_groups(framework, list(groups), current_group, problems)
    distribution_hosts = [host for name, group in groups.items() if name in taking_part for host in group["hosts"]]
    distribution_hosts = distribution_hosts if groups else hosts
    leader = next(iter(distribution_hosts or hosts), "")
    return {
        "current_host": current_host,
        "hosts": read_only(hosts),
        "host_count": len(hosts),
        "current_host_rank": hosts.index(current_host) if current_host in hosts else 0,
        "master_hostname": leader,
        "is_master": current_host == leader,
        "current_instance_type": file.text("current_instance_type", "local"),
        "current_instance_group": current_group,
        "current_instance_group_hosts": read_only(list(groups.get(current_group, {}).get("hosts", []))),
        "instance_groups": read_only(list(groups)),
        "instance_groups_dict": read_only(groups),
        "is_hetero": len(groups) > 1,
        "distribution_instance_groups": read_only(taking_part),
        "distribution_hosts": read_only(distribution_hosts),
        "network_interface_name": file.text("network_interface_name", "eth0"),
        "topology": read_only(_topology(file)),
    }


def _distribution_groups(
    framework: Mapping[str, Any], groups: list[str], current_group: str, problems: list[str]
) -> list[str]:
    """Choose the groups that take part in the distribution: those that the job names, or all."""
    asked = framework.get("sagemaker_distribution_instance_groups")
    if asked is None:
        return (groups or [current_group]) if distributions(framework) else []
    if not _is_strings(asked):
        problems.append("hyperparameter 'sagemaker_distribution_instance_groups' is not a list of group names")
        return []
    if groups and not set(asked) <= set(groups):
        problems.append(
            f"hyperparameter 'sagemaker_distribution_instance_groups' names {_others(asked, groups)}, "
            f"but the instance groups of this job are {', '.join(groups)}"
        )
    return list(asked)


def _hosts(file: JsonFile) -> list[str]:
    hosts = file.content.get("hosts")
    if not _is_strings(hosts) or not hosts:
        file.problem("hosts", "is missing" if hosts is None else "is not a list of one or more host names")
        return []
    if len(set(hosts)) < len(hosts):
        file.problem("hosts", f"names {_repeated(hosts)} more than once")
    unusable = [host for host in hosts if not host.isprintable()]
    if unusable:
        file.problem("hosts", f"names {', '.join(map(repr, unusable))}, which cannot be the name of a host")
    return list(hosts)


def _groups(file: JsonFile, hosts: list[str]) -> dict[str, Any]:
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


def _topology(file: JsonFile) -> list[Any]:
    topology = file.content.get("topology") or []
    if not isinstance(topology, list):
        file.problem("topology", f"is {kind(topology)}, not a list")
        return []
    return topology


def _repeated(names: list[str]) -> str:
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))


def _others(names: Iterable[str], known: Iterable[str]) -> str:
    return ", ".join(sorted(set(names) - set(known)))


def _is_group(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("instance_group_name"), str)
        and _is_strings(value.get("hosts"))
    )


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)
