"""How the user's program is spread over hosts and processes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sagemaker_framework.strategies.base import DistributionStrategy


def choose(values: Mapping[str, Any]) -> DistributionStrategy:
    """The strategy that the hyperparameters of the SageMaker SDK ask for.

    Args:
        values: the job's environment.

    Raises:
        ConfigurationError: the image has no strategy for what the job asks.
    """
    from sagemaker_framework.configuration import DISTRIBUTIONS
    from sagemaker_framework.errors import ConfigurationError
    from sagemaker_framework.strategies.single_process import SingleProcessStrategy

    asked = [name for name in DISTRIBUTIONS if values["additional_framework_parameters"].get(name)]
    if asked:
        raise ConfigurationError(
            f"the job asks for {', '.join(asked)}, for which this image has no strategy: "
            "its Trainer has to return one from strategy()"
        )
    return SingleProcessStrategy(values)
