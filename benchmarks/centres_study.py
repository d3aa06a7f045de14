"""Local-only, pooled, federated, leave-one-centre-out, few-shot: python -m benchmarks.centres_study WORKSPACE

Trains P and SEG on the cohort's training centres in every one of these ways with equal compute, scores them on every
centre's test cases and on the unseen centre, and writes tables with intervals and two pictures a task to
WORKSPACE/study (see `centres_tables`). Needs neither Ray nor Flower: a model is trained in one process, and the
federation is rehearsed (`rollama.centres.federation.rehearsal`), which gives the weights that a real one gives.

Equal compute: every model begins at the same start model and is trained for the preset's `steps` optimizer steps on
`batch` cases each. At C centres, a federation's site takes batches of `batch / C` in `steps / rounds` steps a round; so
all sites together see as many cases, in as many steps one after the other. A local-only model sees as many too, all of
its own centre. An adaptation to few cases comes on top of the training without that centre.

The same command goes on where it was stopped, with the next model (a federation: with the next round). `--parallel 4`
trains four models at a time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.centres_tables import FEDERATED, POOLED
from benchmarks.centres_training import Setup, fit, training_centres

TASKS = ("p", "seg")
FEW = (1, 3, 10)
SETUP = "study.json"
COHORT = (
    "cohort.size=s", "cohort.train=40", "cohort.validation=4", "cohort.test=16", "cohort.external=32",
    "cohort.combination=0", "cohort.counterfactual=0",
)  # fmt: skip
"""Cases of each centre; the preset's own cohort has other numbers."""
START = "start"


@dataclass(frozen=True)
class Job:
    """One model of the study: train what is missing, score what is not scored.

    Attributes:
        kind: start, local, pooled, without, federated or few.
        centre: of local, without and few.
        cases: of few.
        scored: centres whose held-out cases it is scored on.
    """

    workspace: Path
    what: str
    seed: int
    kind: str
    centre: str = ""
    cases: int = 0
    scored: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the model's folder."""
        parts = (self.what, str(self.seed), self.kind, self.centre, str(self.cases or ""))
        return "-".join(part for part in parts if part)

    @property
    def model(self) -> Path:
        """The model's folder."""
        return self.workspace / "models" / self.name

    def other(self, kind: str, centre: str = "") -> Job:
        """Another job of the same task and seed."""
        return Job(self.workspace, self.what, self.seed, kind, centre)


def waves(workspace: Path, dataset: Path, tasks: Sequence[str], seeds: Sequence[int]) -> list[list[Job]]:
    """All jobs; those of a wave need only models of earlier ones. The longest begin first."""
    from rollama.data.dataset import open_texts

    info = open_texts(dataset).info
    centres, external = training_centres(dataset), info.external_centres
    starts, main, few = [], [], []
    for seed in seeds:
        for what in tasks:

            def job(kind: str, *more: Any, what: str = what, seed: int = seed, **scored: Any) -> Job:
                return Job(workspace, what, seed, kind, *more, **scored)

            starts.append(job(START))
            main += [job(FEDERATED, scored=info.centres), job(POOLED, scored=info.centres)]
            main += [job("without", centre, scored=(centre, *external)) for centre in centres]
            main += [job("local", centre, scored=info.centres) for centre in centres]
            few += [job("few", centre, number, scored=(centre,)) for centre in centres for number in FEW]
    main.sort(key=lambda one: one.kind != FEDERATED)
    return [starts, main, few]


def train(job: Job, setup: Setup) -> Path:
    """The job's model; trained when it is not there."""
    from rollama.centres.studies import few_shot, folds
    from rollama.data.dataset import open_dataset

    dataset = Path(setup.dataset)
    config = setup.config(job.what, job.seed)
    start = job.other(START).model
    match job.kind:
        case "start":
            return fit(job.what, setup.begin(job.what, job.seed), dataset, job.model, None, setup.device)
        case "federated":
            return federate(job, setup, start)
        case "local":
            config = config.updated(centres=config.centres.model_dump() | {"only": (job.centre,)})
        case "without":
            data = open_dataset(dataset, check_volumes=False)
            (config,) = (fold.config for fold in folds(config, data, job.name) if fold.centre == job.centre)
        case "few":
            (fold,) = few_shot(setup.few(config), job.centre, [job.cases], job.name)
            config, start = fold.config, job.other("without", job.centre).model
    return fit(job.what, config, dataset, job.model, start, setup.device)


def federate(job: Job, setup: Setup, start: Path) -> Path:
    """The federated model: rounds rehearsed, and SEG's threshold and the like measured as pooled training does."""
    from rollama.centres.federation.config import Federation, Policy
    from rollama.centres.federation.rehearsal import rehearse
    from rollama.centres.federation.training import begin, taken
    from rollama.centres.federation.weights import Tensors
    from rollama.centres.measuring import measure_again
    from rollama.core.config import hash_json
    from rollama.training.artefact import artefact_hash

    dataset = Path(setup.dataset)
    centres = training_centres(dataset)
    example = setup.site(job.what, job.seed, centres[0], len(centres), 1)
    key = hash_json([example.model_dump(mode="json", exclude={"scale"}), artefact_hash(start)])[:8]
    folder = job.workspace / "federated" / f"{job.name}-{key}"

    def site(name: str, number: int, received: Tensors) -> tuple[Tensors, int]:
        config = setup.site(job.what, job.seed, name, len(centres), number)
        init, _ = begin(start, received, folder / "work")
        return taken(fit(job.what, config, dataset, folder / "work" / "out", init, setup.device))

    wide = {"max_relative": 1e3}  # nothing is clipped: it is about the mean, and no site is rogue
    federation = Federation.model_validate(
        {"name": job.name, "start": start.resolve(), "rounds": setup.rounds, "min_sites": len(centres),
         "guard": wide | {"max_times_median": 1e3}}
    )  # fmt: skip
    policy = Policy.model_validate({"max_norm": 1e9, "min_cases": 1, "counts": "cases", **wide})
    model = rehearse(folder, federation, centres, site, policy)
    return measure_again(model, dataset, folder / "measured") if job.what == "seg" else model


def run(job: Job) -> tuple[str, float]:
    """Train and score; (the model's name, seconds). Records are kept in `records`, one file a model."""
    import torch

    from rollama.centres.scoring import Entry, held_out, score
    from rollama.core.files import write_text
    from rollama.data.dataset import open_dataset
    from rollama.evaluation.run import to_line
    from rollama.training.artefact import artefact_hash

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    started = time.perf_counter()
    setup = Setup.read(job.workspace / SETUP)
    model = train(job, setup)
    data = open_dataset(Path(setup.dataset), check_volumes=False)
    cases = tuple(case for centre in job.scored for case in held_out(data, centre=centre))
    head = {"weights": artefact_hash(model), "data": data.info.content_hash, "scored": list(job.scored)}
    path = job.workspace / "records" / f"{job.name}.jsonl"
    if cases and not (path.is_file() and json.loads(path.read_text().partition("\n")[0])["head"] == head):
        trained = time.perf_counter() - started
        found = score(job.what, Entry(job.name, model, cases), job.workspace / "cache", data.info.content_hash)
        first = {"head": head, "job": {**asdict(job), "workspace": ""}, "train_s": round(trained, 1)}
        write_text(path, "\n".join([json.dumps(first), *(to_line(one, keep_text=False) for one in found), ""]))
    return job.name, time.perf_counter() - started


def ended(wave: Sequence[Job], parallel: int) -> Iterator[tuple[str, float]]:
    """What `run` gives of each job, as they end; in this process unless several run at a time."""
    if parallel == 1:
        yield from map(run, wave)
        return
    # A CUDA context and DeepSpeed's process group are a process's own, so processes are spawned, not forked.
    with multiprocessing.get_context("spawn").Pool(parallel) as pool:
        yield from pool.imap_unordered(run, wave)


def read_records(workspace: Path, jobs: Iterable[Job]) -> dict[Job, list[Any]]:
    """What `run` left of these jobs."""
    from rollama.evaluation.run import from_line

    found = {}
    for job in jobs:
        path = workspace / "records" / f"{job.name}.jsonl"
        found[job] = [from_line(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--dataset", type=Path, help="Default: WORKSPACE/cohort, made when it is missing.")
    parser.add_argument("--preset", default="tiny", help="Default: tiny, with the settings in centres_training.SMALL.")
    parser.add_argument("--set", dest="more", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=20, help="of the federation; must divide the steps")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--parallel", type=int, default=1, help="models trained at a time")
    parser.add_argument("--tables-only", action="store_true", help="of what is trained and scored")
    arguments = parser.parse_args()
    from benchmarks.centres_tables import write_report
    from rollama.cli.cohort import make_once
    from rollama.presets import load_preset

    workspace = arguments.workspace.resolve()
    dataset = (arguments.dataset or workspace / "cohort").resolve()
    if arguments.dataset is None:
        make_once(dataset, load_preset(arguments.preset, [*COHORT, *arguments.more]).cohort)
    setup = Setup(arguments.preset, tuple(arguments.more), str(dataset), arguments.rounds, device=arguments.device)
    setup.write(workspace / SETUP)
    plan = waves(workspace, dataset, arguments.tasks, range(arguments.seeds))
    started, done = time.perf_counter(), 0
    for wave in [] if arguments.tables_only else plan:
        for name, seconds in ended(wave, arguments.parallel):
            done += 1
            print(f"{done}/{sum(map(len, plan))} {name}: {seconds:.0f} s", flush=True)
    print(f"{time.perf_counter() - started:.0f} s in all", flush=True)
    for what in arguments.tasks:
        jobs = [job for wave in plan[1:] for job in wave if job.what == what]
        print(write_report(workspace, what, setup, read_records(workspace, jobs)))


if __name__ == "__main__":
    main()
