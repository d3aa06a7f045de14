"""Notes that say of themselves that a side in them is wrong."""

from __future__ import annotations

import pytest

from rollama.data.corrections import corrects_side


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("Cancer of the left breast. The side in the pasted line is wrong; it is the right breast.", True),
        ("Breast, Rt.\nCorrection | side in prev. visit wrong | Lt. is affected", True),
        ("Seitenangabe der Zuweisung ist falsch, richtig ist links.", True),
        ("The laterality above is an error.", True),
        ("The left side. The dose was wrong.", False),  # not in one sentence
        ("Outside hospital: wrong dose.", False),
        ("", False),
    ],
)
def test_a_side_and_a_mistake_in_one_sentence(note: str, expected: bool) -> None:
    assert corrects_side(note) is expected
