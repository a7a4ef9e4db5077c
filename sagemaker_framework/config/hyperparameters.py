"""Hyperparameters: from the service's text to Python values, and on to arguments and variables.

Pure functions. The rules are those of sagemaker-containers and sagemaker-training,
so that scripts written for them find the same arguments and the same `SM_*`
variables; docs/environment.md lists them.
"""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

#: Hyperparameters that the SageMaker SDK adds for the launcher alone.
_FOR_THE_LAUNCHER = frozenset(
    {
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_enable_cloudwatch_metrics",
        "sagemaker_region",
        "sagemaker_container_log_level",
        "sagemaker_job_name",
        "sagemaker_s3_output",
        "default_user_module_name",
        "_tuning_objective_metric",
    }
)
_PREFIX = "sagemaker_"

#: Hyperparameters that say how the program is spread over hosts and processes.
DISTRIBUTIONS = (
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
)

#: Lists in lists that Python before 3.12 takes apart only with its recursion limit
#: raised. The service's 2,500 characters hold 1,250 of them.
_DEEPEST = 3000


def decode(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The values of hyperparameters.json, each read as JSON, or kept as it is where it is no JSON.

    This one rule reads what every SageMaker SDK sends: `"3"` becomes 3, `"\\"x\\""` and
    `"x"` both become the text x, and `"True"` stays text.
    """
    return _with_deep_nesting(lambda: {name: _decode_value(value) for name, value in raw.items()})


def _decode_value(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def split(decoded: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Whom each hyperparameter is for.

    Returns:
        Those of the user's program; those of the image's framework (`sagemaker_mpi_enabled`
        and the like); those of the launcher itself (`sagemaker_program` and the like).
    """
    user, framework, launcher = {}, {}, {}
    for name, value in decoded.items():
        if name in _FOR_THE_LAUNCHER:
            launcher[name] = value
        elif name.startswith(_PREFIX):
            framework[name] = value
        else:
            user[name] = value
    return user, framework, launcher


def flag(value: Any) -> bool | None:
    """Whether a switch, such as `sagemaker_mpi_enabled`, is on; None where the value says neither.

    Clients send JSON's `true`, Python's `True` and the text `"true"`; nothing, and 0, are off.
    """
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False, "": False}.get(value.strip().lower())
    if value is None or isinstance(value, (bool, int)):
        return bool(value)
    return None


def distributions(framework: Mapping[str, Any]) -> list[str]:
    """Pick those of `DISTRIBUTIONS` that a job asks for.

    Args:
        framework: its `additional_framework_parameters`.
    """
    return [name for name in DISTRIBUTIONS if flag(framework.get(name))]


def to_cmd_args(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Hyperparameters as the arguments of a program.

    Sorted by name; `--name value`, `-n value` where the name is one letter. A mapping
    becomes `k=v,k2=v2`, None an empty argument, anything else what `str()` makes of it.

    Example:
        >>> to_cmd_args({"epochs": 3, "b": True, "layers": [64, 10], "opt": {"lr": 0.1}})
        ['-b', 'True', '--epochs', '3', '--layers', '[64, 10]', '--opt', 'lr=0.1']
    """

    def args() -> list[str]:
        found = []
        for name in sorted(hyperparameters):
            found += [_arg_name(name), _arg_value(hyperparameters[name])]
        return [passable(arg) for arg in found]

    return _with_deep_nesting(args)


def _arg_name(name: str) -> str:
    if not name:
        return ""
    return f"--{name}" if len(name) > 1 else f"-{name}"


def _arg_value(value: Any) -> str:
    if hasattr(value, "items"):
        return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value)


def to_env_vars(values: Mapping[str, Any]) -> dict[str, str]:
    """Any values as `SM_<NAME>` variables.

    Text stays as it is, None becomes empty, anything else compact JSON with sorted keys.
    A name that a shell cannot read (`SM_HP_DASH-NAME`) is there a second time with
    underscores in place of what it cannot read (`SM_HP_DASH_NAME`), unless another value has that name.

    Example:
        >>> to_env_vars({"hosts": ["algo-1"], "hp_dash-name": 1})
        {'SM_HOSTS': '["algo-1"]', 'SM_HP_DASH-NAME': '1', 'SM_HP_DASH_NAME': '1'}
    """
    exact = _with_deep_nesting(
        lambda: {f"SM_{name.upper()}": passable(_env_value(value)) for name, value in values.items()}
    )
    variables = {name: value for name, value in exact.items() if _is_passable(name) and "=" not in name}
    for name, value in exact.items():
        readable = "".join(char if char.isascii() and char.isalnum() else "_" for char in name)
        variables.setdefault(readable, value)
    return variables


def _env_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _is_passable(text: str) -> bool:
    try:
        passed = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return b"\0" not in passed and passed.decode("utf-8", "surrogateescape") == text


def passable(text: str) -> str:
    """`text`, or its JSON form where the kernel passes no such text: one with a NUL or half a surrogate pair."""
    return text if _is_passable(text) else json.dumps(text)


def _with_deep_nesting(work: Callable[[], T]) -> T:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEPEST))
    try:
        return work()
    finally:
        sys.setrecursionlimit(limit)
