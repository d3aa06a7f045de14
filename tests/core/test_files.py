import errno
import os

import pytest

from rollama.core.errors import DataError
from rollama.core.files import hash_file, new_file, new_folder, read_json, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_inside_a_new_folder_names_the_folder_that_was_asked_for(tmp_path):
    class SafetensorError(Exception):
        """As safetensors says it."""

    for raised in (SafetensorError("No space left on device"), OSError(28, "No space left on device")):
        with pytest.raises(DataError, match=r"out: cannot be written .*No space left"), new_folder(tmp_path / "out"):
            raise raised
    with pytest.raises(DataError) as told, new_folder(tmp_path / "out") as temporary:
        raise DataError(f"{temporary}/target.nii.gz: cannot be written")
    assert str(told.value) == f"{tmp_path}/out/target.nii.gz: cannot be written"
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_only_when_the_block_ends_well(tmp_path):
    target = tmp_path / "sub" / "mask.nii.gz"
    with new_file(target) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("x")
        assert not target.exists()
    assert target.read_text() == "x"
    assert names(target.parent) == ["mask.nii.gz"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_names_the_file(tmp_path):
    message = r"a\.txt: cannot be written \(No space left on device\); free space"
    with pytest.raises(DataError, match=message), new_file(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with new_folder(target) as temporary:
        (temporary / "one").write_text("1")
    with pytest.raises(ValueError, match="broken"), new_folder(target) as temporary:
        (temporary / "two").write_text("2")
        raise ValueError("broken")
    assert names(target) == ["one"]
    with new_folder(target) as temporary:
        (temporary / "three").write_text("3")
    assert names(target) == ["three"]
    assert names(tmp_path) == ["model"]


def test_json_round_trip_and_damage(tmp_path):
    write_json(tmp_path / "x.json", {"a": "é"})
    assert read_json(tmp_path / "x.json") == {"a": "é"}
    (tmp_path / "bad.json").write_text('{"note": "secret"')
    with pytest.raises(DataError, match=r"bad\.json: not valid JSON") as caught:
        read_json(tmp_path / "bad.json")
    assert "secret" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write here"):
        write_text(tmp_path / "file" / "x.txt", "x")


def test_hash_is_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert hash_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
