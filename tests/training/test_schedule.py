import itertools

import pytest

from rollama.core.config import build
from rollama.core.errors import ConfigError
from rollama.text.config import TextConfig
from rollama.training.schedule import one_cycle


def test_warms_up_to_the_peak_and_comes_down():
    rates = [one_cycle(step, 100, 2e-3, warmup=0.1, floor=0.02) for step in range(100)]
    assert rates[0] == pytest.approx(2e-4)
    assert max(rates) == pytest.approx(2e-3)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(2e-3 * 0.02, rel=0.05)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_parts_make_one_schedule():
    whole = [one_cycle(step, 30, 1.0) for step in range(30)]
    assert [one_cycle(step, 10, 1.0, part=(number, 3)) for number in (1, 2, 3) for step in range(10)] == whole


@pytest.mark.parametrize("part", [(0, 3), (4, 3), (1, 0)])
def test_a_part_is_one_of_them(part):
    with pytest.raises(ConfigError, match="give \\[k, n\\] with k from 1 to n"):
        build(TextConfig, {"part": part}, "test")


def test_never_zero_and_one_step_runs():
    assert one_cycle(0, 1, 1.0) == 1.0
    assert all(one_cycle(step, 7, 1.0) > 0 for step in range(7))
