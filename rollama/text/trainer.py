"""Train S or P: data, module, engine, method and callbacks put together. Launchers call `train_text`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from rollama.core.errors import ConfigError, DataError
from rollama.core.registry import Consistency, Task, TextMethod
from rollama.data.case import Split, TextCase
from rollama.data.corrections import corrects_side
from rollama.data.dataset import open_texts
from rollama.data.profile import profile_of
from rollama.data.sides import mirrored_texts
from rollama.data.tokenization import length_report, tokenize_cases
from rollama.text.batch import TextBatches
from rollama.text.checkpoint import load_start, load_text_model, save_text_model
from rollama.text.config import TextConfig
from rollama.text.engine import DeepSpeedEngine
from rollama.text.method import build_method
from rollama.text.model import build_module, portable_names, trained_parameters
from rollama.text.monitor import Monitor, best_of, check_validation
from rollama.text.sentence import SentenceSpace
from rollama.training.centres import case_counts, restricted, row_weights
from rollama.training.checkpoint import Checkpointer, load_checkpoint
from rollama.training.loop import Callback, Method, run
from rollama.training.metrics_log import MetricsLog, read_metrics
from rollama.training.runs import run_hash
from rollama.training.sampler import BatchOrder
from rollama.training.schedule import one_cycle
from rollama.training.start import Proximal, start_folder
from rollama.training.worker import Worker, keep_memory

log = logging.getLogger(__name__)


def train_text(config: TextConfig, task: Task, dataset: Path, out: Path, worker: Worker) -> None:
    """Train on the dataset's training split; rank 0 writes the artefact folder `out`.

    Every worker runs this function. `worker.world` may differ from the run that wrote `worker.resume`.

    Raises:
        DataError: the dataset is broken, has no training case, or a row is longer than `max_tokens`.
        ConfigError: the base is not here or reads less than `max_tokens`, or `batch` does not fit the workers.
        CheckpointError: the checkpoint belongs to another configuration, or the start to another base or adapter.
        NotFinite: the loss became NaN or infinite.
    """
    keep_memory(worker.device)
    whole = open_texts(dataset)
    if not whole.select(Split.TRAIN):
        raise DataError(f"{dataset}: no case in the training split")
    data = restricted(whole, config.centres, config.seed)
    cases = data.select(Split.TRAIN)
    start = start_folder(config.init, worker.init)
    key = run_hash(config, str(task), data.info.content_hash)
    module, tokenizer, base = build_module(config)
    if start is not None:
        load_start(module, start, task, config, base)
    context = int(module.lm.config.max_position_embeddings)
    if config.max_tokens > context:
        raise ConfigError(f"max_tokens: {config.max_tokens} is more than {config.base} can read ({context} tokens)")
    shown = (*cases, *map(mirrored_texts, cases)) if config.mirrored else cases
    # Every worker tokenises all rows: it is cheap, and every worker then knows each step's count of answer tokens.
    rows = tokenize_cases(tokenizer, task, shown, config.max_tokens, config.template)
    if config.monitor.every:
        check_validation(data, task, config, tokenizer, context)
    lengths = length_report(rows)
    profile = profile_of(cases, str(task)).as_dict()
    if worker.rank == 0:
        log.info("task %s: %s", task, lengths)
    order = BatchOrder(len(rows), config.batch, config.seed, draw_weights(shown, task, config))
    batches = TextBatches(rows, order, config.micro_batch, worker.rank, worker.world, worker.device, config.packing)

    sentences = None
    if config.method is TextMethod.CEFTUNE and config.consistency is Consistency.SBERT:
        vocabulary = int(module.head.weight.shape[0])
        sentences = SentenceSpace.load(config.sentence_encoder, tokenizer, vocabulary, worker.device)
    method: Method = build_method(config, sentences)
    if config.prox_mu:
        parameters = trained_parameters(module)
        method = Proximal(method, config.prox_mu, parameters, lambda batch: len(batch.targets) / batch.global_tokens)

    engine = DeepSpeedEngine(module, config, worker.device)
    first = 0
    if worker.resume is not None:
        state, first = load_checkpoint(worker.resume, key)
        engine.load_state(state)
    callbacks: list[Callback] = []
    if worker.rank == 0:
        callbacks.append(MetricsLog(worker.metrics_path, worker.attempt))
    every = config.scale.checkpoint_every

    def save(folder: Path, tensors: Mapping[str, torch.Tensor], named: bool = False, **more: Any) -> None:
        save_text_model(
            folder,
            tensors if named else portable_names(tensors),
            task,
            config,
            base,
            key,
            data={"name": data.info.name, "content_hash": data.info.content_hash, "synthetic": data.info.synthetic},
            lengths=asdict(lengths),
            cases=case_counts(cases),
            profile=profile,
            parent=config.init or None,
            workers=worker.world,
            **more,
        )

    if config.monitor.every:  # before the checkpoint: a run that goes on behind it has handed over all models before
        callbacks.append(Monitor(engine, save, config.monitor.every, config.steps, worker.scratch, worker.evaluations))
    callbacks.append(Checkpointer(engine, worker.scratch, key, every, config.steps, worker.report))
    callbacks += worker.callbacks
    rate = partial(one_cycle, steps=config.steps, peak=config.lr, warmup=config.warmup, part=config.part)
    run(engine, method, batches.step, rate, config.steps, first, callbacks)

    tensors = engine.parameters()
    if worker.rank == 0:
        last = read_metrics(worker.metrics_path)[-10:]
        names = sorted({name for row in last for name in row} - {"step", "attempt", "lr", "seconds"})
        metrics = {name: mean(float(row[name]) for row in last if name in row) for name in names}
        found = worker.evaluations.collect() if worker.evaluations and config.monitor.every else ()
        evaluated = [{"step": item.step, item.metric: item.value, "cases": item.cases} for item in found]
        more: dict[str, Any] = {"metrics": metrics, **({"evaluations": evaluated} if evaluated else {})}
        if worker.evaluations and found and config.monitor.keep == "best":
            best = best_of(found)
            kept = load_text_model(worker.evaluations.fetch(best.step)).tensors
            save(out, kept, named=True, kept_step=best.step, **more)
        else:
            save(out, tensors, **more)
    engine.close()


def draw_weights(cases: Sequence[TextCase], task: Task, config: TextConfig) -> tuple[float, ...]:
    """How often each case is drawn, relative to each other; empty where all are drawn alike."""
    weights = row_weights(cases, config.centres)
    if task is not Task.SUMMARY or config.corrected_side_weight == 1:
        return weights
    times = [config.corrected_side_weight if corrects_side(case.note) else 1.0 for case in cases]
    if set(times) == {1.0}:
        return weights
    return tuple(a * b for a, b in zip(weights or [1.0] * len(cases), times, strict=True))
