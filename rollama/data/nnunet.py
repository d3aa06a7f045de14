"""A data set in the layout of nnU-Net v2, the baseline that every segmentation method is measured against.

nnU-Net sees the CT and nothing else: the plan is text, and two patients of one anatomy may have two targets. That is
said in `dataset.json`, so that a comparison states what it compares. Layout as in nnU-Net's
`documentation/dataset_format.md`; region-based labels as in its `documentation/region_based_training.md`::

    <out>/Dataset501_Name/dataset.json        channels, labels, number of training cases
    <out>/Dataset501_Name/splits_final.json   our training and validation cases, as nnU-Net's one fold
    <out>/Dataset501_Name/imagesTr, labelsTr  training and validation
    <out>/Dataset501_Name/imagesTs, labelsTs  all that is held out

nnU-Net looks for `splits_final.json` beside its preprocessed data: copy it to `nnUNet_preprocessed/Dataset501_Name`
after preprocessing, then train fold 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from rollama import RESEARCH_ONLY
from rollama.core.errors import DataError
from rollama.core.files import write_json
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset
from rollama.data.export import Exported, Progress, copy_volume, export_folder, write_about
from rollama.data.parts import Part, parts_path, read_parts
from rollama.data.volumes import read_ct, read_mask

ENDING = ".nii.gz"
NUMBER = 501
"""Dataset number unless told: nnU-Net keeps those below for its own."""
FOLDERS = {split: "Tr" if split in (Split.TRAIN, Split.VALIDATION) else "Ts" for split in Split}
"""Endings of nnU-Net's folders: every split that is held out goes to its test folders."""
TEXT_UNSEEN = (
    "The plan that decides the target is text, which nnU-Net does not see: patients of one anatomy may have "
    "different targets."
)


class Labels(StrEnum):
    """What nnU-Net is to segment."""

    TARGET = "target"
    PARTS = "parts"


def folder_name(name: str, number: int) -> str:
    """nnU-Net's folder name, such as `Dataset501_RollamaCohort`.

    Raises:
        DataError: a number that nnU-Net does not take.
    """
    if not 1 <= number <= 999:
        raise DataError(f"nnU-Net dataset number {number}; accepted: 1 to 999")
    words = re.findall(r"[A-Za-z0-9]+", name)
    return f"Dataset{number:03d}_{''.join(word[0].upper() + word[1:] for word in words) or 'Rollama'}"


def label_table(labels: Labels) -> dict[str, Any]:
    """The entries of `dataset.json` that name the labels.

    Parts are regions, because the boost lies inside the breast: the breast is values 1 and 9. nnU-Net wants all values
    from 0 on to be named, so every part is listed, and it paints regions in `regions_class_order`: the boost, painted
    last, stays visible on the breast.
    """
    if labels is Labels.TARGET:
        return {"labels": {"background": 0, "target": 1}}
    regions: dict[str, int | list[int]] = {part.estro: part.value for part in Part}
    regions[Part.BREAST.estro] = [Part.BREAST.value, Part.BOOST.value]
    return {"labels": {"background": 0, **regions}, "regions_class_order": [part.value for part in Part]}


def export_nnunet(
    dataset: Dataset,
    cases: Sequence[Case],
    out: Path,
    labels: Labels = Labels.TARGET,
    number: int = NUMBER,
    progress: Progress | None = None,
) -> Exported:
    """Copy cases into nnU-Net's layout. Notes and plans are not exported.

    Args:
        dataset: an opened data set.
        cases: some of its cases.
        out: new, or empty; the dataset's folder is made in it.
        labels: the target, or its parts.
        number: nnU-Net's dataset number, 1 to 999.
        progress: called after each case.

    Returns:
        `folder` is the `DatasetXXX_Name` folder.

    Raises:
        DataError: parts are asked for and a case has none or damaged ones, `out` is taken or cannot be written, or the
            disk is full.
    """
    name = folder_name(dataset.info.name, number)
    training = [case for case in cases if FOLDERS[case.split] == "Tr"]
    fold = {
        "train": [case.case_id for case in training if case.split is Split.TRAIN],
        "val": [case.case_id for case in training if case.split is Split.VALIDATION],
    }
    remarks = [] if all(fold.values()) else ["no splits_final.json: it needs training and validation cases"]
    with export_folder(out) as outer:
        folder = outer / name
        for kind in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
            (folder / kind).mkdir(parents=True)
        for done, case in enumerate(cases, 1):
            where = FOLDERS[case.split]
            copy_volume(case.image, folder / f"images{where}" / f"{case.case_id}_0000{ENDING}")
            copy_volume(_label(case, labels), folder / f"labels{where}" / f"{case.case_id}{ENDING}")
            if progress is not None:
                progress(done)
        kind = "SYNTHETIC DATA. " if dataset.info.synthetic else ""
        description = {
            "name": name,
            "description": f"{kind}{RESEARCH_ONLY}. {TEXT_UNSEEN}",
            "channel_names": {"0": "CT"},
            **label_table(labels),
            "numTraining": len(training),
            "file_ending": ENDING,
            "source": f"{dataset.info.name} {dataset.info.version}, content hash {dataset.info.content_hash}",
        }
        write_json(folder / "dataset.json", description)
        if not remarks:
            write_json(folder / "splits_final.json", [fold])
        text = f"{name}: nnU-Net v2 layout. {TEXT_UNSEEN}\nCopy splits_final.json to nnUNet_preprocessed/{name}."
        write_about(folder, dataset, cases, text, remarks)
    return Exported(out / name, len(cases), tuple(remarks))


def _label(case: Case, labels: Labels) -> Path:
    """The file with a case's labels, checked where the data set's own check does not reach."""
    if labels is Labels.TARGET:
        return case.target
    path = parts_path(case)
    if not path.is_file():
        raise DataError(
            f"case {case.case_id}: {path} is missing; without parts only the labels 'target' can be exported"
        )
    ct = read_ct(case.image)
    parts = read_parts(case, ct)  # refuses another grid and values that are no parts
    if not parts and read_mask(case.target, ct).any():
        raise DataError(f"case {case.case_id}: {path} has no part, the target has voxels; export the labels 'target'")
    return path
