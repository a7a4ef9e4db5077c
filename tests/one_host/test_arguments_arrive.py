"""Whatever hyperparameter the service allows reaches the program as the rule says: through the real processes.

The rule is written down here a second time, from docs/environment.md, and not taken from the package.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from jobs import Job

PYTHON = """
    import os, sys
    with open(os.environ["SM_MODEL_DIR"] + "/args", "wb") as file:
        file.write(b"".join(os.fsencode(arg) + b"\\0" for arg in sys.argv[1:]))
"""
SHELL = """
    #!/bin/sh
    printf '%s\\0' "$@" > "$SM_MODEL_DIR/args"
"""

#: The service's limits (CreateTrainingJob): characters of a name and of a value, and how many there are.
LONGEST_NAME, LONGEST_VALUE, MOST = 256, 2500, 100

# -- the rule ---------------------------------------------------------------------------------------------------------


def expected_arguments(hyperparameters: dict[str, str]) -> list[str]:
    """What a program gets for hyperparameters as the service has them: texts."""
    args = []
    for name, text in sorted(hyperparameters.items()):
        if len(name) > 1:
            name = "--" + name
        elif name:
            name = "-" + name
        args += [as_passed(name), as_passed(expected_argument(text))]
    return args


def expected_argument(text: str) -> str:
    """What a value becomes: decoded, where it is JSON, and made text again as Python does it."""
    if set(text) <= {"[", "]"}:
        return text  # Also where it is nested more deeply than this test's own reader goes.
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if value is None:
        return ""
    if isinstance(value, dict):
        return ",".join("{}={}".format(*item) for item in sorted(value.items()))
    return str(value)


def as_passed(arg: str) -> str:
    """An argument as it is; as its JSON text where no argument can be so."""
    try:
        possible = "\0" not in arg and os.fsdecode(os.fsencode(arg)) == arg
    except UnicodeEncodeError:
        possible = False
    return arg if possible else json.dumps(arg)


# -- what the service allows ------------------------------------------------------------------------------------------

#: Any text that can be sent to the service, as UTF-8: everything but half a surrogate pair.
sendable = st.characters(exclude_categories=["Cs"])
#: What shells, terminals, JSON and option parsers treat in ways of their own.
dangerous = st.sampled_from(
    "\"'`$\\ \t\n\r\0;&|<>()*?[]{}#!~=%-\x7f\x1b\u2028\ufeff\ufffe\u202eéß日\U0001f600\U0010ffff"
)
texts = st.text(dangerous | sendable, max_size=30)
#: JSON has escapes for what cannot be sent, so it can hold any text at all.
any_texts = st.text(dangerous | sendable | st.characters(categories=["Cs"]), max_size=20)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_texts, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def jsons(draw: st.DrawFn) -> str:
    """JSON of a value, in the forms that clients write it in."""
    value = draw(values)
    try:
        text = json.dumps(value, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.just(1)))
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text


def nested(depth: int) -> str:
    """Lists in one another."""
    return "[" * depth + "]" * depth


long_texts = st.builds(lambda text, times: (text * times)[:LONGEST_VALUE], texts, st.integers(2, LONGEST_VALUE))
deep = st.builds(nested, st.integers(1, LONGEST_VALUE // 2))
raw_values = texts | texts | jsons() | jsons() | long_texts | deep
names = st.builds(lambda text, times: (text * times)[:LONGEST_NAME], texts, st.sampled_from([1, 1, 1, 300]))
NOT_FOR_THE_PROGRAM = ("sagemaker_", "_tuning_objective_metric", "default_user_")
users_names = names.filter(lambda name: not name.startswith(NOT_FOR_THE_PROGRAM))
sendable_values = raw_values.filter(lambda text: len(text) <= LONGEST_VALUE)
jobs = st.dictionaries(users_names, sendable_values, min_size=40, max_size=MOST)


# -- how it arrives ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[("train.py", PYTHON), ("train.sh", SHELL)], ids=["python", "shell"])
def reusable_job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that is run again and again, with a program that writes its arguments down."""
    job = Job(tmp_path_factory.mktemp("job") / "ml")
    name, text = request.param
    job.program(text, name)
    return job


def arrived(job: Job, hyperparameters: dict[str, str]) -> list[str]:
    """The arguments that the program was started with."""
    job.config("hyperparameters", {**hyperparameters, "sagemaker_program": job.hyperparameters["sagemaker_program"]})
    done = job.run()
    assert done.returncode == 0, done.stderr
    written = (job.base / "model/args").read_bytes()
    if not hyperparameters and written == b"\0":
        return []  # printf prints its format once even with nothing to print.
    return [os.fsdecode(arg) for arg in written.split(b"\0")[:-1]]


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(hyperparameters=jobs)
@example({})
@example({"": "", "x": "", "-": "-", "--": "--", "-c": "exit 1", "help": "--help"})
@example({"a": "it's", "b": '"', "c": "\\", "d": "$(exit 1)", "e": "`exit 1`", "f": "a\nb", "g": "\n", "h": " "})
@example({"deepest": nested(LONGEST_VALUE // 2), "too-deep": "[" * LONGEST_VALUE})
@example({"deep": '{"":' * 498 + '{"":1}' + "}" * 498})
@example({"nul": "a\0b", "json-nul": '"a\\u0000b"', "n\0l": "1", "half": '"\\ud800"', "bytes": '"\\udcc3\\udca9"'})
@example({f"{n:03d}" + "n" * (LONGEST_NAME - 3): "\U0001f600" * LONGEST_VALUE for n in range(MOST)})
@example({f"{n:03d}": '"' + r"\"" * 1249 + '"' for n in range(MOST)})
def test_every_hyperparameter_arrives(reusable_job: Job, hyperparameters: dict[str, str]) -> None:
    """A Python script's sys.argv and a shell script's "$@" are what the rule makes of any hyperparameters."""
    event(f"{len(hyperparameters) // 10 * 10} hyperparameters or more")

    assert expected_arguments(hyperparameters) == arrived(reusable_job, hyperparameters)


@pytest.mark.parametrize(
    ("text", "arg"),
    [
        ("it's", "it's"),
        ('"it\'s"', "it's"),
        ('{"b": [1, null], "a": "x y"}', "a=x y,b=[1, None]"),
        ("true", "True"),
        ("null", ""),
        ("a\0b", '"a\\u0000b"'),
        ('"\\ud83d"', '"\\ud83d"'),
        ('"\\ud83d\\ude00"', "\U0001f600"),
    ],
)
def test_the_rule_by_example(text: str, arg: str) -> None:
    """The rule as this file has it gives what docs/environment.md shows."""
    assert ["--name", arg] == expected_arguments({"name": text})


def test_a_script_reads_them_with_argparse(job: Job) -> None:
    """A script as people write it, with argparse, gets the values that the caller's Python had."""
    job.hyperparameters.update(
        {"epochs": 3, "learning-rate": 1e-4, "optimizer": "adam w", "b": 64, "note": "it's\n\U0001f600", "none": None}
    )
    job.program("""
        import argparse, json, os
        parser = argparse.ArgumentParser()
        parser.add_argument("--epochs", type=int)
        parser.add_argument("--learning-rate", type=float)
        parser.add_argument("--optimizer")
        parser.add_argument("--note")
        parser.add_argument("--none")
        parser.add_argument("-b", type=int)
        parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
        args = vars(parser.parse_args())
        json.dump(args, open(args["model_dir"] + "/args", "w"))
        """)
    done = job.run()
    got: dict[str, Any] = json.loads((job.base / "model/args").read_text())

    assert done.succeeded, done.stderr
    assert {
        "epochs": 3,
        "learning_rate": 0.0001,
        "optimizer": "adam w",
        "b": 64,
        "note": "it's\n\U0001f600",
        "none": "",
        "model_dir": str(job.base / "model"),
    } == got
