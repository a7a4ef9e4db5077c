"""Runs `make test` as an ordinary user, as `make test-as-user` does.

The user is made for it, and has a copy of the checkout. `su -` gives it a home, groups and variables of its own. In the
end the user is gone, and so is all that it has. Takes root, and a mount namespace: `unshare --mount`.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from every_python import ROOT, find

#: Variables that the user takes over: where packages come from.
INDEX = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_")

#: Shows what is in $2, a folder that the user may not get to, and nothing else of $1, which is what stops it.
SHOW = """
seen=$(mktemp -d) && mount --bind "$2" "$seen" && mount -t tmpfs -o mode=755 tmpfs "$1" && mkdir -p "$2" &&
mount --move "$seen" "$2" && rmdir "$seen" && shift 2 && exec "$@"
"""


class User:
    """An ordinary user of this machine.

    Attributes:
        shown: a folder that it can enter, though others of its parents' content are root's only.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.uid = pwd.getpwnam(name).pw_uid
        self.home = Path(pwd.getpwnam(name).pw_dir)
        self.shown = Path(sys.base_prefix)

    def run(self, command: str) -> int:
        """Run a command in a login shell of the user, and return its exit code."""
        kept = ",".join(name for name in os.environ if name.startswith(INDEX))
        whitelist = [f"--whitelist-environment={kept}"] if kept else []
        login = ["su", *whitelist, "--command", command, "-", self.name]
        if closed := next(closed_to_others(self.shown), None):
            login = ["unshare", "--mount", "sh", "-c", SHOW, "sh", str(closed), str(self.shown), *login]
        return subprocess.run(login).returncode

    def own(self, folder: Path) -> None:
        """Give a folder to the user, with all that is in it."""
        subprocess.run(["chown", "--recursive", f"{self.name}:", str(folder)], check=True)

    def kill_all(self) -> None:
        """Kill what still runs as the user."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if process.stat().st_uid == self.uid:
                    os.kill(int(process.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass


def mount_memory(folder: Path, options: str) -> None:
    """Put an empty folder in memory there, for this process and those that it starts.  It is removed in no time."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


@contextmanager
def ordinary_user() -> Iterator[User]:
    """Make a user, and remove it."""
    name = f"t{os.getpid()}"  # Short, as it is part of the paths that messages hold.
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/bash", name], check=True)
    user = User(name)
    user.home.mkdir()
    try:
        mount_memory(user.home, f"mode=700,uid={user.uid}")
        yield user
    finally:
        user.kill_all()
        subprocess.run(["umount", "--lazy", str(user.home)])
        user.home.rmdir()
        subprocess.run(["userdel", "--force", name], check=True)


def copy_checkout(to: Path) -> None:
    """Copy what git knows of the checkout, and what it would take in, as it is now."""
    listed = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def closed_to_others(folder: Path) -> Iterator[Path]:
    """Name the folders above this one, from the root on, that only their owners may enter."""
    for parent in reversed(folder.parents):
        if not parent.stat().st_mode & 0o001:
            yield parent


def locate(python: str) -> tuple[str, Path]:
    """Find the interpreter behind a command, a shim or an environment, and the folder that it is installed in."""
    code = "import sys; print(sys._base_executable, sys.base_prefix, sep='\\n')"
    found = subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    executable, prefix = found.splitlines()
    return executable, Path(prefix)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "version", nargs="?", help="of the Python to use, such as 3.9; by default the one that runs this"
    )
    version = parser.parse_args().version
    python = find(version) if version else sys.executable
    if os.geteuid() != 0 or python is None:
        print(f"no Python {version} was found" if python is None else "a user is made by root only", file=sys.stderr)
        return 1
    with ordinary_user() as user:
        checkout = user.home / "checkout"
        copy_checkout(checkout)
        mount_memory(Path(tempfile.gettempdir()), "mode=1777")
        user.own(checkout)
        executable, user.shown = locate(python)
        settings = [f"PYTHON={executable}", "EXTRAS=test", f"ARGS={os.environ.get('ARGS', '')}"]
        print(f"== {user.name}: make test {settings[0]}", flush=True)
        return user.run(f"cd {checkout} && make --no-print-directory test {shlex.join(settings)}")


if __name__ == "__main__":
    sys.exit(main())
