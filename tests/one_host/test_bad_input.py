"""What users, images and networks get wrong, and what the job's owner is told.

A table: each case takes a job that would succeed, breaks it, and says which words the cause must have.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import subprocess
import tarfile
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

import pytest
from archives import file, hard_link, member, symlink, tar, zip_file, zip_member
from jobs import TRAIN, Finished, Job

Setup = Callable[[Job], None]

#: What the good job's program prints.
RAN = "the program ran\n"

#: In place of a value: the key is not there at all.
ABSENT = object()


def case(setup: Setup, *words: str, id: str, exit_code: int = 1, stdout: str = "") -> Any:
    """One row of the table: how to break the job, and the words of its cause."""
    return pytest.param(setup, words, exit_code, stdout, id=id)


@pytest.fixture
def job() -> Iterator[Job]:
    """A job below a short path, as /opt/ml is one: the cause of a failure has room for so much."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Job(Path(folder) / "ml")


# -- how to break a job --------------------------------------------------------------------


def all_of(*setups: Setup) -> Setup:
    """Break the job in several places."""

    def setup(job: Job) -> None:
        for each in setups:
            each(job)

    return setup


def config(name: str, content: str | bytes) -> Setup:
    """Write a configuration file as it is."""

    def setup(job: Job) -> None:
        data = content if isinstance(content, bytes) else content.encode("utf-8")
        (job.base / f"input/config/{name}.json").write_bytes(data)

    return setup


def no_config(*names: str) -> Setup:
    """Remove configuration files."""

    def setup(job: Job) -> None:
        for name in names:
            (job.base / f"input/config/{name}.json").unlink()

    return setup


def resources(**changed: object) -> Setup:
    """Change resourceconfig.json, which has one key a line."""
    return config("resourceconfig", one_key_a_line({**RESOURCES, **changed}))


def channels(changed: dict[str, object]) -> Setup:
    """Add channels to inputdataconfig.json, which has one channel a line."""
    return config("inputdataconfig", one_key_a_line({"training": {"TrainingInputMode": "File"}, **changed}))


def hyperparameters(**changed: object) -> Setup:
    """Change hyperparameters.json, which the SageMaker SDK wrote."""
    values = {"sagemaker_program": "train.py", **changed}
    encoded = {name: json.dumps(value) for name, value in values.items() if value is not ABSENT}
    return config("hyperparameters", one_key_a_line(encoded))


def variables(**changed: str) -> Setup:
    """Set variables of the container."""
    return lambda job: job.env.update(changed)


def program(name: str, content: str | bytes = "print('the program ran')") -> Setup:
    """Have a file in the code folder, and make it the entry point."""

    def setup(job: Job) -> None:
        file = job.code_dir / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode("utf-8"))
        hyperparameters(sagemaker_program=name)(job)

    return setup


def entry_point(name: object) -> Setup:
    """Name an entry point, of which there is no file."""
    return hyperparameters(sagemaker_program=name)


def files(*names: str, text: str = "") -> Setup:
    """Have files in the code folder."""

    def setup(job: Job) -> None:
        for name in names:
            job.write(name, text)

    return setup


def source(name: object) -> Setup:
    """Say that the code comes from elsewhere; `{base}` is the job's base folder."""

    def setup(job: Job) -> None:
        value = name.format(base=job.base) if isinstance(name, str) else name
        hyperparameters(sagemaker_submit_directory=value)(job)

    return setup


def requirements(content: str | bytes, **more_variables: str) -> Setup:
    """Have a requirements.txt, and an installer that says no more than it must and asks no other computer."""

    def setup(job: Job) -> None:
        (job.code_dir / "requirements.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        job.env.update(PIP_NO_INDEX="1", PIP_QUIET="1", **more_variables)

    return setup


def project(text: str) -> Setup:
    """Have code that is a project."""
    return all_of(files("pyproject.toml", text=text), variables(PIP_NO_INDEX="1", PIP_QUIET="1"))


def archive(content: bytes, name: str = "source.tar.gz") -> Setup:
    """Have the code come in this local archive."""

    def setup(job: Job) -> None:
        (job.base / name).write_bytes(content)
        source(f"{{base}}/{name}")(job)

    return setup


def trainer(text: str, attribute: str = "MyTrainer") -> Setup:
    """Have an image with this training module."""

    def setup(job: Job) -> None:
        folder = job.base / "site-packages"
        folder.mkdir()
        header = "from sagemaker_framework import *\n"
        (folder / "my_container.py").write_text(header + textwrap.dedent(text), "utf-8")
        job.env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        job.env["SAGEMAKER_TRAINING_MODULE"] = f"my_container:{attribute}"

    return setup


def hook(text: str) -> Setup:
    """Have an image whose Trainer has this method."""
    return trainer("class MyTrainer(Trainer):\n" + textwrap.indent(textwrap.dedent(text), "    "))


def strategy(text: str) -> Setup:
    """Have an image whose strategy has this method."""
    mine = "class Mine(SingleProcessStrategy):\n" + textwrap.indent(text, "    ")
    return trainer(f"{mine}\nclass MyTrainer(Trainer):\n    def strategy(self): return Mine(self.env)\n")


def in_place_of(name: str, make: Callable[[Path], object]) -> Setup:
    """Have something else where a file or folder below the base folder was."""

    def setup(job: Job) -> None:
        path = job.base / name
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        make(path)

    return setup


def one_key_a_line(values: Mapping[str, object]) -> str:
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items() if value is not ABSENT]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def tgz(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A .tar.gz with the good program and these members."""
    return gzip.compress(tar(PROGRAM, *members))


def zipped(*names: str) -> bytes:
    """A .zip with these members."""
    return zip_file(*((zip_member(name), b"") for name in names))


RESOURCES = {"current_host": "algo-1", "network_interface_name": "eth0", "hosts": ["algo-1", "algo-2"]}
GROUP = {"instance_group_name": "workers", "instance_type": "ml.m5.xlarge", "hosts": ["algo-1", "algo-2"]}
PROGRAM = file("train.py", b"print('the program ran')\n")
DATA = file("data", random.Random(0).randbytes(300_000))  # Nothing that gzip makes smaller.


# -- the table -------------------------------------------------------------------------------

CONFIGURATION = [
    case(no_config("hyperparameters"), "hyperparameters.json is missing", id="no hyperparameters.json"),
    case(no_config("resourceconfig"), "resourceconfig.json is missing", id="no resourceconfig.json"),
    case(no_config("inputdataconfig"), "inputdataconfig.json is missing", id="no inputdataconfig.json"),
    case(
        no_config("hyperparameters", "resourceconfig", "inputdataconfig"),
        "hyperparameters.json is missing",
        "resourceconfig.json is missing",
        "inputdataconfig.json is missing",
        id="none of the files",
    ),
    case(
        in_place_of("input", lambda path: None),
        "hyperparameters.json is missing",
        "resourceconfig.json is missing",
        "inputdataconfig.json is missing",
        id="no input folder",
    ),
    case(
        in_place_of("input/config", Path.touch),
        "input/config/hyperparameters.json cannot be read: Not a directory",
        id="a file in place of the folder",
    ),
    case(
        in_place_of("input/config/resourceconfig.json", Path.mkdir),
        "resourceconfig.json cannot be read: Is a directory",
        id="a folder in place of the file",
    ),
    case(
        in_place_of("input/config/resourceconfig.json", lambda path: path.symlink_to(path)),
        "resourceconfig.json cannot be read: Too many levels of symbolic links",
        id="a symlink to itself",
    ),
    case(config("resourceconfig", ""), "resourceconfig.json is empty", id="empty file"),
    case(config("hyperparameters", " \n\n"), "hyperparameters.json is empty", id="blank file"),
    case(config("inputdataconfig", b"\xef\xbb\xbf"), "inputdataconfig.json is empty", id="byte order mark alone"),
    case(
        config("hyperparameters", '{\n "a": "1",\n "b": "'),
        "hyperparameters.json, line 3: not valid JSON",
        id="truncated in a string",
    ),
    case(
        config("resourceconfig", '{\n "current_host": "algo-1",\n'),
        "resourceconfig.json, line 3: not valid JSON",
        id="truncated after a comma",
    ),
    case(
        config("inputdataconfig", b'\xef\xbb\xbf{\n "training": {},\n "test": {]\n}'),
        "inputdataconfig.json, line 3: not valid JSON",
        id="mistyped after a byte order mark",
    ),
    case(
        config("hyperparameters", "{'epochs': '3'}"),
        "hyperparameters.json, line 1: not valid JSON",
        id="Python in place of JSON",
    ),
    case(config("hyperparameters", "epochs: 3\n"), "hyperparameters.json, line 1: not valid JSON", id="YAML"),
    case(config("resourceconfig", "{} {}"), "resourceconfig.json, line 1: not valid JSON", id="two documents"),
    case(
        config("hyperparameters", '{"city": "Zürich"}'.encode("latin-1")),
        "hyperparameters.json is not UTF-8",
        id="Latin-1",
    ),
    case(config("resourceconfig", "{}".encode("utf-16")), "resourceconfig.json is not UTF-8", id="UTF-16"),
    case(config("inputdataconfig", b"\x1f\x8b\x08\x00"), "inputdataconfig.json is not UTF-8", id="compressed"),
    case(config("hyperparameters", b"\0" * 4096), "hyperparameters.json, line 1: not valid JSON", id="NULs"),
    case(config("hyperparameters", "[]"), "hyperparameters.json, line 1: holds a list, not an object", id="a list"),
    case(config("resourceconfig", '"algo-1"'), "resourceconfig.json, line 1: holds a string", id="a string"),
    case(config("resourceconfig", "null"), "resourceconfig.json, line 1: holds null", id="null"),
    case(config("inputdataconfig", "3.5"), "inputdataconfig.json, line 1: holds a number", id="a number"),
    case(config("inputdataconfig", "true"), "inputdataconfig.json, line 1: holds a boolean", id="a boolean"),
    case(
        config("hyperparameters", "[" * 100_000),
        "hyperparameters.json is nested too deeply",
        id="100,000 lists in each other",
    ),
    case(
        config("hyperparameters", '{"deep": ' * 100_000 + "1" + "}" * 100_000),
        "hyperparameters.json is nested too deeply",
        id="100,000 objects in each other",
    ),
    case(
        config("resourceconfig", "{}"),
        "resourceconfig.json, line 1: 'current_host' is missing",
        "'hosts' is missing",
        id="an empty object",
    ),
    case(
        all_of(config("hyperparameters", "{"), resources(hosts="algo-1"), channels({"test": "s3://bucket/test"})),
        "hyperparameters.json, line 1",
        "resourceconfig.json, line 4: 'hosts'",
        "inputdataconfig.json, line 3: 'test'",
        id="each file broken",
    ),
]

RESOURCE_CONFIG = [
    case(resources(current_host=ABSENT), "line 1: 'current_host' is missing", id="no current_host"),
    case(resources(current_host=None), "line 2: 'current_host' is null, not a string", id="current_host null"),
    case(resources(current_host=1), "line 2: 'current_host' is a number, not a string", id="current_host a number"),
    case(resources(current_host=["algo-1"]), "line 2: 'current_host' is a list", id="current_host a list"),
    case(resources(current_host=""), "line 2: 'current_host' is an empty string", id="current_host empty"),
    case(
        resources(current_host="algo-3"),
        "resourceconfig.json, line 2: 'current_host' is 'algo-3', which is not among the hosts",
        id="current_host not among the hosts",
    ),
    case(
        resources(current_host="algo\0", hosts=["algo\0"]),
        "line 4: 'hosts'",
        "'algo\\x00'",
        id="a NUL in a host's name",
    ),
    case(
        resources(current_host="algo\ud800", hosts=["algo\ud800"]),
        "line 4: 'hosts'",
        "'algo\\ud800'",
        id="half a surrogate pair in a host's name",
    ),
    case(resources(hosts=ABSENT), "line 1: 'hosts' is missing", id="no hosts"),
    case(resources(hosts=None), "line 4: 'hosts' is missing", id="hosts null"),
    case(resources(hosts="algo-1"), "line 4: 'hosts' is not a list of one or more host names", id="hosts a string"),
    case(
        resources(hosts={"algo-1": {}}), "line 4: 'hosts' is not a list of one or more host names", id="hosts an object"
    ),
    case(resources(hosts=[]), "line 4: 'hosts' is not a list of one or more host names", id="hosts an empty list"),
    case(
        resources(hosts=["algo-1", 2]),
        "line 4: 'hosts' is not a list of one or more host names",
        id="a host is a number",
    ),
    case(
        resources(hosts=["algo-1", ""]),
        "line 4: 'hosts' is not a list of one or more host names",
        id="a host with no name",
    ),
    case(
        resources(hosts=["algo-1", "algo-2", "algo-1"]),
        "line 4: 'hosts' names algo-1 more than once",
        id="a host twice",
    ),
    case(resources(network_interface_name=["eth0"]), "line 3: 'network_interface_name' is a list", id="interfaces"),
    case(resources(network_interface_name=""), "line 3: 'network_interface_name' is an empty", id="no interface"),
    case(resources(current_instance_type=4), "line 5: 'current_instance_type' is a number", id="instance type"),
    case(resources(current_group_name={}), "line 5: 'current_group_name' is an object", id="group name an object"),
    case(resources(topology="flat"), "line 5: 'topology' is a string, not a list", id="topology a string"),
    case(resources(instance_groups="workers"), "line 5: 'instance_groups' is not a list of", id="groups a string"),
    case(resources(instance_groups=["workers"]), "line 5: 'instance_groups' is not a list of", id="group a string"),
    case(
        resources(instance_groups=[{"hosts": ["algo-1"]}]),
        "line 5: 'instance_groups' is not a list of objects with an 'instance_group_name'",
        id="group with no name",
    ),
    case(
        resources(instance_groups=[{**GROUP, "hosts": "algo-1"}]),
        "line 5: 'instance_groups' is not a list of objects",
        "'hosts'",
        id="group with a string for hosts",
    ),
    case(
        resources(instance_groups=[{**GROUP, "hosts": ["algo-1", "algo-9"]}], current_group_name="workers"),
        "line 5: 'instance_groups' names algo-9, which is not among the hosts",
        id="group with a host of no job",
    ),
    case(
        resources(instance_groups=[GROUP, GROUP], current_group_name="workers"),
        "line 5: 'instance_groups' names workers more than once",
        id="group twice",
    ),
    case(
        resources(current_group_name="worker", instance_groups=[GROUP]),
        "line 5: 'current_group_name' is 'worker', which is not among the instance_groups",
        id="current group of no such name",
    ),
]

INPUT_DATA_CONFIG = [
    case(channels({"test": "s3://b/c"}), "inputdataconfig.json, line 3: 'test' is a string", id="channel a string"),
    case(channels({"test": None}), "inputdataconfig.json, line 3: 'test' is null", id="channel null"),
    case(channels({"test": []}), "inputdataconfig.json, line 3: 'test' is a list", id="channel a list"),
    case(channels({"": {}}), "line 3: '' is not a channel name", id="channel with no name"),
    case(channels({"..": {}}), "line 3: '..' is not a channel name", id="channel .."),
    case(channels({"a/b": {}}), "line 3: 'a/b' is not a channel name", id="channel in a folder"),
    case(channels({"/etc": {}}), "line 3: '/etc' is not a channel name", id="channel with an absolute name"),
    case(channels({"a\0b": {}}), "line 3: 'a\\x00b' is not a channel name", id="channel with a NUL"),
    case(channels({"a\ud800": {}}), "line 3: 'a\\ud800' is not a channel name", id="channel with a lone surrogate"),
    case(
        channels({"test": 1, "validation": 2}),
        "line 3: 'test' is a number",
        "line 4: 'validation' is a number",
        id="two bad channels",
    ),
]

HYPERPARAMETERS = [
    case(entry_point(5), "'sagemaker_program' is 5", id="program a number"),
    case(entry_point(["train.py"]), "'sagemaker_program' is ['train.py']", id="program a list"),
    case(entry_point(True), "'sagemaker_program' is True", id="program a boolean"),
    case(entry_point("train\0.py"), "'sagemaker_program' is 'train\\x00.py'", id="program with a NUL"),
    case(entry_point("\ud800.py"), "the entry point '\\ud800.py' is not in", id="program with a lone surrogate"),
    case(source(5), "'sagemaker_submit_directory' is 5", id="source a number"),
    case(source({"s3": "bucket"}), "'sagemaker_submit_directory' is {'s3': 'bucket'}", id="source an object"),
    case(source("s3://b/\0"), "'sagemaker_submit_directory' is 's3://b/\\x00'", id="source with a NUL"),
    case(
        hyperparameters(sagemaker_container_log_level="LOUD"),
        "sagemaker_container_log_level: 'LOUD' is not a log level",
        id="log level of no such name",
    ),
    case(
        hyperparameters(sagemaker_container_log_level=[20]),
        "sagemaker_container_log_level: [20] is not a log level",
        id="log level a list",
    ),
    case(
        hyperparameters(sagemaker_container_log_level=10.5),
        "sagemaker_container_log_level: 10.5 is not a log level",
        id="log level between two",
    ),
    case(
        hyperparameters(sagemaker_container_log_level=float("inf")),
        "sagemaker_container_log_level: inf is not a log level",
        id="log level infinite",
    ),
    case(
        hyperparameters(sagemaker_container_log_level=float("nan")),
        "sagemaker_container_log_level: nan is not a log level",
        id="log level not a number",
    ),
    case(
        variables(SAGEMAKER_CONTAINER_LOG_LEVEL="chatty"),
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        "'chatty' is not a log level",
        id="log level of the image",
    ),
    case(
        variables(SAGEMAKER_FRAMEWORK_GRACE_SECONDS="soon"),
        "SAGEMAKER_FRAMEWORK_GRACE_SECONDS is 'soon', not a number of seconds",
        id="grace no number",
    ),
    case(
        variables(SAGEMAKER_FRAMEWORK_GRACE_SECONDS="-1"),
        "SAGEMAKER_FRAMEWORK_GRACE_SECONDS is '-1'",
        id="grace negative",
    ),
    case(
        variables(SAGEMAKER_FRAMEWORK_GRACE_SECONDS="inf"),
        "SAGEMAKER_FRAMEWORK_GRACE_SECONDS is 'inf'",
        id="grace without end",
    ),
    case(
        hyperparameters(sagemaker_parameter_server_enabled=True),
        "sagemaker_parameter_server_enabled, for which this image has no strategy",
        id="parameter servers without a strategy",
    ),
    case(
        hyperparameters(sagemaker_parameter_server_enabled=True, sagemaker_pytorch_ddp_enabled=True),
        "sagemaker_parameter_server_enabled and sagemaker_pytorch_ddp_enabled, which do not go together",
        id="two distributions",
    ),
    case(
        hyperparameters(sagemaker_mpi_enabled="yes, please"),
        "'sagemaker_mpi_enabled' is 'yes, please', neither true nor false",
        id="a switch neither on nor off",
    ),
    case(
        hyperparameters(sagemaker_distribution_instance_groups="workers"),
        "'sagemaker_distribution_instance_groups' is not a list of group names",
        id="distribution groups a string",
    ),
    case(
        hyperparameters(sagemaker_distribution_instance_groups=[1]),
        "'sagemaker_distribution_instance_groups' is not a list of group names",
        id="distribution group a number",
    ),
    case(
        all_of(
            resources(instance_groups=[GROUP], current_group_name="workers"),
            hyperparameters(sagemaker_distribution_instance_groups=["workers", "wrokers"]),
        ),
        "'sagemaker_distribution_instance_groups' names wrokers",
        "workers",
        id="distribution group of no such name",
    ),
    case(
        hyperparameters(notes="x" * 200_000),
        "train.py cannot be started: its arguments are longer than the kernel allows",
        id="a value of 200,000 characters",
    ),
    case(
        hyperparameters(sagemaker_program="train.sh", sagemaker_container_log_level="LOUD", password="hunter22"),
        "sagemaker_container_log_level",
        id="a secret beside a broken value",
    ),
]

ENTRY_POINTS = [
    case(entry_point(ABSENT), "no entry point is named", "sagemaker_program", "SAGEMAKER_PROGRAM", id="none named"),
    case(entry_point(""), "no entry point is named", id="name empty"),
    case(entry_point(None), "no entry point is named", id="name null"),
    case(entry_point("missing.py"), "'missing.py' is not in", "which holds train.py", id="no such script"),
    case(entry_point("missing.sh"), "'missing.sh' is not in", "which holds train.py", id="no such shell script"),
    case(entry_point("bin/missing-tool"), "'bin/missing-tool' is not in", id="no such program"),
    case(entry_point("src/train.py"), "'src/train.py' is not in", "which holds train.py", id="no such folder"),
    case(entry_point("train.py --epochs 3"), "'train.py --epochs 3' is not in", id="name with arguments"),
    case(entry_point("train.py\n"), "'train.py\\n' is not in", id="name with a newline"),
    case(entry_point("x" * 5000 + ".py"), "the entry point 'xxx", id="name of 5,000 characters"),
    case(variables(SAGEMAKER_PROGRAM="image.py"), "'image.py' is not in", id="no such script in the image"),
    case(entry_point("../train.py"), "'../train.py' is outside of the code folder", id="parent folder"),
    case(entry_point("src/../../train.py"), "'src/../../train.py' is outside of", id="parent of the folder"),
    case(entry_point("/bin/true"), "'/bin/true' is outside of the code folder", id="absolute name"),
    case(entry_point("-m"), "'-m' does not name a module", id="-m alone"),
    case(entry_point("-m  "), "'-m  ' does not name a module", id="-m with blanks"),
    case(entry_point("-m pkg/mod.py"), "'-m pkg/mod.py' does not name a module", id="-m with a file"),
    case(entry_point("-m pkg..mod"), "'-m pkg..mod' does not name a module", id="-m with two dots"),
    case(entry_point("-m no_such_module"), "exited with code 1", "No module named no_such_module", id="-m unknown"),
    case(
        in_place_of("code", Path.touch),
        "'train.py' is not in",
        "code, which is not a folder",
        id="code folder is a file",
    ),
    case(
        in_place_of("code", lambda path: None),
        "'train.py' is not in",
        "code, which is not a folder",
        id="no code folder",
    ),
    case(
        in_place_of("code/train.py", lambda path: path.symlink_to("gone.py")),
        "'train.py' is not in",
        id="symlink to nowhere",
    ),
    case(in_place_of("code/train.py", os.mkfifo), "'train.py' is not in", id="FIFO"),
    case(
        in_place_of("code/train.py", Path.mkdir),
        "'train.py' is a folder that holds no package with a __main__.py",
        id="folder called train.py",
    ),
    case(
        all_of(files("train.sh/run.sh"), entry_point("train.sh")),
        "'train.sh' is a folder that holds no package with a __main__.py",
        id="folder called train.sh",
    ),
    case(
        all_of(files("src/train.py"), entry_point("src")),
        "'src' is a folder that holds no package with a __main__.py",
        id="folder without a program",
    ),
    case(
        all_of(files("src/a/__main__.py", "src/b/__main__.py"), entry_point("src")),
        "'src' is a folder that holds more than one package (a, b) with a __main__.py",
        id="folder with two programs",
    ),
    case(entry_point("."), "'.' is a folder that holds no package with a __main__.py", id="the code folder itself"),
    case(
        program("train.py", "import os\nif os.environ:\nprint('no indent')\n"),
        "train.py exited with code 1: IndentationError",
        id="script with a wrong indent",
    ),
    case(
        program("train.py", "print('one'"), "train.py exited with code 1: SyntaxError", id="script with an open bracket"
    ),
    case(program("train.py", b"print('\xfc')"), "train.py exited with code 1: SyntaxError", id="script in Latin-1"),
    case(program("train.py", b"pri\0nt(1)"), "train.py exited with code 1: ", id="script with a NUL"),
    case(
        program("train.py", "import no_such_library"),
        "train.py exited with code 1: ModuleNotFoundError: No module named 'no_such_library'",
        id="script without its library",
    ),
    case(
        program("train.py", "import sys; sys.exit('no data in the channel')"),
        "train.py exited with code 1: no data in the channel",
        id="script that exits with a string",
    ),
    case(
        program("train.py", "raise SystemExit(42)"), "train.py exited with code 42", id="script exits 42", exit_code=42
    ),
    case(
        program("train.py", "import os; os.abort()"),
        "train.py was killed by signal 6 (SIGABRT)",
        id="script that aborts",
        exit_code=134,
    ),
    case(
        program("train.sh", "#!/bin/sh\r\necho hello\r\n"),
        "'train.sh' has Windows line endings",
        "dos2unix",
        id="shell script with Windows line endings",
    ),
    case(
        program("train.sh", "echo hello\r\nexit 0\r\n"),
        "'train.sh' has Windows line endings",
        id="shell script with Windows line endings and no interpreter",
    ),
    case(
        program("train.sh", "#!/no/such/shell\n"),
        "train.sh cannot be started: /no/such/shell is not there",
        id="interpreter that is not there",
    ),
    case(
        program("train.sh", "#!/usr/bin/env no-such-shell\n"),
        "train.sh exited with code 127",
        "no-such-shell",
        id="interpreter that env does not find",
        exit_code=127,
    ),
    case(
        program("train.sh", "#!/etc\n"),
        "train.sh cannot be started: /etc: Permission denied",
        id="interpreter that is a folder",
    ),
    case(
        program("train.sh", "if true; then\n"),
        "train.sh exited with code 2",
        "train.sh",
        id="shell script that ends too early",
        exit_code=2,
    ),
    case(
        program("train.sh", "no-such-command\n"),
        "train.sh exited with code 127",
        "no-such-command",
        id="shell script with an unknown command",
        exit_code=127,
    ),
    case(
        program("tool", b"\x7fELF" + b"\0" * 100),
        "tool cannot be started: ./tool is not a program for this machine",
        id="broken ELF file",
    ),
    case(
        program("tool", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        "'tool' is neither a script nor a program for this machine",
        id="picture as a program",
    ),
    case(
        program("tool", DATA[1][:1000]),
        "'tool' is neither a script nor a program for this machine",
        id="random bytes as a program",
    ),
    case(
        program("source.tar.gz", tgz()),
        "'source.tar.gz' is neither a script nor a program for this machine",
        id="archive as a program",
    ),
]

SOURCES = [
    case(source("{base}/missing.tar.gz"), "missing.tar.gz", id="no such archive"),
    case(source("{base}/missing"), "missing", id="no such source folder"),
    case(source("relative/folder"), "relative/folder", id="no such relative folder"),
    case(source("ftp://host/source.tar.gz"), "ftp://host/source.tar.gz", "s3://", id="FTP"),
    case(source("https://host/source.tar.gz"), "https://host/source.tar.gz", "s3://", id="HTTPS"),
    case(source("S4://bucket/source.tar.gz"), "S4://bucket/source.tar.gz", "s3://", id="a scheme mistyped"),
    case(source("s3://"), "s3:// does not name an S3 object", id="S3 URI with nothing"),
    case(source("s3://bucket"), "s3://bucket does not name an S3 object", id="S3 URI with no key"),
    case(source("s3:///source.tar.gz"), "s3:///source.tar.gz does not name an S3 object", id="S3 URI with no bucket"),
    case(archive(b""), "source.tar.gz", id="archive of no bytes"),
    case(archive(b"print('hello')\n" * 100), "source.tar.gz", "archive", id="script called archive"),
    case(archive(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"), "source.tar.gz", id="S3's answer"),
    case(archive(tgz(DATA)[:20_000]), "source.tar.gz is not an intact", "truncated", id="truncated"),
    case(archive(tgz(DATA)[:-4]), "source.tar.gz is not an intact", id="truncated in the checksum"),
    case(archive(tgz()[:5]), "source.tar.gz is not an intact", id="truncated in the header"),
    case(
        archive(tgz()[:-8] + b"\0" * 8),
        "source.tar.gz is not an intact gzip-compressed tar archive",
        id="wrong checksum",
    ),
    case(
        archive(tar(PROGRAM, DATA)[:5000], name="source.tar"),
        "source.tar is not an intact tar archive",
        id="plain tar truncated",
    ),
    case(archive(gzip.compress(tar())), "source.tar.gz is an empty archive", id="archive without members"),
    case(archive(zipped()), "source.tar.gz is an empty archive", id="zip without members"),
    case(archive(zipped("train.py")[:-10], name="source.zip"), "source.zip is not an intact zip", id="zip truncated"),
    case(archive(zipped("../escaped")), "the member '../escaped' would be outside", id="zip member escapes"),
    case(archive(zipped("/escaped")), "the member '/escaped' would be outside", id="zip member absolute"),
    case(archive(tgz(file("../escaped"))), "the member '../escaped' would be outside", id="member escapes"),
    case(
        archive(tgz(file("a/../../escaped"))), "the member 'a/../../escaped' would be outside", id="member turns back"
    ),
    case(archive(tgz(file("/escaped"))), "the member '/escaped' would be outside", id="member absolute"),
    case(
        archive(tgz(member("null", tarfile.CHRTYPE))),
        "the member 'null' is a device",
        id="character device",
    ),
    case(archive(tgz(member("disk", tarfile.BLKTYPE))), "the member 'disk' is a device", id="block device"),
    case(archive(tgz(member("pipe", tarfile.FIFOTYPE))), "the member 'pipe' is a FIFO", id="FIFO member"),
    case(
        archive(tgz(symlink("link", "/etc/passwd"))),
        "the member 'link' is a symlink to '/etc/passwd'",
        id="symlink to an absolute name",
    ),
    case(
        archive(tgz(symlink("a/link", "../../escaped"))),
        "the member 'a/link' is a symlink to '../../escaped'",
        id="symlink to outside",
    ),
    case(
        archive(tgz(symlink("here", "."), file("here/escaped"))),
        "the member 'here/escaped' would be written through the symlink 'here'",
        id="member through a symlink",
    ),
    case(
        archive(tgz(hard_link("link", "../../etc/passwd"))),
        "the member 'link' is a hard link to '../../etc/passwd'",
        id="hard link to outside",
    ),
    case(
        archive(tgz(hard_link("link", "no-such-member"))),
        "the member 'link' is a hard link to 'no-such-member'",
        id="hard link to nothing",
    ),
    case(
        archive(tgz(symlink(".", "x"))),
        "the member '.' ",
        id="member in place of the code folder",
    ),
    case(
        all_of(archive(tgz()), in_place_of("code", Path.touch)),
        "code",
        id="a file where the code is to go",
    ),
    case(
        all_of(archive(gzip.compress(tar(file("main.py")))), in_place_of("code/train.py", lambda path: None)),
        "'train.py' is not in",
        "which holds main.py",
        id="archive without the program",
    ),
]

S3_SOURCES = [
    case(
        source("s3://no-such-bucket/source.tar.gz"),
        "s3://no-such-bucket/source.tar.gz cannot be downloaded",
        "the bucket does not exist",
        id="no such bucket",
    ),
    case(
        source("s3://code/no-such-key.tar.gz"),
        "s3://code/no-such-key.tar.gz cannot be downloaded",
        "there is no such object",
        id="no such key",
    ),
    case(source("s3://code/folder/"), "s3://code/folder/ does not name an S3 object", id="key of a folder"),
    case(
        source("s3://code/train.py"),
        "s3://code/train.py is not an archive",
        ".tar.gz",
        id="script in place of the archive",
    ),
    case(source("s3://code/truncated.tar.gz"), "s3://code/truncated.tar.gz is not an intact", id="object truncated"),
    case(source("s3://code/escapes.tar.gz"), "the member '../escaped' would be outside", id="object's member escapes"),
    case(source("s3://code/nothing"), "s3://code/nothing is not an archive", id="object of no bytes"),
    case(
        all_of(source("s3://code/train.py"), variables(S3_ENDPOINT_URL="not a URL")),
        "s3://code/train.py cannot be downloaded",
        "not a URL",
        id="endpoint that is no URL",
    ),
    case(
        all_of(source("s3://code/train.py"), variables(AWS_ACCESS_KEY_ID="")),
        "s3://code/train.py cannot be downloaded",
        "credentials",
        id="no credentials",
    ),
]

REQUIREMENTS = [
    case(
        requirements("no-such-package==1.0\n"),
        "requirements.txt",
        "no-such-package==1.0",
        id="package that is not there",
    ),
    case(requirements("scipy=>1.0\n"), "requirements.txt", "scipy=>1.0", id="requirement mistyped"),
    case(requirements("-r more.txt\n"), "requirements.txt", "more.txt", id="requirements that are not there"),
    case(requirements(b"\xff\xfen\0u\0m"), "requirements.txt", id="requirements in UTF-16 cut off"),
    case(
        all_of(
            project("[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"),
            files("backend.py", text="raise RuntimeError('no version')\n"),
        ),
        "the project in",
        "RuntimeError: no version",
        id="project that cannot be built",
    ),
    case(project("[project]\nname = 'x\n"), "the project in", "TOMLDecodeError", id="pyproject.toml mistyped"),
    case(
        requirements("numpy\n", CA_REPOSITORY_ARN="my-repository"),
        "CA_REPOSITORY_ARN=my-repository is not of the form arn:aws:codeartifact:",
        id="CodeArtifact repository mistyped",
    ),
]

TRAINING_MODULE = [
    case(
        variables(SAGEMAKER_TRAINING_MODULE="my_container"),
        "SAGEMAKER_TRAINING_MODULE=my_container is not of the form pkg.mod:Class",
        id="no colon",
    ),
    case(variables(SAGEMAKER_TRAINING_MODULE=":MyTrainer"), "=:MyTrainer is not of the form", id="no module"),
    case(variables(SAGEMAKER_TRAINING_MODULE="my_container:"), "=my_container: is not of the form", id="no name"),
    case(
        variables(SAGEMAKER_TRAINING_MODULE="no_such_module:MyTrainer"),
        "SAGEMAKER_TRAINING_MODULE=no_such_module:MyTrainer",
        "ModuleNotFoundError: No module named 'no_such_module'",
        id="unknown module",
    ),
    case(
        variables(SAGEMAKER_TRAINING_MODULE=".my_container:MyTrainer"),
        "SAGEMAKER_TRAINING_MODULE=.my_container:MyTrainer",
        id="relative module",
    ),
    case(
        trainer("raise ValueError('no GPU\\nat all')"),
        "importing my_container failed: ValueError: no GPU",
        id="module that raises",
    ),
    case(trainer("def broken(:"), "importing my_container failed: SyntaxError", id="module with a syntax error"),
    case(trainer("raise SystemExit(3)"), "importing my_container called sys.exit(3)", id="module exits 3", exit_code=3),
    case(trainer("", "MyTrainer"), "my_container:MyTrainer", "has no MyTrainer", id="unknown attribute"),
    case(trainer("class A: pass", "A.B.C"), "my_container:A.B.C", "has no A.B.C", id="unknown nested attribute"),
    case(trainer("class MyTrainer: pass"), "MyTrainer is a class, but not a subclass of", id="a class of another kind"),
    case(trainer("MyTrainer = 3"), "MyTrainer is neither a class nor a function", id="attribute a number"),
    case(
        trainer("""
            from abc import abstractmethod
            class Base(Trainer):
                @abstractmethod
                def model(self): ...
            class MyTrainer(Base):
                pass
        """),
        "MyTrainer failed: TypeError: Can't instantiate abstract class MyTrainer",
        "model",
        id="abstract method missing",
    ),
    case(
        hook("def __init__(self, env): raise KeyError('licence')"),
        "MyTrainer failed: KeyError: 'licence'",
        id="constructor raises",
    ),
    case(hook("def __init__(self): pass"), "MyTrainer failed: TypeError: ", id="constructor takes nothing"),
    case(
        hook("def __init__(self, env): pass"),
        "MyTrainer.__init__ does not call super().__init__(env)",
        id="constructor does not call super",
    ),
    case(
        hook("def pre_train(self): raise RuntimeError('no licence')"),
        "MyTrainer.pre_train failed: RuntimeError: no licence",
        id="pre_train raises",
    ),
    case(
        hook("def pre_train(self): raise errors.ConfigurationError('the hyperparameter depth is too large')"),
        "the hyperparameter depth is too large",
        id="pre_train raises ours",
    ),
    case(
        hook("def pre_train(self): raise KeyboardInterrupt"),
        "MyTrainer.pre_train failed: KeyboardInterrupt",
        id="pre_train raises KeyboardInterrupt",
    ),
    case(
        hook("async def pre_train(self): pass"),
        "MyTrainer.pre_train is async, so it has not run",
        id="pre_train is async",
    ),
    case(
        hook("def pre_train(self): raise errors.FrameworkError('')"),
        "FrameworkError",
        id="pre_train raises ours without a word",
    ),
    case(
        hook("def pre_train(self): raise errors.TrainerError('no licence', exit_code=0)"),
        "no licence",
        id="pre_train raises ours with exit code 0",
    ),
    case(
        trainer("""
            class Mine(FrameworkError):
                def __init__(self, what): self.what = what
            class MyTrainer(Trainer):
                def pre_train(self): raise Mine('no licence')
        """),
        "no licence",
        id="pre_train raises its own kind of ours",
    ),
    case(hook("def source(self): return 1 / 0"), "MyTrainer.source failed: ZeroDivisionError", id="source raises"),
    case(hook("def source(self): return 5"), "MyTrainer.source returned 5", id="source returns a number"),
    case(
        hook("def entry_point(self): return {}['x']"), "MyTrainer.entry_point failed: KeyError", id="entry_point raises"
    ),
    case(
        hook("def entry_point(self): return 'train.py'"),
        "MyTrainer.entry_point returned 'train.py', not an EntryPoint",
        id="entry_point a string",
    ),
    case(
        hook("def entry_point(self): return ShellEntryPoint(self.env)"),
        "MyTrainer.entry_point failed: TypeError",
        id="entry_point made wrongly",
    ),
    case(
        hook("def entry_point(self): return PythonEntryPoint(None, self.env.code_dir)"),
        "no entry point is named: set the hyperparameter sagemaker_program",
        id="entry_point made without a name",
    ),
    case(hook("def strategy(self): raise OSError('x')"), "MyTrainer.strategy failed: OSError: x", id="strategy raises"),
    case(
        hook("def strategy(self): return None"),
        "MyTrainer.strategy returned None, not a DistributionStrategy",
        id="strategy None",
    ),
    case(
        trainer("""
            class Mine(SingleProcessStrategy):
                def command(self, entry_point, args): raise LookupError('no mpirun')
            class MyTrainer(Trainer):
                def strategy(self): return Mine(self.env)
        """),
        "Mine.command failed: LookupError: no mpirun",
        id="strategy's command raises",
    ),
    *(
        case(
            strategy(f"def {mistake}"),
            f"Mine.{said}",
            id=f"strategy's {mistake}",
            stdout=RAN if "check_exit" in mistake else "",
        )
        for mistake, said in [
            ("command(self, entry_point, args): return []", "command returned [], not a list of strings that is not"),
            ("check_exit(self, result): return False", "check_exit returned False, not a FrameworkError or None"),
            ("check_exit(self, result): return 'bad'", "check_exit returned 'bad', not a FrameworkError or None"),
            ("__init__(self, env): self.made = True", "__init__ does not call super().__init__(env)"),
        ]
    ),
    case(
        trainer("""
            class Mine(SingleProcessStrategy):
                def start_servers(self, launch): launch("scheduler", ["/no/such/scheduler"])
            class MyTrainer(Trainer):
                def strategy(self): return Mine(self.env)
        """),
        "scheduler cannot be started: /no/such/scheduler is not there",
        id="server that is not there",
    ),
    case(
        trainer("""
            class Mine(PythonEntryPoint):
                def install(self, run, region=None): raise RuntimeError('no compiler')
            class MyTrainer(Trainer):
                def entry_point(self): return Mine('train.py', self.env.code_dir)
        """),
        "Mine.install failed: RuntimeError: no compiler",
        id="entry point's install raises",
    ),
    case(
        trainer("""
            class Mine(PythonEntryPoint):
                def env_vars(self): raise RuntimeError('no home')
            class MyTrainer(Trainer):
                def entry_point(self): return Mine('train.py', self.env.code_dir)
        """),
        "Mine.env_vars failed: RuntimeError: no home",
        id="entry point's env_vars raises",
    ),
    case(hook("def args(self): return 1 + ''"), "MyTrainer.args failed: TypeError", id="args raises"),
    case(
        hook("def args(self): return ['--epochs', 3]"),
        "MyTrainer.args returned ['--epochs', 3], not a list of strings",
        id="args with a number",
    ),
    case(
        hook("def env_vars(self): return {'EPOCHS': 3}"),
        "MyTrainer.env_vars returned {'EPOCHS': 3}, not a mapping of strings",
        id="env_vars with a number",
    ),
    case(
        hook("def post_train(self): raise ValueError('no model')"),
        "MyTrainer.post_train failed: ValueError: no model",
        id="post_train raises",
        stdout=RAN,
    ),
    case(
        hook("def cleanup(self): raise ValueError('still mounted')"),
        "MyTrainer.cleanup failed: ValueError: still mounted",
        id="cleanup raises",
        stdout=RAN,
    ),
    case(
        hook("""
            def pre_train(self): raise ValueError('the cause')
            def cleanup(self): raise ValueError('the consequence')
        """),
        "MyTrainer.pre_train failed: ValueError: the cause",
        id="pre_train and cleanup raise",
    ),
    case(trainer("def f(): raise ValueError('bad data')", "f"), "f failed: ValueError: bad data", id="function raises"),
    case(trainer("def f(env, more): pass", "f"), "my_container:f failed: TypeError: f()", id="function takes two"),
    case(
        trainer("import sys\ndef f(): sys.exit(3)", "f"),
        "my_container:f called sys.exit(3)",
        id="function exits 3",
        exit_code=3,
    ),
    case(
        trainer("def f(): raise SystemExit('no data')", "f"), "my_container:f exited: no data", id="exits with a string"
    ),
    case(trainer("def f(): raise SystemExit('')", "f"), "f called sys.exit('')", id="exits with an empty string"),
    case(trainer("def f(): raise SystemExit([])", "f"), "f called sys.exit([])", id="exits with an empty list"),
    case(trainer("async def f(): pass", "f"), "my_container:f is async, so it has not run", id="async function"),
    case(
        trainer("def f(): raise SystemExit(256)", "f"),
        "called sys.exit(256)",
        id="exits 256, which the system cuts to 0",
    ),
    case(trainer("def f(): raise SystemExit(-1)", "f"), "called sys.exit(-1)", id="function exits -1", exit_code=255),
    case(
        trainer("def f(env): entry_point.run(env.module_dir, None, env.to_cmd_args(), env.to_env_vars())", "f"),
        "no entry point is named: set the hyperparameter sagemaker_program",
        id="function runs nothing",
    ),
    case(
        trainer("def f(): entry_point.run('missing.py', [], {})", "f"),
        "'missing.py' is not in",
        id="function runs what is not there",
    ),
]


@pytest.mark.parametrize(
    ("setup", "words", "exit_code", "stdout"),
    CONFIGURATION
    + RESOURCE_CONFIG
    + INPUT_DATA_CONFIG
    + HYPERPARAMETERS
    + ENTRY_POINTS
    + SOURCES
    + REQUIREMENTS
    + TRAINING_MODULE,
)
def test_bad_input(job: Job, setup: Setup, words: tuple[str, ...], exit_code: int, stdout: str) -> None:
    """Bad input fails the job with the right exit code and a failure file whose first line, short, says what is wrong.

    The log says the same in its last line. No traceback shows the framework's own code, nothing is marked as
    successful, nothing is left running, nothing is written where it does not belong, and the program has not
    run if the fault could be known before.
    """
    good(job)
    setup(job)

    ended = run(job)

    assert exit_code == ended.returncode
    assert [] == [word for word in words if word not in ended.cause], ended.failure
    assert_reported_well(job, ended)
    assert stdout == ended.stdout


@pytest.mark.parametrize(("setup", "words", "exit_code", "stdout"), S3_SOURCES)
def test_bad_input_from_s3(
    job: Job, s3: Any, setup: Setup, words: tuple[str, ...], exit_code: int, stdout: str
) -> None:
    """The same goes for what is, or is not, on S3."""
    s3.put_object(Bucket="code", Key="train.py", Body=PROGRAM[1])
    s3.put_object(Bucket="code", Key="nothing", Body=b"")
    s3.put_object(Bucket="code", Key="truncated.tar.gz", Body=tgz(DATA)[:-100])
    s3.put_object(Bucket="code", Key="escapes.tar.gz", Body=tgz(file("../escaped")))

    test_bad_input(job, setup, words, exit_code, stdout)


def test_the_job_that_the_table_breaks_is_good(job: Job) -> None:
    """
    As it is before it is broken, the job succeeds.
    """
    good(job)

    ended = run(job)

    assert (0, RAN, None) == (ended.returncode, ended.stdout, ended.failure)
    assert ended.succeeded


def test_more_problems_than_a_line_holds(job: Job) -> None:
    """
    Where the first line is too short for all problems, the failure file names the others after it.
    """
    good(job)
    resources(current_host=1, network_interface_name=2, hosts=3, current_group_name=4, instance_groups=5)(job)
    channels({"a": None, "b": None, "c": None})(job)

    ended = run(job)

    assert_reported_well(job, ended)
    text = (ended.failure or "").replace("...\n...", "")
    assert [] == [line for line in (2, 3, 4, 5, 6) if f"resourceconfig.json, line {line}: " not in text]
    assert [] == [line for line in (3, 4, 5) if f"inputdataconfig.json, line {line}: " not in text]


def test_no_output_folder(job: Job) -> None:
    """
    Where no failure file can be written, the exit code and the log still tell.
    """
    good(job)
    entry_point("missing.py")(job)
    in_place_of("output", Path.touch)(job)

    ended = run(job)

    assert 1 == ended.returncode
    assert "'missing.py' is not in" in ended.stderr
    assert "output/failure could not be written" in last_line(ended.stderr)
    assert [] == own_frames(ended.stderr)


def good(job: Job) -> None:
    """Make the job one that succeeds, without its other host."""
    program("train.py")(job)
    resources()(job)
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER"] = "off"


def run(job: Job) -> Finished:
    """Run the job to its end, and see that it leaves nothing running."""
    process = subprocess.Popen(
        TRAIN, env=job.environ(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    ended = job.finish(process, timeout=30)
    assert [] == job.running()
    return ended


def assert_reported_well(job: Job, ended: Finished) -> None:
    """What is the same for every failure."""
    assert ended.failure is not None
    assert 0 < len(ended.cause) < 600
    assert "internal error" not in ended.cause
    assert ended.cause.rstrip(".") in last_line(ended.stderr)
    assert [] == own_frames(ended.failure) + own_frames(ended.stderr)
    assert not ended.has_success_marker
    assert {"data", "failure"} >= {file.name for file in (job.base / "output").iterdir()}
    assert not list(job.base.parent.rglob("escaped"))
    assert not Path("/escaped").exists()


def own_frames(text: str) -> list[str]:
    """The lines of tracebacks that show the framework's own code."""
    return [line for line in text.splitlines() if re.match(r'\s*File ".*sagemaker_framework/', line)]


def last_line(text: str) -> str:
    return text.rstrip("\n").rsplit("\n", 1)[-1]
