"""The SDK for authors of Amazon SageMaker training containers.

Importing it does nothing; each name is loaded when it is first used.
"""

TYPE_CHECKING = False  # Importing typing would take longer than the rest of this file.
if TYPE_CHECKING:
    from sagemaker_framework import entry_point as entry_point
    from sagemaker_framework import errors as errors
    from sagemaker_framework import log as log
    from sagemaker_framework import trainer as trainer
    from sagemaker_framework.config.environment import TrainingEnv as TrainingEnv
    from sagemaker_framework.config.files import training_env as training_env
    from sagemaker_framework.config.settings import Settings as Settings
    from sagemaker_framework.entry_point import EntryPoint as EntryPoint
    from sagemaker_framework.entry_point import PythonEntryPoint as PythonEntryPoint
    from sagemaker_framework.entry_point import ShellEntryPoint as ShellEntryPoint
    from sagemaker_framework.errors import FrameworkError as FrameworkError
    from sagemaker_framework.processes.process import Process as Process
    from sagemaker_framework.processes.process import ProcessResult as ProcessResult
    from sagemaker_framework.processes.process import Run as Run
    from sagemaker_framework.processes.rank_server import RankResult as RankResult
    from sagemaker_framework.processes.rank_server import Ranks as Ranks
    from sagemaker_framework.strategies.base import DistributionStrategy as DistributionStrategy
    from sagemaker_framework.strategies.base import Launch as Launch
    from sagemaker_framework.strategies.launcher import LauncherStrategy as LauncherStrategy
    from sagemaker_framework.strategies.model_parallel import ModelParallelStrategy as ModelParallelStrategy
    from sagemaker_framework.strategies.mpi import MPIStrategy as MPIStrategy
    from sagemaker_framework.strategies.multi_worker import MultiWorkerStrategy as MultiWorkerStrategy
    from sagemaker_framework.strategies.parameter_server import ParameterServerStrategy as ParameterServerStrategy
    from sagemaker_framework.strategies.single_process import SingleProcessStrategy as SingleProcessStrategy
    from sagemaker_framework.strategies.smddp import SMDDPStrategy as SMDDPStrategy
    from sagemaker_framework.strategies.torchrun import TorchrunStrategy as TorchrunStrategy
    from sagemaker_framework.strategies.xla import XLAStrategy as XLAStrategy
    from sagemaker_framework.trainer import Trainer as Trainer

#: The module of each public name; None where the name is a module itself.
_HOMES = {
    "DistributionStrategy": "strategies.base",
    "EntryPoint": "entry_point",
    "FrameworkError": "errors",
    "Launch": "strategies.base",
    "LauncherStrategy": "strategies.launcher",
    "MPIStrategy": "strategies.mpi",
    "ModelParallelStrategy": "strategies.model_parallel",
    "MultiWorkerStrategy": "strategies.multi_worker",
    "ParameterServerStrategy": "strategies.parameter_server",
    "Process": "processes.process",
    "ProcessResult": "processes.process",
    "PythonEntryPoint": "entry_point",
    "RankResult": "processes.rank_server",
    "Ranks": "processes.rank_server",
    "Run": "processes.process",
    "SMDDPStrategy": "strategies.smddp",
    "Settings": "config.settings",
    "ShellEntryPoint": "entry_point",
    "SingleProcessStrategy": "strategies.single_process",
    "TorchrunStrategy": "strategies.torchrun",
    "Trainer": "trainer",
    "TrainingEnv": "config.environment",
    "XLAStrategy": "strategies.xla",
    "training_env": "config.files",
    "entry_point": None,
    "errors": None,
    "log": None,
    "trainer": None,
}

__all__ = sorted(_HOMES)

#: Modules that containers import by the names that they had in 0.1.0; not public.
_MOVED = {"configuration": "config.files"}

if not TYPE_CHECKING:  # Hidden from type checkers, which would take any name for one of ours.

    def __getattr__(name):
        if name not in _HOMES and name not in _MOVED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from sys import modules

        home = f"{__name__}.{_MOVED.get(name) or _HOMES[name] or name}"
        __import__(home)  # importlib would take longer to load than some of what it loads.
        if _HOMES.get(name) is None:
            return modules[home]
        value = globals()[name] = getattr(modules[home], name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
