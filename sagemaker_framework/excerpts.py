"""Finds the cause of a failure in the last lines that a program wrote to stderr."""

from __future__ import annotations

_TRACEBACK = "Traceback (most recent call last):"
_IGNORED = ("Exception ignored in", "Exception ignored on", "Exception ignored while")
_CHAINED = ("The above exception was the direct cause", "During handling of the above exception")
_MOST_LINES = 40
_LONGEST_CAUSE = 400  # characters
_AFTERMATH = 20  # lines that a program may still write after the exception that ends it


def cause_and_excerpt(tail: bytes) -> tuple[str, str]:
    """Return the cause of a failure in one line, and the lines that show it.

    These are the last traceback that the interpreter did not ignore, or else the last lines.

    Args:
        tail: the end of the program's stderr.

    Returns:
        Such as `("ValueError: no such layer", "Traceback (most recent call last):\\n ...")`;
        two empty strings if nothing was written.
    """
    lines = [_last_overprint(line) for line in _without_colours(tail.decode("utf-8", "replace")).split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    traceback = _last_traceback(lines)
    if traceback:
        return _exception_line(traceback), "\n".join(traceback)
    lines = lines[-_MOST_LINES:]
    telling = [line.strip() for line in lines if line.strip() and not _is_information(line)]
    fatal = [line.strip() for line in lines if line.startswith("Fatal Python error: ")]  # Followed by where it was.
    return _framed(lines) or next(iter([*fatal[-1:], *telling[-1:]]), ""), "\n".join(lines)


def _without_colours(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text) if "\x1b" in text else text


def _is_information(line: str) -> bool:
    """Tell whether a line is an informational one of C++ code that logs like TensorFlow (absl, glog)."""
    import re

    informs = (
        r"I\d{4} \d\d:|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: I |WARNING: All log messages before absl::InitializeLog"
    )
    return re.match(informs, line) is not None


def _framed(lines: list[str]) -> str:
    """Return the text between the last two lines of dashes, mpirun's frame of a message; empty if there is none."""
    rules = [at for at, line in enumerate(lines) if len(line) > 20 and not line.strip("-")]
    if len(rules) < 2 or rules[-1] != len(lines) - 1:
        return ""
    return " ".join(" ".join(lines[rules[-2] + 1 : rules[-1]]).split())[:_LONGEST_CAUSE]


def _last_overprint(line: str) -> str:
    # A progress bar writes one "line" over and over, with carriage returns.
    return line.rstrip("\r").rsplit("\r", 1)[-1]


def _last_traceback(lines: list[str]) -> list[str]:
    """Return the last traceback and the exceptions that led to it, to the end of the exception's message."""
    for start in range(len(lines) - 1, -1, -1):
        if _TRACEBACK not in lines[start] or (start and lines[start - 1].lstrip().startswith(_IGNORED)):
            continue
        tag = lines[start][: lines[start].index(_TRACEBACK)]
        if tag.lstrip().startswith("+"):  # An exception group draws its tree around the tracebacks.
            tag = ""
        # Several processes may write at once, each line with the tag of its process: follow this one.
        block = [line[len(tag) :] for line in lines[start:] if line.startswith(tag)]
        end = next((at for at in range(1, len(block)) if not block[at].startswith((" ", "\t"))), None)
        if end is None and not tag and "+ Exception Group" in block[0]:
            return block
        if end is not None:  # Otherwise the exception itself is missing.
            last = end
            while last + 1 < len(block) and last - end < _MOST_LINES and _goes_on(block[last + 1]):
                last += 1
            after = block[last + 1 :]
            if last - end >= _MOST_LINES or len([line for line in after if line.strip()]) > _AFTERMATH:
                return []  # The program went on, so it had caught the exception.
            if sum(map(len, after)) <= _LONGEST_CAUSE and not any(_TRACEBACK in line for line in after):
                last = len(block) - 1  # The message itself may have empty lines.
            return [*_led_to_it(lines[:start]), *block[: last + 1]]
    return []


def _goes_on(line: str) -> bool:
    # A message of several lines ends at an empty line, or at a line that plainly is something else.
    return bool(line.strip()) and _TRACEBACK not in line and not line.lstrip().startswith(_IGNORED)


def _led_to_it(before: list[str]) -> list[str]:
    """Return the chained exceptions in front of a traceback."""
    at = len(before)
    while at >= 2 and before[at - 2].startswith(_CHAINED):
        at -= 2
        while at and _TRACEBACK not in before[at]:
            at -= 1
    return before[at:]


def _exception_line(traceback: list[str]) -> str:
    starts = [at for at, line in enumerate(traceback) if _TRACEBACK in line]
    for line in traceback[starts[-1] + 1 if starts else 0 :]:
        if line.strip() and not line.startswith((" ", "\t")):
            return line.strip()
    stripped = (line.strip(" |+") for line in traceback[1:])
    return next((line for line in stripped if line.split(":")[0].endswith("Group")), "")


def shorten(text: str, limit: int) -> str:
    """Shorten `text` to at most `limit` characters: its first line, and as many of its last lines as fit."""
    if len(text) <= limit:
        return text
    head, _, rest = text.partition("\n")
    mark = "\n...\n"
    room = limit - len(head) - len(mark)
    if room <= 0 or not rest:
        return text[: limit - 3] + "..."
    kept = rest[-room:]
    if len(rest) > room and "\n" in kept:
        kept = kept.split("\n", 1)[1]  # Drop the partial line at the start.
    return head + mark + kept
