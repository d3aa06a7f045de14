"""The nnU-Net layout, held against the rules that nnU-Net's own integrity check applies."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.core.files import read_json
from rollama.data.case import Split
from rollama.data.export import copy_volume
from rollama.data.nnunet import FOLDERS, Labels, export_nnunet, folder_name
from rollama.data.parts import Part
from tests.dicom.data import make_dataset, target_array


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def regions_of(labels: dict[str, int | list[int]]) -> list[set[int]]:
    """As nnU-Net's LabelManager reads them: every entry but the background, in order."""
    return [set(value) if isinstance(value, list) else {value} for value in labels.values() if value != 0]


def test_layout_and_description(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    done: list[int] = []
    made = export_nnunet(dataset, dataset.cases, tmp_path / "raw", progress=done.append)
    folder = tmp_path / "raw" / "Dataset501_ToyCohort"
    assert (made.folder, made.cases, done) == (folder, 4, [1, 2, 3, 4])
    training, held_out = ["north-train-0", "north-validation-1"], ["north-test-2", "south-external-0"]
    assert names(folder / "imagesTr") == [f"{name}_0000.nii.gz" for name in training]
    assert names(folder / "labelsTr") == [f"{name}.nii.gz" for name in training]
    assert names(folder / "imagesTs") == [f"{name}_0000.nii.gz" for name in held_out]
    assert names(folder / "labelsTs") == [f"{name}.nii.gz" for name in held_out]
    info = read_json(folder / "dataset.json")
    assert info["channel_names"] == {"0": "CT"} and info["file_ending"] == ".nii.gz" and info["numTraining"] == 2
    assert info["labels"] == {"background": 0, "target": 1}
    assert "SYNTHETIC" in info["description"] and "RESEARCH USE ONLY" in info["description"]
    assert "nnU-Net does not see" in info["description"]
    assert read_json(folder / "splits_final.json") == [{"train": ["north-train-0"], "val": ["north-validation-1"]}]
    for case in dataset.cases:
        kind = "Tr" if case.case_id in training else "Ts"
        image = folder / f"images{kind}" / f"{case.case_id}_0000.nii.gz"
        assert image.read_bytes() == case.image.read_bytes() and not image.is_symlink()
        label = nibabel.load(folder / f"labels{kind}" / f"{case.case_id}.nii.gz")
        assert np.array_equal(label.affine, nibabel.load(image).affine)
        assert set(np.unique(label.dataobj)) <= {0, 1}


def test_only_training_and_validation_cases_are_trained_on() -> None:
    assert {split for split in Split if FOLDERS[split] == "Tr"} == {Split.TRAIN, Split.VALIDATION}
    assert set(FOLDERS) == set(Split)


def test_parts_are_regions_that_paint_the_labels_back(tmp_path: Path) -> None:
    """nnU-Net predicts one mask a region and paints them in regions_class_order; that must give our label map."""
    dataset = make_dataset(tmp_path / "data")
    made = export_nnunet(dataset, dataset.cases, tmp_path / "raw", Labels.PARTS, number=7)
    assert made.folder.name == "Dataset007_ToyCohort"
    info = read_json(made.folder / "dataset.json")
    assert info["labels"]["background"] == 0
    assert info["labels"]["CTVp_breast"] == [1, 9] and info["labels"]["CTVsb"] == 9
    regions, order = regions_of(info["labels"]), info["regions_class_order"]
    assert len(regions) == len(order) == len(Part)
    assert sorted(set.union(*regions)) == list(range(1, 10))  # no gap: its integrity check wants 0, 1, 2, ...
    labels = np.asarray(nibabel.load(made.folder / "labelsTr" / "north-train-0.nii.gz").dataobj)
    assert np.array_equal(labels, target_array())
    painted = np.zeros_like(labels)
    for region, value in zip(regions, order, strict=True):
        painted[np.isin(labels, list(region))] = value
    assert np.array_equal(painted, labels)


def test_a_case_without_parts_is_named(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    (tmp_path / "data" / "south" / "parts" / "south-external-0.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case south-external-0: .*missing; without parts only the labels 'target'"):
        export_nnunet(dataset, dataset.cases, tmp_path / "raw", Labels.PARTS)
    assert not (tmp_path / "raw").exists()


def test_one_sided_splits_are_left_to_nnunet(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    made = export_nnunet(dataset, [case for case in dataset.cases if case.split != "validation"], tmp_path / "raw")
    assert "no splits_final.json" in made.remarks[0]
    assert not (made.folder / "splits_final.json").exists()
    assert read_json(made.folder / "dataset.json")["numTraining"] == 1


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "mine").write_text("x")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        export_nnunet(dataset, dataset.cases, tmp_path / "raw")
    assert names(tmp_path / "raw") == ["mine"]


def test_names_and_numbers() -> None:
    assert folder_name("breast-synth v2", 42) == "Dataset042_BreastSynthV2"
    assert folder_name("--", 501) == "Dataset501_Rollama"
    with pytest.raises(DataError, match="number 1000; accepted: 1 to 999"):
        folder_name("x", 1000)


def test_plain_nifti_is_compressed_and_others_are_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(27, dtype=np.int16).reshape(3, 3, 3), np.eye(4))
    nibabel.save(image, tmp_path / "ct.nii")
    for name in ("a.nii.gz", "b.nii.gz"):
        copy_volume(tmp_path / "ct.nii", tmp_path / name)
    assert np.array_equal(nibabel.load(tmp_path / "a.nii.gz").dataobj, image.dataobj)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    with pytest.raises(DataError, match=r"ct\.nrrd: expected a NIfTI file"):
        copy_volume(tmp_path / "ct.nrrd", tmp_path / "c.nii.gz")
