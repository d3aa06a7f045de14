"""The toy data set of `toy` on disk, and predictions as it has them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollama.data.case import Split
from rollama.data.dataset import open_dataset, write_centre
from tests.evaluation.toy import CASES, EMPTY, NO_PLAN, PLAN, SHAPE, TARGET, save, stamp, write_texts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    ct = np.full(SHAPE, -1000, dtype=np.int16)
    ct[1:15, 1:11] = 20
    records: dict[str, list[tuple[Split, dict[str, Any]]]] = {}
    for name, (centre, split, has_target) in CASES.items():
        save(folder / centre / "images" / f"{name}.nii.gz", ct)
        save(folder / centre / "labels" / f"{name}.nii.gz", TARGET if has_target else EMPTY)
        record = {"case_id": name, "note": f"SECRET note {name}", "summary": f"tumour of {name}, 12 mm, left breast"}
        records.setdefault(centre, []).append((split, record | {"plan_text": PLAN if has_target else NO_PLAN}))
    for centre, items in records.items():
        write_centre(folder / centre, items)
    stamp(folder)
    return folder


@pytest.fixture
def oracle(root: Path, tmp_path: Path) -> Path:
    """Predictions as the data set has them, of the training case too."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    lines = []
    for case in open_dataset(root).cases:
        shutil.copy(case.target, folder)
        lines.append({"case_id": case.case_id, "summary": case.summary, "plan_text": case.plan_text})
    write_texts(folder, lines)
    return folder
