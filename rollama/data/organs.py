"""A mask of organs beside the CT, for models that read one (`SegConfig.organs`).

Contours of organs at risk are drawn or predicted in most hospitals anyway, and tell a network where a target must end.
A data set keeps them as `<centre>/organs/<case_id>.nii.gz`, on the CT's grid, 0 or 1; a case may have none.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rollama.data.case import Case
from rollama.data.volumes import Volume, read_ct, read_mask

FOLDER = "organs"


def organs_path(case: Case) -> Path:
    """Where a case's mask lies, if it has one."""
    return case.image.parent.parent / FOLDER / case.image.name


def with_organs(volume: Volume, path: Path) -> Volume:
    """The CT with the organ mask of a file.

    Raises:
        DataError: the mask cannot be read or lies on another grid.
    """
    return replace(volume, organs=read_mask(path, volume))


def case_ct(case: Case) -> Volume:
    """A case's CT, with its organ mask if it has one.

    Raises:
        DataError: a file cannot be read, or the mask lies on another grid.
    """
    volume, path = read_ct(case.image), organs_path(case)
    return with_organs(volume, path) if path.is_file() else volume
