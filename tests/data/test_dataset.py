import json

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.core.files import read_json, write_json
from rollama.data.case import Split
from rollama.data.dataset import content_hash, open_dataset, write_centre

PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: 3D-CRT."
)


def save(path, array, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    for centre, splits in {"north": (Split.TRAIN, Split.TEST), "south": (Split.EXTERNAL,)}.items():
        items = []
        for number, split in enumerate(splits):
            name = f"{centre}-{number}"
            save(folder / centre / "images" / f"{name}.nii.gz", np.zeros((4, 5, 6), np.int16), affine)
            save(folder / centre / "labels" / f"{name}.nii.gz", np.ones((4, 5, 6), np.uint8), affine)
            items.append((split, {"case_id": name, "note": "secret note", "summary": "short", "plan_text": PLAN}))
        write_centre(folder / centre, items)
    info = {
        "name": "toy",
        "version": "1",
        "synthetic": True,
        "label": "CTV",
        "notice": "synthetic",
        "centres": ["north", "south"],
        "external_centres": ["south"],
        "content_hash": content_hash(folder, ["north", "south"]),
    }
    write_json(folder / "dataset.json", info)
    return folder


def test_opens_and_selects(root):
    dataset = open_dataset(root)
    assert [case.case_id for case in dataset.cases] == ["north-0", "north-1", "south-0"]
    assert dataset.cases[0].spacing == (2.0, 2.0, 3.0)
    assert dataset.cases[0].plan.side == "left"
    assert [case.case_id for case in dataset.select(Split.EXTERNAL)] == ["south-0"]
    assert dataset.select(Split.TRAIN, centre="south") == ()
    with pytest.raises(DataError, match="unknown centre 'east'; it has north, south"):
        dataset.select(centre="east")


def test_a_case_never_shows_its_text(root):
    assert "secret" not in repr(open_dataset(root).cases[0])


def test_free_text_plans_are_kept_and_flagged(root):
    path = root / "north" / "text.jsonl"
    path.write_text(path.read_text().replace("Side: left.", "Please treat the left side."))
    case = open_dataset(root).cases[0]
    assert case.plan is None
    assert case.plan_text.startswith("Please treat")


def test_every_broken_case_is_named_at_once(root):
    (root / "north" / "images" / "north-0.nii.gz").unlink()
    save(root / "north" / "labels" / "north-1.nii.gz", np.ones((4, 5, 6), np.uint8), np.eye(4))
    save(root / "south" / "labels" / "south-0.nii.gz", np.full((4, 5, 6), 7, np.uint8), np.diag([2.0, 2.0, 3.0, 1.0]))
    with pytest.raises(DataError, match="3 problem") as caught:
        open_dataset(root)
    message = str(caught.value)
    assert "north-0.nii.gz is missing" in message
    assert "affine differs from the CT's" in message
    assert "label values must be 0 and 1" in message


def test_other_shapes_and_damaged_files_are_named(root):
    save(root / "north" / "labels" / "north-0.nii.gz", np.ones((4, 5, 5), np.uint8), np.diag([2.0, 2.0, 3.0, 1.0]))
    (root / "south" / "images" / "south-0.nii.gz").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        open_dataset(root)
    assert "shape (4, 5, 5) differs from the CT's (4, 5, 6)" in str(caught.value)
    assert "south-0.nii.gz or its label is not a readable NIfTI file" in str(caught.value)


def test_a_ct_of_no_numbers_is_named(root):
    save(root / "north" / "images" / "north-0.nii.gz", np.full((4, 5, 6), np.nan, np.float32), np.diag([2, 2, 3, 1.0]))
    with pytest.raises(DataError, match=r"north/north-0: .*no numbers"):
        open_dataset(root)


@pytest.mark.parametrize("content", [[], {"training": "x"}, {"training": ["north-0"]}])
def test_a_datalist_of_another_form_is_named(root, content):
    write_json(root / "north" / "dataset.json", content)
    with pytest.raises(DataError, match=r"north/dataset\.json: expected .* each a list of objects"):
        open_dataset(root)


def test_unknown_and_missing_centres_are_named(root):
    (root / "south").rename(root / "east")
    with pytest.raises(DataError) as caught:
        open_dataset(root)
    assert "east: unknown centre" in str(caught.value)
    assert "south: centre folder missing" in str(caught.value)


def test_text_and_datalist_must_agree(root):
    datalist = read_json(root / "north" / "dataset.json")
    datalist["training"] = []
    write_json(root / "north" / "dataset.json", datalist)
    with pytest.raises(DataError, match="case north-0 is in no split"):
        open_dataset(root)


def test_an_empty_plan_is_refused_without_repeating_texts(root):
    path = root / "north" / "text.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[0]["plan_text"] = ""
    path.write_text("\n".join(json.dumps(record) for record in records))
    with pytest.raises(DataError, match=r"north/north-0: field\(s\) plan_text missing") as caught:
        open_dataset(root)
    assert "short" not in str(caught.value)


def test_bad_roots(tmp_path, root):
    with pytest.raises(DataError, match="no such dataset folder; make one with 'rollama cohort make"):
        open_dataset(tmp_path / "none")
    info = read_json(root / "dataset.json")
    write_json(root / "dataset.json", {**info, "labels": "CTV"})
    with pytest.raises(DataError, match="unknown key 'labels'; did you mean 'label'"):
        open_dataset(root)
    (root / "north" / "text.jsonl").write_text("not json")
    write_json(root / "dataset.json", info)
    with pytest.raises(DataError, match="line 1 is not a JSON object"):
        open_dataset(root)


def test_content_hash_sees_every_byte(root):
    before = content_hash(root, ["north", "south"])
    path = root / "north" / "text.jsonl"
    path.write_text(path.read_text().replace("short", "shorT"))
    assert content_hash(root, ["north", "south"]) != before
