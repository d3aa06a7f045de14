"""ROUGE-1, -2 and -L per case, with every choice that changes the number written down.

Tools differ in stemming, tokenizer and in what they do with an empty answer, so figures of two tools cannot be
compared. Here: package rouge-score, Porter stemming on, its default tokenizer (lower case, a-z and 0-9), F1, the
reference first, the text as one sequence (rougeL, not rougeLsum). An empty prediction scores 0 and is kept.
"""

from __future__ import annotations

import functools
from typing import Any

TYPES = ("rouge1", "rouge2", "rougeL")
SETTINGS = {"package": "rouge-score", "types": list(TYPES), "use_stemmer": True, "tokenizer": "default", "value": "F1"}


@functools.cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(TYPES), use_stemmer=True)


def rouge(reference: str, prediction: str) -> dict[str, float]:
    """F1 in [0, 1] of each type in `TYPES` (Lin 2004)."""
    scores = _scorer().score(reference, prediction)  # target first
    return {name: float(scores[name].fmeasure) for name in TYPES}
