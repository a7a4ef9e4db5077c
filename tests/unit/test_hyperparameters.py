"""How hyperparameters become Python values, arguments and variables: the rules, one by one."""

from __future__ import annotations

import json
import math
import sys

import pytest

from sagemaker_framework.config.hyperparameters import decode, split, to_cmd_args, to_env_vars

#: As deep as 2,500 characters, the service's longest value, can be.
DEEPEST = "[" * 1250 + "]" * 1250


def decoded(text: object) -> object:
    """What one value of hyperparameters.json becomes."""
    return decode({"name": text})["name"]


def argument(value: object) -> str:
    """The argument that follows the name of a hyperparameter."""
    _, arg = to_cmd_args({"name": value})
    return arg


def variable(value: object) -> str:
    """The variable that a value becomes."""
    return to_env_vars({"name": value})["SM_NAME"]


# -- from the service's text to values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-7", -7),
        ("0.001", 0.001),
        ("1e-4", 0.0001),
        ("100000000000000000000", 10**20),
        ("true", True),
        ("false", False),
        ("null", None),
        ('"x y"', "x y"),
        ('""', ""),
        (r'"l\u00e4uft \ud83d\ude00"', "läuft \U0001f600"),
        ('[1, "two", null]', [1, "two", None]),
        ('{"a": {"b": [true]}}', {"a": {"b": [True]}}),
        (" 3 ", 3),
    ],
)
def test_json_is_decoded(text: str, value: object) -> None:
    """A value that is JSON becomes what the JSON says, of the same type."""
    assert (type(value), value) == (type(decoded(text)), decoded(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "plain",
        "x y",
        "s3://bucket/key",
        "True",
        "None",
        "inf",
        "[1, 'two', None]",
        "(1, 2)",
        "{'a': 1}",
        '"open',
        "0x10",
        "1_000",
        "01",
        "1,5",
        "[1, 2",
        "\ufeff1",
        "tab\tand\nnewline",
        "it's",
        "日本",
        "\x00",
    ],
)
def test_what_is_no_json_stays_as_it_is(text: str) -> None:
    """A value that is not JSON stays the text that it is."""
    assert text == decoded(text)


def test_quoted_text_stays_text() -> None:
    """JSON text that looks like a value of another type stays text: the client meant a text."""
    values = decode({"flag": '"true"', "number": '"12"', "list": '"[1]"', "null": '"null"'})

    assert {"flag": "true", "number": "12", "list": "[1]", "null": "null"} == values


def test_account_ids_are_numbers_unless_they_begin_with_zero() -> None:
    """Digits are a number, as for every toolkit before; with a leading zero they are no JSON, and stay text."""
    assert ["012345678901", 112345678901] == [decoded("012345678901"), decoded("112345678901")]


@pytest.mark.parametrize(("text", "value"), [("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf)])
def test_json_as_python_writes_it_is_decoded(text: str, value: float) -> None:
    """`NaN` and `Infinity`, which Python's JSON has, become floats."""
    assert repr(value) == repr(decoded(text))


@pytest.mark.parametrize("value", [3, 0.5, True, None, ["a"], {"a": 1}])
def test_values_that_are_not_text_are_taken_as_they_are(value: object) -> None:
    """A hyperparameters.json with numbers and lists in it, which somebody wrote by hand, is understood."""
    assert value == decoded(value)


def test_the_deepest_value_is_decoded() -> None:
    """1,250 lists in one another, all that 2,500 characters hold, are decoded and not taken for text."""
    value, depth = decoded(DEEPEST), 0
    while value:
        [value], depth = value, depth + 1  # type: ignore[misc, has-type]

    assert 1249 == depth


def test_deeper_values_stay_text() -> None:
    """What is nested too deeply to be read stays the text that it is."""
    text = "[" * 200_000 + "]" * 200_000

    assert text == decoded(text)


def test_numbers_that_python_refuses_stay_text() -> None:
    """A number of more digits than Python cares to read is no reason to fail the job."""
    text = "9" * 5000

    assert text == str(decoded(text))


def test_decoding_leaves_the_recursion_limit_alone() -> None:
    """The limit that deep values need is taken back."""
    before = sys.getrecursionlimit()
    decode({"deep": DEEPEST})
    to_cmd_args(decode({"deep": DEEPEST}))

    assert before == sys.getrecursionlimit()


def test_the_order_of_the_file_is_kept() -> None:
    """Decoding keeps the order of hyperparameters.json."""
    assert ["b", "a", "c"] == list(decode({"b": "1", "a": "2", "c": "3"}))


# -- whom a hyperparameter is for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_container_log_level",
        "sagemaker_job_name",
        "sagemaker_region",
        "sagemaker_s3_output",
        "sagemaker_enable_cloudwatch_metrics",
        "default_user_module_name",
        "_tuning_objective_metric",
    ],
)
def test_the_launchers_own(name: str) -> None:
    """What clients and tuning jobs add for the launcher alone is neither the user's nor the framework's."""
    assert ({}, {}, {name: 1}) == split({name: 1})


@pytest.mark.parametrize("name", ["sagemaker_mpi_enabled", "sagemaker_distribution_instance_groups", "sagemaker_mine"])
def test_the_frameworks(name: str) -> None:
    """Every other `sagemaker_*`, also one that the user made up, is the framework's and no argument."""
    assert ({}, {name: True}, {}) == split({name: True})


@pytest.mark.parametrize("name", ["epochs", "model_dir", "mp_parameters", "sagemaker", "SAGEMAKER_X", "_ps_port", ""])
def test_the_users(name: str) -> None:
    """Everything else is the user's."""
    assert ({name: 1}, {}, {}) == split({name: 1})


# -- arguments ---------------------------------------------------------------------------------------------------


def test_arguments_are_sorted_by_name() -> None:
    """Arguments come in the order of their names, whatever the file's is: capitals first, as Python sorts."""
    assert ["--Zeta", "1", "--alpha", "2", "--beta", "3"] == to_cmd_args({"beta": 3, "alpha": 2, "Zeta": 1})


@pytest.mark.parametrize(
    ("name", "arg"),
    [
        ("epochs", "--epochs"),
        ("dash-name", "--dash-name"),
        ("under_score", "--under_score"),
        ("x", "-x"),
        ("é", "-é"),
        ("日本", "--日本"),
        ("-x", "---x"),
        ("a=b", "--a=b"),
        ("two words", "--two words"),
        ("", ""),
    ],
)
def test_argument_names(name: str, arg: str) -> None:
    """A name gets two dashes; of one letter, one dash; an empty one stays empty.  Nothing in it is changed."""
    assert [arg, "1"] == to_cmd_args({name: 1})


@pytest.mark.parametrize(
    ("value", "arg"),
    [
        ("x y", "x y"),
        ("", ""),
        ("--other", "--other"),
        ('it\'s "quoted" $HOME `id`; rm \\', 'it\'s "quoted" $HOME `id`; rm \\'),
        ("line\nnext\ttab\r", "line\nnext\ttab\r"),
        (3, "3"),
        (True, "True"),
        (False, "False"),
        (None, ""),
        (0.0001, "0.0001"),
        (1e-05, "1e-05"),
        (1e22, "1e+22"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (10**20, "100000000000000000000"),
        (b"caf\xe9", "café"),
    ],
)
def test_argument_values(value: object, arg: str) -> None:
    """A value becomes its text as Python has it: `True`, not `true`; None is an empty argument."""
    assert arg == argument(value)


@pytest.mark.parametrize(
    ("value", "arg"),
    [
        ([1, "a", None, True], "[1, 'a', None, True]"),
        ([], "[]"),
        (["it's"], '["it\'s"]'),
        ([{"b": 1, "a": [1.5]}], "[{'b': 1, 'a': [1.5]}]"),
    ],
)
def test_lists_as_arguments(value: object, arg: str) -> None:
    """A list becomes its Python repr, not JSON."""
    assert arg == argument(value)


@pytest.mark.parametrize(
    ("value", "arg"),
    [
        ({"b": 2, "a": 1}, "a=1,b=2"),
        ({}, ""),
        ({"lr": 0.1, "name": "x y", "on": True, "none": None}, "lr=0.1,name=x y,none=None,on=True"),
        ({"k": {"z": [1, True]}, "a": None}, "a=None,k={'z': [1, True]}"),
        ({"a": "1,b=2"}, "a=1,b=2"),
    ],
)
def test_mappings_as_arguments(value: object, arg: str) -> None:
    """A mapping becomes `k=v,k2=v2`, sorted by key; what is inside of it becomes its Python repr."""
    assert arg == argument(value)


def test_the_deepest_value_as_an_argument() -> None:
    """1,250 lists in one another come out as they came in."""
    assert DEEPEST == argument(decoded(DEEPEST))


def test_deep_mappings_as_an_argument() -> None:
    """As many mappings in one another as 2,500 characters hold come out whole."""
    inner = '{"":' * 498 + '{"":1}' + "}" * 498

    assert "=" + "{'': " * 498 + "1" + "}" * 498 == argument(decoded(inner))


@pytest.mark.parametrize("text", ["a\0b", "\0", "\ud800", "half \udfff pair", "\udcc3\udca9"])
def test_what_the_kernel_cannot_pass_goes_as_json(text: str) -> None:
    """Text with a NUL or half a surrogate pair, which cannot be an argument, is passed as its JSON text."""
    assert json.dumps(text) == argument(text)


def test_a_name_that_the_kernel_cannot_pass_goes_as_json() -> None:
    """The same goes for a name, dashes included."""
    assert ['"--a\\u0000b"', "1"] == to_cmd_args({"a\0b": 1})


def test_a_mapping_that_the_kernel_cannot_pass_goes_as_json() -> None:
    """A NUL inside of a mapping is a NUL in its argument: the whole argument is passed as its JSON text."""
    assert '"a=\\u0000,b=1"' == argument({"a": "\0", "b": 1})


def test_bytes_that_are_no_text_are_passed_as_they_are() -> None:
    """Bytes that Python could not decode, such as in the name of a folder, are passed as those bytes."""
    assert "/data/\udcff" == argument("/data/\udcff")


def test_the_example_of_the_aws_document() -> None:
    """The document's example gives the document's arguments."""
    assert ["--batch-size", "128", "--model_dir", "/opt/ml/model"] == to_cmd_args(
        {"batch-size": 128, "model_dir": "/opt/ml/model"}
    )


# -- variables ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x y", "x y"),
        ("true", "true"),
        ("", ""),
        (None, ""),
        (3, "3"),
        (True, "true"),
        (False, "false"),
        (0.0001, "0.0001"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        ([1, "a", None], '[1,"a",null]'),
        ({"b": 2, "a": {"z": [True]}}, '{"a":{"z":[true]},"b":2}'),
        (["é"], '["\\u00e9"]'),
        ("é", "é"),
        (b"caf\xe9", "café"),
    ],
)
def test_variable_values(value: object, text: str) -> None:
    """Text stays as it is, None is empty, anything else is compact JSON: keys sorted, ASCII only."""
    assert text == variable(value)


def test_variable_names() -> None:
    """A variable is called `SM_` and the name in capitals."""
    assert {"SM_HP_LEARNING_RATE": "0.1"} == to_env_vars({"hp_learning_rate": 0.1})


@pytest.mark.parametrize("name", ["dash-name", "dash.name", "dash name", "dash=name", "dash\0name", "dash\ud800name"])
def test_names_that_a_shell_cannot_read(name: str) -> None:
    """What no shell can read in a name is an underscore in a variable that holds the same value."""
    assert "1" == to_env_vars({name: 1})["SM_DASH_NAME"]


@pytest.mark.parametrize("name", ["dash-name", "dot.name", "two words", "é"])
def test_names_that_a_shell_cannot_read_are_there_unchanged_too(name: str) -> None:
    """Such a variable is there under its own name as well: scripts in Python read that."""
    assert "1" == to_env_vars({name: 1})[f"SM_{name.upper()}"]


@pytest.mark.parametrize("order", [["a-b", "a_b"], ["a_b", "a-b"]])
def test_underscores_override_no_other_name(order: list[str]) -> None:
    """A value whose own name has the underscores keeps that name, whichever comes first."""
    variables = to_env_vars({name: name for name in order})

    assert {"SM_A-B": "a-b", "SM_A_B": "a_b"} == variables


@pytest.mark.parametrize("name", ["a=b", "a\0b", "a\ud800b"])
def test_names_that_no_variable_can_have(name: str) -> None:
    """A name with '=', a NUL or half a surrogate pair exists with underscores only."""
    assert ["SM_A_B"] == list(to_env_vars({name: 1}))


def test_names_that_differ_in_case_alone() -> None:
    """Names that are the same in capitals are one variable, and the last one wins."""
    assert {"SM_HP_LR": "2"} == to_env_vars({"hp_lr": 1, "hp_Lr": 2})


@pytest.mark.parametrize("text", ["a\0b", "half \udfff pair", "\udcc3\udca9"])
def test_values_that_no_variable_can_have(text: str) -> None:
    """Text with a NUL or half a surrogate pair is its JSON text in a variable, as in an argument."""
    assert json.dumps(text) == variable(text)


def test_the_deepest_value_as_a_variable() -> None:
    """1,250 lists in one another come out as they came in, also inside of the variable that holds everything."""
    value = decoded(DEEPEST)
    variables = to_env_vars({"hp_deep": value, "training_env": {"hyperparameters": {"deep": value}}})

    assert DEEPEST == variables["SM_HP_DEEP"]
    assert f'{{"hyperparameters":{{"deep":{DEEPEST}}}}}' == variables["SM_TRAINING_ENV"]


def test_an_argument_and_a_variable_may_differ() -> None:
    """The same value is Python text as an argument and JSON as a variable: scripts count on both."""
    value = {"flag": [False, None]}

    assert ("flag=[False, None]", '{"flag":[false,null]}') == (argument(value), variable(value))
