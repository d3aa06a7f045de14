from __future__ import annotations

import math

import torch

from rollama.data.tokenization import TokenRow
from rollama.text.batch import Document, TextBatch, collate
from rollama.text.noise import Noise, document_rms

CPU = torch.device("cpu")
SHORT, LONG = TokenRow("short", tuple(range(20)), 5), TokenRow("long", tuple(range(50)), 5)


def batch(*rows: TokenRow, epoch: int = 0) -> TextBatch:
    return collate(rows, [epoch] * len(rows), 1, len(rows), CPU, packed=False)


def test_scale_is_by_the_document_and_padding_is_silent() -> None:
    noise = Noise(5.0, seed=3).draw(batch(SHORT, LONG), 64)
    assert noise.dtype == torch.float32 and not noise[0, 20:].any()
    for row, length in ((0, 20), (1, 50)):
        bound = 5.0 / math.sqrt(length * 64)
        values = noise[row, :length]
        assert values.abs().max() <= bound and values.abs().max() > 0.95 * bound
        assert abs(values.mean()) < 0.1 * bound
        assert math.isclose(values.square().mean().sqrt(), bound / math.sqrt(3), rel_tol=0.05)


def test_noise_belongs_to_the_row() -> None:
    noise = Noise(5.0, seed=3)
    together, alone = noise.draw(batch(SHORT, LONG), 8), noise.draw(batch(LONG), 8)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(noise.draw(batch(LONG, epoch=1), 8), alone)
    assert not torch.equal(Noise(5.0, seed=4).draw(batch(LONG), 8), alone)


def test_packed_noise_is_that_of_each_document_alone() -> None:
    noise = Noise(5.0, seed=3)
    packed = noise.draw(collate([SHORT, LONG], [0, 0], 1, 2, CPU), 8)
    assert torch.equal(packed, torch.cat([noise.draw(batch(SHORT), 8), noise.draw(batch(LONG), 8)], dim=1))


def test_global_generator_is_untouched() -> None:
    before = torch.get_rng_state()
    Noise(5.0, seed=3).draw(batch(SHORT), 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_document_rms_ignores_padding() -> None:
    values = torch.tensor([[[3.0], [4.0]], [[2.0], [100.0]]])
    documents = (Document("a", 0, 0, 0, 2), Document("b", 0, 1, 0, 1))
    assert torch.allclose(document_rms(values, documents), torch.tensor([math.sqrt(12.5), 2.0]))
