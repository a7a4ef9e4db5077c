"""Calls the code of the image's author, and names that code in errors."""

from __future__ import annotations

from collections.abc import Mapping
from types import CoroutineType

from sagemaker_framework.entry_point import EntryPoint
from sagemaker_framework.errors import FrameworkError, JobInterrupted, JobStopped, TrainerError
from sagemaker_framework.strategies.base import DistributionStrategy, are_named_strings, are_strings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


#: The type that a hook must return, in words and as a test.
_RETURNED: dict[str, tuple[str, Callable[[object], bool]]] = {
    "source": ("a string or None", lambda value: value is None or isinstance(value, str)),
    "entry_point": ("an EntryPoint", lambda value: isinstance(value, EntryPoint)),
    "strategy": ("a DistributionStrategy", lambda value: isinstance(value, DistributionStrategy)),
    "args": ("a list of strings", are_strings),
    "command": (
        "a list of strings that is not empty, or None",
        lambda value: value is None or (bool(value) and are_strings(value)),
    ),
    "env_vars": ("a mapping of strings", are_named_strings),
    "completes_job": ("True or False", lambda value: isinstance(value, bool)),
    "check_exit": ("a FrameworkError or None", lambda value: value is None or isinstance(value, FrameworkError)),
}


#: The hooks whose result is sent to other hosts, as a JSON object of at most so many bytes.
_SENT = frozenset({"advertise", "plan", "summary"})
_MOST_SENT = 8 << 20


def call_hook(hook: Callable[..., T], *args: Any) -> T:
    """Call a hook, and check the type of its result.

    Args:
        hook: the hook, as a method of its object, whose class the errors name.
        args: the arguments of the hook.

    Raises:
        FrameworkError: the hook raised it; `TrainerError` for any other exception, or a result of the wrong type.
    """
    owner, name = getattr(hook, "__self__", None), _name(hook)
    what = hook.__qualname__ if owner is None else f"{type(owner).__name__}.{name}"
    returned = call(what, hook, *args)
    if name in _SENT:
        return _as_sent(what, returned)
    wanted, is_wanted = _RETURNED.get(name, ("", None))
    if is_wanted and not is_wanted(returned):
        raise TrainerError(f"{what} returned {returned!r}, not {wanted}")
    if isinstance(returned, DistributionStrategy) and not hasattr(returned, "_env"):
        raise TrainerError(f"{type(returned).__name__}.__init__ does not call super().__init__(env)")
    return returned


def _as_sent(what: str, returned: T) -> T:
    """Return what other hosts get of a hook's result, so that the host that made it sees the same.

    Raises:
        TrainerError: it is not a JSON object, or too large.
    """
    import json

    try:
        text = json.dumps(returned) if isinstance(returned, Mapping) else ""
    except (TypeError, ValueError, RecursionError) as error:
        raise TrainerError(f"{what} returned what cannot be sent to other hosts as JSON: {error}") from error
    if not text:
        raise TrainerError(f"{what} returned {returned!r}, not a mapping that can be sent to other hosts as JSON")
    if len(text) > _MOST_SENT:
        raise TrainerError(f"{what} returned {len(text):,} bytes of JSON; {_MOST_SENT:,} can be sent to other hosts")
    sent: T = json.loads(text)
    return sent


def _name(hook: Callable[..., object]) -> str:
    """Return the name of a hook in its class; a decorated function may have another name itself."""
    owner = type(getattr(hook, "__self__", None))
    function = getattr(hook, "__func__", None)
    if function is None or getattr(owner, hook.__name__, None) is function:
        return hook.__name__
    return next((name for name in dir(owner) if getattr(owner, name, None) is function), hook.__name__)


def call(what: str, function: Callable[..., T], *args: Any) -> T:
    """Call an author's function; turn its exception into an error that names the function.

    Args:
        what: the function's name in messages.
        function: the function.
        args: the arguments of the function.

    Raises:
        FrameworkError: the function raised it; `TrainerError` for any other exception.
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
        raise TrainerError(f"{what} is async, so it has not run: let it call asyncio.run()")
    return returned


def internal_error(error: BaseException) -> FrameworkError:
    """Return the failure for an exception of this framework's own code; a `FrameworkError` is returned as it is."""
    if isinstance(error, FrameworkError):
        return error
    return FrameworkError(f"internal error of sagemaker-framework: {describe(error)}", _trace(error, whole=True))


def describe(error: BaseException) -> str:
    """Return an exception in one line."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _trace(error: BaseException, whole: bool = False) -> str:
    """Return the traceback of an error, without this module's frames unless `whole`."""
    import traceback

    trace = error.__traceback__
    while trace is not None and not whole and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
