"""A run in MLflow on a real SQLite file, without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.tracking import EXPERIMENT, Tracker, flatten, tracking_place
from rollama.core.storage import Storage, open_storage

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's dependencies warn about each other
ROWS = [{"step": step, "loss": 3.0 / step, "lr": 0.1, "attempt": 0} for step in (1, 2, 3)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return open_storage(tmp_path / "train" / "s-abc")


def tracker(run: Storage) -> Tracker:
    made = Tracker(run, {"lr": 0.1, "zero": {"stage": 2}}, {"task": "s"})
    made.start()
    return made


def test_a_run_and_its_continuation_are_one_mlflow_run(run: Storage, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    first = tracker(run)
    first.update(ROWS[:2], [{"step": 2, "metric": "rougeL", "value": 0.5, "cases": 4}])
    first.finish("FAILED")
    second = tracker(run)
    second.update(ROWS, [{"step": 2, "metric": "rougeL", "value": 0.5, "cases": 4}])
    second.update(ROWS)
    second.finish("FINISHED", b"\x89PNG")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])
    assert found.info.run_name == "s-abc" and found.info.status == "FINISHED" and found.data.tags["task"] == "s"
    assert found.data.params == {"lr": "0.1", "zero.stage": "2"}
    history = client.get_metric_history(found.info.run_id, "loss")
    assert [(item.step, item.value) for item in history] == [(1, 3.0), (2, 1.5), (3, 1.0)]
    assert [item.step for item in client.get_metric_history(found.info.run_id, "validation rougeL")] == [2]
    assert [item.path for item in client.list_artifacts(found.info.run_id)] == ["curve.png"]
    assert list((tmp_path / "mlflow").rglob("curve.png"))


def test_a_server_that_is_away_costs_a_warning(
    run: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    watching = tracker(run)
    watching.update(ROWS)
    watching.finish("FINISHED")
    assert caplog.text.count("not tracked in MLflow") == 1


def test_where(run: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_place(run) == (f"sqlite:///{tmp_path / 'mlflow.db'}", (tmp_path / "mlflow").as_uri())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert tracking_place(run) == ("https://mlflow.example", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_place(run) is None


def test_flatten() -> None:
    assert flatten({"a": 1, "b": {"c": {"d": (1, 2)}, "e": None}}) == {"a": "1", "b.c.d": "(1, 2)", "b.e": "None"}
