"""Targets as an RT structure set, and structure sets of planning systems as masks.

RTSTRUCT is what contours travel in between planning systems. It draws on a CT series: the same frame of reference,
each contour on one named slice, points in patient millimetres. A structure set that misses its CT by a UID is
refused on import or, worse, lands on another patient's; so the UIDs come from the same `Identity` as the CT's, and
what is read back is checked against the CT's slices before a voxel is set.

The conventions on outlines and holes are those of `rollama.dicom.contours`. Standard: DICOM PS3.3 A.19 (IOD), C.8.8.5
(structure set), C.8.8.6 (ROI contour), C.8.8.8 (observations).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rollama import RESEARCH_ONLY
from rollama.core.errors import DataError
from rollama.core.files import new_file
from rollama.data.volumes import LPS_RAS, Affine, Volume
from rollama.dicom.contours import BoolMask, Points, fill, outline
from rollama.dicom.series import CT_IMAGE
from rollama.dicom.write import STUDY_DATE, STUDY_TIME, SYNTHETIC, Identity, axial_grid, new_object, save

RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, and still what RTReferencedStudySequence names in practice."""
STRUCTURE_SET_LABEL = "RESEARCH ONLY"
MAX_NAME = 16
"""Characters of an ROI name that every planning system keeps (TG-263)."""
TARGETS = ("CTV", "PTV", "GTV")
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
MAX_OFF_SLICE = 0.2
"""Largest distance of a contour from its slice, as a share of the slice distance; rounded headers need some."""
COLOURS = ((230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240), (240, 50, 230),
           (210, 245, 60), (255, 225, 25), (0, 128, 128), (170, 110, 40), (128, 128, 128))  # fmt: skip


def write_rtstruct(path: Path, ct: Volume, rois: Mapping[str, BoolMask], identity: Identity) -> tuple[str, ...]:
    """Write masks as the structure set of the series that `write_series` makes of the same CT and identity.

    Implicit VR Little Endian: ContourData may exceed the 64 kB that explicit VR has for it. ROIs are AUTOMATIC and
    UNAPPROVED, numbered from 1 in the order given; empty ones are left out, as an ROI needs a contour.

    Args:
        path: the new file; an old one of this name is replaced.
        ct: the CT, as given to `write_series`.
        rois: name (at most 16 characters) -> bool mask on the CT's grid. Names that begin with CTV, PTV or GTV, as
            TG-263 has them, get that RTROIInterpretedType; others get none.
        identity: that of the series.

    Returns:
        The names written.

    Raises:
        DataError: no mask has a voxel, a mask is not on the CT's grid, a name is too long, the CT is oblique, or the
            file cannot be written.
    """
    from pydicom.uid import ImplicitVRLittleEndian

    grid = axial_grid(ct)
    images = tuple(identity.uid("slice", index) for index in range(grid.shape[2]))
    canvas = Canvas(
        grid.affine, grid.planes, identity.uid("study"), identity.uid("series"), identity.uid("frame"), images
    )
    dataset = new_object(identity, RTSTRUCT, identity.uid("rtstruct"), ImplicitVRLittleEndian)
    dataset.SeriesInstanceUID, dataset.SeriesNumber = identity.uid("rtstruct-series"), 2
    dataset.PositionReferenceIndicator = ""
    date, time = (STUDY_DATE, STUDY_TIME) if identity.synthetic else ("", "")
    dataset.StructureSetDate, dataset.StructureSetTime = date, time
    about = f"{SYNTHETIC}. {RESEARCH_ONLY}" if identity.synthetic else RESEARCH_ONLY
    return draw(path, dataset, ct, canvas, rois, Words(identity.label, about))


@dataclass(frozen=True, eq=False)
class Canvas:
    """The CT series that contours are drawn on.

    Attributes:
        affine: (column, row, slice) index -> patient mm, LPS.
        planes: turns a mask on the CT's grid into (slice, row, column).
        study, series, frame: UIDs of the CT's study, series and frame of reference.
        images: SOPInstanceUID of each slice.
    """

    affine: Affine
    planes: Callable[[BoolMask], BoolMask]
    study: str
    series: str
    frame: str
    images: Sequence[str]

    def image(self, index: int) -> Any:
        """Reference to a slice."""
        return _item(ReferencedSOPClassUID=CT_IMAGE, ReferencedSOPInstanceUID=self.images[index])


@dataclass(frozen=True)
class Words:
    """What a structure set says: its name (64 characters), about itself (1024), how its ROIs were made (64)."""

    name: str
    about: str
    made: str = ""


def draw(
    path: Path, dataset: Any, ct: Volume, canvas: Canvas, rois: Mapping[str, BoolMask], words: Words
) -> tuple[str, ...]:
    """Complete a structure set that has patient, study, series UID and dates, and write it.

    Returns:
        The names of the ROIs written; see `write_rtstruct`.

    Raises:
        DataError: see `write_rtstruct`.
    """
    for name, mask in rois.items():
        if mask.shape != ct.shape:
            raise DataError(f"{path}: mask {name!r} of shape {mask.shape}, but the CT has {ct.shape}")
        if not 0 < len(name) <= MAX_NAME:
            raise DataError(f"{path}: ROI name {name!r} has {len(name)} characters; accepted: 1 to {MAX_NAME}")
    filled = {name: mask for name, mask in rois.items() if mask.any()}
    if not filled:
        raise DataError(f"{path}: no target has a voxel; a structure set needs at least one contour")
    _describe(dataset, canvas, words)
    dataset.StructureSetROISequence = [_roi(number, name, canvas, words) for number, name in enumerate(filled, 1)]
    dataset.ROIContourSequence = [_contours(n, canvas.planes(m), canvas) for n, m in enumerate(filled.values(), 1)]
    dataset.RTROIObservationsSequence = [
        _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType=_kind(name), ROIInterpreter="")
        for number, name in enumerate(filled, 1)
    ]
    dataset.ApprovalStatus = "UNAPPROVED"
    with new_file(path) as temporary:
        save(dataset, temporary)
    return tuple(filled)


def _kind(name: str) -> str:
    return name[:3] if name[:3] in TARGETS else ""  # type 2: may be empty


def _item(**values: Any) -> Any:
    from pydicom import config
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in values.items():
        tag = tag_for_keyword(name)
        assert tag is not None
        # Unchecked: a CT's UIDs are repeated as they are, also ill-formed ones, and a complaint would print them.
        item.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
    return item


def _describe(dataset: Any, canvas: Canvas, words: Words) -> None:
    """Series, frame of reference and the structure set's own description, with every slice of the CT."""
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesDescription, dataset.OperatorsName, dataset.InstanceNumber = words.name, "", 1
    dataset.StructureSetLabel, dataset.StructureSetName = STRUCTURE_SET_LABEL, words.name
    dataset.StructureSetDescription = words.about
    series = _item(
        SeriesInstanceUID=canvas.series, ContourImageSequence=[canvas.image(i) for i in range(len(canvas.images))]
    )
    study = _item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=canvas.study,
        RTReferencedSeriesSequence=[series],
    )
    frame = _item(FrameOfReferenceUID=canvas.frame, RTReferencedStudySequence=[study])
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.add(frame["FrameOfReferenceUID"])


def _roi(number: int, name: str, canvas: Canvas, words: Words) -> Any:
    made = {"ROIGenerationDescription": words.made} if words.made else {}
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=canvas.frame,
        ROIName=name,
        ROIGenerationAlgorithm="AUTOMATIC",
        **made,
    )


def _contours(number: int, planes: BoolMask, canvas: Canvas) -> Any:
    contours: list[Any] = []
    for index in np.flatnonzero(planes.any(axis=(1, 2))).tolist():
        for polygon in outline(planes[index]):
            columns = np.column_stack([polygon, np.full(len(polygon), index), np.ones(len(polygon))])
            points = np.round((columns @ canvas.affine.T)[:, :3], 4) + 0.0  # 0.1 micrometre: 16 bytes suffice
            contours.append(
                _item(
                    ContourImageSequence=[canvas.image(index)],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourNumber=len(contours) + 1,
                    ContourData=[f"{value:.4f}".rstrip("0").rstrip(".") for value in points.ravel().tolist()],
                )
            )
    colour = list(COLOURS[(number - 1) % len(COLOURS)])
    return _item(ROIDisplayColor=colour, ReferencedROINumber=number, ContourSequence=contours)


def read_rtstruct(
    path: Path, ct: Volume, frame_uid: str | None = None, names: Collection[str] | None = None
) -> dict[str, BoolMask]:
    """Read the ROIs of a structure set as masks on a CT's grid.

    Contours are filled at voxel centres by the even-odd rule; contours of one ROI on one slice are combined by
    exclusive or, which reads keyholes, CLOSEDPLANAR_XOR and separate inner outlines alike.

    Args:
        path: the RTSTRUCT file.
        ct: the CT it was drawn on, as `read_series` gives it (or its NIfTI twin, axes in any order).
        frame_uid: the CT's FrameOfReferenceUID (`frame_of`); checked when given.
        names: the ROIs to read. Default: all that have closed contours; points and open lines, such as an isocentre,
            are then passed over.

    Returns:
        ROI name -> bool mask (x, y, z).

    Raises:
        DataError: not an RTSTRUCT, no closed contours, an ROI asked for that is missing or of another type, closed
            and other contours mixed in one ROI, doubled names, damaged ContourData, a contour between or beyond the
            CT's slices, or another frame of reference.
    """
    dataset = _read(path)
    rois = _rois(path, dataset)
    missing = set(names or ()) - set(rois)
    if missing:
        raise DataError(f"{path}: no ROI {', '.join(sorted(missing))}; it has {', '.join(sorted(rois)) or 'none'}")
    contours = {item.get("ReferencedROINumber"): item for item in dataset.get("ROIContourSequence") or ()}
    masks, types = {}, set()
    for name, (number, frame) in rois.items():
        if names is not None and name not in names:
            continue
        found = list(contours[number].get("ContourSequence") or ()) if number in contours else []
        kinds = {str(item.get("ContourGeometricType", "none")) for item in found}
        types |= kinds
        if not kinds or kinds.isdisjoint(CLOSED):
            if names is not None:
                raise DataError(f"{path}: ROI {name}: contour type {_shown(kinds)}; accepted: {', '.join(CLOSED)}")
            continue
        if kinds - set(CLOSED):
            raise DataError(f"{path}: ROI {name} mixes contour types {_shown(kinds)}; accepted: {', '.join(CLOSED)}")
        if frame_uid is not None and frame != frame_uid:
            raise DataError(f"{path}: ROI {name}: frame of reference {frame}, but the CT has {frame_uid}")
        masks[name] = _mask([_points(path, name, item) for item in found], ct, f"{path}: ROI {name}")
    if not masks:
        raise DataError(f"{path}: no closed contours (found: {_shown(types)}); accepted: {', '.join(CLOSED)}")
    return masks


def frame_of(folder: Path) -> str:
    """FrameOfReferenceUID of the CT series in a folder that `read_series` accepts.

    Raises:
        DataError: no CT slice there.
    """
    import pydicom

    for path in sorted(item for item in folder.iterdir() if item.is_file()) if folder.is_dir() else ():
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception as error:  # damaged files raise whatever the parser stumbles over
            raise DataError(f"{path}: not a readable DICOM file") from error
        if header.get("SOPClassUID") == CT_IMAGE and "FrameOfReferenceUID" in header:
            return str(header.FrameOfReferenceUID)
    raise DataError(f"{folder}: holds no CT slice with a frame of reference")


def _shown(kinds: Collection[str]) -> str:
    return ", ".join(sorted(kinds)) or "none"


def _read(path: Path) -> Any:
    import pydicom

    if not path.is_file():
        raise DataError(f"{path}: no such RTSTRUCT file")
    try:
        dataset = pydicom.dcmread(path)
    except Exception as error:  # damaged files raise whatever the parser stumbles over
        raise DataError(f"{path}: not a readable DICOM file; expected an RTSTRUCT") from error
    if dataset.get("SOPClassUID") != RTSTRUCT:
        found = dataset.get("Modality") or "an object without modality"
        raise DataError(f"{path}: not an RTSTRUCT, found {found}")
    return dataset


def _rois(path: Path, dataset: Any) -> dict[str, tuple[int, str]]:
    """ROI name -> number and frame of reference."""
    rois: dict[str, tuple[int, str]] = {}
    for item in dataset.get("StructureSetROISequence") or ():
        name = str(item.get("ROIName", ""))
        if name in rois:
            raise DataError(f"{path}: two ROIs are named {name!r}; rename one")
        if "ROINumber" not in item:
            raise DataError(f"{path}: ROI {name!r} has no ROINumber")
        rois[name] = (item.ROINumber, str(item.get("ReferencedFrameOfReferenceUID", "none")))
    return rois


def _points(path: Path, name: str, contour: Any) -> Points:
    """A contour's points in mm (LPS), (points, 3)."""
    try:
        values = np.asarray(contour.get("ContourData") or (), dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: ROI {name}: ContourData holds something that is no number") from error
    if not values.size or values.size % 3 or not np.isfinite(values).all():
        raise DataError(f"{path}: ROI {name}: ContourData of {values.size} numbers; expected x, y, z of each point")
    return np.asarray(values.reshape(-1, 3))


def _mask(contours: Sequence[Points], ct: Volume, source: str) -> BoolMask:
    mask = np.zeros(ct.shape, dtype=bool)
    axis = int(np.abs(ct.affine[2, :3]).argmax())  # slices are stacked along this array axis
    planes = np.moveaxis(mask, axis, 2)
    to_index = np.linalg.inv(LPS_RAS @ ct.affine)
    on_slice: dict[int, list[Points]] = {}
    for points in contours:
        index = np.column_stack([points, np.ones(len(points))]) @ to_index.T
        depth = index[:, axis]
        number = round(float(np.median(depth)))
        if np.abs(depth - number).max() > MAX_OFF_SLICE or not 0 <= number < planes.shape[2]:
            z = float(np.median(points[:, 2]))
            raise DataError(
                f"{source}: a contour at z = {z:.2f} mm lies on none of the CT's {planes.shape[2]} slices, which are "
                f"{ct.spacing[axis]:.2f} mm apart; is it another CT's?"
            )
        on_slice.setdefault(number, []).append(np.delete(index[:, :3], axis, axis=1))
    for number, polygons in on_slice.items():
        planes[:, :, number] = fill(polygons, (planes.shape[0], planes.shape[1]))
    return mask
