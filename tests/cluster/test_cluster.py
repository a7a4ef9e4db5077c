"""What the hosts of a job agree on, and how soon, on real hosts.

The program is one process a host here: what is shown is the agreement, which other strategies share.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest
from cluster import (
    SOON,
    Cluster,
    Ended,
    HostJob,
    MakeCluster,
    assert_all_ended_at_once,
    assert_all_failed,
    call,
    place,
    wait_until,
)
from jobs import TRAIN

pytestmark = pytest.mark.cluster

#: Runs until it is stopped, and says when it has begun.
SLEEPS = "import time; print('begun', flush=True); time.sleep(600)"

#: Does what a test says on one host, sleeps on the others.
ON = "import os, time\nif os.environ['SM_CURRENT_HOST'] == {host!r}:\n    {what}\ntime.sleep(600)"


def began(job: Cluster, program: str = SLEEPS) -> None:
    """Start a job, and wait until its program has begun on all hosts."""
    job.program(program)
    job.start()
    for name in job.names:
        job.expect(name, "begun")


def launcher(job: HostJob) -> int:
    """The process ID of a host's `train` command."""
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [each.pid for each in job.host.processes() if "sagemaker_framework.cli" in each.command]
        return bool(found)

    wait_until(is_there, f"train on {job.host.name}")  # It may be only entering the host.
    (train,) = found
    return train


def test_all_hosts_succeed(cluster: MakeCluster) -> None:
    """A job whose program ends well on all hosts succeeds on all of them."""
    job = cluster(3)
    job.program("import os; print(os.environ['SM_CURRENT_HOST'])")
    ended = job.run()

    assert {name: f"{name}\n" for name in job.names} == {name: host.stdout for name, host in ended.items()}
    assert all(host.succeeded and host.returncode == 0 and not host.left for host in ended.values())


def test_no_host_ends_before_the_others_have(cluster: MakeCluster) -> None:
    """Success is declared when all hosts have it: the first to finish waits for the last."""
    job = cluster(2)
    go = job["algo-2"].base / "go"
    job.program(
        "import os, time\n"
        "print('begun', flush=True)\n"
        f"while os.environ['SM_CURRENT_HOST'] == 'algo-2' and not os.path.exists('/opt/ml/{go.name}'):\n"
        "    time.sleep(0.01)\n"
    )
    job.start()
    job.expect("algo-1", "exited with code 0")
    assert not (job["algo-1"].base / "output/success").exists()
    go.touch()

    assert all(host.succeeded for host in job.finish().values())


def test_hosts_say_what_they_wait_for(cluster: MakeCluster) -> None:
    """A host whose program has ended says, every 10 s, whose has not."""
    job = cluster(3)
    job.program(
        "import os, time\n"
        "while os.environ['SM_CURRENT_HOST'] == 'algo-2' and not os.path.exists('/opt/ml/go'): time.sleep(0.01)\n"
    )
    job.start()
    job.expect("algo-1", "waiting for algo-2 (its program is running) to be ended")
    job.expect("algo-3", "waiting for algo-2 to be ended")
    (job["algo-2"].base / "go").touch()

    assert all(host.succeeded for host in job.finish().values())


@pytest.mark.fault
@pytest.mark.parametrize("failing", ["algo-1", "algo-3"])
def test_a_program_that_fails_on_one_host(cluster: MakeCluster, failing: str) -> None:
    """All hosts stop at once with the exit code and the last words of the program that failed."""
    job = cluster(3)
    job.program(ON.format(host=failing, what="raise ValueError('no such optimizer')"))
    ended = job.run(SOON)

    cause = f"{failing} (host {failing[-1]} of 3): train.py exited with code 1: ValueError: no such optimizer"
    assert_all_failed(ended, cause)
    assert all("raise ValueError" in (host.failure or "") for host in ended.values())
    assert_all_ended_at_once(ended)


def test_the_exit_code_of_the_first_to_fail(cluster: MakeCluster) -> None:
    """Hosts exit with the code of the program that failed, also where their own had ended well."""
    job = cluster(2)
    job.program("import os, sys; sys.exit(7 if os.environ['SM_CURRENT_HOST'] == 'algo-2' else 0)")

    assert_all_failed(job.run(SOON), "algo-2 (host 2 of 2): train.py exited with code 7", 7)


def test_the_first_of_two_failures_is_the_cause(cluster: MakeCluster) -> None:
    """A failure that follows from another is not what the job's owner is told."""
    job = cluster(2)
    job.program(
        "import os, signal, sys, time\n"
        "if os.environ['SM_CURRENT_HOST'] == 'algo-2':\n"
        "    sys.exit(7)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "time.sleep(600)\n"
    )

    assert_all_failed(job.run(SOON), "algo-2 (host 2 of 2): train.py exited with code 7", 7)


@pytest.mark.fault
def test_a_hook_that_fails_on_one_host(cluster: MakeCluster) -> None:
    """A host that cannot even prepare fails the job before the program starts anywhere."""
    job = cluster(2)
    job.write(
        "my_container.py",
        "from sagemaker_framework import FrameworkError, Trainer\n"
        "class MyTrainer(Trainer):\n"
        "    def pre_train(self):\n"
        "        if self.env.current_host == 'algo-2':\n"
        "            raise FrameworkError('no GPU here')\n",
    )
    job.env.update(PYTHONPATH="/opt/ml/code", SAGEMAKER_TRAINING_MODULE="my_container:MyTrainer")
    job.program("print('ran')")
    ended = job.run(SOON)

    assert_all_failed(ended, "algo-2 (host 2 of 2): no GPU here")
    assert ["", ""] == [host.stdout for host in ended.values()]


@pytest.mark.fault
@pytest.mark.parametrize("killed", ["algo-1", "algo-2"])
def test_a_host_that_is_killed(cluster: MakeCluster, killed: str) -> None:
    """The others notice the loss of a host, worker or leader, and name it."""
    job = cluster(3)
    began(job)
    job[killed].host.kill()
    ended = job.finish(SOON)
    del ended[killed]

    if killed == "algo-1":
        assert all(
            re.search(r"algo-1 \(host 1 of 3\): the leader (went away|has not answered)", host.cause)
            for host in ended.values()
        )
        assert [1, 1] == [host.returncode for host in ended.values()]
    else:
        (cause,) = {host.cause for host in ended.values()}
        assert re.match(
            r"algo-2 \(host 2 of 3\): this host (went away: its connection is lost|has not answered)", cause
        )
        assert_all_failed(ended, cause)


@pytest.mark.fault
@pytest.mark.parametrize("cut", ["algo-1", "algo-2"])
def test_a_host_that_is_cut_off(cluster: MakeCluster, cut: str) -> None:
    """Both sides of a broken link end the job within seconds, each naming the other."""
    job = cluster(2)
    began(job)
    job[cut].host.partition()
    ended = job.finish(SOON)

    assert "algo-2 (host 2 of 2): this host has not answered for" in ended["algo-1"].cause
    assert "algo-1 (host 1 of 2): the leader has not answered for" in ended["algo-2"].cause
    assert [(1, False, [])] * 2 == [(host.returncode, host.has_success_marker, host.left) for host in ended.values()]


@pytest.mark.fault
def test_a_launcher_that_hangs(cluster: MakeCluster) -> None:
    """A host whose `train` no longer runs, though its connection is open, is noticed by its silence."""
    job = cluster(2)
    began(job)
    os.kill(launcher(job["algo-2"]), signal.SIGSTOP)
    job._follow(lambda: job["algo-1"].ended_at > 0, "the end of algo-1", SOON)

    assert "algo-2 (host 2 of 2): this host has not answered for" in Ended(job["algo-1"]).cause


@pytest.mark.fault
def test_a_launcher_that_is_killed(cluster: MakeCluster) -> None:
    """A host whose `train` is killed alone is gone for the others."""
    job = cluster(2)
    began(job)
    os.kill(launcher(job["algo-2"]), signal.SIGKILL)
    job._follow(lambda: job["algo-1"].ended_at > 0, "the end of algo-1", SOON)

    assert "algo-2 (host 2 of 2): this host went away" in Ended(job["algo-1"]).cause


@pytest.mark.fault
def test_a_host_that_never_comes_up(cluster: MakeCluster) -> None:
    """The wait for a host ends at the deadline, and names the host; what is waited for is in the log before."""
    job = cluster(3)
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS"] = "12"
    job.program("print('ran')")
    job.start("algo-1", "algo-2")
    ended = job.finish(12 + SOON)

    assert_all_failed(
        ended,
        "algo-3 (host 3 of 3): not all hosts were ready 12 s after the first was: "
        "waited for algo-3 (has not connected)",
    )
    assert "waiting for algo-3 (has not connected) to be ready" in ended["algo-1"].stderr
    assert "waiting for algo-3 to be ready" in ended["algo-2"].stderr
    assert ["", ""] == [host.stdout for host in ended.values()]


@pytest.mark.fault
def test_a_name_that_never_resolves(cluster: MakeCluster) -> None:
    """Where a host's name leads nowhere, that is the reason given."""
    job = cluster(2)
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS"] = "2"
    for name in job.names:
        hosts = ["algo-1", "algo-2", "algo-9"]
        job[name].config("resourceconfig", {"current_host": name, "hosts": hosts, "network_interface_name": "eth0"})
    job.program("print('ran')")

    late = "waited for algo-9 (its name does not resolve)"

    assert_all_failed(
        job.run(2 + SOON), f"algo-9 (host 3 of 3): not all hosts were ready 2 s after the first was: {late}"
    )


@pytest.mark.fault
def test_a_leader_that_never_comes_up(cluster: MakeCluster) -> None:
    """A host that cannot reach the leader gives up at the deadline, and says why it could not."""
    job = cluster(2)
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS"] = "2"
    job.program("print('ran')")
    job.start("algo-2")
    ended = job.finish(2 + SOON)

    assert (
        "algo-1 (host 1 of 2): the leader could not be reached within 2 s: port 7776: Connection refused"
        in ended["algo-2"].cause
    )
    assert 1 == ended["algo-2"].returncode


@pytest.mark.fault
@pytest.mark.parametrize("asked", ["algo-1", "algo-2"])
def test_a_request_to_stop_on_one_host(cluster: MakeCluster, asked: str) -> None:
    """SIGTERM on any host stops the program on all of them, each with its time to save."""
    job = cluster(2)
    began(
        job,
        "import os, signal, sys, time\n"
        "def save(signum, frame):\n"
        "    os.write(1, b'saved\\n')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "os.write(1, b'begun\\n')\n"
        "time.sleep(600)\n",
    )
    os.kill(launcher(job[asked]), signal.SIGTERM)
    ended = job.finish(SOON)

    assert ["begun\nsaved\n"] * 2 == [host.stdout for host in ended.values()]
    assert [(0, None, [])] * 2 == [(host.returncode, host.failure, host.left) for host in ended.values()]


@pytest.mark.fault
@pytest.mark.parametrize("first", ["algo-1", "algo-2"])
def test_a_request_to_stop_on_all_hosts(cluster: MakeCluster, first: str) -> None:
    """Where the service asks every host, as it does, the program is asked once on each all the same."""
    job = cluster(2)
    began(
        job,
        "import os, signal, sys, time\n"
        "def save(signum, frame):\n"
        "    os.write(1, b'asked\\n')\n"
        "    time.sleep(1.5)\n"
        "    os.write(1, b'saved\\n')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "os.write(1, b'begun\\n')\n"
        "time.sleep(600)\n",
    )
    (second,) = set(job.names) - {first}
    os.kill(launcher(job[first]), signal.SIGTERM)
    job.expect(second, "asked")
    os.kill(launcher(job[second]), signal.SIGTERM)
    ended = job.finish(SOON)

    assert ["begun\nasked\nsaved\n"] * 2 == [host.stdout for host in ended.values()]
    assert [(0, None, [])] * 2 == [(host.returncode, host.failure, host.left) for host in ended.values()]


@pytest.mark.fault
def test_a_leader_that_is_stopped_before_the_others_come(cluster: MakeCluster) -> None:
    """They are stopped as well, instead of waiting for it."""
    job = cluster(2)
    job.program(SLEEPS)
    job.start("algo-1")
    assert 0 == call(job["algo-1"].host, "sh", "-c", "until grep -q :1E60 /proc/net/tcp6; do sleep 0.01; done")
    os.kill(launcher(job["algo-1"]), signal.SIGTERM)
    job.start("algo-2")
    ended = job.finish(SOON)

    assert {"the job was stopped by SIGTERM before its program ran"} == {host.cause for host in ended.values()}
    assert [143, 143] == [host.returncode for host in ended.values()]


@pytest.mark.fault
def test_a_host_that_is_stopped_before_the_leader_comes(cluster: MakeCluster) -> None:
    """It says so to the leader, before it goes, if that comes within seconds."""
    job = cluster(2)
    job.program(SLEEPS)
    job.start("algo-2")
    train = launcher(job["algo-2"])
    wait_until(lambda: psutil.Process(train).num_threads() > 1, "the thread that looks for the leader")
    os.kill(train, signal.SIGTERM)
    job.start("algo-1")
    ended = job.finish(SOON)

    assert {"the job was stopped by SIGTERM before its program ran"} == {host.cause for host in ended.values()}
    assert [143, 143] == [host.returncode for host in ended.values()]


def test_all_programs_have_the_same_limit_of_open_files(cluster: MakeCluster) -> None:
    """The leader, which needs a connection to each host, raises its own, and not that of its program."""
    job = cluster(2)
    job.program("import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])")
    job.start(command=["sh", "-c", 'ulimit -Sn 500 && exec "$@"', "sh", *TRAIN])
    ended = job.finish()

    assert ["500\n", "500\n"] == [host.stdout for host in ended.values()]


SERVING = """
import sys
from sagemaker_framework import DistributionStrategy, FrameworkError, Trainer

class Serving(DistributionStrategy):
    def advertise(self):
        return {"port": 7000 + self.env.current_host_rank}

    def plan(self, adverts):
        return {"ports": {host: advert["port"] for host, advert in adverts.items()}}

    def command(self, entry_point, args):
        return entry_point.command(args) if self.env.is_leader else None

    def env_vars(self):
        return {"PORTS": str(self.plan_result["ports"])}

    def start_servers(self, launch):
        launch("server", [sys.executable, "-c", SERVER, launch.program_env["PORTS"]])

    def summary(self):
        return {"host": self.env.current_host}

    def verify(self, summaries):
        print("facts of", *[each["host"] for each in summaries.values()], flush=True)

SERVER = "import signal; signal.pause()"

class MyTrainer(Trainer):
    def strategy(self):
        return Serving(self.env)
"""


def serving(job: Cluster, program: str, server: str = "import signal; signal.pause()") -> None:
    """Have a program run on the leader, and a server on every host."""
    job.write("my_container.py", SERVING + f"SERVER = {server!r}\n")
    job.env.update(PYTHONPATH="/opt/ml/code", SAGEMAKER_TRAINING_MODULE="my_container:MyTrainer")
    job.program(program)


def test_a_strategy_in_which_hosts_serve_the_leader(cluster: MakeCluster) -> None:
    """Hosts know what all have offered; those that only serve end when the leader's program has."""
    job = cluster(3)
    serving(job, "import os; print(os.environ['PORTS'])")
    ended = job.run()

    ports = {"algo-1": 7000, "algo-2": 7001, "algo-3": 7002}
    assert [f"{ports}\nfacts of algo-1 algo-2 algo-3\n", "", ""] == [host.stdout for host in ended.values()]
    assert all(host.succeeded and not host.left for host in ended.values())
    assert_all_ended_at_once(ended)


@pytest.mark.fault
def test_a_server_that_ends_on_a_host_that_only_serves(cluster: MakeCluster) -> None:
    """A server that dies fails the job on all hosts, with its name and last words."""
    job = cluster(2)
    server = "import os, sys, signal\nif os.environ.get('DIES'): sys.exit('no port left')\nsignal.pause()"
    job["algo-2"].env["DIES"] = "yes"
    serving(job, SLEEPS, server)
    ended = job.run(SOON)

    (cause,) = {host.cause for host in ended.values()}
    assert cause.startswith("algo-2 (host 2 of 2): server exited with code 1")
    assert cause.endswith("no port left")
    assert_all_failed(ended, cause)


@pytest.mark.fault
def test_a_host_that_only_serves_is_not_told_of_a_program(cluster: MakeCluster) -> None:
    """When the job is stopped, its log says that it served; the host with the program says how that ended."""
    job = cluster(2)
    serving(job, "print('begun', flush=True)\nimport time\ntime.sleep(600)")
    job.start()
    job.expect("algo-1", "begun")
    os.kill(launcher(job["algo-2"]), signal.SIGTERM)
    ended = job.finish(SOON)

    assert {"algo-1": 143, "algo-2": 0} == {name: host.returncode for name, host in ended.items()}
    assert "stopped by SIGTERM, and so was this host, which served the others" in ended["algo-2"].stderr
    assert "its program ended well" not in ended["algo-2"].stderr


PARAMETER_SERVERS = """
import sys
from sagemaker_framework import ParameterServerStrategy, Trainer

#: Says yes to whoever asks, and when it is stopped.
SERVER = '''
import os, signal, socket, sys
def stop(*_):
    os.write(1, b"server stopped\\\\n")
    sys.exit()
signal.signal(signal.SIGTERM, stop)
server = socket.create_server(("", int(sys.argv[1])))
os.write(1, b"server ready\\\\n")
while True:
    server.accept()[0].sendall(b"yes")
'''

class Servers(ParameterServerStrategy):
    def ports(self):
        return {"server": 9000}

    def start_servers(self, launch):
        launch("server", [sys.executable, "-c", SERVER, str(self.port("server", self.env.current_host))])

    def role_env(self, role):
        return {"SERVERS": " ".join(self.address("server", host) for host in self.hosts())}

    def completes_job(self):
        return self.is_leader or self.env.hyperparameters["all_decide"]

class MyTrainer(Trainer):
    def strategy(self):
        return Servers(self.env)
"""

#: Asks a server until it answers.
ASK = """
import os, signal, socket, sys, time
host = os.environ["SM_CURRENT_HOST"]
def ask(at):
    name, _, port = os.environ["SERVERS"].split()[at].partition(":")
    while True:
        try:
            with socket.create_connection((name, int(port))) as server:
                return server.recv(3).decode()
        except ConnectionRefusedError:
            time.sleep(0.01)
"""


def parameter_servers(job: Cluster, program: str, all_decide: bool = True) -> None:
    """Have a program run on each host, beside a server."""
    job.write("my_container.py", PARAMETER_SERVERS)
    job.env.update(PYTHONPATH="/opt/ml/code", SAGEMAKER_TRAINING_MODULE="my_container:MyTrainer")
    job.hyperparameters["all_decide"] = all_decide
    job.program(ASK + program)


def test_servers_are_stopped_when_all_programs_have_ended(cluster: MakeCluster) -> None:
    """A server outlives the program of its own host while another needs it, and no longer."""
    job = cluster(3)
    parameter_servers(job, "time.sleep(1.5 * (host == 'algo-3'))\nprint(ask(0), ask(1), ask(2))")
    ended = job.run()

    assert all(host.succeeded and not host.left for host in ended.values()), ended["algo-1"].stderr
    for host in ended.values():
        assert ["server ready", "server stopped", "yes yes yes"] == sorted(host.stdout.splitlines())
    assert_all_ended_at_once(ended)


def test_a_program_that_does_not_decide(cluster: MakeCluster) -> None:
    """The job is over when the leader's program has ended, although those of the others never would."""
    job = cluster(3)
    parameter_servers(job, "print(ask(1))\nif host != 'algo-1': time.sleep(600)", all_decide=False)
    ended = job.run()

    assert all(host.succeeded and not host.left for host in ended.values()), ended["algo-1"].stderr
    assert_all_ended_at_once(ended)


def test_a_program_that_does_not_decide_and_ends_well(cluster: MakeCluster) -> None:
    """It may end before the job does; the server beside it goes on."""
    job = cluster(2)
    parameter_servers(job, "if host == 'algo-1': time.sleep(1.5); print('still', ask(1))", all_decide=False)
    ended = job.run()

    assert all(host.succeeded and not host.left for host in ended.values()), ended["algo-1"].stderr
    assert "still yes" in ended["algo-1"].stdout


@pytest.mark.fault
def test_a_program_that_does_not_decide_and_fails(cluster: MakeCluster) -> None:
    """It fails the job, on all hosts, as any other does."""
    job = cluster(2)
    parameter_servers(job, "if host == 'algo-2': sys.exit('no data')\ntime.sleep(600)", all_decide=False)

    cause = "algo-2 (host 2 of 2): train.py exited with code 1 while the job was running: no data"
    assert_all_failed(job.run(SOON), cause)


@pytest.mark.fault
@pytest.mark.parametrize("killed", ["algo-1", "algo-2"])
def test_a_server_that_is_killed(cluster: MakeCluster, killed: str) -> None:
    """The death of a server ends the job on all hosts, whether the programs notice it or not."""
    job = cluster(2)
    parameter_servers(job, "print('begun', flush=True)\ntime.sleep(600)")
    job.start()
    for name in job.names:
        job.expect(name, "begun")
    (server,) = [process.pid for process in job[killed].host.processes() if "create_server" in process.command]
    os.kill(server, signal.SIGKILL)
    ended = job.finish(SOON)

    (cause,) = {host.cause for host in ended.values()}
    how = f"{place(job, killed)}: server was killed by signal 9 (SIGKILL) while train.py was running"
    assert cause.startswith(how)
    assert_all_failed(ended, cause, 137)


@pytest.mark.fault
@pytest.mark.parametrize("all_decide", [True, False])
def test_servers_are_there_while_a_stopped_program_saves(cluster: MakeCluster, all_decide: bool) -> None:
    """When the job is stopped, servers on all hosts wait for the last program; what does not decide is like one."""
    job = cluster(2)
    parameter_servers(
        job,
        "def save(signum, frame):\n"
        "    if host == 'algo-1':\n"
        "        time.sleep(1.5)\n"
        "        os.write(1, f'saved: {ask(1)}\\n'.encode())\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "os.write(1, b'begun\\n')\n"
        "time.sleep(600)\n",
        all_decide,
    )
    job.start()
    for name in job.names:
        job.expect(name, "begun")
    os.kill(launcher(job["algo-2"]), signal.SIGTERM)
    ended = job.finish(SOON)

    assert [(0, None, [])] * 2 == [(host.returncode, host.failure, host.left) for host in ended.values()]
    assert ["begun", "server ready", "server stopped"] == sorted(ended["algo-2"].stdout.splitlines())
    assert "saved: yes" in ended["algo-1"].stdout
    assert ended["algo-1"].stdout.endswith("server stopped\n")


@pytest.mark.fault
def test_servers_outlive_a_program_that_is_stopped_without_saving(cluster: MakeCluster) -> None:
    """Where a program just dies of the request, the servers beside it are there for one elsewhere that saves."""
    job = cluster(2)
    parameter_servers(
        job,
        "def save(signum, frame):\n"
        "    time.sleep(1.5)\n"
        "    os.write(1, f'saved: {ask(1)}\\n'.encode())\n"
        "    os._exit(0)\n"
        "if host == 'algo-1': signal.signal(signal.SIGTERM, save)\n"
        "os.write(1, b'begun\\n')\n"
        "time.sleep(600)\n",
    )
    job.start()
    for name in job.names:
        job.expect(name, "begun")
    os.kill(launcher(job["algo-2"]), signal.SIGTERM)
    ended = job.finish(SOON)

    assert "saved: yes" in ended["algo-1"].stdout
    assert [(0, []), (143, [])] == [(host.returncode, host.left) for host in ended.values()]
    assert "the job was stopped by SIGTERM: train.py was killed by signal 15 (SIGTERM)" == ended["algo-2"].cause


def test_a_host_that_takes_no_part_does_not_decide(cluster: MakeCluster) -> None:
    """Where no program of the distribution completes it, the job fails, whatever runs beside it."""
    job = cluster(3)
    job.groups({"a": ["algo-1"], "b": ["algo-2", "algo-3"]})
    parameter_servers(job, "time.sleep(1)")
    for each in job.jobs.values():
        text = (each.code_dir / "my_container.py").read_text()
        each.write("my_container.py", text.replace("return self.is_leader or", "return False and"))
    job.hyperparameters["sagemaker_distribution_instance_groups"] = ["b"]
    ended = job.run(SOON)

    (cause,) = {host.cause for host in ended.values()}
    assert cause.startswith("algo-2 (host 2 of 3): Servers: no host has a program to wait for")
    assert_all_failed(ended, cause)


@pytest.mark.fault
def test_a_stopped_program_that_never_ends(cluster: MakeCluster) -> None:
    """Servers do not wait for longer than the grace period."""
    job = cluster(2)
    job.env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "1"
    parameter_servers(
        job,
        "signal.signal(signal.SIGTERM, signal.SIG_IGN if host == 'algo-1' else lambda *_: os._exit(0))\n"
        "os.write(1, b'begun\\n')\n"
        "while True: time.sleep(600)\n",
    )
    job.start()
    for name in job.names:
        job.expect(name, "begun")
    os.kill(launcher(job["algo-1"]), signal.SIGTERM)
    ended = job.finish(SOON)

    assert [(137, []), (0, [])] == [(host.returncode, host.left) for host in ended.values()]
    assert not any(host.has_success_marker for host in ended.values())


def test_an_agreement_that_fails(cluster: MakeCluster) -> None:
    """What the leader finds wrong with the adverts is the cause on all hosts, and nothing has run."""
    job = cluster(2)
    serving(job, "print('ran')")
    for each in job.jobs.values():
        text = (each.code_dir / "my_container.py").read_text()
        each.write("my_container.py", text.replace('return {"ports"', 'raise FrameworkError("too few"); {"ports"'))
    ended = job.run(SOON)

    assert_all_failed(ended, "algo-1 (host 1 of 2): too few")
    assert ["", ""] == [host.stdout for host in ended.values()]


def test_hosts_that_have_to_agree_cannot_be_independent(cluster: MakeCluster) -> None:
    """SAGEMAKER_FRAMEWORK_CLUSTER=off fails a job whose processes are spread over hosts."""
    job = cluster(2)
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER"] = "off"
    serving(job, "print('ran')")
    job.start("algo-1")

    assert "SAGEMAKER_FRAMEWORK_CLUSTER is off, but" in job.finish(SOON)["algo-1"].cause


def test_a_stranger_is_refused(cluster: MakeCluster) -> None:
    """A host that is not configured as the others, so that its key differs, does not take part."""
    job = cluster(2)
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER_TIMEOUT_SECONDS"] = "3"
    job["algo-2"].hyperparameters["secret"] = "other"
    job.program("print('ran')")
    ended = job.run(3 + SOON)

    assert "does not have the key of this job" in ended["algo-2"].cause
    assert "waited for algo-2" in ended["algo-1"].cause
    assert ["", ""] == [host.stdout for host in ended.values()]


def test_a_stranger_who_sends_nonsense(cluster: MakeCluster) -> None:
    """What somebody without the key sends to the leader does not disturb the job."""
    job = cluster(2)
    program = "import os, time\nprint('begun', flush=True)\nwhile not os.path.exists('/opt/ml/go'): time.sleep(0.01)"
    began(job, program)
    attempt = (
        "import os, socket\n"
        "for sent in (b'[' * 1020 + b'\\n', b'{' * 2000, os.urandom(500) + b'\\n', b'{\"host\": 1}\\n', b'\\n\\n'):\n"
        "    with socket.create_connection(('algo-1', 7776)) as leader:\n"
        "        leader.sendall(sent)\n"
        "        leader.shutdown(socket.SHUT_WR)\n"
        "        try:\n"
        "            while leader.recv(4096): pass\n"
        "        except ConnectionResetError:\n"
        "            pass\n"
    )
    assert 0 == call(job["algo-2"].host, sys.executable, "-c", attempt)
    for each in job.jobs.values():
        (each.base / "go").touch()

    assert all(host.succeeded for host in job.finish().values())


def test_a_module_that_cannot_be_imported_on_one_host(cluster: MakeCluster) -> None:
    """Nobody waits for a host that has no Trainer to begin with: all fail with its reason."""
    for broken in ("algo-1", "algo-2"):
        job = cluster(2)
        job.program(SLEEPS)
        for name, each in job.jobs.items():
            each.write(
                "own.py", "import no_such_module" if name == broken else "from sagemaker_framework import Trainer"
            )
        job.env.update(PYTHONPATH="/opt/ml/code", SAGEMAKER_TRAINING_MODULE="own:Trainer")
        ended = job.run(SOON)

        (cause,) = {host.cause for host in ended.values()}
        assert cause.startswith(f"{place(job, broken)}: SAGEMAKER_TRAINING_MODULE=own:Trainer: importing own")
        assert_all_failed(ended, cause)


def test_hosts_that_are_to_be_independent(cluster: MakeCluster) -> None:
    """With SAGEMAKER_FRAMEWORK_CLUSTER=off a host waits for no other."""
    job = cluster(2)
    job.env["SAGEMAKER_FRAMEWORK_CLUSTER"] = "off"
    job.program("print('ran')")
    job.start("algo-2")

    assert "ran\n" == job.finish()["algo-2"].stdout


def test_ten_failures_in_a_row(cluster: MakeCluster) -> None:
    """The cause is the right one each time."""
    job = cluster(2)
    job.program("import os, sys; sys.exit(7 if os.environ['SM_CURRENT_HOST'] == 'algo-2' else 0)")
    for _ in range(10):
        for each in job.jobs.values():
            each.process, each.ended_at = None, 0.0
            each.stdout.clear()
            each.stderr.clear()
            Path(each.base / "output/failure").unlink(missing_ok=True)
        assert_all_failed(job.run(SOON), "algo-2 (host 2 of 2): train.py exited with code 7", 7)


@pytest.mark.fault
@pytest.mark.parametrize("broken", ["algo-1", "algo-2"])
def test_a_setting_that_is_broken_on_one_host(cluster: MakeCluster, broken: str) -> None:
    """The others hear of it within seconds, and name it as that host does; nothing has run."""
    job = cluster(3)
    job.program("print('ran')")
    job[broken].env["SAGEMAKER_FRAMEWORK_GRACE_SECONDS"] = "soon"
    ended = job.run(SOON)

    cause = (
        f"{place(job, broken)}: SAGEMAKER_FRAMEWORK_GRACE_SECONDS is 'soon', not a number of seconds from 0 to 1000000"
    )
    assert_all_failed(ended, cause)
    assert ["", "", ""] == [host.stdout for host in ended.values()]


@pytest.mark.fault
def test_a_configuration_file_that_is_broken_on_one_host(cluster: MakeCluster) -> None:
    """A host that can still prove who it is tells the others of it."""
    job = cluster(2)
    job.program("print('ran')")
    job["algo-2"].config("inputdataconfig", "{")
    ended = job.run(SOON)

    (cause,) = {host.cause for host in ended.values()}
    assert cause.startswith(
        f"{place(job, 'algo-2')}: /opt/ml/input/config/inputdataconfig.json, line 1: not valid JSON"
    )
    assert_all_failed(ended, cause)
