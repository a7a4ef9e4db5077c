"""Runs the tests on every Python that setup.cfg names and this machine has, as `make test-all` does.

Looks for python3.X on PATH and in ~/.pyenv/versions. Each Python has its own environment, .venvs/3.X.
"""

from __future__ import annotations

import argparse
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def supported() -> list[str]:
    """The versions that setup.cfg names, the oldest first."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return re.findall(r"Python :: (3\.\d+)", config["metadata"]["classifiers"])


def find(version: str) -> str | None:
    """The interpreter of this version, if there is one that runs and can make environments."""
    on_path = [Path(folder) for folder in os.get_exec_path()]
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin"), reverse=True)
    for folder in on_path + pyenv:
        python = folder / f"python{version}"
        # A pyenv shim is there whether or not the version that it stands for is.
        if python.exists() and subprocess.run([python, "-c", "import ensurepip"], capture_output=True).returncode == 0:
            return str(python)
    return None


def run_tests(version: str, python: str) -> bool:
    """Run the tests with this interpreter.  Whether they pass."""
    print(f"== Python {version}: {python}", flush=True)
    settings = [f"PYTHON={python}", f"VENV=.venvs/{version}", "EXTRAS=test"]
    return subprocess.run(["make", "--no-print-directory", "test", *settings], cwd=ROOT).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="such as 3.9; all that setup.cfg names if none")
    parser.add_argument("--list", action="store_true", help="only print the versions found, the oldest first")
    arguments = parser.parse_args()

    pythons = {version: find(version) for version in arguments.versions or supported()}
    if arguments.list:
        print(*[version for version, python in pythons.items() if python])
        return 0
    outcomes = {version: python and run_tests(version, python) for version, python in pythons.items()}
    print("== Summary")
    for version, passed in outcomes.items():
        print(f"Python {version}: {'skipped, not found' if passed is None else 'passed' if passed else 'FAILED'}")
    return 0 if any(outcomes.values()) and False not in outcomes.values() else 1


if __name__ == "__main__":
    sys.exit(main())
