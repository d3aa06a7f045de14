import json

import pytest
import torch

from rollama.core.errors import CheckpointError, ConfigError
from rollama.data.store import Kind, push
from rollama.language.architectures import KNOWN, meta_base
from rollama.language.base import base_folder, base_info, load_base, seg_token_id


def test_tiny_is_deterministic_and_complete():
    first, tokenizer, info = load_base("tiny")
    second, _, again = load_base("tiny")
    assert info == again
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    text = "Side: left. Volumes: whole breast.\nµ é"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.padding_side == "left"
    assert seg_token_id(tokenizer) == 3


def test_loading_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    load_base("tiny")
    assert torch.equal(state, torch.random.get_rng_state())


def test_hashes_follow_the_weights(tmp_path):
    model, tokenizer, _ = load_base("tiny")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    same = base_info(str(tmp_path))
    assert base_info(str(tmp_path)) == same
    with torch.no_grad():
        model.model.norm.weight.add_(1)
    model.save_pretrained(tmp_path)
    assert base_info(str(tmp_path)).weights_hash != same.weights_hash


def test_who_wrote_the_configuration_is_no_part_of_what_a_base_is(tmp_path):
    model, tokenizer, _ = load_base("tiny")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    before = base_info(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "transformers_version": "5.99.0"}))
    after = base_info(str(tmp_path))
    assert after.weights_hash == before.weights_hash and after.other(before.as_dict()) is None
    formerly = {**before.as_dict(), "weights_hash": before.former_hash}
    assert before.other(formerly) is None
    assert after.other(formerly) == "weights_hash"
    (tmp_path / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert base_info(str(tmp_path)).other(before.as_dict()) == "weights_hash"
    assert before.other({**before.as_dict(), "tokenizer_hash": "0"}) == "tokenizer_hash"
    assert before.other({}) == "weights_hash"


def test_unknown_bases_are_refused_without_network():
    with pytest.raises(ConfigError, match="neither one of smollm2, tiny"):
        base_folder("nobody/nothing")


def test_folders_that_hold_no_usable_model(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        base_folder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match="model_type is 'gpt2'; accepted: 'llama'"):
        load_base(str(tmp_path))
    with pytest.raises(ConfigError, match=r"holds no \*\.safetensors"):
        base_info(str(tmp_path))


def test_a_base_by_reference_is_the_base_that_was_pushed(tmp_path, monkeypatch):
    model, tokenizer, _ = load_base("tiny")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "pytorch_model.bin").write_bytes(b"a pickle that nobody loads")
    reference = str(push(tmp_path / "base", Kind.BASE, str(tmp_path / "store")))
    monkeypatch.setenv("ROLLAMA_CACHE", str(tmp_path / "cache"))
    loaded, _, info = load_base(reference)
    here = base_info(str(tmp_path / "base"))
    assert (info.weights_hash, info.tokenizer_hash) == (here.weights_hash, here.tokenizer_hash)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    assert not list(base_folder(reference).glob("*.bin"))


def test_a_folder_that_is_no_base_is_not_pushed(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"no \*\.safetensors, tokenizer\*"):
        push(tmp_path, Kind.BASE, str(tmp_path / "store"))


def test_llama_2_7b_on_the_meta_device_has_its_parameters():
    model = meta_base("meta-llama/Llama-2-7b-chat-hf")
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_738_415_616
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert set(KNOWN) >= {"meta-llama/Llama-2-7b-chat-hf"}
