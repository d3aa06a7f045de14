"""Masks survive the way into a structure set and back, voxel by voxel; what does not fit its CT is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK

from rollama.core.errors import DataError
from rollama.data.volumes import Volume
from rollama.dicom.contours import fill, outline
from rollama.dicom.rtstruct import frame_of, read_rtstruct, write_rtstruct
from rollama.dicom.series import read_series
from rollama.dicom.write import write_series
from tests.dicom.data import IDENTITY, SHAPE, ct_volume
from tests.dicom.test_write import STORED, stored


def masks() -> dict[str, np.ndarray]:
    """Shapes that outlines find hard, each (x, y, z)."""
    x, y, z = np.indices(SHAPE)
    ball = ((x - 11) / 8) ** 2 + ((y - 9) / 7) ** 2 + ((z - 6) / 5) ** 2 < 1
    shell = ball & ~(((x - 11) / 4) ** 2 + ((y - 9) / 3) ** 2 + ((z - 6) / 3) ** 2 < 1)
    core = shell | ((x == 11) & (y == 9) & (z == 6))  # an island within a hole
    holes = ball & ~((x % 3 == 1) & (y % 3 == 1))
    dots = (x % 2 == 0) & (y % 2 == 0) & (z == 4)
    chess = ((x + y) % 2 == 0) & (z == 5)  # pixels that touch at corners only
    border = (x < 3) | (y > 17) | ((x == 23) & (y == 0))
    ell = ((x >= 4) & (x < 7) & (y >= 3) & (y < 15)) | ((x >= 4) & (x < 18) & (y >= 3) & (y < 6))
    noise = np.random.default_rng(3).random(SHAPE) < 0.5
    one = np.zeros(SHAPE, bool)
    one[7, 3, 0] = True
    row = (y == 4) & (x > 2) & (x < 19) & (z == 11)
    return {"ball": ball, "shell": shell, "core": core, "holes": holes, "dots": dots, "chess": chess, "border": border,
            "ell": ell, "noise": noise, "one": one, "row": row, "all": np.ones(SHAPE, bool)}  # fmt: skip


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 5.0), (0.976562, 1.3, 2.5)])
def test_every_shape_comes_back_exactly(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    ct, drawn = ct_volume(spacing), masks()
    write_series(tmp_path / "ct", ct, IDENTITY)
    assert write_rtstruct(tmp_path / "rs.dcm", ct, drawn, IDENTITY) == tuple(drawn)
    series = read_series(tmp_path / "ct")
    found = read_rtstruct(tmp_path / "rs.dcm", series, frame_of(tmp_path / "ct"))
    assert list(found) == list(drawn)
    for name, mask in drawn.items():
        assert np.array_equal(found[name][::-1, ::-1], mask), name  # the series runs to the left and to the back
    for name, mask in read_rtstruct(tmp_path / "rs.dcm", ct).items():
        assert np.array_equal(mask, drawn[name]), name


@pytest.mark.parametrize("order", STORED)
def test_the_order_of_storage_does_not_matter(tmp_path: Path, order: str) -> None:
    ct = stored(order)
    mask = np.asarray(STORED[order](masks()["noise"], np.eye(4))[0])
    write_series(tmp_path / "ct", ct, IDENTITY)
    write_rtstruct(tmp_path / "rs.dcm", ct, {"noise": mask}, IDENTITY)
    assert np.array_equal(read_rtstruct(tmp_path / "rs.dcm", ct)["noise"], mask)
    there = read_rtstruct(tmp_path / "rs.dcm", read_series(tmp_path / "ct"))["noise"]
    assert np.array_equal(there[::-1, ::-1], masks()["noise"])


@pytest.mark.parametrize("name", masks())
def test_readers_that_unite_outlines_see_the_holes_too(name: str) -> None:
    """Each polygon by itself, combined by 'or': only keyholes pass this."""
    for plane in masks()[name].transpose(2, 1, 0):
        united = np.zeros(plane.shape, bool)
        for polygon in outline(plane):
            assert len(polygon) >= 4 and (polygon[0] != polygon[-1]).any()
            united |= fill([polygon], (plane.shape[1], plane.shape[0])).T
        assert np.array_equal(united, plane)


@pytest.mark.parametrize("name", masks())
def test_outlines_run_between_in_and_out_and_channels_run_inside(name: str) -> None:
    """No line passes outside the mask, none beyond half a pixel from the border, and a channel is passed twice."""
    for plane in masks()[name].transpose(2, 1, 0):
        level = np.zeros((plane.shape[0] + 1, plane.shape[1]), int)  # passages between pixels (row - 1, c) and (row, c)
        upright = np.zeros((plane.shape[0], plane.shape[1] + 1), int)
        for polygon in outline(plane):
            assert polygon.min() >= -0.5 and (polygon.max(axis=0) <= np.array(plane.shape[::-1]) - 0.5).all()
            for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                assert x0 == x1 or y0 == y1 or abs(x0 - x1) == abs(y0 - y1)
                if y0 == y1:
                    level[int(y0 + 0.5), int(np.floor(min(x0, x1))) + 1 : int(np.ceil(max(x0, x1)))] += 1
                elif x0 == x1:
                    upright[int(np.floor(min(y0, y1))) + 1 : int(np.ceil(max(y0, y1))), int(x0 + 0.5)] += 1
        padded = np.pad(plane, 1)
        above, below, before, after = padded[:-1, 1:-1], padded[1:, 1:-1], padded[1:-1, :-1], padded[1:-1, 1:]
        assert (level[above != below] <= 1).all() and not level[~above & ~below].any()
        assert set(level[above & below].tolist()) <= {0, 2}
        assert (upright <= (before != after)).all()


def test_winding_of_a_hole_is_opposite_to_its_outline() -> None:
    """By the area formula a keyholed region counts without its hole: 49 pixels less 9, and the cut corners."""
    plane = np.zeros((12, 12), bool)
    plane[2:9, 2:9] = True
    plane[4:7, 4:7] = False
    (polygon,) = outline(plane)
    x, y = polygon.T
    assert abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 == pytest.approx((49 - 0.5) - (9 - 0.5))


def test_contours_lie_where_an_independent_reader_has_the_voxels(tmp_path: Path) -> None:
    """Points of each contour, through ITK's geometry of the series, frame the mask's columns and rows of that slice."""
    ct = ct_volume((3.0, 4.0, 5.0))
    mask = masks()["ell"] & (np.indices(SHAPE)[2] < 4)
    write_series(tmp_path / "ct", ct, IDENTITY)
    write_rtstruct(tmp_path / "rs.dcm", ct, {"ell": mask}, IDENTITY)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "ct"))
    image = SimpleITK.ReadImage(names)
    slices = {pydicom.dcmread(name).SOPInstanceUID: pydicom.dcmread(name) for name in names}
    seen = SimpleITK.GetArrayFromImage(image)
    (roi,) = pydicom.dcmread(tmp_path / "rs.dcm").ROIContourSequence
    assert len(roi.ContourSequence) == 4
    for contour in roi.ContourSequence:
        points = np.reshape(contour.ContourData, (-1, 3)).astype(float)
        assert contour.NumberOfContourPoints == len(points)
        named = slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
        assert (points[:, 2] == float(named.ImagePositionPatient[2])).all()
        index = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points])
        low, high = np.ceil(index.min(axis=0)).astype(int), np.floor(index.max(axis=0)).astype(int)
        part = seen[low[2], low[1] : high[1] + 1, low[0] : high[0] + 1]
        x, y, _ = np.nonzero(mask)
        wanted = ct.array[x.min() : x.max() + 1, y.min() : y.max() + 1, low[2]]
        assert np.array_equal(part, wanted.T[::-1, ::-1])


def test_the_structure_set_refers_to_its_series(tmp_path: Path) -> None:
    ct = ct_volume()
    write_series(tmp_path / "ct", ct, IDENTITY)
    empty = np.zeros(SHAPE, bool)
    names = write_rtstruct(
        tmp_path / "rs.dcm", ct, {"CTV_Total": masks()["ball"], "none": empty, "bed": masks()["one"]}, IDENTITY
    )
    assert names == ("CTV_Total", "bed")
    dataset = pydicom.dcmread(tmp_path / "rs.dcm")
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "ct").iterdir())]
    first = slices[0]
    assert dataset.StudyInstanceUID == first.StudyInstanceUID and dataset.PatientID == first.PatientID
    assert dataset.SeriesInstanceUID != first.SeriesInstanceUID
    (frame,) = dataset.ReferencedFrameOfReferenceSequence
    assert frame.FrameOfReferenceUID == dataset.FrameOfReferenceUID == first.FrameOfReferenceUID
    (study,) = frame.RTReferencedStudySequence
    (series,) = study.RTReferencedSeriesSequence
    assert study.ReferencedSOPInstanceUID == first.StudyInstanceUID
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    referenced = [item.ReferencedSOPInstanceUID for item in series.ContourImageSequence]
    assert referenced == [item.SOPInstanceUID for item in slices]
    assert [item.ROINumber for item in dataset.StructureSetROISequence] == [1, 2]
    assert {item.ROIGenerationAlgorithm for item in dataset.StructureSetROISequence} == {"AUTOMATIC"}
    assert [item.RTROIInterpretedType for item in dataset.RTROIObservationsSequence] == ["CTV", ""]
    assert len({tuple(item.ROIDisplayColor) for item in dataset.ROIContourSequence}) == 2
    assert dataset.ApprovalStatus == "UNAPPROVED"
    assert len(dataset.StructureSetLabel) <= 16 and "RESEARCH" in dataset.StructureSetLabel
    assert "SYNTHETIC" in dataset.StructureSetDescription and "RESEARCH USE ONLY" in dataset.StructureSetDescription
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"


def test_long_contours_and_short_numbers(tmp_path: Path) -> None:
    """More than 64 kB of ContourData in one contour, and no number longer than DS allows."""
    shape = (130, 120, 3)
    ct = Volume(np.full(shape, -1000, np.float32), np.diag([0.1234567, 0.7654321, 3.3333333, 1.0]))
    ct.array[:, :60] = 50
    mask = np.zeros(shape, bool)
    mask[1:-1:2, 1:-1] = mask[1:-1, 1] = True  # a comb: one long outline
    mask[2:-1:2, 2:-1:2] = True
    write_rtstruct(tmp_path / "rs.dcm", ct, {"comb": mask}, IDENTITY)
    dataset = pydicom.dcmread(tmp_path / "rs.dcm")
    lengths = []
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        texts = [item.original_string for item in contour.ContourData]
        assert max(len(text) for text in texts) <= 16
        lengths.append(len("\\".join(texts)))
    assert max(lengths) > 65534
    assert np.array_equal(read_rtstruct(tmp_path / "rs.dcm", ct)["comb"], mask)


def test_same_masks_same_bytes(tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        write_rtstruct(tmp_path / name, ct_volume(), {"ball": masks()["ball"]}, IDENTITY)
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "rs.dcm"
    with pytest.raises(DataError, match="no target has a voxel"):
        write_rtstruct(path, ct_volume(), {"CTV_Total": np.zeros(SHAPE, bool)}, IDENTITY)
    with pytest.raises(DataError, match=r"mask 'x' of shape \(2, 2, 2\)"):
        write_rtstruct(path, ct_volume(), {"x": np.ones((2, 2, 2), bool)}, IDENTITY)
    with pytest.raises(DataError, match="has 17 characters; accepted: 1 to 16"):
        write_rtstruct(path, ct_volume(), {"x" * 17: masks()["ball"]}, IDENTITY)
    assert not path.exists()


def change(field: str, value: Any) -> Callable[[Any], None]:
    def apply(dataset: Any) -> None:
        for contour in dataset.ROIContourSequence[0].ContourSequence:
            setattr(contour, field, value)

    return apply


def shift(dataset: Any, by: float) -> None:
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    points = np.reshape(contour.ContourData, (-1, 3)).astype(float) + np.array([0, 0, by])
    contour.ContourData = points.round(4).ravel().tolist()


def mix(dataset: Any) -> None:
    dataset.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "POINT"


def rename(dataset: Any) -> None:
    dataset.StructureSetROISequence[1].ROIName = dataset.StructureSetROISequence[0].ROIName


def drop(name: str) -> Callable[[Any], None]:
    return lambda dataset: delattr(dataset, name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: setattr(d, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.481.5"), "not an RTSTRUCT, found RTSTRUCT"),
        (lambda d: shift(d, 2.5), r"ROI ball: a contour at z = 44\.20 mm lies on none of the CT's 12 slices"),
        (lambda d: shift(d, -50.0), "lies on none of the CT's 12 slices, which are 5.00 mm apart"),
        (mix, "ROI ball mixes contour types CLOSED_PLANAR, POINT; accepted: CLOSED_PLANAR, CLOSEDPLANAR_XOR"),
        (rename, "two ROIs are named 'ball'"),
        (drop("StructureSetROISequence"), "no closed contours .found: none"),
        (drop("ROIContourSequence"), "no closed contours .found: none"),
        (change("ContourData", [1.0, 2.0, 3.0, 4.0]), "ContourData of 4 numbers; expected x, y, z"),
        (change("ContourData", None), "ContourData of 0 numbers; expected x, y, z"),
    ],
)
def test_spoilt_structure_sets_are_refused(tmp_path: Path, spoil: Callable[[Any], None], message: str) -> None:
    path, ct = tmp_path / "rs.dcm", ct_volume()
    write_rtstruct(path, ct, {"ball": masks()["ball"], "row": masks()["row"]}, IDENTITY)
    dataset = pydicom.dcmread(path)
    spoil(dataset)
    dataset.save_as(path)
    with pytest.raises(DataError, match=message) as caught:
        read_rtstruct(path, ct)
    assert "rs.dcm" in str(caught.value)


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    write_rtstruct(tmp_path / "rs.dcm", ct_volume(), {"ball": masks()["ball"]}, IDENTITY)
    with pytest.raises(DataError, match=r"ROI ball: frame of reference 2\.25\..*, but the CT has 1\.2\.3"):
        read_rtstruct(tmp_path / "rs.dcm", ct_volume(), "1.2.3")
    with pytest.raises(DataError, match="holds no CT slice"):
        frame_of(tmp_path)


def test_points_and_lines_are_passed_over_unless_asked_for(tmp_path: Path) -> None:
    path, ct = tmp_path / "rs.dcm", ct_volume()
    write_rtstruct(path, ct, {"iso": masks()["one"], "ball": masks()["ball"]}, IDENTITY)
    dataset = pydicom.dcmread(path)
    change("ContourGeometricType", "POINT")(dataset)
    dataset.save_as(path)
    assert list(read_rtstruct(path, ct)) == ["ball"]
    assert list(read_rtstruct(path, ct, names=["ball"])) == ["ball"]
    with pytest.raises(DataError, match="ROI iso: contour type POINT; accepted: CLOSED_PLANAR"):
        read_rtstruct(path, ct, names=["iso"])
    with pytest.raises(DataError, match="no ROI heart; it has ball, iso"):
        read_rtstruct(path, ct, names=["heart", "ball"])


def test_separate_inner_outlines_are_holes_too(tmp_path: Path) -> None:
    """How several planning systems write a hole."""
    path, ct = tmp_path / "rs.dcm", ct_volume()
    big, small = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    big[4:18, 4:16, 5] = small[8:12, 8:11, 5] = True
    write_rtstruct(path, ct, {"big": big, "small": small}, IDENTITY)
    dataset = pydicom.dcmread(path)
    first, second = dataset.ROIContourSequence
    first.ContourSequence.append(second.ContourSequence[0])
    dataset.save_as(path)
    assert np.array_equal(read_rtstruct(path, ct, names=["big"])["big"], big & ~small)


def test_files_that_are_no_structure_sets(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such RTSTRUCT file"):
        read_rtstruct(tmp_path / "none.dcm", ct_volume())
    (tmp_path / "text.dcm").write_text("not dicom")
    with pytest.raises(DataError, match=r"text\.dcm: not a readable DICOM file"):
        read_rtstruct(tmp_path / "text.dcm", ct_volume())
    write_series(tmp_path / "ct", ct_volume(), IDENTITY)
    with pytest.raises(DataError, match="not an RTSTRUCT, found CT"):
        read_rtstruct(tmp_path / "ct" / "0001.dcm", ct_volume())
