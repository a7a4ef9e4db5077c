"""What the project's own files say of each other: the wheel, CI's steps, the version, the tools."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

import sagemaker_framework

PACKAGE = Path(sagemaker_framework.__file__).parent
ROOT = PACKAGE.parent
pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").exists(), reason="needs the checkout")


def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    return config


# -- the wheel -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel, built in a copy: a `build` folder may hold modules of the past.  By uv, which is faster than pip."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("sagemaker_framework", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    uv = [sys.executable, "-m", "uv", "build", "-q", "--wheel", f"--python={sys.executable}"]
    subprocess.run([*uv, f"--out-dir={made}", str(source)], check=True)
    (file,) = made.glob("*.whl")
    return ZipFile(file)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: ZipFile) -> None:
    """Every module, py.typed, the license and the metadata: no test, no example, no file of a tool."""
    modules = {file.relative_to(ROOT).as_posix() for file in PACKAGE.rglob("*.py")}
    metadata = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    folder = f"sagemaker_framework-{setup_cfg()['metadata']['version']}.dist-info"

    held = {re.sub(rf"^{re.escape(folder)}/LICENSE$", f"{folder}/licenses/LICENSE", name) for name in wheel.namelist()}
    assert {*modules, "sagemaker_framework/py.typed", *(f"{folder}/{name}" for name in metadata)} == held


def test_the_wheel_is_for_every_python_and_machine(wheel: ZipFile) -> None:
    """Nothing in it is compiled."""
    assert str(wheel.filename).endswith("-py3-none-any.whl")


# -- CI ------------------------------------------------------------------------------------------------------------


def targets(command: str) -> Iterator[str]:
    """List the targets that a `make` command makes; settings such as NAME=value are none."""
    for part in re.split(r"\|\||&&|;", command):
        words = shlex.split(part)
        if words[:1] == ["make"]:
            yield from [word for word in words[1:] if "=" not in word]


def ci_targets() -> list[str]:
    """List what .ci/run makes, in its order."""
    steps = re.findall(r"^step (make .*)$", (ROOT / ".ci/run").read_text().replace("|| step", "||"), re.MULTILINE)
    return list(dict.fromkeys(target for step in steps for target in targets(step)))


def workflow_commands() -> list[str]:
    """List the commands of the workflow for GitHub."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def test_the_workflow_makes_what_ci_makes() -> None:
    """GitHub's workflow and .ci/run have the same targets."""
    made = {target for command in workflow_commands() for target in targets(command)}

    assert set(ci_targets()) == made


def test_the_workflow_only_calls_make() -> None:
    """What a step of CI does is in the Makefile, where everyone can run it."""
    assert [] == [command for command in workflow_commands() if not re.fullmatch(r"make [^;&|\n]*", command.strip())]


def test_every_target_of_ci_is_there() -> None:
    """The Makefile has each target that CI makes."""
    known = set(re.findall(r"^([\w-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set() == set(ci_targets()) - {name for names in known for name in names.split()}


def test_hooks_of_pre_commit_are_local() -> None:
    """A commit fetches nothing: each hook is a target that CI makes too."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]

    assert {"local"} == {repository["repo"] for repository in config["repos"]}
    assert set() == {target for hook in hooks for target in targets(hook["entry"])} - set(ci_targets())


# -- versions ------------------------------------------------------------------------------------------------------


def test_the_changelog_begins_with_this_version() -> None:
    """CHANGELOG.md has what the version in setup.cfg brings, above those before it."""
    first = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]

    assert setup_cfg()["metadata"]["version"] == first


def test_lint_tools_are_pinned() -> None:
    """Each has one version, so that what passes today passes tomorrow."""
    pinned = setup_cfg()["options.extras_require"]["lint"].split()

    assert [] == [tool for tool in pinned if not re.fullmatch(r"[\w-]+==[\d.]+", tool)]


def test_every_test_has_a_time_limit(pytestconfig: pytest.Config) -> None:
    """pytest-timeout is there, and knows how long a test may take."""
    assert version("pytest-timeout")
    assert 0 < float(pytestconfig.getini("timeout")) <= 300


# -- documents -----------------------------------------------------------------------------------------------------

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])


def anchors(document: Path) -> set[str]:
    """List the fragments by which GitHub links to the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [pytest.param(each, id=str(each.relative_to(ROOT))) for each in DOCUMENTS])
def test_links_of_documents_lead_somewhere(document: Path) -> None:
    """Every relative link leads to a file, and to a heading that it has."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", document.read_text())
    files = [(document.parent / name if name else document, fragment) for name, fragment in links]

    assert [] == [str(file) for file, _ in files if not file.exists()]
    assert [] == [(file.name, fragment) for file, fragment in files if fragment and fragment not in anchors(file)]


def test_the_index_names_every_document() -> None:
    """docs/index.md has all of docs/."""
    index = (ROOT / "docs/index.md").read_text()

    assert [] == [
        file.name for file in ROOT.glob("docs/*.md") if f"]({file.name}" not in index and file.stem != "index"
    ]


def test_the_design_names_every_package() -> None:
    """docs/design.md has a sign for each package below sagemaker_framework."""
    design = (ROOT / "docs/design.md").read_text().split("## Packages\n")[1].split("\n## ")[0]

    assert [] == [
        each.parent.name for each in PACKAGE.glob("*/__init__.py") if f"| `{each.parent.name}` |" not in design
    ]


def test_no_document_asks_an_index_for_the_package() -> None:
    """Nothing is released: documents and Dockerfiles install a wheel that `make wheel` has built."""
    files = [*DOCUMENTS, *ROOT.glob("examples/*/Dockerfile")]
    asking = re.compile(r"pip3? install [^\n]*sagemaker-framework")

    assert [] == [str(file) for file in files if asking.search(file.read_text())]
