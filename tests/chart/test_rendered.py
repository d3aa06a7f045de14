"""What the chart renders, for every set of values: safe, reachable as meant, and what KubeRay and Ray take."""

from __future__ import annotations

import pytest

from tests.chart.rendering import SETS, Values, rendered
from tests.chart.rules import problems

pytestmark = pytest.mark.chart


@pytest.mark.parametrize("values", SETS, ids=lambda item: item.name)
def test_everything_holds(values: Values) -> None:
    assert list(problems(rendered(values), values.name)) == []
