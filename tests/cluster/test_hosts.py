"""Hosts on one machine: private, connected, and gone when they are to be."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import PATIENCE, call

from sagemaker_framework.errors import HostsError
from sagemaker_framework.local.backends.namespace.hosts import Host, Hosts

pytestmark = pytest.mark.cluster

MakeHosts = Callable[..., Hosts]

#: Answers a connection's first line with the same, and then prints what comes next: b'' when it ends.
SERVER = """
import socket
server = socket.create_server(("", 7000))
print("ready", flush=True)
peer = server.accept()[0]
peer.sendall(peer.recv(100))
print(repr(peer.recv(100)), flush=True)
"""

#: Sends a line, prints the answer, and then what comes next within so many seconds: b'' or an error when it ends.
CLIENT = """
import socket, sys
peer = socket.create_connection(("algo-2", 7000), timeout=float(sys.argv[1]))
peer.sendall(b"hello")
print(peer.recv(100).decode(), flush=True)
try:
    print(repr(peer.recv(100)), flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
"""


def python(host: Host, code: str, *args: str, **popen: Any) -> subprocess.Popen[str]:
    return host.popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, text=True, **popen)


def output(host: Host, *argv: str, **popen: Any) -> str:
    """What a command on the host prints."""
    return host.popen(argv, stdout=subprocess.PIPE, text=True, **popen).communicate(timeout=30)[0]


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().rstrip("\n")


def connect(hosts: Hosts, patience: float = 20) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Have algo-1 connect to algo-2.  The server and the client, which wait for each other's end."""
    server = python(hosts[1], SERVER)
    assert "ready" == line(server)
    client = python(hosts[0], CLIENT, str(patience))
    assert "hello" == line(client)
    return server, client


def in_new_interpreter(code: str, *before: str) -> subprocess.Popen[str]:
    """Start an owner of hosts that is not this process."""
    code = f"from sagemaker_framework.local.backends.namespace.hosts import Hosts, HostsError\n{code}"
    return subprocess.Popen([*before, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def state(pid: int) -> str:
    """The letter for a process's state: Z if it has ended, but was not waited for; "" if it is not there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def becomes(pid: int, states: set[str], within: float = 10) -> bool:
    """Whether a process that is not a child of this one is in one of these states within so many seconds."""
    deadline = time.monotonic() + within
    while state(pid) not in states and time.monotonic() < deadline:
        time.sleep(0.01)
    return state(pid) in states


@pytest.mark.parametrize("folder", ["/opt/ml", "/tmp", "/dev/shm", "/run", "/root", "/etc", "/usr/lib"])
def test_files_are_private(make_hosts: MakeHosts, folder: str) -> None:
    """What one host writes is neither the other's nor the machine's, wherever it is."""
    hosts = make_hosts(2)
    file = f"{folder}/written-by-test"
    assert 0 == call(hosts[0], "sh", "-c", f"echo text > {file}")

    assert "text\n" == hosts[0].path(file).read_text()
    assert not hosts[1].path(file).exists()
    assert not Path(file).exists()


@pytest.mark.parametrize("folder", ["/opt/ml", "/tmp", "/dev/shm", "/run", "/root"])
def test_these_folders_start_empty(make_hosts: MakeHosts, folder: str) -> None:
    """Nothing of the machine's is in the folders that a container has to itself."""
    assert [] == list(make_hosts(1, share=[])[0].path(folder).iterdir())


def test_files_from_outside(make_hosts: MakeHosts) -> None:
    """What is written to a host's files from outside is there on the host."""
    host = make_hosts(1)[0]
    host.path("/opt/ml/input").mkdir()
    host.path("/opt/ml/input/data").write_text("text")

    assert "text" == output(host, "cat", "data", cwd="/opt/ml/input")


def test_shared_folders(make_hosts: MakeHosts, tmp_path: Path) -> None:
    """A shared folder is the same one on all hosts and the machine, also below one that hosts have to themselves."""
    hosts = make_hosts(2, share=[tmp_path])
    output(hosts[0], "sh", "-c", f"echo text > {tmp_path}/file")

    assert "text\n" == (tmp_path / "file").read_text() == output(hosts[1], "cat", f"{tmp_path}/file")


def test_names(make_hosts: MakeHosts) -> None:
    """A host calls itself something else than the others call it; all names resolve to its address."""
    hosts = make_hosts(3)
    names = [name for host in hosts for name in (host.name, host.hostname)]
    resolved = output(
        hosts[2], sys.executable, "-c", "import socket, sys; print(*map(socket.gethostbyname, sys.argv[1:]))", *names
    )

    assert ["algo-1", "ip-10-77-0-2", "algo-2", "ip-10-77-0-3", "algo-3", "ip-10-77-0-4"] == names
    assert [host.address for host in hosts for _ in range(2)] == resolved.split()
    assert "ip-10-77-0-4\n" == output(hosts[2], "hostname")


def test_the_network_from_outside(make_hosts: MakeHosts) -> None:
    """A program that is not the host's can enter its network, and has its address there."""
    host = make_hosts(1)[0]
    entered = ["nsenter", f"--net={host.network}", "ip", "-brief", "-4", "address", "show", "eth0"]

    assert f"{host.address}/16" in subprocess.run(entered, capture_output=True, text=True, check=True).stdout


def test_an_unknown_name_is_unknown_at_once(make_hosts: MakeHosts) -> None:
    """Nobody waits for a DNS server that is not there."""
    code = "import socket, sys; socket.getaddrinfo('algo-9', 1)"
    # Each of five attempts would take as long as this test waits.
    patient = {**os.environ, "RES_OPTIONS": "timeout:30 attempts:5"}

    assert 1 == python(make_hosts(1)[0], code, stderr=subprocess.DEVNULL, env=patient).wait(30)


def test_nothing_else_is_reached(make_hosts: MakeHosts) -> None:
    """An address outside the set, such as EC2's metadata service, refuses at once."""
    code = "import socket; s = socket.socket(); s.settimeout(2); print(s.connect_ex(('169.254.169.254', 80)))"

    assert "113\n" == output(
        make_hosts(1)[0], sys.executable, "-c", code
    )  # EHOSTUNREACH; a network that is only silent takes 3 s


def test_own_names_and_interface(make_hosts: MakeHosts) -> None:
    """Hosts and their network interface are called what the caller says."""
    hosts = make_hosts(2, names=["left", "right"], interface="ens5")

    assert ["left", "right"] == [host.name for host in hosts]
    assert {"lo", "ens5"} == set(output(hosts[0], "ls", "/sys/class/net").split())
    assert "10.77.0.3 " in output(hosts[0], "getent", "hosts", "right")


def test_as_many_names_as_hosts() -> None:
    """Too few names are the caller's mistake."""
    with pytest.raises(ValueError, match="1 names for 2 hosts"):
        Hosts(2, names=["left"])


def test_processes_are_private(make_hosts: MakeHosts) -> None:
    """A host sees its own processes only, and a command is beside the first one, not it."""
    hosts = make_hosts(2)
    hosts[1].popen(["sleep", "60"])

    # Process 1 is the first one.
    assert ["1", "2"] == output(hosts[0], "sh", "-c", "cd /proc; exec echo [0-9]*").split()


def test_the_machine_is_not_touched(make_hosts: MakeHosts) -> None:
    """No network interface, route, mount or namespace of the machine's tells of hosts."""

    def machine() -> list[str]:
        commands = ["ip -br link", "ip route", "ip netns", "findmnt --raw --noheadings --output TARGET,SOURCE"]
        return [subprocess.run(command.split(), capture_output=True, text=True).stdout for command in commands]

    before = machine()
    make_hosts(3)

    assert before == machine()


def test_two_sets_do_not_meet(make_hosts: MakeHosts) -> None:
    """Sets that are there at the same time are independent, with the same names and addresses."""
    one, other = make_hosts(2), make_hosts(2)
    connect(one)
    server, client = connect(other)
    one.close()

    assert server.poll() is None
    assert client.poll() is None
    assert 0 == call(other[0], "true")


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_codes(make_hosts: MakeHosts, code: int) -> None:
    """A command's exit code is that of the process."""
    assert code == make_hosts(1)[0].popen(["sh", "-c", f"exit {code}"]).wait(30)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGUSR1])
def test_signals(make_hosts: MakeHosts, signum: signal.Signals) -> None:
    """A signal to the process is a signal to the command itself."""
    process = make_hosts(1)[0].popen(["sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE, text=True)
    assert "ready" == line(process)
    process.send_signal(signum)

    assert -signum == process.wait(10)


def test_a_program_that_is_not_there(make_hosts: MakeHosts) -> None:
    """The exit code is a shell's, and a message says what was not found."""
    process = make_hosts(1)[0].popen(["no-such-program"], stderr=subprocess.PIPE, text=True)

    assert "failed to execute no-such-program: No such file or directory" in process.communicate(timeout=PATIENCE)[1]
    assert 127 == process.returncode


def test_a_folder_that_is_not_there(make_hosts: MakeHosts) -> None:
    """A working folder that the host has not is named, also when the machine has it."""
    with pytest.raises(NotADirectoryError, match="no such folder on algo-1: '/root/none'"):
        make_hosts(1)[0].popen(["true"], cwd="/root/none")


def test_environment(make_hosts: MakeHosts) -> None:
    """A command has the variables that it was given and no others."""
    assert "A=b\n" == output(make_hosts(1)[0], "/usr/bin/env", env={"A": "b"})


def test_the_caller_stays_where_it_is(make_hosts: MakeHosts) -> None:
    """Starting commands on hosts, of several sets, leaves the caller's other children on the machine."""
    for hosts in (make_hosts(1), make_hosts(1)):
        call(hosts[0], "true")
    child = subprocess.run(["readlink", "/proc/self/ns/pid"], capture_output=True, text=True)

    assert f"{os.readlink('/proc/self/ns/pid')}\n" == child.stdout


def test_what_is_left_running(make_hosts: MakeHosts) -> None:
    """What a command left behind is listed, with both its ids; the host's first process and zombies are not."""
    hosts = make_hosts(2)
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code]
    leaves = hosts[0].popen(["sh", "-c", '"$@" &', "sh", *command], stdout=subprocess.PIPE, text=True)
    pid_on_host = int(line(leaves))
    leaves.wait(PATIENCE)
    zombie = hosts[0].popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    (left,) = hosts[0].processes()

    assert (pid_on_host, " ".join(command)) == (left.pid_on_host, left.command)
    assert f"{left.name}\n" == Path(f"/proc/{left.pid}/comm").read_text()
    assert [] == hosts[1].processes()


def test_orphans_are_reaped(make_hosts: MakeHosts) -> None:
    """A child that a command left behind does not stay as a zombie when it ends."""
    host = make_hosts(1)[0]
    output(host, "sh", "-c", "sleep 60 >/dev/null &")
    (orphan,) = host.processes()
    os.kill(orphan.pid, signal.SIGKILL)

    assert becomes(orphan.pid, {""})


def test_a_command_can_be_the_first_process(make_hosts: MakeHosts) -> None:
    """With `unshare` a command is PID 1, as in a container, and is listed as any other."""
    first = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    host = make_hosts(1)[0]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = host.popen([*first, "sh", "-c", "echo $$; read line"], **pipes)

    assert "1" == line(process)
    assert ["sh", "unshare"] == sorted(running.name for running in host.processes())


def test_hosts_talk(make_hosts: MakeHosts) -> None:
    """A TCP connection between hosts carries data both ways, and its end."""
    server, client = connect(make_hosts(2))
    client.terminate()

    assert "b''" == line(server)


def test_kill(make_hosts: MakeHosts) -> None:
    """A host that is killed is gone when `kill` returns: its processes, its network; its files can still be read."""
    hosts = make_hosts(2)
    process = hosts[1].popen(["sh", "-c", "echo text > /opt/ml/file; sleep 60 & echo $!; wait"], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    left = hosts[1].processes()
    hosts[1].kill()

    assert -signal.SIGKILL == process.wait(0)
    assert 2 == len(left)
    assert all(state(running.pid) in ("Z", "") for running in left)
    assert "text\n" == hosts[1].path("/opt/ml/file").read_text()
    assert "1\n" == output(hosts[0], "cat", "/sys/class/net/eth0/carrier")
    with pytest.raises(HostsError, match="algo-2 was killed"):
        hosts[1].popen(["true"])
    hosts[1].kill()


def test_peers_notice_a_kill(make_hosts: MakeHosts) -> None:
    """The kernel closes the connections of a host that is killed, as when a container is."""
    hosts = make_hosts(2)
    _, client = connect(hosts)
    hosts[1].kill()

    assert line(client) in ("b''", "ConnectionResetError")


def test_power_loss(make_hosts: MakeHosts) -> None:
    """Nobody hears of the end of a host that was cut off before."""
    hosts = make_hosts(2)
    _, client = connect(hosts, patience=1)
    hosts[1].partition()
    hosts[1].kill()

    assert line(client) in ("timeout", "TimeoutError")


@pytest.mark.parametrize("number", [0, 1])
def test_cut_and_mend(make_hosts: MakeHosts, number: int) -> None:
    """While a host is cut off nothing comes from it or gets to it; when it was mended, all that was sent does."""
    hosts = make_hosts(2)
    server, client = connect(hosts)
    hosts[number].partition()
    os.kill(client.pid, signal.SIGKILL)
    client.wait(PATIENCE)
    assert server.stdout
    assert not select.select([server.stdout], [], [], 0.5)[0]
    hosts[number].heal()

    assert line(server) in ("b''", "ConnectionResetError")


def test_many_hosts_quickly(make_hosts: MakeHosts) -> None:
    """32 hosts, each with its own address, are there within 3 s, and gone within 1 s."""
    begun = time.monotonic()
    hosts = make_hosts(32)
    made = time.monotonic()
    hosts.close()

    assert made - begun < 3
    assert time.monotonic() - made < 1


def test_close_ends_everything(make_hosts: MakeHosts) -> None:
    """When a set is closed nothing runs any more, and no file is open for it; closing it again does nothing."""
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    hosts = make_hosts(2)
    process = hosts[0].popen(["sh", "-c", "sleep 60 & echo ready; sleep 60"], stdout=subprocess.PIPE, text=True)
    assert "ready" == line(process)
    path = hosts[0].path()
    hosts.close()
    hosts.close()

    with process:
        assert -signal.SIGKILL == process.wait(0)
    assert before == len(os.listdir("/proc/self/fd"))
    assert not path.exists()


def test_kill_waits_for_what_is_starting(make_hosts: MakeHosts) -> None:
    """A command that was started just before its host is killed has ended when `kill` returns."""
    for host in make_hosts(8):
        process = host.popen(["sleep", "60"], stderr=subprocess.DEVNULL)
        host.kill()

        assert 0 != process.wait(0)


@pytest.mark.parametrize("end", ["kill", "leave"])
def test_nothing_outlives_the_owner(end: str) -> None:
    """Whether the owner is killed or ends without closing, every process of its hosts ends with it."""
    owner = in_new_interpreter(
        "import sys, time; hosts = Hosts(2); process = hosts[1].popen(['sleep', '60'])\n"
        "while not hosts[1].processes(): time.sleep(0.01)\n"
        "print(process.pid, hosts._init.pid, *[host._pid for host in hosts], flush=True)\n"
        f"{end!r} == 'kill' and time.sleep(60)"
    )
    pids = [int(pid) for pid in line(owner).split()]
    if end == "kill":
        owner.kill()
    owner.wait(10)

    assert 4 == len(pids)
    assert all(becomes(pid, {"Z", ""}) for pid in pids)


def test_hosts_outlive_the_thread_that_made_them() -> None:
    """A server may make hosts in a thread that does not stay."""
    owner = in_new_interpreter(
        "import threading; made = []\n"
        "thread = threading.Thread(target=lambda: made.append(Hosts(1))); thread.start(); thread.join()\n"
        "print(made[0][0].popen(['true']).wait()); made[0].close()"
    )

    assert "0\n" == owner.communicate(timeout=30)[0]


def test_not_root() -> None:
    """Without root the error says so, and that nothing which could be installed would help."""
    os.seteuid(65534)
    try:
        with pytest.raises(HostsError, match="hosts cannot be made on this machine: not run by root") as caught:
            Hosts(1)
    finally:
        os.seteuid(0)

    assert caught.value.forbidden


def test_namespaces_are_forbidden() -> None:
    """Root that may not make namespaces, as in most containers, is told what was refused."""
    code = "try:\n    Hosts(1)\nexcept HostsError as error:\n    print(error.forbidden, error)"
    owner = in_new_interpreter(code, "setpriv", "--bounding-set=-sys_admin", "--")

    assert line(owner).startswith("True hosts cannot be made on this machine: [Errno 1] unshare")


def test_missing_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One error names all that is missing, with the packages that bring it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostsError) as caught:
        Hosts(1, share=[tmp_path / "none"])

    assert (
        "hosts cannot be made on this machine: no `ip` (package iproute2), no `nsenter` (package util-linux), "
        f"no folder {tmp_path}/none"
    ) == str(caught.value)
    assert not caught.value.forbidden
