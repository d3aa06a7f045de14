"""Training runs in MLflow: parameters, every step's metrics, evaluations during training, the learning curve.

Where: the server in MLFLOW_TRACKING_URI if that is set, else, for a workspace in a folder, a SQLite file in it
(`mlflow ui --backend-store-uri sqlite:///runs/local/mlflow.db` shows it). A run that is resumed goes on in the same
MLflow run. Clinical text goes nowhere near: parameters are the configuration, the data set is named by its hash.

Tracking only watches. A server that is away costs a warning; the same figures are in the run's own files.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rollama.core.seeding import derive_seed
from rollama.core.storage import Storage

EXPERIMENT, RECORD = "rollama", "mlflow.json"
AT_ONCE = {"metrics": 900, "params": 100}
"""How many of each MLflow takes in a request (metrics: 1000)."""
STARTING_S = 60.0
"""How long figures wait for MLflow to be there."""
Rows = Sequence[Mapping[str, Any]]

log = logging.getLogger(__name__)


class Tracker:
    """One training run's MLflow run; does nothing where there is no place for it. Its methods never raise."""

    def __init__(self, run: Storage, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        self.run, self.parameters, self.tags = run, parameters, tags
        self.client: Any = None
        self.run_id, self.step = "", 0
        self.place = 0  # a hash of the address, which may hold a password
        self.evaluated: list[int] = []
        self._ready = threading.Event()

    def start(self) -> None:
        """Begin the MLflow run, or go on with the one that this run has."""
        place = tracking_place(self.run)
        if place is not None:
            with self._watching():
                self._start(*place)
        self._ready.set()

    def update(self, rows: Rows, evaluations: Rows = ()) -> None:
        """Log what is new. Steps that were run again after a failure are equal and are not logged again."""
        self._ready.wait(STARTING_S)
        if self.client is None:
            return
        from mlflow.entities import Metric

        new = [row for row in rows if row["step"] > self.step]
        later = [item for item in evaluations if item["step"] not in self.evaluated]
        now = int(time.time() * 1000)
        metrics = [
            Metric(key, float(value), now, int(row["step"]))
            for row in new
            for key, value in row.items()
            if key not in ("step", "attempt")
        ]
        metrics += [Metric(f"validation {item['metric']}", item["value"], now, int(item["step"])) for item in later]
        if not metrics:
            return
        with self._watching():
            self._send(metrics=metrics)
            self.step = max([self.step, *(int(row["step"]) for row in new)])
            self.evaluated += [int(item["step"]) for item in later]
            self._remember()

    def finish(self, status: str, curve: bytes | None = None) -> None:
        """End the run as FINISHED, FAILED or KILLED, with the learning curve as PNG."""
        if self.client is None:
            return
        with self._watching(), tempfile.TemporaryDirectory() as folder:
            self.client.set_terminated(self.run_id, status)
            if curve is not None:
                path = Path(folder) / "curve.png"
                path.write_bytes(curve)
                self.client.log_artifact(self.run_id, str(path))

    def _start(self, uri: str, artifacts: str | None) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client: Any = MlflowClient(uri)
        self.place = derive_seed(uri)
        record = json.loads(self.run.read_text(RECORD) or "{}")
        if record.get("place") == self.place:
            self.run_id, self.step, self.evaluated = record["run_id"], record["step"], record["evaluated"]
            client.update_run(self.run_id, status="RUNNING")
            self.client = client
            return
        found = client.get_experiment_by_name(EXPERIMENT)
        experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        name = self.run.uri.rstrip("/").rpartition("/")[2]
        self.run_id = client.create_run(experiment, run_name=name, tags=dict(self.tags)).info.run_id
        self.client = client
        self._send(params=[Param(key, value[:500]) for key, value in flatten(self.parameters).items()])
        self._remember()

    def _send(self, **entities: list[Any]) -> None:
        for kind, items in entities.items():
            for first in range(0, len(items), AT_ONCE[kind]):
                self.client.log_batch(self.run_id, **{kind: items[first : first + AT_ONCE[kind]]})

    def _remember(self) -> None:
        record = {"place": self.place, "run_id": self.run_id, "step": self.step, "evaluated": self.evaluated}
        self.run.write_text(RECORD, json.dumps(record) + "\n")

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests' and OS errors
            log.warning("not tracked in MLflow: %s", (str(error).strip().splitlines() or [type(error).__name__])[0])
            self.client = None


def tracking_place(run: Storage) -> tuple[str, str | None] | None:
    """(address of MLflow, where a new experiment's files go), or None: a run in a bucket without a server, or an
    address that is set to nothing, which switches tracking off.

    A run's folder is `<workspace>/train/<name>`; a run elsewhere has its SQLite file beside it.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri, None
    if uri == "" or run.local is None:
        return None
    folder = run.local.absolute()
    workspace = folder.parent.parent if folder.parent.name == "train" else folder.parent
    return f"sqlite:///{workspace / 'mlflow.db'}", (workspace / "mlflow").as_uri()


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"zero": {"stage": 2}} -> {"zero.stage": "2"}."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found
