"""Reads numbers and words from the strings of variables and hyperparameters."""

from __future__ import annotations

from sagemaker_framework.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    N = TypeVar("N", int, float)


def number(what: str, value: object, least: N, most: N | None = None, *, unit: str = "") -> N:
    """Read a number, of the type of its lower bound.

    Args:
        what: the name of the value in messages, such as `hyperparameter 'sagemaker_mpi_num_processes'`.
        value: the number, or a string that holds it.
        least: the lowest allowed value.
        most: the highest allowed value; None for no limit.
        unit: the unit of the number, for messages.

    Raises:
        ConfigurationError: it is not a number, or out of bounds.
    """
    try:
        found = type(least)(str(value))
    except ValueError:
        found = None
    if found is not None and least <= found and (most is None or found <= most):
        return found
    bounds = f"from {least:.10g} on" if most is None else f"from {least:.10g} to {most:.10g}"
    raise ConfigurationError(f"{what} is {value!r}, not a number{f' of {unit}' if unit else ''} {bounds}")


def words(what: str, value: object) -> list[str]:
    """Split options into words, as a shell does.

    Args:
        what: the name of the options in messages, such as `hyperparameter 'sagemaker_mpi_custom_mpi_options'`.
        value: the options, in one string or in a list, which is not split; no words if it is empty or None.

    Raises:
        ConfigurationError: they cannot be split.
    """
    import shlex

    if not value:
        return []
    try:
        return shlex.split(value) if isinstance(value, str) else [str(word) for word in value]  # type: ignore[attr-defined]
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{what} cannot be split into options: {error}") from error
