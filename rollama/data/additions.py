"""A clinician's corrected plan or contour becomes a training case.

What a reader changed in a prediction is the most useful case there is. It goes into a new version of the data set; the
old one stays as it was, so a model trained on it can still be explained. A CT of which a held-out case is made never
becomes a training case: the evaluation would measure what was learned by heart.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rollama.core.errors import ConfigError, DataError
from rollama.core.files import new_folder, read_json, write_json, write_text
from rollama.data.case import Case, Split
from rollama.data.dataset import KEYS, Dataset, content_hash, open_dataset
from rollama.data.intake import contradictions
from rollama.data.origin import Origin, tool_version
from rollama.data.texts import clean_id
from rollama.data.volumes import Mask, Volume, read_ct, read_mask, to_canonical, write_ct, write_mask


@dataclass(frozen=True)
class Addition:
    """A new training case. What is None comes from the case that it corrects.

    `ct` any CT; `contour` its target on the same grid; `texts` note, summary and plan_text, as far as they are new.
    """

    case_id: str
    centre: str
    texts: Mapping[str, str]
    ct: Volume | None = None
    contour: Mask | None = None
    corrects: str | None = None


def add_case(root: Path, addition: Addition, out: Path) -> None:
    """Write `out`: the data set `root` with one more training case. CTs that stay are linked, not copied.

    Raises:
        ConfigError: `out` is there already, or the data set has no such centre.
        DataError: the id is taken, something is missing, the CT is a held-out one, or plan and contour contradict.
    """
    if out.exists():
        raise ConfigError(f"{out}: is there already; name another folder")
    dataset = open_dataset(root)
    name = clean_id(addition.case_id, "--id")
    if addition.centre not in dataset.info.centres:
        raise ConfigError(f"{root}: has no centre {addition.centre!r}; it has {', '.join(dataset.info.centres)}")
    if addition.centre in dataset.info.external_centres:
        raise ConfigError(f"{addition.centre}: is a held-out centre; its cases do not train")
    if name in {case.case_id for case in dataset.cases}:
        raise DataError(f"{name}: the data set has a case of that id; choose another")
    source = _corrected(dataset, addition)
    volume = addition.ct if addition.ct is not None else read_ct(source.image) if source else None
    if volume is None:
        raise DataError(f"{name}: there is no CT; give one, or the case that is corrected")
    _check_new(dataset, volume)
    mask = addition.contour if addition.contour is not None else read_mask(source.target, volume) if source else None
    if mask is None:
        raise DataError(f"{name}: there is no contour; give one, or the case that is corrected")
    before = {"note": source.note, "summary": source.summary, "plan_text": source.plan_text} if source else {}
    texts = {"note": "", "summary": "", "plan_text": ""} | before | dict(addition.texts)
    if problems := contradictions(volume, mask, texts["plan_text"]):
        raise DataError(f"{name}: {'; '.join(problems)}")
    record = {"case_id": name, **texts, "provenance": {"synthetic": dataset.info.synthetic, **_history(addition)}}
    with new_folder(out) as folder:
        shutil.copytree(root, folder, copy_function=_link_images, dirs_exist_ok=True)
        centre = folder / addition.centre
        write_ct(centre / "images" / f"{name}.nii.gz", volume)
        write_mask(centre / "labels" / f"{name}.nii.gz", mask, volume)
        datalist: Any = read_json(centre / "dataset.json")
        entry = {"case_id": name, "image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}
        datalist.setdefault(KEYS[Split.TRAIN], []).append(entry)
        write_json(centre / "dataset.json", datalist)
        lines = (centre / "text.jsonl").read_text(encoding="utf-8").removesuffix("\n")
        write_text(centre / "text.jsonl", f"{lines}\n{json.dumps(record, ensure_ascii=False, sort_keys=True)}\n")
        content = content_hash(folder, dataset.info.centres)
        step = Origin(
            kind="correction", data=content, version=tool_version(), synthetic=dataset.info.synthetic,
            extends=dataset.info.content_hash, case=name, corrects=addition.corrects or "", changed=_changed(addition),
        )  # fmt: skip
        # No generator makes this data set again.
        changes = {"content_hash": content, "generator": {}, "origins": (*dataset.info.origins, step)}
        info = dataset.info.model_copy(update=changes)
        write_json(folder / "dataset.json", info.model_dump(mode="json"))
        open_dataset(folder, check_volumes=False)  # the old volumes were checked above, the new ones are ours


def _corrected(dataset: Dataset, addition: Addition) -> Case | None:
    """The case that is corrected; it must be one that may train."""
    if addition.corrects is None:
        return None
    found = next((case for case in dataset.cases if case.case_id == addition.corrects), None)
    if found is None:
        raise DataError(f"{dataset.root}: has no case {addition.corrects}")
    if found.split is not Split.TRAIN:
        raise DataError(f"{found.case_id}: is a held-out case ({found.split}); a correction of it must not train")
    return found


def _check_new(dataset: Dataset, volume: Volume) -> None:
    """Refuse the CT of a held-out case, whatever its file is called, and however it is stored or cropped along z."""
    mine = _slices(volume)
    for case in dataset.cases:
        if case.split is not Split.TRAIN and mine & _slices(read_ct(case.image)):
            raise DataError(f"the CT is that of the held-out case {case.case_id}; it must not train")


def _slices(volume: Volume) -> set[str]:
    """Hashes of the axial slices that show more than one value, in the patient's orientation."""
    array = np.rint(to_canonical(volume).array).astype(np.int32)
    planes = (np.ascontiguousarray(array[:, :, k]) for k in range(array.shape[2]))
    return {hashlib.sha256(plane.tobytes()).hexdigest() for plane in planes if plane.min() != plane.max()}


def _changed(addition: Addition) -> tuple[Literal["plan", "contour"], ...]:
    plan: tuple[Literal["plan"], ...] = ("plan",) if "plan_text" in addition.texts else ()
    return (*plan, "contour") if addition.contour is not None else plan


def _history(addition: Addition) -> dict[str, str]:
    return {
        "added": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "corrects": addition.corrects or "",
        "corrected": ", ".join(_changed(addition)),
    }


def _link_images(source: str, goal: str) -> str:
    """CTs, which nobody edits, are hard links where the file system has them; all else, small, is copied."""
    if Path(source).parent.name == "images":
        with contextlib.suppress(OSError):
            os.link(source, goal)
            return goal
    return str(shutil.copy2(source, goal))
