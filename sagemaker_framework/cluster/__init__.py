"""What the hosts of a job agree on: that all are ready, that all are done, or which failure was the first.

Each host keeps one TCP connection to the leader while the job runs (docs/cluster.md).
"""

from __future__ import annotations

import os

from sagemaker_framework.cluster.session import SingleHostSession, number, patience
from sagemaker_framework.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sagemaker_framework.cluster.session import Control, Session

SWITCH_VARIABLE = "SAGEMAKER_FRAMEWORK_CLUSTER"
PORT_VARIABLE = "SAGEMAKER_FRAMEWORK_CLUSTER_PORT"
KEY_VARIABLE = "SAGEMAKER_FRAMEWORK_CLUSTER_KEY"
STUDIO_VARIABLE = "SM_STUDIO_LOCAL_MODE"

#: Where the leader listens.
DEFAULT_PORT = 7776


def is_wanted(values: Mapping[str, Any], environ: Mapping[str, str], is_needed: bool) -> bool:
    """Whether the hosts of this job are to agree.

    In Studio's local mode nobody need be waited for, unless the job is spread over its hosts.

    Raises:
        ConfigurationError: the switch is neither on nor off, or off where the hosts cannot do without.
    """
    switch = environ.get(SWITCH_VARIABLE, "").strip().lower()
    if switch not in ("", "on", "off"):
        raise ConfigurationError(f"{SWITCH_VARIABLE} is {switch!r}, neither on nor off")
    if switch == "off" and is_needed:
        raise ConfigurationError(
            f"{SWITCH_VARIABLE} is off, but the processes of this job are spread over {len(values['hosts'])} hosts, "
            "which have to agree: leave it unset"
        )
    if switch == "off":
        return False
    if is_needed or switch == "on" or environ.get(STUDIO_VARIABLE, "").lower() != "true":
        return True
    from sagemaker_framework.config.hyperparameters import distributions

    return bool(distributions(values["additional_framework_parameters"]))


def join(
    values: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    *,
    is_needed: bool = False,
    control: Control,
) -> Session:
    """Begin this host's session.

    Args:
        values: the job's environment.
        environ: the environment variables to go by.
        is_needed: whether the hosts cannot do without.
        control: the run of the job on this host.

    Raises:
        ConfigurationError: a variable is not as it has to be.
    """
    if not is_wanted(values, environ, is_needed):
        return SingleHostSession(values["current_host"])
    from sagemaker_framework.cluster.follower import Follower
    from sagemaker_framework.cluster.leader import Leader

    kind = Leader if values["is_master"] else Follower
    session = kind(
        hosts=values["hosts"],
        host=values["current_host"],
        leader=values["master_hostname"],
        port=number(environ, PORT_VARIABLE, DEFAULT_PORT, 1, 65535),
        key=job_key(values, environ),
        timeout=patience(environ),
        check_names=environ.get(STUDIO_VARIABLE, "").lower() != "true",
        control=control,
    )
    session.start()
    return session


def job_key(values: Mapping[str, Any], environ: Mapping[str, str]) -> bytes:
    """The key that the hosts of this job share, and other jobs do not.

    From what only they have in common: the job's ARN, its hosts and its hyperparameters; and the variable
    SAGEMAKER_FRAMEWORK_CLUSTER_KEY, where the job has one.
    """
    import hashlib
    import json

    shared = [
        environ.get(KEY_VARIABLE, ""),
        environ.get("TRAINING_JOB_ARN", ""),
        values["job_name"],
        values["hosts"],
        values["hyperparameters"],
        values["additional_framework_parameters"],
    ]
    return hashlib.sha256(b"sagemaker-framework cluster 1\0" + json.dumps(shared, sort_keys=True).encode()).digest()
