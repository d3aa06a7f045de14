"""The clinical facts of one synthetic patient, from which note, summary, plan and anatomy all follow.

If the note, the plan and the CT were drawn separately they would contradict each other. Here one record is drawn
first, and everything else is a function of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from rollama.cohort.shifts import Population
from rollama.core.config import StrictModel
from rollama.data.plan import Guideline, Side, Surgery

CLOSE_MARGIN_MM = 2.0
"""A margin below this is close (convention of this cohort)."""


class Site(StrEnum):
    """Where in the breast the tumour was."""

    UPPER_OUTER = "upper outer quadrant"
    LOWER_OUTER = "lower outer quadrant"
    UPPER_INNER = "upper inner quadrant"
    LOWER_INNER = "lower inner quadrant"
    CENTRAL = "central"

    @property
    def medial_or_central(self) -> bool:
        """Inner quadrants and the central area drain to the internal mammary chain more often."""
        return self in (Site.UPPER_INNER, Site.LOWER_INNER, Site.CENTRAL)


class Histology(StrEnum):
    """Histological type."""

    DUCTAL = "ductal"
    LOBULAR = "lobular"
    MUCINOUS = "mucinous"
    MIXED = "mixed ductal and lobular"


class Axilla(StrEnum):
    """Axillary surgery that was done."""

    SENTINEL = "sentinel node biopsy"
    DISSECTION = "axillary dissection"


class Chemo(StrEnum):
    """Chemotherapy relative to surgery."""

    NONE = "none"
    BEFORE = "neoadjuvant"
    AFTER = "adjuvant"


class Reconstruction(StrEnum):
    """What replaced a removed breast."""

    NONE = "none"
    IMPLANT = "implant"
    EXPANDER = "tissue expander"
    FLAP = "flap"


class Mound(StrEnum):
    """What a CT shows in a breast's place; a flap looks like a natural breast."""

    NATURAL = "natural"
    FLAT = "flat"
    IMPLANT = "implant"
    EXPANDER = "expander"


class Contralateral(StrEnum):
    """History of the other breast (a distractor)."""

    NONE = "none"
    BENIGN = "benign biopsy"
    LUMPECTOMY = "lumpectomy"
    MASTECTOMY = "mastectomy"


@dataclass(frozen=True)
class Visible:
    """All that a CT shows of a patient's surgery. Patients who agree in it could have the same CT.

    `clips` and `seroma` map a side to the place of surgical clips or a fluid-filled cavity, None where there is none.
    """

    mounds: Mapping[Side, Mound]
    clips: Mapping[Side, Site | None]
    seroma: Mapping[Side, Site | None]

    @property
    def key(self) -> str:
        """The same text for the same look."""
        return "; ".join(f"{side}: {self.mounds[side]}, {self.clips[side]}, {self.seroma[side]}" for side in Side)

    @property
    def symmetric(self) -> bool:
        """Whether nothing to be seen tells one side from the other."""
        left, right = Side.LEFT, Side.RIGHT
        return all(marks[left] == marks[right] for marks in (self.mounds, self.clips, self.seroma))


class Facts(StrictModel):
    """One patient. Sizes in mm, age in years; `t_clinical` is the category before any treatment.

    `protocol` is the contouring guideline of the department, which also sets its schedules. `imaging_size_mm` and
    `imaging_nodes` (suspicious axilla) are what imaging said before surgery; where pathology differs, pathology holds.
    """

    age: int = Field(ge=18, le=100)
    side: Side
    site: Site
    histology: Histology
    grade: int = Field(ge=1, le=3)
    size_mm: int = Field(ge=1)
    t_clinical: int = Field(ge=1, le=4)
    t_pathological: int = Field(ge=1, le=4)
    nodes_positive: int = Field(ge=0)
    nodes_examined: int = Field(ge=1)
    axilla: Axilla
    surgery: Surgery
    planned_surgery: Surgery
    margin_mm: float = Field(gt=0)
    er_positive: bool
    her2_positive: bool
    chemo: Chemo
    reconstruction: Reconstruction
    protocol: Guideline
    imaging_size_mm: int = Field(ge=1)
    imaging_nodes: bool
    clips: bool
    seroma: bool
    contralateral: Contralateral
    contralateral_years: int = Field(ge=1)
    contralateral_site: Site
    contralateral_clips: bool
    contralateral_implant: bool

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.nodes_positive > self.nodes_examined:
            raise ValueError("more positive nodes than examined nodes")
        mastectomy = self.surgery is Surgery.MASTECTOMY
        if self.reconstruction is not Reconstruction.NONE and not mastectomy:
            raise ValueError("reconstruction without mastectomy")
        if (self.clips or self.seroma) and mastectomy:
            raise ValueError("clips or seroma of a breast-conserving excision after mastectomy")
        if self.contralateral_clips and self.contralateral is not Contralateral.LUMPECTOMY:
            raise ValueError("contralateral clips without contralateral lumpectomy")
        if self.contralateral_implant and self.contralateral is not Contralateral.MASTECTOMY:
            raise ValueError("contralateral implant without contralateral mastectomy")
        return self

    @property
    def other_side(self) -> Side:
        """The side that is not treated now."""
        return self.side.other

    @property
    def n_category(self) -> int:
        """pN from the number of positive nodes (UICC TNM: 1-3, 4-9, 10 or more)."""
        return int(np.searchsorted([1, 4, 10], self.nodes_positive, side="right"))

    @property
    def t_category(self) -> int:
        """The T that the rules use: clinical when chemotherapy came first, pathological otherwise."""
        return self.t_clinical if self.chemo is Chemo.BEFORE else self.t_pathological

    @property
    def close_margin(self) -> bool:
        """Whether the closest margin is below `CLOSE_MARGIN_MM`."""
        return self.margin_mm < CLOSE_MARGIN_MM

    @property
    def visible(self) -> Visible:
        """What the CT shows."""
        own, old = self.side, self.other_side
        here, there = Mound.NATURAL, Mound.NATURAL
        if self.surgery is Surgery.MASTECTOMY:
            here = _LOOKS[self.reconstruction]
        if self.contralateral is Contralateral.MASTECTOMY:
            there = Mound.IMPLANT if self.contralateral_implant else Mound.FLAT
        return Visible(
            mounds={own: here, old: there},
            clips={
                own: self.site if self.clips else None,
                old: self.contralateral_site if self.contralateral_clips else None,
            },
            seroma={own: self.site if self.seroma else None, old: None},
        )


_LOOKS = {
    Reconstruction.NONE: Mound.FLAT,
    Reconstruction.FLAP: Mound.NATURAL,
    Reconstruction.IMPLANT: Mound.IMPLANT,
    Reconstruction.EXPANDER: Mound.EXPANDER,
}


def draw_facts(rng: np.random.Generator, population: Population) -> Facts:
    """Draw one patient of a centre's population."""
    age = int(np.clip(rng.normal(population.age, 12), 29, 88))
    surgery = Surgery.MASTECTOMY if rng.random() < population.mastectomy else Surgery.CONSERVING
    mastectomy = surgery is Surgery.MASTECTOMY
    chemo = Chemo.NONE
    if rng.random() < population.neoadjuvant:
        chemo = Chemo.BEFORE
    elif rng.random() < 0.35:
        chemo = Chemo.AFTER
    t_clinical = int(rng.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.25, 0.1] if mastectomy else [0.5, 0.45, 0.05, 0.0]))
    t_pathological, size = _pathology(rng, t_clinical, chemo)
    axilla = Axilla.DISSECTION if rng.random() < population.dissection else Axilla.SENTINEL
    examined, positive = _nodes(rng, axilla, population.node_positive)
    planned = surgery
    if rng.random() < 0.3:
        planned = Surgery.CONSERVING if mastectomy else Surgery.MASTECTOMY
    other = Contralateral(rng.choice(list(Contralateral), p=[0.58, 0.16, 0.12, 0.14]))
    rebuilt = Reconstruction.NONE
    if mastectomy and rng.random() < population.reconstruction:
        rebuilt = Reconstruction(rng.choice(list(Reconstruction)[1:], p=[0.25, 0.25, 0.5]))
    imaging_nodes = bool(rng.random() < (0.75 if positive else 0.2))  # imaging errs both ways
    return Facts(
        age=age,
        side=Side.LEFT if rng.random() < 0.5 else Side.RIGHT,
        site=_site(rng),
        histology=Histology(rng.choice(list(Histology), p=[0.7, 0.18, 0.05, 0.07])),
        grade=int(rng.choice([1, 2, 3], p=[0.2, 0.48, 0.32])),
        size_mm=size,
        t_clinical=t_clinical,
        t_pathological=t_pathological,
        nodes_positive=positive,
        nodes_examined=examined,
        axilla=axilla,
        surgery=surgery,
        planned_surgery=planned,
        margin_mm=float(rng.choice([0.5, 1.0, 1.5]) if rng.random() < 0.22 else rng.integers(3, 13)),
        er_positive=bool(rng.random() < 0.78),
        her2_positive=bool(rng.random() < 0.18),
        chemo=chemo,
        reconstruction=rebuilt,
        protocol=Guideline.RTOG if rng.random() < population.rtog else Guideline.ESTRO,
        imaging_size_mm=max(4, size + int(rng.integers(-9, 10))),
        imaging_nodes=imaging_nodes,
        clips=bool(rng.random() < 0.12 and not mastectomy),
        seroma=bool(rng.random() < 0.06 and not mastectomy),
        contralateral=other,
        contralateral_years=int(rng.integers(3, 19)),
        contralateral_site=_site(rng),
        contralateral_clips=bool(rng.random() < 0.4 and other is Contralateral.LUMPECTOMY),
        contralateral_implant=bool(rng.random() < 0.5 and other is Contralateral.MASTECTOMY),
    )


def _site(rng: np.random.Generator) -> Site:
    return Site(rng.choice(list(Site), p=[0.44, 0.16, 0.16, 0.10, 0.14]))


def _pathology(rng: np.random.Generator, t_clinical: int, chemo: Chemo) -> tuple[int, int]:
    t = max(1, t_clinical - int(rng.integers(1, 3))) if chemo is Chemo.BEFORE else t_clinical
    low, high = {1: (6, 20), 2: (21, 50), 3: (51, 85), 4: (30, 90)}[t]
    return t, int(rng.integers(low, high + 1))


def _nodes(rng: np.random.Generator, axilla: Axilla, node_positive: float) -> tuple[int, int]:
    if axilla is Axilla.SENTINEL:
        examined = int(rng.integers(2, 6))
        chance = 0.75 * node_positive
        positive = int(rng.choice([1, 2], p=[0.7, 0.3])) if rng.random() < chance else 0
        return examined, positive
    examined = int(rng.integers(9, 23))
    if rng.random() > min(1.6 * node_positive, 0.92):
        return examined, 0
    kind = rng.random()
    if kind < 0.6:
        return examined, int(rng.integers(1, 4))
    return examined, int(rng.integers(4, min(examined, 13)))
