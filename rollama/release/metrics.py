"""Which figures a protocol may judge, which way they are better, and how far they can go.

A margin without a direction is ambiguous, and a limit outside the range is always or never met. Both are found out
when the protocol is read, from this table, and not when a model is to be released.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from rollama.evaluation.fields import FLAGS, GETTERS
from rollama.evaluation.tables import YES_NO


@dataclass(frozen=True)
class Metric:
    """`better` is +1 where higher is better, -1 where lower is; values lie in [`low`, `high`]."""

    better: int
    low: float = 0.0
    high: float = 1.0

    @property
    def width(self) -> float:
        """Of the range."""
        return self.high - self.low


SHARE, ERROR, MILLIMETRES = Metric(1), Metric(-1), Metric(-1, 0.0, math.inf)
_ROUGE = dict.fromkeys(("rouge1", "rouge2", "rougeL"), SHARE)
TASKS: dict[str, dict[str, Metric]] = {
    "s": {**_ROUGE, "cut_off": ERROR},
    "p": {
        **_ROUGE, "cut_off": ERROR, **dict.fromkeys(GETTERS, SHARE), "fields_mean": SHARE, "fields_all": SHARE,
        "unparsed": ERROR, **dict.fromkeys(FLAGS, ERROR),
    },
    "seg": {
        **dict.fromkeys(("dice", "iou", "surface_dice_2mm", "surface_dice_3mm", "surface_dice_5mm"), SHARE),
        **dict.fromkeys(("hd95_mm", "hd95_pooled_mm", "added_path_mm"), MILLIMETRES),
        **dict.fromkeys(("levels_held", "levels_left_out", "levels_right"), SHARE),
        **dict.fromkeys(("wrong_side", "missed", "invented", "refused"), ERROR),
    },
    "side-swap": {"moved_across": SHARE, "followed_plan": SHARE},
    "counterfactual": {
        "success": SHARE, "edited_dice": SHARE, "leakage": MILLIMETRES, "leakage_strict": MILLIMETRES,
    },
}  # fmt: skip
"""Tasks of an evaluation and what of each may be judged. Leakage is a share of the target's volume, without an end."""
MODELS: dict[str, tuple[str, ...]] = {"s": ("s",), "p": ("p",), "seg": ("seg", "side-swap", "counterfactual")}
"""Which tasks a model alone decides."""


def is_rate(task: str, metric: str) -> bool:
    """Whether a case's value is yes or no (the counterfactual figures are means over a case's edits)."""
    return metric in YES_NO and task != "counterfactual"


def find(task: str, metric: str) -> Metric:
    """The metric of a task.

    Raises:
        ValueError: there is none of that name, with the nearest.
    """
    known = TASKS[task]
    if metric in known:
        return known[metric]
    near = difflib.get_close_matches(metric, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"accepted: {', '.join(known)}"
    raise ValueError(f"{task}.{metric}: no such metric; {hint}")
