"""From our configuration to Ray Train's: workers, storage, restarts, and a progress feed for whoever waits.

Ray Train (V2) restarts the worker group after a failure and hands the last reported checkpoint to it; a later call
under the same run name does the same. Workers append to `metrics.jsonl` in the run's folder and the driver follows that
file, so progress works alike on one machine and over shared storage.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rollama.core.errors import ClusterError, RollamaError
from rollama.core.files import read_json, write_json
from rollama.training.loop import Callback, Metrics
from rollama.training.metrics_log import read_metrics
from rollama.training.worker import ScaleConfig, Worker

OnStep = Callable[[dict[str, Any]], None]
METRICS, FAILURE, WORKING = "metrics.jsonl", "failure.json", "ray"


def start_ray(cpus: int) -> None:
    """Connect to the cluster in RAY_ADDRESS, else start Ray in this process with at least `cpus` logical CPUs."""
    import ray

    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init()
        return
    ray.init(
        num_cpus=max(cpus, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=bool(os.environ.get("ROLLAMA_DEBUG")),
        logging_level="ERROR",
        object_store_memory=512 << 20,
        configure_logging=False,
    )


def launch(
    run: Path,
    worker_fn: Callable[[dict[str, Any]], None],
    payload: dict[str, Any],
    scale: ScaleConfig,
    on_step: OnStep | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Run `worker_fn(payload)` on every worker until it is done, through failures.

    Args:
        run: the run's folder on storage that all workers reach; the same folder resumes the run.
        on_step: called in the driver with each new line of the run's metrics.
        callbacks: picklable callbacks for the training loop of every worker.

    Raises:
        RollamaError: what the workers raised on purpose.
        ClusterError: the workers failed in another way more than `scale.max_failures` times.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    run = run.resolve()
    run.mkdir(parents=True, exist_ok=True)
    (run / FAILURE).unlink(missing_ok=True)
    start_ray(scale.workers * scale.cpus_per_worker)
    resources: dict[str, float] = {"CPU": scale.cpus_per_worker}
    if scale.gpus_per_worker:
        resources["GPU"] = scale.gpus_per_worker
    if scale.memory_gib_per_worker:
        resources["memory"] = scale.memory_gib_per_worker * 2**30
    trainer = TorchTrainer(
        worker_fn,
        train_loop_config={**payload, "run": str(run), "callbacks": tuple(callbacks)},
        torch_config=TorchConfig(backend="nccl" if scale.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=scale.workers, use_gpu=bool(scale.gpus_per_worker), resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=WORKING,
            storage_path=str(run),
            failure_config=FailureConfig(max_failures=scale.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=scale.keep_checkpoints),
            worker_runtime_env={"env_vars": worker_environment(scale.cpus_per_worker, gpu=bool(scale.gpus_per_worker))},
        ),
    )
    try:
        with _followed(run / METRICS, on_step):
            _fit(trainer)
    except Exception as error:  # Ray wraps whatever a worker raised; the worker left its own words in FAILURE
        if (run / FAILURE).is_file():
            failure = read_json(run / FAILURE)
            kind = next(
                (leaf for leaf in RollamaError.__subclasses__() if leaf.__name__ == failure["kind"]), RollamaError
            )
            raise kind(failure["message"]) from error
        raise ClusterError(
            f"{run}: training failed after {scale.max_failures} restarts: {_first_line(error)}"
        ) from error


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


def ray_worker(payload: dict[str, Any]) -> Worker:
    """Describe this Ray Train worker for the training functions. Call it inside `worker_fn`."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    run = Path(payload["run"])
    checkpoint = ray.train.get_checkpoint()
    logged = read_metrics(run / METRICS)
    return Worker(
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        device=ray.train.torch.get_device(),
        resume=Path(checkpoint.path) if checkpoint else None,
        scratch=Path(tempfile.mkdtemp(prefix="rollama-")),
        report=_report,
        metrics_path=run / METRICS,
        attempt=logged[-1]["attempt"] + 1 if logged else 0,
        callbacks=payload.get("callbacks", ()),
    )


@contextlib.contextmanager
def failures_recorded(payload: dict[str, Any]) -> Iterator[None]:
    """Keep the words of an error raised on purpose where the driver finds them; Ray only keeps a traceback."""
    try:
        yield
    except RollamaError as error:
        write_json(Path(payload["run"]) / FAILURE, {"kind": type(error).__name__, "message": str(error)})
        raise


def _report(step: int, metrics: Metrics, folder: Path | None) -> None:
    import ray.train

    checkpoint = ray.train.Checkpoint.from_directory(str(folder)) if folder else None
    ray.train.report({"step": step, **metrics}, checkpoint=checkpoint, checkpoint_dir_name=f"step-{step:06d}")


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
def _followed(path: Path, on_step: OnStep | None) -> Iterator[None]:
    """Feed new lines of a growing metrics file to `on_step` from a thread."""
    if on_step is None:
        yield
        return
    done = threading.Event()

    def follow() -> None:
        seen = -1
        while True:
            finished = done.wait(1.0)
            rows = read_metrics(path)
            if rows and rows[-1]["step"] != seen:
                seen = rows[-1]["step"]
                on_step(rows[-1])
            if finished:
                return

    thread = threading.Thread(target=follow, name="rollama-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
