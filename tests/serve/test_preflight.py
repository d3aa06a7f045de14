"""The chart's question before it changes anything, asked of a store in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rollama.cluster.serveconfig import make_serve
from rollama.data.store import Kind, push
from serve.preflight import main
from tests.chain.tiny import make_models

ARGS = {"models": "/models", "data_folder": "/data", "store": "/store", "api_key_file": "/secrets/key"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Three models in a store, by reference."""
    models, store = make_models(tmp_path_factory.mktemp("models")), tmp_path_factory.mktemp("store")
    return {name: str(push(models / name, Kind.MODEL, store.as_uri())) for name in ("s", "p", "seg")}


def asked(folder: Path, models: dict[str, str], args: dict | None = None, rooms: list | None = None) -> int:
    served = make_serve(args or ARGS).plain()
    (folder / "serve.yaml").write_text(yaml.safe_dump(served))
    (folder / "rooms.yaml").write_text(yaml.safe_dump(rooms or [{"cpu": "2", "gpus": 0}]))
    return main([str(folder), *(f"{name}={reference}" for name, reference in models.items())])


def test_all_is_there(tmp_path: Path, stored: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(tmp_path, stored) == 0
    assert "its models are in the store" in capsys.readouterr().out


def test_a_digest_that_the_store_does_not_have(tmp_path: Path, stored: dict[str, str], capsys) -> None:
    store = stored["s"].partition("@")[0]
    assert asked(tmp_path, {**stored, "p": f"{store}@sha256:{'0' * 64}"}) == 2
    said = capsys.readouterr().err
    assert said.count("refused:") == 1 and "serve.models.p" in said and "was its push finished" in said


def test_settings_and_room_are_said_together(tmp_path: Path, capsys) -> None:
    args = {**ARGS, "keep_s": 1.0, "text_gpus": 1}
    assert asked(tmp_path, {}, args) == 2
    said = capsys.readouterr().err
    assert "keep_s > deadline_s" in said and "text_gpus: a replica wants 1 GPUs" in said


def test_requests_of_cpu_count_as_kuberay_counts_them(tmp_path: Path) -> None:
    args = {**ARGS, "text_cpus": 0.5, "segmentation_cpus": 0.5}
    assert asked(tmp_path, {}, args, [{"cpu": "200m", "gpus": 0}]) == 0
    assert asked(tmp_path, {}, ARGS, [{"cpu": "1", "gpus": 0}]) == 2
    assert asked(tmp_path, {}, ARGS, [{"cpu": "", "gpus": 0}]) == 0, "Ray counts the node's own"


def test_an_unknown_key_is_refused(tmp_path: Path, capsys) -> None:
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump({"applications": [{"args": ARGS, "max_ongoing_requests": 1}]}))
    assert main([str(tmp_path)]) == 2
    assert "max_ongoing_requests" in capsys.readouterr().err
