"""The four methods: what each adds, and what R trains."""

from __future__ import annotations

import math

import pytest
import torch

from rollama.core.errors import ConfigError
from rollama.core.registry import SegMethod
from rollama.segmentation.checkpoint import build_network
from rollama.segmentation.config import SegConfig
from rollama.segmentation.loss import CaseLoss, contested_loss, hard_dice, mask_consistency, text_consistency
from rollama.segmentation.method import METHODS, build_method
from tests.segmentation.test_model import make_batch


def test_every_method_of_the_registry_exists() -> None:
    assert set(METHODS) == set(SegMethod)


@pytest.mark.parametrize("name", list(SegMethod))
def test_forward_gives_loss_and_metrics(config: SegConfig, name: SegMethod) -> None:
    config = config.updated(method=name)
    network, _ = build_network(config, torch.device("cpu"))
    batch = make_batch(network)
    if batch.plan is not None and not build_method(config).noise:
        batch.plan.noise = None
    batch.probe = True
    loss, metrics = build_method(config).forward(network, batch)
    assert loss.requires_grad
    assert ("consistency" in metrics) == (name is SegMethod.CESEG)
    assert ("noise_ratio" in metrics) == (name in (SegMethod.NESEG, SegMethod.CESEG))
    total = metrics["dice_ce"] + config.consistency_weight * metrics.get("consistency", 0.0)
    torch.testing.assert_close(loss.detach(), total)


def test_r_trains_the_prompts_and_nothing_else(config: SegConfig) -> None:
    network, _ = build_network(config, torch.device("cpu"))
    text = network.text_encoder(make_batch(network).plan, clean=True)
    value = text_consistency(text.used.at_seg, text.clean.at_seg).mean()
    value.backward()
    assert value.detach() > 0
    assert network.text_encoder.prompts.grad.norm() > 0
    assert not text.clean.at_seg.requires_grad
    others = [name for name, v in network.named_parameters() if v.grad is not None and name != "text_encoder.prompts"]
    assert others == []


@pytest.mark.parametrize("kind", ["feature", "logit"])
def test_r_of_features_and_of_masks_trains_the_network(config: SegConfig, kind: str) -> None:
    network, _ = build_network(config.updated(consistency=kind, noise_scale="C"), torch.device("cpu"))
    batch = make_batch(network)
    batch.learn_prompts = False  # they do not need it
    output = network(batch, clean=True)
    value = build_method(network.config)._distance(output).sum()
    value.backward()
    assert value.detach() > 0 and not output.clean.logits.requires_grad
    reached = {name.split(".")[0] for name, v in network.named_parameters() if v.grad is not None and v.grad.any()}
    assert reached >= {"stages", "alignments"} and ("head" in reached) == (kind == "logit")
    _, metrics = build_method(network.config).forward(network, batch)
    assert metrics["consistency"] > 0


def test_without_noise_every_r_is_zero(config: SegConfig) -> None:
    for kind in ("text", "feature", "logit"):
        network, _ = build_network(config.updated(consistency=kind, noise_alpha=0.0), torch.device("cpu"))
        output = network(make_batch(network), clean=True)
        assert build_method(network.config)._distance(output).abs().max() < 1e-6


def test_distance_of_masks() -> None:
    one, two = torch.full((2, 1, 2, 2, 2), -40.0), torch.full((2, 1, 2, 2, 2), -40.0)
    one[:, :, 0], two[1, :, 1] = 40.0, 40.0
    two[0, :, 0] = 40.0
    assert mask_consistency(one, two).tolist() == pytest.approx([0.0, 1.0])


def test_a_step_without_prompt_learning_leaves_them_alone(config: SegConfig) -> None:
    network, _ = build_network(config, torch.device("cpu"))
    batch = make_batch(network)
    batch.learn_prompts = False
    loss, metrics = build_method(config).forward(network, batch)
    loss.backward()
    assert "consistency" not in metrics
    assert network.text_encoder.prompts.grad.abs().max() == 0


def test_shares_add_up_over_micro_batches(config: SegConfig) -> None:
    network, _ = build_network(config, torch.device("cpu"))
    method, batch = build_method(config), make_batch(network)
    whole, _ = method.forward(network, batch)
    parts = 0.0
    for row in range(2):
        one = make_batch(network)
        one.image, one.target, one.origin, one.weight = (
            value[row : row + 1] for value in (batch.image, batch.target, batch.origin, batch.weight)
        )
        for key in ("ids", "lengths", "noise"):
            setattr(one.plan, key, getattr(batch.plan, key)[row : row + 1])
        parts += method.forward(network, one)[0].item()
    assert parts == pytest.approx(whole.item(), rel=1e-5)


def test_empty_target_pulls_towards_empty() -> None:
    logits = torch.full((1, 1, 4, 4, 4), 0.5, requires_grad=True)
    CaseLoss(10.0)(logits, torch.zeros(1, 1, 4, 4, 4)).sum().backward()
    assert (logits.grad > 0).all()
    assert float(hard_dice(-torch.ones(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2))) == 1.0


def test_the_loss_of_what_the_plan_decides_sees_nothing_else() -> None:
    logits, target, contested = torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 1, 4, 4, 4), torch.zeros(2, 1, 4, 4, 4)
    contested[0, 0, 0] = 1  # 16 voxels
    logits[:, :, 1:] = 50.0  # wrong, where nobody asks
    value = contested_loss(logits, target, contested, smooth=16.0)
    torch.testing.assert_close(value, torch.tensor([0.5 * math.log(2), 0.0]))
    logits[0, 0, 0], target[0, 0, 0] = 9.0, 1.0
    assert contested_loss(logits, target, contested, smooth=16.0)[0] < 1e-3


def test_edit_weight_adds_to_the_loss_and_is_logged_by_every_rank(config: SegConfig) -> None:
    config = config.updated(method=SegMethod.PLAIN, plan_edits=0.5, edit_weight=2.0)
    network, _ = build_network(config, torch.device("cpu"))
    batch = make_batch(network)
    batch.plan.noise = None
    _, nothing = build_method(config).forward(network, batch)
    assert nothing["contested"] == 0
    batch.contested = torch.ones_like(batch.target)
    loss, metrics = build_method(config).forward(network, batch)
    assert metrics["contested"] > 0
    torch.testing.assert_close(loss.detach(), metrics["dice_ce"] + 2.0 * metrics["contested"])
    with pytest.raises(ConfigError, match="needs plan_edits"):
        config.updated(plan_edits=0.0)
