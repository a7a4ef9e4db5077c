"""Numbers and words that jobs set."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_framework.config.values import number, words
from sagemaker_framework.errors import ConfigurationError


@pytest.mark.parametrize(("value", "read"), [("3", 3), (3, 3), (" 12 ", 12), ("1", 1), ("20", 20)])
def test_a_number(value: object, read: int) -> None:
    """A number, or its text, is of the type of its lower bound."""
    found = number("it", value, 1, 20)

    assert (int, read) == (type(found), found)
    assert isinstance(number("it", value, 1.0), float)


@pytest.mark.parametrize("value", ["three", "", None, True, [3], "3.5", 3.0, "0", "21", "1e3"])
def test_no_whole_number(value: object) -> None:
    """Anything else, and what is out of bounds, is told with its bounds."""
    with pytest.raises(ConfigurationError) as raised:
        number("the number of it", value, 1, 20)

    assert f"the number of it is {value!r}, not a number from 1 to 20" == str(raised.value)


@pytest.mark.parametrize("value", ["nan", "-inf", "inf", "1e400", "-0.1", "1000000.1"])
def test_no_number_of_seconds(value: str) -> None:
    """A number that is none, or without end, is out of any bounds."""
    with pytest.raises(ConfigurationError, match=r"not a number of seconds from 0 to 1000000$"):
        number("it", value, 0.0, 1e6, unit="seconds")


def test_without_an_upper_bound() -> None:
    """Where any number will do from some on, that is what is told."""
    assert 10**12 == number("it", str(10**12), 1)
    with pytest.raises(ConfigurationError, match=r"it is '0', not a number from 1 on$"):
        number("it", "0", 1)


@pytest.mark.parametrize(
    ("value", "split"),
    [
        ("-x A='b c' --verbose", ["-x", "A=b c", "--verbose"]),
        (["--n", 3], ["--n", "3"]),
        ("", []),
        (None, []),
        ([], []),
    ],
)
def test_words(value: object, split: list[str]) -> None:
    """A text is split as a shell does, a list is taken as it is, and nothing is no words."""
    assert split == words("options", value)


@pytest.mark.parametrize("value", ["it's", 3, True])
def test_no_words(value: Any) -> None:
    """What cannot be split is told."""
    with pytest.raises(ConfigurationError, match="options cannot be split into options: "):
        words("options", value)
