"""Settings: the environment variables that change the behaviour of this framework."""

from __future__ import annotations

import os

from sagemaker_framework import log
from sagemaker_framework.config.readonly import Record
from sagemaker_framework.errors import ConfigurationError
from sagemaker_framework.redaction import MASK
from sagemaker_framework.timing import DEFAULT_GRACE, DEFAULT_PHASE_TIMEOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagemaker_framework.config.values import N

PREFIX = "SAGEMAKER_FRAMEWORK_"
GRACE_VARIABLE = f"{PREFIX}GRACE_SECONDS"
SWITCH_VARIABLE = f"{PREFIX}CLUSTER"
PORT_VARIABLE = f"{PREFIX}CLUSTER_PORT"
TIMEOUT_VARIABLE = f"{PREFIX}CLUSTER_TIMEOUT_SECONDS"
KEY_VARIABLE = f"{PREFIX}CLUSTER_KEY"
STUDIO_VARIABLE = "SM_STUDIO_LOCAL_MODE"  # SageMaker Studio sets it.

#: The variable of each setting, in the order of `Settings`.
VARIABLES = (GRACE_VARIABLE, SWITCH_VARIABLE, PORT_VARIABLE, TIMEOUT_VARIABLE, KEY_VARIABLE, STUDIO_VARIABLE)

_LONGEST = 1e6  # seconds; poll() and select() cannot wait much longer


class Settings(Record):
    """The settings of the job on this host; docs/environment.md lists the variable of each.

    Attributes:
        grace_seconds: seconds from a request to stop until a program is killed.
        cluster: `on` or `off` if the job says whether its hosts agree; else empty.
        cluster_port: the TCP port at which the leader listens.
        cluster_timeout_seconds: seconds that hosts wait for each other, or for a launcher.
        cluster_key: a secret that all hosts of the job have; empty if there is none.
        is_studio_local_mode: True in SageMaker Studio's local mode, where hosts do not find each other at once.
    """

    grace_seconds: float
    cluster: str
    cluster_port: int
    cluster_timeout_seconds: float
    cluster_key: str
    is_studio_local_mode: bool
    __slots__ = tuple(__annotations__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__slots__}
        if self.cluster_key:
            shown["cluster_key"] = MASK
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def read(environ: Mapping[str, str], problems: list[str]) -> Settings:
    """Read the settings; a broken one keeps its default.

    Args:
        environ: the environment variables to read.
        problems: a line for each broken setting is added here.
    """
    given = _Given(environ, problems)
    return Settings(
        grace_seconds=given.number(GRACE_VARIABLE, DEFAULT_GRACE, 0.0, _LONGEST, "seconds"),
        cluster=given.choice(SWITCH_VARIABLE, "on", "off"),
        cluster_port=given.number(PORT_VARIABLE, 7776, 1, 65535),
        cluster_timeout_seconds=given.number(TIMEOUT_VARIABLE, DEFAULT_PHASE_TIMEOUT, 0.1, _LONGEST, "seconds"),
        cluster_key=environ.get(KEY_VARIABLE, ""),
        is_studio_local_mode=environ.get(STUDIO_VARIABLE, "").lower() == "true",
    )


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings alone, without the rest of the configuration.

    Args:
        environ: the environment variables to read; `os.environ` if None.

    Raises:
        ConfigurationError: a setting is broken; the error names every one that is.
    """
    problems: list[str] = []
    settings = read(os.environ if environ is None else environ, problems)
    if problems:
        raise ConfigurationError(problems)
    return settings


def warn_of_unknown(environ: Mapping[str, str] | None = None) -> None:
    """Log a warning for each variable that looks like a setting but is not one, such as a misspelt one.

    Args:
        environ: the environment variables to look at; `os.environ` if None.
    """
    names = os.environ if environ is None else environ
    for name in sorted(name for name in names if name.upper().startswith(PREFIX) and name not in VARIABLES):
        from difflib import get_close_matches

        known = [each[len(PREFIX) :] for each in VARIABLES if each.startswith(PREFIX)]
        close = get_close_matches(name[len(PREFIX) :].upper(), known, 1)
        meant = f": is {PREFIX}{close[0]} meant?" if close else f", which knows {PREFIX}{', '.join(known)}"
        log.warning(f"{name} is not a setting of sagemaker-framework{meant}")


class _Given:
    """The variables that are set, and a list for what is wrong with them."""

    def __init__(self, environ: Mapping[str, str], problems: list[str]) -> None:
        self._environ = environ
        self._problems = problems

    def number(self, name: str, default: N, least: N, most: N, unit: str = "") -> N:
        """Read a number; return `default` if it is not set, or broken."""
        text = self._environ.get(name)
        if not text:
            return default
        from sagemaker_framework.config.values import number

        try:
            return number(name, text, least, most, unit=unit)
        except ConfigurationError as error:
            self._problems += error.problems
            return default

    def choice(self, name: str, *options: str) -> str:
        """Read one of several words; return an empty string if it is not set, or another word."""
        word = self._environ.get(name, "").strip().lower()
        if word in ("", *options):
            return word
        self._problems.append(f"{name} is {word!r}, neither {' nor '.join(options)}")
        return ""
