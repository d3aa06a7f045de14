"""Where sentences of a note begin and end."""

from __future__ import annotations

import pytest

from rollama.data.sentences import sentences

CASES = [
    ("Left breast. pT2 found. Margins clear!", ["Left breast. pT2 found.", "Margins clear!"]),
    ("Dx | Breast, Lt. | UOQ\nOp done | lumpectomy\n\n", ["Dx | Breast, Lt. | UOQ", "Op done | lumpectomy"]),
    ("Dr. Smith saw J. Doe. Size 1.5 cm.", ["Dr. Smith saw J. Doe.", "Size 1.5 cm."]),
    ('She said "Well." Then left.  Über 3 cm.', ['She said "Well."', "Then left.", "Über 3 cm."]),
    (" \n ", []),
]


@pytest.mark.parametrize(("note", "expected"), CASES)
def test_sentences(note: str, expected: list[str]) -> None:
    assert [note[start:end] for start, end in sentences(note)] == expected
