"""Hyperparameters: decodes the service's strings, and makes arguments and variables of the values.

Pure functions. They follow the rules of sagemaker-containers and sagemaker-training, so
that scripts written for those get the same arguments and the same `SM_*` variables;
docs/environment.md lists the rules.
"""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

#: Hyperparameters that the SageMaker SDK adds for the launcher; nobody else gets them.
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

#: Hyperparameters that choose how the program is spread over hosts and processes.
DISTRIBUTIONS = (
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
)

#: Python before 3.12 can only read lists nested deeper than this with a higher
#: recursion limit. The 2,500 characters of the service hold 1,250 levels.
_DEEPEST = 3000


def decode(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Decode the values of hyperparameters.json: each is read as JSON; one that is not JSON stays a string.

    This one rule reads what every SageMaker SDK sends: `"3"` becomes 3, `"\\"x\\""` and
    `"x"` both become the string x, and `"True"` stays a string.
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
    """Split hyperparameters by recipient.

    Returns:
        Those of the user's program; those of the image's framework (`sagemaker_mpi_enabled`,
        ...); those of the launcher (`sagemaker_program`, ...).
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
    """Tell whether a switch, such as `sagemaker_mpi_enabled`, is on; None if its value is neither on nor off.

    Clients send JSON's `true`, Python's `True` or the string `"true"`; None and 0 are off.
    """
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False, "": False}.get(value.strip().lower())
    if value is None or isinstance(value, (bool, int)):
        return bool(value)
    return None


def distributions(framework: Mapping[str, Any]) -> list[str]:
    """Return those of `DISTRIBUTIONS` that a job asks for.

    Args:
        framework: the job's `additional_framework_parameters`.
    """
    return [name for name in DISTRIBUTIONS if flag(framework.get(name))]


def to_cmd_args(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Return hyperparameters as arguments of a program, sorted by name.

    Each is `--name value`, or `-n value` if its name is one letter. A mapping becomes
    `k=v,k2=v2`, None an empty argument, and anything else what `str()` returns.

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
    """Return values as `SM_<NAME>` variables.

    A string stays as it is, None becomes empty, and anything else becomes compact JSON with
    sorted keys. A shell cannot read a name such as `SM_HP_DASH-NAME`; that variable is set a
    second time as `SM_HP_DASH_NAME`, unless another value has that name.

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
    """Return `text`, or its JSON form if the kernel cannot pass it: it has a NUL or half a surrogate pair."""
    return text if _is_passable(text) else json.dumps(text)


def _with_deep_nesting(work: Callable[[], T]) -> T:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEEPEST))
    try:
        return work()
    finally:
        sys.setrecursionlimit(limit)
