"""The protocol: what a new model must show before it takes the place of the released one, written down beforehand.

It is a YAML file that people sign (see `keys`), so that nobody chooses metrics, margins or subgroups after seeing the
figures. It also lists what may change from one release to the next without a new assessment: what regulators call a
predetermined change control plan. Rules that contradict each other, or that could never or would always be met, are
refused when the file is read, with their keys (`contradictions`).
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rollama.core.config import StrictModel, build, parse_yaml
from rollama.core.errors import ConfigError
from rollama.core.registry import Decoding
from rollama.release import metrics

Task = Literal["s", "p", "seg", "side-swap", "counterfactual"]
Bound = Literal["mean", "low"]
REFERENCE, GENERATED = "reference", "generated"
SUBGROUPS = ("side", "surgery", "volume", "nodes", "boost", "guideline", "target")
"""Groups that follow from the true plan; `provenance.KEY` names a fact of the data set's own."""


class Figure(StrictModel):
    """One figure of an evaluation: the metric of a task, on some input."""

    task: Task
    metric: str
    input: str = Field(REFERENCE, description="reference, generated (the chain), or the name of a corruption")

    @model_validator(mode="after")
    def _known(self) -> Self:
        metrics.find(self.task, self.metric)
        if self.task in ("side-swap", "counterfactual") and self.input != REFERENCE:
            raise ValueError(f"{self.task} has no other input than {REFERENCE}")
        return self

    @property
    def name(self) -> str:
        """Such as `seg.dice` or `seg.dice (noise)`."""
        return f"{self.task}.{self.metric}" + ("" if self.input == REFERENCE else f" ({self.input})")

    @property
    def better(self) -> int:
        """+1 where higher is better, -1 where lower is."""
        return metrics.find(self.task, self.metric).better


class Rule(Figure):
    """Non-inferiority: the candidate may be worse than the released model by less than the margin.

    `margin` holds for all cases together, `centre_margin` at every centre and `subgroup_margin` in every subgroup. All
    are in the metric's unit; a part left out is as wide as the one before it.
    """

    margin: float = Field(gt=0)
    centre_margin: float | None = Field(None, gt=0)
    subgroup_margin: float | None = Field(None, gt=0)

    @property
    def at_centre(self) -> float:
        """The margin at a centre."""
        return self.centre_margin or self.margin

    @property
    def in_subgroup(self) -> float:
        """The margin in a subgroup."""
        return self.subgroup_margin or self.at_centre


class Limit(Figure):
    """A hard limit on the candidate itself; also a first release has to keep it."""

    at_least: float | None = None
    at_most: float | None = None
    bound: Literal["mean", "low", "high"] = Field(
        "mean", description="what is compared: the mean, or an end of its interval"
    )
    each: Literal["all", "centre"] = Field("centre", description="all cases together, or also every centre")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("accepted is one of at_least and at_most")
        return self


class Cases(StrictModel):
    """Fewer cases are no evidence: the answer is then `under-powered`, not `passed`."""

    all: int = Field(30, ge=2)
    centre: int = Field(10, ge=2)
    subgroup: int = Field(8, ge=2)


class Centres(StrictModel):
    """The worst-centre rule: every centre is judged by itself, so the worst one decides."""

    bound: Bound = Field("low", description="low: the interval's worse end; mean: the mean difference alone")
    needed: tuple[str, ...] = Field((), description="centres that have to be judged; without cases: under-powered")


class Subgroups(StrictModel):
    """Which groups of patients are judged by themselves."""

    by: tuple[str, ...] = Field((), description=f"of {', '.join(SUBGROUPS)}, or provenance.KEY")
    bound: Bound = "mean"
    small: Literal["refuse", "tell"] = Field(
        "refuse", description="a group below cases.subgroup: refuse as under-powered, or tell and go on"
    )


class Inputs(StrictModel):
    """What is measured besides the held-out cases as they are."""

    counterfactual: bool = False
    corrupted: tuple[str, ...] = ()
    plan_decoding: Decoding = Decoding.FREE


class Changes(StrictModel):
    """What may differ from the released model: keys of its configuration, `*` standing for any part of a name."""

    s: tuple[str, ...] = ()
    p: tuple[str, ...] = ()
    seg: tuple[str, ...] = ()
    base: bool = Field(False, description="another base language model or text encoder")
    software: bool = Field(False, description="another version of rollama")


class Approval(StrictModel):
    """People who must sign before a promotion (`rollama release approve`)."""

    needed: int = Field(0, ge=0)
    keys: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = Field(
        (), description="ids of the keys that count; empty: every approval key that is trusted"
    )


class Protocol(StrictModel):
    """The whole file."""

    format: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    version: int = Field(ge=1, description="raised whenever anything in the file changes")
    purpose: str = ""
    level: float = Field(0.95, gt=0.5, lt=1, description="coverage of the intervals, two-sided")
    cases: Cases = Cases()
    centres: Centres = Centres()
    subgroups: Subgroups = Subgroups()
    judged_on: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = Field(
        (), description="content hashes of the data sets that may judge; empty: any, which lets the job choose"
    )
    rules: tuple[Rule, ...] = Field(min_length=1)
    limits: tuple[Limit, ...] = ()
    inputs: Inputs = Inputs()
    changes: Changes = Changes()
    approval: Approval = Approval()


def parse_protocol(data: bytes, source: str) -> Protocol:
    """Read a protocol from the file's bytes.

    Raises:
        ConfigError: not a YAML mapping, a key is unknown or a value not accepted, or rules contradict each other.
    """
    from rollama.release.contradictions import contradictions

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{source}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    protocol = build(Protocol, parse_yaml(text, source), source)
    if found := contradictions(protocol):
        raise ConfigError(f"{source}: " + "; ".join(found))
    return protocol


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that is signed: what is hashed is what is parsed.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read it ({error.strerror})") from error


def digest(data: bytes) -> str:
    """SHA-256 (hex) of a protocol file."""
    return hashlib.sha256(data).hexdigest()


def example() -> str:
    """The protocol that comes with the package, commented."""
    return (resources.files(__package__ or "rollama.release") / "protocol.yaml").read_text(encoding="utf-8")
