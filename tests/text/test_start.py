"""Training from a trained model's weights, and FedProx's term that keeps it near them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.registry import Task
from rollama.text.checkpoint import load_text_model
from rollama.text.trainer import train_text
from rollama.training.artefact import artefact_hash
from rollama.training.metrics_log import read_metrics
from rollama.training.runs import run_hash
from tests.text.conftest import local_worker, tiny_config


def distance(folder: Path, start: Path) -> float:
    after, before = load_text_model(folder).tensors, load_text_model(start).tensors
    return float(sum((after[name] - before[name]).square().sum() for name in before).sqrt())


def test_it_begins_at_the_parent_and_says_so(dataset: Path, trained: Callable[[Task], Path], tmp_path: Path) -> None:
    start = trained(Task.PLAN)
    config = tiny_config(init=artefact_hash(start), steps=1, lr=1e-6)
    worker = replace(local_worker(tmp_path), init=start)
    train_text(config, Task.PLAN, dataset, tmp_path / "model", worker)
    assert 0 < distance(tmp_path / "model", start) < 1e-3
    manifest = load_text_model(tmp_path / "model").manifest
    assert manifest["parent"] == artefact_hash(start) and manifest["cases"] == {"a": 12}
    assert sum(manifest["profile"]["centres"]["a"]["summary_words"].values()) == 10, "12 cases, rounded to fives"
    assert run_hash(config, "p", "x") != run_hash(config.updated(init=""), "p", "x")


def test_what_does_not_fit_is_refused(dataset: Path, trained: Callable[[Task], Path], tmp_path: Path) -> None:
    start = trained(Task.PLAN)
    good = {"init": artefact_hash(start)}

    def train(task: Task, folder: Path | None, **changes: object) -> None:
        worker = replace(local_worker(tmp_path), init=folder)
        train_text(tiny_config(**changes), task, dataset, tmp_path / "model", worker)

    with pytest.raises(CheckpointError, match="is a model for task p; task s cannot start from it"):
        train(Task.SUMMARY, start, **good)
    with pytest.raises(CheckpointError, match="its adapter is of another form"):
        train(Task.PLAN, start, lora={"r": 4}, **good)
    with pytest.raises(CheckpointError, match="the configuration starts from 000000000000"):
        train(Task.PLAN, start, init="0" * 64)
    with pytest.raises(ConfigError, match="give their artefact with --init"):
        train(Task.PLAN, None, **good)
    with pytest.raises(ConfigError, match="names no weights"):
        train(Task.PLAN, start)
    with pytest.raises(ConfigError, match="prox_mu needs whole parameters"):
        tiny_config(prox_mu=0.1, zero={"stage": 3})


def test_the_proximal_term_holds_back_and_survives_a_resume(
    dataset: Path, trained: Callable[[Task], Path], tmp_path: Path
) -> None:
    start = trained(Task.PLAN)
    lengths = {}
    for mu in (0.0, 100.0):
        config = tiny_config(init=artefact_hash(start), lr=0.01, prox_mu=mu, batch=8, micro_batch=2)
        folder = tmp_path / f"{mu}"
        train_text(config, Task.PLAN, dataset, folder / "model", replace(local_worker(folder), init=start))
        lengths[mu] = distance(folder / "model", start)
    assert lengths[100.0] < 0.7 * lengths[0.0]
    rows = {row["step"]: row for row in read_metrics(tmp_path / "100.0" / "metrics.jsonl")}
    assert rows[1]["proximal"] == 0 and rows[3]["proximal"] > 0
    resumed = replace(
        local_worker(tmp_path / "again", resume=tmp_path / "100.0" / "scratch" / "step-000002"), init=start
    )
    train_text(config, Task.PLAN, dataset, tmp_path / "again" / "model", resumed)
    again = {row["step"]: row["loss"] for row in read_metrics(tmp_path / "again" / "metrics.jsonl")}
    assert again == {step: rows[step]["loss"] for step in (3, 4)}


def test_shares_of_a_step_sum_to_one() -> None:
    from rollama.training.start import Proximal

    class Nothing:
        def forward(self, module: torch.nn.Module, batch: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return torch.zeros(()), {}

    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    method = Proximal(Nothing(), 0.5, {"w": weight}, lambda batch: batch)
    with torch.no_grad():
        weight += torch.tensor([3.0, 4.0])
    terms = [method.forward(torch.nn.Identity(), share)[0] for share in (0.25, 0.75)]
    assert float(sum(terms).detach()) == pytest.approx(0.5 * 0.5 * 25)
    sum(terms).backward()
    assert weight.grad is not None and weight.grad.tolist() == pytest.approx([1.5, 2.0])  # mu (w - w0)
