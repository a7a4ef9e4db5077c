"""What a job on thousands of hosts costs its leader: CPU time, memory, and time until all hosts agree.

The leader is the real `train` command. The other hosts are simulated by this process: each is a TCP connection that
says what a host's `train` says, with the same code for messages and signatures (wire.py), over the loopback device.
Their names do not resolve, so that the leader is told not to look (SM_STUDIO_LOCAL_MODE); their start is not
simulated: all come at once, which is the worst case for the leader.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from job import Job

from sagemaker_framework import cluster
from sagemaker_framework.cluster import messages
from sagemaker_framework.cluster.wire import Connection, ConnectionLost, nonce, proof, same
from sagemaker_framework.config import files, settings
from sagemaker_framework.failures import Failure
from sagemaker_framework.timing import BEAT

PORT = 17776
#: Tells that it has begun, and runs until it is told to end.
SCRIPT = "import sys\nprint('begun', flush=True)\nsys.stdin.read()\n"
IDLE = 10.0  # seconds in which nothing happens but signs of life


class Member:
    """One simulated host."""

    def __init__(self, host: str, key: bytes) -> None:
        self.host = host
        self.key = key
        self.nonces = ("", "")
        self.is_in = False
        self.told: set[str] = set()
        self.beaten = 0.0
        self.connection = Connection(socket.create_connection(("127.0.0.1", PORT)))

    def greet(self) -> None:
        """Ask to be let in."""
        self.nonces = (nonce(), "")
        self.connection.send({"hello": 1, "host": self.host, "nonce": self.nonces[0]})

    def hear(self, message: dict[str, Any]) -> None:
        """Take note of a message."""
        if self.is_in:
            self.told.add(f"{message['type']} {message.get('phase', '')}".strip())
        elif "proof" in message:
            assert same(message["proof"], proof(self.key, "leader", self.host, *self.nonces))
            session = bytes.fromhex(proof(self.key, "session", self.host, *self.nonces))
            self.connection.secure(session, "to leader", "to member")
            self.is_in = True
        else:
            self.nonces = (self.nonces[0], message["nonce"])
            self.connection.send({"proof": proof(self.key, "member", self.host, *self.nonces)})

    def arrive(self, phase: str) -> None:
        """Say that this host has come to a phase."""
        self.connection.send(messages.at(phase, {"completes_job": True}, time.monotonic()))


class Run:
    """One job, with its leader and simulated hosts."""

    def __init__(self, hosts: int, folder: str) -> None:
        job = Job(folder, SCRIPT)
        self.names = [f"algo-{number}" for number in range(1, hosts + 1)]
        resources = {"current_host": "algo-1", "hosts": self.names, "network_interface_name": "lo"}
        Path(folder, "input/config/resourceconfig.json").write_text(json.dumps(resources))
        environ = {
            **job.environment,
            "SM_STUDIO_LOCAL_MODE": "true",
            settings.SWITCH_VARIABLE: "on",
            settings.PORT_VARIABLE: str(PORT),
        }
        os.environ["SAGEMAKER_BASE_DIR"] = folder
        self.key = cluster.job_key(files.read(), environ)
        self.train = subprocess.Popen(
            job.train, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.selector = selectors.DefaultSelector()
        self.members: list[Member] = []

    def connect(self) -> None:
        """Have all hosts let in."""
        while True:
            try:
                socket.create_connection(("127.0.0.1", PORT)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        for name in self.names[1:]:
            member = Member(name, self.key)
            self.members.append(member)
            self.selector.register(member.connection, selectors.EVENT_READ, member)
            member.greet()
        self.until(lambda member: member.is_in)

    def phase(self, name: str) -> None:
        """Have all hosts come to a phase, and be told that all have."""
        for member in self.members:
            member.arrive(name)
        self.until(lambda member: f"go {name}" in member.told)

    def until(self, is_so: Any, deadline: float = 120) -> None:
        """Let the hosts hear what the leader says until something is so for each of them."""
        end = time.monotonic() + deadline
        waiting = [member for member in self.members if not is_so(member)]
        while waiting:
            if time.monotonic() > end:
                sys.exit(f"{len(waiting)} of {len(self.members)} hosts still waited after {deadline:g} s")
            self.turn(0.1)
            while waiting and is_so(waiting[-1]):
                waiting.pop()

    def turn(self, timeout: float) -> None:
        """Let the hosts hear what there is, and give their signs of life."""
        for key, _ in self.selector.select(timeout):
            try:
                for message in key.data.connection.receive():
                    key.data.hear(message)
            except ConnectionLost:
                self.selector.unregister(key.fileobj)
        now = time.monotonic()
        for member in self.members:
            if now - member.beaten >= BEAT and member.is_in:
                member.beaten = now
                member.connection.beat()

    def idle(self, seconds: float) -> float:
        """Let nothing happen for a while.  How much CPU time the leader took for a second of it."""
        begun, before = time.monotonic(), self.cpu()
        while time.monotonic() - begun < seconds:
            self.turn(0.1)
        return (self.cpu() - before) / (time.monotonic() - begun)

    def cpu(self) -> float:
        """Seconds of CPU time that the leader has used."""
        fields = Path(f"/proc/{self.train.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak(self) -> int:
        """The leader's greatest resident set so far, in KiB."""
        status = Path(f"/proc/{self.train.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    def close(self) -> None:
        """Let the hosts go."""
        for member in self.members:
            member.connection.close()


def measure(hosts: int) -> dict[str, float]:
    """A job that succeeds, and one that fails, on so many hosts."""
    figures: dict[str, float] = {"hosts": hosts}
    with tempfile.TemporaryDirectory() as folder:
        run = Run(hosts, folder)
        begun = time.monotonic()
        run.connect()
        figures["all are in, s"] = time.monotonic() - begun
        run.phase("ready")
        run.phase("serving")
        figures["all have started, s"] = time.monotonic() - begun
        figures["leader's CPU until then, s"] = run.cpu()
        assert run.train.stdout
        run.train.stdout.readline()
        figures["leader's CPU in a second of training, s"] = run.idle(IDLE)
        ending = time.monotonic()
        assert run.train.stdin
        for member in run.members:
            member.arrive("ended")
        run.train.stdin.close()
        run.until(lambda member: "go ended" in member.told)
        figures["leader's peak memory, KiB"] = run.peak()
        for member in run.members:
            member.arrive("done")
        run.until(lambda member: "go done" in member.told)
        for member in run.members:
            member.connection.send({"type": "bye"})
        code = run.train.wait(60)
        figures["from the end of the programs to the leader's, s"] = time.monotonic() - ending
        run.close()
    if code:
        sys.exit(f"the leader exited with code {code}, not 0")
    with tempfile.TemporaryDirectory() as folder:
        run = Run(hosts, folder)
        run.connect()
        run.phase("ready")
        run.phase("serving")
        failing = time.monotonic()
        failure = Failure("algo-2", "algo-2: broken", exit_code=7, raised_at=failing)
        failed = messages.failed(failure, time.monotonic())
        run.members[0].connection.send(failed)
        run.until(lambda member: member is run.members[0] or "fail" in member.told)
        figures["from a failure until all hosts know, s"] = time.monotonic() - failing
        for member in run.members[1:]:
            member.connection.send({"type": "ack"})
        run.until(lambda member: "verdict" in member.told)
        for member in run.members:
            member.connection.send({"type": "bye"})
        code = run.train.wait(60)
        figures["from a failure until the leader's end, s"] = time.monotonic() - failing
        run.close()
    if code != 7:
        sys.exit(f"the leader exited with code {code}, not 7")
    return figures


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 256, 4096], help="two counts or more")
    parser.add_argument("--max-cpu-ms", type=float, help="fail where a host costs the leader more CPU time")
    parser.add_argument("--max-kib", type=float, help="fail where a host costs the leader more memory")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    results = [measure(count) for count in given.hosts]
    for name in results[0]:
        print(f"{name:50}" + "".join(f"{result[name]:>12.4g}" for result in results))
    fewest, most = results[0], results[-1]
    more = most["hosts"] - fewest["hosts"]
    cpu = 1000 * (most["leader's CPU until then, s"] - fewest["leader's CPU until then, s"]) / more
    memory = (most["leader's peak memory, KiB"] - fewest["leader's peak memory, KiB"]) / more
    print(f"each host more costs the leader {cpu:.2g} ms of CPU time and {memory:.2g} KiB")
    if cpu > (given.max_cpu_ms or cpu) or memory > (given.max_kib or memory):
        sys.exit(f"more than {given.max_cpu_ms} ms or {given.max_kib} KiB")


if __name__ == "__main__":
    main()
