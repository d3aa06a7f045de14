"""Inference at clinical size: python -m benchmarks.segmentation_inference [--repeats 3]

One CT of 512 x 512 x 100 voxels, a network of 48 to 384 channels, windows of 128 x 128 x 64. The peer is MONAI's
SlidingWindowInferer as it is usually set (half an overlap, Gaussian, the whole volume, window by window) with the same
weights; its plan is encoded once, which favours it. Ours then gets one difference at a time, so that the ratio splits.
nnU-Net's predictor, if it is installed beside the project, runs a network of like size with weights drawn at random:

    .venv/bin/uv pip install --target ~/.cache/rollama/peers --no-deps nnunetv2 dynamic-network-architectures \\
        acvl-utils batchgenerators batchgeneratorsv2 connected-components-3d blosc2 numexpr ndindex scikit-image \\
        lazy-loader tifffile

Every cell runs in a process of its own, which says its peak memory; the cells run in turn. The weights are fitted once
(`--steps`, about 10 minutes) to the very CT and plan that are timed, and kept in the cache: Dice between two masks of a
network that has learned nothing would compare noise. It says whether two ways of inference agree, not how good.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from rollama.core.cache import cache_folder

ROOT = Path(__file__).resolve().parents[1]
WORK = cache_folder() / "benchmarks" / "segmentation"
WINDOW = (128, 128, 64)
CENTRE = "northgate"
"""Its scanner has the configured voxel size, so its CT is already on the model's grid."""
COHORT = [
    "cohort.size=full", "cohort.grid=[512,512,100]", "cohort.train=2", "cohort.validation=0", "cohort.test=1",
    "cohort.external=0", "cohort.combination=0", "cohort.counterfactual=0",
]  # fmt: skip
NETWORK = [
    "segmentation.channels=[48,48,96,192,384]", "segmentation.strides=[2,2,2,2,2]", "segmentation.alignment_heads=8",
    "segmentation.patch=[128,128,64]", "segmentation.spacing=[0.9765625,0.9765625,3.0]", "segmentation.micro_batch=1",
    "segmentation.encoder_dtype=float32", "segmentation.amp=none", "segmentation.batch=1", "segmentation.lr=2e-3",
    "segmentation.flip_probability=0", "segmentation.position_jitter=0", "segmentation.positive_crops=0.75",
    "segmentation.scale.workers=1", "segmentation.scale.cpus_per_worker=2", "segmentation.prompt_every=16",
]  # fmt: skip
REACH = {
    "with nodes": ((-164.3, -25.7, -132.0), (-4.0, 164.9, 132.0)),
    "without nodes": ((-170.6, 23.4, -126.0), (-12.2, 161.7, 54.0)),
}
"""What `local` measures on its 600 training cases: eight cases are too few to say how far targets reach."""
PEER, OURS = "MONAI's sliding window", "ours"
STEPS: dict[str, dict[str, Any]] = {
    PEER: {"peer": True},
    "peer, plan encoded for each window": {"peer": True, "text": "window"},
    "peer, four windows at once": {"peer": True, "batch": 4},
    "ours, whole volume, all windows": {"crop": "volume", "overlap": 0.5, "skip_below": 0.0},
    "+ the patient only": {"crop": "body", "overlap": 0.5, "skip_below": 0.0},
    "+ where the plan's target can lie": {"crop": "plan", "overlap": 0.5, "skip_below": 0.0},
    "+ second pass only where the first found something": {"crop": "plan", "overlap": 0.5, "skip_below": 0.02},
    OURS: {"crop": "plan", "overlap": 0.25, "skip_below": 0.02},
    "ours, texts kept with the model": {"crop": "plan", "overlap": 0.25, "skip_below": 0.02, "kept": True},
    "ours, bfloat16": {"crop": "plan", "overlap": 0.25, "skip_below": 0.02, "amp": "bfloat16"},
}
"""Cells; each line of ours up to `OURS` has one difference more than the line before, the others one to `OURS`."""
NNUNET = "nnU-Net's predictor, random weights"


def prepare(steps: int) -> Path:
    """The trained model, made once."""
    from rollama.cli.cohort import make_once
    from rollama.cli.train import What, train_model
    from rollama.presets import load_preset

    preset = load_preset("demo", [*COHORT, *NETWORK, f"segmentation.steps={steps}"])
    make_once(WORK / "cohort", preset.cohort)
    one_case(WORK / "cohort", WORK / "one")
    model = train_model(What.SEG, preset, WORK / "one", WORK, "seg")
    assert isinstance(model, Path)
    return model


def keeping(model: Path) -> Path:
    """The same model with `keep_texts`, made once; only the timed plan's text, of a thousand that take ten minutes."""
    import torch

    from rollama.core.manifest import artefact_hash
    from rollama.data.plan import parse_plan
    from rollama.segmentation import kept
    from rollama.segmentation.checkpoint import kept_files, load_model
    from rollama.segmentation.text_encoder import encoder_text
    from rollama.training.artefact import load_artefact, save_artefact

    out = model.parent / f"{model.name}-kept"
    if not out.is_dir() or artefact_hash(out) != artefact_hash(model):
        network, manifest = load_model(model, torch.device("cpu"))
        network.config = network.config.updated(keep_texts=True)
        manifest["config"] = network.config.model_dump(mode="json")
        text = encoder_text(parse_plan(case()[1]), "", network.config.text_form)
        vars(kept)["countable_texts"] = lambda config: [text]
        save_artefact(out, load_artefact(model)[0], manifest, kept_files(network))
    return out


def one_case(cohort: Path, out: Path) -> None:
    """A data set of the timed case alone."""
    import shutil

    from rollama.core.files import write_json
    from rollama.data.case import Split
    from rollama.data.dataset import content_hash, open_dataset, write_centre

    data = open_dataset(cohort, check_volumes=False)
    found = data.select(Split.TEST, centre=CENTRE)[0]
    for path, kind in ((found.image, "images"), (found.target, "labels")):
        (out / CENTRE / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, out / CENTRE / kind)
    record = found.model_dump(mode="json", include={"case_id", "note", "summary", "plan_text", "provenance"})
    write_centre(out / CENTRE, [(Split.TRAIN, record)])
    changes = {"centres": (CENTRE,), "external_centres": (), "generator": {}}
    info = data.info.model_copy(update={**changes, "content_hash": content_hash(out, [CENTRE])})
    write_json(out / "dataset.json", info.model_dump(mode="json"))


def case() -> tuple[Any, str]:
    """The timed CT and its plan."""
    from rollama.data.case import Split
    from rollama.data.dataset import open_dataset
    from rollama.data.volumes import read_ct

    (found,) = open_dataset(WORK / "one", check_volumes=False).select(Split.TRAIN)
    return read_ct(found.image), found.plan_text


def run_cell(options: Mapping[str, Any], model: Path, out: Path) -> dict[str, Any]:
    """Predict once in this process; seconds, MiB and the mask, written to `out`."""
    import numpy as np
    import torch

    from rollama.segmentation.predict import SegmentationModel

    torch.set_num_threads(2)
    volume, plan_text = case()
    loaded = SegmentationModel.load(model)
    if options.get("nnunet"):
        predict: Callable[[], Any] = nnunet_predictor(volume, bool(options.get("mirror")))
    elif options.get("peer"):
        predict = peer_predictor(loaded, volume, plan_text, options)
    else:
        predict = our_predictor(loaded, volume, plan_text, options)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of loading the model
    before = _status("VmRSS")
    begun = time.perf_counter()
    mask = predict()
    seconds = time.perf_counter() - begun
    if mask is not None:
        np.save(out, np.packbits(np.asarray(mask, dtype=bool)))
    return {"seconds": seconds, "peak": _status("VmHWM"), "more": _status("VmHWM") - before, "windows": WINDOWS[0]}


WINDOWS = [0]
"""Windows run in this process."""


def our_predictor(loaded: Any, volume: Any, plan_text: str, options: Mapping[str, Any]) -> Callable[[], Any]:
    """`SegmentationModel.predict` with one set of options."""
    from rollama.segmentation.region import Reach

    loaded.reach = Reach(REACH)
    loaded.inference = loaded.inference.updated(crop=options["crop"], skip_below=options["skip_below"])
    loaded.config = loaded.config.updated(overlap=options["overlap"], amp=options.get("amp", "none"))

    def count(done: int, _: int) -> None:
        WINDOWS[0] = done

    return lambda: loaded.predict(volume, plan_text, count)


def peer_predictor(loaded: Any, volume: Any, plan_text: str, options: Mapping[str, Any]) -> Callable[[], Any]:
    """MONAI's inferer on the whole volume; coordinates and scaling as ours, the mask where the probability is ours."""
    import numpy as np
    import torch
    from monai.inferers.inferer import SlidingWindowInferer

    from rollama.data.body import patient_centre
    from rollama.data.transforms import scale_hu

    spacing, window = torch.tensor(loaded.config.spacing), loaded.config.patch
    inferer = SlidingWindowInferer(window, options.get("batch", 1), overlap=0.5, mode="gaussian", with_coord=True)
    # it pads with 0, which is air once scaled, and tells places in the padded volume
    padding = torch.tensor([max(0, wanted - size) // 2 for wanted, size in zip(window, volume.shape, strict=True)])

    def predict() -> Any:
        centre = torch.from_numpy(patient_centre(volume)).float()
        image = torch.from_numpy(scale_hu(volume.array, loaded.config.hu_range))[None, None]
        text = loaded.encode(plan_text)

        def network(patches: torch.Tensor, places: Any) -> torch.Tensor:
            starts = torch.tensor([[axis.start or 0 for axis in place[2:]] for place in places], dtype=torch.float32)
            words = text
            if options.get("text") == "window":
                loaded._texts.clear()
                words = loaded.encode(plan_text)
            WINDOWS[0] += len(patches)
            logits: torch.Tensor = loaded.network.segment(
                patches, (starts - padding - centre) * spacing, words.expand(len(patches))
            ).logits
            return logits

        with torch.inference_mode():
            logits = inferer(image, network)
        return 1 / (1 + np.exp(-np.asarray(logits)[0, 0])) >= loaded.threshold

    return predict


def nnunet_predictor(volume: Any, mirror: bool) -> Callable[[], Any]:
    """nnU-Net's sliding window (its steps, its Gaussian) on the scaled volume, with a residual U-Net of its own.

    It works at full resolution, as nnU-Net's do (ours begins with a stride of 2), so its first stage is half as wide.
    """
    sys.path.append(str(cache_folder() / "peers"))
    import torch
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    network = ResidualEncoderUNet(
        1, 5, (24, 48, 96, 192, 384), torch.nn.Conv3d, 3, (1, 2, 2, 2, 2), (1, 1, 1, 1, 1), 2, (1, 1, 1, 1),
        conv_bias=True, norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"affine": True},
        nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    )  # fmt: skip
    network.eval()
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_gaussian=True, use_mirroring=mirror, device=torch.device("cpu"), verbose=False,
        perform_everything_on_device=False, allow_tqdm=False,
    )  # fmt: skip

    class Plans:
        patch_size = WINDOW

    class Labels:
        num_segmentation_heads = 2

    predictor.network, predictor.configuration_manager, predictor.label_manager = network, Plans(), Labels()
    predictor.allowed_mirroring_axes = (0, 1, 2)
    image = torch.from_numpy(volume.array)[None]
    network.register_forward_hook(lambda *_: WINDOWS.__setitem__(0, WINDOWS[0] + 1))

    def predict() -> Any:
        with torch.inference_mode():
            predictor.predict_sliding_window_return_logits(image).argmax(0)

    return predict


def _status(key: str) -> float:
    """A line of /proc/self/status, in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def measure(name: str, options: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """Run a cell in a process of its own."""
    out = WORK / "mask.npy"
    out.unlink(missing_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    # What ours sets by itself (`keep_memory`), for the peers too.
    environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**64 - 1)}
    model = keeping(model) if options.get("kept") else model
    command = [sys.executable, "-m", "benchmarks.segmentation_inference", "--cell", json.dumps(dict(options))]
    done = subprocess.run(
        [*command, "--model", str(model), "--out", str(out)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{name}: failed\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    found["mask"] = out.read_bytes() if out.is_file() else None
    print(f"{name}: {found['seconds']:.1f} s, {found['windows']} windows, {found['peak']:.0f} MiB", file=sys.stderr)
    return found


def dice(a: bytes, b: bytes) -> float:
    """Dice of two masks as `run_cell` saved them."""
    import io

    import numpy as np

    x, y = (np.unpackbits(np.load(io.BytesIO(value))).astype(bool) for value in (a, b))
    return 2 * float((x & y).sum()) / max(1, int(x.sum()) + int(y.sum()))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200, help="training steps of the weights")
    parser.add_argument("--only", nargs="*", help="names of cells; all when not given")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cell:
        print(json.dumps(run_cell(json.loads(arguments.cell), arguments.model, arguments.out)))
        return
    model = prepare(arguments.steps)
    cells = dict(STEPS)
    if (cache_folder() / "peers" / "nnunetv2").is_dir():
        cells |= {NNUNET: {"nnunet": True}, f"{NNUNET}, mirroring": {"nnunet": True, "mirror": True}}
    if arguments.only:
        cells = {name: value for name, value in cells.items() if name in (PEER, *arguments.only)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in cells}
    for turn in range(arguments.repeats):
        for name, options in cells.items():
            if turn and ("mirror" in options or options.get("text") or options.get("batch")):
                continue  # long, and a side remark
            found[name].append(measure(name, options, model))
    peer = found[PEER]
    print("| | seconds | windows | times faster | Dice with the peer's mask | peak MiB | of it for the prediction |")
    print("|---|---|---|---|---|---|---|")
    for name, runs in found.items():
        ratios = [mine["seconds"] for mine in runs]
        faster = [other["seconds"] / mine["seconds"] for other, mine in zip(peer, runs, strict=False)]
        same = "" if runs[0]["mask"] is None else f"{dice(peer[0]['mask'], runs[0]['mask']):.4f}"
        print(
            f"| {name} | {median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}] | {runs[0]['windows']} | "
            f"{median(faster):.2f} [{min(faster):.2f}, {max(faster):.2f}] | {same} | {runs[0]['peak']:.0f} | "
            f"{runs[0]['more']:.0f} |"
        )


if __name__ == "__main__":
    main()
