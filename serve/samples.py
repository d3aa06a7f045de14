"""Synthetic patients to try the endpoint with, so that nobody needs a patient's data for a first look.

They are patients of the demo's cohort (`rollama demo`: preset `demo`, same seed, centres and anatomy) from splits that
no model is trained on: by their names, which no training case has, and by their texts, which never occur in two
splits. Only the voxels are finer than the demo's, because people look at them; models resample to their own grid.

Nothing of them is kept in files: the cohort's generator draws each on its first request, in seconds, and it stays in
memory. They are examples of three kinds of treatment and no measure of a model's quality: the demo's small models
read some held-out patients right and others wrong, and the page shows what the rules say beside it.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from rollama.client.schemas import Problem, Sample, SamplesAnswer
from rollama.data.case import Split

if TYPE_CHECKING:
    from rollama.cohort.config import CohortConfig

PRESET = "demo"
GRID, SPACING_MM = (160, 128, 96), (3.125, 3.125, 3.0)
"""The demo's field in half its voxel size; 2 million voxels, about 3 MB compressed."""

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}, "description": "NIfTI"},
    404: {"model": Problem, "content": {"application/problem+json": {}}, "description": "no such sample"},
}


@dataclass(frozen=True)
class _Case:
    """A case of the cohort, and what it is an example of."""

    centre: str
    split: Split
    index: int
    title: str


CASES = {
    "left-breast": _Case("lakeside", Split.EXTERNAL, 32, "Left breast and nodes"),
    "right-chest-wall": _Case("hillcrest", Split.TEST, 3, "Right chest wall and nodes"),
    "no-target": _Case("lakeside", Split.EXTERNAL, 8, "No radiotherapy"),
}


@dataclass
class Samples:
    """The sample patients, drawn when they are asked for. Every method blocks; call it from a thread."""

    _scans: dict[str, bytes] = field(default_factory=dict, repr=False)
    _drawing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @cached_property
    def all(self) -> list[Sample]:
        """What there is, without the CTs."""
        from rollama.cohort.patients import draw_patient
        from rollama.data.plan import render_plan

        found = []
        for name, case in CASES.items():
            patient = draw_patient(_config(), case.centre, case.split, case.index)
            ct = f"/v1/samples/{name}/ct.nii.gz"
            found.append(
                Sample(name=name, title=case.title, note=patient.note, plan_text=render_plan(patient.plan), ct=ct)
            )
        return found

    def ct(self, name: str) -> bytes | None:
        """A sample's CT as gzipped NIfTI; None when there is no such sample."""
        if name not in CASES:
            return None
        with self._drawing:  # one at a time, and none twice
            if name not in self._scans:
                self._scans[name] = _draw(CASES[name])
            return self._scans[name]


def _config() -> CohortConfig:
    """The demo's cohort in finer voxels."""
    from rollama.presets import load_preset

    return load_preset(PRESET).cohort.updated(grid=GRID, spacing=SPACING_MM)


def _draw(case: _Case) -> bytes:
    from rollama.cohort.make import make_volumes, write_nifti
    from rollama.cohort.patients import draw_patient

    config = _config()
    patient = draw_patient(config, case.centre, case.split, case.index)
    volumes = make_volumes(config, case.centre, patient, case.split)
    with tempfile.TemporaryDirectory(prefix="rollama-") as folder:
        path = Path(folder) / "ct.nii.gz"
        write_nifti(path, volumes.ct, volumes.grid)
        return path.read_bytes()


def add_samples(api: FastAPI) -> None:
    """Serve the sample patients."""
    samples = Samples()

    @api.get("/v1/samples", tags=["samples"])
    async def known(request: Request) -> SamplesAnswer:
        """Synthetic patients to try the endpoint with: their notes, and where their CTs are."""
        found = await asyncio.to_thread(lambda: samples.all)
        return SamplesAnswer(request_id=request.state.request_id, samples=found)

    @api.get("/v1/samples/{name}/ct.nii.gz", tags=["samples"], response_class=Response, responses=ANSWERS)
    async def ct(name: str) -> Response:
        """The CT of a synthetic patient. The first request draws it, which takes some seconds."""
        data = await asyncio.to_thread(samples.ct, name)
        if data is None:
            raise HTTPException(404, "no such sample; /v1/samples lists them")
        return Response(data, media_type="application/gzip")
