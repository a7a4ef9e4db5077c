"""Reads one of SageMaker's JSON configuration files, and reports its problems."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MARK = b"\xef\xbb\xbf"


class JsonFile:
    """One configuration file: its content, and what is wrong with it, with line numbers.

    Attributes:
        content: the JSON object in the file; empty if there is none.
        is_usable: True if the file holds an object, and no problem with it was reported.

    Args:
        path: the path of the file.
        problems: a line for each problem is added here.
    """

    def __init__(self, path: str, problems: list[str]) -> None:
        self.path = path
        self.content: dict[str, Any] = {}
        self.is_usable = False
        self._problems = problems
        self._text = ""
        try:
            with open(path, "rb") as opened:  # As bytes: the codec for byte order marks is slow to load.
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
        """Return the string at `key`; report a problem if it is not a string, or missing and there is no default."""
        value = self.content.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value:
            is_there = key in self.content
            self.problem(key, f"is {kind(value)}, not a string with something in it" if is_there else "is missing")
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
    """Name the type of a value in JSON's words, such as `a list`."""
    kinds = {
        type(None): "null",
        bool: "a boolean",
        dict: "an object",
        list: "a list",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "an empty string" if value == "" else "a string")
