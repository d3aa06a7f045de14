"""Do pointers from a plan to its note lead to the right sentences? Words and rules against asking the models.

python -m benchmarks.plan_evidence --dataset runs/demo/cohort
python -m benchmarks.plan_evidence --dataset runs/demo/cohort --workspace runs/demo --limit 6

Without `--workspace` the methods without a model are measured, on the true plans: `words` with the general list of what
a field rests on, `rules` with the decision table (`rollama.chain.evidence`). With the models of a workspace and the
texts that they wrote (`predictions.jsonl` of `rollama evaluate`), the same cases are also pointed to by knocking out
attention: what a phrase of the summary loses when a sentence of the note is hidden from S, times what a field of the
plan loses when that phrase is hidden from P, summed over the phrases; sentences with at least a share of a field's
largest sum are its evidence. The share is the best one of `SHARES` on a few validation cases with their own texts.

Prints a Markdown table: precision / recall / F1, means over cases, and the mean F1 over the fields with its interval.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rollama.chain.evidence import FIELDS, RESTS_ON, Pointer, evidence_of
from rollama.chain.run import TEXT_FOLDERS
from rollama.cohort.config import CohortConfig
from rollama.core.config import build
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.dataset import open_dataset
from rollama.data.plan import FIELDS as SENTENCES
from rollama.data.plan import GUIDELINE, Plan
from rollama.data.sentences import sentences
from rollama.evaluation.evidence import compare_pointers, true_evidence
from rollama.evaluation.fields import read_generated
from rollama.evaluation.statistics import estimate

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)
VALIDATION = 2
"""Validation cases of each centre on which the share is chosen."""
HELD_OUT = (Split.TEST, Split.EXTERNAL)
NAMED = dict(zip(FIELDS, (*SENTENCES, GUIDELINE), strict=True))
_PHRASE = re.compile(r"[^,.()\s](?:[^,.()]|[.,](?=\d))*")

Method = Callable[[Case], Iterable[Pointer]]


def knocked(model: Any, note: str, summary: str, plan_text: str) -> dict[str, torch.Tensor]:
    """Field -> what each sentence of the note gives to it (see the module docstring)."""
    phrases = [match.span() for match in _PHRASE.finditer(summary)]
    values = {
        field: match.span(1)
        for field, name in NAMED.items()
        if (match := re.search(rf"{name}: (.+?\.)(?= [A-Z]|$)", plan_text))
    }
    told = model.knockout(Task.SUMMARY, note, summary, sentences(note), phrases).clamp(min=0)
    used = model.knockout(Task.PLAN, summary, plan_text, phrases, list(values.values())).clamp(min=0)
    told = told / told.sum(0, keepdim=True).clamp(min=1e-6)
    return dict(zip(values, (told @ used).T, strict=True))


def pointers(note: str, given: Mapping[str, torch.Tensor], share: float) -> list[Pointer]:
    """The sentences with at least `share` of the most that a sentence gives to a field."""
    places = sentences(note)
    return [
        Pointer(field, *places[number])
        for field, values in given.items()
        for number, value in enumerate(values.tolist())
        if value > 0 and value >= share * float(values.max())
    ]


def table(
    title: str, cases: Sequence[Case], truths: Mapping[str, Any], methods: Mapping[str, Method],
    counts: Callable[[Case, str], bool] = lambda case, field: True,
) -> None:  # fmt: skip
    """Print one group of cases; `counts` says which fields of a case do."""
    print(f"\n{title}\n\n| method | n | {' | '.join(FIELDS)} | mean F1 |\n|---|---|{'---|' * (len(FIELDS) + 1)}")
    for name, method in methods.items():
        scored = [(case, compare_pointers(truths[case.case_id], method(case))) for case in cases]
        kept = [(case, {field: score[field] for field in FIELDS if counts(case, field)}) for case, score in scored]
        cells = []
        for field in FIELDS:
            mine = [score[field] for _, score in kept if field in score]
            means = [mean(score[key] for score in mine) for key in ("precision", "recall", "f1")]
            cells.append(f"{' / '.join(f'{value:.2f}' for value in means)} ({len(mine)})")
        average = estimate(
            [mean(part["f1"] for part in score.values()) for _, score in kept], [c.centre for c, _ in kept]
        )
        print(f"| {name} | {len(kept)} | {' | '.join(cells)} | {average} |", flush=True)


def mean(values: Iterable[float]) -> float:
    """Mean of what is defined."""
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else math.nan


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, help="folder with models/ and evaluation/predictions.jsonl")
    parser.add_argument("--limit", type=int, help="at most so many cases a centre and split for the knockout")
    options = parser.parse_args()
    data = open_dataset(options.dataset, check_volumes=False)
    config = build(CohortConfig, data.info.generator["config"], "dataset.json: generator")
    held_out = data.select(*HELD_OUT)
    truths = {case.case_id: true_evidence(config, case) for case in held_out}

    def plan_of(case: Case) -> Plan:
        assert case.plan is not None
        return case.plan

    free: dict[str, Method] = {
        "words": lambda case: evidence_of(case.note, plan_of(case), RESTS_ON),
        "rules (default)": lambda case: evidence_of(case.note, plan_of(case)),
    }
    for split in HELD_OUT:
        table(f"{split}, true plans", data.select(split), truths, free)
    if options.workspace is None:
        return
    from rollama.text.generate import TextModel

    model = TextModel.load({task: options.workspace / "models" / name for task, name in TEXT_FOLDERS.items()})
    chosen = [
        case for centre in data.info.centres for case in data.select(Split.VALIDATION, centre=centre)[:VALIDATION]
    ]
    for case in chosen:
        truths[case.case_id] = true_evidence(config, case)
    tried = {case.case_id: knocked(model, case.note.strip(), case.summary, case.plan_text) for case in chosen}

    def on_validation(share: float) -> float:
        found = [
            compare_pointers(truths[case.case_id], pointers(case.note, tried[case.case_id], share)) for case in chosen
        ]
        return mean(score[field]["f1"] for score in found for field in FIELDS)

    share = max(SHARES, key=on_validation)
    print(f"\nshare {share} (mean F1 on {len(chosen)} validation cases: {on_validation(share):.3f})")
    written: dict[str, dict[str, str]] = {}
    for line in (options.workspace / "evaluation" / "predictions.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["system"] == "RO-LLaMA" and (record["task"], record["source"]) in (
            ("s", "reference"),
            ("p", "generated"),
        ):
            written.setdefault(record["case_id"], {})[record["task"]] = record["text"]
    mine = [
        case
        for centre in data.info.centres
        for split in HELD_OUT
        for case in [one for one in data.select(split, centre=centre) if one.case_id in written][: options.limit]
    ]
    began = time.perf_counter()
    given = {
        case.case_id: knocked(model, case.note.strip(), written[case.case_id]["s"], written[case.case_id]["p"])
        for case in mine
    }
    print(f"knockout: {(time.perf_counter() - began) / len(mine):.2f} s a case")

    plans = {name: read_generated(texts["p"]) for name, texts in written.items()}

    def generated(rests_on: Any) -> Method:
        def method(case: Case) -> Iterable[Pointer]:
            plan = plans[case.case_id]
            return () if plan is None else evidence_of(case.note, plan, rests_on)

        return method

    def right(case: Case, field: str) -> bool:
        plan = plans[case.case_id]
        return plan is not None and getattr(plan, field) == getattr(case.plan, field)

    methods: dict[str, Method] = {
        "words": generated(RESTS_ON),
        "rules (default)": generated(None),
        "knockout": lambda case: pointers(case.note, given[case.case_id], share),
    }
    for split in HELD_OUT:
        chosen = [case for case in mine if case.split is split]
        table(f"{split}, generated plans", chosen, truths, methods)
        table(f"{split}, generated plans, fields that are right", chosen, truths, methods, right)


if __name__ == "__main__":
    main()
