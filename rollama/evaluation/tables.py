"""From per-case records to `evaluation.json`: per centre and pooled per split, each mean with interval and n."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rollama.core.config import hash_json
from rollama.core.files import write_json
from rollama.core.manifest import run_manifest
from rollama.data.dataset import DatasetInfo
from rollama.evaluation import counterfactual, fields, levels, masks, rouge, statistics
from rollama.evaluation.run import Record, write_lines

YES_NO = {*fields.GETTERS, *fields.FLAGS, fields.DOUBTED,
          "fields_all", "unparsed", "cut_off", "missed", "invented", "both_empty", "wrong_side", "refused",
          "moved_across", "followed_plan", "success", "levels_right", "flagged"}  # fmt: skip
SETTINGS = {
    "rouge": rouge.SETTINGS,
    "statistics": statistics.SETTINGS,
    "key_fields": list(fields.KEY_FIELDS),
    "hd95": "max of the directed 95th percentiles of voxel surface distances, mm; a miss counts as the image diagonal",
    "hd95_pooled": "95th percentile of both directions' distances together, mm",
    "surface_dice": "share of surface area within 2, 3, 5 mm (DeepMind's definition)",
    "levels": f"a nodal level is held from {levels.HELD:.0%} of its volume on",
    "counterfactual": f"leakage: changes over {counterfactual.TOLERANCE_MM:g} mm beyond what was edited, per target",
    "calibration_error": "15 bins, voxels within 20 mm of the predicted target, on the model's grid",
    "side": "larger part of the mask relative to the body's median patient x (RAS)",
}
POOLED = "all"
OURS = {"RO-LLaMA", "SEG++"}


def make_tables(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row a (task, system, source, split, centre), and one pooled over the centres of a split (`centre` = all).

    Raises:
        ArithmeticError: a table's mean Dice and mean IoU contradict each other (a bug).
    """
    groups: dict[tuple[str, str, str, str, str], list[Record]] = {}
    for record in (*records, *counterfactual.pooled(records)):
        for centre in (POOLED, record.centre):
            key = (str(record.task), record.system, record.source, str(record.split), centre)
            groups.setdefault(key, []).append(record)
    rows = []
    for (task, system, source, split, centre), members in groups.items():
        metrics = {name: _summarise(name, members).to_dict() for name in members[0].metrics}
        if "dice" in metrics and metrics["dice"]["n"]:
            masks.check_table(metrics["dice"]["mean"], metrics["iou"]["mean"])  # type: ignore[arg-type]  # n > 0
        rows.append({
            "task": task, "system": system, "source": source, "split": split, "centre": centre,
            "n": len(members), "metrics": metrics,
        })  # fmt: skip
    return rows


def compare_systems(records: Sequence[Record], task: str, metric: str, a: str, b: str, split: str) -> dict[str, Any]:
    """Paired difference A - B of a metric on reference inputs over the cases that both have."""
    values = {
        system: {
            r.case_id: (r.metrics[metric], r.centre)
            for r in records
            if (r.task, r.system, r.split, r.source) == (task, system, split, "reference")
        }
        for system in (a, b)
    }
    common = sorted(set(values[a]) & set(values[b]))
    result = statistics.paired_difference(
        [values[a][name][0] for name in common],
        [values[b][name][0] for name in common],
        [values[a][name][1] for name in common],
    )
    return {"task": task, "metric": metric, "a": a, "b": b, "split": split, "difference": result.to_dict()}


def write_evaluation(
    out: Path, records: Sequence[Record], info: DatasetInfo, models: Mapping[str, str], **extra: Any
) -> dict[str, Any]:
    """Write `cases.jsonl`, `evaluation.json` and, for synthetic data only, `predictions.jsonl`.

    Args:
        out: folder.
        records: all records.
        info: the dataset; its `synthetic` decides whether generated texts may be written.
        models: system -> hash of its weights.
        extra: more for the manifest, such as timings in seconds.

    Returns:
        What `evaluation.json` holds.
    """
    comparisons = []
    for task, metric in (("s", "rougeL"), ("p", "rougeL"), ("p", "fields_mean"), ("seg", "dice")):
        systems = list(dict.fromkeys(r.system for r in records if r.task == task and r.source == "reference"))
        for ours in (name for name in systems if name in OURS):
            comparisons += [
                compare_systems(records, task, metric, ours, other, split)
                for other in systems
                if other != ours
                for split in sorted({str(r.split) for r in records if r.task == task})
            ]
    versions = {name: importlib.metadata.version(name) for name in ("rouge-score", "scikit-learn", "scipy")}
    evaluation = run_manifest(
        "evaluation",
        SETTINGS,
        hash_json(SETTINGS),
        dataset={"name": info.name, "synthetic": info.synthetic, "label": info.label, "hash": info.content_hash},
        external_centres=list(info.external_centres),
        models=dict(models),
        metric_packages=versions,
        tables=make_tables(records),
        comparisons=[item for item in comparisons if item["difference"]["n"]],
        **extra,
    )
    write_lines(out / "cases.jsonl", records, keep_text=False)
    if info.synthetic:
        write_lines(out / "predictions.jsonl", [r for r in records if r.text is not None], keep_text=True)
    write_json(out / "evaluation.json", evaluation)
    return evaluation


def _summarise(name: str, members: Sequence[Record]) -> statistics.Estimate:
    values = [record.metrics[name] for record in members]
    # Over all edits of a patient's plan, or over several trainings, a yes/no metric is a share.
    share = members[0].source == counterfactual.ALL_EDITS or any(0 < value < 1 for value in values)
    if name in YES_NO and not share:
        return statistics.rate(values)
    return statistics.estimate(values, [record.centre for record in members])
