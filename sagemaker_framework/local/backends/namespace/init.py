"""
Makes the hosts of a set (hosts.py) and keeps them alive. A program of its own: `python -I -S init.py SETTINGS`.

It makes the switch and the hosts, writes the hosts' process IDs or an error to stdout as one line of JSON, and waits
for the end of its owner. Nothing has a name on the machine: the switch's network namespace is this process's own, and
a host's namespaces are those of its first process, a child of this process that dies with it. So the kernel removes
everything when the owner or this process ends, for whatever reason.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_NOSUID_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2 | 4, 0x1000, 0x4000, 1 << 18
MNT_DETACH, PR_SET_PDEATHSIG = 2, 1

#: A host's file tree is built here: the folder exists everywhere, is never shared, and is not needed meanwhile.
STAGE = "/proc"
#: Folders that start empty and private on each host, and their modes; the rest of the tree starts as the machine's.
PRIVATE = {"/opt/ml": "755", "/tmp": "1777", "/run": "755", "/root": "700"}

_libc = ctypes.CDLL(None, use_errno=True)


def call(function: str, *args: Any) -> None:
    """Call a function of the C library.

    Raises:
        OSError: it fails; the message names the call.
    """
    encoded = [argument.encode() if isinstance(argument, str) else argument for argument in args]
    if getattr(_libc, function)(*encoded) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}{args}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    os.makedirs(target, exist_ok=True)
    call("mount", source, target, kind, ctypes.c_ulong(flags), data)


def ip(*commands: str) -> None:
    """Run `ip` commands in the current network namespace.

    Raises:
        OSError: one fails.
    """
    ended = subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), capture_output=True, text=True)
    if ended.returncode:
        raise OSError(errno.EIO, f"ip: {ended.stderr.strip()}")


def make_tree(settings: dict[str, Any]) -> None:
    """Give this process a file system of its own, whose changes are in memory and vanish with the process."""
    call("unshare", CLONE_NEWNS)
    call("mount", "none", "/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    mount("tmpfs", STAGE, "tmpfs", data="mode=755")
    root = f"{STAGE}/root"
    for folder in ("upper", "work"):
        os.mkdir(f"{STAGE}/{folder}")
    mount("overlay", root, "overlay", data=f"lowerdir={settings['root']},upperdir={STAGE}/upper,workdir={STAGE}/work")
    mount("proc", f"{root}/proc", "proc", MS_NOSUID_NODEV)
    mount("sysfs", f"{root}/sys", "sysfs", MS_NOSUID_NODEV)
    for shared in ("/sys/fs/cgroup", "/dev"):
        if os.path.isdir(shared):
            mount(shared, root + shared, flags=MS_BIND | MS_REC)
    mount("tmpfs", f"{root}/dev/shm", "tmpfs", MS_NOSUID_NODEV, "mode=1777")
    for folder, mode in PRIVATE.items():
        mount("tmpfs", root + folder, "tmpfs", MS_NOSUID_NODEV, f"mode={mode}")
    for folder in settings["share"]:
        mount(folder, root + folder, flags=MS_BIND | MS_REC)
    os.chdir(root)
    call("pivot_root", ".", ".")
    call("umount2", ".", MNT_DETACH)
    os.chdir("/")


def write(file: str, text: str) -> None:
    # An image may have a symlink there, to a file that only its own services make.
    if os.path.islink(file):
        os.unlink(file)
    with open(file, "w") as stream:
        stream.write(text)


def be_host(settings: dict[str, Any], hostname: str) -> None:
    """Turn this process into the first process of a host, which adopts orphans."""
    call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    make_tree(settings)
    socket.sethostname(hostname)
    lines = ("{address} {name}\n{address} {hostname}\n".format(**host) for host in settings["hosts"])
    write("/etc/hosts", "127.0.0.1 localhost\n" + "".join(lines))
    write("/etc/hostname", f"{hostname}\n")
    write("/etc/resolv.conf", "")
    # With "files" only, a name that is not in /etc/hosts is unknown at once; no DNS server is asked.
    write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    # The kernel reaps the children of a process that ignores SIGCHLD.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def make_hosts(settings: dict[str, Any]) -> list[int]:
    """Make the switch and the hosts.

    Returns:
        The process IDs of the hosts' first processes.
    """
    call("unshare", CLONE_NEWNET)
    network, prefix, gateway = settings["interface"], settings["prefix"], settings["gateway"]
    ip("link set lo up", "link add switch type bridge", "link set switch up", f"addr add {gateway}/{prefix} dev switch")
    # An address outside of the cluster is refused at once, as on a machine without a route.
    ip("route add unreachable default")
    write("/proc/sys/net/ipv4/ip_forward", "1")
    switch, pids = os.open("/proc/self/ns/net", os.O_RDONLY), os.open("/proc/self/ns/pid", os.O_RDONLY)
    reports, report = os.pipe()
    made = []
    for number, host in enumerate(settings["hosts"]):
        # Made here and inherited by the child, which then need not wait for it.
        call("unshare", CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC)
        ip(
            "link set lo up",
            f"link add {network} type veth peer name port{number} netns /proc/{os.getpid()}/fd/{switch}",
            f"addr add {host['address']}/{prefix} dev {network}",
            f"link set {network} up",
            f"route add default via {gateway}",
        )
        call("unshare", CLONE_NEWPID)
        child = os.fork()
        if not child:
            try:
                os.close(reports)
                be_host(settings, host["hostname"])
                message = "{}"
            except OSError as error:
                message = json.dumps({"error": str(error), "errno": error.errno})
            os.write(report, f"{message}\n".encode())
            for stream in range(3):
                os.dup2(os.open(os.devnull, os.O_RDWR), stream)
            os.closerange(3, 64)
            while True:
                signal.pause()
        made.append(child)
        call("setns", pids, CLONE_NEWPID)
        call("setns", switch, CLONE_NEWNET)
    os.close(report)
    with open(reports) as lines:
        answers = [json.loads(line) for line in lines]
    for answer in answers:
        if answer:
            raise OSError(answer["errno"], answer["error"])
    if len(answers) < len(made):
        raise OSError(errno.ESRCH, "a host's first process was killed")
    ip(*[f"link set port{number} master switch up" for number in range(len(made))])
    return made


def main() -> None:
    settings = json.loads(sys.argv[1])
    owner = os.pidfd_open(settings["owner"])
    try:
        print(json.dumps({"pids": make_hosts(settings)}), flush=True)
    except OSError as error:
        print(json.dumps({"error": str(error), "errno": error.errno}), flush=True)
        return
    # A signal to the owner's terminal is not for the hosts, and the end of a thread is not the owner's.
    waiting = select.poll()
    waiting.register(owner, select.POLLIN)
    waiting.poll()


if __name__ == "__main__":
    main()
