"""What a user may hand in, and what is refused."""

from __future__ import annotations

import traceback
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

from rollama.chain.inputs import LABEL, PlanSource, hash_ct, make_request, read_input_ct, read_request
from rollama.core.errors import DataError
from rollama.data.plan import Plan, render_plan
from rollama.data.volumes import Volume


def put(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_each_kind_of_text(tmp_path: Path, plan: Plan) -> None:
    note = read_request(note=put(tmp_path / "n.txt", b"\xef\xbb\xbfPatient, 61 y.\n"))
    assert (note.source, note.text, note.plan) == (PlanSource.NOTE, "Patient, 61 y.", None)
    assert read_request(summary=put(tmp_path / "s.txt", f"{LABEL}\nLeft, pT1.")).text == "Left, pT1."
    form = read_request(plan=put(tmp_path / "p.txt", f"{LABEL}\n{render_plan(plan)}\n"))
    fields = read_request(plan=put(tmp_path / "p.yaml", f"{LABEL}\n{yaml.safe_dump(plan.model_dump(mode='json'))}"))
    assert form == fields
    assert form.plan == plan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "note.txt: is empty"),
        (" \n\t", "note.txt: is empty"),
        (b"Patient J\xf6rg CANARY", r"note.txt: not UTF-8 text \(byte 9\)"),
        (b"\xff\xfeP\x00", "not UTF-8"),
        ("CANARY \x00", "NUL"),
        ("CANARY" * 200_000, "longer than 1048576 bytes"),
    ],
)
def test_bad_notes_are_refused_without_their_text(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_request(note=put(tmp_path / "note.txt", content))
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))


def test_exactly_one_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found 0"):
        read_request()
    with pytest.raises(DataError, match="found 2"):
        make_request(note="a", summary="b")
    with pytest.raises(DataError, match=r"absent.txt: cannot read it"):
        read_request(note=tmp_path / "absent.txt")


def test_a_given_plan_must_parse(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(DataError, match=r"plan.txt: no 'Surgery:' sentence"):
        read_request(plan=put(tmp_path / "plan.txt", "Side: left."))
    values = plan.model_dump(mode="json")
    with pytest.raises(DataError, match=r"plan.yaml: unknown key 'sied'; did you mean 'side'"):
        read_request(plan=put(tmp_path / "plan.yaml", yaml.safe_dump({**values, "sied": "left"})))
    with pytest.raises(DataError, match="not valid YAML"):
        read_request(plan=put(tmp_path / "plan.yaml", "side: [left"))
    with pytest.raises(DataError, match="needs a prescription"):
        read_request(plan=put(tmp_path / "plan.yaml", yaml.safe_dump({**values, "dose": None})))


def test_request_does_not_show_its_text() -> None:
    assert "CANARY" not in repr(make_request(note="CANARY"))


def test_ct_file_and_folder(tmp_path: Path, ct: Volume) -> None:
    path = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(ct.array, ct.affine), path)
    assert np.array_equal(read_input_ct(path).array, ct.array)
    (tmp_path / "series").mkdir()
    with pytest.raises(DataError, match="expected the slices of one CT series"):
        read_input_ct(tmp_path / "series")


def test_ct_hash_ignores_file_names(tmp_path: Path) -> None:
    for folder, names in (("a", ("DOE1", "DOE2")), ("b", ("2", "1"))):
        (tmp_path / folder).mkdir()
        for name, content in zip(names, (b"one", b"two"), strict=True):
            put(tmp_path / folder / name, content)
    assert hash_ct(tmp_path / "a") == hash_ct(tmp_path / "b")
    put(tmp_path / "b" / "1", b"other")
    assert hash_ct(tmp_path / "a") != hash_ct(tmp_path / "b")
