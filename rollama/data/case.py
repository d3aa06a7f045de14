"""One patient: note, reference summary, plan, CT and target, with where they come from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from rollama.core.config import StrictModel
from rollama.data.plan import Plan


class Split(StrEnum):
    """What a case may be used for.

    The unseen centre's cases are `external`. `combination` holds combinations of facts that training never saw
    together; `counterfactual` holds other notes and plans for the very CTs of external cases. All but `train` and
    `validation` are held out.
    """

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    EXTERNAL = "external"
    COMBINATION = "combination"
    COUNTERFACTUAL = "counterfactual"


class Evidence(StrictModel):
    """Which characters of the note carry a fact: `note[start:end]` is the sentence."""

    fact: str
    start: int = Field(ge=0)
    end: int = Field(gt=0)


class TextCase(StrictModel):
    """The texts of a case. `plan is None` when the stored plan text does not parse; `plan_text` then keeps it as it is.

    A data set for S alone has no plans and one for P alone no notes: those texts are empty.
    """

    case_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    centre: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    split: Split
    note: str = Field("", repr=False)
    summary: str = Field("", repr=False)
    plan: Plan | None
    plan_text: str = Field("", repr=False)
    evidence: tuple[Evidence, ...] = ()
    provenance: dict[str, str | int | float | bool] = Field(default_factory=dict)


class Case(TextCase):
    """A case with its CT and target.

    `image` and `target` are absolute paths of NIfTI files on one grid; `spacing` is in mm, in array order (x, y, z).
    """

    plan_text: str = Field(min_length=1, repr=False)
    image: Path
    target: Path
    spacing: tuple[float, float, float]
