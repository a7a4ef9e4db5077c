"""Loads the image's own Trainer class, or its function."""

from __future__ import annotations

from sagemaker_framework.errors import TrainerError
from sagemaker_framework.processes.supervisor import Supervisor
from sagemaker_framework.workflow.calls import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sagemaker_framework.config.environment import TrainingEnv
    from sagemaker_framework.processes.signals import Signals


def load(env: TrainingEnv, base: type, signals: Signals) -> Callable[[], object]:
    """Load the class or function that `SAGEMAKER_TRAINING_MODULE` names; return a function that runs the job.

    Args:
        env: the job's environment.
        base: the class that a class must be a subclass of.
        signals: the record of requests to stop, which may interrupt the author's code.

    Raises:
        TrainerError: it cannot be found, or cannot be used.
        JobStopped: the job was asked to stop meanwhile.
    """
    named = env.framework_module
    assert named
    setting = f"SAGEMAKER_TRAINING_MODULE={named}"
    with signals.may_interrupt():
        target, attribute = _find(named, setting)
        if isinstance(target, type):
            return _make_trainer(target, attribute, setting, env, base)
    if not callable(target):
        raise TrainerError(f"{setting}: {attribute} is neither a class nor a function")
    args = _arguments(target, env)

    def run() -> None:
        with Supervisor(signals, env.settings.grace_seconds):
            with signals.may_interrupt():
                call(named, target, *args)
            signals.check()  # The function may have caught what was raised in it.

    return run


def _find(named: str, setting: str) -> tuple[Any, str]:
    """Import a module, and return its attribute of a name, which may be dotted, and that name."""
    module_name, colon, attribute = named.partition(":")
    if not (module_name and colon and attribute):
        raise TrainerError(f"{setting} is not of the form pkg.mod:Class or pkg.mod:function")
    from importlib import import_module

    target: Any = call(f"{setting}: importing {module_name}", import_module, module_name)
    for part in attribute.split("."):
        target = getattr(target, part, None)
        if target is None:
            raise TrainerError(f"{setting}: the module {module_name} has no {attribute}")
    return target, attribute


def _make_trainer(kind: type, attribute: str, setting: str, env: TrainingEnv, base: type) -> Callable[[], object]:
    if not issubclass(kind, base):
        raise TrainerError(f"{setting}: {attribute} is a class, but not a subclass of sagemaker_framework.Trainer")
    trainer: Any = call(attribute, kind, env)
    if not hasattr(trainer, "_env"):
        raise TrainerError(f"{setting}: {attribute}.__init__ does not call super().__init__(env)")
    train: Callable[[], object] = trainer.train
    return train


def _arguments(function: Callable[..., object], env: TrainingEnv) -> tuple[object, ...]:
    """Return the environment as the argument of a function that takes one; no argument for one that does not."""
    from inspect import Parameter, signature

    try:
        parameters = signature(function).parameters.values()
    except ValueError:  # Some functions written in C have no signature.
        return ()
    by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    if not any(parameter.kind in by_position for parameter in parameters):
        return ()
    return (env,)
