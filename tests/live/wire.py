"""A connection to the cluster that a test can cut and mend, as a train journey or a restarted router does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import yaml


class Wire:
    """Forwards TCP connections from a port of this machine to the API server."""

    def __init__(self, host: str, port: int) -> None:
        self.far = (host, port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._open: list[socket.socket] = []
        self._whole, self._closed = threading.Event(), False
        self._whole.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection at once and refuse new ones."""
        self._whole.clear()
        while self._open:
            _end(self._open.pop())

    def mend(self) -> None:
        """Let new connections through."""
        self._whole.set()

    def close(self) -> None:
        """No connection any more."""
        self._closed = True
        self.cut()
        _end(self._door)

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            if not self._whole.is_set():
                _end(near)
                continue
            far = socket.create_connection(self.far)
            self._open += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(65536):
            sink.sendall(block)
    _end(source)
    _end(sink)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextlib.contextmanager
def wired(kubeconfig: Path, copy: Path) -> Iterator[Wire]:
    """A wire to the cluster of `kubeconfig`; `copy` becomes a kubeconfig that goes through it."""
    config = yaml.safe_load(kubeconfig.read_text())
    context = next(item["context"] for item in config["contexts"] if item["name"] == config["current-context"])
    cluster = next(item["cluster"] for item in config["clusters"] if item["name"] == context["cluster"])
    server = urlsplit(cluster["server"])
    assert server.hostname
    wire = Wire(server.hostname, server.port or 443)
    cluster |= {"server": f"https://127.0.0.1:{wire.port}", "tls-server-name": server.hostname}
    copy.write_text(yaml.safe_dump(config))
    copy.chmod(0o600)
    try:
        yield wire
    finally:
        wire.close()
