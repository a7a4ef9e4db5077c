"""How a download from S3 goes on when it can, and what it says when it cannot."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Any

import pytest
from archives import COMPRESSIONS, file, sample, tar
from s3_server import FlakyS3, use_endpoint

from sagemaker_framework.code.s3 import open_object
from sagemaker_framework.code.source import fetch
from sagemaker_framework.errors import SourceError

URI = "s3://code/source.tar.gz"
CONTENT = random.Random(1).randbytes(3 << 20)
ARCHIVE = COMPRESSIONS["gzip"](tar(file("weights", CONTENT)))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return tmp_path / "code"


def refusal(uri: str, code: Path) -> str:
    with pytest.raises(SourceError) as caught:
        fetch(uri, str(code))
    message = str(caught.value)
    assert uri in message
    assert "\n" not in message
    return message


def fetch_from(server: FlakyS3, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, server.url)
    with server.running():
        fetch(URI, str(code))


def refusal_of(server: FlakyS3, code: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    use_endpoint(monkeypatch, server.url)
    with server.running():
        return refusal(URI, code)


# -- broken connections ------------------------------------------------------------------------------------------


def test_broken_connections_are_resumed(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download whose connection breaks, more than once, arrives whole."""
    fetch_from(FlakyS3(ARCHIVE, cuts=[1_000_000, 0, 700_001]), code, monkeypatch)

    assert (code / "weights").read_bytes() == CONTENT


def test_resuming_asks_for_the_rest_of_the_same_object(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed download asks for what is missing, of the version that it began with."""
    server = FlakyS3(ARCHIVE, cuts=[1 << 20])

    fetch_from(server, code, monkeypatch)

    assert server.requests == [(None, None), (f"bytes={1 << 20}-", '"1"')]


def test_resuming_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks again and again is given ever more time, and then fails the job."""
    server = FlakyS3(ARCHIVE, cuts=[100_000] * 10)
    use_endpoint(monkeypatch, server.url)
    waited: list[float] = []
    with server.running(), pytest.raises(SourceError, match="the connection broke 6 times"):
        open_object(URI, sleep=waited.append).read()

    assert waited == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_object_replaced_during_the_download(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions of an object are never mixed."""
    server = FlakyS3(ARCHIVE, cuts=[1_000_000])
    server.changes_after = 1

    assert "replaced during the download" in refusal_of(server, code, monkeypatch)


def test_server_without_ranges(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that begins anew instead of resuming fails the job, rather than corrupting the code."""
    server = FlakyS3(ARCHIVE, cuts=[1_000_000])
    server.honours_ranges = False

    assert "cannot resume" in refusal_of(server, code, monkeypatch)


def test_failed_requests_are_repeated(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is busy for a moment is asked again."""
    fetch_from(FlakyS3(ARCHIVE, refusals=[(503, "SlowDown")]), code, monkeypatch)

    assert (code / "weights").read_bytes() == CONTENT


# -- settings ----------------------------------------------------------------------------------------------------


def test_s3_endpoint_url(s3: Any, code: Path, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3_ENDPOINT_URL wins over the AWS SDK's own endpoint variables."""
    s3.put_object(Bucket="code", Key="source.tar.gz", Body=sample("gzip"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("S3_ENDPOINT_URL", s3_endpoint)

    fetch(URI, str(code))

    assert (code / "train.py").is_file()


# -- the log -----------------------------------------------------------------------------------------------------


def test_progress_of_a_large_object(s3: Any, code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A large download is followed by a line at each tenth, and one at its end."""
    s3.put_object(Bucket="code", Key="source.tar", Body=tar(file("weights", random.Random(1).randbytes(40 << 20))))

    fetch("s3://code/source.tar", str(code))

    lines = [line.partition("Download")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines[:-1] == [f"ing s3://code/source.tar: {4 * n} of 40 MiB ({10 * n} %)" for n in range(1, 10)]
    assert lines[-1].startswith("ed s3://code/source.tar: 40.0 MiB in ")


def test_small_object_takes_one_line(s3: Any, code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small download is worth one line."""
    s3.put_object(Bucket="code", Key="source.tar.gz", Body=sample("gzip"))

    fetch(URI, str(code))

    assert len(capsys.readouterr().err.splitlines()) == 1


# -- errors ------------------------------------------------------------------------------------------------------


def test_missing_bucket(s3: Any, code: Path) -> None:
    """A bucket that does not exist fails the job as such."""
    assert "the bucket does not exist" in refusal("s3://no-such-bucket/source.tar.gz", code)


def test_missing_object(s3: Any, code: Path) -> None:
    """An object that does not exist fails the job as such."""
    assert "there is no such object" in refusal("s3://code/missing.tar.gz", code)


def test_invalid_bucket_name(s3: Any, code: Path) -> None:
    """A bucket that cannot exist fails the job in one line."""
    assert "Invalid bucket name" in refusal("s3://no such bucket/source.tar.gz", code)


def test_denied_access(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role without permission fails the job with the permission that it needs."""
    assert "needs s3:GetObject" in refusal_of(FlakyS3(refusals=[(403, "AccessDenied")]), code, monkeypatch)


@pytest.mark.parametrize("status", [400, 403])
def test_other_refusals(code: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Any other refusal fails the job with what S3 says."""
    server = FlakyS3(refusals=[(status, "InvalidAccessKeyId")])

    assert "The message of InvalidAccessKeyId." in refusal_of(server, code, monkeypatch)


def test_no_credentials(s3: Any, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job without credentials fails with what it lacks."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for name in ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ROLE_ARN"):
        monkeypatch.delenv(name, raising=False)

    assert "there are no AWS credentials" in refusal(URI, code)


def test_unreachable_endpoint(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer fails the job with its address."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        use_endpoint(monkeypatch, f"http://127.0.0.1:{port}")

        message = refusal(URI, code)

    assert "S3 cannot be reached" in message
    assert str(port) in message


def test_malformed_endpoint(s3: Any, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that is no URL fails the job with it."""
    monkeypatch.setenv("S3_ENDPOINT_URL", "minio:9000 ")

    assert "minio:9000" in refusal(URI, code)


def test_unknown_profile(s3: Any, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS settings that boto3 does not take fail the job in one line."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    assert "nobody" in refusal(URI, code)
