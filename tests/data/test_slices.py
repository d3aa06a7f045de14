"""The pictures must not mirror the patient."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rollama import RESEARCH_ONLY
from rollama.core.errors import DataError
from rollama.data.slices import Panel, draw_panels, draw_planes, figure_png, to_ras

RAS = np.diag([4.0, 2.0, 5.0, 1.0])
LPS = np.array([[-4.0, 0, 0, 76], [0, -2.0, 0, 58], [0, 0, 5.0, 0], [0, 0, 0, 1]])


def make_volume(affine: np.ndarray) -> Any:
    """Air with one dense block at the patient's right, front, top."""
    array = np.full((20, 30, 12), -1000.0, dtype=np.float32)
    array[14:18, 22:28, 8:11] = 300.0
    return SimpleNamespace(array=array if affine is RAS else array[::-1, ::-1], affine=affine)


@pytest.mark.parametrize("affine", [RAS, LPS])
def test_patient_right_is_drawn_at_the_left_whatever_the_storage_order(affine: np.ndarray) -> None:
    volume = make_volume(affine)
    figure = draw_planes(volume, {"true": (volume.array > 0).astype(np.uint8)}, "case-1")
    axial, coronal, sagittal = figure.axes
    rows, columns = np.nonzero(np.asarray(axial.images[0].get_array()) > 0)
    assert columns.max() < 10  # image left = patient right
    assert rows.min() > 15  # rows grow upwards to anterior
    rows, columns = np.nonzero(np.asarray(coronal.images[0].get_array()) > 0)
    assert columns.max() < 10
    assert rows.min() > 6
    rows, columns = np.nonzero(np.asarray(sagittal.images[0].get_array()) > 0)
    assert columns.max() < 15  # anterior at the left
    letters = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert letters == [list("RLAP"), list("RLSI"), list("APSI")]


def test_slices_are_in_millimetres_and_named_in_patient_coordinates() -> None:
    volume = make_volume(LPS)
    axial = draw_planes(volume, {"true": volume.array > 0}).axes[0]
    assert axial.images[0].get_extent() == [0, 80, 0, 60]
    assert axial.get_title() == "Axial, z = 40 mm"
    assert axial.get_aspect() == 1.0


def test_contour_surrounds_the_mask() -> None:
    volume = make_volume(RAS)
    axial = draw_planes(volume, {"true": volume.array > 0}).axes[0]
    box = axial.collections[0].get_datalim(axial.transData)
    # voxels 14..17 of 20 at 4 mm, seen from the right edge: 80 - 18*4 = 8 to 80 - 14*4 = 24
    np.testing.assert_allclose((box.x0, box.x1, box.y0, box.y1), (8, 24, 44, 56))


def test_empty_masks_are_named_and_the_label_is_on_every_picture() -> None:
    volume = make_volume(RAS)
    figure = draw_planes(volume, {"true": np.zeros(volume.array.shape), "predicted": volume.array > 0})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["true (empty)", "predicted"]
    assert any(RESEARCH_ONLY in text.get_text() for text in figure.texts)
    assert figure_png(figure, dpi=50).startswith(b"\x89PNG")


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"mask 'true' has shape \(2, 2, 2\)"):
        draw_planes(make_volume(RAS), {"true": np.zeros((2, 2, 2))})


def test_to_ras_keeps_every_voxel_in_its_place() -> None:
    volume = make_volume(LPS)
    array, affine = to_ras(volume.array, volume.affine)
    index = np.argwhere(array > 0)[0]
    before = np.argwhere(volume.array > 0)
    where = affine[:3, :3] @ index + affine[:3, 3]
    assert any(np.allclose(LPS[:3, :3] @ other + LPS[:3, 3], where) for other in before)
    assert np.all(np.diag(affine)[:3] > 0)


def test_panels_show_one_ct_under_several_masks() -> None:
    array = np.full((20, 16, 12), 40.0, np.float32)
    volume: Any = SimpleNamespace(array=array, affine=np.diag([5.0, 5.0, 5.0, 1.0]), shape=array.shape)
    first, second = np.zeros(array.shape, bool), np.zeros(array.shape, bool)
    first[2:6, 4:8, 3:5] = True
    second[12:16, 4:8, 9:11] = True
    panels = [
        Panel("one", {"true": first, "found": first}, first),
        Panel("two", {"true": second, "found": first}, second),
    ]
    figure = draw_panels(volume, panels, "a case")
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes[::2]] == ["one", "two"]
    contours = [len(axes.collections) for axes in figure.axes]
    assert contours == [2, 2, 1, 2]  # the second panel's axial slice goes through its own mask, where the other is not
    assert figure_png(figure).startswith(b"\x89PNG")
    nothing = Panel("none", {"true": first & second, "found": first & second}, first & second)
    assert [len(axes.collections) for axes in draw_panels(volume, [nothing], "x").axes] == [0, 0]
