from __future__ import annotations

import pytest
import torch

from rollama.core.errors import ConfigError
from rollama.data.tokenization import TokenRow
from rollama.text.batch import TextBatch, TextBatches, collate
from rollama.training.sampler import BatchOrder

CPU = torch.device("cpu")
ROWS = [TokenRow(f"c{i}", tuple(range(1, 6 + i)), 3) for i in range(10)]


@pytest.mark.parametrize("packed", [False, True])
def test_collate_selects_answers_by_position(packed: bool) -> None:
    rows = [TokenRow("a", (5, 6, 7, 2), 2), TokenRow("b", (5, 2), 1)]  # b's end token 2 is all of its answer
    batch = collate(rows, [0, 3], 10, 2, CPU, packed, step=4)
    assert batch.ids.tolist() == ([[5, 6, 7, 2, 5, 2]] if packed else [[5, 6, 7, 2], [5, 2, 0, 0]])
    assert batch.token_positions.tolist() == ([[0, 1, 2, 3, 0, 1]] if packed else [[0, 1, 2, 3], [0, 1, 0, 0]])
    assert batch.spans == (((0, 4), (4, 6)) if packed else None)
    assert batch.targets.tolist() == [7, 2, 2]
    assert batch.ids.flatten()[batch.positions].tolist() == [6, 7, 5]  # the token before each answer token
    assert batch.answer_document.tolist() == [0, 0, 1] and batch.case_ids == ("a", "b") and batch.step == 4
    assert [(document.length, document.epoch) for document in batch.documents] == [(4, 0), (2, 3)]


def micro(world: int, step: int = 0, size: int = 2, packed: bool = True) -> list[list[TextBatch]]:
    order = BatchOrder(len(ROWS), 8, seed=1)
    return [list(TextBatches(ROWS, order, size, rank, world, CPU, packed).step(step)) for rank in range(world)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("step", [0, 1, 5])
def test_micro_batches_are_the_same_for_any_world(step: int, packed: bool) -> None:
    def keys(world: int) -> set[tuple[str, ...]]:
        return {batch.case_ids for shard in micro(world, step, packed=packed) for batch in shard}

    assert keys(1) == keys(2) == keys(4)
    assert sum(len(batch.targets) for batch in micro(1, step)[0]) == micro(4, step)[3][0].global_tokens


@pytest.mark.parametrize("packed", [False, True])
def test_every_rank_gets_as_many_micro_batches_and_similar_lengths(packed: bool) -> None:
    shards = micro(2, packed=packed)
    assert [len(shard) for shard in shards] == [2, 2]
    widths = [sum(batch.ids.numel() for batch in shard) for shard in shards]
    assert abs(widths[0] - widths[1]) <= 0.2 * max(widths)


def test_packed_micro_batches_have_about_as_many_tokens_each_and_no_padding() -> None:
    widths = [batch.ids.numel() for shard in micro(2) for batch in shard]
    assert max(widths) - min(widths) <= 0.2 * max(widths)
    assert sum(widths) < sum(batch.ids.numel() for shard in micro(2, packed=False) for batch in shard)


def test_micro_batch_shrinks_when_there_are_many_workers() -> None:
    assert [len(batch.documents) for shard in micro(4, size=4) for batch in shard] == [2, 2, 2, 2]


def test_uneven_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch"):
        TextBatches(ROWS, BatchOrder(10, 8, 0), 2, 0, 3, CPU)
