"""Does S believe a note that corrects itself? A referral copied with the wrong side, and further down that it is wrong.

    python -m benchmarks.corrected_sides COHORT MODEL [MODEL ...]

Every note of the cohort that no model was trained on and that says of itself that a side in it is wrong is summarised,
and as many others of the same centres and splits. A summary is right when the only side whose cancer it tells of is
the reference plan's. Prints a table, and what happened to each of the corrected notes by its case id.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rollama.chain.agreement import sides_of
from rollama.core.registry import Task
from rollama.data.case import Case, Split
from rollama.data.corrections import corrects_side
from rollama.data.dataset import open_dataset
from rollama.evaluation.statistics import rate


def chosen(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """The notes that correct a side, and as many others of each centre and split."""
    unseen = [case for case in cases if case.split is not Split.TRAIN and case.note and case.plan is not None]
    corrected = [case for case in unseen if corrects_side(case.note)]
    wanted = Counter((case.centre, case.split) for case in corrected)
    others = []
    for case in unseen:
        if not corrects_side(case.note) and wanted[case.centre, case.split]:
            wanted[case.centre, case.split] -= 1
            others.append(case)
    return corrected, others


def verdict(case: Case, summary: str) -> str:
    """`right`, `wrong`, or `unclear` where no side or both are told of."""
    assert case.plan is not None
    told = sides_of(summary)
    return "unclear" if len(told) != 1 else "right" if case.plan.side in told else "wrong"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("models", type=Path, nargs="+", help="artefacts of S")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    import torch

    from rollama.text.generate import TextModel

    torch.set_num_threads(given.threads)
    corrected, others = chosen(open_dataset(given.cohort, check_volumes=False).cases)
    lines: dict[str, list[str]] = {case.case_id: [] for case in corrected}
    print(f"| S | notes that correct a side, n = {len(corrected)} | others, n = {len(others)} |\n|---|---|---|")
    for folder in given.models:
        model, cells = TextModel.load({Task.SUMMARY: folder}), []
        for cases in (corrected, others):
            answers = model.generate(Task.SUMMARY, [case.note for case in cases])
            verdicts = [verdict(case, answer.text) for case, answer in zip(cases, answers, strict=True)]
            cells.append(f"{rate([float(one == 'right') for one in verdicts])}, {verdicts.count('unclear')} unclear")
            for case, one in zip(cases, verdicts, strict=True):
                lines.get(case.case_id, []).append(one)
        print(f"| {folder} | " + " | ".join(cells) + " |", flush=True)
    for case in corrected:
        print(case.case_id, case.split, case.provenance.get("style", ""), *lines[case.case_id])


if __name__ == "__main__":
    main()
