"""Reads an S3 object as a stream that outlives broken connections."""

from __future__ import annotations

import io
import os
import time

from sagemaker_framework import log
from sagemaker_framework.errors import SourceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ATTEMPTS = 5  # of each request
_CONNECT_TIMEOUT, _READ_TIMEOUT = 10, 60  # seconds
_RESUMES = 5  # of one download
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 2.0  # seconds before a resume; doubled each time
_BUFFER = 1 << 20  # bytes
_CHUNK = 1 << 16  # bytes; a broken connection loses no more than that
_MIB = 1 << 20
_LARGE = 32 * _MIB  # bytes; the log shows the progress of larger downloads


def open_object(
    uri: str, region: str | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> io.BufferedReader:
    """Open an S3 object as a stream that is read forwards.

    Args:
        uri: s3://bucket/key.
        region: the bucket's region; if None, AWS_REGION, AWS_DEFAULT_REGION or SAGEMAKER_REGION.
        sleep: waits so many seconds, before a broken connection is replaced.

    Raises:
        SourceError: the object cannot be read. The methods of the stream raise it too.
    """
    source = _Object(uri, region)
    return io.BufferedReader(_Download(source, source.get(), sleep), _BUFFER)


class _Object:
    """An S3 object, and the reason why it cannot be read."""

    def __init__(self, uri: str, region: str | None) -> None:
        self.uri = uri
        self._bucket, _, self._key = uri.partition("://")[2].partition("/")
        if not self._bucket or not self._key or self._key.endswith("/"):
            raise SourceError(f"{uri} does not name an S3 object; give one archive as s3://bucket/key")
        self._region = region
        self._client: Any = None

    def get(self, **conditions: str) -> dict[str, Any]:
        """Request the object from S3 (GetObject) and return the response.

        Raises:
            SourceError: S3 refuses, or cannot be reached.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client = self._client or _new_client(self._region)
            response: dict[str, Any] = self._client.get_object(Bucket=self._bucket, Key=self._key, **conditions)
        except (BotoCoreError, ClientError, ValueError) as error:  # ValueError: the endpoint is not a URL.
            raise self.failure(_cause(error)) from error
        return response

    def failure(self, cause: str) -> SourceError:
        """Return the error that says why the object cannot be downloaded."""
        return SourceError(f"{self.uri} cannot be downloaded: {cause}")


class _Download(io.RawIOBase):
    """The bytes of an object in order, over several connections if one breaks."""

    def __init__(self, source: _Object, response: dict[str, Any], sleep: Callable[[float], None]) -> None:
        self._object = source
        self._sleep = sleep
        self._body = response["Body"]
        self._size: int = response.get("ContentLength", 0)
        self._etag: str = response.get("ETag", "")
        self._position = 0  # bytes read
        self._resumes = 0
        self._percent = 0  # last logged
        self._ended = False
        self._started = time.monotonic()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._body.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fill the whole of `buffer`, except at the end of the object."""
        view = memoryview(buffer)
        filled = 0
        while filled < len(view):
            chunk = self._next_chunk(min(_CHUNK, len(view) - filled))
            if not chunk:
                break
            view[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return filled

    def _next_chunk(self, size: int) -> bytes:
        from botocore.exceptions import BotoCoreError, FlexibleChecksumError
        from urllib3.exceptions import HTTPError

        while True:
            try:
                chunk: bytes = self._body.read(size)
            except FlexibleChecksumError as error:
                raise self._object.failure("it arrived damaged; start the job again") from error
            except (BotoCoreError, HTTPError, OSError) as error:
                self._resume(error)
            else:
                self._position += len(chunk)
                self._tell_progress(ended=not chunk)
                return chunk

    def _resume(self, cause: Exception) -> None:
        """Replace the broken connection by one that continues at the next byte."""
        self._body.close()
        if self._resumes == _RESUMES:
            raise self._object.failure(
                f"the connection broke {_RESUMES + 1} times ({_one_line(cause)}); check the network of the job"
            ) from cause
        log.warning(f"Downloading {self._object.uri}: the connection broke at byte {self._position}; resuming")
        self._sleep(min(_FIRST_DELAY * 2**self._resumes, _LONGEST_DELAY))
        self._resumes += 1
        response = self._object.get(Range=f"bytes={self._position}-", IfMatch=self._etag)
        self._body = response["Body"]
        if not response.get("ContentRange", "").startswith(f"bytes {self._position}-"):
            raise self._object.failure("the connection broke, and the server cannot resume") from cause

    def _tell_progress(self, ended: bool) -> None:
        if ended:
            if not self._ended:
                seconds = time.monotonic() - self._started
                log.info(f"Downloaded {self._object.uri}: {_size(self._position)} in {seconds:.1f} s")
            self._ended = True
            return
        percent = self._position * 10 // max(self._size, 1) * 10
        if self._size >= _LARGE and self._percent < percent < 100:
            self._percent = percent
            reached, size = self._position // _MIB, self._size // _MIB
            log.info(f"Downloading {self._object.uri}: {reached} of {size} MiB ({percent} %)")


def _new_client(region: str | None) -> Any:
    import boto3
    from botocore.config import Config

    names = ("AWS_REGION", "AWS_DEFAULT_REGION", "SAGEMAKER_REGION")
    return boto3.Session().client(
        "s3",
        region_name=region or next(filter(None, map(os.environ.get, names)), None),
        endpoint_url=os.environ.get("S3_ENDPOINT_URL") or None,
        config=Config(
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
        ),
    )


def _cause(error: Exception) -> str:
    """Say what an error of boto3's client means, and what to do about it."""
    from botocore import exceptions as known

    said = _one_line(error)
    if isinstance(error, known.ClientError):
        return _refusal(error.response, said)
    if isinstance(error, (known.NoCredentialsError, known.PartialCredentialsError, known.CredentialRetrievalError)):
        return f"there are no AWS credentials ({said}); give the job a role"
    if isinstance(error, (known.ConnectionError, known.HTTPClientError)):
        return f"S3 cannot be reached ({said}); check the job's network (a VPC needs an S3 endpoint) and its endpoint"
    return f"{said}; check the URI and the AWS settings of the job"


def _refusal(response: dict[str, Any], said: str) -> str:
    """Say what an S3 response other than 2xx means."""
    code = response.get("Error", {}).get("Code", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "NoSuchBucket":
        return "the bucket does not exist; check sagemaker_submit_directory"
    if code == "NoSuchKey" or status == 404:
        return "there is no such object; check sagemaker_submit_directory, and that the upload succeeded"
    if status == 412:
        return "the object was replaced during the download; start the job again"
    if code in ("AccessDenied", "403", "Forbidden"):
        return "access is denied; the job's role needs s3:GetObject on it, and kms:Decrypt if it is encrypted with KMS"
    return f"S3 refuses it ({said}); check the job's role and region"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _size(count: int) -> str:
    """Write a number of bytes for people, such as `1.5 MiB`."""
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count / 1024:.1f} KiB"
