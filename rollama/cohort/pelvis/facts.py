"""What is true of a man with prostate cancer, and the plan that follows from it by a table.

The rules are few, and each row says where it comes from: usual practice as in the ESTRO ACROP and EAU guidelines and
the trials named, from knowledge of them and not read anew. "Cohort convention" marks what only makes a choice definite.
For each decision the first row that holds is taken. Not treatment advice.

There are three kinds of target, each larger than the one before: the gland or its bed alone; with the
seminal vesicles; with the pelvic nodes (in intact patients the vesicles as well). Nothing of what decides can be seen
on the CT but the prostatectomy itself, which leaves the choice between bed and bed with nodes open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

GLEASON = {(3, 3): 1, (3, 4): 2, (4, 3): 3, (4, 4): 4, (4, 5): 5, (5, 4): 5}
"""Gleason pattern and ISUP grade group."""
CLINICAL = ("1c", "2a", "2b", "2c", "3a", "3b")
PATHOLOGICAL = ("2", "3a", "3b")
OLD = 75
NODE_RISK = 20
"""Percent of risk of involved nodes (Roach's formula) from which pelvic nodes are treated in high risk (POP-RT)."""
SEVERE_IPSS = 20


class Extent(StrEnum):
    """The three kinds of target."""

    PRIMARY = "primary"
    VESICLES = "with vesicles"
    PELVIC = "with pelvic nodes"


class Psma(StrEnum):
    """What a PSMA-PET showed. `LOCAL` is a relapse where the gland was; `CLEAR` nothing beyond an intact gland."""

    NOT_DONE = "not done"
    CLEAR = "clear"
    LOCAL = "local"
    NODE = "node"


class Risk(StrEnum):
    """NCCN's groups; very low and very high are not told apart."""

    LOW = "low"
    FAVOURABLE = "favourable intermediate"
    UNFAVOURABLE = "unfavourable intermediate"
    HIGH = "high"


class Past(StrEnum):
    """Something in his past that means nothing for the plan."""

    NONE = "none"
    BPH = "bph"
    HERNIA = "hernia"
    COLONOSCOPY = "colonoscopy"


@dataclass(frozen=True)
class Facts:
    """One patient.

    `psa` in ng/ml: at diagnosis, after prostatectomy the present one. `t` is clinical, after prostatectomy
    pathological. `scan_node` says whether MRI called a pelvic node enlarged; a PSMA-PET overrules it. `reconsidered`
    marks a treatment that was planned and not done.
    """

    age: int
    psa: float
    gleason: tuple[int, int]
    t: str
    cores_positive: int
    cores: int
    psma: Psma
    scan_node: bool
    ipss: int
    prostatectomy: bool
    margin_positive: bool
    nodes_positive: int
    nodes_examined: int
    first_psa: float
    years: int
    past: Past
    reconsidered: bool

    @property
    def grade_group(self) -> int:
        """ISUP grade group, 1 to 5."""
        return GLEASON[self.gleason]

    @property
    def node(self) -> bool:
        """Whether a pelvic node counts as involved: by pathology, by PSMA-PET, by MRI where no PET was done."""
        seen = self.scan_node and self.psma is Psma.NOT_DONE and not self.prostatectomy
        return self.nodes_positive > 0 or self.psma is Psma.NODE or seen

    @property
    def node_risk(self) -> int:
        """Risk of involved nodes in percent before surgery: 2/3 PSA + 10 (Gleason sum - 6), after Roach."""
        return min(99, round(2 * self.psa / 3 + 10 * (sum(self.gleason) - 6)))

    @property
    def risk(self) -> Risk:
        """NCCN risk group of an intact patient."""
        group = self.grade_group
        if self.t.startswith("3") or group >= 4 or self.psa > 20:
            return Risk.HIGH
        factors = (self.t in ("2b", "2c")) + (group >= 2) + (self.psa >= 10)
        if not factors:
            return Risk.LOW
        many = 2 * self.cores_positive >= self.cores
        return Risk.UNFAVOURABLE if factors > 1 or group == 3 or many else Risk.FAVOURABLE


@dataclass(frozen=True)
class Rule:
    """One row: when it holds, what it gives, and where it comes from."""

    when: str
    holds: Callable[[Facts], bool]
    gives: str
    source: str


EXTENTS = (
    Rule("a pelvic node is involved", lambda f: f.node, Extent.PELVIC, "ESTRO ACROP, NRG nodal atlas; usual practice"),
    Rule("intact, high risk and node risk of 20 % or more",
         lambda f: not f.prostatectomy and f.risk is Risk.HIGH and f.node_risk >= NODE_RISK, Extent.PELVIC, "POP-RT"),
    Rule("intact, high or unfavourable intermediate risk",
         lambda f: not f.prostatectomy and f.risk in (Risk.HIGH, Risk.UNFAVOURABLE), Extent.VESICLES,
         "ESTRO ACROP; cohort convention: whole vesicles"),
    Rule("intact, any other", lambda f: not f.prostatectomy, Extent.PRIMARY, "ESTRO ACROP"),
    Rule("after prostatectomy, clear margins with grade group 4-5 or pT3b",
         lambda f: not f.margin_positive and (f.grade_group >= 4 or f.t == "3b"), Extent.PELVIC,
         "NRG/RTOG 0534; cohort convention: clear margins"),
    Rule("after prostatectomy, any other", lambda f: True, Extent.PRIMARY, "usual practice"),
)  # fmt: skip
"""How far the target reaches."""

DOSES = (
    Rule("after prostatectomy, local relapse on PSMA-PET",
         lambda f: f.prostatectomy and f.psma is Psma.LOCAL, "70 Gy in 35 fractions",
         "SAKK 09/10 (upper arm); cohort convention: for a visible relapse"),
    Rule("after prostatectomy, 75 years or older", lambda f: f.prostatectomy and f.age >= OLD,
         "52.5 Gy in 20 fractions", "RADICALS-RT schedule; cohort convention: age"),
    Rule("after prostatectomy, any other", lambda f: f.prostatectomy, "64 Gy in 32 fractions", "SAKK 09/10"),
    Rule("intact, IPSS of 20 or more", lambda f: f.ipss >= SEVERE_IPSS, "78 Gy in 39 fractions",
         "EAU; cohort convention: severe symptoms"),
    Rule("intact, with pelvic nodes", lambda f: extent_for(f) is Extent.PELVIC, "68 Gy in 25 fractions", "POP-RT"),
    Rule("intact, gland alone", lambda f: extent_for(f) is Extent.PRIMARY, "36.25 Gy in 5 fractions", "PACE-B"),
    Rule("intact, any other", lambda f: True, "60 Gy in 20 fractions", "CHHiP"),
)  # fmt: skip
"""The prescription to the primary target."""


def rows() -> list[tuple[str, str, str, str]]:
    """All rules as (decides, when, gives, source) for people to read, in the order in which they are tried."""
    tables = (("target", EXTENTS), ("prescription", DOSES))
    return [(decides, rule.when, rule.gives, rule.source) for decides, rules in tables for rule in rules]


def extent_for(facts: Facts) -> Extent:
    """How far a patient's target reaches, by the first row of `EXTENTS` that holds."""
    return Extent(next(rule.gives for rule in EXTENTS if rule.holds(facts)))


def plan_text(facts: Facts) -> str:
    """The plan in free text; it has no side and no breast surgery, so it is no plan of `rollama.data.plan`."""
    extent = extent_for(facts)
    volume = "prostate bed" if facts.prostatectomy else "prostate"
    if extent is not Extent.PRIMARY and not facts.prostatectomy:
        volume += " and seminal vesicles"
    nodes = "pelvic" if extent is Extent.PELVIC else "none"
    dose = next(rule.gives for rule in DOSES if rule.holds(facts))
    return f"Volumes: {volume}. Nodes: {nodes}. Prescription: {dose}. Technique: VMAT."


def draw_facts(rng: np.random.Generator, age: float = 69.0, operated: bool | None = None) -> Facts:
    """Draw one patient.

    Args:
        rng: the patient's generator; every patient takes the same number of draws.
        age: the centre's mean age in years.
        operated: whether he had a prostatectomy; drawn (three in ten) unless given.
    """
    had = bool(rng.random() < 0.3)
    had = had if operated is None else operated
    t = rng.random()
    gleasons = list(GLEASON)
    grade = gleasons[int(rng.choice(len(gleasons), p=[0.3, 0.28, 0.14, 0.13, 0.09, 0.06]))]
    clinical = CLINICAL[int(rng.choice(len(CLINICAL), p=[0.42, 0.22, 0.12, 0.06, 0.12, 0.06]))]
    pathological = PATHOLOGICAL[int(rng.choice(len(PATHOLOGICAL), p=[0.4, 0.35, 0.25]))]
    cores, share = int(rng.integers(10, 15)), rng.random()
    done, found, scan = rng.random(), rng.random(), rng.random()
    examined, involved = int(rng.integers(4, 23)), rng.random()
    positive = 1 + int(rng.integers(0, 3)) if involved < 0.14 else 0
    psma = Psma.NOT_DONE
    if done < 0.6:
        psma = Psma.NODE if found < 0.14 else Psma.LOCAL if had and found < 0.5 else Psma.CLEAR
    facts = Facts(
        age=int(np.clip(round(rng.normal(age, 6.5)), 48, 84)),
        psa=round(0.2 + 1.2 * t * t, 2) if had else round(3.2 + 34 * t * t * t * t, 1),
        gleason=grade,
        t=pathological if had else clinical,
        cores_positive=1 + int(share * share * cores),
        cores=cores,
        psma=psma,
        scan_node=bool(scan < (0.5 if psma is Psma.NODE else 0.15)),
        ipss=int(np.clip(round(rng.normal(11, 7)), 1, 32)),
        prostatectomy=had,
        margin_positive=bool(rng.random() < 0.4),
        nodes_positive=positive,
        nodes_examined=examined,
        first_psa=round(float(rng.uniform(4, 19)), 1),
        years=int(rng.integers(1, 8)),
        past=list(Past)[int(rng.integers(len(Past)))],
        reconsidered=bool(rng.random() < 0.4),
    )
    if had:
        return facts
    return replace(facts, margin_positive=False, nodes_positive=0, nodes_examined=0)
