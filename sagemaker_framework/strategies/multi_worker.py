"""TensorFlow's workers: one process on each host, which finds the others through TF_CONFIG."""

from __future__ import annotations

from sagemaker_framework.strategies._network import interface_variables
from sagemaker_framework.strategies.base import DistributionStrategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sagemaker_framework.entry_point import EntryPoint

#: The port of workers, as in AWS's images for TensorFlow.
DEFAULT_PORT = 8890


class MultiWorkerStrategy(DistributionStrategy):
    """Runs the program once on each host, for TensorFlow's MultiWorkerMirroredStrategy.

    Subclasses may override:

    - `cluster()`: the tasks of the job and their addresses
    - `task()`: the task of this host

    Attributes:
        port: the port at which a worker listens if it is free; else a free one is chosen.
    """

    port: int = DEFAULT_PORT

    def cluster(self) -> Mapping[str, Sequence[str]]:
        """Return the addresses of all tasks, `host:port`, by kind of task.  Called after `plan`, on each host."""
        return {"worker": [f"{host}:{self.plan_result['ports'][host]}" for host in self.hosts()]}

    def task(self) -> tuple[str, int]:
        """Return the kind and the number of this host's task.  Worker 0, on the leader, is the chief."""
        return "worker", self.hosts().index(self.env.current_host)

    def advertise(self) -> Mapping[str, Any]:
        from sagemaker_framework.strategies._network import free_port

        return {"port": free_port(self.port)}

    def plan(self, adverts: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        return {"ports": {host: advert["port"] for host, advert in adverts.items()}}

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        return entry_point.command(args)

    def env_vars(self) -> Mapping[str, str]:
        import json

        kind, index = self.task()
        config = {"cluster": self.cluster(), "task": {"type": kind, "index": index}, "environment": "cloud"}
        return {**interface_variables(self.env), "TF_CONFIG": json.dumps(config)}
