"""Invented cases and a small dataset on disk for the text tests (synthetic, no patient)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rollama.core.config import build
from rollama.core.files import write_json
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.dataset import DatasetInfo, content_hash, write_centre
from rollama.text.config import TextConfig
from rollama.training.worker import Worker

SIDES = ("left", "right")


def record(number: int) -> dict[str, Any]:
    side, node = SIDES[number % 2], number % 3
    note = f"SYNTHETIC. A {40 + number}-year-old woman with {side} breast cancer pN{node}. " + "Walks daily. " * (
        number % 4
    )
    return {
        "case_id": f"a-{number:03d}",
        "note": note,
        "summary": f"{40 + number} y, {side} breast, pN{node}.",
        "plan_text": f"Irradiate the {side} breast" + (" and nodes" if node else "") + ".",
    }


@pytest.fixture(scope="session")
def cases() -> list[Case]:
    return [
        Case(
            centre="a", split=Split.TRAIN, plan=None, image=Path("x"), target=Path("y"), spacing=(1, 1, 1), **record(i)
        )
        for i in range(12)
    ]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("dataset"), [record(number) for number in range(14)])


def make_dataset(root: Path, records: list[dict[str, Any]]) -> Path:
    """A data set whose first twelve cases are for training."""
    import nibabel

    items = [(Split.TRAIN if number < 12 else Split.TEST, item) for number, item in enumerate(records)]
    for kind in ("images", "labels"):
        (root / "a" / kind).mkdir(parents=True)
        for _, item in items:
            image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))  # type: ignore[no-untyped-call]
            nibabel.save(image, root / "a" / kind / f"{item['case_id']}.nii.gz")
    write_centre(root / "a", items)
    info = DatasetInfo(
        name="test",
        version="1",
        synthetic=True,
        label="CTV",
        notice="SYNTHETIC",
        centres=("a",),
        content_hash=content_hash(root, ["a"]),
    )
    write_json(root / "dataset.json", info.model_dump(mode="json"))
    return root


def tiny_config(**changes: Any) -> TextConfig:
    values = {"base": "tiny", "dtype": "float32", "steps": 4, "scale": {"workers": 1, "checkpoint_every": 2}, **changes}
    return build(TextConfig, values, "test")


def local_worker(folder: Path, resume: Path | None = None) -> Worker:
    return Worker(
        rank=0,
        world=1,
        device=torch.device("cpu"),
        resume=resume,
        scratch=folder / "scratch",
        report=lambda step, metrics, checkpoint: None,
        metrics_path=folder / "metrics.jsonl",
    )


@pytest.fixture(scope="session")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], Path]:
    """Train (once a task) a few steps of `tiny` and return the artefact folder."""
    from rollama.text.trainer import train_text

    done: dict[Task, Path] = {}

    def train(task: Task) -> Path:
        if task not in done:
            folder = tmp_path_factory.mktemp(f"trained-{task}")
            train_text(tiny_config(lr=0.02, max_new_tokens=12), task, dataset, folder / "model", local_worker(folder))
            done[task] = folder / "model"
        return done[task]

    return train


DEPENDENCIES = (
    "ignore:.torch.jit.script:DeprecationWarning",  # torch's own MKL-DNN module, imported by DeepSpeed
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning",  # PEFT 0.21 on Transformers 5.23
    "ignore:.*all_gather_into_tensor.*:FutureWarning",  # DeepSpeed 0.19 on torch 2.13
    "ignore:.*reduce_scatter_tensor.*:FutureWarning",
)
"""Warnings of dependencies about each other; ours stay errors."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let dependencies warn about each other in this folder's tests."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            for line in DEPENDENCIES:
                item.add_marker(pytest.mark.filterwarnings(line))
