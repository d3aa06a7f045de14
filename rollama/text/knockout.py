"""How much an answer needs each part of its input: the part is hidden, and the same answer is scored again.

Taking a sentence out of a note and reading the rest anew costs a pass over the note for every sentence. Here the note
is read once; then the answer is read once for each part, with attention to that part's tokens cut. What later tokens
of the note have already taken over from the part stays, so this says what the answer reads *there*: a lower bound of
what it owes to it. The cost is one reading of the input, and of the answer (parts + 1) times, in batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rollama.core.registry import Task
from rollama.data.chat import Form
from rollama.text.lean import Lean

Span = tuple[int, int]
ROWS = 16
"""Copies of the answer that are read at once."""


def knockout(
    lean: Lean,
    adapter: str | None,
    form: Form,
    task: Task,
    text: str,
    answer: str,
    parts: Sequence[Span],
    spans: Sequence[Span],
) -> torch.Tensor:
    """Fall of the log-probability of spans of an answer when parts of the input are hidden from it.

    Args:
        lean: the model.
        adapter: name of the task's adapter on it; None: the model as it is.
        form: how the task's texts are written for it.
        task: S or P.
        text: the input, without white space around it.
        answer: what was (or should be) answered.
        parts: ranges of `text` (Python code points) to hide, one at a time.
        spans: ranges of `answer`.

    Returns:
        (parts, spans) in nats, on the CPU; negative where hiding makes a span more likely.
    """
    prompt, places = form.placed_prompt(task, text)
    written, answer_places = form.placed(answer, special=False)
    with torch.inference_mode():
        slots = lean.slots()
        slots.add()
        lean.states([prompt[:-1]], slots, [adapter])
        targets = torch.tensor(written, device=lean.device)
        ids = [prompt[-1], *written[:-1]]
        hidden = torch.zeros(len(parts) + 1, len(prompt) - 1, dtype=torch.bool, device=lean.device)
        for row, part in enumerate(parts, 1):
            hidden[row, _inside(places[:-1], part)] = True
        scores = []
        for some in hidden.split(ROWS):
            copies = slots.copies(0, len(some))
            states = lean.states([ids] * len(some), copies, [adapter] * len(some), hidden=some)
            # A row at a time: logits are wide.
            scores += [likely(lean.logits(row), targets) for row in states.unflatten(0, (len(some), -1))]
    tokens = torch.stack(scores).cpu()
    fall = tokens[:1] - tokens[1:]
    found = [fall[:, _inside(answer_places, span)].sum(1) for span in spans]
    return torch.stack(found, dim=1) if found else fall[:, :0]


def likely(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probability (M,) of tokens (M,) under logits (M, vocabulary)."""
    return logits.float().log_softmax(-1).gather(1, targets[:, None])[:, 0]


def _inside(places: Sequence[Span], span: Span) -> list[int]:
    """Tokens that share a character with a range."""
    return [number for number, (start, end) in enumerate(places) if start < span[1] and end > span[0] and end > start]
