"""Installs the requirements of the user's code: its requirements.txt, and the project that it is."""

from __future__ import annotations

import os
import time

from sagemaker_framework import log
from sagemaker_framework.errors import InstallError, JobStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagemaker_framework.processes.process import ProcessResult, Run

_DEFAULTS = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    # On Debian and Ubuntu, pip refuses to change the system's Python (PEP 668). The container ends with the job.
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "UV_BREAK_SYSTEM_PACKAGES": "1",
    # Older versions of uv wrap lines even without a terminal, which hides the exception of a build.
    "UV_NO_WRAP": "1",
}

#: uv's variable for each setting of pip that says where packages are. uv ignores pip's own variables and files on
#: purpose ("Compatibility with pip", the uv documentation), but a job need not know which of the two installs.
_IN_UV = {
    "index-url": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "extra-index-url": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "find-links": ("UV_FIND_LINKS",),
    "constraint": ("UV_CONSTRAINT",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
}

_TRACEBACK = "Traceback (most recent call last):"
_CROSS = "\N{MULTIPLICATION SIGN} "
_ERRORS = ("ERROR: ", "error: ", _CROSS)
_CAUSES = ("╰─>", "╰─▶", "├─▶", "cause:", "Caused by:")
#: What pip and uv write when an index does not answer, before they say that it does not have the package.
_INDEX_TROUBLES = ("connection broken by", "Credentials not correct", "Could not fetch URL", "hint: An index")
_LONGEST = 600  # characters of a cause; SageMaker shows 1,024 of the whole message
_MOST_LINES = 40


def is_project(folder: str) -> bool:
    """Tell whether `folder` can be installed: it has a setup.py, or a pyproject.toml with more than tools' settings."""
    if os.path.isfile(os.path.join(folder, "setup.py")):
        return True
    # Not parsed: before Python 3.11 that needs a library.
    tables = (line.replace(" ", "") for line in _read(os.path.join(folder, "pyproject.toml")).splitlines())
    return any(table.startswith(("[project]", "[project.", "[build-system]")) for table in tables)


def install(code_dir: str, interpreter: str, run: Run, *, region: str | None = None) -> None:
    """Install requirements.txt and the project in `code_dir`, in one step; do nothing if it has neither.

    Uses uv if it is on PATH, else pip. Both look for packages where pip is configured to:
    `PIP_*`, pip.conf, the CodeArtifact repository that `CA_REPOSITORY_ARN` names. With uv,
    its own settings (`UV_*`) take precedence.

    Args:
        code_dir: the code folder.
        interpreter: the path of the Python to install for.
        run: starts a process under supervision and waits for its end.
        region: the job's AWS region, for an ARN that does not name one.

    Raises:
        InstallError: the installation failed; the message quotes the installer.
        JobStopped: the job was asked to stop meanwhile.
    """
    wanted = {}
    if os.path.isfile(os.path.join(code_dir, "requirements.txt")):
        wanted["requirements.txt"] = ["-r", "requirements.txt"]
    if is_project(code_dir):
        wanted[f"the project in {code_dir}"] = ["."]
    if not wanted:
        return

    import shutil

    what = " and ".join(wanted)
    env = {**_DEFAULTS, **os.environ}
    if env.get("CA_REPOSITORY_ARN"):
        env["PIP_INDEX_URL"] = env["UV_DEFAULT_INDEX"] = _codeartifact_index(env["CA_REPOSITORY_ARN"], region)
    requirements = _read(os.path.join(code_dir, "requirements.txt"))
    settings = _pip_settings(interpreter, env)
    log.redact.hide_named({name: value for name, value in env.items() if name.startswith("UV_")})
    log.redact.hide_named({"requirements": requirements, **settings})

    uv = shutil.which("uv")
    if uv:
        argv = [uv, "pip", "install", "--python", interpreter, *_tell_uv(settings, requirements, env)]
    else:
        argv = [interpreter, "-m", "pip", "install"]
    argv += [arg for args in wanted.values() for arg in args]
    log.info(f"installing {what}: {log.redact.command(argv)}")
    begun = time.monotonic()
    ended = run("uv" if uv else "pip", argv, cwd=code_dir, env=env)
    if ended.stopped_by is not None:
        raise JobStopped(ended.stopped_by)
    if ended.returncode:
        raise _error(what, interpreter, ended)
    log.info(f"installed {what} in {time.monotonic() - begun:.1f} s")


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read()
    except OSError:
        return ""


# -- where packages come from ---------------------------------------------------------------------


def _codeartifact_index(arn: str, region: str | None) -> str:
    """Return the URL of a CodeArtifact repository; it contains a token that is valid for some hours."""
    try:
        prefix, _, service, arn_region, owner, path = arn.split(":")
        kind, domain, repository = path.split("/")
    except ValueError:
        prefix = service = arn_region = owner = kind = domain = repository = ""
    if (prefix, service, kind) != ("arn", "codeartifact", "repository") or not (owner and domain and repository):
        raise InstallError(
            f"CA_REPOSITORY_ARN={arn} is not of the form "
            "arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY"
        )
    from boto3.session import Session
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = Session().client("codeartifact", region_name=arn_region or region)
        token = client.get_authorization_token(domain=domain, domainOwner=owner)["authorizationToken"]
        log.redact.hide(token)
        where = {"domain": domain, "domainOwner": owner, "repository": repository}
        endpoint = client.get_repository_endpoint(**where, format="pypi")["repositoryEndpoint"]
    except ClientError as error:
        remedy = (
            "the job's role needs codeartifact:GetAuthorizationToken, codeartifact:GetRepositoryEndpoint, "
            "codeartifact:ReadFromRepository and sts:GetServiceBearerToken"
        )
        raise _no_codeartifact(arn, error, remedy) from error
    except BotoCoreError as error:
        remedy = "the job needs credentials (its role) and a way to CodeArtifact (in a VPC, its endpoints)"
        raise _no_codeartifact(arn, error, remedy) from error
    scheme, _, rest = endpoint.partition("://")
    return f"{scheme}://aws:{token}@{rest.rstrip('/')}/simple/"


def _no_codeartifact(arn: str, error: Exception, remedy: str) -> InstallError:
    why = " ".join(log.redact(str(error)).split())
    return InstallError(f"the CodeArtifact repository {arn} cannot be used: {why}: {remedy}")


def _pip_settings(interpreter: str, env: dict[str, str]) -> dict[str, str]:
    """Return pip's settings, from its files and variables ("Configuration" in its manual), by option name."""
    from configparser import Error, RawConfigParser

    home = os.path.expanduser("~")
    own = env.get("PIP_CONFIG_FILE", "")
    files = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf"]
    if not os.path.exists(own):
        files += [f"{home}/.pip/pip.conf", f"{env.get('XDG_CONFIG_HOME') or f'{home}/.config'}/pip/pip.conf"]
    files += [f"{os.path.dirname(os.path.dirname(interpreter))}/pip.conf", own]
    parser = RawConfigParser()
    try:
        parser.read([] if own == os.devnull else files, encoding="utf-8")
    except (Error, UnicodeDecodeError):
        pass  # If pip installs, it reports that itself.
    settings = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            settings.update({name.replace("_", "-"): value for name, value in parser.items(section)})
    for name, value in env.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return {name: " ".join(value.split()) for name, value in settings.items()}


def _tell_uv(settings: dict[str, str], requirements: str, env: dict[str, str]) -> list[str]:
    """Add pip's settings to `env` in uv's words; return as options those for which uv has no variable."""
    for setting, names in _IN_UV.items():
        if settings.get(setting) and not any(env.get(name) for name in names):
            env[names[0]] = settings[setting].replace(" ", ",") if setting == "find-links" else settings[setting]
    if "extra-index-url" in settings or "--extra-index-url" in requirements:
        # pip takes the best version of all indexes; uv, by default, stops at the first index that has the package.
        env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return ["--no-index"] if settings.get("no-index", "").lower() in ("1", "true", "yes", "on", "t", "y") else []


# -- the installer's output -----------------------------------------------------------------------


def _error(what: str, interpreter: str, ended: ProcessResult) -> InstallError:
    text = log.redact(ended.tail.decode("utf-8", "replace")).rstrip()
    lines = text.splitlines()
    if ended.name == "pip" and text.endswith(": No module named pip"):
        return InstallError(
            f"{what} cannot be installed: the image has neither pip for {interpreter} nor uv on PATH; add one of them"
        )
    how = ended.how() + (", as this container ran out of memory" if ended.out_of_memory else "")
    cause = _cause(lines)
    return InstallError(
        f"{what} cannot be installed ({how})" + (f": {cause}" if cause else ""), "\n".join(lines[-_MOST_LINES:])
    )


def _cause(lines: Sequence[str]) -> str:
    """Return the last error of pip or uv, with the reason that stands further up, in one line."""
    error = reason = trouble = ""
    for index, line in enumerate(lines):
        text = line.strip()
        if text.startswith(_ERRORS):
            if "ResolutionImpossible" not in text:  # It only refers to the error before it.
                error = _paragraph(lines[index:])
        elif text == _TRACEBACK:
            reason = _exception(lines[index:])
        elif text.startswith("fatal: "):  # git
            reason = text
        elif text == "[end of output]":  # of a build
            reason = reason or lines[index - 1].strip()
        elif any(sign in text for sign in _INDEX_TROUBLES):
            trouble = _paragraph(lines[index:])
    if not reason and ("No matching distribution" in error or "No solution" in error):
        reason = trouble
    if reason not in error:
        error = f"{error.rstrip('.:')}: {reason}" if error else reason
    error = error or (lines[-1].strip() if lines else "")
    half = _LONGEST // 2
    return error if len(error) <= _LONGEST else f"{error[:half]} ... {error[-half:]}"


def _paragraph(lines: Sequence[str]) -> str:
    """Join the first of `lines` and its continuation lines into one line, without the frame around them."""
    said = ""
    for line in lines:
        text = line.strip(" │")
        if said and (not text or text.startswith((*_ERRORS, _TRACEBACK, "WARNING: ", "note: ", "hint: "))):
            break
        for mark in _CAUSES:
            if text.startswith(mark):
                said, text = said.rstrip(".:") + ":", text[len(mark) :].strip()
        said = f"{said} {text}".strip()
    return said.replace(": See above for output.", "").lstrip(_CROSS)


def _exception(lines: Sequence[str]) -> str:
    """Return the exception at the end of a traceback: the first line that is not indented deeper than the heading."""
    heading = len(lines[0]) - len(lines[0].lstrip())
    for line in lines[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= heading:
            return line.strip()
    return ""
