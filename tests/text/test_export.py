from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from rollama.cli.main import _run
from rollama.core.errors import CheckpointError, ConfigError
from rollama.core.files import read_json
from rollama.core.registry import Task
from rollama.language.base import load_base
from rollama.text.export import export_adapter, export_merged
from rollama.text.generate import TextModel

TEXT = "SYNTHETIC. A 60-year-old woman with left breast cancer."


def test_merged_answers_as_base_and_adapter_do(trained: Callable[[Task], Path], tmp_path: Path) -> None:
    folder = trained(Task.PLAN)
    assert export_merged(folder, tmp_path / "merged") < 1e-4
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    record = read_json(tmp_path / "merged" / "rollama.json")
    assert "RESEARCH USE ONLY" in record["notice"] and record["data"]["synthetic"] and record["base"]["weights_hash"]
    ids = tokenizer(record["prompt"].format(text=TEXT), return_tensors="pt")["input_ids"]
    answer = model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    ours = TextModel.load({Task.PLAN: folder}).generate(Task.PLAN, [TEXT])[0].text
    assert tokenizer.decode(answer, skip_special_tokens=True).strip() == ours
    base, _, _ = load_base("tiny")
    assert any(not torch.equal(one, two) for one, two in zip(model.parameters(), base.parameters(), strict=True))


def test_peft_loads_the_adapter(trained: Callable[[Task], Path], tmp_path: Path) -> None:
    folder = trained(Task.PLAN)
    export_adapter(folder, tmp_path / "adapter")
    export_merged(folder, tmp_path / "merged")
    base, tokenizer, _ = load_base("tiny")
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with_adapter = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(input_ids=ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(input_ids=ids).logits
    assert torch.allclose(with_adapter, merged, atol=1e-4)


def test_what_cannot_be_exported_is_refused(trained: Callable[[Task], Path], tmp_path: Path) -> None:
    folder = trained(Task.PLAN)
    with pytest.raises(ConfigError, match="is there already"):
        export_merged(folder, tmp_path)
    other, tokenizer, _ = load_base("tiny")
    other.model.norm.weight.data.mul_(2)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="other base weights"):
        export_merged(folder, tmp_path / "merged", base=str(tmp_path / "other"))
    assert not (tmp_path / "merged").exists()
    assert _run(["export", str(tmp_path), str(tmp_path / "x")]) == 1
