"""Geometry in, geometry out: reading, refusing, resampling and writing CTs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from rollama.core.errors import DataError
from rollama.data.resampling import mask_to_native, probability_to_native, to_model_grid
from rollama.data.volumes import Volume, read_ct, to_canonical, write_mask, write_probability

Triple = tuple[float, float, float]


def ct(shape: tuple[int, int, int] = (24, 20, 12), seed: int = 0) -> np.ndarray:
    """Air around a body with a bright ball on the first half of x, so that every axis and direction is distinct."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    values = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0)
    values[(x + 0.4) ** 2 + (y - 0.2) ** 2 + (z - 0.3) ** 2 < 0.05] = 700.0
    return (values + np.random.default_rng(seed).normal(0, 5, shape)).astype(np.float32).round()


def affine(spacing: Triple = (2.0, 2.0, 5.0), signs: Triple = (1, 1, 1)) -> np.ndarray:
    result = np.diag([*np.multiply(spacing, signs), 1.0])
    result[:3, 3] = (-50.5, 30.25, 12.0)
    return result


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return rotation @ affine()


def save_nifti(path: Path, array: np.ndarray, matrix: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, matrix), path)
    return path


def itk_image(array: np.ndarray, direction: tuple[float, ...] | None = None) -> Any:
    image = SimpleITK.GetImageFromArray(array.transpose(2, 1, 0))
    image.SetSpacing((0.78125, 0.78125, 3.0))
    image.SetOrigin((-200.1, -180.7, 33.3))
    if direction:
        image.SetDirection(direction)
    return image


def test_read_nifti(tmp_path: Path) -> None:
    volume = read_ct(save_nifti(tmp_path / "ct.nii.gz", ct().astype(np.int16), affine()))
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, ct())
    assert np.array_equal(volume.affine, affine())
    assert volume.spacing == (2.0, 2.0, 5.0)
    assert volume.voxel_cc == pytest.approx(0.02)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_itk_files_become_ras(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ct{suffix}"
    image = itk_image(ct().astype(np.int16))
    SimpleITK.WriteImage(image, str(path))
    volume = read_ct(path)
    assert np.array_equal(volume.array, ct())
    for index in [(0, 0, 0), (5, 3, 2)]:  # ITK says where each voxel is, in LPS
        left, posterior, superior = image.TransformIndexToPhysicalPoint(index)
        assert volume.affine @ [*index, 1] == pytest.approx([-left, -posterior, superior, 1])


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_voxels_of_an_itk_file_outlive_the_image_that_was_read(tmp_path: Path, kind: Any) -> None:
    array = ct((40, 36, 30))
    image = itk_image(array.astype(kind))
    SimpleITK.WriteImage(image, str(tmp_path / "ct.nrrd"))
    wanted = read_ct(tmp_path / "ct.nrrd").array.copy()
    volumes = [read_ct(tmp_path / "ct.nrrd") for _ in range(4)]  # memory that was freed is used again
    assert all(np.array_equal(volume.array, wanted) for volume in volumes)
    assert np.allclose(np.sort(wanted.ravel()), np.sort(array.astype(np.float32).ravel()), atol=1)
    assert all(volume.array.base is None or volume.array.base.base is None for volume in volumes)


def broken(path: Path, what: str) -> Path:
    if what == "4D":
        return save_nifti(path, np.stack([ct(), ct()], axis=3), affine())
    if what == "single slice":
        return save_nifti(path, ct()[:, :, :1], affine())
    if what == "NaN":
        array = ct()
        array[3, 3, 3] = np.nan
        return save_nifti(path, array, affine())
    if what == "normalised":
        return save_nifti(path, (ct() + 1000) / 2000, affine())
    if what == "sheared":
        matrix = affine()
        matrix[1, 2] = 1.5
        return save_nifti(path, ct(), matrix)
    if what == "no orientation":
        image = nibabel.Nifti1Image(ct(), affine())
        image.header["sform_code"] = image.header["qform_code"] = 0
        image = nibabel.Nifti1Image(ct(), None, image.header)
        nibabel.save(image, path)
        return path
    if what == "two places":
        image = nibabel.Nifti1Image(ct(), affine())
        image.set_qform(affine(signs=(-1, 1, 1)), code=1)
        nibabel.save(image, path)
        return path
    if what == "cut off":
        save_nifti(path, ct(), affine())
        path.write_bytes(path.read_bytes()[:3000])
        return path
    path.write_bytes(b"this is not a volume")
    return path


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("4D", "3 dimensions"),
        ("single slice", "at least 3 slices"),
        ("NaN", "1 voxel.* NaN"),
        ("normalised", "chest CT in HU"),
        ("sheared", "sheared"),
        ("no orientation", "states no orientation"),
        ("two places", "sform and qform"),
        ("cut off", "ct.nii.gz"),
        ("garbage", "not a readable NIfTI"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_ct(broken(tmp_path / "ct.nii.gz", what))


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such CT"):
        read_ct(tmp_path / "absent.nii.gz")
    with pytest.raises(DataError, match=r"accepted: \.nii"):
        read_ct(broken(tmp_path / "ct.jpeg", "garbage"))
    with pytest.raises(DataError, match="not a readable NRRD"):
        read_ct(broken(tmp_path / "ct.nrrd", "garbage"))
    with pytest.raises(DataError, match="voxel size"):
        Volume(ct(), affine(spacing=(0.0, 2.0, 5.0)))
    path = tmp_path / "bare.nrrd"
    SimpleITK.WriteImage(itk_image(ct().astype(np.int16)), str(path))
    head, _, data = path.read_bytes().partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if not line.startswith((b"space", b"kinds"))]
    path.write_bytes(b"\n".join(lines) + b"\n\n" + data)
    with pytest.raises(DataError, match="no 'space'"):
        read_ct(path)


def test_infinity_and_a_one_sided_file_are_refused(tmp_path: Path) -> None:
    array = ct()
    array[0, 0, 0] = -np.inf
    with pytest.raises(DataError, match="infinite"):
        read_ct(save_nifti(tmp_path / "a.nii", array, affine()))
    with pytest.raises(DataError, match="chest CT in HU"):
        read_ct(save_nifti(tmp_path / "b.nii", np.maximum(ct(), 0) + 5, affine()))


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_canonical_keeps_every_voxel_where_it_is(signs: tuple[int, int, int]) -> None:
    volume = Volume(ct(), affine(signs=signs))
    canonical = to_canonical(volume)
    assert (np.diag(canonical.affine) > 0).all()
    brightest = [np.argwhere(v.array > 600).mean(axis=0) for v in (volume, canonical)]
    places = [v.affine @ [*index, 1] for v, index in zip((volume, canonical), brightest, strict=True)]
    assert places[0] == pytest.approx(places[1])


def test_same_grid_is_returned_unchanged() -> None:
    volume = Volume(ct(), affine())
    assert to_model_grid(volume, (2.0, 2.0, 5.0)) is volume


@pytest.mark.parametrize("spacing", [3.0, 6.0, 1.0])
def test_linear_functions_of_position_survive_resampling(spacing: float) -> None:
    """Linear interpolation, with or without anti-aliasing, is exact on a ramp: any half-voxel error would show."""
    matrix = turned(12.0) @ np.diag([-1, 1, 1, 1])
    grid = np.indices((40, 36, 30)).reshape(3, -1)
    slope = np.array([3.0, -2.0, 5.0])
    array = (slope @ (matrix[:3, :3] @ grid + matrix[:3, 3:])).reshape(40, 36, 30).astype(np.float32)
    model = to_model_grid(Volume(array, matrix), spacing)
    assert model.spacing == pytest.approx((spacing,) * 3)
    inner = tuple(slice(m // 4, -(m // 4)) for m in model.shape)
    index = np.indices(model.shape).reshape(3, -1)
    expected = (slope @ (model.affine[:3, :3] @ index + model.affine[:3, 3:])).reshape(model.shape)
    assert np.abs(model.array - expected)[inner].max() < 0.02


def test_downsampling_averages_instead_of_skipping() -> None:
    noise = np.random.default_rng(1).normal(0, 100, (96, 96, 48)).astype(np.float32)
    model = to_model_grid(Volume(noise, np.diag([0.75, 0.75, 2.0, 1.0])), 6.0)
    assert model.array.std() < 15  # plain linear interpolation would leave about 35
    assert model.array.mean() == pytest.approx(noise.mean(), abs=2)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_mask_returns_to_where_it_was(signs: tuple[int, int, int], order: tuple[int, int, int]) -> None:
    """A ball drawn on the model grid by patient position lies at that position on any native grid."""
    shape = (80, 70, 30)
    matrix = turned(7.0) @ np.diag([0.5, 0.6, 0.8, 1.0]) @ np.diag([*signs, 1])
    matrix = matrix[:, [*order, 3]]
    native = Volume(np.zeros([shape[i] for i in order], dtype=np.float32), matrix)
    model = to_model_grid(native, 4.0)
    centre = (matrix @ [*np.array(native.shape) * (0.4, 0.45, 0.5), 1])[:3]

    def ball(volume: Volume) -> np.ndarray:
        index = np.indices(volume.shape).reshape(3, -1)
        place = volume.affine[:3, :3] @ index + volume.affine[:3, 3:]
        return (np.linalg.norm(place - centre[:, None], axis=0) < 22).reshape(volume.shape)

    back = mask_to_native(ball(model), model, native)
    true = ball(native)
    assert back.shape == native.shape
    assert back.dtype == np.uint8
    assert 2 * (back & true).sum() / (back.sum() + true.sum()) > 0.93


def test_a_probability_returns_with_its_mask(tmp_path: Path) -> None:
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    native = Volume(np.zeros((40, 36, 20), np.float32), affine)
    model = to_model_grid(native, 4.0)
    rng = np.random.default_rng(0)
    probability = rng.uniform(size=model.shape).astype(np.float32)
    found = probability_to_native(probability, model, native)
    assert found.dtype == np.uint8 and found.max() <= 200
    mask = mask_to_native(probability, model, native) != 0
    assert (found[mask] >= 100).all() and (found[~mask] <= 100).all()
    same = to_model_grid(native, native.spacing)
    exact = probability_to_native(np.full(same.shape, 0.25, np.float32), same, native)
    assert (exact == 50).all()
    write_probability(tmp_path / "p.nii.gz", found, native)
    image = nibabel.load(tmp_path / "p.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), found / 200, atol=1e-6)
    assert np.array_equal(image.affine, affine) and image.header.get_data_dtype() == np.uint8
    by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "p.nii.gz")))
    np.testing.assert_allclose(by_itk.transpose(2, 1, 0), found / 200, atol=1e-6)
    for wrong in (found[1:], np.full(native.shape, 201, np.uint8)):
        with pytest.raises(DataError, match="no probability"):
            write_probability(tmp_path / "q.nii.gz", wrong, native)


def test_mask_on_the_native_grid_is_untouched() -> None:
    native = Volume(ct(), affine(signs=(-1, 1, 1)))
    mask = (native.array > 600).astype(np.uint8)
    model = to_canonical(native)
    assert np.array_equal(mask_to_native(mask[::-1], model, native), mask)


def test_mask_is_empty_where_the_model_does_not_reach() -> None:
    native = Volume(ct(), affine())
    half = Volume(native.array[:12], native.affine)
    back = mask_to_native(np.ones(half.shape), half, native)
    assert back[:12].all()
    assert not back[12:].any()


def test_mask_of_another_grid_is_refused() -> None:
    native = Volume(ct(), affine())
    with pytest.raises(DataError, match="not on the model's grid"):
        mask_to_native(np.zeros((3, 3, 3)), native, native)
    with pytest.raises(DataError, match="turned against"):
        mask_to_native(np.zeros(native.shape), Volume(ct(), turned(20)), native)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_nifti_geometry_is_repeated_to_the_bit(tmp_path: Path, kind: Any) -> None:
    matrix = turned(11.0) @ np.diag([-0.6836, 0.6836, 1.7, 1.0])
    image = kind(ct().astype(np.int16), matrix)
    image.set_qform(matrix, code=1)
    image.set_sform(matrix, code=3)
    image.header["descrip"] = b"DOE^JANE"
    nibabel.save(image, tmp_path / "ct.nii.gz")
    volume = read_ct(tmp_path / "ct.nii.gz")
    mask = (volume.array > 600).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, volume)
    before, after = (nibabel.load(tmp_path / name) for name in ("ct.nii.gz", "mask.nii.gz"))
    assert type(after) is kind
    for key in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim"):
        assert before.header[key].tobytes() == after.header[key].tobytes(), key
    assert np.array_equal(before.affine, after.affine)
    assert after.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(after.dataobj), mask)
    assert b"RESEARCH USE ONLY" in after.header["descrip"].tobytes()
    assert b"DOE" not in bytes(after.header.binaryblock)


@pytest.mark.parametrize("direction", [None, (1, 0, 0, 0, -1, 0, 0, 0, -1), (0, 0, 1, 1, 0, 0, 0, 1, 0)])
def test_nrrd_geometry_survives_as_float32(tmp_path: Path, direction: tuple[float, ...] | None) -> None:
    image = itk_image(ct().astype(np.int16), direction)
    SimpleITK.WriteImage(image, str(tmp_path / "ct.nrrd"))
    volume = read_ct(tmp_path / "ct.nrrd")
    mask = (volume.array > 600).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, volume)
    back = SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    for getter in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert np.float32(getattr(back, getter)()).tolist() == np.float32(getattr(image, getter)()).tolist(), getter
    assert np.array_equal(SimpleITK.GetArrayFromImage(back).transpose(2, 1, 0), mask)


def test_oblique_nrrd_directions_agree_to_float32_noise(tmp_path: Path) -> None:
    turn = np.cos(0.1), np.sin(0.1)
    image = itk_image(ct().astype(np.int16), (turn[0], -turn[1], 0, turn[1], turn[0], 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(tmp_path / "ct.nrrd"))
    volume = read_ct(tmp_path / "ct.nrrd")
    write_mask(tmp_path / "mask.nii.gz", (volume.array > 600).astype(np.uint8), volume)
    back = SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert back.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-6)


def test_wrong_masks_are_not_written(tmp_path: Path) -> None:
    volume = Volume(ct(), affine())
    with pytest.raises(DataError, match="has \\(24, 20, 12\\)"):
        write_mask(tmp_path / "m.nii.gz", np.zeros((2, 2, 2), dtype=np.uint8), volume)
    with pytest.raises(DataError, match="0 and 1"):
        write_mask(tmp_path / "m.nii.gz", np.full(volume.shape, 2, dtype=np.uint8), volume)
    assert list(tmp_path.iterdir()) == []
