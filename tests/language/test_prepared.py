"""One folder, made once: by whoever comes first, whole, and on every rank."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch.distributed

from rollama.core.errors import CheckpointError, ClusterError
from rollama.language import prepared as module
from rollama.language import tiny
from rollama.language.prepared import PARTS, prepared
from rollama.language.tiny import prepare_tiny


def write_parts(folder: Path) -> None:
    for part in PARTS:
        (folder / part).write_text("{}")


def test_made_once(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        write_parts(folder)

    assert prepared("any", tmp_path / "bases" / "any", make) == tmp_path / "bases" / "any"
    prepared("any", tmp_path / "bases" / "any", make)
    assert len(calls) == 1


def test_an_incomplete_base_gets_no_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json.*was not written"):
        prepared("any", tmp_path / "any", lambda folder: (folder / "rollama.json").write_text("{}") and None)
    assert not (tmp_path / "any").exists()


def second_rank(store: str, cache: str) -> None:
    os.environ["ROLLAMA_CACHE"] = cache
    torch.distributed.init_process_group("gloo", store=torch.distributed.FileStore(store, 1), rank=0, world_size=1)
    # Transformers asks for the rank: what it sees is a node whose first process is not rank 0.
    torch.distributed.get_rank = lambda *_: 1
    try:
        folder = prepare_tiny()
    finally:
        torch.distributed.destroy_process_group()
    assert all((folder / part).is_file() for part in PARTS)


def test_a_later_rank_on_another_node_gets_a_whole_base(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=second_rank, args=(str(tmp_path / "store"), str(tmp_path / "cache"))
    )
    process.start()
    process.join(240)
    assert process.exitcode == 0


def test_a_preparation_that_was_killed_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(module.sys, "executable", "/bin/sh")
    monkeypatch.setattr(module, "_CODE", "kill -9 $$")
    with pytest.raises(ClusterError, match=r"ended by signal 9, most often for running out of memory"):
        prepared("any", tmp_path / "any", lambda folder: None)


def test_a_change_of_its_text_makes_another_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache kept an older tokenizer once, and this machine trained another model than a pod did."""
    before = prepare_tiny()
    monkeypatch.setattr(tiny, "_corpus", lambda: ["another text " * 200])
    after = prepare_tiny()
    assert before != after and (before / "tokenizer.json").read_text() != (after / "tokenizer.json").read_text()
    monkeypatch.undo()
    assert prepare_tiny() == before
