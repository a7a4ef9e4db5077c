"""A plugin of coverage.py by which `make coverage` measures the wrapper of ranks too.

The package starts it by `python -I -S`, so that its start takes 10 ms; with -S, Python does not load what starts
coverage in a process. Whatever process is measured starts it by `python -I`.

What `train` runs for the user is not measured: hundreds of programs that have nothing of the package in them.
"""

from __future__ import annotations

import _posixsubprocess
import _thread
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: Tells a process how it is measured.
VARIABLE = "COVERAGE_PROCESS_CONFIG"


def index_of_flag(argv: Sequence[Any]) -> int:
    """Find the -S before a module of the package; 0 where there is none."""
    words = [os.fsdecode(word) for word in argv]
    at = next((at for at, word in enumerate(words) if "/sagemaker_framework/" in word), 0)
    return at - 1 if words[at - 2 : at] == ["-I", "-S"] else 0


def measure_in(fork_exec: Callable[..., int]) -> Callable[..., int]:
    """Wrap what subprocess starts processes by."""

    def start(argv: Sequence[Any], *rest: Any) -> int:
        if at := index_of_flag(argv):
            argv, rest = [*argv[:at], *argv[at + 1 :]], tuple(rest)
            executables, close, keep, cwd, variables, *others = rest
            if variables is not None:
                variables = [*variables, os.fsencode(f"{VARIABLE}={os.environ[VARIABLE]}")]
            rest = (executables, close, keep, cwd, variables, *others)
        return fork_exec(argv, *rest)

    return start


def measure_by(spawn: Callable[..., int]) -> Callable[..., int]:
    """Wrap what `train` starts processes by."""

    def start(path: Any, argv: Sequence[Any], env: Mapping[Any, Any], **options: Any) -> int:
        others = {name: value for name, value in env.items() if os.fsdecode(name) != VARIABLE}
        if at := index_of_flag(argv):
            argv, others = [*argv[:at], *argv[at + 1 :]], {**others, VARIABLE: os.environ[VARIABLE]}
        return spawn(path, argv, others, **options)

    return start


def measure_threads(start: Callable[..., int]) -> Callable[..., int]:
    """Wrap what the wrapper starts threads by: coverage knows of those that threading starts."""

    def start_measured(function: Callable[..., object], *rest: Any) -> int:
        def run(*args: Any, **named: Any) -> None:
            sys.settrace(threading.gettrace())
            function(*args, **named)

        return start(run, *rest)

    return start_measured


def coverage_init(registry: object, options: object) -> None:
    """Have this process start the wrapper so."""
    start = measure_in(_posixsubprocess.fork_exec)
    _posixsubprocess.fork_exec = start  # type: ignore[assignment]
    if "subprocess" in sys.modules:
        sys.modules["subprocess"]._fork_exec = start  # type: ignore[attr-defined]
    _thread.start_new_thread = measure_threads(_thread.start_new_thread)  # type: ignore[assignment]
    os.posix_spawn = measure_by(os.posix_spawn)
    os.posix_spawnp = measure_by(os.posix_spawnp)
