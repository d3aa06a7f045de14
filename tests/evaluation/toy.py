"""A small data set and predictions as it has them, to spoil and to score."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.core.files import write_json
from rollama.data.case import Split
from rollama.data.dataset import content_hash, open_dataset
from rollama.evaluation.predictions import read_predictions

AFFINE = np.diag([6.0, 6.0, 6.0, 1.0])
SHAPE = (16, 12, 8)
PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L1, L2. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
NO_PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: none. Nodes: none. Boost: none. Prescription: none. "
    "Technique: none."
)
TARGET = np.zeros(SHAPE, dtype=np.uint8)
TARGET[2:6, 3:8, 2:6] = 1  # low index: patient left (RAS)
EMPTY = np.zeros_like(TARGET)
CASES = {  # id -> centre, split, whether it has a target
    "north-0": ("north", Split.TRAIN, True),
    "north-1": ("north", Split.TEST, True),
    "north-2": ("north", Split.TEST, True),
    "north-3": ("north", Split.TEST, False),
    "south-0": ("south", Split.EXTERNAL, True),
    "west-0": ("west", Split.TEST, True),
}
IDS = [name for name, (_, split, _) in CASES.items() if split is not Split.TRAIN]


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def stamp(root: Path) -> None:
    """Write the root's description with the hash of what lies there now."""
    centres = ["north", "south", "west"]
    write_json(root / "dataset.json", {
        "name": "toy", "version": "1", "synthetic": True, "label": "CTV", "notice": "n", "centres": centres,
        "external_centres": ["south"], "content_hash": content_hash(root, centres),
    })  # fmt: skip


def write_texts(folder: Path, lines: list[Any]) -> None:
    (folder / "text.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def read_texts(folder: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "text.jsonl").read_text().splitlines()]
    return {line["case_id"]: line for line in lines}


def refused(root: Path, folder: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_predictions(open_dataset(root, check_volumes=False), folder, **options)
    return str(caught.value)
