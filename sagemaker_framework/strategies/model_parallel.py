"""SageMaker's model parallel library, version 1, whose ranks mpirun starts."""

from __future__ import annotations

import os

from sagemaker_framework.strategies.mpi import MPIStrategy
from sagemaker_framework.strategies.smddp import instance_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sagemaker_framework.entry_point import EntryPoint


class ModelParallelStrategy(MPIStrategy):
    """Runs the program by mpirun and `smddpmprun`, if the image has that and the job leaves the backend to it."""

    def rank_command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str]:
        command = super().rank_command(entry_point, args)
        if not self.env.is_smddpmprun_installed or self._parameters().get("ddp_dist_backend", "auto") != "auto":
            return command
        return ["smddpmprun", "-i", instance_type(self.env), "--allow-bypass", *command]

    def env_vars(self) -> Mapping[str, str]:
        variables = dict(super().env_vars())
        torch_version = os.environ.get("SM_DLC_TORCH_VERSION")
        if torch_version:
            variables["NCCL_PROTO"] = "simple"
            if torch_version.partition(".")[0] not in ("0", "1"):
                variables["NCCL_ALGO"] = "ring"  # Other algorithms may hang from torch 2 on.
        return variables

    def _parameters(self) -> Mapping[str, Any]:
        import json

        given = self.env.hyperparameters.get("mp_parameters")
        if not given:
            given = json.loads(os.environ.get("SM_HP_MP_PARAMETERS") or "{}")
        return given if isinstance(given, dict) else {}
