"""One model on held-out cases, on the true input, as records that tables and intervals are made of.

The evaluation of a release scores the chain S -> P -> SEG. A study of centres trains one of the three many times,
so here each is scored alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollama.core.errors import DataError
from rollama.core.files import write_json, write_text
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset
from rollama.data.tokenization import source_and_answer
from rollama.evaluation.cache import MaskCache
from rollama.evaluation.run import REFERENCE, Record, evaluate_segmentation, score_answer, write_lines
from rollama.evaluation.statistics import Estimate
from rollama.evaluation.tables import POOLED, make_tables

METRIC = {"s": "rougeL", "p": "fields_mean", "seg": "dice"}
"""The figure of each model in tables and curves."""
SHOWN = {"s": ("rougeL",), "p": ("fields_mean", "rougeL"), "seg": ("dice", "wrong_side", "missed")}
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Entry:
    """A model of a study: its name in the tables, its folder, and the cases it is scored on."""

    system: str
    model: Path
    cases: tuple[Case, ...]


def held_out(data: Dataset, limit: int | None = None, centre: str | None = None) -> tuple[Case, ...]:
    """Test and external cases, at most `limit` a centre and split; of one centre where it is named.

    Raises:
        DataError: there are none.
    """
    found: list[Case] = []
    for name in data.info.centres if centre is None else (centre,):
        for split in (Split.TEST, Split.EXTERNAL):
            found += data.select(split, centre=name)[:limit]
    if not found:
        raise DataError(f"{data.root}: no held-out case" + (f" of centre {centre}" if centre else ""))
    return tuple(found)


def score(what: str, entry: Entry, cache: Path, content_hash: str, progress: Progress | None = None) -> list[Record]:
    """Records of a model on its cases.

    Args:
        what: s, p or seg.
        entry: the model.
        cache: folder for predicted masks.
        content_hash: of the data set.
        progress: called with (system, cases done, cases in all).
    """

    def done(number: int, total: int) -> None:
        if progress:
            progress(entry.system, number, total)

    if what == "seg":
        from rollama.segmentation.predict import SegmentationModel

        network = SegmentationModel.load(entry.model)
        plans = {case.case_id: case.plan_text for case in entry.cases}
        masks = MaskCache(cache, network.identity, content_hash)
        return evaluate_segmentation(network, entry.cases, plans, masks, entry.system, progress=done)
    from rollama.text.generate import TextModel

    task = Task(what)
    model = TextModel.load({task: entry.model})
    answers = model.generate(task, [source_and_answer(task, case)[0] for case in entry.cases], done)
    return [
        score_answer(case, task, entry.system, REFERENCE, answer.text, answer.finished)
        for case, answer in zip(entry.cases, answers, strict=True)
    ]


def write_study(
    out: Path, what: str, records: Sequence[Record], about: Mapping[str, Any], synthetic: bool, title: str
) -> list[dict[str, Any]]:
    """Write `cases.jsonl`, `centres.json` and `centres.md`; returns the rows of the tables."""
    rows = make_tables(records)
    write_lines(out / "cases.jsonl", records, keep_text=False)
    write_json(out / "centres.json", {**about, "task": what, "synthetic": synthetic, "tables": rows})
    write_text(out / "centres.md", markdown(what, rows, title, synthetic))
    return rows


def markdown(what: str, rows: Sequence[Mapping[str, Any]], title: str, synthetic: bool) -> str:
    """A table a metric: systems down, centres across, each cell mean, 95 % interval and number of cases."""
    lines = [f"# {title}", ""]
    if synthetic:
        lines += ["Synthetic patients. Research use only.", ""]
    groups = list(dict.fromkeys((row["split"], row["centre"]) for row in rows))
    groups.sort(key=lambda group: (group[0], group[1] == POOLED, group[1]))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    found = {(row["system"], row["split"], row["centre"]): row for row in rows}
    for metric in SHOWN[what]:
        lines += [f"## {metric}", "", "| | " + " | ".join(f"{centre} ({split})" for split, centre in groups) + " |"]
        lines += ["|---" * (len(groups) + 1) + "|"]
        for system in systems:
            cells = []
            for split, centre in groups:
                row = found.get((system, split, centre))
                cells.append("" if row is None else f"{(value := Estimate(**row['metrics'][metric]))}, n={value.n}")
            lines.append(f"| {system} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
