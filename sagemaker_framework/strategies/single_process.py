"""One process on each host, which knows nothing of the others."""

from __future__ import annotations

from sagemaker_framework.strategies.base import DistributionStrategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagemaker_framework.entry_point import EntryPoint


class SingleProcessStrategy(DistributionStrategy):
    """Runs the program once on each host."""

    needs_agreement = False

    def command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str] | None:
        return entry_point.command(args)
