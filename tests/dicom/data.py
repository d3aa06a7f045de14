"""Invented CTs, masks and a small data set for the export tests; nothing here comes from the cohort generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from rollama.core.files import write_json
from rollama.data.case import Split
from rollama.data.dataset import Dataset, content_hash, open_dataset, write_centre
from rollama.data.parts import Part
from rollama.data.volumes import Volume
from rollama.dicom.write import Identity

SHAPE = (24, 20, 12)
SECRET = "CANARY note of a patient"
"""Must never show up in a message."""
TREATED = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L2. Boost: sequential 10 Gy in 5 "
    "fractions. Prescription: 40.05 Gy in 15 fractions. Technique: 3D-CRT."
)
UNTREATED = (
    "Side: right. Surgery: breast-conserving. Volumes: none. Nodes: none. Boost: none. Prescription: none. "
    "Technique: none."
)
IDENTITY = Identity("north-train-0", "0" * 64, synthetic=True)
CASES = {
    "north": (Split.TRAIN, Split.VALIDATION, Split.TEST),
    "south": (Split.EXTERNAL,),
}
NO_TARGET = "north-test-2"


def affine_of(spacing: Sequence[float] = (4.0, 4.0, 5.0)) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-48.5, -40.25, 31.7)
    return affine


def ct_array() -> np.ndarray:
    """HU (x, y, z): air around a body, brighter towards the patient's right, the front and the head."""
    x, y, z = np.indices(SHAPE)
    body = (x >= 3) & (x < 21) & (y >= 2) & (y < 18)
    return np.where(body, x + 2 * y + 3 * z - 40, -1000).astype(np.int16)


def ct_volume(spacing: Sequence[float] = (4.0, 4.0, 5.0)) -> Volume:
    return Volume(ct_array().astype(np.float32), affine_of(spacing), "phantom")


def target_array() -> np.ndarray:
    """Label map (x, y, z) of a breast with a boost in it, and level 2."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:11, 9:17, 2:8] = Part.BREAST
    labels[6:8, 11:13, 3:5] = Part.BOOST
    labels[5:8, 6:9, 8:10] = Part.L2
    return labels


def make_dataset(root: Path, synthetic: bool = True, parts: bool = True) -> Dataset:
    """Four cases of two centres; one has no target."""

    def save(kind: str, centre: str, name: str, array: np.ndarray) -> None:
        path = root / centre / kind / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(array, affine_of()), path)

    for centre, splits in CASES.items():
        items: list[tuple[Split, dict[str, Any]]] = []
        for number, split in enumerate(splits):
            name = f"{centre}-{split}-{number}"
            labels = target_array() if name != NO_TARGET else np.zeros(SHAPE, np.uint8)
            save("images", centre, name, ct_array())
            save("labels", centre, name, (labels > 0).astype(np.uint8))
            if parts:
                save("parts", centre, name, labels)
            plan = TREATED if name != NO_TARGET else UNTREATED
            items.append((split, {"case_id": name, "note": SECRET, "summary": "short", "plan_text": plan}))
        write_centre(root / centre, items)
    info = {
        "name": "toy cohort",
        "version": "1",
        "synthetic": synthetic,
        "label": "CTV",
        "notice": "made by hand",
        "centres": list(CASES),
        "external_centres": ["south"],
        "content_hash": content_hash(root, list(CASES)),
    }
    write_json(root / "dataset.json", info)
    return open_dataset(root)
