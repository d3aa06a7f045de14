"""CT volumes and masks between files, the native grid and the model's grid, without losing a millimetre or a side.

A target on the wrong side or moved by a slice is worse than none, so every file either states its geometry or is
refused, arrays never travel without their affine, and no axis is ever assumed. One convention throughout: arrays are
(x, y, z) in HU, affines map voxel indices to patient millimetres in RAS+ (x to the patient's left is negative), as
nibabel has them. Files of the ITK family (NRRD, MHA) are LPS and are converted on reading.

    file --read_ct--> native Volume --to_model_grid--> model Volume --network--> mask --mask_to_native--> write_mask

Resampling is separable (a product of three small matrices, applied slice by slice), so peak memory stays at the
native volume plus one model volume, whatever the size of the CT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rollama import RESEARCH_ONLY
from rollama.core.errors import DataError
from rollama.core.files import new_file

FloatArray = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
CT_SUFFIXES = NIFTI + ITK
"""File name endings of single-file CTs; a DICOM series is a folder and is read by `rollama.dicom`."""

MIN_SLICES = 3
"""Fewer planes along any axis are a picture, not a volume."""
MAX_DIRECTION_ERROR = 1e-3
"""Largest deviation of the axes from orthonormal: headers round direction cosines to five or six digits."""
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's and ITK's patient axes to nibabel's, and back."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT on its grid.

    Attributes:
        array: float32, axes (x, y, z) in storage order, HU.
        affine: float64 4x4, voxel index -> patient mm, RAS+.
        source: where it came from, for messages.
        header: the NIfTI header it was read with, so that a mask can repeat the geometry bit for bit.
    """

    array: FloatArray = field(repr=False)
    affine: Affine
    source: str = "volume"
    header: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype != np.float32:
            raise DataError(
                f"{self.source}: expected a 3-dimensional float32 array, found {self.array.ndim} dimensions "
                f"of {self.array.dtype}"
            )
        check_affine(self.affine, self.source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        x, y, z = self.array.shape
        return (x, y, z)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along each array axis, in mm."""
        x, y, z = (float(value) for value in np.linalg.norm(self.affine[:3, :3], axis=0))
        return (x, y, z)

    @property
    def voxel_cc(self) -> float:
        """Volume of one voxel in cubic centimetres."""
        return float(np.prod(self.spacing)) / 1000.0


def check_affine(affine: Affine, source: str) -> None:
    """Refuse an affine that is not a rotation (or reflection) times a sensible voxel size plus an offset.

    Oblique and left-handed storage are fine: the affine says so and every step here follows it.

    Raises:
        DataError: wrong shape, not finite, zero or absurd spacing, sheared axes.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise DataError(f"{source}: its affine is not a finite 4x4 voxel-to-patient matrix")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (spacing < 0.01).any() or (spacing > 50).any():
        shown = " x ".join(f"{value:g}" for value in spacing)
        raise DataError(f"{source}: voxel size {shown} mm; each must lie between 0.01 and 50 mm (are the units mm?)")
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > MAX_DIRECTION_ERROR:
        raise DataError(f"{source}: its axes are sheared (gantry tilt?); resample it to orthogonal axes first")


def check_hu(array: FloatArray, source: str) -> None:
    """Refuse what cannot be a chest CT in HU.

    Raises:
        DataError: too few slices, NaN or infinity, or a value range that is not that of a CT with air in it.
    """
    if min(array.shape) < MIN_SLICES:
        shape = " x ".join(str(size) for size in array.shape)
        raise DataError(f"{source}: {shape} voxels; a CT needs at least {MIN_SLICES} slices along each axis")
    low, high = float(array.min()), float(array.max())  # NaN and infinity come through min and max
    if not np.isfinite(low) or not np.isfinite(high):
        bad = int(array.size - np.isfinite(array).sum())
        raise DataError(f"{source}: {bad} voxel(s) are NaN or infinite; export the CT again")
    if low > -200 or high < 0 or high > 1e5 or low < -1e5:
        raise DataError(
            f"{source}: values run from {low:g} to {high:g}; a chest CT in HU holds air near -1000 and tissue "
            "above 0 (normalised, windowed or not rescaled to HU?)"
        )


def suffix_of(path: Path) -> str:
    """The file name ending that decides the format (`.nii.gz` counts as one)."""
    name = path.name.lower()
    return next((suffix for suffix in sorted(CT_SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), path.suffix)


def read_ct(path: Path) -> Volume:
    """Read a CT from one file: NIfTI, NRRD or MHA. (A DICOM folder: `rollama.dicom.series.read_series`.)

    Raises:
        DataError: missing, unreadable, not three-dimensional, no stated orientation, or not a CT in HU.
    """
    if not path.exists():
        raise DataError(f"{path}: no such CT")
    suffix = suffix_of(path)
    if path.is_dir() or suffix not in CT_SUFFIXES:
        raise DataError(f"{path}: not a CT file; accepted: {', '.join(CT_SUFFIXES)} or a folder of DICOM slices")
    volume = _read_nifti(path) if suffix in NIFTI else _read_itk(path)
    check_hu(volume.array, volume.source)
    return volume


def _read_nifti(path: Path) -> Volume:
    import nibabel

    try:
        image: Any = nibabel.load(path)
    except Exception as error:  # nibabel raises its own, zlib's and OS errors for damaged files
        raise DataError(f"{path}: not a readable NIfTI file ({type(error).__name__})") from error
    if len(image.shape) != 3:
        raise DataError(f"{path}: expected 3 dimensions, found shape {tuple(image.shape)}; give one 3D CT")
    header = image.header
    if not (header["sform_code"] or header["qform_code"]):
        raise DataError(f"{path}: states no orientation (sform and qform codes are 0), so left and right are unknown")
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise DataError(f"{path}: lengths are in {header.get_xyzt_units()[0]}; expected mm")
    affine = np.asarray(image.affine, dtype=np.float64)
    if header["sform_code"] and header["qform_code"]:
        ends = np.array([[0, 0, 0, 1], [*image.shape, 1]]).T
        if np.abs((affine - header.get_qform()) @ ends).max() > 1.0:
            raise DataError(f"{path}: sform and qform place the CT more than 1 mm apart; remove the wrong one")
    check_affine(affine, str(path))
    try:
        array = np.asarray(image.dataobj, dtype=np.float32)
    except Exception as error:
        raise DataError(f"{path}: its voxels cannot be read ({type(error).__name__}); is the file cut off?") from error
    return Volume(array, affine, str(path), header.copy())


def _read_itk(path: Path) -> Volume:
    import SimpleITK

    try:
        image: Any = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise DataError(f"{path}: not a readable {suffix_of(path)[1:].upper()} file") from error
    channels = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() != 3 or channels != 1:
        raise DataError(f"{path}: expected one 3D volume, found size {image.GetSize()} with {channels} channel(s)")
    _require_orientation(path, image)
    array = np.ascontiguousarray(SimpleITK.GetArrayViewFromImage(image), dtype=np.float32).transpose(2, 1, 0)
    return Volume(array, itk_affine(image), str(path))


def _require_orientation(path: Path, image: Any) -> None:
    """ITK fills in the identity when a header states no orientation; left and right would then be a guess."""
    if suffix_of(path) in (".nrrd", ".nhdr"):
        stated = image.HasMetaDataKey("NRRD_space")
        key = "space"
    else:
        with path.open("rb") as stream:
            head = stream.read(4096)
        stated = any(key in head for key in (b"TransformMatrix", b"Rotation", b"Orientation"))
        key = "TransformMatrix"
    if not stated:
        raise DataError(f"{path}: states no orientation (no {key!r} in its header), so left and right are unknown")


def itk_affine(image: Any) -> Affine:
    """Voxel -> patient matrix (RAS+, mm) of a SimpleITK image, whose own convention is LPS+."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.asarray(LPS_RAS @ affine + 0.0)  # + 0.0 turns -0.0 into 0.0


def to_canonical(volume: Volume) -> Volume:
    """Permute and flip axes (a view, no interpolation) so that they run as nearly as possible to R, A and S."""
    from nibabel import orientations as untyped

    orientations: Any = untyped
    orientation = orientations.io_orientation(volume.affine)
    if np.array_equal(orientation, [[0, 1], [1, 1], [2, 1]]):
        return volume
    array = orientations.apply_orientation(volume.array, orientation)
    affine = volume.affine @ orientations.inv_ornt_aff(orientation, volume.array.shape)
    return Volume(np.asarray(array), affine, volume.source)


def to_model_grid(volume: Volume, spacing: float | Sequence[float]) -> Volume:
    """The CT on the model's grid: axes nearest to R, A, S and voxels of `spacing` mm.

    Linear interpolation; where the model's voxels are larger than the CT's the triangle kernel widens with them, so
    that every native voxel counts and thin structures are averaged rather than skipped (anti-aliasing). The new grid
    shares the centre of the old one and covers all of it. A CT that already has this grid is returned unchanged.

    Args:
        volume: any orientation; oblique axes stay oblique.
        spacing: mm, one number or one for each of x, y, z.

    Raises:
        DataError: a spacing that is not positive.
    """
    wanted = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,))
    if not (wanted > 0).all():
        raise DataError(f"model spacing must be positive, found {tuple(wanted.tolist())} mm")
    canonical = to_canonical(volume)
    old = np.asarray(canonical.spacing)
    if np.abs(old / wanted - 1).max() < 1e-5:
        return canonical
    sizes = [max(1, int(np.ceil(n * a / b - 1e-4))) for n, a, b in zip(canonical.shape, old, wanted, strict=True)]
    scale = wanted / old
    start = [(n - 1) / 2 - (m - 1) / 2 * s for n, m, s in zip(canonical.shape, sizes, scale, strict=True)]
    weights = [
        _axis_weights(n, s0 + s * np.arange(m), s, clamp=True)
        for n, m, s0, s in zip(canonical.shape, sizes, start, scale, strict=True)
    ]
    array = _apply_separable(canonical.array, weights)
    step = np.eye(4)
    step[:3, :3] = np.diag(scale)
    step[:3, 3] = start
    return Volume(array, canonical.affine @ step, volume.source)


def _axis_weights(n: int, positions: npt.NDArray[np.float64], scale: float, clamp: bool) -> FloatArray:
    """Interpolation matrix (len(positions), n): triangle kernel of half-width max(1, scale) voxels.

    Positions outside the volume (more than half a voxel beyond the outer centres) give a zero row, or the edge value
    when `clamp` is set.
    """
    width = max(1.0, scale)
    if clamp:
        positions = positions.clip(-0.5, n - 0.5)
    distance = np.abs(positions[:, None] - np.arange(n)[None, :])
    weights = np.maximum(0.0, 1.0 - distance / width)
    # A sampled wide kernel has its centroid slightly off; tilt it so that linear functions of position stay exact.
    # Kernels cut by the border stay as they are (the tilt would extrapolate).
    index = np.arange(n)
    total = weights.sum(axis=1, keepdims=True)
    centroid = (weights * index).sum(axis=1, keepdims=True) / np.maximum(total, 1e-9)
    variance = (weights * (index - centroid) ** 2).sum(axis=1, keepdims=True) / np.maximum(total, 1e-9)
    whole = ((positions >= width - 1) & (positions <= n - width))[:, None] & (variance > 0)
    tilt = np.divide(positions[:, None] - centroid, variance, out=np.zeros_like(variance), where=whole)
    weights = weights * (1 + tilt * (index - centroid))
    total = weights.sum(axis=1, keepdims=True)
    inside = (positions >= -0.5 - 1e-6) & (positions <= n - 0.5 + 1e-6)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return np.asarray(weights * inside[:, None], dtype=np.float32)


def _apply_separable(array: FloatArray, weights: Sequence[FloatArray]) -> FloatArray:
    """Apply one matrix an axis; x and y slice by slice, so that no second native-size array exists."""
    along_x, along_y, along_z = weights
    planes = np.empty((along_x.shape[0], along_y.shape[0], array.shape[2]), dtype=np.float32)
    for index in range(array.shape[2]):
        planes[:, :, index] = along_x @ np.ascontiguousarray(array[:, :, index]) @ along_y.T
    return np.asarray(planes @ along_z.T, dtype=np.float32)


def mask_to_native(mask: npt.NDArray[Any], model_volume: Volume, native_volume: Volume) -> Mask:
    """Bring a mask or probability map from the model's grid back onto the CT's own grid.

    One channel is interpolated linearly and cut at 0.5, one native slice at a time: the cost is one uint8 volume.

    Args:
        mask: bool, 0/1 or probability, on the grid of `model_volume`.
        model_volume: what `to_model_grid` made of `native_volume` (crops and pads of it are fine too).
        native_volume: the CT as read.

    Returns:
        uint8 0/1 of exactly the native shape; 0 where the model's grid does not reach.

    Raises:
        DataError: the mask is not on the model's grid, or the two grids are turned against each other.
    """
    if mask.shape != model_volume.shape:
        raise DataError(f"mask of shape {mask.shape} is not on the model's grid {model_volume.shape}")
    transform = np.linalg.inv(model_volume.affine) @ native_volume.affine  # native index -> model index
    axes = np.abs(transform[:3, :3]).argmax(axis=0)  # the model axis that each native axis runs along
    scales = transform[axes, range(3)]
    residual = transform[:3, :3].copy()
    residual[axes, range(3)] = 0.0
    # Over a whole axis the neglected rotation must stay far below a voxel.
    if sorted(axes.tolist()) != [0, 1, 2] or np.abs(residual).max() * max(native_volume.shape) > 0.1:
        raise DataError(
            f"{native_volume.source}: the mask's grid is turned against the CT's; use that of to_model_grid"
        )
    values = np.asarray(mask, dtype=np.float32).transpose(axes)
    weights = [
        _axis_weights(
            mask.shape[axis],
            transform[axis, 3] + scale * np.arange(n, dtype=np.float64),
            abs(float(scale)),
            clamp=False,
        )
        for axis, scale, n in zip(axes, scales, native_volume.shape, strict=True)
    ]
    along_x, along_y, along_z = weights
    result: Mask = np.zeros(native_volume.shape, dtype=np.uint8)
    for index in range(result.shape[2]):
        if along_z[index].any():
            result[:, :, index] = along_x @ (values @ along_z[index]) @ along_y.T >= 0.5 - 1e-6
    return result


def write_mask(path: Path, mask: Mask, volume: Volume) -> None:
    """Write a mask as NIfTI (uint8, gzip when the name ends in `.gz`) on the grid of `volume`.

    Geometry: for a CT read from NIfTI all geometry fields of the header (sform, qform, codes, pixdim) are repeated
    bit for bit. NIfTI-1 stores float32, so for NRRD, MHA and DICOM the sform holds the CT's affine rounded once to
    float32; qform and sform both carry code 1 (scanner). Read back by ITK, size, origin and spacing then equal the
    CT's bit for bit once both are rounded to float32, and so do directions along the patient's axes; oblique
    directions pass through the qform's quaternion and agree to 1e-6.

    Raises:
        DataError: another shape than the CT's, values other than 0 and 1, or the file cannot be written.
    """
    import nibabel

    if mask.shape != volume.shape:
        raise DataError(f"{path}: mask of shape {mask.shape}, but the CT {volume.source} has {volume.shape}")
    if mask.max(initial=0) > 1 or mask.dtype != np.uint8:
        raise DataError(f"{path}: a mask holds 0 and 1 as uint8, found {mask.dtype} up to {mask.max(initial=0)}")
    nifti: Any = nibabel
    if volume.header is not None:
        header = _geometry_header(volume.header)
        kind = nifti.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nifti.Nifti1Image
        image = kind(mask, None, header=header)
    else:
        image = nifti.Nifti1Image(mask, volume.affine)
        image.set_qform(volume.affine, code=1)
        image.set_sform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = RESEARCH_ONLY[:79].encode()
    with new_file(path) as temporary:
        nibabel.save(image, temporary)


def _geometry_header(source: Any) -> Any:
    """A header with the geometry of `source` and none of its free text, which may name a patient."""
    header = type(source)(endianness=source.endianness)
    for key in (
        "dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
        "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
    ):  # fmt: skip
        header[key] = source[key]
    header.set_data_dtype(np.uint8)
    return header


def read_mask(path: Path, volume: Volume) -> Mask:
    """Read a 0/1 mask that lies on the grid of `volume`.

    Raises:
        DataError: unreadable, or of another shape or affine than the CT.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        values = np.asarray(image.dataobj)
    except Exception as error:  # nibabel raises its own, zlib's and OS errors for damaged files
        raise DataError(f"{path}: not a readable NIfTI file ({type(error).__name__})") from error
    if values.shape != volume.shape or not np.allclose(image.affine, volume.affine, atol=1e-3):
        raise DataError(f"{path}: is not on the grid of {volume.source}")
    return np.asarray(values != 0, dtype=np.uint8)
