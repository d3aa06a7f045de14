"""Tables and pictures of the study of centres, from the records of its models.

A figure is the mean over patients of a patient's mean over seeds (and, on the unseen centre, over the models that have
no centre of their own there). Intervals resample patients within centres: they say how certain a figure is for these
trainings and other patients, not for other trainings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.centres_study import Job
    from benchmarks.centres_training import Setup
    from rollama.evaluation.run import Record
    from rollama.evaluation.statistics import Estimate

OWN, POOLED, FEDERATED, LEFT_OUT = "local-only, own centre", "pooled", "federated", "leave-one-centre-out"
GOAL = {"p": ("rougeL", "fields_mean"), "seg": ("dice",)}
NEAR = 2.0
"""So many points may the federated model be below the pooled one."""
COLOURS = {OWN: "#b0552f", POOLED: "#333333", FEDERATED: "#1f5fa8", LEFT_OUT: "#7a9a2e"}

Values = dict[str, tuple[float, str]]
"""Case -> (figure, centre)."""


def write_report(workspace: Path, what: str, setup: Setup, found: Mapping[Job, list[Record]]) -> str:
    """Write the tables and pictures of a task to `study/<what>`; returns its report as Markdown."""
    from rollama.centres.scoring import write_study
    from rollama.centres.studies import curve, draw_curve
    from rollama.core.files import write_text
    from rollama.data.dataset import open_texts

    info = open_texts(Path(setup.dataset)).info
    out = workspace / "study" / what
    seeds = sorted({job.seed for job in found})
    about = {"dataset": info.content_hash, "seeds": seeds, "preset": setup.preset, "overrides": list(setup.overrides)}
    main = averaged(what, systems(found))
    few, numbers = few_shot(found)
    parts = []
    title = f"{what}: centres, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    write_study(out / "centres", what, main, about, info.synthetic, title)
    parts.append((out / "centres" / "centres.md").read_text(encoding="utf-8"))
    parts.append(goals(what, main, info.external_centres))
    adapted = averaged(what, few)
    write_study(out / "few-shot", what, adapted, about, info.synthetic, f"{what}: adaptation to a centre left out")
    parts.append((out / "few-shot" / "centres.md").read_text(encoding="utf-8"))
    draw_curve(out / "few-shot.png", what, "a centre left out", curve(what, adapted, numbers), synthetic=info.synthetic)
    draw_systems(out / "centres.png", what, main, info.synthetic)
    text = "\n".join(parts)
    write_text(out / "report.md", text)
    return text


def systems(found: Mapping[Job, list[Record]]) -> list[tuple[str, Record]]:
    """(system of the tables, record); a record can stand for more than one system."""
    rows: list[tuple[str, Record]] = []
    for job, records in found.items():
        for record in records:
            away = record.split == "external"
            match job.kind:
                case "pooled" | "federated":
                    rows.append((job.kind, record))
                case "without":
                    rows.append((LEFT_OUT, record))
                case "local":
                    rows.append((f"local-only {job.centre}", record))
                    if away or record.centre == job.centre:
                        rows.append((OWN, record))
    order = {OWN: 0, POOLED: 1, FEDERATED: 2, LEFT_OUT: 3}
    return sorted(rows, key=lambda row: (order.get(row[0], 9), row[0]))


def few_shot(found: Mapping[Job, list[Record]]) -> tuple[list[tuple[str, Record]], dict[str, int]]:
    """(system, record) of the adaptations, and system -> number of cases. `before` is the model without the centre."""
    numbers = {"before": 0} | {
        f"{number} case{'' if number == 1 else 's'}": number for number in sorted({job.cases for job in found} - {0})
    }
    names = {number: name for name, number in numbers.items()}
    rows = [
        (names[job.cases], record)
        for job, records in found.items()
        if job.kind in ("few", "without")
        for record in records
        if record.centre == job.centre
    ]
    return sorted(rows, key=lambda row: numbers[row[0]]), numbers


def averaged(what: str, rows: Sequence[tuple[str, Record]]) -> list[Record]:
    """One record a system and case: the mean of each shown metric, NaN left out."""
    from dataclasses import replace

    from rollama.centres.scoring import SHOWN

    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for system, record in rows:
        groups[system, record.case_id].append(record)
    merged = []
    for (system, _), members in groups.items():
        metrics = {}
        for name in (*SHOWN[what], *(("iou",) if what == "seg" else ())):
            known = [x for member in members if not math.isnan(x := member.metrics[name])]
            metrics[name] = sum(known) / len(known) if known else math.nan
        merged.append(replace(members[0], system=system, metrics=metrics))
    return merged


def values(records: Sequence[Record], system: str, metric: str) -> Values:
    """A system's figures by case."""
    return {one.case_id: (one.metrics[metric], one.centre) for one in records if one.system == system}


def difference(a: Values, b: Values, keep: Sequence[str]) -> Estimate:
    """Mean of A - B over the cases of the centres in `keep`, paired, in points (hundredths)."""
    from rollama.evaluation.statistics import paired_difference

    common = sorted(name for name in set(a) & set(b) if a[name][1] in keep)
    return paired_difference(
        [100 * a[name][0] for name in common], [100 * b[name][0] for name in common], [a[name][1] for name in common]
    )


def goals(what: str, records: Sequence[Record], external: Sequence[str]) -> str:
    """Is the federated model near the pooled one and above the local-only ones? A row a centre, in points."""
    lines = []
    for metric in GOAL[what]:
        federated = values(records, FEDERATED, metric)
        centres = sorted({centre for _, centre in federated.values()})
        seen = [centre for centre in centres if centre not in external]
        alone = sorted({one.system for one in records if one.system.startswith("local-only ")})
        lines += [
            f"## {metric}, differences in points", "",
            f"| | n | pooled minus federated | at most {NEAR:g}? | federated minus local-only | above? |",
            "|---" * 6 + "|",
        ]  # fmt: skip
        groups = [*((centre, [centre]) for centre in seen), ("all four", seen)]
        rows = [(name, keep, OWN) for name, keep in groups]
        rows += [(f"{centre} (unseen), mean of the local-only models", [centre], OWN) for centre in external]
        rows += [(f"{centre} (unseen), {system}", [centre], system) for centre in external for system in alone]
        for name, keep, other in rows:
            below = difference(values(records, POOLED, metric), federated, keep)
            above = difference(federated, values(records, other, metric), keep)
            lines.append(
                f"| {name} | {below.n} | {points(below)} | {verdict(below, NEAR, -1)} | {points(above)} | "
                f"{verdict(above, 0.0, 1)} |"
            )
        lines.append("")
    return "\n".join(lines)


def points(value: Estimate) -> str:
    """Mean and interval in points, with signs."""
    if value.mean is None:
        return "n/a"
    return f"{value.mean:+.1f}" + ("" if value.low is None else f" [{value.low:+.1f}, {value.high:+.1f}]")


def verdict(value: Estimate, limit: float, sign: int) -> str:
    """Whether the mean is on the wanted side of the limit (1: above, -1: at most), and whether the interval is too."""
    if value.mean is None or value.low is None or value.high is None:
        return "n/a"
    good = sign * (value.mean - limit) >= 0
    sure = (value.low if (sign > 0) == good else value.high) - limit
    settled = sure > 0 if (sign > 0) == good else sure < 0
    return ("yes" if good else "**no**") + ("" if settled else ", not certain")


def draw_systems(path: Path, what: str, records: Sequence[Record], synthetic: bool) -> None:
    """The main systems at every centre, with intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    from rollama.centres.scoring import METRIC
    from rollama.core.files import new_file
    from rollama.evaluation.statistics import estimate

    metric = METRIC[what]
    groups = sorted({(str(one.split) == "external", one.centre) for one in records})
    figure = Figure(figsize=(7.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for index, (system, colour) in enumerate(COLOURS.items()):
        for place, (_, centre) in enumerate(groups):
            mine = values(records, system, metric)
            found = estimate([value for value, where in mine.values() if where == centre])
            if found.mean is None or found.low is None or found.high is None:
                continue
            reach = [[found.mean - found.low], [found.high - found.mean]]
            label = system if place == 0 else None
            axes.errorbar(
                place + 0.16 * (index - 1.5), found.mean, yerr=reach, marker="o", capsize=3, color=colour, label=label
            )
    axes.set_xticks(range(len(groups)), [f"{centre}{' (unseen)' if away else ''}" for away, centre in groups])
    axes.set_ylabel(metric)
    axes.set_title(f"{what}: equal compute{' (synthetic)' if synthetic else ''}, 95 % intervals", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
