"""
Several hosts on one machine, each as private as a container.

```python
with Hosts(2, share=["/data"]) as hosts:
    job = hosts[0].popen(["ping", "-c1", "algo-2"], stdout=subprocess.PIPE)
    print(job.communicate(), hosts[0].path("/opt/ml/output/failure").exists())
```

A host has network, mount, process, IPC and host name namespaces of its own. Its file system is an overlay of the
machine's: everything it writes is private and in memory, and /opt/ml, /tmp, /dev/shm, /run and /root start empty.
Hosts see each other, by the names in /etc/hosts, and nothing else: neither the machine nor any network beyond it. A
host's own host name is not that name but one like `ip-10-77-0-2`, as on SageMaker.

Needs root, Linux 5.3, and the tools `ip` and `nsenter`. Several sets can exist at once, since they use no names on the
machine. init.py says what happens to hosts whose owner is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from sagemaker_framework.errors import HostsError

#: The network of every set; sets are not connected.
NETWORK = ipaddress.ip_network("10.77.0.0/16")
#: How long killed processes may take to end, in seconds.
DEATH = 30.0

#: The tools that are needed, and their Debian packages.
TOOLS = {"ip": "iproute2", "nsenter": "util-linux"}

_libc = ctypes.CDLL(None, use_errno=True)


@attrs.frozen
class Running:
    """A process on a host.

    Attributes:
        pid: its id on this machine.
        pid_on_host: its id on the host.
        name: the kernel's name for it.
        command: its command line.
    """

    pid: int
    pid_on_host: int
    name: str
    command: str


@attrs.frozen
class Place:
    """The names and the address of a host.

    Attributes:
        name: the other hosts' name for it, such as `algo-1`.
        hostname: its own host name.
        address: its IP address.
    """

    name: str
    hostname: str
    address: str


@attrs.frozen(kw_only=True)
class Plan:
    """The hosts that init.py makes; it gets the plan as JSON.

    Attributes:
        owner: the process at whose end everything is removed.
        root: the folder with the files that the hosts start with.
        share: the folders of the machine that all hosts share.
        hosts: the hosts, in their order.
        interface: the name of each host's network interface.
        prefix: the number of bits of an address that are the network's.
        gateway: the address of the switch.
    """

    owner: int
    root: str
    share: Sequence[str]
    hosts: Sequence[Place]
    interface: str
    prefix: int
    gateway: str


class Host:
    """
    One host of a set; made by `Hosts`.

    Attributes:
        name: the other hosts' name for it, such as `algo-1`.
        hostname: its own host name.
        address: its IP address.
    """

    def __init__(self, hosts: Hosts, number: int, pid: int, place: Place) -> None:
        self.name = place.name
        self.hostname = place.hostname
        self.address = place.address
        self._hosts = hosts
        self._port = f"port{number}"
        self._pid = pid
        self._namespaces = {_namespace(pid, "net"), _namespace(pid, "pid")}
        # While these are open, the files outlive the processes.
        self._files = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
        self._root = os.open(f"/proc/{pid}/root", os.O_PATH)
        self._here = os.getpid()
        self._alive = True

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str = "/", **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a command on the host.

        The process is a child of the caller, with its exit code, signals and streams. On the host it runs beside the
        first process (PID 1), which only reaps orphans, so that processes that a command leaves behind stay visible.
        A command that must be PID 1 itself can be started by `unshare --pid --fork --mount-proc --kill-child`, which
        keeps signals from it.

        Args:
            argv: the command; if the host has no such program, the exit code is 127.
            env: its environment variables; those of this process if None.
            cwd: the folder on the host to start it in.
            options: further options of `subprocess.Popen`.

        Returns:
            The process.

        Raises:
            HostsError: the host was killed.
            NotADirectoryError: there is no such folder on the host.
        """
        self._check_alive()
        if not self.path(cwd).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"no such folder on {self.name}", cwd)
        enter = [self._hosts.nsenter, f"--target={self._pid}", "--mount", "--net", "--uts", "--ipc"]
        with _children_in(self._pid):
            return subprocess.Popen([*enter, f"--wd={self.path(cwd)}", "--", *argv], env=env, **options)

    def path(self, path: str = "/") -> Path:
        """Return a path by which a file of the host can be read and written from outside, even after the host's death.

        Other processes can use it too, until the set is closed. Do not resolve it or follow absolute links in it: both
        lead to the machine's own files.

        Args:
            path: the path of the file on the host.
        """
        return Path(f"/proc/{self._here}/fd/{self._root}", path.lstrip("/"))

    @property
    def network(self) -> Path:
        """Return a path by which a process can enter the host's network, as in `podman run --network=ns:PATH`.

        Such a process must end before the host is killed or the set is closed: both wait for it.
        """
        return Path(f"/proc/{self._pid}/ns/net")

    def processes(self) -> list[Running]:
        """Return the host's processes, without its first one and without zombies."""
        return list(_running([self])) if self._alive else []

    def kill(self) -> None:
        """Kill all processes of the host at once, and then remove its network.

        This is what happens when a container is killed: the kernel closes the connections, and the other hosts notice,
        unless the network goes sooner. A command that was just starting may end with exit code 1 instead. For a machine
        that loses power, which the others do not notice, call `partition` first.
        """
        if self._alive:
            self._die()
            _await_end([self])
            # The kernel would remove the network too, but some time later.
            with contextlib.suppress(HostsError):
                self._hosts.ip(f"link delete {self._port}")

    def partition(self) -> None:
        """Disconnect the host from the network: packets are lost, and nobody is told."""
        self._switch("down")

    def heal(self) -> None:
        """Connect the host to the network again."""
        self._switch("up")

    def _switch(self, state: str) -> None:
        self._check_alive()
        self._hosts.ip(f"link set {self._port} {state}")

    def _check_alive(self) -> None:
        if not self._alive:
            raise HostsError(f"{self.name} was killed")

    def _die(self) -> None:
        self._alive = False
        # No other process can have this ID: the init process does not wait for its children.
        os.kill(self._pid, signal.SIGKILL)

    def _close(self) -> None:
        os.close(self._files)
        os.close(self._root)
        # Paths with these numbers must not lead to the files that get the numbers next.
        self._files = self._root = -1


class Hosts:
    """
    A set of hosts on a network of their own; a context manager that removes them at its end.

    Args:
        count: the number of hosts.
        share: folders of the machine that all hosts have at the same path, as on a shared file system; also needed for
            folders on another file system than `root`, which hosts do not see otherwise.
        root: the folder with the files that the hosts start with, such as an image's.
        names: the names of the hosts; `algo-1`, `algo-2`, ... if None.
        interface: the name of their network interface.

    Raises:
        HostsError: hosts cannot be made on this machine.
        ValueError: there are more or fewer names than hosts.
    """

    def __init__(
        self,
        count: int,
        share: Iterable[str | os.PathLike[str]] = (),
        root: str = "/",
        names: Sequence[str] | None = None,
        interface: str = "eth0",
    ) -> None:
        self._hosts: list[Host] = []
        names = [f"algo-{number}" for number in range(1, count + 1)] if names is None else names
        if len(names) != count:
            raise ValueError(f"{len(names)} names for {count} hosts")
        share = sorted({os.path.realpath(folder) for folder in share})
        _check(share, root)
        self.nsenter = str(shutil.which("nsenter"))
        gateway, *addresses = [str(NETWORK[number]) for number in range(1, len(names) + 2)]
        places = [Place(name, f"ip-{address.replace('.', '-')}", address) for name, address in zip(names, addresses)]
        plan = Plan(
            owner=os.getpid(),
            root=root,
            share=share,
            hosts=places,
            interface=interface,
            prefix=NETWORK.prefixlen,
            gateway=gateway,
        )
        init = os.path.join(os.path.dirname(__file__), "init.py")
        self._init = subprocess.Popen(
            [sys.executable, "-I", "-S", init, json.dumps(attrs.asdict(plan))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert self._init.stdout
            with self._init.stdout as stream:
                answer = json.loads(stream.readline() or '{"error": "their init process was killed", "errno": 0}')
            if "error" in answer:
                forbidden = answer["errno"] in (errno.EPERM, errno.EACCES)
                raise HostsError(f"hosts cannot be made on this machine: {answer['error']}", forbidden)
            self._hosts += [Host(self, at, pid, places[at]) for at, pid in enumerate(answer["pids"])]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill the hosts and remove everything that was made for them."""
        for host in self._hosts:
            if host._alive:
                host._die()
        _await_end(self._hosts)
        self._init.kill()
        self._init.wait()
        for host in self._hosts:
            host._close()
        self._hosts = []

    def ip(self, command: str) -> None:
        """Run an `ip` command on the switch, to which the hosts are connected by `port0`, `port1`, ...

        Args:
            command: the command without `ip`, such as `link show port0`.

        Raises:
            HostsError: the command fails.
        """
        enter = [self.nsenter, f"--net=/proc/{self._init.pid}/ns/net", "ip", *command.split()]
        ended = subprocess.run(enter, capture_output=True, text=True)
        if ended.returncode:
            raise HostsError(f"ip {command}: {ended.stderr.strip()}")

    def __getitem__(self, at: int) -> Host:
        return self._hosts[at]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(share: Iterable[str], root: str) -> None:
    """Check that hosts can be made here.

    Raises:
        HostsError: they cannot; the message names everything that is missing.
    """
    missing = [f"no `{tool}` (package {package})" for tool, package in TOOLS.items() if not shutil.which(tool)]
    missing += [f"no folder {folder}" for folder in (*share, root) if not os.path.isdir(folder)]
    if os.geteuid():
        missing.append("not run by root")
    if missing:
        raise HostsError(f"hosts cannot be made on this machine: {', '.join(missing)}", bool(os.geteuid()))


@contextlib.contextmanager
def _children_in(pid: int) -> Iterator[None]:
    """Start this thread's new children in the process namespace of process `pid`."""
    own, other = os.open("/proc/self/ns/pid", os.O_RDONLY), os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
    try:
        _set_namespace(other)
        yield
    finally:
        _set_namespace(own)
        os.close(own)
        os.close(other)


def _set_namespace(namespace: int) -> None:
    if _libc.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


def _namespace(pid: int, kind: str) -> int:
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def _running(hosts: Iterable[Host]) -> Iterator[Running]:
    """Yield the processes on these hosts.

    Finds them by process or network namespace: a command enters the first before the others, and may leave it for
    one of its own.
    """
    namespaces, first = set().union(*[host._namespaces for host in hosts]), {host._pid for host in hosts}
    for pid in [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]:
        # A process may end at any time.
        with contextlib.suppress(OSError):
            if pid not in first and {_namespace(pid, "pid"), _namespace(pid, "net")} & namespaces:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
                command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ")
                yield Running(pid, int(status["NSpid"].split()[-1]), status["Name"], command.decode(errors="replace"))


def _await_end(hosts: Sequence[Host]) -> None:
    """Wait until all processes of hosts have ended whose first processes were killed: no other survives that."""
    while left := list(_running(hosts)):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                ending = os.pidfd_open(process.pid)
                try:
                    if not select.select([ending], [], [], DEATH)[0]:
                        raise HostsError(f"{process.name} (process {process.pid}) was killed and does not end")
                finally:
                    os.close(ending)
