"""Per-case scores of one release, as `rollama evaluate` writes them, and the groups that their cases belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollama.core.errors import DataError
from rollama.core.files import hash_file, read_json
from rollama.data.case import TextCase
from rollama.evaluation import counterfactual
from rollama.evaluation.run import Record, from_line
from rollama.evaluation.tables import OURS
from rollama.release.protocol import REFERENCE, Figure

TABLE, RESULTS = "cases.jsonl", "evaluation.json"
SOURCES = {"side-swap": "mirrored", "counterfactual": counterfactual.ALL_EDITS}
"""What the records of a task without inputs name as theirs."""
Groups = Mapping[str, Mapping[str, str]]
"""Case id -> group -> the case's value, such as {"p17": {"side": "left"}}."""


@dataclass(frozen=True)
class Scores:
    """`values`: (task, input, metric) -> case id -> value; `centres`: case id -> centre."""

    values: dict[tuple[str, str, str], dict[str, float]]
    centres: dict[str, str]
    table_hash: str = ""

    @classmethod
    def of(cls, records: Iterable[Record], table_hash: str = "") -> Scores:
        """Take the records of our own systems; baselines and single edits are left out."""
        mine = [record for record in records if record.system in OURS]
        values: dict[tuple[str, str, str], dict[str, float]] = {}
        centres: dict[str, str] = {}
        single = [record for record in mine if record.task != counterfactual.TASK]
        for record in (*single, *counterfactual.pooled(mine)):
            centres[record.case_id] = record.centre
            for name, value in record.metrics.items():
                values.setdefault((str(record.task), record.source, name), {})[record.case_id] = value
        return cls(values, centres, table_hash)

    def get(self, figure: Figure) -> dict[str, float] | None:
        """Case id -> value of a figure; None when it was not measured."""
        source = SOURCES.get(figure.task, figure.input if figure.input else REFERENCE)
        return self.values.get((figure.task, source, figure.metric))


def read_scores(folder: Path) -> tuple[Scores, dict[str, Any]]:
    """The scores and `evaluation.json` of a folder that `rollama evaluate` wrote.

    Raises:
        DataError: there is none, or a line is not readable.
    """
    path = folder / TABLE
    results = read_json(folder / RESULTS)
    if not isinstance(results, dict) or not isinstance(results.get("models"), dict):
        raise DataError(f"{folder / RESULTS}: holds no evaluation; expected what 'rollama evaluate' writes")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read it ({type(error).__name__})") from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(from_line(line))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: line {number} is not the scores of a case") from error
    return Scores.of(records, hash_file(path)), results


def groups_of(cases: Iterable[TextCase], by: Iterable[str]) -> dict[str, dict[str, str]]:
    """The groups of cases by their true plans; a case without a plan that can be read is in no group of those."""
    names = tuple(by)
    found: dict[str, dict[str, str]] = {}
    for case in cases:
        mine = {name: value for name in names if (value := _value(case, name)) is not None}
        found[case.case_id] = mine
    return found


def _value(case: TextCase, name: str) -> str | None:
    if name.startswith("provenance."):
        value = case.provenance.get(name.removeprefix("provenance."))
        return None if value is None or value == "" else str(value)
    plan = case.plan
    if plan is None:
        return None
    getters: dict[str, Callable[[], str | None]] = {
        "side": lambda: str(plan.side),
        "surgery": lambda: str(plan.surgery),
        "volume": lambda: str(plan.volume) if plan.volume else None,
        "nodes": lambda: "nodes" if plan.levels else "no nodes",
        "boost": lambda: "boost" if plan.boost else "no boost",
        "guideline": lambda: str(plan.guideline) if plan.guideline else None,
        "target": lambda: "target" if plan.has_target else "no target",
    }
    return getters[name]()
