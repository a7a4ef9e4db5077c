"""Jobs whose arguments and variables come near to what the kernel passes to a program, or go beyond."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

import pytest
from jobs import Finished, Job

from sagemaker_framework.config.files import training_env
from sagemaker_framework.processes import limits

#: Linux's longest argument or variable, with the NUL at its end (MAX_ARG_STRLEN).
LONGEST = 131072

#: Writes down what it was started with: arguments, variables, and what SM_ENV_FILE leads to.
PROGRAM = """
    import json, os, stat, sys
    file = os.environ.get("SM_ENV_FILE")
    told = {"args": sys.argv[1:], "env": dict(os.environ), "file": file}
    if file:
        told["moved"] = json.load(open(file, encoding="utf-8"))
        told["mode"] = stat.S_IMODE(os.stat(file).st_mode)
        told["owner"] = os.stat(file).st_uid
    json.dump(told, open(os.environ["SM_MODEL_DIR"] + "/told.json", "w"))
"""


def run(job: Job) -> tuple[Finished, dict[str, Any]]:
    """Run the job; what its program was started with."""
    job.program(PROGRAM)
    done = job.run()
    assert done.succeeded, done.stderr[-2000:]
    return done, json.loads((job.base / "model/told.json").read_text())


def to_env_vars(job: Job) -> dict[str, str]:
    """All the variables of the job, however long they are."""
    return training_env(job.environ()).to_env_vars()


# -- what the service allows -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def usual_stack() -> Iterator[None]:
    """The limit of the stack, on which the kernel's room for arguments and variables depends, is 8 MiB, as usual."""
    before, hard = resource.getrlimit(resource.RLIMIT_STACK)
    try:
        resource.setrlimit(resource.RLIMIT_STACK, (8 << 20, hard))
    except ValueError:
        pytest.skip("the limit of the stack is fixed here")
    yield
    resource.setrlimit(resource.RLIMIT_STACK, (before, hard))


def give_the_largest(job: Job, char: str) -> None:
    """Give a job all the hyperparameters that the service allows: 100 of 2,500 characters."""
    job.hyperparameters.update({f"hyperparameter-{n:03d}": f"{n:03d}" + char * 2497 for n in range(100)})


class Largest(NamedTuple):
    """A job with all the hyperparameters that the service allows, that has ended.

    Attributes:
        job: the job.
        done: how it ended.
        told: what its program was started with.
    """

    job: Job
    done: Finished
    told: dict[str, Any]


@pytest.fixture(scope="module", params=["x", "é", "日", "\U0001f600"], ids=["1 byte", "2 bytes", "3 bytes", "4 bytes"])
def largest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Largest:
    """The largest job, with characters of so many bytes; run once for all tests."""
    job = Job(tmp_path_factory.mktemp("largest") / "ml")
    give_the_largest(job, request.param)
    return Largest(job, *run(job))


def test_the_largest_hyperparameters_arrive(largest: Largest) -> None:
    """100 hyperparameters of 2,500 characters, of whatever size in bytes, are arguments of the program, intact."""
    given = sorted(largest.job.hyperparameters.items())

    assert [arg for name, value in given if name != "sagemaker_program" for arg in (f"--{name}", value)] == (
        largest.told["args"]
    )


def test_no_variable_is_lost(largest: Largest) -> None:
    """Every variable of such a job is passed, or stands with its full value in the file that SM_ENV_FILE names."""
    told, variables = largest.told, to_env_vars(largest.job)
    passed = {name: told["env"][name] for name in variables if name in told["env"]}

    assert variables == {**passed, **told["moved"]}
    assert {"SM_HPS", "SM_TRAINING_ENV", "SM_USER_ARGS"} <= set(told["moved"])


def test_the_file_is_private_and_goes(largest: Largest) -> None:
    """The file is for this user alone, and gone when the job has ended."""
    told = largest.told

    assert (0o600, os.getuid()) == (told["mode"], told["owner"])
    assert not os.path.exists(told["file"])


def test_the_log_names_what_was_moved(largest: Largest) -> None:
    """One line of the log says which variables are in the file; none shows their values."""
    lines = [line for line in largest.done.stderr.splitlines() if "SM_ENV_FILE" in line]

    assert [True] == [all(name in line for name in largest.told["moved"]) for line in lines]
    assert max(len(line) for line in largest.done.stderr.splitlines()) < 100 * 600


def test_small_jobs_have_no_such_file(job: Job) -> None:
    """Where everything can be passed, there is no file and no SM_ENV_FILE."""
    job.hyperparameters["epochs"] = 3
    _, told = run(job)

    assert told["file"] is None


@pytest.mark.parametrize("count", [1000, 5000])
def test_thousands_of_hosts(job: Job, count: int) -> None:
    """A job on thousands of hosts starts its program, which finds all of them."""
    hosts = sorted(f"algo-{n}" for n in range(1, count + 1))
    job.hosts(*hosts)
    job.env["SM_STUDIO_LOCAL_MODE"] = "true"
    _, told = run(job)
    variables = {**told["env"], **told.get("moved", {})}

    assert hosts == json.loads(variables["SM_HOSTS"])
    assert hosts == json.loads(variables["SM_TRAINING_ENV"])["hosts"]
    assert str(count) == told["env"]["SM_HOST_COUNT"]


def test_the_file_goes_when_the_program_fails(job: Job) -> None:
    """The file is gone after a program that failed, too."""
    note = job.base / "name"
    job.hosts(*(f"algo-{n}" for n in range(5000)))
    job.env["SM_STUDIO_LOCAL_MODE"] = "true"
    job.program(f"import os; open({str(note)!r}, 'w').write(os.environ['SM_ENV_FILE']); raise SystemExit(7)")

    assert 7 == job.run().returncode
    assert not os.path.exists(note.read_text())


def test_arguments_that_are_too_long_fail_the_job_in_words(job: Job) -> None:
    """An argument beyond what the kernel passes, which the service does not allow, fails the job, and is named."""
    job.hyperparameters["long"] = "x" * LONGEST
    job.program("pass")
    done = job.run()

    what = f"its arguments are longer than the kernel allows: the longest, after --long, has {LONGEST:,} characters"
    assert (1, f"train.py cannot be started: {what}") == (done.returncode, done.cause)


@pytest.mark.parametrize("char", ["x", "\U0001f600"])
def test_a_file_that_cannot_be_written_fails_the_job_in_words(job: Job, char: str) -> None:
    """Where there is no room for the file, that is the cause, and not that the program is missing."""
    give_the_largest(job, char)
    no_folder = job.write("file", "")
    job.write("site/sitecustomize.py", f"import tempfile; tempfile.tempdir = {str(no_folder)!r}")
    job.env["PYTHONPATH"] = str(job.code_dir / "site")
    job.program("pass")
    done = job.run()

    assert done.cause.startswith("the file for variables that are too long (SM_ENV_FILE) cannot be written: ")


# -- which variables are moved -----------------------------------------------------------------------------------


def starts(argv: list[str], env: dict[str, str]) -> bool:
    """Whether the kernel starts a program with these."""
    try:
        return 0 == subprocess.run(["/bin/true", *argv], env=env).returncode
    except OSError:
        return False


@pytest.fixture
def limit_stack() -> Iterator[Callable[[int], None]]:
    """Sets the limit of the stack, until the end of the test."""
    before, hard = resource.getrlimit(resource.RLIMIT_STACK)

    def limit(size: int) -> None:
        try:
            resource.setrlimit(resource.RLIMIT_STACK, (size, hard))
        except ValueError:
            pytest.skip("the limit of the stack is fixed here")

    yield limit
    resource.setrlimit(resource.RLIMIT_STACK, (before, hard))


def test_what_fits_is_passed() -> None:
    """Variables that fit are all passed."""
    env = {"SM_HOSTS": "[]", "PATH": "/bin"}

    assert (env, {}) == limits.split(["program"], env)


@pytest.mark.parametrize(("length", "moves"), [(LONGEST - 1, False), (LONGEST, True)])
@pytest.mark.parametrize("char", ["x", "é", "\udcff"])
def test_the_longest_variable(length: int, moves: bool, char: str) -> None:
    """A variable is moved if its name and value are longer than the kernel passes, in bytes, and only then."""
    size = len(os.fsencode(char))
    room = length - len("SM_LONG=")
    value = char * (room // size) + "x" * (room % size)
    passed, moved = limits.split(["program"], {"SM_LONG": value})

    assert ({} if moves else {"SM_LONG": value}, {"SM_LONG": value} if moves else {}) == (passed, moved)
    assert moves is not starts([], {"SM_LONG": value})


def test_the_longest_are_moved_first() -> None:
    """Where it is too much together, the longest are moved, until the rest fits."""
    env = {f"SM_{n:03d}": "x" * (50_000 + n) for n in range(200)}
    passed, moved = limits.split(["program"], env)

    assert 0 < len(moved) < 200
    assert max(map(len, passed.values())) < min(map(len, moved.values()))
    assert env == {**passed, **moved}
    assert starts([], passed)


def test_no_more_is_moved_than_has_to_be() -> None:
    """With one more variable, the program would not have started, but for the little that is kept free."""
    env = {f"SM_{n:04d}": "x" * 20_000 for n in range(500)}
    passed, moved = limits.split(["program"], env)

    assert starts([], passed)
    assert not starts([], {**passed, **dict(list(moved.items())[:2])})


def test_arguments_take_room_from_variables() -> None:
    """The more room the arguments take, the more variables are moved; the arguments stay."""
    env = {f"SM_{n:03d}": "x" * 10_000 for n in range(100)}
    argv = ["program", *["x" * 100_000] * 12]
    passed, moved = limits.split(argv, env)

    assert len(moved) > 0
    assert starts(argv, passed)


def test_many_small_variables() -> None:
    """What the kernel takes for each variable besides its text is counted too."""
    env = {f"SM_{n}": "" for n in range(120_000)}
    passed, moved = limits.split(["program"], env)

    assert len(moved) > 0
    assert starts([], passed)


@pytest.mark.parametrize("name", ["PATH", "MY_SM_DATA", "LONG", "SAGEMAKERS"])
def test_only_ours_are_moved(name: str) -> None:
    """A variable that is not ours, which no program looks for in a file, is never moved."""
    env = {name: "x" * LONGEST, "SM_HOSTS": "[]"}
    passed, _ = limits.split(["program"], env)

    assert env[name] == passed[name]


@pytest.mark.parametrize("name", ["SM_HPS", "SAGEMAKER_CHANNELS"])
def test_those_that_are_ours(name: str) -> None:
    """The `SM_` and `SAGEMAKER_` variables can be moved."""
    assert ({}, {name: "x" * LONGEST}) == limits.split(["program"], {name: "x" * LONGEST})


def test_room_is_kept_for_what_is_added_later() -> None:
    """As many bytes as asked for stay free."""
    env = {f"SM_{n:03d}": "x" * 20_000 for n in range(500)}
    passed, _ = limits.split(["program"], env, reserve=100_000)

    assert starts([], {**passed, "SM_ENV_FILE": "x" * 99_000})


def test_splitting_changes_nothing() -> None:
    """The variables that are given stay as they are."""
    env = {"SM_LONG": "x" * LONGEST}
    limits.split(["program"], env)

    assert {"SM_LONG": "x" * LONGEST} == env


@pytest.mark.parametrize("stack", [resource.RLIM_INFINITY, 16 << 20, 8 << 20, 1 << 20])
def test_the_stack_limit_counts(limit_stack: Callable[[int], None], stack: int) -> None:
    """The room is what the limit of the stack leaves, up to the kernel's own bound."""
    limit_stack(stack)
    passed, moved = limits.split(["program"], {f"SM_{n:03d}": "x" * 50_000 for n in range(200)})

    assert len(moved) > 0
    assert starts([], passed)


@pytest.fixture
def raised() -> Iterator[limits.OwnLimit]:
    """A limit of open files that this process raises from 500 for itself."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, before[1]))
    own = limits.OwnLimit()
    with own:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
    yield own
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_a_limit_that_the_launcher_raises_is_not_its_programs(raised: limits.OwnLimit) -> None:
    """A program is started under the limit of before; the launcher keeps its own."""
    assert (500, 600) == (raised.without(soft_limit), soft_limit())


def test_a_limit_that_the_image_sets_is_its_programs(raised: limits.OwnLimit) -> None:
    """What a hook changes afterwards is for the programs, too."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    assert 700 == raised.without(soft_limit)
