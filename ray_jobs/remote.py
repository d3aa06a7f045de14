"""What surrounds a training function on each Ray Train worker, with the run in a shared folder or in a bucket.

The training functions write to folders. Where the run lives in a bucket, this module gives them folders of their own
pod and carries over what must outlive it: the learning curve, before every checkpoint that it leads to; the words of
an error; and the finished model, as content of `<workspace>/store` that a pointer `<workspace>/models/<name>.json`
names. A data set given as a reference is pulled by each worker into its own node's cache.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rollama.core.errors import CheckpointError, ClusterError, ConfigError, DataError, RollamaError
from rollama.core.storage import Location, Storage, open_storage
from rollama.data.store import Kind, Reference, parse_reference, push, read_stored, resolve
from rollama.training.artefact import artefact_hash, check_artefact, read_manifest
from rollama.training.loop import Metrics
from rollama.training.metrics_log import read_metrics
from rollama.training.runs import is_trained
from rollama.training.shards import everyones
from rollama.training.worker import Worker

METRICS, FAILURE, NOTES, CURVE = "metrics.jsonl", "failure.json", "notes.txt", "curve.png"
EVALUATIONS = "evaluations"
"""Models that were evaluated during training, and `step-NNNNNN.json` with each result."""
WORKING = "ray"
"""What Ray Train keeps of a run, below the run's place: its checkpoints and its own state."""
MIRROR_EVERY_S = 2.0

log = logging.getLogger(__name__)


class MetricsMirror:
    """Callback of rank 0 that keeps a copy of the local metrics file in the run's storage."""

    def __init__(self, path: Path, run: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.run, self.clock = path, run, clock
        self.last = clock()

    def after_step(self, step: int, metrics: Metrics) -> None:
        """Copy, if the last copy is some seconds old. The curve may lag behind, so a failure only costs a warning."""
        if self.clock() - self.last < MIRROR_EVERY_S:
            return
        try:
            self.flush()
        except RollamaError as error:
            log.warning("step %d is not yet in the stored metrics: %s", step, error)
            self.last = self.clock()

    def flush(self) -> None:
        """Copy now; raises what `Storage.write_bytes` raises."""
        self.run.write_bytes(METRICS, self.path.read_bytes())
        self.last = self.clock()


@contextmanager
def on_worker(payload: dict[str, Any]) -> Iterator[tuple[Worker, Path, Path]]:
    """Prepare this Ray Train worker: yields (worker, folder of the data set, folder for the trained model).

    When the block ends well, rank 0 publishes the model if the run's output is in a bucket. Words of an error raised on
    purpose are left in FAILURE for the driver; Ray only keeps a traceback.
    """
    run, out = open_storage(payload["run"]), open_storage(payload["out"])
    scratch = Path(tempfile.mkdtemp(prefix="rollama-"))
    try:
        with failures_recorded(run):
            worker = _ray_worker(run, scratch, payload.get("callbacks", ()))
            if payload.get("init"):
                worker = replace(worker, init=resolve(payload["init"]))
            folder = out.local or scratch / "model"
            yield worker, resolve(payload["dataset"]), folder
            if out.local is None and worker.rank == 0:
                publish(folder, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _ray_worker(run: Storage, scratch: Path, callbacks: tuple[Any, ...]) -> Worker:
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    rank = context.get_world_rank()
    checkpoint = ray.train.get_checkpoint()
    resume = None
    if checkpoint:
        resume, complaints = newest_whole(run, Path(checkpoint.path).name, scratch)
        oldest = min(everyones(resume.name))
        if resume.name != oldest:  # another rank found a newer one damaged on its way: all have to take the same
            resume, _ = newest_whole(run, oldest, scratch)
        if rank == 0 and complaints:
            run.write_text(NOTES, "".join(f"{line}; going on from {resume.name}\n" for line in complaints))
    metrics, mirror = (run.local or scratch) / METRICS, None
    if run.local is None and rank == 0:
        mirror = start_mirror(metrics, run)
        callbacks = (*callbacks, mirror)
    logged = read_metrics(metrics)
    attempt = logged[-1]["attempt"] + 1 if logged else 0
    return Worker(
        rank=rank,
        world=context.get_world_size(),
        device=ray.train.torch.get_device(),
        resume=resume,
        scratch=scratch,
        report=partial(report, attempt=attempt, mirror=mirror),
        metrics_path=metrics,
        attempt=attempt,
        callbacks=callbacks,
    )


def newest_whole(run: Storage, newest: str, scratch: Path) -> tuple[Path, list[str]]:
    """The newest checkpoint whose files have their hashes, and what is wrong with newer ones.

    Args:
        newest: name of the checkpoint that Ray Train would go on from.
        scratch: where checkpoints of a bucket are fetched to.

    Raises:
        CheckpointError: none is whole.
    """
    found = {name.split("/")[1] for name in run.names(WORKING) if name.startswith(f"{WORKING}/step-")}
    complaints: list[str] = []
    for name in sorted((name for name in found if name <= newest), reverse=True):
        try:
            folder = fetched(run, f"{WORKING}/{name}", scratch)
            check_artefact(folder)
        except (CheckpointError, DataError) as error:
            complaints.append(str(error))
        else:
            return folder, complaints
    why = "; ".join(complaints) or f"{newest} is gone"
    raise CheckpointError(f"{run.uri}: no checkpoint is whole ({why}); delete the run to start anew")


def fetched(run: Storage, name: str, scratch: Path) -> Path:
    """The folder `name` of a run; one in a bucket is copied below `scratch` first."""
    if run.local is not None:
        return run.local / name
    for file in run.names(name):
        (scratch / file).parent.mkdir(parents=True, exist_ok=True)
        run.download(file, scratch / file)
    return scratch / name


def start_mirror(path: Path, run: Storage) -> MetricsMirror:
    """Begin the local metrics file with what earlier attempts stored, and mirror it from here on."""
    path.write_bytes(run.read_bytes(METRICS) or b"")
    return MetricsMirror(path, run)


def report(
    step: int, metrics: Metrics, folder: Path | None, attempt: int = 0, mirror: MetricsMirror | None = None
) -> None:
    """Give a step and its checkpoint to Ray Train (collective).

    The curve is stored first: a restart goes on behind this checkpoint, so its steps are never logged again. The
    attempt is in the name: a step whose checkpoint was damaged is saved again, and Ray deletes the older by its name.
    """
    import ray.train

    if mirror is not None:
        mirror.flush()
    checkpoint = ray.train.Checkpoint.from_directory(str(folder)) if folder else None
    name = f"step-{step:06d}" + (f"-{attempt}" if attempt else "")
    ray.train.report({"step": step, **metrics}, checkpoint=checkpoint, checkpoint_dir_name=name)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)  # it is in the run's storage now; a pod's /tmp is small


@contextmanager
def failures_recorded(run: Storage) -> Iterator[None]:
    """Keep the words of an error raised on purpose where the driver finds them.

    Where the workers are started again nevertheless (`failures.OwnFailures` could not read them), what an earlier
    worker of this run said is raised at once instead of being found again, if no repetition mends it.
    """
    if said := lasting_failure(run):
        raise said
    try:
        yield
    except RollamaError as error:
        words = {"kind": type(error).__name__, "message": str(error)}
        with suppress(RollamaError):  # the error itself may be that the storage is gone
            run.write_text(FAILURE, json.dumps(words, indent=2, ensure_ascii=False) + "\n")
        raise


def evaluation_results(run: Storage) -> list[dict[str, Any]]:
    """What evaluations during training found so far, in order: step, metric, value, cases."""
    found = []
    for name in run.names(EVALUATIONS):
        if name.count("/") == 1 and name.endswith(".json"):
            with suppress(RollamaError, ValueError):  # one that is just being written comes with the next look
                found.append(json.loads(run.read_text(name) or "{}"))
    return sorted((item for item in found if item), key=lambda item: int(item["step"]))


def recorded_failure(run: Storage) -> RollamaError | None:
    """What a worker of this run said, as the error it was; None when nobody said anything or it cannot be read."""
    text = None
    with suppress(RollamaError):
        text = run.read_text(FAILURE)
    if text is None:
        return None
    failure = json.loads(text)
    kind = next((leaf for leaf in RollamaError.__subclasses__() if leaf.__name__ == failure["kind"]), RollamaError)
    return kind(failure["message"])


def lasting_failure(run: Storage) -> RollamaError | None:
    """What a worker of this run said, if no repetition mends it; what a cluster did (`ClusterError`) may pass."""
    said = recorded_failure(run)
    return None if isinstance(said, ClusterError) else said


def publish(folder: Path, out: Storage) -> Reference:
    """Push a trained model to its workspace's store, then point to it.

    Args:
        folder: the artefact.
        out: `<workspace>/models/<name>`.
    """
    workspace, name = _workspace(out.uri)
    manifest = read_manifest(folder)
    reference = push(folder, Kind.MODEL, workspace.child("store").uri)
    pointer = {key: manifest.get(key) for key in ("config_hash", "metrics")}
    workspace.write_text(f"models/{name}.json", json.dumps({"reference": str(reference), **pointer}, indent=2) + "\n")
    return reference


def finished(out: Location, key: str) -> Path | Reference | None:
    """The model of the run `key` if it is trained already: its folder, or its reference where `out` is in a bucket.

    Raises:
        CheckpointError: a local model was changed or damaged.
        DataError: the pointer is not one.
        ClusterError: the bucket cannot be reached.
    """
    if isinstance(out, Path):
        return out if is_trained(out, key) else None
    workspace, name = _workspace(out)
    pointer = read_pointer(workspace, name)
    if pointer is None:
        return None
    reference, trained = pointer
    if trained != key:
        return None
    read_stored(reference)
    return reference


def starting(config: Any, init: Location) -> Any:
    """The configuration of S, P or SEG with the digest of the artefact that training starts from.

    Raises:
        CheckpointError: it is not a trained model.
    """
    return config.updated(init=artefact_hash(resolve(init)))


def read_pointer(workspace: Storage, name: str) -> tuple[Reference, str] | None:
    """Reference and configuration hash of the workspace's model `name`; None when it was never trained.

    Raises:
        DataError: the pointer is not one.
        ClusterError: the bucket cannot be reached.
    """
    text = workspace.read_text(f"models/{name}.json")
    if text is None:
        return None
    try:
        pointer = json.loads(text)
        return parse_reference(pointer["reference"]), pointer["config_hash"]
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        place = f"{workspace.uri}/models/{name}.json"
        raise DataError(f"{place}: does not point to a model; delete it and train again") from error


def _workspace(out: str) -> tuple[Storage, str]:
    place, _, name = out.rpartition("/models/")
    if not place or not name or "/" in name:
        raise ConfigError(f"{out}: a model in a bucket is written to <workspace>/models/<name>")
    return open_storage(place), name
