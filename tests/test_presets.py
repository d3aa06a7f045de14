"""Every bundled preset parses, and what it names can be built: on the meta device where weights are not here."""

import json

import pytest
import torch

from rollama.core.errors import ConfigError
from rollama.presets import load_preset, preset_names


def test_the_promised_presets_exist():
    assert {"tiny", "demo", "local", "local-edits", "cluster-7b", "cluster-7b-full", "cluster-seg"} <= set(
        preset_names()
    )


@pytest.mark.parametrize("name", preset_names())
def test_text_models_build_on_the_meta_device(name):
    from rollama.text.model import build_meta, lora_targets_found

    preset = load_preset(name)
    for config in (preset.s, preset.p):
        model = build_meta(config)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert trained
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        if config.lora.enabled:
            layers = model.lm.config.num_hidden_layers
            assert lora_targets_found(model) == dict.fromkeys(config.lora.targets, layers)


def test_cluster_7b_is_llama_2_7b():
    from rollama.text.model import build_meta

    for name, lora in (("cluster-7b", True), ("cluster-7b-full", False)):
        model = build_meta(load_preset(name).s)
        base = sum(p.numel() for key, p in model.named_parameters() if "lora_" not in key)
        assert base == 6_738_415_616
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert trained == (39_976_960 if lora else 6_738_415_616)


@pytest.mark.parametrize("name", preset_names())
def test_deepspeed_accepts_the_configuration(name):
    from deepspeed.runtime.config import DeepSpeedConfig

    from rollama.text.engine import deepspeed_config

    preset = load_preset(name)
    values = json.loads(json.dumps(deepspeed_config(preset.s, gpu=preset.s.scale.gpus_per_worker > 0, trained=10**9)))
    found = DeepSpeedConfig(values)
    assert found.zero_optimization_stage == preset.s.zero.stage
    assert found.bfloat16_config.enabled == (preset.s.dtype == "bfloat16")


@pytest.mark.parametrize("name", preset_names())
def test_segmentation_networks_keep_their_shapes(name):
    """Built and run on the meta device: text through the encoder's architecture, image through all stages."""
    from rollama.language.architectures import meta_base
    from rollama.segmentation.model import SegBatch, SegmentationNet
    from rollama.segmentation.text_encoder import PlanTokens, TextEncoder

    config = load_preset(name).segmentation
    length = config.max_text_tokens
    with torch.device("meta"):
        network = SegmentationNet(config, TextEncoder(config, meta_base(config.encoder), None))
        width = network.text_encoder.width
        noise = torch.zeros(1, length, width)
        plan = PlanTokens(torch.zeros(1, length, dtype=torch.long), torch.full((1,), length), noise)
        image = torch.zeros(1, 1, *config.patch)
        output = network(SegBatch(image, image, torch.zeros(1, 3), plan, torch.ones(1)), clean=True)
    assert output.logits.shape == image.shape
    assert output.text.used.at_seg.shape == (1, config.prompts, width)


def test_a_typo_is_refused_with_a_hint():
    with pytest.raises(
        ConfigError, match=r"unknown key 's\.lerning_rate'|unknown key 's\.stepz'; did you mean 'steps'"
    ):
        load_preset("tiny", ["s.stepz=3"])


def test_a_misspelt_preset_is_refused_with_a_hint():
    with pytest.raises(ConfigError, match="did you mean 'local'"):
        load_preset("lokal")


def test_a_section_that_is_a_value_is_refused():
    with pytest.raises(ConfigError, match="'s' must hold keys and values, found 3"):
        load_preset("tiny", ["s=3"])


def test_overrides_for_both_text_models(tmp_path):
    preset = load_preset("tiny", ["text.steps=9", "p.steps=11"])
    assert (preset.s.steps, preset.p.steps) == (9, 11)
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndescription: own file\ntext: {steps: 5}\n")
    assert load_preset(str(path)).p.steps == 5
