"""The shape of the package: which module may import which, and what importing it does."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import Job

import sagemaker_framework

PACKAGE = Path(sagemaker_framework.__file__).parent

#: From the top down: a module imports only from the lines below its own.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["cli.framework_command"],
    ["cli.train_command"],
    ["cli.arguments"],
    ["beta"],
    ["beta.framework"],
    ["local.backends.namespace.hosts"],
    ["local.backends.namespace.init"],
    ["local", "local.backends", "local.backends.namespace"],
    ["trainer"],
    ["workflow.train"],
    ["workflow.loading", "workflow.run"],
    ["workflow.meeting"],
    ["workflow.calls", "workflow.report"],
    ["workflow"],
    ["strategies"],
    ["strategies.model_parallel"],
    ["strategies.smddp"],
    [
        "strategies.mpi",
        "strategies.multi_worker",
        "strategies.parameter_server",
        "strategies.single_process",
        "strategies.torchrun",
        "strategies.xla",
    ],
    ["strategies.launcher", "strategies._ssh"],
    ["strategies.base", "strategies._network"],
    ["entry_point"],
    ["code.source", "code.requirements"],
    ["code.s3", "code.archive"],
    ["code.folder"],
    ["code"],
    ["cluster"],
    ["cluster.leader", "cluster.follower"],
    ["cluster.thread"],
    ["cluster.protocol", "cluster.admission"],
    ["cluster.messages"],
    ["cluster.events", "cluster.phases"],
    ["cluster.session", "cluster.wire", "cluster.names"],
    ["processes.supervisor", "processes.rank_server"],
    ["processes.process", "processes.rank_wrapper"],
    ["processes.limits", "processes.orphans", "processes.relay", "processes.signals"],
    ["processes"],
    ["config.files"],
    ["config.environment"],
    ["config.resources", "config.settings", "config.variables"],
    [
        "config.hardware",
        "config.hyperparameters",
        "config.json_file",
        "config.paths",
        "config.readonly",
        "config.values",
    ],
    ["config"],
    ["failures"],
    ["timing"],
    ["excerpts", "log", "wakeup"],
    ["redaction"],
    ["errors"],
    ["__init__"],
]


def modules() -> Iterator[tuple[str, Path]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        dotted = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        yield dotted[: -len(".__init__")] if dotted.endswith(".__init__") else dotted, file


def imported(file: Path) -> Iterator[str]:
    """The modules of the package that one file imports when it runs; not those for type checkers only."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sagemaker_framework"):
            inside = (node.module or "")[len("sagemaker_framework.") :]
            for name in (f"{inside}.{alias.name}".strip(".") for alias in node.names):
                there = PACKAGE / name.replace(".", "/")
                yield name if there.is_dir() or there.with_suffix(".py").exists() else inside
        elif isinstance(node, ast.Import):
            yield from [alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("sagemaker_fr")]


def test_imports_point_downwards() -> None:
    """No module imports one of its own layer or above, not even within a function."""
    layer = {name: at for at, names in enumerate(LAYERS) for name in names}
    upwards = [
        f"{module} imports {other}"
        for module, file in modules()
        for other in imported(file)
        if layer[other] <= layer[module]
    ]

    assert [] == upwards


def test_every_module_has_a_layer() -> None:
    """The list of layers is whole, and names nothing that is gone."""
    assert sorted(name for names in LAYERS for name in names) == sorted(name for name, _ in modules())


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_the_package_imports_nothing_else() -> None:
    """`import sagemaker_framework` loads that one module, and no other."""
    new = python(
        "import sys, importlib; before = set(sys.modules); import sagemaker_framework;"
        "print(sorted(set(sys.modules) - before))"
    )

    assert "['sagemaker_framework']\n" == new


def test_public_names_load_when_used() -> None:
    """Every public name is there, and `dir` tells of it; any other is an AttributeError."""
    for name in sagemaker_framework.__all__:
        assert getattr(sagemaker_framework, name) is not None
        assert name in dir(sagemaker_framework)
    with pytest.raises(AttributeError, match="Trayner"):
        sagemaker_framework.Trayner  # noqa: B018


def test_a_plain_job_loads_no_library(job: Job) -> None:
    """Before the program starts `train` loads no attrs, boto3, psutil, GPUtil, logging, subprocess or framework."""
    job.program("print('ran')")
    code = (
        "import sys, json; from sagemaker_framework import trainer; code = trainer.train();"
        f"open({str(job.base / 'modules')!r}, 'w').write(json.dumps(sorted(sys.modules)))"
    )
    ended = job.run([sys.executable, "-S", "-c", f"import sys; sys.path[:0] = [{str(PACKAGE.parent)!r}]; {code}"])
    loaded = {name.partition(".")[0] for name in json.loads((job.base / "modules").read_text())}

    assert ended.succeeded
    assert not loaded & {
        "attr",
        "attrs",
        "boto3",
        "botocore",
        "psutil",
        "GPUtil",
        "logging",
        "subprocess",
        "typing",
        "inspect",
    }
    assert not loaded & {
        "numpy",
        "tensorflow",
        "torch",
        "mxnet",
        "multiprocessing",
        "asyncio",
        "threading",
        "socket",
        "ssl",
    }


def test_a_plain_job_starts_one_process(job: Job) -> None:
    """The program is the first process that `train` starts, and the only one."""
    job.program("print('ran')")
    code = (
        "import sys; seen = [];"
        "starts = 'os.fork os.forkpty os.posix_spawn os.spawn os.system os.exec subprocess.Popen'.split();"
        "sys.addaudithook(lambda event, args: seen.append(event) if event in starts else None);"
        "from sagemaker_framework import trainer; trainer.train(); print(seen)"
    )

    assert "ran\n['os.posix_spawn']\n" == job.run([sys.executable, "-c", code]).stdout


def docstrings() -> Iterator[tuple[str, ast.AST, str]]:
    """Yield where each docstring of the package is, what it describes, and its first word."""
    for module, file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                yield f"{module}.{getattr(node, 'name', '')}", node, text.split()[0].strip(".,:;`")


def is_property(node: ast.AST) -> bool:
    decorators = [ast.unparse(each) for each in getattr(node, "decorator_list", [])]
    return any(each.endswith(("property", ".setter")) for each in decorators)


def test_no_docstring_begins_with_a_question() -> None:
    """No docstring begins with What, How, Where, Whether or Who: such a sentence has to be read twice."""
    questions = {"What", "How", "Where", "Whether", "Who"}

    assert [] == [place for place, _, word in docstrings() if word in questions]


def test_a_functions_docstring_begins_with_a_verb() -> None:
    """The docstring of a function says what it does; only a property's may name a thing."""
    names_a_thing = {"A", "An", "The", "This", "That", "Those", "All", "Any", "Its", "As", "Such", "When", "With", "In"}
    functions = [each for each in docstrings() if isinstance(each[1], ast.FunctionDef) and not is_property(each[1])]

    assert [] == [place for place, _, word in functions if word in names_a_thing]
