"""The answer of the gate: every rule with its figure, its limit and what became of it; never one average."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from rollama import RESEARCH_ONLY
from rollama.core.config import StrictModel
from rollama.core.errors import ReleaseError


class Outcome(StrEnum):
    """What became of a rule, or of all of them. `told` is a remark that decides nothing."""

    PASSED = "passed"
    REFUSED = "refused"
    UNDERPOWERED = "under-powered"
    TOLD = "told"


class Finding(StrictModel):
    """One rule in one group.

    `value`, `low`, `high`: for a rule, the difference candidate minus released, turned so that positive is better, with
    its interval; for a limit, the candidate's own figure. `limit` is what it was held against (minus the margin for a
    rule). Units are the metric's: shares in [0, 1], distances in mm.
    """

    kind: Literal["non-inferiority", "limit", "change"]
    figure: str
    group: str = "all centres"
    part: Literal["all", "centre", "subgroup"] = "all"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    limit: float | None = None
    released: float | None = None
    candidate: float | None = None
    outcome: Outcome
    remark: str = ""

    def __str__(self) -> str:
        shown = "" if self.value is None else f" {self.value:+.3f}" if self.kind == "non-inferiority" else (
            f" {self.value:.3f}"
        )  # fmt: skip
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        against = "" if self.limit is None else f" against {self.limit:.3f}"
        return f"{self.figure}, {self.group} (n = {self.n}):{shown}{interval}{against}; {self.remark}".rstrip("; ")


class Parts(StrictModel):
    """Three models by their references in a store; their digests alone are what a release is."""

    s: str
    p: str
    seg: str

    @property
    def digests(self) -> dict[str, str]:
        """Of each model's content, wherever it is stored."""
        return {name: str(getattr(self, name)).rpartition("@sha256:")[2] for name in ("s", "p", "seg")}

    @property
    def release(self) -> str:
        """Digest of the three together."""
        from rollama.core.config import hash_json

        return hash_json(self.digests)


class Verdict(StrictModel):
    """What `rollama release evaluate` found."""

    format: Literal[1] = 1
    notice: str = RESEARCH_ONLY
    synthetic: bool = Field(description="the figures come from generated patients")
    created: str
    candidate: Parts
    hashes: dict[str, str] = Field(description="model -> SHA-256 of its weights")
    replaces: str | None = Field(None, description="digest of the release it was compared with; None for a first one")
    replaces_record: int = Field(0, description="number of the record that released it")
    protocol: dict[str, Any] = Field(description="name, version, sha256")
    dataset: dict[str, Any] = Field(description="of the evaluation: name, content hash, cases")
    trained_on: dict[str, list[str]] = Field(description="model -> content hashes of its training data")
    tables: dict[str, str] = Field(description="SHA-256 of the per-case scores that the findings follow from")
    findings: tuple[Finding, ...]
    outcome: Outcome

    def failed(self) -> list[Finding]:
        """What stands against a release: refusals first, then what could not be decided."""
        order = (Outcome.REFUSED, Outcome.UNDERPOWERED)
        return [item for outcome in order for item in self.findings if item.outcome is outcome]


def overall(findings: Sequence[Finding]) -> Outcome:
    """Refused when any rule is; else under-powered when any is; else passed."""
    outcomes = {finding.outcome for finding in findings}
    for outcome in (Outcome.REFUSED, Outcome.UNDERPOWERED):
        if outcome in outcomes:
            return outcome
    return Outcome.PASSED


class Refused(ReleaseError):
    """The gate refuses."""

    exit_code = 3


class Underpowered(ReleaseError):
    """The gate cannot tell: too few cases, or intervals too wide for the margins."""

    exit_code = 4


class Overtaken(ReleaseError):
    """Another release came first."""

    exit_code = 5


def demand(verdict: Verdict) -> None:
    """Raise unless the verdict is `passed`, naming every rule, group and figure against it.

    Raises:
        Refused, Underpowered: it is not.
    """
    if verdict.outcome is Outcome.PASSED:
        return
    against = verdict.failed()
    shown = "\n  ".join(f"{item.outcome}: {item}" for item in against[:20])
    more = f"\n  and {len(against) - 20} more" if len(against) > 20 else ""
    kind = Refused if verdict.outcome is Outcome.REFUSED else Underpowered
    raise kind(f"not released, {verdict.outcome}: {len(against)} of {len(verdict.findings)} findings\n  {shown}{more}")
