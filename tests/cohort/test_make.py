"""The cohort on disk: the same bytes everywhere, nothing made twice, and nothing lost or replaced by accident."""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path

import nibabel
import numpy as np
import pytest

from rollama.cohort.config import CohortConfig
from rollama.cohort.make import (
    PART,
    cohort_digest,
    is_made,
    make_cohort,
    make_volumes,
    run_here,
    unfinished,
    write_nifti,
)
from rollama.cohort.patients import draw_patient
from rollama.cohort.scan import Item
from rollama.cohort.sdf import Grid
from rollama.core.errors import ConfigError, DataError
from rollama.core.files import hash_file, read_json, write_json
from rollama.data.case import Split
from rollama.data.dataset import Dataset, open_dataset
from rollama.data.parts import parts_path, readers_path

GOLDEN = "562c1296f3fc2fb23dd1ff0dd004945a055649359105df496681e3cb011ef727"
"""Content hash of `rollama cohort make --size xs`; changes whenever any byte of any case does."""
XS = CohortConfig(size="xs")
COARSE = {"grid": (40, 32, 24), "spacing": (12.5, 12.5, 12.0)}
ONE = CohortConfig(train=1, validation=0, test=0, external=1, **COARSE)
SMALL = CohortConfig(train=2, validation=0, test=0, external=1, counterfactual=1, **COARSE)


class Counted:
    """Makes the cases here and counts them."""

    def __init__(self, backwards: bool = False) -> None:
        self.names: list[str] = []
        self.backwards = backwards

    def __call__(self, work: Callable[[Item], None], items: Sequence[Item]) -> Iterator[None]:
        self.names += [item.name for item in items]
        return run_here(work, items[::-1] if self.backwards else items)


def stop_after(count: int) -> Callable[[int, int], None]:
    def stop(done: int, _: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return stop


@pytest.fixture(scope="module")
def small_hash(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Content hash of SMALL, made in one go."""
    return make_cohort(tmp_path_factory.mktemp("straight") / "cohort", SMALL).content_hash


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder whose SMALL was interrupted after 5 cases."""
    root = tmp_path / "cohort"
    with pytest.raises(KeyboardInterrupt):
        make_cohort(root, SMALL, stop_after(5))
    return root


def test_the_smallest_cohort_has_the_bytes_it_always_had(xs: Dataset) -> None:
    assert xs.info.content_hash == GOLDEN


def test_files_carry_no_time_and_no_name(tmp_path: Path) -> None:
    grid = Grid((8, 8, 8), (2.0, 3.0, 4.0))
    values = np.arange(512, dtype=np.int16).reshape(grid.shape)
    paths = [tmp_path / "one.nii.gz", tmp_path / "other.nii.gz"]
    for path in paths:
        write_nifti(path, values, grid)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first[4:8] == b"\0" * 4  # gzip's time stamp
    image = nibabel.load(paths[0])
    assert np.allclose(image.affine, grid.affine)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert (np.asanyarray(image.dataobj) == values).all()
    assert sorted(tmp_path.iterdir()) == paths


def test_any_processor_writes_the_same_bytes(tmp_path: Path) -> None:
    """NumPy, OpenBLAS and the C library without their vector instructions."""
    numpy_core = importlib.import_module("numpy._core._multiarray_umath")
    expected = make_cohort(tmp_path / "here", ONE).content_hash
    switched_off = [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__.get(name)]
    code = (
        "import sys; from pathlib import Path\n"
        "from rollama.cohort.config import CohortConfig; from rollama.cohort.make import make_cohort\n"
        f"config = CohortConfig.model_validate_json({ONE.model_dump_json()!r})\n"
        "print(make_cohort(Path(sys.argv[1]), config).content_hash)\n"
    )
    plain = os.environ | {
        "NPY_DISABLE_CPU_FEATURES": " ".join(switched_off),
        "OPENBLAS_CORETYPE": "Prescott",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-AVX,-FMA,-FMA4,-AVX512F",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "there")], env=plain, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_the_order_in_which_cases_are_made_changes_nothing(small_hash: str, tmp_path: Path) -> None:
    run = Counted(backwards=True)
    seen: list[tuple[int, int]] = []
    info = make_cohort(tmp_path / "cohort", SMALL, lambda done, total: seen.append((done, total)), run)
    assert info.content_hash == small_hash
    assert seen == [(n + 1, SMALL.cases) for n in range(SMALL.cases)]
    assert len(run.names) == len(set(run.names)) == SMALL.cases
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_other_counts_change_no_case(xs: Dataset, tmp_path: Path) -> None:
    fewer = XS.updated(train=1, validation=0, test=1, external=1, combination=0, counterfactual=1)
    make_cohort(tmp_path / "fewer", fewer)
    kept = {case.case_id: case for case in xs.cases}
    for case in open_dataset(tmp_path / "fewer").cases:
        same = kept[case.case_id]
        assert (case.note, case.plan_text, case.provenance) == (same.note, same.plan_text, same.provenance)
        for path in (case.image, case.target, parts_path(case), readers_path(case)):
            assert hash_file(path) == hash_file(xs.root / path.relative_to(tmp_path / "fewer"))


def test_an_interrupted_run_goes_on_where_it_was(begun: Path, small_hash: str) -> None:
    staging = unfinished(begun, SMALL)
    assert [path.name for path in begun.parent.iterdir()] == [f".cohort.{cohort_digest(SMALL)[:12]}.unfinished"]
    assert len(list((staging / "records").glob("*.json"))) == 5
    run = Counted()
    seen: list[tuple[int, int]] = []
    info = make_cohort(begun, SMALL, lambda done, total: seen.append((done, total)), run)
    assert seen == [(n, SMALL.cases) for n in range(5, SMALL.cases + 1)]
    assert len(run.names) == SMALL.cases - 5
    assert info.content_hash == small_hash
    assert not staging.exists()
    assert is_made(begun, SMALL)


def test_what_was_damaged_or_lost_among_the_finished_is_made_again(begun: Path, small_hash: str) -> None:
    staging = unfinished(begun, SMALL)
    names = sorted(path.stem for path in (staging / "records").glob("*.json"))
    image, part = (
        next(staging.glob(f"*/{kind}/{name}.nii.gz")) for kind, name in zip(("images", "parts"), names, strict=False)
    )
    image.write_bytes(image.read_bytes()[:-9])
    part.unlink()
    run = Counted()
    assert make_cohort(begun, SMALL, run=run).content_hash == small_hash
    assert len(run.names) == SMALL.cases - 3
    assert set(names[:2]) <= set(run.names)


def test_a_file_that_a_killed_process_left_half_written_does_not_get_into_the_cohort(
    begun: Path, small_hash: str
) -> None:
    staging = unfinished(begun, SMALL)
    (staging / "northgate" / "images" / f"{PART}northgate-train-0001.nii.gz.4711").write_bytes(b"half")
    assert make_cohort(begun, SMALL).content_hash == small_hash


def test_another_configuration_does_not_take_over_what_is_unfinished(begun: Path) -> None:
    run = Counted()
    make_cohort(begun, ONE, run=run)
    assert len(run.names) == ONE.cases
    assert unfinished(begun, SMALL).exists()


def test_a_cohort_that_another_process_makes_is_left_alone(begun: Path) -> None:
    staging = unfinished(begun, SMALL)
    with (staging / ".lock").open("r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is making this cohort"):
            make_cohort(begun, SMALL)
    assert len(list((staging / "records").glob("*.json"))) == 5


def test_a_full_disk_says_what_is_kept_and_the_same_command_goes_on(
    tmp_path: Path, small_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, written = tmp_path / "cohort", [0]

    def full(path: Path, values: np.ndarray, grid: Grid) -> None:
        written[0] += 1
        if written[0] > 5 * 4 + 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_nifti(path, values, grid)

    with monkeypatch.context() as patch:
        patch.setattr("rollama.cohort.make.write_nifti", full)
        with pytest.raises(DataError, match=rf"No space left on device\); 5 of {SMALL.cases} cases are kept"):
            make_cohort(root, SMALL)
    assert not root.exists()
    run = Counted()
    assert make_cohort(root, SMALL, run=run).content_hash == small_hash
    assert len(run.names) == SMALL.cases - 5


def test_too_little_space_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    run = Counted()
    with pytest.raises(DataError, match=r"0\.0 GB free, \d+ cases need about .* GB; free space"):
        make_cohort(tmp_path / "cohort", SMALL, run=run)
    assert run.names == []
    assert not (tmp_path / "cohort").exists()


def test_a_folder_that_is_no_dataset_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match="is not a dataset"):
        make_cohort(tmp_path, ONE)
    with pytest.raises(DataError, match="is not a dataset"):
        make_cohort(tmp_path / "thesis.txt", ONE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_data_set_of_other_origin_is_never_replaced(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    make_cohort(root, ONE)
    record = read_json(root / "dataset.json")
    write_json(root / "dataset.json", record | {"synthetic": False, "generator": {}})
    with pytest.raises(DataError, match="that 'rollama cohort make' did not make"):
        make_cohort(root, ONE)
    assert read_json(root / "dataset.json")["synthetic"] is False


def test_cases_survive_when_the_folder_cannot_get_its_name(
    tmp_path: Path, small_hash: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cohort"
    make_cohort(root, ONE)
    rename = Path.rename

    def busy(self: Path, target: Path) -> Path:
        if Path(target) == root and self.name.endswith(".unfinished"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", busy)
        with pytest.raises(DataError, match="all cases are kept in"):
            make_cohort(root, SMALL)
    assert is_made(root, ONE)  # the older one is back
    run = Counted()
    assert make_cohort(root, SMALL, run=run).content_hash == small_hash
    assert run.names == []
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_cases_of_another_generator_are_not_taken_over(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = unfinished(begun, SMALL)
    monkeypatch.setattr("rollama.cohort.make.generator_hash", lambda: "another")
    assert unfinished(begun, SMALL) != before


def test_rules_that_change_under_way_are_noticed(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    bundled = resources.files("rollama.cohort").joinpath("rules.yaml").read_text(encoding="utf-8")
    rules.write_text(bundled, encoding="utf-8")

    def change(done: int, _: int) -> None:
        if done == 2:
            rules.write_text(bundled.replace("source: after AMAROS", "source: another"), encoding="utf-8")

    with pytest.raises(DataError, match="rules were changed while the cohort was made"):
        make_cohort(tmp_path / "cohort", ONE.updated(rules=str(rules)), change)
    assert not (tmp_path / "cohort").exists()


def test_an_older_dataset_is_replaced_only_when_the_new_one_is_complete(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    old = make_cohort(root, ONE)
    with pytest.raises(KeyboardInterrupt):
        make_cohort(root, ONE.updated(seed=5), stop_after(2))
    assert open_dataset(root).info == old
    new = make_cohort(root, ONE.updated(seed=5))
    assert new.content_hash != old.content_hash
    assert open_dataset(root).info == new
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="cannot write here"):
        make_cohort(tmp_path / "file" / "cohort", ONE)


def test_a_wrong_rules_table_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("decisions: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected 'decisions:'"):
        make_cohort(tmp_path / "cohort", ONE.updated(rules=str(rules)))
    assert [path.name for path in tmp_path.iterdir()] == ["rules.yaml"]


def test_is_made_knows_the_configuration_and_the_bytes(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    assert not is_made(root, ONE)
    make_cohort(root, ONE)
    assert is_made(root, ONE)
    assert not is_made(root, ONE.updated(seed=1))
    assert not is_made(root, ONE.updated(train=2))
    image = next(root.glob("*/images/*.nii.gz"))
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(DataError, match="files differ from the content hash"):
        is_made(root, ONE)
    assert not is_made(root, ONE.updated(seed=1))
    write_json(root / "dataset.json", [])
    assert not is_made(root, ONE)


def test_a_rules_table_of_the_same_content_is_the_same_cohort(tmp_path: Path) -> None:
    text = (resources.files("rollama.cohort") / "rules.yaml").read_text(encoding="utf-8")
    path = tmp_path / "rules.yaml"
    digests = []
    for content in (text, "# mine\n" + text, text.replace("26 Gy in 5 fractions", "40.05 Gy in 15 fractions")):
        path.write_text(content, encoding="utf-8")
        digests.append(cohort_digest(ONE.updated(rules=str(path))))
    assert digests[0] == digests[1] != digests[2]


def test_twins_share_the_body_and_not_the_scan() -> None:
    config = CohortConfig(train=40)
    drawn = {p.case_id: p for i in range(40) if (p := draw_patient(config, "northgate", Split.TRAIN, i))}
    twin = next(p for p in drawn.values() if p.anatomy_of != p.case_id)
    model = drawn[twin.anatomy_of]
    stranger = next(p for p in drawn.values() if p.case_id not in (twin.case_id, model.case_id))
    images = [make_volumes(config, "northgate", p, Split.TRAIN).ct.astype(int) for p in (twin, model, stranger)]
    gap, far = (np.abs(images[0] - image).mean() for image in images[1:])
    assert 0 < gap < 15
    assert far > 5 * gap


def test_the_record_of_a_case_names_its_files_and_their_hashes(begun: Path) -> None:
    staging = unfinished(begun, SMALL)
    for path in (staging / "records").glob("*.json"):
        files = read_json(path)["files"]
        assert len(files) == 4
        assert all(hash_file(staging / name) == value for name, value in files.items())
