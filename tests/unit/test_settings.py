"""Settings: how this framework is to behave, as variables of the container say."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from sagemaker_framework.config import settings
from sagemaker_framework.config.settings import Settings
from sagemaker_framework.errors import ConfigurationError

BROKEN = {
    "SAGEMAKER_FRAMEWORK_GRACE_SECONDS": "soon",
    "SAGEMAKER_FRAMEWORK_CLUSTER": "perhaps",
    "SAGEMAKER_FRAMEWORK_CLUSTER_PORT": "65536",
    "SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS": "0",
}


def test_the_defaults() -> None:
    """Nothing has to be set; an empty variable is one that is not set."""
    expected = Settings(
        grace_seconds=100.0,
        cluster="",
        cluster_port=7776,
        cluster_timeout_seconds=900.0,
        cluster_key="",
        is_studio_local_mode=False,
    )

    assert expected == settings.load({})
    assert expected == settings.load(dict.fromkeys(BROKEN, ""))


def test_each_has_its_variable() -> None:
    """Each setting is what its variable says, of its own type."""
    given = settings.load(
        {
            "SAGEMAKER_FRAMEWORK_GRACE_SECONDS": "0.5",
            "SAGEMAKER_FRAMEWORK_CLUSTER": " On ",
            "SAGEMAKER_FRAMEWORK_CLUSTER_PORT": "7000",
            "SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS": "60",
            "SAGEMAKER_FRAMEWORK_CLUSTER_KEY": "s3cret",
            "SM_STUDIO_LOCAL_MODE": "True",
        }
    )

    assert [0.5, "on", 7000, 60.0, "s3cret", True] == [getattr(given, name) for name in Settings.__slots__]
    assert Settings.__annotations__ == {name: type(getattr(given, name)).__name__ for name in Settings.__slots__}


def test_all_that_are_broken_are_told_at_once() -> None:
    """Each problem names its variable, its value, and what it can be."""
    with pytest.raises(ConfigurationError) as raised:
        settings.load(BROKEN)

    assert [
        "SAGEMAKER_FRAMEWORK_GRACE_SECONDS is 'soon', not a number of seconds from 0 to 1000000",
        "SAGEMAKER_FRAMEWORK_CLUSTER is 'perhaps', neither on nor off",
        "SAGEMAKER_FRAMEWORK_CLUSTER_PORT is '65536', not a number from 1 to 65535",
        "SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS is '0', not a number of seconds from 0.1 to 1000000",
    ] == raised.value.problems


def test_one_that_is_broken_has_its_default() -> None:
    """Settings that cannot be read are as if they were not set, so that the others can be used to tell of it."""
    problems: list[str] = []

    assert settings.load({"SM_STUDIO_LOCAL_MODE": "true"}) == settings.read(
        {**BROKEN, "SM_STUDIO_LOCAL_MODE": "true"}, problems
    )
    assert len(BROKEN) == len(problems)


def test_they_cannot_be_changed() -> None:
    """A setting can be neither set nor deleted; `evolve` makes a changed copy."""
    given = settings.load({})

    with pytest.raises(AttributeError, match="Settings is read-only"):
        given.cluster_port = 1  # type: ignore[misc]
    with pytest.raises(AttributeError, match="Settings is read-only"):
        del given.cluster_port
    assert 1 == given.evolve(cluster_port=1).cluster_port
    assert given != given.evolve(cluster_port=1)


def test_copies() -> None:
    """Settings can be copied and pickled."""
    given = settings.load({"SAGEMAKER_FRAMEWORK_CLUSTER_KEY": "s3cret"})

    assert given == copy.deepcopy(given) == pickle.loads(pickle.dumps(given))


def test_their_repr_masks_the_key() -> None:
    """The key is in no repr; the others are."""
    shown = repr(settings.load({"SAGEMAKER_FRAMEWORK_CLUSTER_KEY": "s3cret"}))

    assert "cluster_port=7776" in shown
    assert "cluster_key='******'" in shown
    assert "s3cret" not in shown


def test_each_is_documented() -> None:
    """The docstring of the class describes each setting, in the order of their definition, and no other."""
    documented = re.findall(r"^    (\w+): ", inspect.getdoc(Settings) or "", re.MULTILINE)

    assert [*Settings.__annotations__] == documented


def warnings(capfd: pytest.CaptureFixture[str], *names: str) -> list[str]:
    settings.warn_of_unknown(dict.fromkeys(names, "1"))
    return [line.partition("WARNING  ")[2] for line in capfd.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CLUSTER_PROT", "CLUSTER_PORT"),
        ("GRACE_SECOND", "GRACE_SECONDS"),
        ("CLUSTER_TIMEOUT", "CLUSTER_TIMEOUT_SECONDS"),
        ("CLUSTER_key", "CLUSTER_KEY"),
    ],
)
def test_a_misspelt_setting(capfd: pytest.CaptureFixture[str], name: str, meant: str) -> None:
    """A variable that looks like a setting and is none is told, with the closest one there is."""
    assert [
        f"SAGEMAKER_FRAMEWORK_{name} is not a setting of sagemaker-framework: is SAGEMAKER_FRAMEWORK_{meant} meant?"
    ] == warnings(capfd, f"SAGEMAKER_FRAMEWORK_{name}")


def test_a_made_up_setting(capfd: pytest.CaptureFixture[str]) -> None:
    """Where none is close, all are told."""
    (warning,) = warnings(capfd, "SAGEMAKER_FRAMEWORK_FOO")

    assert warning.startswith("SAGEMAKER_FRAMEWORK_FOO is not a setting of sagemaker-framework, which knows SAGEMAKER_")
    assert all(name[len("SAGEMAKER_FRAMEWORK_") :] in warning for name in BROKEN)


def test_what_is_known_is_not_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Settings, and variables of others, are no reason to warn."""
    names = [*BROKEN, "SAGEMAKER_FRAMEWORK_CLUSTER_KEY", "SAGEMAKER_PROGRAM", "SM_FRAMEWORK_PARAMS", "FRAMEWORK"]

    assert [] == warnings(capfd, *names)
