"""Make a synthetic cohort on all cores with Ray. Locally through `rollama cohort make`; on a cluster:

python -m ray_jobs.make_cohort --preset local --out /shared/cohort

On several nodes the folder must be one that all of them reach. What is finished is kept: the same command goes on.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ray_jobs.common import entry, start_ray
from rollama.cohort.make import is_made, make_cohort
from rollama.cohort.regions import half_placed, write_regions
from rollama.cohort.scan import Item
from rollama.core.errors import ClusterError
from rollama.data.dataset import open_dataset
from rollama.presets import load_preset

ITEMS = 4
"""Cases of one task: long enough to hide Ray's own work, short enough for a steady progress bar."""


def run_on_ray(work: Callable[[Item], None], items: Sequence[Item], workers: int = 0) -> Iterator[None]:
    """Make the cases on every core that Ray has, or on `workers` of them; a `make.Runner`.

    Raises:
        RollamaError, OSError: what the work raised; cases that are under way are dropped.
        ClusterError: a worker or Ray itself failed.
    """
    import ray

    if not items:
        return
    mine = not ray.is_initialized()
    start_ray(1)

    @ray.remote(num_cpus=1, max_retries=3)
    def make(chunk: Sequence[Item]) -> int:
        for item in chunk:
            work(item)
        return len(chunk)

    running: list[ray.ObjectRef] = []
    try:
        chunks = [items[i : i + ITEMS] for i in range(0, len(items), ITEMS)]
        slots = workers or 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running = [make.remote(chunk) for chunk in chunks[:slots]]
        waiting = iter(chunks[slots:])
        while running:
            (ready, *_), running = ray.wait(running, num_returns=1)
            for _ in range(ray.get(ready)):
                yield None
            if (chunk := next(waiting, None)) is not None:
                running.append(make.remote(chunk))
    except ray.exceptions.RayTaskError as error:
        raise error.cause or error from None
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"making the cohort: a worker failed ({type(error).__name__}); what is finished is kept: run it again, "
            "with fewer --workers if memory was short"
        ) from error
    finally:
        for task in running:
            ray.cancel(task)
        if mine:
            ray.shutdown()


def main() -> None:
    """Command line of the cluster entry point."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="local")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    preset = load_preset(given.preset, given.set)
    config = preset.cohort
    if half_placed(given.out):
        write_regions(given.out, say)
    if is_made(given.out, config):
        print(f"{given.out}: already holds this cohort", flush=True)
    else:
        info = make_cohort(given.out, config, say, run_on_ray)
        print(f"{given.out}: {config.cases} cases, content hash {info.content_hash}", flush=True)
    if preset.needs_parts:
        made = write_regions(given.out, say)
        found = open_dataset(given.out, check_volumes=False).info.content_hash
        print(f"{given.out}: all parts of {made} cases drawn (plan_edits), content hash {found}", flush=True)


def say(done: int, total: int) -> None:
    """A line of progress, for a job's log."""
    print(f"{done}/{total}", flush=True)


if __name__ == "__main__":
    entry(main)
