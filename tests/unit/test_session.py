"""The sessions of two hosts, by real connections, in one process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sagemaker_framework.cluster.follower import Follower
from sagemaker_framework.cluster.leader import Leader
from sagemaker_framework.cluster.thread import ThreadedSession
from sagemaker_framework.errors import FrameworkError, JobStopped

HOSTS = ["localhost", "algo-2"]


class Run:
    """The run of a job on a host that does not stop by itself, however often it is asked to."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def request_stop(self, signum: int) -> None:
        """Take no notice: the program has ended well."""

    def interrupt(self, error: FrameworkError) -> None:
        raise AssertionError(error)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout=30)


def session(kind: type[ThreadedSession], host: str, port: int) -> ThreadedSession:
    made = kind(
        hosts=HOSTS, host=host, leader=HOSTS[0], port=port, key=b"k", timeout=30, check_names=False, control=Run()
    )
    made.start()
    return made


@pytest.fixture
def sessions() -> Iterator[list[ThreadedSession]]:
    """The leader's and the follower's session, whose programs have ended well."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    both = [session(Leader, HOSTS[0], port), session(Follower, HOSTS[1], port)]
    with ThreadPoolExecutor(2) as pool:
        for phase in ("ready", "serving"):
            list(pool.map(lambda each, phase=phase: each.barrier(phase, {"completes_job": True}), both))
    for each in both:
        each.arrive("ended", {})
    for each in both:
        each._control.wait_until(lambda each=each: each.programs_done)
    yield both
    for each in reversed(both):
        each.close()


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_host_that_waits_for_the_end_stops_when_the_job_is_stopped(
    sessions: list[ThreadedSession], waiting: int
) -> None:
    """Its own program has ended well, so that it does not stop by itself; but success will not come any more."""
    sessions[1 - waiting].stopping(15, insists=True)

    with pytest.raises(JobStopped):
        sessions[waiting].barrier("done", {}, lambda payloads: {})
