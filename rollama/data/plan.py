"""The treatment plan as a typed record, with one text form and one strict parser.

The plan is the hinge of the chain: P writes it as text, SEG reads that text, the evaluation compares fields. One
renderer and one parser, inverse to each other, keep the three in step. Text that is not exactly of this form is
kept as text and flagged by the caller, never guessed at.

The text form is seven short sentences in a fixed order, so that a small language model can learn it and every
field is worded where the segmentation model's text encoder meets it::

    Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L3, L4. Boost: sequential 10 Gy in
    5 fractions. Prescription: 40.05 Gy in 15 fractions. Technique: VMAT.

A patient who needs no radiotherapy has `Volumes: none`, no nodes, no boost and `Prescription: none`. A centre that
follows a named contouring guideline adds an eighth sentence, `Guideline: ESTRO.`
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, Protocol, Self

from pydantic import Field, model_validator

from rollama.core.config import StrictModel, build
from rollama.core.errors import ConfigError, DataError


class Side(StrEnum):
    """Breast side, from the patient's point of view."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.RIGHT if self is Side.LEFT else Side.LEFT


class Surgery(StrEnum):
    """Definitive breast surgery that was done (not the one once planned)."""

    CONSERVING = "breast-conserving"
    MASTECTOMY = "mastectomy"


class Volume(StrEnum):
    """Breast-level target volume (ESTRO: CTVp_breast, CTVp_chestwall)."""

    BREAST = "whole breast"
    CHEST_WALL = "chest wall"


class Level(StrEnum):
    """Nodal level (ESTRO: CTVn_L1 to CTVn_L4, CTVn_interpectoralis, CTVn_IMN)."""

    L1 = "L1"
    L2 = "L2"
    L3 = "L3"
    L4 = "L4"
    INTERPECTORAL = "interpectoral"
    IMN = "IMN"


class BoostKind(StrEnum):
    """How the tumour bed gets its extra dose."""

    SEQUENTIAL = "sequential"
    SIMULTANEOUS = "simultaneous"


class Technique(StrEnum):
    """Delivery technique."""

    TANGENTS = "3D-CRT"
    VMAT = "VMAT"


class Guideline(StrEnum):
    """Contouring guideline whose borders the target follows."""

    ESTRO = "ESTRO"
    RTOG = "RTOG"


class Dose(StrictModel):
    """A prescription: total dose in Gy and number of fractions."""

    gy: float = Field(gt=0, le=100)
    fractions: int = Field(gt=0, le=50)

    def __str__(self) -> str:
        return f"{self.gy:g} Gy in {self.fractions} fractions"


class Boost(StrictModel):
    """A tumour-bed boost. `dose` is the extra dose (sequential) or the bed's total dose (simultaneous)."""

    kind: BoostKind
    dose: Dose

    def __str__(self) -> str:
        return f"{self.kind} {self.dose}"


class TargetWords(Protocol):
    """What of a plan decides its target's geometry; see `Plan` for the fields."""

    @property
    def side(self) -> Side: ...
    @property
    def volume(self) -> Volume | None: ...
    @property
    def levels(self) -> tuple[Level, ...]: ...
    @property
    def guideline(self) -> Guideline | None: ...
    def mirrored(self) -> TargetWords: ...


class Structures(NamedTuple):
    """What a text says of the target, which may be less than a plan: nodes without breast or chest wall, no dose."""

    side: Side
    volume: Volume | None
    levels: tuple[Level, ...]
    guideline: Guideline | None

    def mirrored(self) -> Structures:
        """The same structures on the other side."""
        return self._replace(side=self.side.other)


def structures(plan: TargetWords) -> list[Structures]:
    """The structures of a plan's target, each by itself: breast or chest wall first, then the levels."""
    whole = [Structures(plan.side, plan.volume, (), plan.guideline)] if plan.volume is not None else []
    return whole + [Structures(plan.side, None, (level,), plan.guideline) for level in plan.levels]


class Plan(StrictModel):
    """A radiotherapy plan suggestion. `volume is None` means that no target is treated, a valid plan."""

    side: Side
    surgery: Surgery
    volume: Volume | None
    levels: tuple[Level, ...] = ()
    boost: Boost | None = None
    dose: Dose | None
    technique: Technique | None
    guideline: Guideline | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        order = list(Level)
        if list(self.levels) != sorted(set(self.levels), key=order.index):
            raise ValueError("levels must be unique and in the order " + ", ".join(order))
        if self.volume is None:
            if self.levels or self.boost or self.dose or self.technique:
                raise ValueError("without a target volume there are no nodes, boost, prescription or technique")
        elif self.dose is None or self.technique is None:
            raise ValueError("a target volume needs a prescription and a technique")
        return self

    @property
    def has_target(self) -> bool:
        """Whether anything is to be irradiated."""
        return self.volume is not None

    def mirrored(self) -> Plan:
        """The same plan for the other side; goes with a left-right flip of the image."""
        return self.model_copy(update={"side": self.side.other})


NONE = "none"
FIELDS = ("Side", "Surgery", "Volumes", "Nodes", "Boost", "Prescription", "Technique")
GUIDELINE = "Guideline"
_FORM = re.compile(
    r"\s+".join(rf"{name}:\s+(?P<{name}>.+?)\." for name in FIELDS)
    + rf"(?:\s+{GUIDELINE}:\s+(?P<{GUIDELINE}>.+?)\.)?\s*$"
)
_DOSE = re.compile(r"(?P<gy>\d+(?:\.\d+)?) Gy in (?P<fractions>\d+) fractions")


def render_plan(plan: Plan) -> str:
    """The plan's one text form (see the module docstring)."""
    values = (
        plan.side,
        plan.surgery,
        plan.volume or NONE,
        render_levels(plan.levels),
        str(plan.boost or NONE),
        str(plan.dose or NONE),
        plan.technique or NONE,
    )
    return render_values(values, plan.guideline)


def render_levels(levels: Iterable[Level]) -> str:
    """What stands after `Nodes:`."""
    return ", ".join(levels) or NONE


def render_values(values: Iterable[str], guideline: str | None = None) -> str:
    """The sentences of a plan from the texts of its `FIELDS`, in their order."""
    text = " ".join(f"{name}: {value}." for name, value in zip(FIELDS, values, strict=True))
    return f"{text} {GUIDELINE}: {guideline}." if guideline else text


def parse_plan(text: str, source: str = "plan") -> Plan:
    """Read a plan back from its text form.

    Args:
        text: the text; white space between the sentences is free, everything else is not.
        source: a name for messages (a file or a case id); the text itself never enters a message.

    Raises:
        DataError: a sentence is missing, out of order or has a value that is not accepted.
    """
    match = _FORM.match(text.strip())
    if match is None:
        for name in FIELDS:
            if f"{name}:" not in text:
                raise DataError(
                    f"{source}: no '{name}:' sentence; a plan reads '{' '.join(f'{f}: ... .' for f in FIELDS)}'"
                )
        raise DataError(f"{source}: not of the form '{' '.join(f'{f}: ... .' for f in FIELDS)}'")
    part = match.groupdict()
    boost = None
    if part["Boost"] != NONE:
        kind, _, dose = part["Boost"].partition(" ")
        boost = {"kind": kind, "dose": _parse_dose(dose, "Boost", source)}
    values = {
        "side": part["Side"],
        "surgery": part["Surgery"],
        "volume": None if part["Volumes"] == NONE else part["Volumes"],
        "levels": () if part["Nodes"] == NONE else tuple(part["Nodes"].split(", ")),
        "boost": boost,
        "dose": None if part["Prescription"] == NONE else _parse_dose(part["Prescription"], "Prescription", source),
        "technique": None if part["Technique"] == NONE else part["Technique"],
        "guideline": part[GUIDELINE],
    }
    return plan_from_dict(values, source)


def plan_from_dict(values: object, source: str = "plan") -> Plan:
    """Validate plain values (as read from YAML or JSON) as a plan.

    Raises:
        DataError: names every field that is missing, unknown or not accepted.
    """
    if not isinstance(values, dict):
        raise DataError(f"{source}: expected the fields of a plan, found {type(values).__name__}")
    try:
        return build(Plan, values, source)
    except ConfigError as error:
        raise DataError(str(error)) from error


def _parse_dose(text: str, field: str, source: str) -> dict[str, float | int]:
    match = _DOSE.fullmatch(text)
    if match is None:
        raise DataError(f"{source}: {field} is not of the form '40.05 Gy in 15 fractions'")
    return {"gy": float(match["gy"]), "fractions": int(match["fractions"])}
