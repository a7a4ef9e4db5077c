"""Objects, dicts and lists that cannot be changed; the configuration of a job is made of them.

They replace attrs, which takes longer to import than everything else that the launcher does before the program starts,
and `MappingProxyType`, which `json`, `pickle` and `isinstance` do not accept as a dict.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar, overload

    from typing_extensions import Self, dataclass_transform

    K = TypeVar("K")
    V = TypeVar("V")

    class ReadOnly:
        """The type that type checkers see in place of methods that would change a dict or list."""

else:

    def dataclass_transform(**_):
        return lambda cls: cls


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """An object whose attributes are set once, by name; dicts and lists among them become read-only too.

    A subclass annotates its attributes, and ends the list with `__slots__ = tuple(__annotations__)`.
    """

    __slots__: tuple[str, ...] = ()

    def __init__(self, **values: Any) -> None:
        missing = [name for name in self.__slots__ if name not in values]
        unknown = sorted(set(values).difference(self.__slots__))
        if missing or unknown:
            wrong = "needs" if missing else "has no attribute"
            raise TypeError(f"{type(self).__name__} {wrong} {', '.join(missing or unknown)}")
        for name in self.__slots__:
            object.__setattr__(self, name, read_only(values[name]))

    def evolve(self, **changes: Any) -> Self:
        """Return a copy with some attributes changed.

        Args:
            changes: the new values, by attribute name.

        Raises:
            TypeError: there is no such attribute, or a value is of another type than the attribute.
        """
        changed = type(self)(**{**_values(self), **changes})
        check_types(changed)
        return changed

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(_advice(self, name))

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(_advice(self, name))

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self), _values(self))


def check_types(record: Record) -> None:
    """Check that the values of an object are of the types that its class declares; what they hold is not checked.

    Raises:
        TypeError: one is not; the error names the attribute.
    """
    declared = {
        name: kind for each in type(record).__mro__ for name, kind in vars(each).get("__annotations__", {}).items()
    }
    for name, value in _values(record).items():
        wanted = [kind.partition("[")[0] for kind in declared[name].split(" | ")]
        given = ["None"] if value is None else [kind.__name__ for kind in type(value).__mro__]
        if not {*wanted} & {*given} and not ("float" in wanted and "int" in given):
            told = f"{type(record).__name__}.{name} must be {' or '.join(wanted)}, not {given[0]}"
            raise TypeError(told.replace("ReadOnlyDict", "dict").replace("ReadOnlyList", "list"))


def _values(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__slots__}


def _made(kind: type[Record], values: dict[str, Any]) -> Record:
    return kind(**values)


def _advice(record: Record, name: str) -> str:
    return f"{type(record).__name__} is read-only: evolve({name}=...) makes a copy with another {name}"


def _refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
    name = "hyperparameters" if isinstance(self, dict) else "hosts"
    raise TypeError(
        f"the environment is read-only: change a copy, such as copy.deepcopy(env.{name}); "
        f"for the whole job, in the Trainer's __init__: super().__init__(env.evolve({name}=the_copy))"
    )


class ReadOnlyDict(dict["K", "V"]):
    """A dict that cannot be changed; its copies are plain dicts."""

    __slots__ = ()

    if TYPE_CHECKING:  # Type checkers refuse these too; they say "ReadOnly" not callable.
        __setitem__ = __delitem__ = __ior__ = ReadOnly()  # type: ignore[assignment]
        clear = pop = popitem = setdefault = update = ReadOnly()  # type: ignore[assignment]
    else:
        __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return dict, (dict(self),)  # For pickle and copy, which then treat the values alike.


class ReadOnlyList(list["V"]):
    """A list that cannot be changed; its copies are plain lists."""

    __slots__ = ()

    if TYPE_CHECKING:
        __setitem__ = __delitem__ = __iadd__ = __imul__ = ReadOnly()  # type: ignore[assignment]
        append = clear = extend = insert = pop = remove = reverse = sort = ReadOnly()  # type: ignore[assignment]
    else:
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
        append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return list, (list(self),)


if TYPE_CHECKING:

    @overload
    def read_only(value: dict[K, V]) -> ReadOnlyDict[K, V]: ...
    @overload
    def read_only(value: list[V]) -> ReadOnlyList[V]: ...
    @overload
    def read_only(value: V) -> V: ...


def read_only(value: Any) -> Any:
    """Copy dicts and lists, nested ones included, into read-only ones; return anything else as it is.

    No recursion: hyperparameters may be nested deeper than Python's limit.
    """
    copied = _copied(value)
    left = [copied] if copied is not value else []
    while left:
        container = left.pop()
        kind: Any = dict if isinstance(container, dict) else list
        items = container.items() if kind is dict else enumerate(container)
        for key, item in [(key, item) for key, item in items if isinstance(item, (dict, list))]:
            inner = _copied(item)
            if inner is not item:
                kind.__setitem__(container, key, inner)
                left.append(inner)
    return copied


def _copied(value: Any) -> Any:
    if isinstance(value, dict) and not isinstance(value, ReadOnlyDict):
        return ReadOnlyDict(value)
    if isinstance(value, list) and not isinstance(value, ReadOnlyList):
        return ReadOnlyList(value)
    return value
