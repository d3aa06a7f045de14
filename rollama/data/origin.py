"""Where a data set comes from, step by step, written into its own `dataset.json`.

Whoever imports data has no workspace yet, and the folder may be copied, pushed to a store and trained on elsewhere. So
the data set carries its origins itself; the first training on it, or `--workspace` at once, takes them into a ledger
(`rollama.lineage`). There is no time in them: the same import gives the same data set, and the same reference in a
store.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rollama import __version__
from rollama.core.config import StrictModel
from rollama.core.manifest import git_revision

OriginKind = Literal["nifti", "nnunet", "rtstruct", "texts", "cohort", "regions", "correction", "federation"]
Name = Annotated[str, Field(max_length=200)]
Hash = Annotated[str, Field(max_length=100)]


class Origin(StrictModel):
    """One step in the making of a data set. No clinical text: kinds, hashes, case ids."""

    kind: OriginKind
    data: Hash = Field(min_length=1, description="content hash of what came out")
    version: Name = Field(description="of rollama, which did it")
    synthetic: bool | None = Field(description="None where nobody can know, as of a federation's updates")
    recipe: Hash = Field("", description="of a made cohort: hash of its configuration")
    extends: Hash = Field("", description="content hash of the data set that something was added to")
    case: Name = Field("", description="of a correction: id of the new case")
    corrects: Name = Field("", description="of a correction: the case of the same subject that it corrects, if any")
    changed: tuple[Literal["plan", "contour"], ...] = Field((), description="of a correction: what a reader changed")


def tool_version() -> str:
    """Version of rollama, and the revision it was built or runs from where that is known."""
    revision = git_revision()
    return f"{__version__}+{revision}" if revision else __version__
