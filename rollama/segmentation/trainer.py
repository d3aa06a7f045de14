"""Train the segmentation network on one worker of any number: data, method, engine and loop put together.

Everything random is a function of the step and the case (`BatchOrder`, `draw`, the noise keys), so resuming needs the
checkpoint's tensors and its step, nothing else.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rollama.core.errors import ConfigError, DataError
from rollama.data.case import Case, Split
from rollama.data.dataset import open_dataset
from rollama.data.plan import Guideline
from rollama.data.profile import profile_of
from rollama.data.regions import FOLDER, regions_path
from rollama.data.transforms import Prepared, Sample, draw, prepare, training_pipeline
from rollama.segmentation.checkpoint import build_network, load_start, save_model
from rollama.segmentation.config import SegConfig
from rollama.segmentation.engine import DdpEngine
from rollama.segmentation.finishing import finish, measured
from rollama.segmentation.method import build_method
from rollama.segmentation.model import SegBatch, SegmentationNet
from rollama.segmentation.text_encoder import encoder_text
from rollama.segmentation.validation import Validation, validation_cases
from rollama.training.ahead import Ahead
from rollama.training.centres import case_counts, restricted, row_weights
from rollama.training.checkpoint import Checkpointer, load_checkpoint
from rollama.training.loop import Method, run
from rollama.training.metrics_log import MetricsLog
from rollama.training.runs import run_hash
from rollama.training.sampler import BatchOrder, Draw
from rollama.training.schedule import one_cycle
from rollama.training.start import Proximal, start_folder
from rollama.training.worker import Worker, keep_memory

PROBE_EVERY = 25
"""Steps between two measurements of R's gradient on the prompts."""
TASK = "seg"

log = logging.getLogger(__name__)


class TrainingData:
    """Micro-batches of a step. Volumes are read when first drawn; the latest are kept, as many as the memory allows."""

    def __init__(self, config: SegConfig, cases: tuple[Case, ...], network: SegmentationNet, worker: Worker) -> None:
        self.config, self.cases, self.worker = config, cases, worker
        self.encoder = network.text_encoder
        self.noise = build_method(config).noise
        self.order = BatchOrder(len(cases), config.batch, config.seed, row_weights(cases, config.centres))
        self.pipeline = training_pipeline(config)
        self.prepared: OrderedDict[int, Prepared] = OrderedDict()
        self.room = int(config.scale.cache_gib_per_worker * 2**30)

    def batches(self, step: int) -> Iterator[SegBatch]:
        """This rank's micro-batches of a step; every rank gives the same number of them."""
        world, size = self.worker.world, self.config.micro_batch
        drawn = self.order.shard(step, self.worker.rank, world)
        share = [(row, 1.0 / self.config.batch) for row in drawn]
        # A batch that does not divide evenly is filled up with weightless copies: DDP needs equal counts.
        share += [(drawn[0] if drawn else self.order.step(step)[0], 0.0)] * (
            -(-self.config.batch // world) - len(drawn)
        )
        for first in range(0, len(share), size):
            rows = share[first : first + size]
            yield self._collate(rows, step, last=first + size >= len(share))

    def _collate(self, rows: list[tuple[Draw, float]], step: int, last: bool) -> SegBatch:
        samples = [self._sample(row) for row, _ in rows]
        cases = [self.cases[row.row] for row, _ in rows]
        device = self.worker.device
        plan = None
        if self.encoder is not None:
            texts = [
                encoder_text(sample.plan, case.plan_text, self.config.text_form)
                for sample, case in zip(samples, cases, strict=True)
            ]
            keys = [(self.config.seed, row.epoch, self.cases[row.row].case_id, "noise") for row, _ in rows]
            plan = self.encoder.tokenize(texts, keys if self.noise else None)
            plan.ids = plan.ids.to(device)
        learn = step % self.config.prompt_every == 0
        maps = stack(samples, device)
        if step < self.config.edit_after * self.config.steps:
            maps.pop("contested", None)
        return SegBatch(
            **maps,
            plan=plan,
            weight=torch.tensor([weight for _, weight in rows], device=device),
            learn_prompts=learn,
            probe=learn and (step // self.config.prompt_every) % PROBE_EVERY == 0,
            last=last,
            case_ids=tuple(case.case_id for case in cases),
        )

    def _sample(self, row: Draw) -> Sample:
        case = self.cases[row.row]
        key = (self.config.seed, row.epoch, case.case_id)
        return draw(self.pipeline, self.prepared_case(row.row), case.plan, key)

    def prepared_case(self, row: int) -> Prepared:
        """A case on the model's grid, from memory or read (see `prepare`)."""
        prepared = self.prepared.pop(row, None)
        if prepared is None:
            prepared = prepare(self.cases[row], self.config)
            self.room -= prepared.nbytes
        self.prepared[row] = prepared  # now the latest
        while self.room < 0 and len(self.prepared) > 1:
            self.room += self.prepared.popitem(last=False)[1].nbytes
        return prepared


def stack(samples: list[Sample], device: torch.device) -> dict[str, torch.Tensor]:
    """Image (with organs where the samples have them), target, origin and what is contested of a micro-batch."""
    images = [
        sample.image[None] if sample.organs is None else np.stack([sample.image, sample.organs.astype(np.float32)])
        for sample in samples
    ]
    found = {
        "image": torch.from_numpy(np.stack(images)).to(device),
        "target": torch.stack([torch.from_numpy(sample.target)[None] for sample in samples]).float().to(device),
        "origin": torch.stack([torch.from_numpy(sample.origin) for sample in samples]).float().to(device),
    }
    if any(sample.contested is not None for sample in samples):
        contested = [np.zeros_like(x.target) if x.contested is None else x.contested for x in samples]
        found["contested"] = torch.from_numpy(np.stack(contested))[:, None].to(device)
    return found


def train_segmentation(config: SegConfig, dataset: Path, out: Path, worker: Worker) -> None:
    """Train on the training split and write the artefact `out` (rank 0).

    Args:
        config: everything that decides the result.
        dataset: a dataset's folder.
        out: the artefact's folder, replaced when it exists.
        worker: this process; with `resume` training goes on from that checkpoint.

    Raises:
        DataError: no training cases, or a volume or plan that cannot be used.
        CheckpointError: the checkpoint is of another run or damaged.
    """
    started = time.perf_counter()
    keep_memory(worker.device)
    whole = open_dataset(dataset, check_volumes=worker.rank == 0)
    if not whole.select(Split.TRAIN):
        raise DataError(f"{dataset}: no case of the training split")
    data = restricted(whole, config.centres, config.seed)
    cases = data.select(Split.TRAIN)
    start = start_folder(config.init, worker.init)
    if start is None and not config.measure:
        raise ConfigError("measure: false needs a start (--init), whose threshold, reach and calibration are kept")
    if config.plan_edits and not any(
        regions_path(case, guideline).is_file() for case in cases for guideline in Guideline
    ):
        raise DataError(
            f"{dataset}: segmentation.plan_edits is {config.plan_edits}, but no training case has its parts contoured "
            f"({FOLDER}/); 'rollama cohort regions' draws them for a synthetic cohort, docs/data.md says how else"
        )
    network, info = build_network(config, worker.device)
    if start is not None:
        load_start(network, start, info)
    engine = DdpEngine(network, config, worker.rank, worker.world, worker.device)
    method: Method = build_method(config)
    if config.prox_mu:  # before a checkpoint is loaded: the distance is from the first weights
        method = Proximal(method, config.prox_mu, engine.parameters, lambda batch: batch.weight.sum())
    key = run_hash(config, TASK, data.info.content_hash)
    first = 0
    if worker.resume is not None:
        state, first = load_checkpoint(worker.resume, key)
        engine.load_state(state)
    cases_to_validate = validation_cases(data, config.validation.cases)
    validation = Validation(engine, config.validation, cases_to_validate, config.steps, worker.device)
    callbacks: list[Any] = []
    if worker.rank == 0:
        callbacks.append(MetricsLog(worker.metrics_path, worker.attempt))
    callbacks.append(
        Checkpointer(engine, worker.scratch, key, config.scale.checkpoint_every, config.steps, worker.report)
    )
    source = TrainingData(config, cases, network, worker)
    rate = partial(one_cycle, steps=config.steps, peak=config.lr, warmup=config.warmup, part=config.part)
    callbacks = [validation, *callbacks, *worker.callbacks]
    with Ahead(source.batches, config.steps) as batches:
        done = run(engine, method, batches, rate, config.steps, first, callbacks, lambda: validation.stopped)
    kept = validation.restore_best()
    if worker.rank == 0:
        if start is None or config.measure:
            found = finish(network, cases, cases_to_validate, worker.device)
        else:
            found = measured(start)
        found["metrics"] |= {"trained_steps": done, **({} if kept is None else {"kept_step": kept})}
        save_model(
            out, network, info, key, keep=config.measure,
            data_hash=data.info.content_hash, synthetic=data.info.synthetic, label=data.info.label,
            cases=case_counts(cases), profile=profile_of(cases, TASK).as_dict(), parent=config.init or None,
            steps=config.steps, seconds=round(time.perf_counter() - started, 1), **found,
        )  # fmt: skip
