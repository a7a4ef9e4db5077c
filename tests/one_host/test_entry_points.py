"""Programs of every kind run as their authors would run them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from jobs import Job

from sagemaker_framework import entry_point
from sagemaker_framework.errors import ProgramError


def test_a_script_runs_as_a_script(job: Job) -> None:
    """`train.py` runs as `python train.py` from within the code folder."""
    job.program("import os, sys; print(sys.argv[0], sys.path[0] == os.getcwd(), __name__)")

    assert "train.py True __main__\n" == job.run().stdout


def test_a_script_in_a_subfolder(job: Job) -> None:
    """`src/train.py` finds its neighbours, and modules at the root of the source."""
    job.write("root.py", "")
    job.write("src/beside.py", "")
    job.program("import root, beside, sys; print(sys.argv[0])", "src/train.py")

    assert "src/train.py\n" == job.run().stdout


def test_a_module_of_a_package_in_a_subfolder(job: Job) -> None:
    """`pkg/sub/main.py` can import relatively, absolutely, and its neighbours by their bare names."""
    for folder in ("pkg", "pkg/sub"):
        job.write(f"{folder}/__init__.py", "")
    job.write("pkg/sub/beside.py", "x = 1")
    job.program("from .beside import x\nimport pkg.sub.beside, beside\nprint(__name__, __package__)", "pkg/sub/main.py")

    assert "__main__ pkg.sub\n" == job.run().stdout


@pytest.mark.parametrize("name", ["-m pkg.mod", "pkg.mod", "pkg/mod"])
def test_a_module_by_its_name(job: Job, name: str) -> None:
    """`-m pkg.mod`, and a name without .py, run as `python -m`."""
    job.write("pkg/mod.py", "print(__spec__.name)")
    job.hyperparameters["sagemaker_program"] = name

    assert "pkg.mod\n" == job.run().stdout


def test_an_installed_module(job: Job) -> None:
    """`-m` runs what the image has installed, too."""
    job.hyperparameters.update({"sagemaker_program": "-m json.tool", "help": None})

    assert "json" in job.run().stdout


def test_a_folder_with_a_main(job: Job) -> None:
    """A folder with a `__main__.py` runs as `python folder` does."""
    job.write("app/beside.py", "")
    job.write("app/__main__.py", "import beside; print('in', __name__)")
    job.hyperparameters["sagemaker_program"] = "app"

    assert "in __main__\n" == job.run().stdout


def test_a_shell_script(job: Job) -> None:
    """`run.sh` runs by its first line, needs no execute permission, and gets each argument whole."""
    job.hyperparameters.update(a="x y", b='"; rm -rf /tmp/x; $(id) `id`', c="it's")
    job.program('#!/bin/bash\n[[ -n $BASH_VERSION ]] && printf "%s\\n" "$0" "$@"', "run.sh")

    assert [
        "./run.sh",
        "-a",
        "x y",
        "-b",
        '"; rm -rf /tmp/x; $(id) `id`',
        "-c",
        "it's",
    ] == job.run().stdout.splitlines()


def test_a_shell_script_without_a_first_line(job: Job) -> None:
    """Without `#!` a script runs by /bin/sh."""
    job.program("echo $#", "run.sh")

    assert "0\n" == job.run().stdout


def test_a_shell_script_is_not_changed(job: Job) -> None:
    """Neither the permissions nor the content of a script change."""
    script = job.write("run.sh", "exit 0", mode=0o640)
    job.hyperparameters["sagemaker_program"] = "run.sh"
    before = script.stat()
    job.run()

    assert (before.st_mode, before.st_mtime_ns) == (script.stat().st_mode, script.stat().st_mtime_ns)


def test_any_script_with_an_interpreter(job: Job) -> None:
    """A file of any name runs by the interpreter of its first line."""
    job.program(f"#!{sys.executable} -I\nimport sys; print(sys.flags.isolated)", "go")

    assert "1\n" == job.run().stdout


def test_a_compiled_program(job: Job) -> None:
    """A binary runs, also when it has lost its execute permission in an archive."""
    shutil.copyfile(shutil.which("printf") or "", job.code_dir / "tool")
    job.hyperparameters.update({"sagemaker_program": "tool", "": "%s"})

    assert job.run().returncode in (0, 1)
    assert os.access(job.code_dir / "tool", os.X_OK)


def test_byoc_by_the_images_variable(job: Job) -> None:
    """SAGEMAKER_PROGRAM names the program, before the hyperparameter does."""
    job.program("print('hyperparameter')", "one.py")
    job.write("two.py", "print('variable')")
    job.env["SAGEMAKER_PROGRAM"] = "two.py"

    assert "variable\n" == job.run().stdout


def test_a_name_with_spaces_and_letters_beyond_ascii(job: Job) -> None:
    """The program's name may be any file name."""
    job.program("print('ran')", "mein träin.py")

    assert "ran\n" == job.run().stdout


def test_a_name_that_looks_like_an_option(job: Job) -> None:
    """A script whose name starts with a dash is not taken for an option of Python."""
    job.program("print('ran')", "-c.py")

    assert "ran\n" == job.run().stdout


def test_the_launchers_packages_do_not_shadow_the_programs(job: Job) -> None:
    """The program's PYTHONPATH holds its code and what the image sets, not the launcher's own packages."""
    job.program("import os; print(os.environ['PYTHONPATH'])")
    job.env["PYTHONPATH"] = "/of/the/image"

    assert f"{job.code_dir}:/of/the/image\n" == job.run().stdout


@pytest.fixture
def here(job: Job, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The job, for `entry_point.run` in this very process."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(job.base))
    return job


def test_run_with_a_uri(here: Job, tmp_path: Path) -> None:
    """`run(uri, user_entry_point, args, env_vars)` fetches the code and runs it."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/go.py").write_text("import os, sys; open(sys.argv[1], 'w').write(os.environ['X'])")
    entry_point.run(str(tmp_path / "src"), "go.py", [str(tmp_path / "seen")], {"X": "1"})

    assert "1" == (tmp_path / "seen").read_text()


def test_run_without_a_uri(here: Job, tmp_path: Path) -> None:
    """`run(user_entry_point, args, env_vars)` runs what is in the code folder."""
    here.write("go.py", "import os, sys; open(sys.argv[1], 'w').write(os.environ['X'])")
    entry_point.run("go.py", [str(tmp_path / "seen")], {"X": "2"})

    assert "2" == (tmp_path / "seen").read_text()


def test_a_program_that_is_run_with_no_arguments(here: Job, tmp_path: Path) -> None:
    """None stands for no arguments, also where the code is in the code folder already."""
    here.write("go.py", f"import sys; open({str(tmp_path / 'seen')!r}, 'w').write(repr(sys.argv[1:]))")
    entry_point.run("go.py", None)

    assert "[]" == (tmp_path / "seen").read_text()


def test_run_raises_what_the_program_failed_with(here: Job) -> None:
    """A program that fails raises a ProgramError with its exit code, its cause and its last traceback."""
    here.write("go.py", "raise ValueError('x')")
    with pytest.raises(ProgramError, match=r"go\.py exited with code 1: ValueError: x") as caught:
        entry_point.run("go.py", [], {})

    assert 1 == caught.value.exit_code
    assert "Traceback" in caught.value.detail
