"""A toy dataset: the same box of tissue for everyone; the plan's side alone says which half is the target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from rollama.core.config import build
from rollama.core.files import write_json
from rollama.core.seeding import numpy_generator
from rollama.data.case import Split
from rollama.data.dataset import content_hash, write_centre
from rollama.data.plan import Dose, Plan, Side, Surgery, Technique, Volume, render_plan
from rollama.segmentation.config import SegConfig
from rollama.training.checkpoint import Report
from rollama.training.worker import Worker

GRID = (16, 16, 8)


def make_plan(side: Side) -> Plan:
    return Plan(
        side=side, surgery=Surgery.CONSERVING, volume=Volume.BREAST,
        dose=Dose(gy=40.05, fractions=15), technique=Technique.VMAT,
    )  # fmt: skip


@pytest.fixture
def config() -> SegConfig:
    values = {
        "encoder": "tiny", "encoder_dtype": "float32", "amp": "none", "channels": (8, 16, 16), "strides": (1, 2, 2),
        "alignment_heads": 2, "alignment_depth": 1, "patch": GRID, "spacing": (10.0, 10.0, 10.0), "steps": 4,
        "position_jitter": 1.0, "max_text_tokens": 200, "scale": {"checkpoint_every": 2},
    }  # fmt: skip
    return build(SegConfig, values, "test")


@pytest.fixture(scope="session")
def toy_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    items = []
    for index in range(8):
        side = Side.LEFT if index % 2 else Side.RIGHT
        name = f"toy-{index}"
        hu = numpy_generator(index).normal(30, 20, GRID) * 1.0
        hu[:2] = hu[-2:] = hu[:, :2] = hu[:, -2:] = -1000
        mask = np.zeros(GRID, np.uint8)
        mask[(slice(2, 8) if side is Side.LEFT else slice(8, 14)), 4:12, 2:6] = 1  # RAS: index 0 is the left
        for folder, array in (("images", hu.astype(np.int16)), ("labels", mask)):
            image = nibabel.Nifti1Image(array, affine)
            image.set_qform(affine, code=1)
            image.set_sform(affine, code=1)
            path = root / "toy" / folder / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(image, path)
        record = {"case_id": name, "note": "n", "summary": "s", "plan_text": render_plan(make_plan(side))}
        items.append((Split.TRAIN if index < 6 else Split.VALIDATION, record))
    write_centre(root / "toy", items)
    write_json(
        root / "dataset.json",
        {
            "name": "toy", "version": "1", "synthetic": True, "label": "CTV", "notice": "synthetic",
            "centres": ["toy"], "content_hash": content_hash(root, ["toy"]),
        },
    )  # fmt: skip
    return root


@pytest.fixture
def make_worker(tmp_path: Path) -> Callable[..., Worker]:
    def make(name: str, resume: Path | None = None, report: Report = lambda *_: None, **more: int) -> Worker:
        return Worker(
            rank=more.get("rank", 0), world=more.get("world", 1), device=torch.device("cpu"), resume=resume,
            scratch=tmp_path / name / "scratch", report=report, metrics_path=tmp_path / name / "metrics.jsonl",
        )  # fmt: skip

    return make
