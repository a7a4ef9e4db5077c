"""Numbers and words that jobs set, in variables and hyperparameters: from what was sent to what was meant."""

from __future__ import annotations

from sagemaker_framework.errors import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    N = TypeVar("N", int, float)


def number(what: str, value: object, least: N, most: N | None = None, *, unit: str = "") -> N:
    """Read a number, of the type of its lower bound.

    Args:
        what: what to call it, such as `hyperparameter 'sagemaker_mpi_num_processes'`.
        value: the number, or its text.
        least: the lowest that it can be.
        most: the highest that it can be, if there is such.
        unit: what it counts.

    Raises:
        ConfigurationError: it is no number, or out of bounds.
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
    """Split options into words, as a shell does; a list is taken as it is, nothing as none.

    Args:
        what: what to call them, such as `hyperparameter 'sagemaker_mpi_custom_mpi_options'`.
        value: the options, in one text or in a list.

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
