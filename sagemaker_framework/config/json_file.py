"""A configuration file of SageMaker's: read, or told what is wrong with it."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MARK = b"\xef\xbb\xbf"


class JsonFile:
    """One configuration file: its content, and what is wrong with it, with the line.

    Attributes:
        content: the object that it holds; empty where it holds none.
        is_usable: whether it holds one, and nothing is wrong with what has been asked for.

    Args:
        path: where it is.
        problems: what is wrong with it is added here.
    """

    def __init__(self, path: str, problems: list[str]) -> None:
        self.path = path
        self.content: dict[str, Any] = {}
        self.is_usable = False
        self._problems = problems
        self._text = ""
        try:
            with open(path, "rb") as opened:  # As bytes: loading the codec that knows byte order marks takes longer.
                data = opened.read()
            self._text = str(data[len(_MARK) :] if data.startswith(_MARK) else data, "utf-8")
            content = json.loads(self._text)
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{path}{_told(error, self._text)}")
            return
        if isinstance(content, dict):
            self.content = content
            self.is_usable = True
        else:
            problems.append(f"{path}, line 1: holds {kind(content)}, not an object")

    def problem(self, key: str, what: str) -> None:
        """Report that the value of `key` is wrong."""
        at = self._text.find(json.dumps(key))
        line = self._text.count("\n", 0, max(at, 0)) + 1
        self.is_usable = False
        self._problems.append(f"{self.path}, line {line}: {key!r} {what}")

    def text(self, key: str, default: str | None = None) -> str:
        """Give the text at `key`; a problem where it is something else, or missing with no default."""
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value:
            is_there = key in self.content
            self.problem(key, f"is {kind(value)}, not a text with something in it" if is_there else "is missing")
            return default or ""
        return value


def _told(error: Exception, text: str) -> str:
    if isinstance(error, FileNotFoundError):
        return " is missing: SageMaker writes it for every training job"
    if isinstance(error, OSError):
        return f" cannot be read: {error.strerror}"
    if isinstance(error, UnicodeDecodeError):
        return f" is not UTF-8 text (byte {error.start})"
    if isinstance(error, RecursionError):
        return " is nested too deeply to be read"
    if not text.strip():
        return " is empty"
    at = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
    return f"{at}: not valid JSON ({error})"


def kind(value: object) -> str:
    """Name the kind of a value as JSON has it, such as `a list`."""
    kinds = {
        type(None): "null",
        bool: "a boolean",
        dict: "an object",
        list: "a list",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "an empty text" if value == "" else "a text")
