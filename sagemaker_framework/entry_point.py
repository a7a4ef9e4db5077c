"""The user's program, of whatever kind it is."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod

from sagemaker_framework import log
from sagemaker_framework.config import paths
from sagemaker_framework.errors import EntryPointError, JobStopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagemaker_framework.processes.process import Run


class EntryPoint(ABC):
    """The user's program, once its code is in the code folder.

    Must be overridden:

    - `command(args)`: the argument list that runs the program

    May be overridden, in the order they are called:

    - `install(run, region)`: installs the requirements of the program
    - `program_at(command)`: the index at which a Python program begins in its command
    - `env_vars()`: the variables that a program of this kind needs

    Attributes:
        name: the program's name, relative to the code folder, such as `train.py`.
        code_dir: the code folder.
        interpreter: the path of the Python that requirements are installed for and that runs Python programs; by
            default the one that runs this framework.
        signals_group: True if a request to stop goes to all processes of the program's group at once, because the
            program itself does not pass it on.

    Raises:
        EntryPointError: `name` is None or empty, as `env.user_entry_point` is in a job that names no program.
    """

    name: str
    code_dir: str
    interpreter: str = sys.executable
    signals_group: bool = False

    def __init__(self, name: str | None, code_dir: str) -> None:
        self.name = _named(name)
        self.code_dir = code_dir

    @abstractmethod
    def command(self, args: Sequence[str]) -> list[str]:
        """Return the argument list that runs the program once, from within the code folder.

        Called when code and requirements are in place: by the Trainer, which fails the job early if the program cannot
        be run, and by the strategy. It must change nothing.

        Raises:
            EntryPointError: the program does not exist, or cannot be run.
        """

    def program_at(self, command: Sequence[str]) -> int:
        """Return the index in `command` of a Python program, after Python and its options; 0 for other programs.

        Called by strategies that run Python programs through a module, such as mpi4py.
        """
        return 0

    def install(self, run: Run, region: str | None = None) -> None:
        """Install requirements.txt and the project (pyproject.toml, setup.py) in the code folder.

        Called once, by the Trainer, when the code is in place and before any server starts. An image that must not
        change overrides it to do nothing.

        Args:
            run: starts a process under supervision and waits for its end: `run(name, argv, env=..., cwd=...)`.
            region: the job's AWS region, or None.

        Raises:
            InstallError: the installation failed; the message quotes the installer.
        """
        # Checked here too, so that a job with nothing to install does not even import the installer.
        if any(os.path.exists(self._path(file)) for file in ("requirements.txt", "pyproject.toml", "setup.py")):
            from sagemaker_framework.code import requirements

            requirements.install(self.code_dir, self.interpreter, run, region=region)

    def env_vars(self) -> dict[str, str]:
        """Return variables for the program: the code folder on Python's path, and unbuffered output.

        Called once, by the Trainer, before the program starts.
        """
        return {
            "PYTHONPATH": os.pathsep.join(filter(None, [*self._import_folders(), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": os.environ.get("PYTHONUNBUFFERED", "1"),
        }

    def _import_folders(self) -> list[str]:
        return [self.code_dir]

    def _path(self, name: str) -> str:
        return os.path.join(self.code_dir, name)

    def _missing(self) -> EntryPointError:
        try:
            there = sorted(os.listdir(self.code_dir))
        except OSError:
            what = "is not a folder"
        else:
            what = "holds " + (", ".join(there[:10]) or "nothing") + (", ..." if len(there) > 10 else "")
        return EntryPointError(
            f"the entry point {self.name!r} is not in {self.code_dir}, which {what}: "
            "set sagemaker_program (entry_point in the SageMaker SDK) to a file of your source"
        )


class PythonEntryPoint(EntryPoint):
    """A Python script, module or package.

    - `train.py` runs as `python train.py`;
    - `pkg/sub/main.py` runs as `python -m pkg.sub.main` if its folder is a package (has an
      `__init__.py`), so that its relative imports work, and else as a script;
    - `-m pkg.mod`, and a name without `.py`, run as `python -m`;
    - a folder runs as `python -m folder`; if it holds a project, the package in it with a `__main__.py` runs.
    """

    def command(self, args: Sequence[str]) -> list[str]:
        return [self.interpreter, *self._program(), *args]

    def program_at(self, command: Sequence[str]) -> int:
        program = self._program()
        if command[0] != self.interpreter:
            return 0
        return next((at for at in range(1, len(command)) if [*command[at : at + len(program)]] == program), 0)

    def _program(self) -> list[str]:
        if self.name.startswith("-m"):
            module = self.name[2:].strip()
            if not _is_module(module):
                raise EntryPointError(f"the entry point {self.name!r} does not name a module, as '-m pkg.mod' does")
            return ["-m", module]
        if os.path.isdir(self._path(self.name)):
            return self._folder()
        module = _module_name(self.name)
        if os.path.isfile(self._path(self.name)):
            if module and self._is_package(os.path.dirname(self.name)):
                return ["-m", module]
            return [self.name if not self.name.startswith("-") else f"./{self.name}"]
        if module and self._may_be_installed(module):
            return ["-m", module]
        raise self._missing()

    def _is_package(self, folder: str) -> bool:
        is_below = folder not in ("", ".")
        while folder:
            if not os.path.isfile(self._path(f"{folder}/__init__.py")):
                return False
            folder = os.path.dirname(folder)
        return is_below

    def _may_be_installed(self, module: str) -> bool:
        from sagemaker_framework.code import requirements

        top = self._path(module.replace(".", "/"))
        return os.path.isfile(f"{top}.py") or os.path.isdir(top) or requirements.is_project(self.code_dir)

    def _folder(self) -> list[str]:
        folder = os.path.normpath(self.name)
        if os.path.isfile(self._path(f"{folder}/__main__.py")):
            return ["-m", folder.replace("/", ".")] if self._is_package(folder) else [folder]
        packages = [
            name
            for parent in (folder, f"{folder}/src")
            if os.path.isdir(self._path(parent))
            for name in sorted(os.listdir(self._path(parent)))
            if os.path.isfile(self._path(f"{parent}/{name}/__main__.py"))
        ]
        if len(packages) != 1:
            found = "no package" if not packages else f"more than one package ({', '.join(packages)})"
            raise EntryPointError(f"the entry point {self.name!r} is a folder that holds {found} with a __main__.py")
        return ["-m", packages[0]]

    def _import_folders(self) -> list[str]:
        # Like a script, a module of a package can import its neighbours without the package's name.
        beside = os.path.dirname(self._path(self.name))
        folders = super()._import_folders()
        return folders if beside in folders or self.name.startswith("-m") else [*folders, beside]

    def install(self, run: Run, region: str | None = None) -> None:
        super().install(run, region)
        if os.path.isdir(self._path(self.name)) and os.path.normpath(self.name) != ".":
            from sagemaker_framework.code import requirements

            requirements.install(self._path(self.name), self.interpreter, run, region=region)


class ShellEntryPoint(EntryPoint):
    """A shell script, or any other program.  Its first line (`#!`) says what runs it; /bin/sh if there is none."""

    signals_group = True

    def command(self, args: Sequence[str]) -> list[str]:
        path = self._path(self.name)
        if not os.path.isfile(path):
            raise self._missing()
        with open(path, "rb") as file:
            start = file.read(1024)
        program = f"./{self.name}"
        if start.startswith(b"\x7fELF"):
            if not os.access(path, os.X_OK):
                os.chmod(path, os.stat(path).st_mode | 0o100)
            return [program, *args]
        if b"\0" in start and not start.startswith(b"#!"):
            raise EntryPointError(f"the entry point {self.name!r} is neither a script nor a program for this machine")
        first = start.split(b"\n", 1)[0]
        if first.endswith(b"\r"):
            raise EntryPointError(
                f"the entry point {self.name!r} has Windows line endings, which shells cannot read: "
                "convert it with dos2unix"
            )
        # The interpreter is started here and not by the kernel, as archives lose execute permissions.
        by = first[2:].decode("utf-8", "surrogateescape").strip().split(None, 1) if first.startswith(b"#!") else []
        return [*(by or ["/bin/sh"]), program, *args]


def choose(name: str | None, code_dir: str) -> EntryPoint:
    """Return the entry point for a program, by its name; its code is in `code_dir` already.

    Args:
        name: the program's name; None if the job does not give one.
        code_dir: the code folder.

    Raises:
        EntryPointError: there is no name, or it leads out of the code folder.
    """
    name = _named(name)
    if os.path.isabs(name) or ".." in name.split("/"):
        raise EntryPointError(f"the entry point {name!r} is outside of the code folder {code_dir}")
    path = os.path.join(code_dir, name)
    if name.endswith(".py") or name.startswith("-m") or os.path.isdir(path):
        return PythonEntryPoint(name, code_dir)
    if os.path.isfile(path) or name.endswith(".sh") or not _module_name(name):
        return ShellEntryPoint(name, code_dir)
    return PythonEntryPoint(name, code_dir)


def run(
    uri: str,
    user_entry_point: str | Sequence[str] | None,
    args: Sequence[str] | Mapping[str, str] | None = None,
    env_vars: Mapping[str, str] | None = None,
) -> None:
    """Fetch, prepare and run a program; return when it has ended well.

    Called as in the AWS document: `run(uri, user_entry_point, args, env_vars)`. Without the uri,
    `run(user_entry_point, args, env_vars)`, it runs code that is in the code folder.

    Args:
        uri: the source of the code: an S3 URI, a local folder or archive.
        user_entry_point: the program's name, such as `train.py`; None, as in a job that names no program, is an
            `EntryPointError`.
        args: the program's arguments.
        env_vars: the program's variables, except those of this process.

    Raises:
        FrameworkError: something failed; `ProgramError` if the program itself did.
        JobStopped: this process was asked to stop meanwhile; its exit code is 0 if the program then ended well.
    """
    where = paths.current()
    # Both may be None: the program of a job that names none, and the arguments of a program.
    names_program = user_entry_point is None and not os.path.isabs(uri) and os.path.exists(f"{where.code}/{uri}")
    if names_program or not (user_entry_point is None or isinstance(user_entry_point, str)):
        uri, user_entry_point, args, env_vars = where.code, uri, user_entry_point, args  # type: ignore[assignment]
    from sagemaker_framework.config import settings
    from sagemaker_framework.processes.signals import listening
    from sagemaker_framework.processes.supervisor import Supervisor

    grace = settings.load().grace_seconds
    with listening() as signals, signals.uninterrupted(), Supervisor(signals, grace) as supervisor:
        region = os.environ.get("AWS_REGION")
        with signals.may_interrupt():
            fetch(uri, where.code, region)
        program = choose(user_entry_point, where.code)
        with signals.may_interrupt():
            program.install(supervisor.run, region)
        argv = program.command([str(arg) for arg in args or ()])
        variables = {name: str(value) for name, value in (env_vars or {}).items()}
        announce(program, argv)
        env = environment(program.env_vars(), variables)
        ended = supervisor.run(program.name, argv, env=env, cwd=program.code_dir, signals_group=program.signals_group)
        if ended.exit_code:
            raise ended.error()
        if signals.stopped_by is not None:
            raise JobStopped(signals.stopped_by, 0)


def fetch(uri: str, code_dir: str, region: str | None) -> None:
    """Bring the user's code into the code folder, unless it is there already.

    Args:
        uri: an S3 URI, a local folder or archive; the code folder itself if there is nothing to fetch.
        code_dir: the code folder.
        region: the job's AWS region, or None.

    Raises:
        SourceError: the code cannot be fetched.
    """
    if os.path.realpath(uri) != os.path.realpath(code_dir):
        from sagemaker_framework.code import source

        source.fetch(uri, code_dir, region=region)


def environment(*env_vars: Mapping[str, str]) -> dict[str, str]:
    """Merge the variables of this process with `env_vars`; later ones win."""
    env = dict(os.environ)
    for each in env_vars:
        env.update(each)
    return env


def announce(program: EntryPoint, argv: Sequence[str]) -> None:
    """Log the command that runs, and its folder."""
    log.info(f"running {program.name} in {program.code_dir}: {log.redact.command(argv)}")


def _named(name: str | None) -> str:
    """Return the name of a program, which must not be empty."""
    if not name:
        raise EntryPointError(
            "no entry point is named: set the hyperparameter sagemaker_program, or SAGEMAKER_PROGRAM in the image, "
            "to the name of the program"
        )
    return name


def _module_name(name: str) -> str:
    """Return the dotted name of the module in the file `name`; empty if that cannot be a module."""
    dotted = os.path.normpath(name[:-3] if name.endswith(".py") else name).replace("/", ".")
    return dotted if _is_module(dotted) else ""


def _is_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
