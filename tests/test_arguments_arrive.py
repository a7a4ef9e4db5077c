"""Every hyperparameter that the SageMaker API allows reaches the program intact, whatever is in it."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs import Job

#: CreateTrainingJob allows 100 hyperparameters, names of 256 characters, values of 2,500 (the SageMaker API reference).
NAMES = st.text(min_size=1, max_size=256).filter(lambda name: not name.startswith(("sagemaker_", "_tuning_obj")))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)
RAW = (
    st.text(max_size=2500) | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps(value, ensure_ascii=False))
).filter(lambda text: len(text) <= 2500)
#: What shells, archives and terminals stumble over.
AWKWARD = {
    "quotes": 'it\'s "quoted" `id` $(id) $HOME \\ ; rm -rf x & | < > * ? [a] {b} ~ #',
    "newlines": "\n one\r\ntwo\n\n",
    "empty": "",
    "spaces": "  a  b  ",
    "dash": "--not-an-option",
    "unicode": "日本 \U0001f600 e\u0301 \u202e \ufeff",
    "half": "\ud800",
    "nul": '"a\\u0000b"',
    "deep": "[" * 1250 + "]" * 1250,
    "long": "x" * 2500,
    "-": "one letter",
    "a=b": "equals",
    "new\nline": "name",
}


def expected_argv(raw: dict[str, str]) -> list[str]:
    """The arguments by the rule of docs/environment.md, written out once more."""

    def passable(text: str) -> str:
        halved = any(0xD800 <= ord(char) <= 0xDBFF or 0xDC00 <= ord(char) <= 0xDC7F for char in text)
        other = any(0xDD00 <= ord(char) <= 0xDFFF for char in text)
        return json.dumps(text) if "\0" in text or halved or other else text

    def shown(text: str) -> str:
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            return text
        if isinstance(value, dict):
            return ",".join(f"{key}={item}" for key, item in sorted(value.items()))
        return "" if value is None else str(value)

    argv = []
    for name in sorted(raw):
        argv += [f"-{name}" if len(name) == 1 else f"--{name}", shown(raw[name])]
    return [passable(arg) for arg in argv]


PROGRAMS = {
    "train.py": "import os, sys; open(os.environ['SM_MODEL_DIR'] + '/argv', 'wb').write("
    "b''.join(os.fsencode(arg) + b'\\0' for arg in sys.argv[1:]))",
    "run.sh": '[ $# = 0 ] || printf \'%s\\0\' "$@" > "$SM_MODEL_DIR/argv"',
}


def argv_in(program: str, raw: dict[str, str]) -> list[str]:
    """Run a job with these hyperparameters; the arguments that the program got."""
    folder = Path(tempfile.mkdtemp())
    try:
        job = Job(folder / "ml")
        job.write(program, PROGRAMS[program])
        job.config("hyperparameters", {**raw, "sagemaker_program": program})
        ended = job.run()
        assert ended.succeeded, ended.stderr
        file = folder / "ml/model/argv"
        content = file.read_bytes() if file.exists() else b""
        return [arg.decode("utf-8", "surrogateescape") for arg in content.split(b"\0")[:-1]]
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("program", PROGRAMS)
def test_awkward_hyperparameters_arrive(program: str) -> None:
    """Quotes, newlines, options, empty texts, deep and long values arrive as they are."""
    deep = {name: value for name, value in AWKWARD.items() if name != "deep"}

    assert expected_argv(deep) == argv_in(program, deep)
    assert ["--deep", AWKWARD["deep"]] == argv_in(program, {"deep": AWKWARD["deep"]})


@pytest.mark.parametrize("program", PROGRAMS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=st.dictionaries(NAMES, RAW, max_size=100))
def test_any_hyperparameters_arrive(program: str, raw: dict[str, str]) -> None:
    """Whatever the API allows as names and values, the program's arguments are those of the rule."""
    assert expected_argv(raw) == argv_in(program, raw)
