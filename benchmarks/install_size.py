"""How much installing the package brings along: distributions, and megabytes.

Installs it with all that it requires into an empty temporary folder, by pip's defaults, and adds up the files: their
sizes, and the blocks that they occupy on disk; with the modules that pip compiles (.pyc), and without. The limit is
for the largest of the four.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq", "--use-pep517"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", nargs="?", default=str(Path(__file__).parent.parent), help="a wheel or a folder")
    parser.add_argument("--max-mb", type=float, default=float("inf"), help="fail beyond; 1 MB is 10^6 bytes")
    parser.add_argument("--max-distributions", type=float, default=float("inf"), help="fail beyond this number")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as target:
        subprocess.run([*PIP, "--target", target, arguments.package], check=True)
        distributions = sorted(folder.stem for folder in Path(target).glob("*.dist-info"))
        files = [(file.suffix, file.lstat()) for file in Path(target).rglob("*") if not file.is_dir()]

    print(f"Python {sys.version.split()[0]}; {len(distributions)} distributions: {', '.join(distributions)}")
    largest = 0.0
    for name, counted in {
        "without .pyc": [status for suffix, status in files if suffix != ".pyc"],
        "with .pyc": [status for _, status in files],
    }.items():
        sizes, on_disk = sum(status.st_size for status in counted), sum(status.st_blocks * 512 for status in counted)
        largest = max(largest, sizes / 1e6, on_disk / 1e6)
        print(f"{name:13} {in_megabytes(sizes)}, on disk {in_megabytes(on_disk)}")

    failures = {
        f"there are more than {arguments.max_distributions:g} distributions": len(distributions)
        > arguments.max_distributions,
        f"the size is above {arguments.max_mb:g} MB": largest > arguments.max_mb,
    }
    for failure in filter(failures.get, failures):
        print(f"FAILED: {failure}", file=sys.stderr)
    return int(any(failures.values()))


def in_megabytes(count: int) -> str:
    return f"{count / 1e6:5.1f} MB ({count / 2**20:.1f} MiB)"


if __name__ == "__main__":
    sys.exit(main())
