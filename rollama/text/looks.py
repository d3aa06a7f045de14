"""Two looks at one text: as it is, and of the mirrored patient, with left and right exchanged.

A note may name both sides, and the wrong one first. Which of them a model believes must not depend on whether the right
one is called left: its answer to the mirrored note, mirrored back, should be the answer to the note. Where it is not,
the model is unsure, a reader should know, and one of the two answers has to be taken: the one that is likelier to both
looks together. It is the second look at a flipped image (`segmentation.inference.mirrored`), for texts. A model that
was trained on mirrored texts throughout (`text.mirrored`) errs alike in both looks, and gains least.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rollama.data.sides import other_side
from rollama.text.forms import Generation
from rollama.text.knockout import likely
from rollama.text.lean import Lean


def other_answer(own: Generation, mirrored: Generation) -> str | None:
    """The second look's answer as one to the text itself; None where the looks agree or one of them was cut."""
    found = other_side(mirrored.text)
    return found if own.finished and mirrored.finished and found.strip() and found != own.text else None


def candidates(own: str, other: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """What to score where two answers to a text differ: both as answers to the text, and to the mirrored one."""
    return (own, other), (other_side(own), other_side(other))


def settled(own: Generation, other: str, scores: Sequence[Sequence[float]]) -> Generation:
    """The answer that is likelier to both looks together; it knows the one that was not taken.

    Args:
        own: the answer to the text as it is, which has ended.
        other: that of the second look (see `other_answer`).
        scores: log-likelihoods (own, other) in each look, in the order of `candidates`.
    """
    for_own, for_other = (sum(one) for one in zip(*scores, strict=True))
    if for_own >= for_other:
        return Generation(own.text, True, other)
    return Generation(other, True, own.text)


def log_likelihoods(
    lean: Lean, adapter: str | None, prompt: Sequence[int], answers: Sequence[Sequence[int]]
) -> list[float]:
    """Log-probability of each answer to a prompt, in nats; all are token ids, the closing token of an answer too.

    The prompt, of two tokens or more, is read once; then one answer after the other is read behind it.
    """
    with torch.inference_mode():
        slots = lean.slots()
        slots.add()
        lean.states([prompt[:-1]], slots, [adapter])
        scores, begun = [], slots.lengths[0]
        for answer in answers:
            slots.lengths[0] = begun  # takes the answer before it back
            states = lean.states([[prompt[-1], *answer[:-1]]], slots, [adapter])
            scores.append(float(likely(lean.logits(states), torch.tensor(answer, device=lean.device)).sum()))
    return scores
