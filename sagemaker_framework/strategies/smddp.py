"""SageMaker's distributed data parallel library (SMDDP), whose ranks mpirun starts."""

from __future__ import annotations

from sagemaker_framework.strategies.mpi import MPIStrategy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.entry_point import EntryPoint

#: The port of the library's server on the leader, as in the images that have the library.
_SERVER_PORT = 7592


class SMDDPStrategy(MPIStrategy):
    """Runs the program by mpirun and `smddprun`, if the image has that, once per GPU."""

    options_hyperparameter = "sagemaker_distributed_dataparallel_custom_mpi_options"

    def rank_command(self, entry_point: EntryPoint, args: Sequence[str]) -> list[str]:
        command = super().rank_command(entry_point, args)
        return ["smddprun", *command] if self.env.is_smddprun_installed else command

    def options(self) -> list[str]:
        # The library runs a server beside each rank.
        return ["--oversubscribe", *super().options()]

    def env_vars(self) -> Mapping[str, str]:
        variables = {**super().env_vars(), "RDMAV_FORK_SAFE": "1"}
        hosts = self.hosts()
        if len(hosts) < 2:
            return {**variables, "SMDATAPARALLEL_USE_SINGLENODE": "1"}
        return {
            **variables,
            "SMDATAPARALLEL_USE_HOMOGENEOUS": "1",
            "SMDATAPARALLEL_SERVER_ADDR": hosts[0],
            "SMDATAPARALLEL_SERVER_PORT": str(_SERVER_PORT),
            "SAGEMAKER_INSTANCE_TYPE": instance_type(self.env),
        }


def instance_type(env: TrainingEnv) -> str:
    """Return the instance type that the SageMaker SDK names; this host's if it names none (heterogeneous clusters)."""
    parameters = env.additional_framework_parameters
    assert isinstance(parameters, dict)
    return str(parameters.get("sagemaker_instance_type") or env.current_instance_type)
