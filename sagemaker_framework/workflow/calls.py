"""Calls what the image's author has written, and names it in what goes wrong."""

from __future__ import annotations

from types import CoroutineType

from sagemaker_framework.entry_point import EntryPoint
from sagemaker_framework.errors import FrameworkError, JobInterrupted, JobStopped, TrainerError
from sagemaker_framework.strategies.base import DistributionStrategy, are_named_strings, are_strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


#: What the hooks that return something have to return, in words and as a test.
_RETURNED: dict[str, tuple[str, Callable[[object], bool]]] = {
    "source": ("a string or None", lambda value: value is None or isinstance(value, str)),
    "entry_point": ("an EntryPoint", lambda value: isinstance(value, EntryPoint)),
    "strategy": ("a DistributionStrategy", lambda value: isinstance(value, DistributionStrategy)),
    "args": ("a list of strings", are_strings),
    "command": ("a list of strings or None", lambda value: value is None or are_strings(value)),
    "env_vars": ("strings by their names", are_named_strings),
    "completes_job": ("True or False", lambda value: isinstance(value, bool)),
}


def call_hook(hook: Callable[..., T], *args: Any) -> T:
    """Call a hook, and check the type of what it returns.

    Args:
        hook: a method, by way of its object, whose class the errors name.
        args: its arguments.

    Raises:
        FrameworkError: as the hook raised it; `TrainerError` for any other exception, or a wrong type.
    """
    owner, name = getattr(hook, "__self__", None), _name(hook)
    what = hook.__qualname__ if owner is None else f"{type(owner).__name__}.{name}"
    returned = call(what, hook, *args)
    wanted, is_wanted = _RETURNED.get(name, ("", None))
    if is_wanted and not is_wanted(returned):
        raise TrainerError(f"{what} returned {returned!r}, not {wanted}")
    return returned


def _name(hook: Callable[..., object]) -> str:
    """The name by which the owner of a hook has it: a decorator's function may have another one."""
    owner = type(getattr(hook, "__self__", None))
    function = getattr(hook, "__func__", None)
    if function is None or getattr(owner, hook.__name__, None) is function:
        return hook.__name__
    return next((name for name in dir(owner) if getattr(owner, name, None) is function), hook.__name__)


def call(what: str, function: Callable[..., T], *args: Any) -> T:
    """Call an author's function; what it raises becomes an error that names it.

    Args:
        what: what to call it in messages.
        function: the function.
        args: its arguments.

    Raises:
        FrameworkError: as the function raised it; `TrainerError` for any other exception.
    """
    try:
        returned = function(*args)
    except (FrameworkError, JobInterrupted, JobStopped):
        raise
    except SystemExit as stop:
        if stop.code in (None, 0):
            return None  # type: ignore[return-value]
        is_text = isinstance(stop.code, str) and stop.code
        words = f"exited: {stop.code}" if is_text else f"called sys.exit({stop.code!r})"
        raise TrainerError(f"{what} {words}", exit_code=stop.code if isinstance(stop.code, int) else 1) from stop
    except BaseException as error:
        raise TrainerError(f"{what} failed: {describe(error)}", _trace(error)) from error
    if isinstance(returned, CoroutineType):
        returned.close()
        raise TrainerError(f"{what} is async, so that it has not run: have it call asyncio.run()")
    return returned


def internal_error(error: BaseException) -> FrameworkError:
    """Return the failure that an exception of our own code is, with its traceback; a `FrameworkError` as it is."""
    if isinstance(error, FrameworkError):
        return error
    return FrameworkError(f"internal error of sagemaker-framework: {describe(error)}", _trace(error, whole=True))


def describe(error: BaseException) -> str:
    """Put an exception into one line."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _trace(error: BaseException, whole: bool = False) -> str:
    """The traceback of an error, without the frames of this module that lead to it unless it is to be `whole`."""
    import traceback

    trace = error.__traceback__
    while trace is not None and not whole and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
