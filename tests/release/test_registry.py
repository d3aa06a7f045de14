"""The MLflow registry itself: SQLite, and a server that is not there."""

import pytest

from rollama.core.errors import ClusterError
from rollama.release.registry import MlflowRegistry
from rollama.release.verdict import Parts

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def parts(digit):
    return Parts(**dict.fromkeys(("s", "p", "seg"), f"s3://bucket/store@sha256:{digit * 64}"))


def test_versions_by_digest_and_aliases_in_sqlite(tmp_path):
    registry = MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", "rollama")
    registry.ping()
    assert registry.pointed("released") is None and registry.remembered() == ""
    old, new = (registry.register(parts(digit), {"verdict": digit}) for digit in "ab")
    assert registry.register(parts("a"), {"record": "1"}) == old != new
    registry.point("released", old)
    assert registry.pointed("released") == parts("a").release
    registry.point("previous", old)
    registry.point("released", new)
    registry.remember("2:abc")
    again = MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", "rollama")
    assert again.pointed("released") == parts("b").release and again.pointed("previous") == parts("a").release
    assert again.remembered() == "2:abc"
    again.point("previous", None)
    again.point("previous", None)
    assert again.pointed("previous") is None
    tags = again._client.get_model_version("rollama", old).tags
    assert tags["seg"] == parts("a").seg and tags["record"] == "1" and tags["verdict"] == "a"


def test_a_server_that_is_down_is_said_plainly(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = MlflowRegistry("http://user:secret@127.0.0.1:9", "rollama")
    with pytest.raises(ClusterError, match=r"the model registry 127.0.0.1:9 does not answer") as told:
        registry.ping()
    assert "secret" not in str(told.value)
