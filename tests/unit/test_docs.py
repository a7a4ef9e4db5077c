"""What the documents say is so."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jobs import Job

import sagemaker_framework
from sagemaker_framework import TrainingEnv
from sagemaker_framework.config import settings

ROOT = Path(sagemaker_framework.__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs the checkout")


def python_blocks(file: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)


def test_the_documented_variables_are_those_that_a_program_gets(job: Job) -> None:
    """docs/environment.md lists each variable that a program gets, and none that it does not."""
    job.program("import json, os, sys; json.dump(dict(os.environ), sys.stdout)")
    job.hyperparameters["lr"] = 1
    before = set(job.environ())
    got = set(re.findall(r'"(\w+)": ', job.run().stdout)) - before | {"PYTHONPATH", "PYTHONUNBUFFERED"}
    table = (ROOT / "docs/environment.md").read_text().split("## Variables\n")[1].split("## ")[0]
    documented = set(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)) - {"variable", "---"}
    names = {name.replace("<NAME>", "") for cell in documented for name in re.findall(r"`([A-Z_<>]+)`", cell)}
    in_a_job_like_this = names - {"SM_TOPOLOGY", "SM_ENV_FILE"}
    sets = {"SM_HP_", "SM_CHANNEL_", "SAGEMAKER_CHANNEL_"}

    assert in_a_job_like_this - sets == {name for name in got if not name.startswith(tuple(sets))} - {"LC_CTYPE"}


def test_the_documented_settings_are_those_that_there_are() -> None:
    """docs/environment.md lists each setting, with its default and the values that it can have."""
    table = (ROOT / "docs/environment.md").read_text().split("## Settings\n")[1].split("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?)\|", table, re.MULTILINE)
    defaults = settings.load({})

    assert [*settings.VARIABLES] == [name for name, _, _ in rows]
    for attribute, (name, values, default) in zip(settings.Settings.__slots__, rows):
        problems: list[str] = []
        settings.read({name: "-1"}, problems)
        assert (default.strip() or "0") == f"{getattr(defaults, attribute) or 0:g}"
        assert not problems or problems[0].endswith((values, f"neither {values.replace('`', '').replace(',', ' nor')}"))


def test_the_readmes_trainer_works(job: Job, tmp_path: Path) -> None:
    """The README's subclass fails a job with its own words where the channel is missing, and runs others."""
    (block,) = [block for block in python_blocks("README.md") if "class MyTrainer" in block]
    (tmp_path / "my_container.py").write_text(block)
    job.env.update(PYTHONPATH=str(tmp_path), SAGEMAKER_TRAINING_MODULE="my_container:MyTrainer")
    job.program("import os; print(os.environ['OMP_NUM_THREADS'] == os.environ['SM_NUM_CPUS'])")

    assert "True\n" == job.run().stdout
    job.config("inputdataconfig", {})
    assert "this image needs a channel called 'training'" == job.run().cause


def test_the_readmes_script_works(job: Job) -> None:
    """The README's script finds its arguments and folders."""
    (block,) = [block for block in python_blocks("README.md") if "argparse" in block]
    job.program(block + "print(args.epochs, data, model)")
    job.hyperparameters["epochs"] = 3

    assert f"3 {job.base}/input/data/training {job.base}/model\n" == job.run().stdout


def test_the_example_of_a_changed_environment_works(job: Job, tmp_path: Path) -> None:
    """The Trainer of docs/environment.md gives its program a hyperparameter that the job has not."""
    (block,) = python_blocks("docs/environment.md")
    (tmp_path / "my_container.py").write_text(block)
    job.env.update(PYTHONPATH=str(tmp_path), SAGEMAKER_TRAINING_MODULE="my_container:MyTrainer")
    job.program("import sys; print(sys.argv[1:])")

    assert "['--seed', '1']\n" == job.run().stdout


def test_a_job_by_hand_runs(tmp_path: Path) -> None:
    """The lines of docs/environment.md run a job as they stand, and its program gets the hyperparameter."""
    (lines,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/environment.md").read_text(), re.DOTALL)
    (tmp_path / "train").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sagemaker_framework train\n')
    (tmp_path / "train").chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    said = subprocess.run(["sh", "-ec", lines], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)

    assert "['train.py', '--epochs', '3']\n" == said.stdout
    assert (tmp_path / "ml/output/success").exists()


@pytest.mark.parametrize("at", range(len(python_blocks("docs/hooks.md")) if (ROOT / "docs/hooks.md").exists() else 0))
def test_the_examples_of_hooks_work(job: Job, tmp_path: Path, at: int) -> None:
    """Each example of docs/hooks.md runs a job as it stands."""
    names = "PythonEntryPoint, SingleProcessStrategy, Trainer"
    block = python_blocks("docs/hooks.md")[at].replace('["redis-server", "--port", "6379"]', '["sleep", "60"]')
    (tmp_path / "my_container.py").write_text(f"from sagemaker_framework import {names}\n{block}")
    job.hyperparameters["sagemaker_parameter_server_enabled"] = "ParameterServer" in block
    attribute = "MyTrainer" if "class MyTrainer" in block else "train"
    job.env.update(PYTHONPATH=str(tmp_path), SAGEMAKER_TRAINING_MODULE=f"my_container:{attribute}")
    job.program("print('ran')")

    ended = job.run()

    assert ended.succeeded
    assert "ran" in ended.stdout.splitlines()  # Servers of the examples may say something too.


#: Members that are public for other modules of the package, and not for authors.
NOT_FOR_AUTHORS = {
    "FrameworkError": {"at", "process"},
    "Process": {"ask", "asked_by", "end", "ended_too_early", "failed_at", "relay"},
    "Ranks": {"address", "await_first", "close", "on_idle", "serve", "settle", "signal"},
    "TrainingEnv": set(TrainingEnv.__slots__),  # docs/environment.md is about them.
}
CLASSES = [cls for name in sagemaker_framework.__all__ if isinstance(cls := getattr(sagemaker_framework, name), type)]


def declaration(name: str, function: Callable[..., object]) -> str:
    """Write a function as the documents do: `name(argument: type) -> type`."""
    return f"{name}{inspect.signature(function)}".replace("'", "").replace("(self, ", "(").replace("(self)", "()")


def members(cls: type) -> dict[str, str]:
    """List the public members that a class adds to its base, with their types."""
    given = {name: each.annotation for name, each in inspect.signature(cls.__init__).parameters.items()}
    listed = (inspect.getdoc(cls) or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
    attributes = {name: given.get(name) for name in re.findall(r"^    (\w+): ", listed, re.MULTILINE)}
    attributes.update(vars(cls).get("__annotations__", {}))
    found = {name: f"{name}: {kind}" for name, kind in attributes.items() if not name.startswith("_")}
    for name, value in vars(cls).items():
        if name == "__call__":
            found[name] = declaration(cls.__name__.lower(), value)
        elif isinstance(value, property):
            found[name] = f"{name}: {value.fget.__annotations__['return']}"
        elif inspect.isfunction(value):
            found[name] = declaration(name, value)
    inherited = {name for name in dir(cls.__base__) if not getattr(vars(cls).get(name), "__isabstractmethod__", False)}
    not_ours = NOT_FOR_AUTHORS.get(cls.__name__, set())
    return {
        name: text
        for name, text in found.items()
        if name == "__call__" or not (name.startswith("_") or name in inherited or name in not_ours)
    }


def documented(heading: str) -> list[str]:
    """List what stands first in the rows of the tables below a heading of docs/hooks.md."""
    text = f"{(ROOT / 'docs/hooks.md').read_text()}\n## "
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)
    return [cell.strip("`").replace("\\|", "|") for cell in cells]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_hook_is_in_the_catalogue(cls: type) -> None:
    """docs/hooks.md has each public member of a class, with arguments and types; its docstring names each method."""
    own = members(cls)
    methods = [name for name, text in own.items() if "(" in text and name != "__call__"]

    assert [] == [text for text in own.values() if text not in documented(cls.__name__)]
    assert [] == [name for name in methods if f"`{name}(" not in (cls.__doc__ or "")]


@pytest.mark.parametrize("cls", CLASSES)
def test_the_catalogue_has_only_what_there_is(cls: type) -> None:
    """Each row of docs/hooks.md is a member of the class, or of its bases, with these arguments and types."""
    there = {text for each in cls.__mro__ for text in members(each).values()}

    assert [] == [text for text in documented(cls.__name__) if text not in there]


def test_the_catalogue_has_the_functions() -> None:
    """Each function among the public names, and of the public modules, is in docs/hooks.md as it is called."""
    rows = documented("Functions")
    for row in rows:
        function: Any = sagemaker_framework
        for name in row.partition("(")[0].split("."):
            function = getattr(function, name)
        assert declaration(row.partition("(")[0], function) == row

    functions = [name for name in sagemaker_framework.__all__ if inspect.isfunction(getattr(sagemaker_framework, name))]
    assert set(functions) <= {row.partition("(")[0] for row in rows}


@pytest.mark.parametrize("file", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(file: str) -> None:
    """Every relative link of a document leads to a file that is there."""
    links = re.findall(r"\]\((?!https:)([^)#]+)", (ROOT / file).read_text())

    assert [] == [link for link in links if not ((ROOT / file).parent / link).exists()]
