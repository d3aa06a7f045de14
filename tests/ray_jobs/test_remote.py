"""Runs in a bucket, without Ray: the stored curve, the words of errors, and the pointer to the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_jobs import remote
from ray_jobs.common import _cause, _followed, _for_workers, _prepare
from rollama.core.errors import CheckpointError, ClusterError, ConfigError, DataError
from rollama.core.files import hash_file, write_json
from rollama.core.storage import Storage, open_storage
from rollama.data.store import pull
from rollama.training.metrics_log import MetricsLog, parse_metrics
from tests.core.s3server import Server, serving

WORKSPACE = "s3://bucket/ws"


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("ROLLAMA_CACHE", str(tmp_path / "cache"))
    with serving(Server()) as answering:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{answering.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word")
        yield answering


@pytest.fixture
def run(server) -> Storage:
    return open_storage(f"{WORKSPACE}/train/s-1")


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(50))
    files = {"model.safetensors": hash_file(folder / "model.safetensors")}
    write_json(folder / "manifest.json", {"config_hash": "key", "metrics": {"loss": 1.5}, "files": files})
    return folder


def stored(run: Storage) -> list[int]:
    return [row["step"] for row in parse_metrics(run.read_text(remote.METRICS) or "")]


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_the_newest_whole_checkpoint_is_gone_on_from(where, server, tmp_path, model):
    run = open_storage(tmp_path / "run" if where == "folder" else f"{WORKSPACE}/train/s-1")
    for name in ("step-000002", "step-000004", "step-000006", "step-000008"):
        for file in model.iterdir():
            run.write_bytes(f"{remote.WORKING}/{name}/{file.name}", file.read_bytes())
    run.write_bytes(f"{remote.WORKING}/step-000006/model.safetensors", b"cut")
    run.delete(f"{remote.WORKING}/step-000004/manifest.json")
    found, complaints = remote.newest_whole(run, "step-000006", tmp_path / "scratch")
    assert found.name == "step-000002" and (found / "model.safetensors").read_bytes() == bytes(50)
    assert ["SHA-256 differs" in complaints[0], "no manifest.json" in complaints[1]] == [True, True]
    run.write_bytes(f"{remote.WORKING}/step-000002/model.safetensors", b"cut")
    with pytest.raises(CheckpointError, match="no checkpoint is whole"):
        remote.newest_whole(run, "step-000006", tmp_path / "again")


LOW = """ray.exceptions.OutOfMemoryError: 1 worker(s) were killed due to the node running low on memory. Memory on the \
node (IP: 10.89.1.10, ID: e26) was 0.84GB used / 0.88GB limit (0.952635)
OOM kill reason: Memory usage exceeded threshold
Consider provisioning more memory on this node."""


def test_a_worker_that_ray_ended_for_its_memory_is_told_in_one_sentence():
    assert _cause(RuntimeError(LOW)).startswith("a worker ran out of memory (0.84GB used / 0.88GB limit); give workers")
    by_the_kernel = (
        "Worker exit type: SYSTEM_ERROR. Some common causes include: (1) the process was killed by the OOM killer"
    )
    assert _cause(RuntimeError(by_the_kernel)).startswith("a worker died without a word, most often killed for")
    assert _cause(RuntimeError("first\nlast")) == "last"
    assert _cause(RuntimeError()) == "RuntimeError"


def test_the_stored_curve_follows_at_most_every_two_seconds(run, tmp_path):
    now = [0.0]
    local = MetricsLog(tmp_path / "metrics.jsonl")
    mirror = remote.MetricsMirror(local.path, run, clock=lambda: now[0])
    seen = []
    for step in range(1, 6):
        now[0] += 0.9
        local.after_step(step, {"loss": 1.0})
        mirror.after_step(step, {})
        seen.append(stored(run)[-1:])
    assert seen == [[], [], [3], [3], [3]]
    mirror.flush()
    assert stored(run) == [1, 2, 3, 4, 5]


def test_a_bucket_that_is_away_between_checkpoints_costs_no_step(run, tmp_path, monkeypatch, caplog):
    def away(*_: object) -> None:
        raise ClusterError("does not answer")

    local = MetricsLog(tmp_path / "metrics.jsonl")
    local.after_step(1, {"loss": 1.0})
    mirror = remote.MetricsMirror(local.path, run, clock=iter([0.0, 5.0, 6.0]).__next__)
    monkeypatch.setattr(Storage, "write_bytes", away)
    mirror.after_step(1, {})
    assert "step 1 is not yet in the stored metrics" in caplog.text
    with pytest.raises(ClusterError):
        mirror.flush()


def test_the_curve_is_stored_before_the_checkpoint_is_reported(run, tmp_path, monkeypatch):
    import ray.train

    local = MetricsLog(tmp_path / "metrics.jsonl")
    mirror = remote.MetricsMirror(local.path, run, clock=lambda: 0.0)
    folder = tmp_path / "step-000003"
    folder.mkdir()
    at_report = []
    monkeypatch.setattr(ray.train, "report", lambda *_, **given: at_report.append((stored(run), given)))
    for step in (1, 2, 3):
        local.after_step(step, {"loss": 1.0})
    remote.report(3, {"loss": 1.0}, folder, mirror=mirror)
    assert at_report[0][0] == [1, 2, 3]
    assert at_report[0][1]["checkpoint"].path == str(folder)
    assert at_report[0][1]["checkpoint_dir_name"] == "step-000003"
    assert not folder.exists()  # a pod's disk does not fill up with checkpoints


def test_a_new_first_worker_goes_on_with_the_stored_curve(run, tmp_path):
    run.write_text(remote.METRICS, '{"step": 1, "loss": 2.0, "attempt": 0}\n')
    path = tmp_path / "metrics.jsonl"
    mirror = remote.start_mirror(path, run)
    MetricsLog(path, attempt=1).after_step(2, {"loss": 1.0})
    mirror.flush()
    assert stored(run) == [1, 2]


def test_words_of_an_error_reach_the_driver(run):
    with pytest.raises(DataError), remote.failures_recorded(run):
        raise DataError("max_tokens")
    said = remote.recorded_failure(run)
    assert isinstance(said, DataError) and str(said) == "max_tokens"
    with pytest.raises(DataError, match="max_tokens"), remote.failures_recorded(run):
        pytest.fail("a second worker group must not look for the same error again")
    _prepare(run)
    assert remote.recorded_failure(run) is None
    assert run.size(remote.METRICS) == 0


def test_what_a_cluster_did_may_have_passed(run):
    with pytest.raises(ClusterError), remote.failures_recorded(run):
        raise ClusterError("the bucket does not answer")
    with remote.failures_recorded(run):
        pass


def test_an_error_is_not_hidden_by_a_bucket_that_is_gone(server, run):
    server.refuse = True
    with pytest.raises(DataError, match="its own words"), remote.failures_recorded(run):
        raise DataError("its own words")
    with pytest.raises(ClusterError, match="refused the credentials"):
        _prepare(run)


def test_the_driver_follows_the_stored_curve(run, monkeypatch):
    monkeypatch.setattr("ray_jobs.common.FOLLOW_BUCKET_EVERY_S", 0.01)
    seen: list[int] = []
    with _followed(run, lambda row: seen.append(row["step"])):
        run.write_text(remote.METRICS, '{"step": 1}\n{"step": 2}\n{"st')
    assert seen[-1] == 2


def test_a_published_model_is_found_by_its_key(server, model, tmp_path):
    out = f"{WORKSPACE}/models/p"
    assert remote.finished(out, "key") is None
    reference = remote.publish(model, open_storage(out))
    assert remote.finished(out, "key") == reference
    assert remote.finished(out, "other") is None
    assert json.loads(server.objects["ws/models/p.json"]) == {
        "reference": f"{WORKSPACE}/store@sha256:{reference.digest}",
        "config_hash": "key",
        "metrics": {"loss": 1.5},
    }
    assert (pull(reference) / "model.safetensors").read_bytes() == bytes(50)
    del server.objects[f"ws/store/manifests/{reference.digest}.json"]
    with pytest.raises(DataError, match="no such content"):
        remote.finished(out, "key")
    server.objects["ws/models/p.json"] = b"{}"
    with pytest.raises(DataError, match="does not point to a model"):
        remote.finished(out, "key")


@pytest.mark.parametrize("out", ["s3://bucket/p", "s3://bucket/models/a/b", "s3://bucket/models/"])
def test_a_place_that_is_no_workspace_is_refused(out):
    with pytest.raises(ConfigError, match="<workspace>/models/<name>"):
        remote.finished(out, "key")


def test_workers_get_references_as_text_and_folders_as_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reference = "s3://bucket/store@sha256:" + "a" * 64
    assert _for_workers(reference) == reference
    assert _for_workers(Path("cohort")) == str(tmp_path / "cohort")
