"""Shapes, patient coordinates, and that every trained weight gets a gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from rollama.core.errors import ConfigError
from rollama.core.registry import SegMethod
from rollama.language.architectures import meta_base
from rollama.segmentation.checkpoint import build_network, load_model, save_model
from rollama.segmentation.config import SegConfig
from rollama.segmentation.model import Attention, Coordinates, SegBatch, SegmentationNet
from rollama.segmentation.text_encoder import PlanTokens, TextEncoder, reference_texts

CPU = torch.device("cpu")


def make_batch(network: SegmentationNet, texts: tuple[str, ...] = ("Side: left.", "Side: right.")) -> SegBatch:
    patch = network.config.patch
    generator = torch.Generator().manual_seed(0)
    keys = [(0, 0, str(index)) for index in range(len(texts))]
    return SegBatch(
        image=torch.rand(len(texts), 1, *patch, generator=generator),
        target=(torch.rand(len(texts), 1, *patch, generator=generator) > 0.8).float(),
        origin=torch.zeros(len(texts), 3),
        plan=network.text_encoder.tokenize(texts, keys) if network.text_encoder else None,
        weight=torch.full((len(texts),), 1 / len(texts)),
    )


@pytest.mark.parametrize("strides", [(1, 2, 2), (2, 2, 2)])
def test_logits_have_the_input_shape(config: SegConfig, strides: tuple[int, ...]) -> None:
    network, info = build_network(config.updated(strides=strides), CPU)
    output = network(make_batch(network), clean=True)
    assert output.logits.shape == (2, 1, *config.patch)
    assert output.text.used.at_seg.shape == output.text.clean.at_seg.shape == (2, 2, 64)
    assert info is not None


def test_every_trained_weight_gets_a_gradient(config: SegConfig) -> None:
    network, _ = build_network(config, CPU)
    network(make_batch(network)).logits.square().mean().backward()
    missing = [name for name, value in network.named_parameters() if value.grad is None]
    assert missing == []  # so that DDP needs no search for unused weights


def test_encoder_is_frozen_and_not_part_of_the_model(config: SegConfig) -> None:
    network, _ = build_network(config, CPU)
    assert [name for name, _ in network.named_parameters() if "embed" in name or "layers" in name] == []
    assert not any(value.requires_grad for value in network.text_encoder.decoder.parameters())


def test_attention_over_many_tokens_is_what_is_written_out_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention = Attention(8, 4, 2)
    query, key = torch.randn(2, 20, 8, requires_grad=True), torch.randn(2, 18, 8, requires_grad=True)
    seen = torch.arange(18) < torch.tensor([[18], [5]])
    for mask in (None, seen):
        found = []
        for few in (16, 100):
            monkeypatch.setattr("rollama.segmentation.model.FEW", few)
            result = attention(query, key, key, mask)
            found.append((result, *torch.autograd.grad(result.square().sum(), (query, key))))
        for fused, written in zip(*found, strict=True):
            torch.testing.assert_close(fused, written)


def test_attention_may_be_wider_than_a_stage(config: SegConfig) -> None:
    config = config.updated(alignment_inner=32)
    network, _ = build_network(config, CPU)
    assert network.alignments[0].blocks[0].to_text.q.weight.shape == (32, config.channels[0])
    assert network(make_batch(network)).logits.shape == (2, 1, *config.patch)
    with pytest.raises(ConfigError, match="alignment_inner"):
        config.updated(alignment_inner=33)


def test_recomputed_alignment_gives_equal_gradients(config: SegConfig) -> None:
    gradients = []
    for again in (False, True):
        network, _ = build_network(config.updated(activation_checkpointing=again), CPU)
        network(make_batch(network)).logits.square().mean().backward()
        gradients.append(torch.cat([value.grad.flatten() for value in network.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_coordinates_of_a_window_equal_those_of_the_whole(config: SegConfig) -> None:
    layer = Coordinates(8, config, stride=2)
    whole = layer(torch.tensor([[-40.0, 30.0, 5.0]]), torch.Size((12, 8, 6)))
    start = torch.tensor([[2 * 2 * 10.0, 0.0, 2 * 1 * 10.0]])
    part = layer(torch.tensor([[-40.0, 30.0, 5.0]]) + start, torch.Size((6, 8, 4)))
    torch.testing.assert_close(part, whole[:, :, 2:8, :, 1:5])


def test_sliding_windows_carry_their_own_coordinates() -> None:
    image = torch.arange(12.0)[None, None, :, None, None].expand(1, 1, 12, 4, 4).contiguous()

    def echo(patch: torch.Tensor, places: list[list[slice]]) -> torch.Tensor:
        starts = torch.tensor([float(place[2].start) for place in places])
        return starts[:, None, None, None, None] + torch.arange(4.0)[None, None, :, None, None].expand_as(patch)

    result = sliding_window_inference(image, (4, 4, 4), 2, echo, overlap=0.5, with_coord=True)
    torch.testing.assert_close(result, image)


def test_without_coordinates_there_are_no_position_weights(config: SegConfig) -> None:
    network, _ = build_network(config.updated(image_position="none"), CPU)
    assert network.positions is None
    assert network(make_batch(network)).logits.shape[2:] == torch.Size(config.patch)


def test_vision_ignores_text(config: SegConfig) -> None:
    network, info = build_network(config.updated(method=SegMethod.VISION), CPU)
    assert info is None
    assert network.text_encoder is None
    assert network.alignments is None
    assert network(make_batch(network)).text is None


def test_published_size_on_the_meta_device() -> None:
    config = SegConfig(
        encoder="meta-llama/Llama-2-7b-chat-hf", channels=(48, 48, 96, 192, 384), strides=(2,) * 5,
        patch=(384, 384, 128), spacing=(1.0, 1.0, 3.0), alignment_heads=8,
    )  # fmt: skip
    with torch.device("meta"):
        network = SegmentationNet(config, TextEncoder(config, meta_base(config.encoder), None))
        plan = PlanTokens(torch.zeros(1, 110, dtype=torch.long), torch.full((1,), 110), torch.zeros(1, 110, 4096))
        image = torch.zeros(1, 1, 384, 384, 128)
        output = network(SegBatch(image, image, torch.zeros(1, 3), plan, torch.ones(1)), clean=True)
    assert output.logits.shape == image.shape
    assert output.text.used.at_seg.shape == (1, 2, 4096)
    assert network.text_encoder.prompts.numel() == 2 * 8 * 4096


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"strides": (2, 2)}, "one value a stage"),
        ({"strides": (2, 1, 2)}, "only the first"),
        ({"channels": (6, 16, 16)}, "alignment_heads"),
        ({"patch": (15, 16, 8)}, "total stride"),
        ({"strides": (1, 2, 2), "fine_channels": 4}, "first stride of 2"),
        ({"chanels": (8,)}, "channels"),
    ],
)
def test_configuration_that_cannot_work_is_refused(config: SegConfig, change: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        config.updated(**change)


def test_plan_embeddings_are_centred_and_scaled_before_the_alignment(config: SegConfig) -> None:
    network, _ = build_network(config, CPU)
    tokens = network.text_encoder.tokenize(reference_texts(config.text_form))
    states = (network.text_encoder(tokens).used.at_seg - network.text_mean) / network.text_spread
    assert states.mean(0).abs().max() < 1e-4
    assert torch.allclose(states.std(0), torch.ones_like(states[0]), atol=1e-2)
    left, right = states[: len(states) // 2], states[len(states) // 2 :]
    assert (left - right).norm(dim=-1).mean() > 0.2 * states.norm(dim=-1).mean()  # the side is no longer a detail
    again, _ = build_network(config, CPU)
    assert torch.equal(again.text_mean, network.text_mean)


@pytest.mark.parametrize("gate", [False, True])
def test_with_all_tokens_neighbours_and_padding_change_nothing(config: SegConfig, gate: bool) -> None:
    network, _ = build_network(config.updated(text_mode="all_tokens", alignment_gate=gate), CPU)
    network.eval()
    if gate:
        for alignment in network.alignments:
            torch.nn.init.normal_(alignment.gate.weight, std=0.1)
    texts = ("Side: left.", "Side: right. Volumes: right whole breast.")
    batch = make_batch(network, texts)
    batch.plan.noise = None
    with torch.no_grad():
        together = network(batch)
        words = together.text.used.words
        assert words.states.shape[1] == words.mask.shape[1] == 2 * (int(batch.plan.lengths.max()) + 1)
        assert words.mask.sum(1).tolist() == [2 * (length + 1) for length in batch.plan.lengths.tolist()]
        for row, text in enumerate(texts):
            alone = network.text_encoder(network.text_encoder.tokenize([text])).used.words
            logits = network.segment(batch.image[row : row + 1], batch.origin[row : row + 1], alone).logits
            torch.testing.assert_close(logits, together.logits[row : row + 1], rtol=1e-4, atol=1e-5)
    other = network.segment(batch.image, batch.origin, words.expand(2)._replace(states=words.states.flip(0))).logits
    assert (other - together.logits).abs().max() > 1e-4


def test_all_tokens_are_centred_and_trained_alike(config: SegConfig) -> None:
    network, _ = build_network(config.updated(text_mode="all_tokens"), CPU)
    states, mask = network.text_encoder(network.text_encoder.tokenize(reference_texts(config.text_form))).used.words
    scaled = (states.unflatten(1, (2, -1)) - network.text_mean[:, None]) / network.text_spread[:, None]
    real = scaled.flatten(1, 2)[mask]
    assert real.mean().abs() < 1e-3 and (real.std() - 1).abs() < 0.05
    network(make_batch(network)).logits.square().mean().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_an_artefact_keeps_the_calibration(config: SegConfig, tmp_path: Path) -> None:
    network, info = build_network(config, CPU)
    network.text_mean.add_(1.0)
    save_model(tmp_path / "seg", network, info, "hash")
    loaded, _ = load_model(tmp_path / "seg", CPU)
    assert torch.equal(loaded.text_mean, network.text_mean)


def test_the_gate_starts_as_no_change_and_learns_from_the_first_step(config: SegConfig) -> None:
    network, _ = build_network(config.updated(alignment_gate=True), CPU)
    batch = make_batch(network)
    with torch.no_grad():
        before = network(batch).logits
        gates = [alignment.gate for alignment in network.alignments]
        for alignment in network.alignments:
            alignment.gate = None
        assert torch.equal(network(batch).logits, before)
        for alignment, gate in zip(network.alignments, gates, strict=True):
            alignment.gate = gate
    network(batch).logits.square().sum().backward()
    assert all(gate.weight.grad.abs().sum() > 0 for gate in gates)


def test_fine_detail_starts_as_no_change_and_then_learns(config: SegConfig) -> None:
    network, _ = build_network(config.updated(strides=(2, 2, 2), fine_channels=4), CPU)
    batch = make_batch(network)
    with torch.no_grad():
        text = network.text_encoder(batch.plan).used.words
        whole = network.segment(batch.image, batch.origin, text).logits
        assert not network.fine(torch.zeros(2, config.channels[0], *[n // 2 for n in config.patch]), batch.image).any()
    network(batch).logits.square().sum().backward()
    assert whole.shape == batch.image.shape
    assert network.fine.last.weight.grad.abs().sum() > 0
