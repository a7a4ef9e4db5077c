"""Training with MXNet: its parameter servers, where the job asks for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from sagemaker_framework import EntryPoint, Launch, ParameterServerStrategy, PythonEntryPoint, Trainer


class MXNetServers(ParameterServerStrategy):
    """MXNet's key-value store: a scheduler on the leader, a server and a worker, the user's script, on every host."""

    def ports(self) -> Mapping[str, int]:
        return {"scheduler": 8000} if self.is_leader else {}

    def fixed_port(self, name: str) -> int | str | None:
        return self.env.additional_framework_parameters.get("_ps_port")

    def start_servers(self, launch: Launch) -> None:
        # Imported in a process with one of these roles, MXNet serves, and exits when all workers have.
        serve = [sys.executable, "-c", "import mxnet"]
        for role in ["scheduler", "server"] if self.is_leader else ["server"]:
            launch(role, serve, env_vars=self.role_env(role), may_end=True)

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str]:
        command = entry_point.command(args)
        if isinstance(entry_point, PythonEntryPoint):
            command[1:1] = ["-m", "mxnet_container.worker"]
        return command

    def role_env(self, role: str) -> Mapping[str, str]:
        return {
            "DMLC_ROLE": role,
            "DMLC_NUM_WORKER": str(len(self.hosts())),
            "DMLC_NUM_SERVER": str(len(self.hosts())),
            "DMLC_PS_ROOT_URI": self.leader_address,
            "DMLC_PS_ROOT_PORT": str(self.port("scheduler")),
            "DMLC_NODE_HOST": self.own_address,
            "PS_VERBOSE": str(
                self.env.additional_framework_parameters.get("_ps_verbose", os.environ.get("PS_VERBOSE", 0))
            ),
        }


class MXNetTrainer(Trainer):
    """What SAGEMAKER_TRAINING_MODULE names in the image."""

    framework_hyperparameters = ("_ps_port", "_ps_verbose")
    parameter_servers = MXNetServers
