"""What the encoder reads, where the noise goes, and that prompts learn through the frozen model."""

from __future__ import annotations

import pytest
import torch

from rollama.core.errors import DataError
from rollama.data.plan import Dose, Level, Plan, Side, Surgery, Technique, Volume, render_plan
from rollama.segmentation.checkpoint import build_network
from rollama.segmentation.config import NoiseScale, SegConfig, TextForm
from rollama.segmentation.noise import noise_magnitude, plan_noise
from rollama.segmentation.text_encoder import NAMES, TextEncoder, encoder_text

PLAN = Plan(
    side=Side.LEFT, surgery=Surgery.CONSERVING, volume=Volume.BREAST, levels=(Level.L3, Level.L4),
    dose=Dose(gy=40.05, fractions=15), technique=Technique.TANGENTS,
)  # fmt: skip


@pytest.fixture
def encoder(config: SegConfig) -> TextEncoder:
    network, _ = build_network(config, torch.device("cpu"))
    assert network.text_encoder is not None
    return network.text_encoder


def test_target_form_keeps_what_decides_the_geometry() -> None:
    text = encoder_text(PLAN, "", TextForm.TARGET)
    assert text == "Side: left. Volumes: left whole breast. Nodes: L3, L4 left. Side: left."
    assert encoder_text(PLAN, "", TextForm.FULL) == render_plan(PLAN)
    assert encoder_text(None, " free text ", TextForm.TARGET) == "free text"
    every = PLAN.model_copy(update={"levels": tuple(Level)})
    named = encoder_text(every, "", TextForm.NAMES)
    assert "axillary, central, infraclavicular, supraclavicular, interpectoral, internal mammary" in named
    assert not any(level in named.split() for level in ("L1,", "L2,", "L3,", "L4,")) and set(NAMES) == set(Level)


def test_noise_only_on_plan_tokens() -> None:
    noise = plan_noise([3, 5], [1, 2], 5, 64, alpha=10, scale=NoiseScale.LC)
    assert noise[0, 3:].abs().max() == 0
    assert noise[0, :3].abs().min() > 0
    assert noise[0].abs().max() <= 10 / (3 * 64) ** 0.5
    assert noise[1].abs().max() <= 10 / (5 * 64) ** 0.5
    assert noise_magnitude(10, NoiseScale.C, 5, 64) == pytest.approx(10 / 8)


def test_noise_reaches_the_encoder_at_plan_positions_only(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    inner = encoder.decoder.forward

    def record(**values: torch.Tensor) -> object:
        seen.append(values["inputs_embeds"].detach().clone())
        return inner(**values)

    monkeypatch.setattr(encoder.decoder, "forward", record)
    texts = ["Side: left.", "Side: left. Volumes: whole breast."]
    plan = encoder.tokenize(texts, [(1,), (2,)])
    encoder(plan, clean=True)
    clean, noisy = seen
    changed = (noisy - clean).abs().amax(-1) > 0
    context = encoder.config.prompt_tokens
    for row, length in enumerate(plan.lengths.tolist()):
        for prompt in range(2):
            wanted = torch.zeros_like(changed[0])
            wanted[1 + context : 1 + context + length] = True
            assert torch.equal(changed[2 * row + prompt], wanted)


def test_noise_belongs_to_its_key(encoder: TextEncoder) -> None:
    one = encoder.tokenize(["Side: left."], [(0, 3, "case", "noise")])
    both = encoder.tokenize(
        ["Side: left. Nodes: none.", "Side: left."], [(0, 3, "other", "noise"), (0, 3, "case", "noise")]
    )
    length = int(one.lengths[0])
    torch.testing.assert_close(one.noise[0, :length], both.noise[1, :length])


def test_padding_and_neighbours_do_not_matter(encoder: TextEncoder) -> None:
    alone = encoder(encoder.tokenize(["Side: left."])).used.at_seg
    texts = ["Side: left. Volumes: whole breast. Nodes: L1.", "Side: left.", "Side: left."]
    together = encoder(encoder.tokenize(texts)).used.at_seg
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[2], together[1])


def test_hidden_state_is_read_at_seg(encoder: TextEncoder) -> None:
    text = "Side: left."
    ids = [encoder.bos, *encoder.tokenizer(text, add_special_tokens=False).input_ids, encoder.seg]
    embedded = encoder.decoder.embed_tokens(torch.tensor([ids]))
    joined = torch.cat([embedded[:, :1], encoder.prompts[:1], embedded[:, 1:]], 1)
    wanted = encoder.decoder(inputs_embeds=joined).last_hidden_state[0, -1]
    torch.testing.assert_close(encoder(encoder.tokenize([text])).used.at_seg[0, 0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["", "breast " * 300])
def test_text_of_no_use_is_refused_without_quoting_it(encoder: TextEncoder, text: str) -> None:
    with pytest.raises(DataError, match="tokens") as caught:
        encoder.tokenize([text])
    assert "breast" not in str(caught.value)
