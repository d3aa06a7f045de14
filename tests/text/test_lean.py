"""The model written out against Transformers and PEFT: same logits, whatever is read together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from rollama.core.errors import CheckpointError
from rollama.core.registry import Task
from rollama.language.base import load_base
from rollama.text.adapters import put_adapter, read_artefacts
from rollama.text.checkpoint import TextArtefact
from rollama.text.lean import Lean
from tests.chain.tiny import make_models

CPU = torch.device("cpu")
IDS = [[5, 17, 300, 41, 8, 8, 120], [9, 4, 77], [250, 251, 3, 19, 60]]
"""Three rows."""

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, TextArtefact]:
    folder = make_models(tmp_path_factory.mktemp("models"))
    return read_artefacts({Task.SUMMARY: folder / "s", Task.PLAN: folder / "p"})


def theirs(artefact: TextArtefact | None, rows: list[list[int]]) -> list[torch.Tensor]:
    """Logits of each row by Transformers and PEFT."""
    causal = load_base("tiny")[0]
    if artefact is not None:
        causal = put_adapter(causal, artefact)
    with torch.inference_mode():
        return [causal(input_ids=torch.tensor([row])).logits[0] for row in rows]


def ours(lean: Lean, rows: list[list[int]], adapters: list[str | None], cuts: tuple[int, ...] = ()) -> list[Any]:
    """The same by `Lean`, all rows together, read in pieces that end at `cuts`."""
    slots = lean.slots()
    for _ in rows:
        slots.add()
    found: list[list[torch.Tensor]] = [[] for _ in rows]
    with torch.inference_mode():
        for start, end in zip((0, *cuts), (*cuts, None), strict=True):
            # A row that has nothing left in a piece says its last token again, and takes it back.
            pieces = [row[start:end] or row[-1:] for row in rows]
            before = list(slots.lengths)
            logits = lean.logits(lean.states(pieces, slots, adapters)).split([len(piece) for piece in pieces])
            for place, row in enumerate(rows):
                if row[start:end]:
                    found[place].append(logits[place])
                else:
                    slots.lengths[place] = before[place]
    assert slots.lengths == [len(row) for row in rows]
    return [torch.cat(parts) for parts in found]


@pytest.mark.parametrize("cuts", [(), (3,), (1, 2, 3, 4, 5, 6), (2, 6)])
def test_rows_of_any_length_in_any_pieces_equal_transformers(cuts: tuple[int, ...]) -> None:
    lean = Lean(load_base("tiny")[0], CPU)
    torch.testing.assert_close(ours(lean, IDS, [None] * 3, cuts), theirs(None, IDS), atol=2e-5, rtol=1e-4)
    alone = [ours(lean, [row], [None], cuts[:1])[0] for row in IDS]
    torch.testing.assert_close(alone, theirs(None, IDS), atol=2e-5, rtol=1e-4)


def test_each_row_has_its_own_adapter(artefacts: dict[Task, TextArtefact]) -> None:
    lean = Lean(load_base("tiny")[0], CPU)
    s, p = artefacts[Task.SUMMARY], artefacts[Task.PLAN]
    lean.put("s", s)
    lean.put("p", p)
    expected = {"s": theirs(s, IDS), "p": theirs(p, IDS), None: theirs(None, IDS)}
    assert not torch.allclose(expected["s"][0], expected["p"][0], atol=1e-2)
    for adapters in (["s"] * 3, ["p"] * 3, ["s", "p", "s"], ["p", None, "s"], [None, "p", None], [None] * 3):
        wanted = [expected[name][row] for row, name in enumerate(adapters)]
        torch.testing.assert_close(ours(lean, IDS, adapters, (2,)), wanted, atol=1e-4, rtol=1e-4)


def test_adapters_come_and_go(artefacts: dict[Task, TextArtefact]) -> None:
    lean = Lean(load_base("tiny")[0], CPU)
    bare = lean.nbytes
    for name, task in (("one", Task.SUMMARY), ("two", Task.PLAN), ("three", Task.SUMMARY)):
        lean.put(name, artefacts[task])
    full = lean.nbytes
    lean.drop("two")
    wanted = theirs(artefacts[Task.SUMMARY], IDS)
    torch.testing.assert_close(ours(lean, IDS, ["three", "one", "three"]), wanted, atol=1e-4, rtol=1e-4)
    assert bare < lean.nbytes < full and lean.adapters == {"one", "three"}
    lean.drop("one")
    lean.drop("three")
    assert lean.nbytes == bare
    with pytest.raises(KeyError):
        ours(lean, IDS, ["one"] * 3)


def test_an_adapter_on_some_layers(artefacts: dict[Task, TextArtefact]) -> None:
    lean = Lean(load_base("tiny")[0], CPU)
    whole = artefacts[Task.SUMMARY]
    config = whole.config.updated(lora={**whole.config.lora.model_dump(), "targets": ["v_proj", "up_proj"]})
    kept = {key: value for key, value in whole.tensors.items() if "v_proj" in key or "up_proj" in key}
    some = replace(whole, config=config, tensors=kept)
    lean.put("other", artefacts[Task.PLAN])
    lean.put("some", some)
    torch.testing.assert_close(ours(lean, IDS, ["some"] * 3), theirs(some, IDS), atol=1e-4, rtol=1e-4)
    wanted = [theirs(some, IDS)[0], theirs(artefacts[Task.PLAN], IDS)[1], theirs(some, IDS)[2]]
    torch.testing.assert_close(ours(lean, IDS, ["some", "other", "some"]), wanted, atol=1e-4, rtol=1e-4)


def test_an_adapter_that_does_not_fit_is_refused_whole(artefacts: dict[Task, TextArtefact]) -> None:
    lean, good = Lean(load_base("tiny")[0], CPU), artefacts[Task.SUMMARY]
    key = next(iter(good.tensors))
    without = {name: value for name, value in good.tensors.items() if name != key}
    for tensors in (
        without,
        {**good.tensors, key: good.tensors[key][:, :3]},
        {**good.tensors, "x.lora_A": torch.ones(1)},
    ):
        with pytest.raises(CheckpointError, match="does not fit the base"):
            lean.put("bad", replace(good, tensors=tensors))
    assert lean.adapters == set()
    assert all(not any(linear.owners.values()) for layer in lean.layers for linear in layer.linears.values())


def test_biases_untied_heads_and_grouped_queries() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=3, head_dim=16, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
        },
    )  # fmt: skip
    torch.manual_seed(0)
    causal = LlamaForCausalLM(config).eval()
    for name, value in causal.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value)
    ids = [[5, 17, 30, 41, 8, 8, 12], [9, 4, 7]]
    with torch.inference_mode():
        wanted = [causal(input_ids=torch.tensor([row])).logits[0] for row in ids]
    torch.testing.assert_close(ours(Lean(causal, CPU), ids, [None] * 2, (2,)), wanted, atol=2e-5, rtol=1e-4)


def test_half_precision_stays_near() -> None:
    lean = Lean(load_base("tiny", torch.bfloat16)[0], CPU)
    found = ours(lean, IDS, [None] * 3)
    assert found[0].dtype is torch.bfloat16
    for one, other in zip(found, theirs(None, IDS), strict=True):
        assert (one.float() - other).abs().max() < 0.05 * other.abs().max()


def test_hidden_columns_are_not_seen() -> None:
    lean = Lean(load_base("tiny")[0], CPU)
    slots = lean.slots()
    slots.add()
    with torch.inference_mode():
        lean.states([IDS[0][:4]], slots, [None])
        hidden = torch.zeros(2, 4, dtype=torch.bool)
        hidden[1, 2] = True
        copies = slots.copies(0, 2)
        open_, cut = lean.states([[7, 8]] * 2, copies, [None] * 2, hidden=hidden).unflatten(0, (2, 2))
        want = lean.states([[7, 8]], slots, [None])
        for pair in slots.buffers:
            for part in pair:
                part[0, :, 2] = 1000  # whatever stands there
        assert not torch.allclose(cut, want, atol=1e-3)
        other = slots.copies(0, 1)
        other.lengths = [4]
        again = lean.states([[7, 8]], other, [None], hidden=hidden[1:])
    torch.testing.assert_close(open_, want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(again, cut, atol=1e-5, rtol=1e-4)
