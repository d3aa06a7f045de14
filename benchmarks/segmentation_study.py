"""Which of SEG's methods is better, and is it certain? python -m benchmarks.segmentation_study WORKSPACE [--steps 400]

Trains vision-only, text-guided, NESEG and CESEG with several seeds on the `local` cohort and measures each on the
internal test split and on the unseen centre: on reference plans, on the same plans with slips of the keyboard (text
that no longer parses), and on generated plans where an evaluation of S and P has left some (`--plans
runs/local/evaluation/predictions.jsonl`). A figure is the mean over patients of a patient's mean over seeds; intervals
resample patients, so they say how certain the difference is for these trainings and other patients.

The same command goes on where it was stopped; models and masks are kept in WORKSPACE.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rollama.cli.progress import bar

METHODS = ("vision", "plain", "neseg", "ceseg")
NAMES = {"vision": "vision-only", "plain": "text-guided", "neseg": "NESEG", "ceseg": "CESEG"}
MEASURES = ("dice", "surface_dice_3mm", "hd95_mm", "wrong_side", "missed")
OBEDIENCE = ("success", "leakage", "leakage_strict")
Values = dict[str, float]


def train(workspace: Path, dataset: Path, steps: int, seeds: Sequence[int], more: Sequence[str]) -> None:
    """Train what is missing."""
    from rollama.cli.train import What, train_model
    from rollama.presets import load_preset

    for seed in seeds:
        for method in METHODS:
            changes = [f"segmentation.steps={steps}", f"segmentation.method={method}", f"segmentation.seed={seed}"]
            train_model(What.SEG, load_preset("local", [*changes, *more]), dataset, workspace, f"{method}-{seed}")


def measure(
    model: Path, dataset: Path, generated: Mapping[str, str], out: Path, limit: int | None, edited: bool
) -> list[Any]:
    """All records of one model; kept in `out`, one file a model. `edited`: edited plans as well."""
    from rollama.core.config import hash_json
    from rollama.core.files import write_text
    from rollama.data.dataset import open_dataset
    from rollama.evaluation.edits import misspelt
    from rollama.evaluation.run import GENERATED, Record
    from rollama.segmentation.predict import SegmentationModel

    path = out / f"{model.name}.jsonl"
    loaded = SegmentationModel.load(model)
    data = open_dataset(dataset, check_volumes=False)
    key = hash_json([loaded.identity, data.info.content_hash, limit, edited, sorted(generated.items())])
    if path.is_file():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        if lines and lines[0] == {"key": key}:
            return [Record(**line) for line in lines[1:]]
    cases = held_out(data, limit)
    plans = {"reference": {case.case_id: case.plan_text for case in cases}}
    if loaded.config.uses_text:
        plans["misspelt"] = {case.case_id: misspelt(case.plan_text, case.case_id) for case in cases}
        plans[GENERATED] = {case.case_id: generated[case.case_id] for case in cases if case.case_id in generated}
    with bar(f"measuring {model.name}", len(plans) + 1) as update:
        edited = loaded.config.uses_text and edited
        records = scored(
            loaded, model.name, data, cases, plans, edited, out, lambda done, note: update(done, note=note)
        )
        update(len(plans) + 1)
    write_text(path, "".join(json.dumps(line) + "\n" for line in ({"key": key}, *map(asdict, records))))
    return records


def scored(
    model: Any,
    name: str,
    data: Any,
    cases: Sequence[Any],
    plans: Mapping[str, Mapping[str, str]],
    edited: bool,
    out: Path,
    begun: Callable[[int, str], object],
    patients: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """Records of a loaded model.

    Args:
        plans: source -> case id -> plan text.
        edited: edited plans as well.
        out: where masks are kept.
        begun: called with (sources done, the next one).
        patients: called with (patients done, all of them) over the edited plans.
    """
    from rollama.evaluation.answers import Answers
    from rollama.evaluation.cache import MaskCache
    from rollama.evaluation.counterfactual import evaluate_counterfactual, pooled
    from rollama.evaluation.run import evaluate_segmentation

    cache = MaskCache(out / "cache", model.identity, data.info.content_hash)
    records = []
    for done, (source, texts) in enumerate(plans.items()):
        begun(done, source)
        some = [case for case in cases if case.case_id in texts]
        records += evaluate_segmentation(model, some, texts, cache, name, source)
    if edited:
        begun(len(plans), "edited plans")
        found = evaluate_counterfactual(model, cases, cache, Answers.of(data.info), name, patients)
        records += [*found, *pooled(found)]
    return records


def written_plans(path: Path) -> dict[str, str]:
    """Case id -> the plan that S and P wrote, from an evaluation's predictions.jsonl."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["case_id"]: line["text"] for line in lines if (line["task"], line["source"]) == ("p", "generated")}


def held_out(data: Any, limit: int | None) -> list[Any]:
    """Test and external cases with a target of a data set, of at most `limit` cases a centre and split."""
    from rollama.data.case import Split

    return [
        case
        for centre in data.info.centres
        for split in (Split.TEST, Split.EXTERNAL)
        for case in data.select(split, centre=centre)[:limit]
        if case.plan is not None and case.plan.has_target
    ]


def per_case(records: Sequence[Any], metric: str) -> dict[tuple[str, str, str], dict[str, tuple[float, str]]]:
    """(method, source, split) -> case -> (mean over seeds, centre); NaN where no seed has a value."""
    values: dict[tuple[str, str, str], dict[str, list[tuple[float, str]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if metric in record.metrics:
            key = (record.system.rsplit("-", 1)[0], record.source, str(record.split))
            values[key][record.case_id].append((record.metrics[metric], record.centre))
    means: dict[tuple[str, str, str], dict[str, tuple[float, str]]] = {}
    for key, cases in values.items():
        means[key] = {}
        for name, found in cases.items():
            known = [value for value, _ in found if not math.isnan(value)]
            means[key][name] = (sum(known) / len(known) if known else math.nan, found[0][1])
    return means


def tables(records: Sequence[Any]) -> str:
    """Means with intervals, then paired differences of each method to CESEG, as Markdown."""
    from rollama.evaluation.statistics import estimate, paired_difference

    head = "| measure | plans | cases | method | seeds | mean [95 % CI] | n | CESEG minus it |"
    lines = [head, "|---" * 8 + "|"]
    seeds: dict[str, set[str]] = defaultdict(set)
    for record in records:
        method, _, seed = record.system.rpartition("-")
        seeds[method].add(seed)
    for metric in (*MEASURES, *OBEDIENCE):
        found = per_case(records, metric)
        order = sorted(found, key=lambda key: (key[1], key[2], list(seeds).index(key[0])))
        for method, source, split in order:
            if metric in OBEDIENCE and source not in ("all edits that matter", *HARMLESS):
                continue
            cases = found[method, source, split]
            values, centres = zip(*cases.values(), strict=True)
            best = found.get(("ceseg", source, split), {})
            common = sorted(set(best) & set(cases)) if method != "ceseg" else []
            difference = ""
            if common:
                difference = str(
                    paired_difference(
                        [best[name][0] for name in common],
                        [cases[name][0] for name in common],
                        [cases[name][1] for name in common],
                    )
                )
            value = estimate(values, centres)
            lines.append(
                f"| {metric} | {source} | {split} | {NAMES.get(method, method)} | {len(seeds[method])} | {value} | "
                f"{value.n} | {difference} |"
            )
    return "\n".join(lines)


HARMLESS = ("boost on or off", "other dose", "other technique", "reworded 1", "reworded 2", "misspelt", "blank",
            "nonsense", "shuffled", "both sides")  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--dataset", type=Path, help="Default: WORKSPACE/cohort, made when it is missing.")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="more", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--plans", type=Path, help="predictions.jsonl of an evaluation with S and P")
    parser.add_argument("--limit", type=int, help="at most so many cases a centre and split")
    parser.add_argument(
        "--edited", nargs="*", metavar="NAME", help="edited plans only for models whose names begin so; default: all"
    )
    parser.add_argument("--measure-only", action="store_true", help="take the models that are there")
    arguments = parser.parse_args()
    from rollama.cli.cohort import make_once
    from rollama.presets import load_preset

    dataset = arguments.dataset or arguments.workspace / "cohort"
    if arguments.dataset is None:
        preset = load_preset("local", arguments.more)
        make_once(dataset, preset.cohort, parts=preset.needs_parts)
    if not arguments.measure_only:
        train(arguments.workspace, dataset, arguments.steps, range(arguments.seeds), arguments.more)
    generated = written_plans(arguments.plans) if arguments.plans else {}
    out = arguments.workspace / "study"
    records: list[Any] = []
    for manifest in sorted((arguments.workspace / "models").glob("*-[0-9]/manifest.json")):
        name = manifest.parent.name
        edited = not arguments.edited or any(name.startswith(start) for start in arguments.edited)
        records += measure(manifest.parent, dataset, generated, out, arguments.limit, edited)
    print(tables(records))


if __name__ == "__main__":
    main()
