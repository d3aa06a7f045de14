"""The way of a CT through the chain on real scans: geometry to the bit, memory flat, nothing resampled away.

The scans are two diagnostic chest CTs (512 x 512 x 48 and x 61, 5 mm slices) that `fetch.py` puts into the cache. The
network is untrained: this is about geometry and memory, not about where the target lies.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

from rollama.chain.outputs import write_outputs
from rollama.chain.run import Chain
from rollama.core.cache import cache_folder
from rollama.data.resampling import mask_to_native, to_model_grid
from rollama.data.volumes import read_ct, write_mask
from rollama.segmentation.checkpoint import build_network, save_model
from rollama.segmentation.config import SegConfig
from rollama.segmentation.outline import Outline
from tests.chain.tiny import make_models
from tests.realdata.fetch import MEMBERS, realdata_folder

pytestmark = pytest.mark.realdata

PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
MAX_BYTES = 4 * 10**9
_PREDICT = """
import json, resource, sys
from pathlib import Path
from rollama.chain.inputs import read_input_ct
from rollama.chain.outputs import write_outputs
from rollama.chain.run import Chain
from rollama.segmentation.predict import SegmentationModel
ct, model, out, plan = sys.argv[1:]
volume = read_input_ct(Path(ct))
write_outputs(Chain(None, SegmentationModel.load(Path(model))).run(volume, plan_text=plan), volume, Path(out))
print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""

_COMMAND = """
import json, resource, sys
from rollama.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


@pytest.fixture(params=MEMBERS)
def scan(request: pytest.FixtureRequest) -> Path:
    path = cache_folder() / "realdata" / str(request.param)
    assert path.parent == realdata_folder()
    if not path.is_file():
        pytest.fail(f"{path} is missing: uv run --no-project --with pip==25.3 python tests/realdata/fetch.py")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    config = SegConfig(encoder="tiny", encoder_dtype="float32", amp="none")
    network, info = build_network(config, torch.device("cpu"))
    folder = tmp_path_factory.mktemp("models") / "seg"
    save_model(folder, network, info, config.digest())
    return folder


def same_geometry(mask: Path, ct: Path) -> None:
    """As an independent reader (ITK) sees both files; NIfTI holds float32, so equal to the bit in float32."""
    left: Any = SimpleITK.ReadImage(str(mask))
    right: Any = SimpleITK.ReadImage(str(ct))
    for getter in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert np.float32(getattr(left, getter)()).tobytes() == np.float32(getattr(right, getter)()).tobytes(), getter


def test_tissue_survives_the_way_to_the_model_grid_and_back(scan: Path, tmp_path: Path) -> None:
    volume = read_ct(scan)
    model_volume = to_model_grid(volume, 6.0)
    assert model_volume.array.mean() == pytest.approx(volume.array.mean(), abs=10)
    for axis in range(3):  # the model's grid covers the scan and is at most one voxel larger
        extent = volume.shape[axis] * volume.spacing[axis]
        assert extent - 0.01 <= model_volume.shape[axis] * 6.0 < extent + 6.0
    body = mask_to_native(model_volume.array > -400, model_volume, volume)
    true = volume.array > -400
    assert 2 * (body & true).sum() / (body.sum() + true.sum()) > 0.93
    write_mask(tmp_path / "body.nii.gz", body, volume)
    same_geometry(tmp_path / "body.nii.gz", scan)
    written: Any = SimpleITK.ReadImage(str(tmp_path / "body.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(written).transpose(2, 1, 0), body)


def test_prediction_has_the_scans_geometry_and_stays_under_4_gb(scan: Path, model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PREDICT, str(scan), str(model), str(tmp_path / "out"), PLAN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["peak"] < MAX_BYTES
    same_geometry(tmp_path / "out" / "target.nii.gz", scan)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["ct"]["shape"] == list(read_ct(scan).shape)
    assert manifest["plan_parsed"] is True


@pytest.fixture(scope="module")
def chain_on_smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"), base="smollm2")


def test_a_note_and_a_real_scan_go_through_all_three_models(scan: Path, chain_on_smollm2: Path, tmp_path: Path) -> None:
    """As a user runs it, on the base that the demo uses. Untrained S and P write nonsense: this is about the way."""
    (tmp_path / "note.txt").write_text(
        "54-year-old woman. Invasive carcinoma of the left breast, pT1c pN0, lumpectomy."
    )
    arguments = ["predict", "--note", str(tmp_path / "note.txt"), "--ct", str(scan), "--models", str(chain_on_smollm2),
                 "--out", str(tmp_path / "out")]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, *arguments], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["peak"] < MAX_BYTES
    same_geometry(tmp_path / "out" / "target.nii.gz", scan)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {"summary.txt", "plan.txt", "target.nii.gz", "overlay.png", "manifest.json"}
    models = json.loads((tmp_path / "out" / "manifest.json").read_text())["models"]
    assert set(models) == {"s", "p", "seg"}


def test_both_sides_of_a_real_scan_keep_their_side(scan: Path, tmp_path: Path) -> None:
    """A block drawn by patient position comes back on that side, in the CT's own storage order."""

    class Block:
        def outline(self, volume: Any, plan_text: str, progress: Any = None, keep_probability: bool = False) -> Outline:
            grid = to_model_grid(volume, 6.0)
            index = np.indices(grid.shape).reshape(3, -1)
            x = (grid.affine[:3, :3] @ index + grid.affine[:3, 3:])[0].reshape(grid.shape)
            middle = np.median(x)
            mask = (x < middle - 60) if "left" in plan_text else (x > middle + 60)
            return Outline(mask_to_native(mask, grid, volume))

    volume = read_ct(scan)
    for plan in (PLAN, PLAN.replace("left", "right")):
        result = Chain(None, Block()).run(volume, plan_text=plan)
        assert result.warnings == ()
        write_outputs(result, volume, tmp_path / "out")
