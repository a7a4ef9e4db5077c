"""Images of examples/ for tests: built on this machine, and run, with no registry and no daemon.

```python
pytestmark = pytest.mark.images

def test_a_job_succeeds(engine: Engine, tmp_path: Path) -> None:
    image = engine.build("mxnet", engine.base("bookworm"))
    job = Container(image, tmp_path / "ml")
    job.program("print('training')")

    assert "training\\n" == job.run().stdout
```

Base images are made of Debian's packages. Everything, images too, is in a folder of the checkout's .venvs that is gone
after the session, and mounted where only the engine's own commands see it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from jobs import Finished, Job

from sagemaker_framework.local.backends.namespace.hosts import Host, Hosts

ROOT = Path(__file__).parents[2]

#: What is run here; `make image-tools` installs it.
TOOLS = ("buildah", "podman", "runc", "mmdebstrap", "unshare", "nsenter")

#: As in Docker's images of Debian.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: What of the machine's pip says how packages are reached.
PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "trusted-host", "cert", "timeout", "default-timeout")

#: Limits are set explicitly, as the engine may not raise them everywhere; hosts find each other by /etc/hosts alone.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
base_hosts_file = "none"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{folder}/libpod"
"""


class Engine:
    """Podman and buildah, with images and settings of their own.

    Args:
        folder: where everything is kept; on a file system that overlays can lie on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bases: set[str] = set()
        self._images: dict[str, Image] = {}
        for name in ("tmp", "pip", "contexts"):
            (folder / name).mkdir()
        limits = {"files": resource.RLIMIT_NOFILE, "processes": resource.RLIMIT_NPROC}
        (folder / "containers.conf").write_text(
            CONTAINERS_CONF.format(
                folder=folder, **{name: min(32768, resource.getrlimit(limit)[1]) for name, limit in limits.items()}
            )
        )
        self.environ = {**os.environ, "CONTAINERS_CONF": f"{folder}/containers.conf", "TMPDIR": f"{folder}/tmp"}
        # What is mounted there is gone when the last process is, whatever becomes of this one. A cache of the engine's
        # is always in /var/lib/containers.
        script = "mkdir -p {0} && mount -t tmpfs tmpfs {0} && echo ready && exec cat".format("/var/lib/containers")
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._keeper.stdout
        assert "ready\n" == self._keeper.stdout.readline()

    def command(self, tool: str, *args: str) -> list[str]:
        """The command line that runs podman or buildah."""
        storage = [f"--root={self.folder}/images", f"--runroot={self.folder}/run", "--storage-driver=overlay"]
        return ["nsenter", f"--mount=/proc/{self._keeper.pid}/ns/mnt", "--", tool, *storage, *args]

    def run(self, tool: str, *args: str, **options: Any) -> str:
        """Run podman or buildah to its end; what it prints.

        Raises:
            AssertionError: it failed, with the last of what it said.
        """
        ended = subprocess.run(
            self.command(tool, *args), env=self.environ, capture_output=True, text=True, errors="replace", **options
        )
        assert 0 == ended.returncode, f"{tool} {' '.join(args)}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
        return ended.stdout

    def podman(self, *args: str) -> str:
        """Run podman to its end; what it prints."""
        return self.run("podman", *args)

    def base(self, release: str) -> str:
        """The name of an image with a release of Debian, and Python; made when first asked for."""
        name = f"localhost/debian-{release}"
        if release not in self._bases:
            packages = "--include=python3,python3-venv,ca-certificates"
            options = ["--quiet", "--mode=root", "--variant=minbase", packages]
            with subprocess.Popen(["mmdebstrap", *options, release, "-"], stdout=subprocess.PIPE) as making:
                self.run("podman", "import", "--change", f"ENV PATH={PATH}", "-", name, stdin=making.stdout)
            assert 0 == making.returncode, f"mmdebstrap could not make Debian {release}"
            self._bases.add(release)
        return name

    def build(self, example: str, base: str, tool: str = "buildah", **build_args: str) -> Image:
        """Build the Dockerfile of an example, with sagemaker-framework as it is in the checkout; once a session.

        Args:
            example: the folder of examples/.
            base: the image to build on.
            tool: `buildah` or `podman`.
            build_args: more arguments of the Dockerfile.
        """
        name = "-".join([f"localhost/{example}-{tool}", *build_args]).lower()
        if name in self._images:
            return self._images[name]
        args = {"BASE_IMAGE": base, "PIP_CONFIG_FILE": "/mnt/pip.conf", **build_args}
        options = ["--layers", "--network=host", f"--volume={self._pip_config()}:/mnt:ro", f"--tag={name}"]
        options += ["--isolation=chroot"] if tool == "buildah" else []
        options += [f"--build-arg={key}={value}" for key, value in args.items()]
        self.run(tool, "build", *options, str(self._context(example)))
        self._images[name] = Image(self, name)
        return self._images[name]

    def _context(self, example: str) -> Path:
        """A copy of the example's folder, with a wheel."""
        context = self.folder / "contexts" / example
        if not context.exists():
            shutil.copytree(ROOT / "examples" / example, context, ignore=shutil.ignore_patterns("wheels"))
            shutil.copytree(self._wheels(), context / "wheels")
        return context

    def _wheels(self) -> Path:
        """A folder with a wheel of the checkout.  Made from a copy: a `build` folder may hold modules of the past."""
        wheels, source = self.folder / "wheels", self.folder / "source"
        if not wheels.exists():
            shutil.copytree(ROOT / "sagemaker_framework", source / "sagemaker_framework")
            for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(ROOT / name, source)
            pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", f"--wheel-dir={wheels}", str(source)]
            subprocess.run(pip, check=True)
        return wheels

    def _pip_config(self) -> Path:
        """A folder with a pip.conf by which the machine's packages are reached.

        It is mounted on a folder that every image has: what engines make to mount something on stays in the image.
        """
        folder = self.folder / "pip"
        settings = pip_settings()
        if cert := settings.get("cert"):
            shutil.copy(cert, folder / "cert.pem")
            settings["cert"] = "/mnt/cert.pem"
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        (folder / "pip.conf").write_text("".join(["[global]\n", *lines]))
        return folder

    def close(self) -> None:
        """Kill what still runs, and remove everything."""
        with contextlib.suppress(AssertionError):
            self.podman("rm", "--all", "--force", "--time=0")
        assert self._keeper.stdin
        self._keeper.stdin.close()
        self._keeper.wait()
        shutil.rmtree(self.folder)


class Image:
    """An image that was built.

    Attributes:
        engine: what runs it.
        name: what it is called there.
        config: how containers are started from it: `Env`, `Entrypoint`, ...
        size: in bytes.
        history: the commands that it was built by.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        (inspected,) = json.loads(engine.podman("image", "inspect", name))
        self.config: dict[str, Any] = inspected["Config"]
        self.size: int = inspected["Size"]
        self.history = engine.podman("history", "--no-trunc", "--format={{.CreatedBy}}", name)

    @contextlib.contextmanager
    def files(self) -> Iterator[Path]:
        """The root of its files, to look at."""
        at = self.engine.podman("image", "mount", self.name).strip()
        try:
            yield Path(f"/proc/{self.engine._keeper.pid}/root{at}")
        finally:
            self.engine.podman("image", "unmount", self.name)


class Container(Job):
    """A job whose `train` runs in a container, as SageMaker starts it.

    Args:
        image: its image.
        base: where its /opt/ml is on this machine; a folder that is not there yet.
        host: the host whose network it has; else it has none.
        names: the addresses of hosts.
    """

    def __init__(self, image: Image, base: Path, host: Host | None = None, names: Mapping[str, str] = {}) -> None:
        super().__init__(base)
        self.image = image
        self.name = f"job-{os.urandom(4).hex()}"
        self._network = [f"--network=ns:{host.network}", f"--hostname={host.hostname}"] if host else ["--network=none"]
        self._network += [f"--add-host={name}:{address}" for name, address in names.items()]

    def start(self, command: Sequence[str] = ("train",), **popen: Any) -> subprocess.Popen[bytes]:
        """Start the container, and go on."""
        variables = [f"--env={name}={value}" for name, value in self.env.items()]
        options = ["--rm", f"--name={self.name}", f"--volume={self.base}:/opt/ml", *self._network, *variables]
        podman = self.image.engine.command("podman", "run", *options, self.image.name, *command)
        return super().start(podman, **popen)

    def run(self, command: Sequence[str] = ("train",), **popen: Any) -> Finished:
        """Run the container to its end."""
        return super().run(command, **popen)

    def environ(self) -> Mapping[str, str]:
        """The engine's variables, of which the container gets none."""
        return self.image.engine.environ

    def stop(self) -> None:
        """Ask it to stop, as SageMaker does: SIGTERM, and 120 s later SIGKILL."""
        self.image.engine.podman("stop", "--time=120", self.name)

    def kill(self) -> None:
        """Kill it, if it runs."""
        self.image.engine.podman("rm", "--force", "--ignore", "--time=0", self.name)


class ContainerCluster:
    """A job whose hosts are containers, on a network of their own that leads nowhere else.

    Args:
        image: the image of all.
        hosts: whose networks they have.
        folder: where each host's /opt/ml is made.

    Attributes:
        jobs: each host's part of the job, by its name.
    """

    def __init__(self, image: Image, hosts: Hosts, folder: Path) -> None:
        names = {name: host.address for host in hosts for name in (host.name, host.hostname)}
        self.jobs = {host.name: Container(image, folder / host.name, host, names) for host in hosts}
        for name, job in self.jobs.items():
            job.config(
                "resourceconfig",
                {"current_host": name, "hosts": list(self.jobs), "network_interface_name": "eth0"},
            )

    def run(self, timeout: float = 120) -> dict[str, Finished]:
        """Run all to their end; how each ended, by its name."""
        started = {name: job.start() for name, job in self.jobs.items()}
        try:
            return {name: self.jobs[name].finish(process, timeout) for name, process in started.items()}
        finally:
            # The hosts' networks are not gone before all that uses them is.
            for job in self.jobs.values():
                job.kill()


def pip_settings() -> dict[str, str]:
    """How the machine's pip reaches packages: by its configuration files, and by variables, which count for more."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    lines = [line.partition("=") for line in listed.stdout.splitlines()]
    by_section = {name: ast.literal_eval(value) for name, _, value in lines}
    found = {"cert": os.environ.get("REQUESTS_CA_BUNDLE", "")}
    for section in ("global", "install", ":env:"):
        found.update({name: by_section.get(f"{section}.{name}", found.get(name, "")) for name in PIP_SETTINGS})
    # Folders of this machine are not there in a container; they hold copies of what an index has, if anything.
    found["extra-index-url"] = " ".join(url for url in found["extra-index-url"].split() if not url.startswith("file:"))
    return {
        name.replace("default-timeout", "timeout"): " ".join(value.split()) for name, value in found.items() if value
    }


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Podman and buildah, for all tests of the session."""
    if os.geteuid():
        pytest.skip("images are built and run by root")
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    assert not missing, f"no {', no '.join(missing)}: `make image-tools` installs them"
    (ROOT / ".venvs").mkdir(exist_ok=True)
    made = Engine(Path(tempfile.mkdtemp(prefix="images-", dir=ROOT / ".venvs")))
    try:
        yield made
    finally:
        made.close()
