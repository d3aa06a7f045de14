"""Every part that a plan could ask for, whatever the patient's own plan asks for: one CT, many plans, many targets.

Most patients are planned once, so a network can get away with knowing what usually goes with a look; it then draws the
usual target whatever the plan says. Where all parts of the treated side are contoured, as atlas-based contouring does
in many hospitals, training can show the same CT with other plans and the targets that belong to them.

A data set keeps them as `<centre>/regions/<guideline>/<case_id>.nii.gz`, uint8 on the CT's grid: bit 0 is the breast,
bit 1 the chest wall, bits 2 to 7 the levels in the order of `data.plan.Level`. Parts may overlap. A case may have one
guideline's parts, both, or none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rollama.data.case import Case
from rollama.data.parts import LEVELS, VOLUMES, Part, read_labels
from rollama.data.plan import Guideline, Level, Plan, Structures, Surgery, TargetWords, Volume
from rollama.data.resampling import HALF, to_model_grid
from rollama.data.volumes import Volume as Ct

FOLDER = "regions"
PARTS = (*VOLUMES.values(), *LEVELS.values())
"""In the order of their bits."""
TO_CHEST_WALL, TO_OTHER_BORDERS, ONE_LEVEL = 0.25, 0.25, 0.5
"""Shares of changed plans: breast becomes chest wall, the other guideline's borders, one level rather than any."""
A_LEVEL = 0.7
"""Share of single structures that are a level and not the plan's breast or chest wall."""
DRAWS = len(Level) + 4
"""Uniform numbers that `another_plan` needs."""
LEAST_DICE = 0.5
"""Below it a target and the parts that its plan treats are not the same thing; readers agree far better."""
Regions = dict[Guideline, npt.NDArray[np.uint8]]


def regions_path(case: Case, guideline: Guideline) -> Path:
    """Where a case's parts by one guideline lie, if they were contoured."""
    return case.image.parent.parent / FOLDER / guideline / case.image.name


def pack(masks: Mapping[Part, np.ndarray]) -> npt.NDArray[np.uint8]:
    """Masks (x, y, z) of parts as bits of one array."""
    packed: npt.NDArray[np.uint8] | None = None
    for bit, part in enumerate(PARTS):
        if part in masks:
            values = (np.asarray(masks[part]) != 0).astype(np.uint8) << np.uint8(bit)
            packed = values if packed is None else packed | values
    if packed is None:
        raise ValueError("no part that has a bit")
    return packed


def target_in(regions: npt.NDArray[np.uint8], plan: TargetWords) -> npt.NDArray[np.bool_]:
    """The union of a plan's parts; the boost lies inside the breast and adds nothing."""
    asked = [LEVELS[level] for level in plan.levels] + ([VOLUMES[plan.volume]] if plan.volume is not None else [])
    inside: npt.NDArray[np.bool_] = (regions & np.uint8(sum(1 << PARTS.index(part) for part in asked))) != 0
    return inside


def disagreement(case: Case, ct: Ct, target: np.ndarray) -> list[str]:
    """What is wrong with the parts that were contoured for a case: most often bits in another order than ours.

    Args:
        case: with a plan, or nothing can be compared.
        ct: its CT.
        target: bool (x, y, z).

    Raises:
        DataError: a file is damaged or lies on another grid than the CT.
    """
    found = []
    for guideline in Guideline:
        path = regions_path(case, guideline)
        if not path.is_file():
            continue
        bits = read_labels(path, ct)
        if case.plan is None or guideline is not (case.plan.guideline or Guideline.ESTRO):
            continue
        parts = target_in(bits, case.plan)
        both, size = int((parts & target).sum()), int(parts.sum()) + int(target.sum())
        if size and 2 * both / size < LEAST_DICE:
            found.append(
                f"{path}: the parts that the plan treats overlap the target with Dice {2 * both / size:.2f}, at least "
                f"{LEAST_DICE} is expected; are the bits in the order {', '.join(part.name for part in PARTS)}?"
            )
    return found


def regions_on_grid(case: Case, ct: Ct, spacing: Sequence[float]) -> Regions:
    """All parts that were contoured for a case, on the model's grid; empty when none were.

    Raises:
        DataError: a file is damaged or lies on another grid than the CT.
    """
    found = {}
    for guideline in Guideline:
        path = regions_path(case, guideline)
        if path.is_file():
            bits = read_labels(path, ct)
            masks = {part: bits >> bit & 1 for bit, part in enumerate(PARTS)}
            found[guideline] = pack({p: _on_grid(mask, ct, spacing) for p, mask in masks.items()})
    return found


def _on_grid(mask: np.ndarray, ct: Ct, spacing: Sequence[float]) -> np.ndarray:
    inside: np.ndarray = to_model_grid(Ct(mask.astype(np.float32), ct.affine), spacing).array >= HALF
    return inside


def another_plan(plan: Plan, known: Collection[Guideline], draws: Sequence[float]) -> Plan:
    """A plan of another target for the same patient, or the plan itself where the numbers say so.

    Args:
        plan: with a target.
        known: guidelines whose parts are there.
        draws: `DRAWS` numbers from 0 to 1.
    """
    wall, borders, how, which, *each = draws
    changes: dict[str, object] = {}
    if plan.volume is Volume.BREAST and wall < TO_CHEST_WALL:
        changes |= {"volume": Volume.CHEST_WALL, "surgery": Surgery.MASTECTOMY, "boost": None}
    other = next((g for g in known if g is not plan.guideline), None)
    if plan.guideline is not None and other is not None and borders < TO_OTHER_BORDERS:
        changes["guideline"] = other
    order = list(Level)
    if how < ONE_LEVEL:
        turned = {order[int(which * len(order))]}
    else:
        turned = {level for level, draw in zip(order, each, strict=True) if draw < 0.5}
    changes["levels"] = tuple(level for level in order if (level in plan.levels) != (level in turned))
    return plan.model_copy(update=changes)


def one_structure(plan: TargetWords, which: float) -> Structures:
    """A single structure by a plan's guideline: its breast or chest wall, or any level, whether it treats it or not.

    `which`, from 0 to 1, says which one.
    """
    order = list(Level)
    if which < A_LEVEL:
        return Structures(plan.side, None, (order[int(which / A_LEVEL * len(order))],), plan.guideline)
    return Structures(plan.side, plan.volume, (), plan.guideline)
