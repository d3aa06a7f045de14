"""The MLflow registry itself: SQLite, a server, and one that is not there."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from benchmarks.serve_processes import free_port
from rollama.core.errors import ClusterError
from rollama.release.registry import MlflowRegistry
from rollama.release.verdict import Parts

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def parts(digit):
    return Parts(**dict.fromkeys(("s", "p", "seg"), f"s3://bucket/store@sha256:{digit * 64}"))


@pytest.fixture(params=["file", "server"])
def uri(request, tmp_path):
    """A new registry: SQLite here, or behind MLflow's server, which takes fewer words for what it does not know."""
    file = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if request.param == "file":
        yield file
        return
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", file, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=tmp_path, env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        )
    try:
        until = time.monotonic() + 240
        while not answers(port):
            assert server.poll() is None and time.monotonic() < until, (tmp_path / "server.log").read_text()[-2000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def answers(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
    except (urllib.error.URLError, TimeoutError):
        return False


def test_versions_by_digest_and_aliases(uri):
    registry = MlflowRegistry(uri, "rollama")
    registry.ping()
    assert registry.pointed("released") is None and registry.remembered() == ""
    old, new = (registry.register(parts(digit), {"verdict": digit}) for digit in "ab")
    assert registry.register(parts("a"), {"record": "1"}) == old != new
    registry.point("released", old)
    assert registry.pointed("released") == parts("a").release
    registry.point("previous", old)
    registry.point("released", new)
    registry.remember("2:abc")
    again = MlflowRegistry(uri, "rollama")
    assert again.pointed("released") == parts("b").release and again.pointed("previous") == parts("a").release
    assert again.remembered() == "2:abc"
    again.point("previous", None)
    again.point("previous", None)
    assert again.pointed("previous") is None
    tags = again._client.get_model_version("rollama", old).tags
    assert tags["seg"] == parts("a").seg and tags["record"] == "1" and tags["verdict"] == "a"
    with pytest.raises(ClusterError, match=r"refuses \(RESOURCE_DOES_NOT_EXIST\)" if "http" in uri else "not answer"):
        again.point("released", "99")


def test_a_server_that_is_down_is_said_plainly(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = MlflowRegistry("http://user:secret@127.0.0.1:9", "rollama")
    with pytest.raises(ClusterError, match=r"the model registry 127.0.0.1:9 does not answer") as told:
        registry.ping()
    assert "secret" not in str(told.value)
