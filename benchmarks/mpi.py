"""What a job with MPI takes longer than raw mpirun, on the same hosts, and how soon the other hosts are gone.

Hosts are namespaces of this machine (root only), the program meets all others once and ends. Raw mpirun gets the same
options, over sshd processes that run already; the job starts with nothing: its hosts find and authenticate each other,
make keys and start sshd within the time that is measured, from the start of `train` on all hosts until the last one
has ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sagemaker_framework.local.backends.namespace.hosts import Host, Hosts
from sagemaker_framework.strategies._ssh import Client, Server
from sagemaker_framework.strategies.mpi import _defaults, _mpirun, _version

PROGRAM = "from mpi4py import MPI\nMPI.COMM_WORLD.Barrier()\n"
FOLDER = "/tmp/raw"
TRAIN = [sys.executable, "-c", "import sys; from sagemaker_framework.cli import train; sys.exit(train())"]
HERE = Path(__file__).resolve()


def on_host(what: str, *args: str) -> None:
    """What this file does when it is run on a host, for raw mpirun."""
    os.makedirs(FOLDER, exist_ok=True)
    if what == "client":
        client = Client(FOLDER)
        print(client.public_key, flush=True)
        print(" ".join(client.command(json.loads(sys.stdin.readline()))), flush=True)
    else:
        server = Server(FOLDER)
        print(json.dumps(server.advert), flush=True)
        command = server.command(*args)
        os.execv(command[0], command)


def start(host: Host, *args: str) -> subprocess.Popen[str]:
    """Run this file on a host."""
    return host.popen([sys.executable, HERE, "--on-host", *args], **PIPES)


PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


def raw_mpirun(hosts: list[Host], ranks: int) -> list[str]:
    """The command of raw mpirun, with sshd processes on all hosts but the first, which runs it."""
    leader, *others = hosts
    client = start(leader, "client")
    assert client.stdin is not None
    assert client.stdout is not None
    key = client.stdout.readline().strip()
    servers = {host.name: start(host, "server", key) for host in others}
    adverts = {name: json.loads(server.stdout.readline()) for name, server in servers.items() if server.stdout}
    client.stdin.write(json.dumps(adverts) + "\n")
    client.stdin.flush()
    agent = client.stdout.readline().split()
    lines = [f"{host.name if host is not leader else 'localhost'} slots={ranks}\n" for host in hosts]
    leader.path(f"{FOLDER}/hosts").write_text("".join(lines))
    mpirun = _mpirun()
    options = [word for option in _defaults(_version(mpirun), "eth0", agent) for word in option]
    if "MPI4PY_LIBMPI" in os.environ:
        options += ["-x", "MPI4PY_LIBMPI"]
    program = [sys.executable, "-m", "mpi4py", "-c", PROGRAM]
    return [mpirun, "--hostfile", f"{FOLDER}/hosts", "-np", str(ranks * len(hosts)), *options, *program]


def time_raw(leader: Host, command: list[str]) -> float:
    """Seconds that raw mpirun takes."""
    begun = time.monotonic()
    ran = leader.popen(command, stdin=subprocess.DEVNULL)
    assert ran.wait() == 0, f"mpirun exited with code {ran.returncode}"
    return time.monotonic() - begun


def time_job(hosts: list[Host], ranks: int) -> tuple[float, float]:
    """Seconds that the job takes, and that the last host ends after the leader has."""
    names = [host.name for host in hosts]
    settings = {
        "sagemaker_program": "train.py",
        "sagemaker_mpi_enabled": True,
        "sagemaker_mpi_num_of_processes_per_host": ranks,
    }
    for host in hosts:
        base = host.path("/opt/ml")
        for folder in ("code", "input/config"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        (base / "code/train.py").write_text(PROGRAM)
        parameters = {name: json.dumps(value) for name, value in settings.items()}
        (base / "input/config/hyperparameters.json").write_text(json.dumps(parameters))
        resources = {"current_host": host.name, "hosts": names, "network_interface_name": "eth0"}
        (base / "input/config/resourceconfig.json").write_text(json.dumps(resources))
        (base / "input/config/inputdataconfig.json").write_text("{}")
    begun = time.monotonic()
    jobs = [host.popen(TRAIN, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for host in hosts]
    ended = {}
    for at, job in enumerate(jobs):
        _, said = job.communicate()
        ended[at] = time.monotonic()
        assert job.returncode == 0, f"{names[at]}: exit code {job.returncode}: {said}"
    return max(ended.values()) - begun, max(ended.values()) - ended[0]


def main() -> None:
    """Measure, and exit with 1 where a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--ranks", type=int, default=2, help="per host (default: 2)")
    parser.add_argument("--repeat", type=int, default=3, help="of which the fastest counts (default: 3)")
    parser.add_argument("--max-ratio", type=float, help="of the job's time to raw mpirun's, a second being free")
    parser.add_argument("--max-exit", type=float, help="seconds that a host may end after the leader")
    options = parser.parse_args()
    too_much = False
    print(f"{'hosts':>5} {'ranks':>5} {'mpirun':>8} {'job':>8} {'ratio':>6} {'(job - 1 s)':>11} {'last exit':>9}")
    for count in options.hosts:
        share = [HERE.parent.parent, sys.prefix, sys.base_prefix]
        with Hosts(count, share=share) as made:
            hosts = list(made)
            command = raw_mpirun(hosts, options.ranks)
            raw = min(time_raw(hosts[0], command) for _ in range(options.repeat))
            job, last = min(time_job(hosts, options.ranks) for _ in range(options.repeat))
        ratio = (job - 1) / raw
        times = f"{raw:6.2f} s {job:6.2f} s {job / raw:6.2f} {ratio:11.2f} {last:7.2f} s"
        print(f"{count:5} {count * options.ranks:5} {times}", flush=True)
        too_much |= options.max_ratio is not None and ratio > options.max_ratio
        too_much |= options.max_exit is not None and last > options.max_exit
    if too_much:
        sys.exit("more than the limit")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--on-host"]:
        on_host(*sys.argv[2:])
    else:
        main()
