"""An S3 server that misbehaves on purpose, and the environment that leads to a server."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Lead every AWS client to the S3 at `url`, with fake credentials and nothing of this machine's settings."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "S3_ENDPOINT_URL", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)


class FlakyS3(ThreadingHTTPServer):
    """Serves one object under every name, as badly as it is told to.

    Args:
        content: the object.
        cuts: after how many bytes of content each of the first responses breaks off.
        refusals: HTTP status and S3 code of the first responses, or one for `content`.
    """

    daemon_threads = True

    def __init__(self, content: bytes = b"", cuts: Sequence[int] = (), refusals: Sequence[tuple[int, str]] = ()):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.cuts = list(cuts)
        self.refusals = list(refusals)
        self.honours_ranges = True
        #: Replaced by another version after this many requests.
        self.changes_after: int | None = None
        #: The Range and If-Match headers of each request.
        self.requests: list[tuple[str | None, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self) -> Iterator[FlakyS3]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FlakyS3
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Match")
        server.requests.append((wanted, condition))
        etag = '"2"' if server.changes_after is not None and len(server.requests) > server.changes_after else '"1"'
        if server.refusals:
            self._refuse(*server.refusals.pop(0))
        elif condition not in (None, etag):
            self._refuse(412, "PreconditionFailed")
        else:
            start = int(wanted[len("bytes=") : -1]) if wanted and server.honours_ranges else None
            self._send(etag, start)

    def _send(self, etag: str, start: int | None) -> None:
        content = self.server.content[start or 0 :]
        self.send_response(200 if start is None else 206)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(content)))
        if start is not None:
            size = len(self.server.content)
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if self.server.cuts:
            content = content[: self.server.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>The message of {code}.</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
