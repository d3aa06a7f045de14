"""CT volumes and masks between files, the native grid and the model's grid, without losing a millimetre or a side.

A target on the wrong side or moved by a slice is worse than none, so every file either states its geometry or is
refused, arrays never travel without their affine, and no axis is ever assumed. One convention throughout: arrays are
(x, y, z) in HU, affines map voxel indices to patient millimetres in RAS+ (x to the patient's left is negative), as
nibabel has them. Files of the ITK family (NRRD, MHA) are LPS and are converted on reading.

    file --read_ct--> native Volume --to_model_grid--> model Volume --network--> mask --mask_to_native--> write_mask

The two steps between the native and the model's grid are in `resampling`.
"""

from __future__ import annotations

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
STEPS_OF_ONE = 200
"""A probability map is kept in steps of half a percent: a byte a voxel."""

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
        organs: 0/1 mask of organs on the same grid, for models that read one beside the CT; None: not known.
    """

    array: FloatArray = field(repr=False)
    affine: Affine
    source: str = "volume"
    header: Any = field(default=None, repr=False)
    organs: Mask | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype != np.float32:
            raise DataError(
                f"{self.source}: expected a 3-dimensional float32 array, found {self.array.ndim} dimensions "
                f"of {self.array.dtype}"
            )
        if self.organs is not None and self.organs.shape != self.array.shape:
            raise DataError(f"{self.source}: organ mask of shape {self.organs.shape}, the CT has {self.array.shape}")
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
    if path.is_dir() or (path.exists() and suffix_of(path) not in CT_SUFFIXES):
        raise DataError(f"{path}: not a CT file; accepted: {', '.join(CT_SUFFIXES)} or a folder of DICOM slices")
    volume = read_volume(path, "CT")
    check_hu(volume.array, volume.source)
    return volume


def read_volume(path: Path, kind: str = "volume") -> Volume:
    """Read any volume, such as a label map, from one file: NIfTI, NRRD or MHA.

    Raises:
        DataError: missing, unreadable, not three-dimensional, or no stated orientation.
    """
    if not path.exists():
        raise DataError(f"{path}: no such {kind}")
    suffix = suffix_of(path)
    if suffix not in CT_SUFFIXES:
        raise DataError(f"{path}: not a volume; accepted: {', '.join(CT_SUFFIXES)}")
    return _read_nifti(path) if suffix in NIFTI else _read_itk(path)


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
    # A copy: a view of a float32 image would outlive the image that owns its memory.
    array = SimpleITK.GetArrayFromImage(image).astype(np.float32, copy=False).transpose(2, 1, 0)
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
    organs = None
    if volume.organs is not None:
        organs = np.asarray(orientations.apply_orientation(volume.organs, orientation))
    return Volume(np.asarray(array), affine, volume.source, organs=organs)


def write_ct(path: Path, volume: Volume) -> None:
    """Write a CT as NIfTI on its own grid, int16 where that loses nothing, without its header's free text.

    Raises:
        DataError: the file cannot be written.
    """
    whole = bool((volume.array == np.rint(volume.array)).all()) and np.abs(volume.array).max() < 2**15
    _write(path, volume.array.astype(np.int16) if whole else volume.array, volume)


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
    if mask.shape != volume.shape:
        raise DataError(f"{path}: mask of shape {mask.shape}, but the CT {volume.source} has {volume.shape}")
    if mask.max(initial=0) > 1 or mask.dtype != np.uint8:
        raise DataError(f"{path}: a mask holds 0 and 1 as uint8, found {mask.dtype} up to {mask.max(initial=0)}")
    _write(path, mask, volume)


def write_probability(path: Path, values: npt.NDArray[np.uint8], volume: Volume) -> None:
    """Write a probability map as NIfTI, geometry as `write_mask`; a byte a voxel and a slope, read as 0 to 1.

    Args:
        path: the file.
        values: (x, y, z) in steps of 1 / `STEPS_OF_ONE`.
        volume: the CT.

    Raises:
        DataError: another shape than the CT's, or the file cannot be written.
    """
    if values.shape != volume.shape or values.max(initial=0) > STEPS_OF_ONE:
        raise DataError(f"{path}: a map of shape {values.shape} up to {values.max(initial=0)} is no probability here")
    _write(path, values, volume, 1 / STEPS_OF_ONE)


def _write(path: Path, values: npt.NDArray[Any], volume: Volume, slope: float | None = None) -> None:
    import nibabel

    nifti: Any = nibabel
    if volume.header is not None:
        header = _geometry_header(volume.header, values.dtype)
        kind = nifti.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nifti.Nifti1Image
        image = kind(values, None, header=header)
    else:
        image = nifti.Nifti1Image(values, volume.affine)
        image.set_qform(volume.affine, code=1)
        image.set_sform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = RESEARCH_ONLY[:79].encode()
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    with new_file(path) as temporary:
        nibabel.save(image, temporary)


def _geometry_header(source: Any, dtype: npt.DTypeLike) -> Any:
    """A header with the geometry of `source` and none of its free text, which may name a patient."""
    header = type(source)(endianness=source.endianness)
    for key in (
        "dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
        "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
    ):  # fmt: skip
        header[key] = source[key]
    header.set_data_dtype(dtype)
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
