"""The pictures show patients with their targets, and say that they are synthetic and for research only."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from rollama.cohort import gallery
from rollama.cohort.config import VARIANTS, CohortConfig
from rollama.cohort.gallery import draw_centres, draw_looks, draw_parts, draw_readers, draw_twins, save, write_gallery
from rollama.cohort.shifts import CENTRES
from rollama.core.errors import DataError
from rollama.data.parts import Part
from rollama.data.plan import Guideline, Side


@pytest.fixture
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same patients on a study's grid; the pictures' own takes a minute."""
    monkeypatch.setattr(gallery, "FINE", CohortConfig(size="s"))


def panels(figure: Figure) -> int:
    """Number of axes that show an image with contrast; every axis must have exactly one image."""
    images = [axis.get_images() for axis in figure.axes]
    assert all(len(found) == 1 for found in images)
    return sum(np.asarray(found[0].get_array()).std() > 20 for found in images)


def titles(figure: Figure) -> list[str]:
    return [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left")]


def contours(figure: Figure) -> int:
    return sum(len(axis.collections) for axis in figure.axes)


def says_research_only(figure: Figure) -> bool:
    return any("SYNTHETIC. RESEARCH USE ONLY" in text.get_text() for text in figure.texts)


@pytest.mark.usefixtures("_coarse")
def test_twins_show_one_ct_with_four_plans() -> None:
    figure = draw_twins()
    assert panels(figure) == 2 * (VARIANTS + 1)
    assert len(set(titles(figure))) == VARIANTS + 1
    top = [np.asarray(axis.get_images()[0].get_array()) for axis in figure.axes[: VARIANTS + 1]]
    assert all((image == top[0]).all() for image in top)
    assert contours(figure) >= VARIANTS
    assert says_research_only(figure)


@pytest.mark.usefixtures("_coarse")
def test_readers_are_drawn_over_the_true_target() -> None:
    figure = draw_readers()
    assert panels(figure) == 3
    assert contours(figure) >= 8
    assert titles(figure) == ["white: by the rules; colours: readers 1 to 3"]
    assert says_research_only(figure)


@pytest.mark.usefixtures("_coarse")
@pytest.mark.parametrize("guideline", Guideline)
def test_every_part_is_drawn_on_three_planes_with_its_names_and_volume(guideline: Guideline) -> None:
    figure = draw_parts(guideline)
    assert panels(figure) == 3 * len(Part)
    assert len(titles(figure)) == len(Part)
    for part, title in zip(Part, titles(figure), strict=True):
        assert title.startswith(f"{part.estro} ({part.tg263(Side.LEFT)}), ")
        assert not title.endswith(" 0 cc")
    for row in range(len(Part)):
        assert figure.axes[3 * row].collections
    assert says_research_only(figure)


def test_planes_are_shown_as_a_radiologist_looks_at_them() -> None:
    plane = np.zeros((4, 3))
    plane[0, 0], plane[3, 2] = 1, 2  # leftmost and hindmost; rightmost and foremost
    view = gallery._view(plane)
    assert view.shape == (3, 4)
    assert view[0, 0] == 2  # right and front at the upper left
    assert view[2, 3] == 1


@pytest.mark.usefixtures("_coarse")
def test_a_picture_has_no_time_stamp_and_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "one.jpg", tmp_path / "other.jpg"]
    for path in paths:
        save(draw_readers(), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    image = matplotlib.image.imread(paths[0])
    assert image.shape[0] > 200
    assert image.std() > 20


@pytest.mark.usefixtures("_coarse")
def test_every_centre_is_shown() -> None:
    figure = draw_centres()
    assert panels(figure) == 5 * len(CENTRES)
    assert says_research_only(figure)
    shown = " ".join(titles(figure))
    assert all(centre in shown for centre in CENTRES)
    assert "lakeside (unseen in training)" in shown


@pytest.mark.slow
def test_every_look_is_shown_on_the_pictures_own_grid() -> None:
    figure = draw_looks()
    assert panels(figure) == 12
    assert says_research_only(figure)
    assert titles(figure) == ["nothing to be seen", "removed", "implant", "expander with port", "seroma", "clips"]
    bright = [np.asarray(axis.get_images()[0].get_array()).max() for axis in figure.axes[:6]]
    assert bright[3] > 1500  # the port lies in the slice that is shown


@pytest.mark.usefixtures("_coarse")
def test_the_page_shows_every_picture_and_says_what_they_are(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    page = write_gallery(tmp_path / "gallery", lambda done, total: seen.append((done, total)))
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "gallery" / "index.html"
    assert "SYNTHETIC. RESEARCH USE ONLY" in text
    pictures = sorted(path.name for path in page.parent.glob("*.jpg"))
    assert seen == [(n + 1, len(pictures)) for n in range(len(pictures))]
    assert len(pictures) == 6
    for name in pictures:
        assert f'<img src="{name}" alt="' in text
        assert matplotlib.image.imread(page.parent / name).std() > 10


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "model").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="runs"):
        write_gallery(tmp_path / "runs")
    assert (tmp_path / "runs" / "model").is_file()


def test_a_gallery_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="cannot write here"):
        write_gallery(tmp_path / "file" / "gallery")
