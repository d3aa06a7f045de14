"""Held-out patients through the whole chain, and the report that shows them beside the figures.

A table does not show what a clinician would see. A few patients are therefore written out as `rollama predict` does;
folders made by the same models are used again, so a second run of the demo costs seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollama.chain.inputs import LABEL, read_text_input
from rollama.core.config import StrictModel, hash_json
from rollama.core.errors import DataError
from rollama.core.files import hash_file, read_json
from rollama.core.manifest import run_manifest
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset, open_dataset

if TYPE_CHECKING:
    from rollama.data.volumes import Mask, Volume
    from rollama.evaluation.report import Example

EXAMPLES = {Split.EXTERNAL: 2, Split.TEST: 1}
"""Held-out patients that go through the chain and into the report, by split."""

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Folders:
    """Where the parts of a workspace live."""

    root: Path

    @property
    def cohort(self) -> Path:
        """The data set."""
        return self.root / "cohort"

    @property
    def models(self) -> Path:
        """One artefact folder a model."""
        return self.root / "models"

    @property
    def evaluation(self) -> Path:
        """evaluation.json and per-case files."""
        return self.root / "evaluation"

    @property
    def predictions(self) -> Path:
        """One folder a patient, as `rollama predict` writes it."""
        return self.root / "predictions"

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.root / "report.html"


def example_cases(dataset: Dataset) -> list[Case]:
    """The held-out patients to show: the first of each split that have a target, and one without if there is one."""
    chosen: list[Case] = []
    for split, count in EXAMPLES.items():
        cases = dataset.select(split)
        chosen += [case for case in cases if case.plan and case.plan.has_target][:count]
    without = [case for case in dataset.select(Split.EXTERNAL) if case.plan and not case.plan.has_target]
    return chosen + without[:1]


def predict_examples(folders: Folders, tick: Tick, warn: Callable[[str], None]) -> list[Example]:
    """Run the whole chain on the example patients and write their result folders; reuses folders of the same models.

    A patient for whom a barely trained model writes nothing usable is left out, and `warn` is told.
    """
    from rollama.chain.inputs import read_request
    from rollama.chain.outputs import write_outputs
    from rollama.chain.run import Chain
    from rollama.data.organs import case_ct
    from rollama.data.volumes import read_mask
    from rollama.evaluation.report import Example
    from rollama.training.artefact import artefact_hash

    dataset = open_dataset(folders.cohort, check_volumes=False)
    cases = example_cases(dataset)
    wanted = {name: artefact_hash(folders.models / name) for name in ("s", "p", "seg")}
    chain: Chain | None = None
    examples = []
    for done, case in enumerate(cases):
        tick(done, len(cases))
        out = folders.predictions / case.case_id
        volume = case_ct(case)
        if not _is_current(out, wanted):
            chain = chain or Chain.load(folders.models)
            inputs = {"ct": hash_file(case.image), "text": hash_json(case.note)}
            try:
                result = chain.run(volume, note=case.note)
            except DataError as error:
                warn(f"{case.case_id}: {error}")
                continue
            write_outputs(result, volume, out, inputs)
        predicted = read_mask(out / "target.nii.gz", volume)
        truth = read_mask(case.target, volume)
        examples.append(
            Example(
                case_id=case.case_id,
                centre=case.centre,
                split=case.split,
                volume=volume,
                true_mask=truth,
                predicted_mask=predicted,
                note=case.note,
                reference_summary=case.summary,
                summary=read_request(summary=out / "summary.txt").text,
                reference_plan=case.plan_text,
                plan=_without_label(out / "plan.txt"),
                metrics=_scores(truth, predicted, volume),
            )
        )
    tick(len(cases), len(cases))
    return examples


def build_report(
    folders: Folders, preset: StrictModel, runs: dict[str, Path], examples: list[Example], seconds: dict[str, float]
) -> Path:
    """Write report.html from the evaluation, the learning curves (run folder by name) and the example patients."""
    from rollama.evaluation.jobs import edit_pictures
    from rollama.evaluation.report import write_report

    provenance: dict[str, Any] = run_manifest(
        "demo",
        preset.model_dump(mode="json"),
        preset.digest(),
        data=read_json(folders.cohort / "dataset.json")["content_hash"],
        seconds={name: round(value, 1) for name, value in seconds.items()},
    )
    curves = {name: run / "metrics.jsonl" for name, run in runs.items()}
    found = read_json(folders.evaluation / "evaluation.json")
    return write_report(folders.root, found, curves, examples, provenance, edit_pictures(folders.evaluation))


def _scores(truth: Mask, predicted: Mask, volume: Volume) -> dict[str, str]:
    from rollama.evaluation.masks import body_midline, compare_masks

    found = compare_masks(truth, predicted, volume.affine, body_midline(volume.array, volume.affine))
    if found["both_empty"]:
        return {"target": "none, and none predicted"}
    return {"Dice": f"{found['dice']:.2f}", "HD95": f"{found['hd95_mm']:.1f} mm"}


def _without_label(path: Path) -> str:
    # Not read_request: a generated plan may fail to parse, and the report shows it as it is.
    return read_text_input(path).removeprefix(LABEL).strip()


def _is_current(out: Path, wanted: dict[str, str]) -> bool:
    manifest = out / "manifest.json"
    return manifest.is_file() and read_json(manifest).get("models") == wanted
