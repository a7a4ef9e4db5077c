"""What the user's code requires is installed by real installers, from indexes on this machine."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pip
import pytest

from sagemaker_framework.code import requirements
from sagemaker_framework.errors import InstallError, JobStopped
from sagemaker_framework.processes.signals import listening
from sagemaker_framework.processes.supervisor import ProcessResult, Supervisor

UV = shutil.which("uv", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
TOKEN = "eyJ2ZXIiOjEsImlzdSI6MTcw.A-token_0f.CodeArtifact"
ARN = "arn:aws:codeartifact:eu-west-1:123456789012:repository/my-domain/my-repository"

#: For what must fail, or end, before anything is started.
NO_PYTHON = "/nonexistent/python"

#: Builds a project with nothing but Python's own library, so that no test asks an index for setuptools.
BACKEND = """
import zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{wheel_directory}/my_project-1.0-py3-none-any.whl", "w") as wheel:
        info = "my_project-1.0.dist-info"
        wheel.writestr("my_project.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: my-project\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return "my_project-1.0-py3-none-any.whl"
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def write_wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """Put the smallest wheel that can be installed into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {requires}\n" if requires else ""))
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class Index(http.server.ThreadingHTTPServer):
    """A package index (PEP 503) of a folder of wheels, and the two calls of CodeArtifact that lead to it."""

    def __init__(self, folder: Path, password: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _IndexRequest)
        self.folder = folder
        self.password = password
        self.denied = ""
        self.asked: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _IndexRequest(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        name = url.path.rstrip("/").rpartition("/")[2]
        credentials = base64.b64encode(f"aws:{self.server.password}".encode()).decode()
        if url.path.startswith("/v1/"):
            self._codeartifact(name)
        elif self.server.password and self.headers.get("Authorization") != f"Basic {credentials}":
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="index"'})
        elif (self.server.folder / name).is_file():
            self._answer(200, (self.server.folder / name).read_bytes(), {"Content-Type": "application/octet-stream"})
        else:
            wheels = [wheel.name for wheel in self.server.folder.glob(f"{name}-*.whl")]
            page = "".join(f'<a href="/files/{wheel}">{wheel}</a>' for wheel in wheels)
            self._answer(200 if wheels else 404, page.encode(), {"Content-Type": "text/html"})

    do_POST = do_HEAD = do_GET

    def _codeartifact(self, call: str) -> None:
        if self.server.denied:
            denied = json.dumps({"message": self.server.denied}).encode()
            self._answer(403, denied, {"x-amzn-errortype": "AccessDeniedException"})
        elif call == "authorization-token":
            self._answer(200, json.dumps({"authorizationToken": TOKEN, "expiration": 1893456000}).encode(), {})
        else:
            endpoint = f"http://{self.server.host}/pypi/my-repository/"
            self._answer(200, json.dumps({"repositoryEndpoint": endpoint}).encode(), {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Index]]:
    """Starts indexes, and stops them after the test."""
    servers = []

    def start(*args: Any) -> Index:
        server = Index(*args)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Recorder:
    """Runs installers under the real supervisor, and remembers how it was asked to."""

    def __init__(self) -> None:
        self.argvs: list[list[str]] = []
        self.env: dict[str, str] = {}

    def __call__(self, name: str, argv: list[str], *, cwd: str, env: dict[str, str]) -> ProcessResult:
        self.argvs.append(argv)
        self.env = env
        with listening() as signals, Supervisor(signals, grace=5) as supervisor:
            return supervisor.run(name, argv, cwd=cwd, env=env)


@pytest.fixture
def run() -> Recorder:
    return Recorder()


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two interpreters of their own, one without pip, in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("the interpreters")
    for name in ("python", "bare"):
        venv.create(folder / name)
    (site_packages,) = folder.glob("python/lib/python*/site-packages")
    # A copy of the pip that is here, since a venv takes seconds to install its own.
    for path in Path(pip.__file__).parents[1].glob("pip*"):
        shutil.copytree(path, site_packages / path.name)
    return folder


@pytest.fixture
def interpreter(venvs: Path) -> Iterator[str]:
    """The path of a Python that has none of the packages that tests install."""
    yield str(venvs / "python/bin/python")
    for path in venvs.glob("python/lib/python*/site-packages/*"):
        if path.name.startswith(("my_project", "tiny", "wants")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def code_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A code folder; no index is configured, but a folder of wheels, tiny 1.0 and 2.0 among them."""
    for name in [*os.environ]:
        if name.startswith(("PIP_", "UV_", "AWS_", "CA_")):
            monkeypatch.delenv(name)
    without_uv = [folder for folder in os.environ["PATH"].split(os.pathsep) if not shutil.which("uv", path=folder)]
    monkeypatch.setenv("PATH", os.pathsep.join(without_uv))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_COMPILE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    write_wheel(tmp_path / "wheels", "tiny", "1.0")
    write_wheel(tmp_path / "wheels", "tiny", "2.0")
    write_wheel(tmp_path / "wheels", "wants", "1.0", requires="tiny<2")
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


@pytest.fixture(params=["pip", "uv"])
def installer(request: pytest.FixtureRequest, code_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The installer that the image has; the test runs once with each."""
    if request.param == "uv":
        if not UV:
            pytest.skip("uv is not on PATH")
        monkeypatch.setenv("PATH", os.pathsep.join([os.path.dirname(UV), os.environ["PATH"]]))
    return str(request.param)


@pytest.fixture
def index(serve: Callable[..., Index], tmp_path: Path, code_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """An index that wants a password; nothing leads to it yet, nor anywhere else."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    return serve(tmp_path / "wheels", TOKEN)


def version(interpreter: str, name: str) -> str:
    """The version of a package that `interpreter` has; empty where it has none."""
    folders = [str(folder) for folder in Path(interpreter).parents[1].glob("lib/python*/site-packages")]
    return " ".join(each.version for each in distributions(name=name, path=folders))


def write_project(folder: Path, backend: str = BACKEND) -> None:
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "backend.py").write_text(backend)


def write_program(file: Path, stderr: str, then: str) -> None:
    """A program that writes a text to stderr, whatever it is asked to do."""
    file.with_suffix(".txt").write_text(stderr, "utf-8")
    file.write_text(f"#!/bin/sh\ncat '{file.with_suffix('.txt')}' >&2\n{then}\n")
    file.chmod(0o755)


# -- what is installed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("setup.py", "", True),
        ("pyproject.toml", "[project]\nname = 'x'", True),
        ("pyproject.toml", "[tool.ruff]\n[ build-system ] # how to build\nrequires = []", True),
        ("pyproject.toml", "[project.urls]\nhome = 'x'", True),
        ("pyproject.toml", "[tool.ruff]\nline-length = 120\n# [project]\n[tool.project]", False),
        ("setup.cfg", "[flake8]", False),
        ("train.py", "", False),
    ],
)
def test_what_a_project_is(tmp_path: Path, name: str, content: str, expected: bool) -> None:
    """A folder is a project if it says how to build it, not if its files only configure tools."""
    (tmp_path / name).write_text(content)

    assert expected is requirements.is_project(str(tmp_path))


def test_nothing_to_install(code_dir: Path, run: Recorder) -> None:
    """Code that asks for nothing costs no process."""
    (code_dir / "pyproject.toml").write_text("[tool.ruff]\n")
    requirements.install(str(code_dir), NO_PYTHON, run)

    assert [] == run.argvs


def test_requirements(code_dir: Path, installer: str, interpreter: str, run: Recorder) -> None:
    """requirements.txt is installed for the interpreter that is named, whatever its path."""
    (code_dir / "requirements.txt").write_text("tiny<2\n")
    requirements.install(str(code_dir), interpreter, run)

    assert "1.0" == version(interpreter, "tiny")


def test_project_and_requirements(code_dir: Path, installer: str, interpreter: str, run: Recorder) -> None:
    """A project is installed together with the requirements, in one call, so that their versions agree."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    write_project(code_dir)
    requirements.install(str(code_dir), interpreter, run)

    assert ("1.0", "2.0", 1) == (version(interpreter, "my-project"), version(interpreter, "tiny"), len(run.argvs))


def test_project_alone(code_dir: Path, installer: str, interpreter: str, run: Recorder) -> None:
    """A project needs no requirements.txt."""
    write_project(code_dir)
    requirements.install(str(code_dir), interpreter, run)

    assert "1.0" == version(interpreter, "my-project")


def test_log(
    code_dir: Path, installer: str, interpreter: str, run: Recorder, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log says what is installed and with which command, and afterwards how long it took."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    requirements.install(str(code_dir), interpreter, run)
    lines = [line for line in capfd.readouterr().err.splitlines() if "sagemaker-framework INFO" in line]

    assert 2 == len(lines)
    assert "installing requirements.txt: " in lines[0]
    assert f"{installer} " in lines[0]
    assert "installed requirements.txt in " in lines[1]


def test_defaults_are_only_defaults(code_dir: Path, run: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the job or the image sets for the installer is not overridden."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    write_program(code_dir.parent / "python", "", "exit 0")
    monkeypatch.setenv("PIP_ROOT_USER_ACTION", "warn")
    requirements.install(str(code_dir), str(code_dir.parent / "python"), run)

    assert ("warn", "1") == (run.env["PIP_ROOT_USER_ACTION"], run.env["PIP_NO_INPUT"])


def test_lines_are_not_wrapped(code_dir: Path, run: Recorder) -> None:
    """uv is told not to wrap lines, so that what it says of a build can be read whatever the length of paths is."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    write_program(code_dir.parent / "python", "", "exit 0")
    requirements.install(str(code_dir), str(code_dir.parent / "python"), run)

    assert "1" == run.env["UV_NO_WRAP"]


def test_import_is_cheap() -> None:
    """Importing the module loads nothing that takes time, since most jobs install nothing."""
    code = "import sys; import sagemaker_framework.code.requirements; print(*sys.modules)"
    argv = [sys.executable, "-S", "-c", code]
    loaded = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]).stdout

    assert set() == {"boto3", "subprocess", "shutil", "re", "logging", "typing", "configparser"} & {*loaded.split()}


# -- from where ----------------------------------------------------------------------------


def test_private_index(
    code_dir: Path,
    installer: str,
    interpreter: str,
    run: Recorder,
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """PIP_INDEX_URL is the index, whichever installer there is, and its password shows up nowhere."""
    (code_dir / "requirements.txt").write_text("tiny==2.0\n")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://aws:{TOKEN}@{index.host}/simple/")
    requirements.install(str(code_dir), interpreter, run)

    assert "2.0" == version(interpreter, "tiny")
    assert TOKEN not in f"{capfd.readouterr()} {run.argvs}"


def test_pip_conf(
    code_dir: Path, installer: str, interpreter: str, run: Recorder, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index that pip.conf names is the index, whichever installer there is."""
    (code_dir / "requirements.txt").write_text("tiny==2.0\n")
    config = code_dir.parent / "pip.conf"
    config.write_text(f"[global]\nindex-url = http://aws:{TOKEN}@{index.host}/simple/\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    requirements.install(str(code_dir), interpreter, run)

    assert "2.0" == version(interpreter, "tiny")


def test_extra_index(
    code_dir: Path,
    installer: str,
    interpreter: str,
    run: Recorder,
    index: Index,
    serve: Callable[..., Index],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A version that only the main index has is found, whichever installer there is, if an extra index has another."""
    (code_dir / "requirements.txt").write_text("tiny>=1.5\n")
    extra = serve(code_dir.parent / "extra")
    write_wheel(extra.folder, "tiny", "0.5")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://aws:{TOKEN}@{index.host}/simple/")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://{extra.host}/simple/")
    requirements.install(str(code_dir), interpreter, run)

    assert "2.0" == version(interpreter, "tiny")


def test_extra_index_in_requirements(
    code_dir: Path, installer: str, interpreter: str, run: Recorder, serve: Callable[..., Index], index: Index
) -> None:
    """The same holds for the extra index that requirements.txt itself names."""
    extra = serve(code_dir.parent / "extra")
    write_wheel(extra.folder, "tiny", "0.5")
    (code_dir / "requirements.txt").write_text(
        f"--index-url http://aws:{TOKEN}@{index.host}/simple/\n"
        f"--extra-index-url http://{extra.host}/simple/\ntiny>=1.5\n"
    )
    requirements.install(str(code_dir), interpreter, run)

    assert "2.0" == version(interpreter, "tiny")


def test_constraint(
    code_dir: Path, installer: str, interpreter: str, run: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The versions that an image holds fast with PIP_CONSTRAINT stay, whichever installer there is."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    (code_dir.parent / "constraint.txt").write_text("tiny<2\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(code_dir.parent / "constraint.txt"))
    requirements.install(str(code_dir), interpreter, run)

    assert "1.0" == version(interpreter, "tiny")


@pytest.mark.parametrize("installer", ["uv"], indirect=True)
@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_uv_index(
    code_dir: Path,
    installer: str,
    interpreter: str,
    run: Recorder,
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    """What is set for uv itself goes before what is set for pip."""
    (code_dir / "requirements.txt").write_text("tiny==2.0\n")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv(variable, f"http://aws:{TOKEN}@{index.host}/simple/")
    requirements.install(str(code_dir), interpreter, run)

    assert "2.0" == version(interpreter, "tiny")


# -- CodeArtifact --------------------------------------------------------------------------


@pytest.fixture
def codeartifact(index: Index, monkeypatch: pytest.MonkeyPatch) -> Index:
    """A CodeArtifact repository that the job names."""
    monkeypatch.setenv("CA_REPOSITORY_ARN", ARN)
    monkeypatch.setenv("AWS_ENDPOINT_URL_CODEARTIFACT", f"http://{index.host}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-key")
    return index


def test_codeartifact(code_dir: Path, installer: str, interpreter: str, run: Recorder, codeartifact: Index) -> None:
    """Packages come from the repository that CA_REPOSITORY_ARN names, in its account, domain and format."""
    (code_dir / "requirements.txt").write_text("tiny==2.0\n")
    requirements.install(str(code_dir), interpreter, run)

    assert "2.0" == version(interpreter, "tiny")
    token, endpoint = codeartifact.asked[:2]
    assert "POST /v1/authorization-token?domain=my-domain&domain-owner=123456789012" == token
    assert {"domain=my-domain", "domain-owner=123456789012", "repository=my-repository", "format=pypi"} == {
        *endpoint.partition("?")[2].split("&")
    }


@pytest.mark.parametrize("wanted", ["tiny==2.0", "tiny==9"])
def test_codeartifact_token_is_secret(
    code_dir: Path,
    installer: str,
    interpreter: str,
    run: Recorder,
    codeartifact: Index,
    capfd: pytest.CaptureFixture[str],
    wanted: str,
) -> None:
    """The token is in no argument, no line of the log or of the installer, and no error."""
    (code_dir / "requirements.txt").write_text(f"{wanted}\n")
    error: InstallError | None = None
    try:
        requirements.install(str(code_dir), interpreter, run)
    except InstallError as raised:
        error = raised

    assert (error is not None) == (wanted == "tiny==9")
    assert TOKEN not in f"{capfd.readouterr()} {run.argvs} {error} {error.detail if error else ''}"


@pytest.mark.parametrize(
    "arn",
    [
        "my-repository",
        "arn:aws:codeartifact:eu-west-1:123456789012:repository/my-domain",
        "arn:aws:codeartifact:eu-west-1:123456789012:domain/my-domain/x",
        "arn:aws:codeartifact:eu-west-1::repository/my-domain/my-repository",
        "arn:aws:s3:eu-west-1:123456789012:repository/my-domain/my-repository",
    ],
)
def test_bad_arn(code_dir: Path, run: Recorder, monkeypatch: pytest.MonkeyPatch, arn: str) -> None:
    """A CA_REPOSITORY_ARN of another form fails the job with the right form."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    monkeypatch.setenv("CA_REPOSITORY_ARN", arn)
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), NO_PYTHON, run)

    assert f"CA_REPOSITORY_ARN={arn} is not of the form arn:aws:codeartifact:REGION:" in str(raised.value)


def test_codeartifact_denied(code_dir: Path, run: Recorder, codeartifact: Index) -> None:
    """A role that may not use CodeArtifact fails the job with AWS's reason and the permissions to add, in one line."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    codeartifact.denied = "User: arn:aws:sts::1:role is not authorized"
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), NO_PYTHON, run)

    assert "is not authorized: the job's role needs codeartifact:GetAuthorizationToken" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_codeartifact_without_credentials(
    code_dir: Path, run: Recorder, codeartifact: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without credentials fails the job with what it needs, in one line."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), NO_PYTHON, run)

    assert "Unable to locate credentials: the job needs credentials" in str(raised.value)


# -- failures ------------------------------------------------------------------------------


WRONG_HASH = "0" * 64
FAILURES = {
    "no such version": ("tiny==9", "No matching distribution found for tiny==9", "there is no version of tiny==9"),
    "no such package": ("nosuch==9", "No matching distribution found for nosuch==9", "nosuch was not found in"),
    "conflict": ("tiny==2.0\nwants", "Cannot install", "depend on tiny<2"),
    "wrong hash": (f"tiny==1.0 --hash=sha256:{WRONG_HASH}", f"Expected sha256 {WRONG_HASH}", "Hash mismatch for `tiny"),
    "bad syntax": ("tiny\nthis is not ok!!", "(from line 2 of requirements.txt)", "found `i` this is not ok!!"),
    "bad option": ("--frobnicate yes", "Invalid requirement: --frobnicate yes", "requirements.txt:1:1"),
    "missing file": ("-r more.txt", "more.txt", "more.txt`: No such file"),
    "missing wheel": ("./gone-1.0-py3-none-any.whl", "gone-1.0-py3-none-any.whl", "gone-1.0-py3-none-any.whl"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_bad_requirements(code_dir: Path, installer: str, interpreter: str, run: Recorder, case: str) -> None:
    """The first line of the failure has what the installer itself says is wrong."""
    content, said_by_pip, said_by_uv = FAILURES[case]
    (code_dir / "requirements.txt").write_text(f"{content}\n")
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), interpreter, run)

    assert f"requirements.txt cannot be installed ({installer} exited with code " in str(raised.value)
    assert (said_by_pip if installer == "pip" else said_by_uv) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_failing_project(code_dir: Path, installer: str, interpreter: str, run: Recorder) -> None:
    """A project whose build fails shows the exception of its own code."""
    write_project(code_dir, "def build_wheel(*args, **options):\n    raise RuntimeError('CUDA_HOME is not set')\n")
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), interpreter, run)

    assert str(raised.value).startswith(f"the project in {code_dir} cannot be installed ({installer} exited with code ")
    assert str(raised.value).endswith(": RuntimeError: CUDA_HOME is not set")


def test_unreachable_index(
    code_dir: Path, installer: str, interpreter: str, run: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that does not answer is named as the cause, not the package that it was asked for."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(InstallError, match="Connection refused"):
        requirements.install(str(code_dir), interpreter, run)


@pytest.mark.parametrize("installer", ["uv"], indirect=True)
def test_wrong_password(
    code_dir: Path, installer: str, interpreter: str, run: Recorder, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that does not let us in is named as the cause."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://aws:not-the-password@{index.host}/simple/")
    with pytest.raises(InstallError, match="401 Unauthorized"):
        requirements.install(str(code_dir), interpreter, run)


def test_no_installer(code_dir: Path, venvs: Path, run: Recorder) -> None:
    """An image that can install nothing is told so."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    with pytest.raises(InstallError, match=r"the image has neither pip for .* nor uv on PATH"):
        requirements.install(str(code_dir), str(venvs / "bare/bin/python"), run)


def test_killed_installer(code_dir: Path, run: Recorder) -> None:
    """An installer that a signal killed is not said to have exited."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    write_program(code_dir.parent / "python", "Collecting tiny\n", "kill -9 $$")
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), str(code_dir.parent / "python"), run)

    assert "requirements.txt cannot be installed (pip was killed by signal 9 (SIGKILL)" in str(raised.value)


def test_stopped_meanwhile(code_dir: Path) -> None:
    """A job that is stopped while it installs has not failed to install."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    with pytest.raises(JobStopped):
        requirements.install(
            str(code_dir), NO_PYTHON, lambda name, *_, **__: ProcessResult(name, -15, b"", signal.SIGTERM, False)
        )


def test_detail(code_dir: Path, run: Recorder) -> None:
    """The last lines of the installer follow in the failure file, without the passwords in them."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    said = [f"line {number}" for number in range(99)] + ["see http://me:hunter22@index/", "ERROR: it broke"]
    write_program(code_dir.parent / "python", "\n".join(said), "exit 1")
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), str(code_dir.parent / "python"), run)

    assert "line 61" == raised.value.detail.splitlines()[0]
    assert ["see http://me:******@index/", "ERROR: it broke"] == raised.value.detail.splitlines()[-2:]


#: What installers, also of versions that the tests do not have, wrote when they failed; and what is made of it.
SAID = {
    "uv 0.9, no solution": (
        """\
Using Python 3.11.7 environment at: /venv
  × No solution found when resolving dependencies:
  ╰─▶ Because nosuch was not found in the package registry and you
      require nosuch==9, your requirements are unsatisfiable.
""",
        "No solution found when resolving dependencies: Because nosuch was not found in the package registry and you "
        + "require nosuch==9, your requirements are unsatisfiable.",
    ),
    "uv 0.9, no connection": (
        """\
  × Failed to download `tiny @ http://127.0.0.1:9/tiny.whl`
  ├─▶ error sending request for url
  │   (http://127.0.0.1:9/tiny.whl)
  ╰─▶ Connection refused (os error 111)
""",
        "Failed to download `tiny @ http://127.0.0.1:9/tiny.whl`: error sending request for url "
        + "(http://127.0.0.1:9/tiny.whl): Connection refused (os error 111)",
    ),
    "pip 23.2, setup.py": (
        """\
  error: subprocess-exited-with-error

  × python setup.py egg_info did not run successfully.
  │ exit code: 1
  ╰─> [7 lines of output]
      Traceback (most recent call last):
        File "<string>", line 2, in <module>
      RuntimeError: CUDA_HOME is not set

      Set it.
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: metadata-generation-failed

× Encountered error while generating package metadata.
╰─> See above for output.

note: This is an issue with the package mentioned above, not pip.
hint: See above for details.
""",
        "Encountered error while generating package metadata: RuntimeError: CUDA_HOME is not set",
    ),
    "pip 26.3, compiler": (
        """\
  error: subprocess-exited-with-error

  × Building wheel for ext (pyproject.toml) did not run successfully.
  │ exit code: 1
  ╰─> [9 lines of output]
      cc1: fatal error: missing.c: No such file or directory
      compilation terminated.
      error: command '/usr/bin/gcc' failed with exit code 1
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for ext
error: failed-wheel-build-for-install

× Failed to build installable wheels for some pyproject.toml based projects
╰─> ext
""",
        "Failed to build installable wheels for some pyproject.toml based projects: ext: "
        + "error: command '/usr/bin/gcc' failed with exit code 1",
    ),
    "pip 26.3, git": (
        """\
  fatal: unable to access 'http://127.0.0.1:9/x.git/': Failed to connect to 127.0.0.1 port 9
  error: subprocess-exited-with-error

  × git clone --quiet http://127.0.0.1:9/x.git /tmp/x did not run successfully.
  │ exit code: 128
  ╰─> No available output.

  note: This error originates from a subprocess, and is likely not a problem with pip.
ERROR: Failed to build 'tiny' when git clone --quiet http://127.0.0.1:9/x.git /tmp/x
""",
        "ERROR: Failed to build 'tiny' when git clone --quiet http://127.0.0.1:9/x.git /tmp/x: "
        + "fatal: unable to access 'http://127.0.0.1:9/x.git/': Failed to connect to 127.0.0.1 port 9",
    ),
    "pip 26.3, externally managed": (
        """\
error: externally-managed-environment

× This environment is externally managed
╰─> To install Python packages system-wide, try apt install
    python3-xyz.

note: If you believe this is a mistake, please contact your OS distribution provider.
""",
        "This environment is externally managed: To install Python packages system-wide, try apt install python3-xyz.",
    ),
    "nothing known": ("Collecting tiny\nsomething went wrong\n\n", "something went wrong"),
}


@pytest.mark.parametrize("case", SAID)
def test_cause(code_dir: Path, run: Recorder, case: str) -> None:
    """The cause is the last error that the installer names, with the reason that it gave further up, in one line."""
    said, cause = SAID[case]
    (code_dir / "requirements.txt").write_text("tiny\n")
    write_program(code_dir.parent / "python", said, "exit 1")
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), str(code_dir.parent / "python"), run)

    assert f"requirements.txt cannot be installed (pip exited with code 1): {cause}" == str(raised.value)


def test_cause_leaves_room(code_dir: Path, run: Recorder) -> None:
    """However much the installer has to say, its cause fits into what SageMaker shows, with both ends of it."""
    (code_dir / "requirements.txt").write_text("tiny\n")
    write_program(code_dir.parent / "python", f"ERROR: begin {'x ' * 5000} end\n", "exit 1")
    with pytest.raises(InstallError) as raised:
        requirements.install(str(code_dir), str(code_dir.parent / "python"), run)

    assert len(str(raised.value)) < 700
    assert "ERROR: begin x" in str(raised.value)
    assert str(raised.value).endswith("end")
