"""What an able team would write without this project: one FastAPI process, its models loaded as their libraries say.

S and P are two models, each with its adapter merged into a base of its own, asked with `transformers.generate` (KV
cache, no gradients, evaluation mode). SEG is MONAI's sliding window over the whole volume (half an overlap, Gaussian).
Routes are plain functions, so that Starlette runs them in its threads; a lock lets one request compute at a time with
all the threads of torch: two at once would share the same cores (`lock: model` has one lock for each model instead).
`crop` gives it our region: MONAI's sliding window only where the plan's target can lie. Weights, number format, model
grid and the rules between the models are ours.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fastapi import FastAPI
from pydantic import BaseModel

from rollama.chain.run import SEGMENTATION_FOLDER, TEXT_FOLDERS
from rollama.core.errors import DataError
from rollama.core.registry import Task
from rollama.data.body import find_body
from rollama.data.resampling import to_model_grid
from rollama.data.transforms import cut, place, scale_hu
from rollama.data.volumes import Mask, Volume, read_ct, write_mask
from rollama.language.base import load_base
from rollama.segmentation.predict import AIR_HU, SegmentationModel, _touches
from rollama.segmentation.region import body_region, plan_region
from rollama.text.adapters import check_keys, put_adapter
from rollama.text.generate import TextModel
from rollama.text.model import DTYPES

OVERLAP = 0.5
Array = npt.NDArray[np.float32]


class PlainText:
    """One task's model: its adapter merged into its own base."""

    def __init__(self, folder: Path, task: Task, dtype: str) -> None:
        self.task, self.ours = task, TextModel.load({task: folder}, dtype)
        del self.ours.models[task]  # only prompts and limits are ours
        artefact = self.ours.artefacts[task]
        if artefact.config.mirrored_look:
            raise SystemExit(
                f"{folder}: takes second looks, which this peer does not; measure it with mirrored_look=false"
            )
        lm, _, _ = load_base(artefact.config.base, DTYPES[dtype])
        if artefact.config.lora.enabled:
            self.model = put_adapter(lm, artefact).merge_and_unload()
        else:
            check_keys(artefact, lm.load_state_dict(artefact.tensors, strict=False), lm)
            self.model = lm
        self.limit, self.stop = self.ours.limits[task], sorted(self.ours.stop_tokens(task))

    def generate(self, text: str, **more: Any) -> str:
        """Greedy answer; the prompt's form is ours."""
        ids = torch.tensor([self.ours.prompt(self.task, text)])
        with torch.inference_mode():
            found = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=self.limit, do_sample=False,
                eos_token_id=self.stop, pad_token_id=self.stop[0], **more,
            )  # fmt: skip
        answer: str = self.ours.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True).strip()
        return answer


class PlainSegmentation:
    """The network under MONAI's sliding window."""

    def __init__(self, folder: Path, crop: bool) -> None:
        self.ours, self.crop = SegmentationModel.load(folder), crop

    def target(self, volume: Volume, plan_text: str) -> Mask:
        """The mask on the CT's own grid; empty when the plan has no target or the text is refused."""
        plan = None
        if self.ours.config.uses_text:
            try:
                plan = self.ours.meant(plan_text)
            except DataError:
                return np.zeros(volume.shape, dtype=np.uint8)
            if plan is not None and plan.volume is None:
                return np.zeros(volume.shape, dtype=np.uint8)
        grid = to_model_grid(volume, self.ours.config.spacing)
        body, text = find_body(grid), self.ours.encode(plan_text)
        whole = ((0, 0, 0), grid.shape)
        part = whole
        if self.crop:
            config = self.ours.config
            whole = body_region(body, config.patch, grid.shape)
            part = plan_region(
                body, self.ours.reach, plan, self.ours.inference.margin, config.spacing, config.patch, grid.shape
            )
        found = self._look(grid, part, body.centre, text)
        inside = found >= self.ours.threshold
        if part != whole and (not inside.any() or _touches(inside, part, whole)):
            found = self._look(grid, whole, body.centre, text)
        return self.ours.decide(found, grid, volume)

    def _look(self, grid: Volume, part: Any, centre: Any, text: Any) -> Array:
        from monai.inferers.utils import sliding_window_inference

        config = self.ours.config
        low, high = part
        padded = place(grid.shape, config.patch, centre)
        start = [a if n >= p else s for a, n, p, s in zip(low, grid.shape, config.patch, padded, strict=True)]
        shape = [max(b - a, p) for a, b, p in zip(low, high, config.patch, strict=True)]
        maps = [scale_hu(cut(grid.array, start, shape, AIR_HU), config.hu_range)]
        if config.organs:
            if grid.organs is None:
                raise DataError("this model reads an organ mask; none was given")
            maps.append(cut(grid.organs, start, shape).astype(np.float32))
        spacing, offset = torch.tensor(config.spacing), torch.from_numpy(np.asarray(start) - centre).float()

        def network(patches: torch.Tensor, places: Any) -> torch.Tensor:
            corners = torch.tensor([[axis.start or 0 for axis in found[2:]] for found in places], dtype=torch.float32)
            words = None if text is None else text.expand(len(patches))
            with torch.autocast("cpu", torch.bfloat16, enabled=config.amp == "bfloat16"):
                logits: torch.Tensor = self.ours.network.segment(patches, (corners + offset) * spacing, words).logits
            return logits.float()

        with torch.inference_mode():
            logits: Any = sliding_window_inference(
                torch.from_numpy(np.stack(maps))[None], config.patch, config.sw_batch, network, overlap=OVERLAP,
                mode="gaussian", with_coord=True,
            )  # fmt: skip
        return cut(torch.sigmoid(logits[0, 0]).numpy(), [-s for s in start], grid.shape)


class Asked(BaseModel):
    """A request."""

    note: str = ""
    plan: str = ""
    ct_path: str = ""


def make_app(options: dict[str, Any]) -> FastAPI:
    """The routes, all models loaded."""
    models, data = Path(options["models"]), Path(options["data_folder"])
    summary, plan = (
        PlainText(models / TEXT_FOLDERS[task], task, options["dtype"]) for task in (Task.SUMMARY, Task.PLAN)
    )
    segmentation = PlainSegmentation(models / SEGMENTATION_FOLDER, options["crop"])
    one = threading.Lock()
    locks = {id(model): threading.Lock() if options["lock"] == "model" else one for model in (summary, plan)}
    locks[id(segmentation)] = threading.Lock() if options["lock"] == "model" else one
    app = FastAPI()

    def texts(note: str) -> dict[str, str]:
        with locks[id(summary)]:
            short = summary.generate(note)
        with locks[id(plan)]:
            return {"summary": short, "plan_text": plan.generate(short)}

    def target(plan_text: str, ct_path: str) -> dict[str, str]:
        volume = read_ct(data / ct_path)
        with locks[id(segmentation)]:
            mask = segmentation.target(volume, plan_text)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "target.nii.gz"
            write_mask(path, mask, volume)
            return {"target": base64.b64encode(path.read_bytes()).decode()}

    @app.get("/ready")
    def ready() -> dict[str, int]:
        return {"threads": torch.get_num_threads()}

    @app.post("/plan")
    def plan_of(body: Asked) -> dict[str, str]:
        return texts(body.note)

    @app.post("/segment")
    def segment(body: Asked) -> dict[str, str]:
        return target(body.plan, body.ct_path)

    @app.post("/pipeline")
    def pipeline(body: Asked) -> dict[str, str]:
        found = texts(body.note)
        return {**found, **target(found["plan_text"], body.ct_path)}

    return app


def main(options: dict[str, Any]) -> None:
    """Serve on this machine until stdin ends."""
    import os

    import uvicorn

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    server = uvicorn.Server(uvicorn.Config(make_app(options), port=options["port"], log_level="warning"))
    threading.Thread(target=lambda: (sys.stdin.read(), setattr(server, "should_exit", True)), daemon=True).start()
    server.run()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
