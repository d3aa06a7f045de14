"""Evaluate the models of a workspace in a bucket: one Ray task pulls all it needs into its own pod and publishes.

The parts of an evaluation share a folder, and pods share none; so one worker runs them in turn. Its progress and its
results lie below `<workspace>/evaluation/`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ray_jobs.common import own_errors, start_ray, worker_environment
from ray_jobs.remote import read_pointer
from rollama.chain.run import SEGMENTATION_FOLDER, TEXT_FOLDERS
from rollama.core.errors import CheckpointError, RollamaError
from rollama.core.storage import Storage, open_storage
from rollama.data.store import pull, resolve
from rollama.evaluation import jobs
from rollama.evaluation.run import Record

FOLDER, PROGRESS = "evaluation", "progress.json"
PUBLISHED = ("evaluation.json", "evaluation.md", "cases.jsonl", "predictions.jsonl")
POLL_S = 5.0


def evaluate_remote(
    workspace: str,
    dataset: str,
    limit: int | None = None,
    progress: Callable[[float, str], None] | None = None,
    zero_shot: int = jobs.ZERO_SHOT_CASES,
    gpus: int = 0,
) -> dict[str, Any]:
    """Measure the models that `<workspace>/models/<name>.json` point to; return what `evaluation.json` holds.

    Args:
        workspace: `s3://bucket/prefix`.
        dataset: reference of the data set.
        limit: at most this many cases a centre and split.
        progress: called with (share done in [0, 1], what is running).
        zero_shot: also measure the untrained base, on at most this many external cases.
        gpus: of the worker that runs the models; without one they run on its CPU.

    Raises:
        RollamaError: a model or the data set cannot be used, or the bucket cannot be reached.
    """
    import ray

    start_ray(1)
    place = open_storage(workspace).child(FOLDER)
    place.delete(PROGRESS)
    environment = {"env_vars": worker_environment(threads=1, gpu=bool(gpus))}
    remote = ray.remote(num_cpus=1, num_gpus=gpus, runtime_env=environment)(_evaluate_here)
    task = remote.remote(workspace, dataset, limit, zero_shot)
    with own_errors():
        while not ray.wait([task], timeout=POLL_S)[0]:
            if progress and (text := place.read_text(PROGRESS)):
                progress(*json.loads(text))
        found: dict[str, Any] = ray.get(task)
    return found


def _evaluate_here(workspace: str, dataset: str, limit: int | None, zero_shot: int) -> dict[str, Any]:
    """What the worker runs."""
    scratch = Path(tempfile.mkdtemp(prefix="rollama-evaluation-"))
    place = open_storage(workspace)
    try:
        models = _fetch_models(place, scratch / "models")
        job = jobs.open_job(models, resolve(dataset), scratch / "out", limit)
        text: list[Record] = []
        parts: list[Callable[[], list[Record]]] = [
            lambda: jobs.score_text(job),
            lambda: jobs.score_segmentation(job),
            lambda: jobs.score_chain(job, text),
        ]
        if zero_shot:
            parts.append(lambda: jobs.score_zero_shot(job, zero_shot))
        records: list[Record] = []
        with _stored_progress(job, len(parts), place.child(FOLDER)) as finished:
            for part in parts:
                found = part()
                text = text or found
                records += found
                finished()
        results = jobs.write_results(job, records, limit, zero_shot)
        for name in PUBLISHED:
            if (job.out / name).is_file():
                place.child(FOLDER).upload(job.out / name, name)
        return results
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch_models(place: Storage, folder: Path) -> Path:
    for name in (*TEXT_FOLDERS.values(), SEGMENTATION_FOLDER, jobs.VISION):
        if pointer := read_pointer(place, name):
            pull(pointer[0], folder / name)
        elif name != jobs.VISION:
            raise CheckpointError(f"{place.uri}/models/{name}.json: no trained model there; submit train {name} first")
    return folder


@contextmanager
def _stored_progress(job: jobs.Job, parts: int, place: Storage) -> Iterator[Callable[[], None]]:
    """Every few seconds, write how far the job is to where the driver looks; yields what to call after each part."""
    finished, done = 0, threading.Event()

    def one_more() -> None:
        nonlocal finished
        finished += 1

    def store() -> None:
        while not done.wait(POLL_S):
            # A failure here is only a bar that stands still; the results are what must arrive.
            with suppress(RollamaError):
                place.write_text(PROGRESS, json.dumps(jobs.progress_of(job, parts, finished)))

    thread = threading.Thread(target=store, daemon=True)
    thread.start()
    try:
        yield one_more
    finally:
        done.set()
        thread.join()
