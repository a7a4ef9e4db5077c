"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from s3_server import use_endpoint

pytest_plugins = ["jobs", "cluster", "images", "left_out"]

#: Seconds that a test with this mark may take, fixtures included; setup.cfg has the limit of all others.
LIMITS = {"cluster": 600, "frameworks": 900, "images": 1800}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--repeat", type=int, default=1, metavar="N", help="run each test of a fault N times")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = metafunc.config.getoption("--repeat")
    if times > 1 and metafunc.definition.get_closest_marker("fault"):
        metafunc.fixturenames.append("attempt")
        metafunc.parametrize("attempt", range(times))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark, seconds in LIMITS.items():
            if item.get_closest_marker(mark) and not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(seconds))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of a real S3 server on this machine, moto's, for all tests of the session."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Any:
    """A client of the S3 server; made once, since that takes longer than most tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(monkeypatch, s3_endpoint)
        return boto3.Session().client("s3")


@pytest.fixture
def s3(s3_client: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the S3 server, which the environment names for every other client; bucket "code" is empty."""
    use_endpoint(monkeypatch, s3_endpoint)
    s3_client.create_bucket(Bucket="code")
    for item in s3_client.list_objects_v2(Bucket="code").get("Contents", []):
        s3_client.delete_object(Bucket="code", Key=item["Key"])
    return s3_client
