"""A small S3 server for tests of the client: small objects, one bucket, and faults on demand."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "bucket"


class Server(ThreadingHTTPServer):
    """`objects` by key; `refuse` answers 403; `requests` lists (method, key)."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuse = False
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def _answer(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'
        self._answer(status, b"" if self.command == "HEAD" else body.encode(), Content_Type="application/xml")

    def _handle(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        while self.headers.get("Transfer-Encoding") == "chunked":
            size = int(self.rfile.readline(), 16)
            data += self.rfile.read(size + 2)[:-2]
            if not size:
                break
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            data = _unchunked(data)
        url = urlsplit(self.path)
        bucket, _, key = unquote(url.path).lstrip("/").partition("/")
        self.server.requests.append((self.command, key))
        if self.server.refuse:
            self._error(403, "AccessDenied")
        elif bucket != BUCKET:
            self._error(404, "NoSuchBucket")
        elif self.command == "PUT":
            with self.server.lock:
                taken = key in self.server.objects and self.headers.get("If-None-Match") == "*"
                if not taken:
                    self.server.objects[key] = data
            if taken:
                self._error(412, "PreconditionFailed")
            else:
                self._answer(200, ETag='"0"')
        elif self.command == "DELETE":
            self.server.objects.pop(key, None)
            self._answer(204)
        elif not key:
            prefix = parse_qs(url.query).get("prefix", [""])[0]
            found = "".join(
                f"<Contents><Key>{name}</Key><Size>{len(value)}</Size></Contents>"
                for name, value in sorted(self.server.objects.items())
                if name.startswith(prefix)
            )
            self._answer(200, f"<ListBucketResult>{found}</ListBucketResult>".encode(), Content_Type="application/xml")
        elif key not in self.server.objects:
            self._error(404, "NoSuchKey")
        else:
            self._send(self.server.objects[key])

    def _send(self, value: bytes) -> None:
        if self.command == "HEAD":
            self._answer(200, length=len(value), ETag='"0"')
            return
        span = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
        part = value[int(span[0]) : int(span[1] or len(value)) + 1]
        self._answer(
            206, part, ETag='"0"', Content_Range=f"bytes {span[0]}-{int(span[0]) + len(part) - 1}/{len(value)}"
        )

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle  # noqa: N815


def _unchunked(data: bytes) -> bytes:
    """The content of a body in AWS's chunked encoding: hex length, content, and so on, then trailing checksums."""
    content = b""
    while data:
        head, _, data = data.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if not size:
            break
        content, data = content + data[:size], data[size + 2 :]
    return content


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Answer requests in a thread until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
