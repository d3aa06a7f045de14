"""The files one prediction leaves, all of them or none.

    <out>/summary.txt     only when S ran or a summary was handed in
    <out>/plan.txt        the plan's text
    <out>/plan.yaml       its fields; absent when the generated text does not parse
    <out>/target.nii.gz   0/1 on the CT's own grid
    <out>/probability.nii.gz  how likely each voxel is target, 0 to 1 (calibrated); only where it was asked for
    <out>/target.dcm      the target as an RTSTRUCT on the CT's series; only where the CT came as a DICOM series
    <out>/overlay.png     CT planes with the outline
    <out>/manifest.json   versions, model and input hashes, flags, warnings, timings, places in the note that support
                          each field of the plan (`evidence`), SHA-256 of the other files; no clinical text

Text files begin with the research label, which `rollama.chain.inputs` skips when they are handed in again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from rollama.chain.inputs import LABEL, PlanSource
from rollama.chain.overlay import write_overlay
from rollama.chain.run import ChainResult
from rollama.core.config import hash_json
from rollama.core.errors import DataError
from rollama.core.files import hash_file, new_folder, read_json, write_json, write_text
from rollama.core.manifest import run_manifest
from rollama.data.volumes import Volume, write_mask, write_probability

KIND = "prediction"
STRUCTURES = "target.dcm"
ROI = "CTV^AI"
"""The target's name in the structure set: TG-263 puts what is not standard after a caret."""


def check_out(out: Path) -> None:
    """Refuse a place that is not ours to overwrite; call it before the models run, not after.

    Raises:
        DataError: `out` is a file, or a folder that holds something else than an earlier prediction.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is not a folder; choose another --out")
    if not out.is_dir() or not any(out.iterdir()):
        return
    manifest = out / "manifest.json"
    try:
        record = read_json(manifest) if manifest.is_file() else None
    except DataError:
        record = None
    if not isinstance(record, dict) or record.get("kind") != KIND:
        raise DataError(f"{out}: holds files that are not an earlier prediction; choose an empty or new folder")
    foreign = sorted({path.name for path in out.iterdir()} - {"manifest.json", *map(str, record.get("files", ()))})
    if foreign:
        raise DataError(f"{out}: holds {len(foreign)} file(s) beside an earlier prediction ({foreign[0]}); move them")


def write_outputs(
    result: ChainResult, volume: Volume, out: Path, inputs: Mapping[str, str] | None = None, ct: Path | None = None
) -> dict[str, Any]:
    """Write all files of a prediction into `out` at once; an earlier prediction there is replaced.

    Args:
        result: what the chain found.
        volume: the CT as read.
        out: the folder to make.
        inputs: hash of each input (`ct`, `note`, ...), for the manifest.
        ct: where the CT was read from; a folder is a DICOM series, and the target becomes a structure set on it too.

    Returns:
        The manifest; its warnings are the chain's, and why there is no structure set where one could be expected.

    Raises:
        DataError: `out` holds foreign files, cannot be written or the disk is full; nothing half-written is left.
    """
    out = out.resolve()  # a link to a folder keeps being one
    check_out(out)
    with new_folder(out) as folder:
        if result.summary is not None:
            write_text(folder / "summary.txt", f"{LABEL}\n{result.summary.strip()}\n")
        write_text(folder / "plan.txt", f"{LABEL}\n{result.plan_text.strip()}\n")
        if result.plan is not None:
            fields = yaml.safe_dump(result.plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            write_text(folder / "plan.yaml", f"{LABEL}\n{fields}")
        write_mask(folder / "target.nii.gz", result.mask, volume)
        if result.probability is not None:
            write_probability(folder / "probability.nii.gz", result.probability, volume)
        write_overlay(folder / "overlay.png", result, volume)
        manifest = prediction_manifest(result, volume, inputs or {})
        if ct is not None and ct.is_dir():
            manifest["warnings"] += _write_structures(folder / STRUCTURES, result, volume, ct)
        manifest["files"] = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
        write_json(folder / "manifest.json", manifest)
    return manifest


def _write_structures(path: Path, result: ChainResult, volume: Volume, series: Path) -> list[str]:
    """Write the target as a structure set, or say why not: neither is a reason to lose the rest."""
    from rollama.dicom.result import read_original, write_result

    if not result.mask.any():
        return [f"no {STRUCTURES}: a structure set needs a contour, and the target is empty"]
    original = read_original(series)
    if original.reason:
        return [f"no {STRUCTURES}: {original.reason}"]
    write_result(path, volume, result.mask > 0, ROI, original)
    return []


def prediction_manifest(result: ChainResult, volume: Volume, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The record of one prediction (without the list of files). The config is what decides it: models and inputs."""
    config = {
        "models": dict(result.models), "inputs": dict(inputs), "plan_source": str(result.source),
        "plan_decoding": None if result.source is PlanSource.GIVEN else str(result.plan_decoding),
    }  # fmt: skip
    return run_manifest(
        KIND,
        config,
        hash_json(config),
        plan_source=str(result.source),
        plan_parsed=result.plan is not None,
        plan_has_target=result.plan.has_target if result.plan else None,
        evidence=[asdict(pointer) for pointer in result.evidence],
        models=dict(result.models),
        inputs=dict(inputs),
        ct={"shape": list(volume.shape), "spacing_mm": [round(value, 6) for value in volume.spacing]},
        target={"voxels": int(result.mask.sum()), "cc": target_cc(result, volume)},
        warnings=list(result.warnings),
        unusual=None if math.isnan(result.unusual) else round(result.unusual, 3),
        timings={name: float(seconds) for name, seconds in result.timings.items()},
    )


def target_cc(result: ChainResult, volume: Volume) -> float:
    """Volume of the target in cubic centimetres."""
    return round(float(result.mask.sum()) * volume.voxel_cc, 3)
