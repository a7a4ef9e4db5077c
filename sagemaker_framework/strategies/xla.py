"""PyTorch/XLA on GPUs, as SageMaker's Training Compiler ran it: `xla_spawn`, one on each host."""

from __future__ import annotations

from sagemaker_framework.errors import ConfigurationError
from sagemaker_framework.strategies.base import DistributionStrategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sagemaker_framework.entry_point import EntryPoint

#: The port of XLA's runtimes, as in the images with the Training Compiler.
_WORKER_PORT, _MESH_PORT = 43857, 53957


class XLAStrategy(DistributionStrategy):
    """Runs the program once per GPU by `torch_xla.distributed.xla_spawn`, in images with the Training Compiler."""

    def advertise(self) -> Mapping[str, Any]:
        from importlib.util import find_spec

        if self.env.num_gpus < 1:
            raise ConfigurationError("the job asks for PyTorch/XLA on GPUs, and this host has none")
        if find_spec("torch_xla") is None:
            raise ConfigurationError(
                "the job asks for PyTorch/XLA, but this image has no torch_xla: use an image with the SageMaker "
                "Training Compiler"
            )
        return {}

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        python, *program = entry_point.command(args)
        if python != entry_point.interpreter or program[0] == "-m":
            raise ConfigurationError(f"{entry_point.name}: PyTorch/XLA runs Python scripts only")
        spawn = ["-m", "torch_xla.distributed.xla_spawn", "--num_gpus", str(self.env.num_gpus)]
        return [python, *spawn, *program]

    def env_vars(self) -> Mapping[str, str]:
        hosts, gpus = self.hosts(), str(self.env.num_gpus)
        mesh = {"XRT_MESH_SERVICE_ADDRESS": f"{hosts[0]}:{_MESH_PORT}"} if len(hosts) > 1 else {}
        return {
            "NCCL_DEBUG": "info",
            "NCCL_PROTO": "simple",
            "FI_EFA_USE_DEVICE_RDMA": "1",
            "OFI_NCCL_NIC_DUP_CONNS": gpus,
            "GPU_NUM_DEVICES": gpus,
            "XRT_HOST_ORDINAL": str(hosts.index(self.env.current_host)),
            "XRT_SHARD_WORLD_SIZE": str(len(hosts)),
            "XRT_WORKERS": "|".join(f"localservice:{at};{host}:{_WORKER_PORT}" for at, host in enumerate(hosts)),
            **mesh,
        }
