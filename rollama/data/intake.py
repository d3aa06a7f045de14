"""A hospital's own CTs, targets and plans as a data set: checked case by case, everything wrong named at once.

Volumes come as NIfTI (or NRRD, MHA) files, as an nnU-Net data set or as DICOM with RTSTRUCT; texts as JSON lines with
the hospital's own column names. What the format cannot say is checked here, because it trains wrong without a sound:
a target on the other side than the plan says, a plan with a target and an empty mask, a mask on another grid. Volumes
keep their own grid; nothing is resampled or flipped. Headers, which may name patients, are left behind.

A case needs a CT, a mask and a plan's text (ours or free); note and summary are needed for S and P only. Cases are
found by name, so names must be pseudonyms: they enter the data set, logs and results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rollama.core.errors import ConfigError, DataError
from rollama.core.files import new_folder, read_json, write_json
from rollama.data.case import Case, Split
from rollama.data.dataset import Dataset, DatasetInfo, content_hash, open_dataset, write_centre
from rollama.data.organs import case_ct
from rollama.data.origin import Origin, OriginKind, tool_version
from rollama.data.plan import FIELDS, Side, parse_plan
from rollama.data.regions import disagreement
from rollama.data.texts import check_centre, check_unique, clean_id, draw_split
from rollama.data.volumes import Mask, Volume, read_ct, read_volume, to_canonical, write_ct, write_mask

Load = Callable[[], tuple[Volume, Mask]]
Texts = Mapping[str, tuple[Split | None, Mapping[str, str]]]
"""Case id -> split (None: to be drawn) and note, summary, plan_text."""
Progress = Callable[[int], None]
SIDE_SHARE = 0.8
"""Share of a target that must lie on the side which its plan names."""


@dataclass(frozen=True)
class Raw:
    """A case before it is read; `split` is None where the source does not say, `kind` is how its volumes lie."""

    case_id: str
    load: Load
    split: Split | None = None
    kind: OriginKind = "nifti"


@dataclass(frozen=True)
class Taken:
    """What came in: the data set, and the cases left out with the reason."""

    dataset: Dataset
    left_out: Mapping[str, str]


def import_cases(
    raws: Sequence[Raw],
    texts: Texts,
    out: Path,
    centre: str,
    label: Literal["CTV", "PTV"],
    synthetic: bool = False,
    skip_bad: bool = False,
    shares: tuple[float, float] = (0.1, 0.1),
    progress: Progress | None = None,
) -> Taken:
    """Write a data set with one centre.

    Args:
        raws: where the volumes are.
        texts: by case id; texts of other cases are passed over.
        out: folder of the new data set.
        centre: the hospital's name.
        label: what the masks are.
        synthetic: whether the patients are invented.
        skip_bad: leave bad cases out instead of refusing all.
        shares: of the cases that become validation and test, where nothing says the split.
        progress: called with the cases done.

    Raises:
        ConfigError: `out` is taken, or `centre` is no name.
        DataError: no case, ids that occur twice, or bad cases (all named, each with its reason).
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; name another folder")
    check_centre(centre)
    if not raws:
        raise DataError("no case was found; check the folder and the patterns")
    check_unique([raw.case_id for raw in raws])
    bad: dict[str, str] = {}
    records: list[tuple[Split, dict[str, Any]]] = []
    with new_folder(out) as temporary:
        for done, raw in enumerate(raws, 1):
            try:
                if raw.case_id not in texts:
                    raise DataError("there is no text for this case")
                split, record = texts[raw.case_id]
                volume, mask = raw.load()
                if found := contradictions(volume, mask, record.get("plan_text", "")):
                    raise DataError("; ".join(found))
            except DataError as error:
                bad[raw.case_id] = str(error)
            else:  # what cannot be written ends the import
                write_ct(_place(temporary / centre / "images", raw), volume)
                write_mask(_place(temporary / centre / "labels", raw), mask, volume)
                chosen = split or raw.split or draw_split(raw.case_id, shares)
                records.append((chosen, {**record, "case_id": raw.case_id}))
            if progress is not None:
                progress(done)
        if not records or (bad and not skip_bad):
            lines = "\n  ".join(f"{name}: {reason}" for name, reason in sorted(bad.items())[:50])
            raise DataError(f"{len(bad)} of {len(raws)} cases cannot be used:\n  {lines}")
        write_centre(temporary / centre, records)
        content = content_hash(temporary, [centre])
        info = DatasetInfo(
            name=out.name,
            version="1",
            synthetic=synthetic,
            label=label,
            notice="SYNTHETIC DATA" if synthetic else "CLINICAL DATA: keep it where patients' data may be",
            centres=(centre,),
            content_hash=content,
            origins=(Origin(kind=raws[0].kind, data=content, version=tool_version(), synthetic=synthetic),),
        )
        write_json(temporary / "dataset.json", info.model_dump(mode="json"))
        checked = open_dataset(temporary)
    cases = tuple(
        case.model_copy(update={"image": out / case.image.relative_to(temporary.resolve()),
                                "target": out / case.target.relative_to(temporary.resolve())})
        for case in checked.cases
    )  # fmt: skip
    return Taken(replace(checked, root=out, cases=cases), bad)


def _place(folder: Path, raw: Raw) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{raw.case_id}.nii.gz"


def contradictions(volume: Volume, mask: Mask, plan_text: str) -> list[str]:
    """What of CT, target and plan cannot be true together; empty when nothing is found.

    The side is judged by the body's midline: a target may cross it by a fifth of its volume.
    """
    if not plan_text.strip():
        return ["its plan's text is empty"]
    try:
        plan = parse_plan(plan_text)
    except DataError as error:
        if plan_text.lstrip().startswith(f"{FIELDS[0]}:"):  # nearly our form: a slip must not switch the checks off
            return [str(error)]
        plan = None  # free text: nothing to compare with
    found = []
    empty = not mask.any()
    if plan is None:
        return ["the mask is empty; write a plan without target in the plan's form, if that is meant"] if empty else []
    if plan.has_target and empty:
        found.append("the plan has a target, the mask is empty")
    if not plan.has_target and not empty:
        found.append("the plan has no target, the mask is not empty")
    if plan.has_target and not empty:
        from rollama.data.body import patient_centre  # loads SciPy

        canonical = to_canonical(volume)
        inside = to_canonical(Volume(mask.astype(np.float32), volume.affine, volume.source)).array > 0
        left = np.flatnonzero(inside.sum((1, 2)) > 0)
        weights = inside.sum((1, 2))[left]
        share_left = float(weights[left < patient_centre(canonical)[0]].sum() / weights.sum())
        share = share_left if plan.side is Side.LEFT else 1 - share_left
        if share < SIDE_SHARE:
            found.append(f"the plan says {plan.side}, but {1 - share:.0%} of the target lie on the other side")
    return found


def nifti_cases(folder: Path, image: str, label: str, values: Sequence[int] = ()) -> list[Raw]:
    """Cases whose CT and mask are files named by two patterns with `{id}`, such as `{id}/ct.nii.gz`.

    Args:
        folder: holds the files.
        image, label: the patterns. A file that fits both is a mask.
        values: label values that are target; needed where a mask has others than 0 and 1.

    Raises:
        ConfigError: a pattern without exactly one `{id}`.
        DataError: no file fits.
    """
    for pattern in (image, label):
        if pattern.count("{id}") != 1:
            raise ConfigError(f"{pattern}: the pattern holds {{id}} once, such as {{id}}/ct.nii.gz")
    before, after = image.split("{id}")
    masks = set(folder.glob(label.replace("{id}", "*")))
    found = []
    for path in sorted(set(folder.glob(f"{before}*{after}")) - masks):
        name = str(path.relative_to(folder))
        raw = name[len(before) : len(name) - len(after)]
        found.append(Raw(clean_id(raw, name), partial(_pair, path, folder / label.replace("{id}", raw), tuple(values))))
    if not found:
        raise DataError(f"{folder}: no file fits {image}")
    return found


def nnunet_cases(folder: Path, values: Sequence[int] = ()) -> list[Raw]:
    """Cases of an nnU-Net v2 data set (`DatasetXXX_Name`): training cases by its first fold, test cases with labels.

    Args:
        folder: holds `dataset.json`, `imagesTr`, `labelsTr`, ...
        values: label values that are target; needed where there are others than 0 and 1.

    Raises:
        DataError: not of this layout, or more than one channel.
    """
    about = read_json(folder / "dataset.json")
    if not isinstance(about, dict) or "file_ending" not in about or "channel_names" not in about:
        raise DataError(f"{folder / 'dataset.json'}: not nnU-Net's; expected file_ending and channel_names")
    if len(about["channel_names"]) != 1:
        raise DataError(f"{folder}: {len(about['channel_names'])} channels; accepted: one, the CT")
    ending = str(about["file_ending"])
    folds = read_json(folder / "splits_final.json") if (folder / "splits_final.json").is_file() else []
    validation = set(folds[0]["val"]) if folds else set()
    found = []
    for part, fold in (("Tr", Split.TRAIN), ("Ts", Split.TEST)):
        for label in sorted((folder / f"labels{part}").glob(f"*{ending}")):
            name = label.name.removesuffix(ending)
            split = Split.VALIDATION if name in validation else fold
            image = folder / f"images{part}" / f"{name}_0000{ending}"
            known = split if folds or fold is Split.TEST else None
            found.append(Raw(clean_id(name, str(label)), partial(_pair, image, label, tuple(values)), known, "nnunet"))
    if not found:
        raise DataError(f"{folder}: no label file ends in {ending}")
    return found


def _pair(image: Path, label: Path, values: tuple[int, ...]) -> tuple[Volume, Mask]:
    """CT and target; a label map is never guessed to be one target."""
    volume = read_ct(image)
    labels = read_volume(label, "mask")
    array = labels.array
    if array.shape != volume.shape or not np.allclose(labels.affine, volume.affine, atol=1e-3):
        raise DataError(f"{label}: shape {array.shape} or affine differs from the CT's, shape {volume.shape}")
    found = np.unique(array)
    if not np.isfinite(found).all() or (found != np.rint(found)).any():
        raise DataError(f"{label}: a mask has whole numbers; found others, such as a probability or NaN")
    if not values and set(found.tolist()) - {0, 1}:
        raise DataError(
            f"{label}: has the values {', '.join(f'{value:g}' for value in found[:10])}; say which of them are target "
            "(--value)"
        )
    return volume, np.isin(array, values or (1,)).astype(np.uint8)


def check_cases(cases: Iterable[Case], progress: Progress | None = None) -> dict[str, str]:
    """Case id -> what contradicts itself, over cases of an opened data set; reads every volume."""
    found = {}
    for done, case in enumerate(cases, 1):
        try:
            volume, mask = _pair(case.image, case.target, ())
            case_ct(case)  # the organ mask, if there is one, on the CT's grid
            problems = [*contradictions(volume, mask, case.plan_text), *disagreement(case, volume, mask != 0)]
        except DataError as error:
            problems = [str(error)]
        if problems:
            found[case.case_id] = "; ".join(problems)
        if progress is not None:
            progress(done)
    return found
