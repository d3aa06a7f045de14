"""Parts of a target: their names, what a label map's values mean, and maps that are refused."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama.core.errors import DataError
from rollama.data.case import Case, Split
from rollama.data.parts import (
    LEVELS,
    VOLUMES,
    Part,
    level_map,
    parts_of,
    parts_path,
    read_labels,
    read_parts,
    readers_path,
    region,
)
from rollama.data.plan import Boost, BoostKind, Dose, Level, Plan, Side, Surgery, Technique, Volume
from rollama.data.resampling import to_model_grid
from rollama.data.volumes import Volume as Ct
from rollama.data.volumes import read_ct

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
SHAPE = (4, 4, 4)


def make_plan(volume: Volume | None, levels: tuple[Level, ...] = (), boost: bool = False) -> Plan:
    dose = Dose(gy=50, fractions=25) if volume else None
    return Plan(
        side=Side.LEFT, surgery=Surgery.CONSERVING, volume=volume, levels=levels, dose=dose,
        boost=Boost(kind=BoostKind.SEQUENTIAL, dose=Dose(gy=10, fractions=5)) if boost else None,
        technique=Technique.VMAT if volume else None,
    )  # fmt: skip


@pytest.fixture
def case(tmp_path: Path) -> Case:
    for folder in ("images", "labels", "parts", "readers"):
        (tmp_path / folder).mkdir()
    image = tmp_path / "images" / "one.nii.gz"
    hu = np.linspace(-1000, 500, 64).reshape(SHAPE).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(hu, AFFINE), image)
    return Case(
        case_id="one", centre="north", split=Split.TEST, note="n", summary="s", plan=None, plan_text="p", image=image,
        target=tmp_path / "labels" / "one.nii.gz", spacing=(2.0, 2.0, 3.0),
    )  # fmt: skip


@pytest.fixture
def ct(case: Case) -> Ct:
    return read_ct(case.image)


def keep(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def test_tg263_names_have_16_characters_at_most_and_the_side_at_the_end() -> None:
    names = {part.tg263(side) for part in Part for side in Side}
    assert len(names) == 2 * len(Part)
    assert max(map(len, names)) <= 16
    for part in Part:
        assert part.tg263(Side.LEFT) == part.tg263(Side.RIGHT)[:-1] + "L"
        assert part.tg263(Side.RIGHT).endswith("_R")
        assert part.tg263(Side.LEFT).startswith("CTV")


def test_estro_names_are_those_of_the_consensus() -> None:
    assert {part.estro for part in Part} == {
        "CTVp_breast", "CTVp_chestwall", "CTVn_L1", "CTVn_L2", "CTVn_L3", "CTVn_L4", "CTVn_interpectoralis",
        "CTVn_IMN", "CTVsb",
    }  # fmt: skip
    assert Part.L4.estro == "CTVn_L4"
    assert Part.L4.tg263(Side.RIGHT) == "CTVn_LN_Sclav_R"


def test_values_are_1_to_9_and_every_level_and_volume_has_one() -> None:
    assert [int(part) for part in Part] == list(range(1, 10))
    assert list(LEVELS) == list(Level)
    assert {str(level): part.name for level, part in LEVELS.items()}["IMN"] == "IMN"
    assert VOLUMES == {Volume.BREAST: Part.BREAST, Volume.CHEST_WALL: Part.CHEST_WALL}


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (make_plan(None), ()),
        (make_plan(Volume.BREAST), (Part.BREAST,)),
        (make_plan(Volume.CHEST_WALL, (Level.L3, Level.L4)), (Part.CHEST_WALL, Part.L3, Part.L4)),
        (
            make_plan(Volume.BREAST, (Level.L1, Level.INTERPECTORAL, Level.IMN), boost=True),
            (Part.BREAST, Part.L1, Part.INTERPECTORAL, Part.IMN, Part.BOOST),
        ),
    ],
)
def test_parts_of_a_plan_come_in_the_order_of_their_values(plan: Plan, expected: tuple[Part, ...]) -> None:
    assert parts_of(plan) == expected


def test_the_breast_includes_its_boost_and_no_other_part_does() -> None:
    labels = np.array([0, 1, 2, 6, 9, 9], np.uint8)
    assert region(labels, Part.BREAST).tolist() == [False, True, False, False, True, True]
    assert region(labels, Part.BOOST).tolist() == [False, False, False, False, True, True]
    assert region(labels, Part.CHEST_WALL).tolist() == [False, False, True, False, False, False]
    assert region(labels, Part.L4).dtype == bool


def test_paths_lie_beside_the_images(case: Case, tmp_path: Path) -> None:
    assert parts_path(case) == tmp_path / "parts" / "one.nii.gz"
    assert readers_path(case) == tmp_path / "readers" / "one.nii.gz"


def test_parts_are_read_without_empty_ones(case: Case, ct: Ct) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0], labels[1, 0], labels[2] = Part.BREAST, Part.BOOST, Part.L3
    keep(parts_path(case), labels)
    found = read_parts(case, ct)
    assert list(found) == [Part.BREAST, Part.L3, Part.BOOST]
    assert found[Part.BREAST].sum() == 20
    assert found[Part.BOOST].sum() == 4
    assert (found[Part.L3] == (labels == Part.L3)).all()


def test_a_case_without_a_map_has_no_parts(case: Case, ct: Ct) -> None:
    assert read_parts(case, ct) == {}


def test_an_empty_map_has_no_parts(case: Case, ct: Ct) -> None:
    keep(parts_path(case), np.zeros(SHAPE, np.uint8))
    assert read_parts(case, ct) == {}


def test_a_float_map_of_whole_numbers_is_read(case: Case, ct: Ct) -> None:
    labels = read_labels(keep(parts_path(case), np.full(SHAPE, 3.0, np.float32)), ct)
    assert labels.dtype == np.uint8
    assert (labels == 3).all()


@pytest.mark.parametrize(
    ("values", "affine", "message"),
    [
        (np.full(SHAPE, 10, np.uint8), AFFINE, "value 10 is no part; accepted: 0 to 9"),
        (np.full(SHAPE, 1.5, np.float32), AFFINE, "whole numbers from 0 to 255"),
        (np.full(SHAPE, -1, np.int16), AFFINE, "whole numbers from 0 to 255"),
        (np.full(SHAPE, 300, np.int16), AFFINE, "whole numbers from 0 to 255"),
        (np.full(SHAPE, np.nan, np.float32), AFFINE, "whole numbers from 0 to 255"),
        (np.zeros((4, 4, 5), np.uint8), AFFINE, "differs from the CT's, shape"),
        (np.zeros(SHAPE, np.uint8), 2 * AFFINE, "affine differs from the CT's"),
    ],
)
def test_a_map_that_is_none_is_refused_by_name(
    case: Case, ct: Ct, values: np.ndarray, affine: np.ndarray, message: str
) -> None:
    path = keep(parts_path(case), values, affine)
    with pytest.raises(DataError, match=message) as caught:
        read_parts(case, ct)
    assert str(path) in str(caught.value)


def test_a_damaged_or_missing_map_is_refused(case: Case, ct: Ct) -> None:
    path = parts_path(case)
    path.write_bytes(b"not a volume")
    with pytest.raises(DataError, match="not a readable NIfTI file"):
        read_parts(case, ct)
    path.unlink()
    with pytest.raises(DataError, match="not a readable NIfTI file"):
        read_labels(path, ct)


def test_a_levels_map_follows_the_target_onto_another_grid() -> None:
    labels = np.zeros((20, 20, 10), np.uint8)
    labels[2:10, 4:16, 2:8] = Part.BREAST
    labels[10:14, 4:16, 2:8] = Part.L1
    labels[14:18, 4:16, 2:8] = Part.IMN
    volume = Ct(np.zeros(labels.shape, np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    drawn = (labels > 0).astype(np.float32)
    drawn[18, 4:16, 2:8] = 1  # another reader goes a voxel farther
    target = to_model_grid(Ct(drawn, volume.affine), (4.0, 4.0, 4.0))
    found = level_map(labels, volume, target)
    assert found.shape == target.shape
    assert set(np.unique(found)) == {0, Part.L1, Part.IMN}
    assert not found[target.array < 0.5].any()
    assert (found[5:7, 3:7, 2:3] == Part.L1).all() and (found[7:9, 3:7, 2:3] == Part.IMN).all()
    assert not found[:5].any()
    assert not level_map(np.zeros_like(labels), volume, target).any()
