"""`rollama push` and `pull` as a user or a script calls them, and `train` on what was pushed."""

from __future__ import annotations

import pytest

from rollama.cli import store as verbs
from rollama.cli.main import main
from rollama.data.store import Kind

SMALL = [f"cohort.{split}={count}" for split, count in {"train": 1, "validation": 0, "test": 0, "external": 1}.items()]


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(value) for value in arguments])
    return ended.value.code


def test_the_reference_alone_is_on_standard_output(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ROLLAMA_CACHE", str(tmp_path / "cache"))
    overrides = [part for value in SMALL for part in ("--set", value)]
    assert run("cohort", "make", tmp_path / "cohort", "--preset", "tiny", *overrides) == 0
    capsys.readouterr()
    assert run("push", "dataset", tmp_path / "cohort", tmp_path / "store") == 0
    shown = capsys.readouterr()
    reference = shown.out.strip()
    assert shown.out == f"{reference}\n" and reference.startswith(f"{tmp_path}/store@sha256:")
    assert "pushing cohort (MiB)" in shown.err
    assert run("pull", reference, tmp_path / "copy") == 0
    shown = capsys.readouterr()
    assert shown.out == "" and "pulling" in shown.err and reference in shown.err
    assert (tmp_path / "copy" / "dataset.json").read_bytes() == (tmp_path / "cohort" / "dataset.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("push", "dataset", "none", "store"), 1, "none: no such folder"),
        (("push", "model", ".", "store"), 1, "no manifest.json"),
        (("push", "model", ".", "gs://bucket/store"), 2, "not a place for files"),
        (("pull", "store", "out"), 2, "is not a reference; expected"),
        (("pull", "store@sha256:" + "0" * 64, "out"), 1, "the store has no such content"),
        (("train", "s", "--preset", "tiny", "--dataset", "s3://bucket/x"), 2, "neither a folder nor a reference"),
        (("train", "s", "--preset", "tiny", "--dataset", "x@sha256:1"), 2, "is not a reference"),
        (("train", "s", "--preset", "tiny", "--workspace", "ftp://x/y"), 2, "not a place for files"),
    ],
)
def test_bad_input_is_one_message(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == code
    shown = capsys.readouterr()
    assert message in " ".join(shown.err.split()) and shown.out == ""


def test_the_kinds_of_the_command_are_those_of_the_store():
    assert [kind.value for kind in verbs.Kind] == [kind.value for kind in Kind]
