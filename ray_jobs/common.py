"""From our configuration to Ray Train's: workers, storage, restarts, and a progress feed for whoever waits.

Ray Train (V2) restarts the worker group after a failure and hands the last reported checkpoint to it; a later call
under the same run name does the same. Rank 0 keeps `metrics.jsonl` in the run's folder or bucket and the driver follows
that file, so progress works alike on one machine and on a cluster. What happens on the workers is in `remote`.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_jobs.remote import CURVE, FAILURE, METRICS, NOTES, WORKING, evaluation_results, recorded_failure
from ray_jobs.tracking import Tracker
from rollama.core.errors import ClusterError, RollamaError
from rollama.core.files import read_json
from rollama.core.lock import alone
from rollama.core.registry import Task
from rollama.core.storage import Location, Storage, open_storage
from rollama.data.store import is_reference, parse_reference, resolve
from rollama.training.loop import Callback
from rollama.training.metrics_log import parse_metrics

if TYPE_CHECKING:
    from rollama.segmentation.config import SegConfig
    from rollama.text.config import TextConfig

OnStep = Callable[[dict[str, Any]], None]
_LOW_MEMORY = re.compile(r"running low on memory\. Memory on the node .*? was ([\d.]+GB used / [\d.]+GB limit)")
_KILLED = re.compile(r"OOM killer|SIGKILL")
LATE = "timed out during startup"
STARTS = 3
FOLLOW_EVERY_S, FOLLOW_BUCKET_EVERY_S = 1.0, 5.0
PATIENCE_S, LEASE_S = 5.0, 150.0
"""Seconds to wait for another process at the same run; on a cluster longer than the lease, often 90 s, for which a file
server keeps the lock of a node that died."""

log = logging.getLogger(__name__)


def start_ray(cpus: int) -> None:
    """Connect to the cluster in RAY_ADDRESS, else start Ray in this process with at least `cpus` logical CPUs.

    Raises:
        ClusterError: Ray does not come up in time; the machine is too busy.
    """
    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
        return
    # One machine is not preempted; the watcher would be one more process that loads all of torch.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    for left in range(STARTS - 1, -1, -1):
        try:
            ray.init(
                num_cpus=max(cpus, os.cpu_count() or 1),
                include_dashboard=False,
                log_to_driver=bool(os.environ.get("ROLLAMA_DEBUG")),
                logging_level="ERROR",
                object_store_memory=512 << 20,
                configure_logging=False,
            )
        except Exception as error:  # Ray waits half a minute for itself, whatever it is told, and raises just this
            if LATE not in str(error):
                raise
            if not left:
                raise ClusterError(
                    f"Ray did not come up on this machine, {STARTS} times within 30 s; it is too busy. "
                    "The same command goes on later"
                ) from error
            log.warning("Ray is late on a busy machine; starting it again")
        else:
            return


def launch(
    worker_fn: Callable[[dict[str, Any]], None],
    config: TextConfig | SegConfig,
    dataset: Location,
    run: Location,
    out: Location,
    on_step: OnStep | None = None,
    callbacks: Sequence[Callback] = (),
    init: Location | None = None,
    **extra: str,
) -> None:
    """Run `worker_fn(payload)` on every worker until it is done, through failures.

    Args:
        config: what to train; `config.scale` says on how many workers.
        dataset: a reference that every worker pulls, or a folder that all workers reach.
        run: the run's folder or `s3://` URI that all workers reach; the same one resumes the run.
        out: folder of the trained model, or `<workspace>/models/<name>` in a bucket (see `remote.publish`).
        on_step: called in the driver with each new line of the run's metrics.
        callbacks: picklable callbacks for the training loop of every worker.
        init: the artefact that training starts from, a folder or a reference; `config.init` is its digest.
        extra: more entries of the payload.

    Raises:
        RollamaError: what the workers raised on purpose, or the storage cannot be used.
        ClusterError: the workers failed in another way more than `scale.max_failures` times.
        ConfigError: another process is at the same run.
    """
    from ray.train import CheckpointConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from ray_jobs.failures import OwnFailures

    scale, storage = config.scale, open_storage(run)
    payload: dict[str, Any] = {
        "config": config.model_dump(mode="json"),
        "dataset": _for_workers(dataset),
        "run": storage.uri,
        "out": open_storage(out).uri,
        "callbacks": tuple(callbacks),
        "init": None if init is None else _for_workers(init),
        **extra,
    }
    with _alone(storage):
        _prepare(storage)
        start_ray(scale.workers * scale.cpus_per_worker)
        environment = worker_environment(scale.cpus_per_worker, gpu=bool(scale.gpus_per_worker))
        resources: dict[str, float] = {"CPU": scale.cpus_per_worker}
        if scale.gpus_per_worker:
            resources["GPU"] = scale.gpus_per_worker
        if scale.memory_gib_per_worker:
            resources["memory"] = scale.memory_gib_per_worker * 2**30
        trainer = TorchTrainer(
            worker_fn,
            train_loop_config=payload,
            torch_config=TorchConfig(backend="nccl" if scale.gpus_per_worker else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=scale.workers, use_gpu=bool(scale.gpus_per_worker), resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=WORKING,
                storage_path=storage.path,
                storage_filesystem=None if storage.local else storage.filesystem,
                failure_config=OwnFailures(scale.max_failures, storage.uri),
                checkpoint_config=CheckpointConfig(num_to_keep=scale.keep_checkpoints),
                worker_runtime_env={"env_vars": environment},
            ),
        )
        tags = {"task": extra.get("task", "seg"), "method": str(config.method), "dataset": _content(payload["dataset"])}
        tracker = Tracker(storage, payload["config"], tags)
        try:
            with _tracked(storage, tracker), _followed(storage, on_step, tracker):
                _fit(trainer)
            if notes := storage.read_text(NOTES):
                log.warning("%s", notes.strip())
        except Exception as error:  # Ray wraps whatever a worker raised; the worker left its own words in FAILURE
            if said := recorded_failure(storage):
                raise said from error
            raise ClusterError(
                f"{storage.uri}: training failed after {scale.max_failures} restarts: {_cause(error)}"
            ) from error


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """Raise what a Ray task raised on purpose instead of Ray's wrapping of it."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, RollamaError):
            raise error.cause from None
        raise


def _for_workers(dataset: Location) -> str:
    text = str(dataset)
    return str(parse_reference(text)) if is_reference(text) else str(resolve(dataset).resolve())


def _content(dataset: str) -> str:
    """The hash of a data set's content; a path may hold names of people or projects."""
    if is_reference(dataset):
        return parse_reference(dataset).digest
    path = Path(dataset) / "dataset.json"
    return str(read_json(path).get("content_hash", "")) if path.is_file() else ""


@contextlib.contextmanager
def _alone(storage: Storage) -> Iterator[None]:
    """Keep a second process from writing checkpoints and metrics of the same run between ours.

    Only in folders: in a bucket nothing tells whether whoever wrote last is still there.
    """
    if storage.local is None:
        yield
        return
    storage.local.mkdir(parents=True, exist_ok=True)
    patience = LEASE_S if os.environ.get("RAY_ADDRESS") else PATIENCE_S
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(alone(storage.local, "training", patience))
        except OSError as error:
            log.warning("%s: cannot be locked (%s); start no second run of this training", storage.uri, error.strerror)
        yield


def _prepare(storage: Storage) -> None:
    """Make sure that the run can be written, before workers are asked for, and forget an earlier failure."""
    if storage.local is None and not storage.exists(METRICS):
        storage.write_bytes(METRICS, b"")
    storage.delete(FAILURE)
    storage.delete(NOTES)


def _fit(trainer: Any) -> None:
    """Run `trainer.fit()` so that Ctrl-C stays a KeyboardInterrupt.

    In the main thread Ray Train replaces the handler of SIGINT by one that ends the process without a word; in another
    thread it does not.
    """
    import ray

    failure: list[BaseException] = []

    def run() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # handed to the waiting thread, whatever it is
            failure.append(error)

    thread = threading.Thread(target=run, name="rollama-fit", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.5)
    except KeyboardInterrupt:
        ray.shutdown()  # ends this job's workers now; its checkpoints stay
        raise
    if failure:
        raise failure[0]


def worker_environment(threads: int, gpu: bool = False) -> dict[str, str]:
    """Environment of every worker: bounded threads, offline, no telemetry, the driver's cache."""
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if not gpu:
        environment["DS_ACCELERATOR"] = "cpu"
    if cache := os.environ.get("ROLLAMA_CACHE"):
        environment["ROLLAMA_CACHE"] = cache
    return environment


@contextlib.contextmanager
def _tracked(storage: Storage, tracker: Tracker) -> Iterator[None]:
    """Draw the learning curve and end the run in MLflow as the block ends."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        curve = None
        with contextlib.suppress(RollamaError):  # a bucket that is away; what failed before is the better message
            metrics, evaluations = storage.read_text(METRICS) or "", evaluation_results(storage)
            if status != "KILLED":
                try:
                    curve = _draw_curve(storage, metrics, evaluations)
                except Exception as error:  # a picture must not turn a trained model into a failure, or hide one
                    log.warning("the learning curve was not drawn: %s", error)
            tracker.update(parse_metrics(metrics), evaluations)
        tracker.finish(status, curve)


def _draw_curve(storage: Storage, metrics: str, evaluations: list[dict[str, Any]]) -> bytes | None:
    """The learning curve, also as CURVE in the run."""
    from rollama.evaluation.figures import curves_png

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / METRICS
        path.write_text(metrics, encoding="utf-8")
        picture = curves_png({storage.uri.rstrip("/").rpartition("/")[2]: path}, evaluations)
    if picture is not None:
        storage.write_bytes(CURVE, picture)
    return picture


@contextlib.contextmanager
def _followed(storage: Storage, on_step: OnStep | None, tracker: Tracker | None = None) -> Iterator[None]:
    """Feed new lines of the run's growing metrics to `on_step` and MLflow from a thread."""
    if on_step is None and tracker is None:
        yield
        return
    done = threading.Event()

    def follow() -> None:
        seen = -1
        if tracker is not None:
            tracker.start()  # a new SQLite file takes seconds, in which the workers start
        while True:
            finished = done.wait(FOLLOW_EVERY_S if storage.local else FOLLOW_BUCKET_EVERY_S)
            with contextlib.suppress(RollamaError):  # a bucket that is away for a while only delays the progress
                rows = parse_metrics(storage.read_text(METRICS) or "")
                if rows and rows[-1]["step"] != seen:
                    seen = rows[-1]["step"]
                    if on_step is not None:
                        on_step(rows[-1])
                    if tracker is not None and not finished:
                        tracker.update(rows, evaluation_results(storage))
            if finished:
                return

    thread = threading.Thread(target=follow, name="rollama-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)


def entry(main: Callable[[], object]) -> None:
    """Run an entry point; an error raised on purpose is one message and exit code 1, as on the command line."""
    try:
        main()
    except RollamaError as error:
        raise SystemExit(f"error: {error}") from None


def read_arguments(doc: str | None, task: bool = False) -> argparse.Namespace:
    """The command line of a training entry point: preset, set, dataset, init, run, out and, if asked for, task."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="local")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    if task:
        parser.add_argument("--task", choices=list(Task), required=True)
    parser.add_argument("--dataset", required=True, help="folder or reference")
    parser.add_argument("--run", required=True, help="folder or s3://bucket/prefix")
    parser.add_argument("--init", help="artefact to start from: folder or reference")
    parser.add_argument("--out", required=True, help="folder or <workspace>/models/<name> in a bucket")
    return parser.parse_args()


def _cause(error: BaseException) -> str:
    """The last line of an error; what Ray says of a worker without memory is fifty lines, and the cause not the last.

    Ray's guard ends a worker shortly below the limit; where memory grows faster than it looks, the kernel is first.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = _LOW_MEMORY.search(str(error))
    if found or _KILLED.search(str(error)):
        what = (
            f"ran out of memory ({found[1]})"
            if found
            else "died without a word, most often killed for running out of memory"
        )
        return (
            f"a worker {what}; give workers more (scale.memory_gib_per_worker, on a cluster also worker.memory of the "
            "site), or lower micro_batch"
        )
    return lines[-1] if lines else type(error).__name__
