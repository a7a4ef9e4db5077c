"""The strategies: the ways to spread the user's program over hosts and processes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.strategies.base import DistributionStrategy

#: The module and class of the strategy for each hyperparameter that asks for one.
_STRATEGIES = {
    "sagemaker_mpi_enabled": ("mpi", "MPIStrategy"),
    "sagemaker_torch_distributed_enabled": ("torchrun", "TorchrunStrategy"),
    "sagemaker_distributed_dataparallel_enabled": ("smddp", "SMDDPStrategy"),
    "sagemaker_pytorch_ddp_enabled": ("smddp", "SMDDPStrategy"),
    "sagemaker_multi_worker_mirrored_strategy_enabled": ("multi_worker", "MultiWorkerStrategy"),
    "sagemaker_pytorch_xla_multi_worker_enabled": ("xla", "XLAStrategy"),
}
_PARAMETER_SERVER = "sagemaker_parameter_server_enabled"


def choose(env: TrainingEnv, parameter_servers: type[DistributionStrategy] | None = None) -> DistributionStrategy:
    """Return the strategy that the hyperparameters of the SageMaker SDK ask for.

    Args:
        env: the job's environment.
        parameter_servers: the image's own strategy for parameter servers; None if it has none.

    Raises:
        ConfigurationError: they ask for two, or for one that only the image can provide.
    """
    from sagemaker_framework.config.hyperparameters import distributions

    asked = distributions(env.additional_framework_parameters)
    if not asked:
        from sagemaker_framework.strategies.single_process import SingleProcessStrategy

        return SingleProcessStrategy(env)
    from importlib import import_module

    from sagemaker_framework.errors import ConfigurationError

    wanted = {_STRATEGIES.get(name) for name in asked}
    if wanted == {_STRATEGIES["sagemaker_torch_distributed_enabled"], ("smddp", "SMDDPStrategy")}:
        # SMDDP is a backend of torch.distributed here.
        wanted = {_STRATEGIES["sagemaker_torch_distributed_enabled"]}
    if len(wanted) > 1:
        raise ConfigurationError(
            f"the job asks for {' and '.join(asked)}, which do not go together: leave out all but one"
        )
    if asked == [_PARAMETER_SERVER] and parameter_servers is not None:
        return parameter_servers(env)
    if asked == [_PARAMETER_SERVER]:
        raise ConfigurationError(
            f"the job asks for {_PARAMETER_SERVER}, for which this image has no strategy: parameter servers differ "
            "from framework to framework, so the image's Trainer must name its own (parameter_servers)"
        )
    if asked == ["sagemaker_mpi_enabled"] and env.is_modelparallel_enabled:
        module, name = "model_parallel", "ModelParallelStrategy"
    else:
        module, name = wanted.pop() or ("", "")
    strategy: DistributionStrategy = getattr(import_module(f"{__name__}.{module}"), name)(env)
    return strategy
