"""The agreement of a job's hosts: that all are ready, that all are done, or which failure was the first.

Each host keeps one TCP connection to the leader while the job runs (docs/cluster.md).
"""

from __future__ import annotations

import os

from sagemaker_framework.cluster.session import SingleHostSession
from sagemaker_framework.config.settings import SWITCH_VARIABLE
from sagemaker_framework.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagemaker_framework.cluster.session import Control, Session
    from sagemaker_framework.config.environment import TrainingEnv


def is_wanted(env: TrainingEnv, is_needed: bool) -> bool:
    """Tell whether the hosts of this job agree with each other.

    In Studio's local mode they do so only if the job is distributed over them, as they may not all start.

    Args:
        env: the job's environment.
        is_needed: True if the hosts cannot work without.

    Raises:
        ConfigurationError: the job switches it off, although the hosts need it.
    """
    switch = env.settings.cluster
    if switch == "off" and is_needed:
        raise ConfigurationError(
            f"{SWITCH_VARIABLE} is off, but the processes of this job are spread over {len(env.hosts)} hosts, "
            "which must agree: leave it unset"
        )
    if switch == "off":
        return False
    if is_needed or switch == "on" or not env.settings.is_studio_local_mode:
        return True
    from sagemaker_framework.config.hyperparameters import distributions

    return bool(distributions(env.additional_framework_parameters))


def join(
    env: TrainingEnv,
    environ: Mapping[str, str] = os.environ,
    *,
    is_needed: bool = False,
    control: Control,
) -> Session:
    """Start this host's session with the other hosts.

    Args:
        env: the job's environment.
        environ: the environment variables to read.
        is_needed: True if the hosts cannot work without.
        control: the run of the job on this host.

    Raises:
        ConfigurationError: the job switches it off, although the hosts need it.
    """
    if not is_wanted(env, is_needed):
        return SingleHostSession(env.current_host)
    from sagemaker_framework.cluster.follower import Follower
    from sagemaker_framework.cluster.leader import Leader

    kind = Leader if env.is_master else Follower
    session = kind(
        hosts=env.hosts,
        host=env.current_host,
        leader=env.master_hostname,
        port=env.settings.cluster_port,
        key=job_key(env, environ),
        timeout=env.settings.cluster_timeout_seconds,
        check_names=not env.settings.is_studio_local_mode,
        control=control,
    )
    session.start()
    return session


def job_key(env: TrainingEnv, environ: Mapping[str, str]) -> bytes:
    """Derive the key that the hosts of this job share, and other jobs do not have.

    It is derived from what only they have in common: the job's ARN, name, hosts and hyperparameters, and the variable
    SAGEMAKER_FRAMEWORK_CLUSTER_KEY if it is set.
    """
    import hashlib
    import json

    shared = [
        env.settings.cluster_key,
        environ.get("TRAINING_JOB_ARN", ""),
        env.job_name,
        env.hosts,
        env.hyperparameters,
        env.additional_framework_parameters,
    ]
    return hashlib.sha256(b"sagemaker-framework cluster 1\0" + json.dumps(shared, sort_keys=True).encode()).digest()
