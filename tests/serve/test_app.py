"""The endpoint on a real local Ray, with tiny artefacts: it says what `rollama predict` says, and only with the key."""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rollama.chain.inputs import hash_ct, make_request, read_input_ct
from rollama.chain.outputs import write_outputs
from rollama.chain.run import Chain
from rollama.core.errors import CheckpointError, ConfigError, ServeError
from serve.config import ServeConfig
from tests.chain.tiny import make_models

NOTE = "Left breast cancer, pT1 N1, breast-conserving surgery."


@pytest.fixture(scope="module")
def app() -> Any:
    """`serve.app`; Ray Serve 2.60 uses a form of pydantic's `Field` that pydantic warns about on import."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        import serve.app
    return serve.app


@pytest.fixture
def tiny(config: ServeConfig) -> ServeConfig:
    make_models(config.models)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return config.updated(port=free.getsockname()[1], ready_timeout_s=10.0)


@pytest.fixture
def endpoint(app: Any, tiny: ServeConfig, api_key: str) -> Iterator[str]:
    import ray

    yield app.start(tiny)
    app.stop()
    ray.shutdown()


def test_refuses_to_build_what_cannot_serve(
    app: Any, config: ServeConfig, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = config.model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"unknown key 'prot'; did you mean 'port'"):
        app.build_app({**values, "prot": 1})
    with pytest.raises(CheckpointError, match="no such model"):
        app.build_app(values)
    for name in ("s", "p", "seg"):
        (config.models / name).mkdir(parents=True)
    with pytest.raises(ServeError, match="no such data folder"):
        app.build_app({**values, "data_folder": str(config.data_folder / "absent")})
    app.build_app(values)
    monkeypatch.delenv("ROLLAMA_API_KEY")
    with pytest.raises(ServeError, match="does not start"):
        app.build_app(values)


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.filterwarnings("default")  # Ray's own start-up warns about itself
def test_endpoint_equals_predict(tiny: ServeConfig, endpoint: str, api_key: str, tmp_path: Path) -> None:
    path = tiny.data_folder / "ct.nii.gz"
    volume = read_input_ct(path)
    chain = Chain.load(tiny.models)
    expected = chain.answer(make_request(note=NOTE), volume)
    manifest = write_outputs(expected, volume, tmp_path / "predict", {"ct": hash_ct(path)})

    header = {"Authorization": f"Bearer {api_key}"}
    waiting = {**header, "Prefer": "wait=120"}
    ask = {"note": NOTE, "ct_path": "ct.nii.gz"}
    with httpx.Client(base_url=endpoint, timeout=150) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/pipeline", json=ask).status_code == 401
        answer = client.post("/v1/pipeline", json=ask, headers=waiting)
        with path.open("rb") as stream:
            sent = client.post("/v1/pipeline/upload", data={"note": NOTE}, files={"ct": stream}, headers=waiting)
        too_long = client.post("/v1/pipeline", json={**ask, "note": "word " * 9000}, headers=waiting)
        outside = client.post("/v1/pipeline", json={**ask, "ct_path": "../secret.nii.gz"}, headers=header)
        texts = client.post("/v1/plan", json={"note": NOTE}, headers=header).json()

        assert (answer.status_code, sent.status_code) == (200, 200), answer.text + sent.text
        for body in (answer.json(), sent.json()):
            assert body["state"] == "done", body
            found = body["findings"]
            assert (found["summary"], found["plan_text"]) == (expected.summary, expected.plan_text)
            assert found["warnings"] == list(expected.warnings)
            files = {name: client.get(place, headers=header).content for name, place in body["files"].items()}
            assert set(files) == {item.name for item in (tmp_path / "predict").iterdir()}
            for name in set(files) - {"manifest.json"}:  # the manifest holds times
                assert files[name] == (tmp_path / "predict" / name).read_bytes(), name
            assert json.loads(files["manifest.json"])["config_hash"] == manifest["config_hash"]
    assert (texts["summary"], texts["plan_text"]) == (expected.summary, expected.plan_text)
    assert outside.status_code == 422
    failed = too_long.json()
    assert failed["state"] == "failed" and failed["error"]["status"] == 422 and "tokens" in failed["error"]["detail"]
