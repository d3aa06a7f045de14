import pytest

from rollama.training.sampler import BatchOrder


@pytest.mark.parametrize(("rows", "batch"), [(10, 4), (3, 8), (8, 8), (1, 1)])
def test_every_row_comes_once_an_epoch(rows, batch):
    order = BatchOrder(rows, batch, seed=1)
    draws = [draw for step in range(rows * 3) for draw in order.step(step)]
    for epoch in range(len(draws) // rows):
        chunk = draws[epoch * rows : (epoch + 1) * rows]
        assert sorted(draw.row for draw in chunk) == list(range(rows))
        assert {draw.epoch for draw in chunk} == {epoch}


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shards_are_a_partition_of_the_step(world):
    order = BatchOrder(20, 8, seed=0)
    shards = [order.shard(5, rank, world) for rank in range(world)]
    assert sorted((d.epoch, d.row) for shard in shards for d in shard) == sorted(
        (d.epoch, d.row) for d in order.step(5)
    )


def test_order_depends_on_the_seed_and_the_epoch():
    first = BatchOrder(50, 50, seed=0)
    assert first.step(0) == BatchOrder(50, 50, seed=0).step(0)
    assert [d.row for d in first.step(0)] != [d.row for d in first.step(1)]
    assert first.step(0) != BatchOrder(50, 50, seed=1).step(0)


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(ValueError, match="at least one row"):
        BatchOrder(0, 4, 0)
