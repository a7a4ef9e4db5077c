"""One process on each host, which knows nothing of the others."""

from __future__ import annotations

import os

from sagemaker_framework.strategies.base import DistributionStrategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagemaker_framework.entry_point import EntryPoint


class SingleProcessStrategy(DistributionStrategy):
    """Runs the program once on each host.

    On several hosts, the program finds the others by `MASTER_ADDR` and `MASTER_PORT`, as in AWS's images for PyTorch.
    It uses the job's network interface, unless the container says otherwise.
    """

    is_distributed = False

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        return entry_point.command(args)

    def env_vars(self) -> Mapping[str, str]:
        hosts = self.hosts()
        if len(hosts) < 2 or self.env.current_host not in hosts:
            return {}
        from sagemaker_framework.config.variables import MASTER_PORT
        from sagemaker_framework.strategies._network import interface_variables

        leader = {"MASTER_ADDR": hosts[0], "MASTER_PORT": str(MASTER_PORT)}
        own = {name: value for name, value in leader.items() if name not in os.environ}
        return {**own, **interface_variables(self.env)}
