"""The endpoint counts cases by bins: each once, under its centre, without anything of a patient in a tag."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient

from rollama.core.files import read_json, write_json
from rollama.data.features import FEATURES
from rollama.data.profile import Profile
from serve.auth import digest, load_centres
from serve.config import ServeConfig
from serve.drift import COUNTER, REFERENCE, Drift, read_trained
from tests.chain.tiny import make_models
from tests.serve.conftest import PLAN, Connect, Recorder

WAIT = {"Prefer": "wait=30"}
NOTE = "CANARY, left breast cancer, pT1."


def counted(meter: Recorder, model: str = "") -> list[dict[str, str]]:
    return [tags for name, tags in meter.counts if name == COUNTER and (not model or tags["model"] == model)]


def test_a_job_counts_for_each_model_that_worked_on_it(client: TestClient, meter: Recorder) -> None:
    client.post("/v1/pipeline", json={"note": NOTE, "ct_path": "ct.nii.gz"}, headers=WAIT)
    found = {(tags["model"], tags["feature"]): tags for tags in counted(meter)}
    assert found["s", "note_words"]["bin"] == "<40" and found["p", "plan_side"]["bin"] == "left"
    assert found["seg", "ct_slice_mm"]["bin"] == "5.5..6.5" and found["seg", "target_cc"]["bin"] == "0.5..100"
    assert found["seg", "plan_technique"]["bin"] == "VMAT"
    assert {tags["centre"] for tags in counted(meter)} == {"unknown"}
    assert "CANARY" not in repr(meter.counts)
    for tags in counted(meter):
        assert set(tags) == {"model", "centre", "feature", "bin"} and tags["bin"] in FEATURES[tags["feature"]].bins


def test_a_case_that_comes_again_counts_once(client: TestClient, meter: Recorder) -> None:
    first = {"plan": PLAN, "ct_path": "ct.nii.gz"}
    client.post("/v1/segment", json=first, headers=WAIT)
    client.post("/v1/segment", json={**first, "plan": PLAN.replace("left", "right")}, headers=WAIT)
    assert len([tags for tags in counted(meter) if tags["feature"] == "ct_slice_mm"]) == 1
    for note in (NOTE, NOTE, "another note"):
        client.post("/v1/plan", json={"note": note})
    assert len([tags for tags in counted(meter, "s") if tags["feature"] == "note_words"]) == 2
    assert len([tags for tags in counted(meter, "p") if tags["feature"] == "plan_side"]) == 1, "the same summary"


def test_a_failed_request_counts_nothing(client: TestClient, meter: Recorder) -> None:
    client.post("/v1/segment", json={"plan": PLAN, "ct_path": "absent.nii.gz"}, headers=WAIT)
    client.post("/v1/plan", json={"note": ""})
    assert counted(meter) == []


def test_the_centre_is_the_key_s_and_never_the_request_s(
    connect: Connect, meter: Recorder, config: ServeConfig, tmp_path: Path
) -> None:
    keys = {name: f"key-of-{name}-{'x' * 16}" for name in ("alpha", "beta", "gamma")}
    centres = {"alpha": "north", "beta": "south"}
    entries = [
        {"name": name, "sha256": digest(key).hex(), **({"centre": centres[name]} if name in centres else {})}
        for name, key in keys.items()
    ]
    listed = tmp_path / "keys.yaml"
    listed.write_text(yaml.safe_dump({"keys": entries}))
    assert load_centres(config.updated(keys_file=listed)) == centres
    client = connect(keys_file=listed, centre="rest")
    for name, key in keys.items():
        client.post("/v1/summary", json={"note": f"note of {name}"}, headers={"Authorization": f"Bearer {key}"})
    words = [tags["centre"] for tags in counted(meter, "s") if tags["feature"] == "note_words"]
    assert words == ["north", "south", "rest"]
    begun = {tags["centre"] for name, tags in meter.begun if name == COUNTER}
    assert begun == {"north", "south", "rest"}, "every series stands at zero before its first case"
    assert len(meter.begun) == 3 * len({json.dumps(tags) for _, tags in meter.begun if tags["centre"] == "rest"})


def test_training_counts_stand_beside_and_go_with_their_release(meter: Recorder) -> None:
    drift = Drift(meter, centres=("north", "new"))
    profile = Profile(
        {"north": {"plan_side": {"left": 30, "right": 10}}, "_all": {"plan_side": {"left": 50, "right": 60}}}
    )
    drift.trained({"p": profile})

    def level(centre: str, kind: str) -> float | None:
        tags = {"model": "p", "centre": centre, "feature": "plan_side", "bin": kind}
        return meter.tagged.get((REFERENCE, json.dumps(tags, sort_keys=True)))

    assert [level("north", kind) for kind in ("left", "right")] == [30, 10], "a centre's own past"
    assert [level("new", kind) for kind in ("left", "right")] == [50, 60], "of another centre: all"
    drift.trained({})
    assert meter.tagged == {}


def test_what_cannot_be_measured_costs_a_number_and_no_answer(
    meter: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> dict[str, str]:
        raise ValueError("CANARY")

    monkeypatch.setattr("serve.drift.note_bins", fail)
    with caplog.at_level(logging.WARNING):
        Drift(meter).summary("key", NOTE, "summary")
    assert counted(meter) == [] and "a case is not counted" in caplog.text and "CANARY" not in caplog.text


def test_models_without_a_profile_are_served_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_models(tmp_path / "models")
    manifest = read_json(folder / "p/manifest.json")
    write_json(folder / "p/manifest.json", {**manifest, "profile": {"version": 0, "centres": {}}})
    told = Profile({"north": {"target_cc": {"<0.5": 5}}}).as_dict()
    write_json(folder / "seg/manifest.json", {**read_json(folder / "seg/manifest.json"), "profile": told})
    with caplog.at_level(logging.WARNING):
        found = read_trained({name: folder / name for name in ("s", "p", "seg")})
    assert set(found) == {"seg"}
    reasons = {record.__dict__["model"]: record.__dict__["reason"] for record in caplog.records}
    assert "holds no profile" in reasons["s"] and "version 0" in reasons["p"]
