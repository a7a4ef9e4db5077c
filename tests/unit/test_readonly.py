"""Dicts and lists that refuse to be changed, and are dicts and lists to everyone else."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagemaker_framework.config.readonly import ReadOnlyDict, ReadOnlyList, read_only

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)

#: How else the methods that change a dict or a list are called.
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "__setitem__": (0, 1),
    "__delitem__": (0,),
    "__ior__": ({1: 1},),
    "__iadd__": ([1],),
    "__imul__": (2,),
    "append": (1,),
    "extend": ([1],),
    "insert": (0, 1),
    "remove": (2,),
    "setdefault": (0, 1),
    "update": ({0: 1},),
}


def changes(value: Any, method: str) -> bool:
    """Tell whether a method of a plain dict or list changes it."""
    before = copy.deepcopy(value)
    try:
        getattr(value, method)(*ARGUMENTS.get(method, ()))
    except (TypeError, KeyError):
        pass
    return bool(before != value)


def changing(sample: dict[int, int] | list[int]) -> list[str]:
    """Find the methods of a type that change it, those that any version of Python may have."""
    not_called = {"__init__", "__class__", "__setattr__", "__delattr__", "__init_subclass__", "__new__"}
    return [name for name in dir(sample) if name not in not_called and changes(copy.copy(sample), name)]


@pytest.mark.parametrize("method", [*changing({0: 2, 3: 4}), "setdefault", "pop"])
def test_a_dict_refuses(method: str) -> None:
    """Each method of dict that changes it raises a TypeError which says what to do instead."""
    value = read_only({0: 2, 3: 4})

    with pytest.raises(TypeError, match=r"read-only: change a copy, such as copy\.deepcopy\(env\.hyperparameters\); "):
        getattr(value, method)(*ARGUMENTS.get(method, ()))
    assert {0: 2, 3: 4} == value


@pytest.mark.parametrize("method", changing([3, 2]))
def test_a_list_refuses(method: str) -> None:
    """Each method of list that changes it raises a TypeError which says what to do instead."""
    value = read_only([3, 2])

    with pytest.raises(TypeError, match=r"read-only: change a copy, such as copy\.deepcopy\(env\.hosts\); "):
        getattr(value, method)(*ARGUMENTS.get(method, ()))
    assert [3, 2] == value


def test_the_methods_that_are_tried() -> None:
    """The tests above find every method that the language's manual lists."""
    assert {"__setitem__", "__delitem__", "__ior__", "clear", "popitem", "update"} <= {*changing({0: 2, 3: 4})}
    assert {
        *"__setitem__ __delitem__ __iadd__ __imul__ append clear extend insert pop remove reverse sort".split()
    } == {*changing([3, 2])}


def test_operators_refuse() -> None:
    """`|=`, `+=`, `*=` and `del` raise, and change nothing."""
    value: Any = {"d": read_only({"a": 1}), "l": read_only([1])}

    with pytest.raises(TypeError, match="read-only"):
        value["d"] |= {"b": 2}
    with pytest.raises(TypeError, match="read-only"):
        value["l"] += [2]
    with pytest.raises(TypeError, match="read-only"):
        value["l"] *= 2
    with pytest.raises(TypeError, match="read-only"):
        del value["l"][0]
    assert {"d": {"a": 1}, "l": [1]} == value


def test_no_attribute_is_added() -> None:
    """Nothing can be put on them as an attribute either."""
    for value in (read_only({}), read_only([])):
        with pytest.raises(AttributeError):
            value.comment = 1


def test_what_is_nested_refuses_too() -> None:
    """Dicts and lists at any depth are read-only, and the ones that they are made of stay as they were."""
    plain: Any = {"a": [{"b": [1]}]}
    value = read_only(plain)

    with pytest.raises(TypeError, match="read-only"):
        value["a"][0]["b"].append(2)
    plain["a"][0]["b"].append(2)
    assert {"a": [{"b": [1]}]} == value


@given(JSON)
def test_to_others_they_are_plain(value: Any) -> None:
    """They equal, print, sort, and are JSON, as plain ones."""
    frozen = read_only(value)

    assert value == frozen
    assert frozen == value
    assert repr(value) == repr(frozen)
    assert json.dumps(value) == json.dumps(frozen)
    assert json.dumps(value, indent=1, sort_keys=True) == json.dumps(frozen, indent=1, sort_keys=True)
    assert isinstance(frozen, type(value))


def is_plain(value: Any) -> bool:
    """Tell whether no dict or list in it is read-only."""
    if type(value) is dict:
        return all(is_plain(item) for item in value.values())
    return all(is_plain(item) for item in value) if type(value) is list else not isinstance(value, (dict, list))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_pickled_they_are_plain(protocol: int, value: Any) -> None:
    """What is unpickled is plain at every depth, so that the reader needs nothing of this package."""
    pickled = pickle.dumps(read_only(value), protocol)

    assert b"sagemaker_framework" not in pickled
    assert value == pickle.loads(pickled)
    assert is_plain(pickle.loads(pickled))


@given(JSON)
def test_deep_copies_are_plain(value: Any) -> None:
    """`copy.deepcopy` gives what can be changed at every depth."""
    copied = copy.deepcopy(read_only(value))

    assert value == copied
    assert is_plain(copied)


SHALLOW: list[Callable[[Any], Any]] = [
    copy.copy,
    lambda value: value.copy(),
    lambda value: dict(value) if isinstance(value, dict) else list(value),
    lambda value: {**value} if isinstance(value, dict) else [*value],
    lambda value: value | {} if isinstance(value, dict) else value + [],  # noqa: RUF005
    lambda value: {} | value if isinstance(value, dict) else value[:],
]


@pytest.mark.parametrize("copied", SHALLOW)
@pytest.mark.parametrize("value", [{"b": 1, "a": [2]}, [3, [1]]])
def test_shallow_copies_are_plain_outside(copied: Callable[[Any], Any], value: Any) -> None:
    """Other copies can be changed, but what is nested in them is what it was."""
    frozen = read_only(value)
    made = copied(frozen)

    assert type(value) is type(made)
    assert value == made
    nested = "a" if isinstance(value, dict) else 1
    assert made[nested] is frozen[nested]


def test_what_is_read_only_is_not_copied() -> None:
    """Made read-only once more, it is the same object, and so is what is neither dict nor list."""
    value, text = read_only({"a": 1}), "text"

    assert value is read_only(value)
    assert value is read_only({"b": value})["b"]
    assert text is read_only(text)


def test_no_depth_is_too_deep() -> None:
    """What JSON's reader can read is not too deep, whatever Python's limit of recursion is."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    assert isinstance(read_only(deep)[0][0], ReadOnlyList)


def test_subclasses_become_read_only() -> None:
    """A dict of another kind is one of these afterwards."""
    from collections import OrderedDict

    assert type(read_only(OrderedDict(a=1))) is ReadOnlyDict
