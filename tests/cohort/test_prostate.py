"""The second site: a pelvis with its organs in place, three kinds of target that only the text tells apart."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from rollama.cohort.config import VARIANTS, CohortConfig
from rollama.cohort.make import write_nifti
from rollama.cohort.notes import template_set
from rollama.cohort.patients import split_of
from rollama.cohort.pelvis.anatomy import Pelvis, landmarks
from rollama.cohort.pelvis.body import Shape, draw_shape
from rollama.cohort.pelvis.facts import (
    DOSES,
    EXTENTS,
    Extent,
    Facts,
    Past,
    Psma,
    Risk,
    draw_facts,
    extent_for,
    plan_text,
    rows,
)
from rollama.cohort.pelvis.notes import INTACT_FACTS, OPERATED_FACTS, write_note, write_summary
from rollama.cohort.pelvis.organs import paint_ct
from rollama.cohort.pelvis.styles import STYLES
from rollama.cohort.pelvis.targets import NODES, PRIMARY, VESICLES, label_map
from rollama.cohort.prostate import draw_patient, make_case
from rollama.cohort.scan import Item, Volumes
from rollama.cohort.sdf import Grid
from rollama.cohort.shifts import CENTRES
from rollama.core.errors import DataError
from rollama.core.seeding import numpy_generator
from rollama.data.case import Split
from rollama.data.dataset import DatasetInfo, open_dataset, write_centre
from rollama.data.parts import read_parts, readers_path
from rollama.data.plan import parse_plan
from rollama.data.volumes import read_ct

CONFIG = CohortConfig(site="prostate", size="xs", combination=0)
FINE = Grid((160, 100, 96), (2.5, 2.5, 3.0))
TELLTALE = re.compile(
    r"\b(c?gy|gray|fractions?|fractionat\w*|boost\w*|irradiat\w*|radiotherapy|radiation|target\w*|CTV\w*|PTV|VMAT|IMRT|"
    r"SBRT|dose|hypofraction\w*|recommend\w*|fossa|prostate bed|whole pelvi\w*|pelvic (lymph )?nodes|nodal|elective|"
    r"risk|margin of|salvage|adjuvant)\b",
    re.IGNORECASE,
)
PLAIN = Facts(
    age=66, psa=6.0, gleason=(3, 3), t="1c", cores_positive=2, cores=12, psma=Psma.NOT_DONE, scan_node=False, ipss=8,
    prostatectomy=False, margin_positive=False, nodes_positive=0, nodes_examined=0, first_psa=8.0, years=3,
    past=Past.NONE, reconsidered=False,
)  # fmt: skip
OPERATED = replace(PLAIN, prostatectomy=True, psa=0.4, t="2", gleason=(3, 4), nodes_examined=12)


def plain_shape(removed: bool = False) -> Shape:
    return replace(
        draw_shape(numpy_generator("pelvis"), removed),
        origin=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0), fat=22.0, prostate=22.0, filling=0.5, rectum=15.0, gas=0.5,
        calcified=False,
    )  # fmt: skip


@cache
def pelvis(removed: bool) -> tuple[Pelvis, np.ndarray]:
    body = landmarks(plain_shape(removed), FINE)
    return body, paint_ct(body, CENTRES["northgate"].scanner.updated(contrast_hu=100.0))


def at(hu: np.ndarray, x: float, y: float, z: float) -> float:
    index = np.rint((np.array([x, y, z]) - FINE.affine[:3, 3]) / FINE.spacing).astype(int)
    return float(hu[tuple(index)])


def cc(mask: np.ndarray) -> float:
    return float(mask.sum() * np.prod(FINE.spacing) / 1000)


@cache
def case(split: Split, index: int, centre: str = "northgate") -> tuple[dict, Volumes]:
    return make_case(CONFIG, Item(centre, split, index))


def test_organs_lie_where_they_should() -> None:
    _, hu = pelvis(False)
    assert at(hu, 0, 21, -53) == pytest.approx(44, abs=15)  # prostate
    assert at(hu, 0, 27, 0) == pytest.approx(6, abs=10)  # bladder
    assert at(hu, 0, -22, -45) == pytest.approx(20, abs=45)  # stool behind it
    assert at(hu, 0, -6, -45) < -300  # gas rises to the rectum's front
    assert at(hu, 0, 47, -53) < 0  # fat between prostate and symphysis
    for side in (1, -1):
        assert at(hu, side * 90, 20, -22) > 200  # femoral head
        assert at(hu, side * 127, 12, -140) < 100 < at(hu, side * 139, 12, -132)  # marrow and cortex of the shaft
        assert at(hu, side * 11, 56, -54) > 150  # pubis
        assert at(hu, side * 55, 24, 22) == pytest.approx(145, abs=50)  # external iliac artery with contrast
        assert at(hu, side * 80, -80, -30) == pytest.approx(52, abs=40)  # gluteus maximus
        assert at(hu, side * 91, -20, 40) > 150  # iliac wing
    assert at(hu, 0, -75, 10) > 100  # sacrum behind
    assert at(hu, 0, 108, 40) < -50  # fat under the skin in front
    assert at(hu, 0, 122, 0) == -1000  # air before the patient
    assert at(hu, 0, -118, 0) < -700  # couch


def test_the_body_is_a_mans_of_usual_size() -> None:
    body, _ = pelvis(False)
    inside = body.skin > 0
    middle = inside[:, :, FINE.shape[2] // 2]
    assert middle.any(axis=1).sum() * 2.5 == pytest.approx(385, abs=25)
    assert middle.any(axis=0).sum() * 2.5 == pytest.approx(225, abs=20)
    assert not (inside[[0, -1]].any() or inside[:, [0, -1]].any())
    assert 25 < cc(body.prostate < 0) < 65
    assert 80 < cc(body.bladder < 0) < 350
    for other in (body.bone, body.rectum):
        assert not ((body.prostate < 0) & (other < 0)).any()


def test_after_prostatectomy_the_gland_is_gone_and_the_rest_is_the_same() -> None:
    body, before = pelvis(False)
    _, after = pelvis(True)
    gland = body.prostate < -4
    assert before[gland].mean() - after[gland].mean() > 20
    far = np.broadcast_to(np.abs(body.z + 40) > 80, before.shape)
    assert (before[far] == after[far]).all()


@pytest.mark.parametrize("number", range(6))
def test_targets_are_distinct_nested_and_in_the_body(number: int) -> None:
    shape = draw_shape(numpy_generator("targets", number), False)
    body = landmarks(shape, FINE)
    maps = {extent: label_map(body, extent) for extent in Extent}
    sizes = {extent: cc(labels > 0) for extent, labels in maps.items()}
    assert 28 < sizes[Extent.PRIMARY] < 70
    assert 5 < sizes[Extent.VESICLES] - sizes[Extent.PRIMARY] < 25
    assert 100 < sizes[Extent.PELVIC] - sizes[Extent.VESICLES] < 400
    small, middle, large = (maps[extent] > 0 for extent in Extent)
    assert (middle >= small).all()
    assert (large >= middle).all()
    assert set(np.unique(maps[Extent.PELVIC])) == {0, PRIMARY, VESICLES, NODES}
    nodes = maps[Extent.PELVIC] == NODES
    for organ in (body.bone, body.bladder, body.rectum, body.psoas):
        assert not (nodes & (organ < 0)).any()
    assert body.skin[large].min() > 15
    left = nodes[: FINE.shape[0] // 2].sum() / nodes.sum()
    assert 0.4 < left < 0.6
    bed = landmarks(replace(shape, removed=True), FINE)
    assert 35 < cc(label_map(bed, Extent.PRIMARY) > 0) < 110
    with_nodes = label_map(bed, Extent.PELVIC)
    assert set(np.unique(with_nodes)) == {0, PRIMARY, NODES}
    assert not ((with_nodes == PRIMARY) & (bed.rectum < 0)).any()


@pytest.mark.parametrize("number", range(12))
def test_targets_differ_on_the_coarsest_grid(number: int) -> None:
    shape = draw_shape(numpy_generator("coarse", number), bool(number % 2))
    body = landmarks(shape, Grid((40, 32, 19), (12.5, 12.5, 15.0)))
    counts = [int((label_map(body, extent) > 0).sum()) for extent in Extent]
    assert counts[0] >= 8
    assert counts[2] > counts[1] + 20
    assert counts[1] > counts[0] or shape.removed


@pytest.mark.parametrize(
    ("changes", "extent", "dose"),
    [
        ({}, Extent.PRIMARY, "36.25 Gy in 5"),
        ({"ipss": 24}, Extent.PRIMARY, "78 Gy in 39"),
        ({"gleason": (3, 4)}, Extent.PRIMARY, "36.25 Gy in 5"),
        ({"gleason": (3, 4), "cores_positive": 6}, Extent.VESICLES, "60 Gy in 20"),
        ({"gleason": (4, 3)}, Extent.VESICLES, "60 Gy in 20"),
        ({"gleason": (3, 4), "psa": 12.0}, Extent.VESICLES, "60 Gy in 20"),
        ({"t": "3a"}, Extent.VESICLES, "60 Gy in 20"),
        ({"t": "3b", "gleason": (4, 3), "psa": 18.0}, Extent.PELVIC, "68 Gy in 25"),
        ({"gleason": (4, 4)}, Extent.PELVIC, "68 Gy in 25"),
        ({"psa": 21.0}, Extent.VESICLES, "60 Gy in 20"),
        ({"psma": Psma.NODE}, Extent.PELVIC, "68 Gy in 25"),
        ({"scan_node": True}, Extent.PELVIC, "68 Gy in 25"),
        ({"scan_node": True, "psma": Psma.CLEAR}, Extent.PRIMARY, "36.25 Gy in 5"),
    ],
)
def test_rules_for_intact_patients(changes: dict[str, object], extent: Extent, dose: str) -> None:
    facts = replace(PLAIN, **changes)  # type: ignore[arg-type]
    assert extent_for(facts) is extent
    assert dose in plan_text(facts)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "Volumes: prostate bed. Nodes: none. Prescription: 64 Gy in 32 fractions. Technique: VMAT."),
        ({"age": 78}, "Volumes: prostate bed. Nodes: none. Prescription: 52.5 Gy in 20 fractions. Technique: VMAT."),
        ({"psma": Psma.LOCAL}, "Volumes: prostate bed. Nodes: none. Prescription: 70 Gy in 35 fractions. "
                               "Technique: VMAT."),
        ({"t": "3b"}, "Volumes: prostate bed. Nodes: pelvic. Prescription: 64 Gy in 32 fractions. Technique: VMAT."),
        ({"t": "3b", "margin_positive": True}, "Volumes: prostate bed. Nodes: none. Prescription: 64 Gy in 32 "
                                               "fractions. Technique: VMAT."),
        ({"nodes_positive": 1}, "Volumes: prostate bed. Nodes: pelvic. Prescription: 64 Gy in 32 fractions. "
                                "Technique: VMAT."),
    ],
)  # fmt: skip
def test_rules_after_prostatectomy(changes: dict[str, object], text: str) -> None:
    assert plan_text(replace(OPERATED, **changes)) == text  # type: ignore[arg-type]


def test_every_rule_and_every_risk_group_occurs() -> None:
    drawn = [draw_facts(numpy_generator("facts", n)) for n in range(600)]
    for rules in (EXTENTS, DOSES):
        used = Counter(next(rule.when for rule in rules if rule.holds(facts)) for facts in drawn)
        assert all(used[rule.when] >= 5 for rule in rules), used
        assert all(rule.source for rule in rules)
    extents = Counter(extent_for(facts) for facts in drawn)
    assert min(extents.values()) > 0.12 * len(drawn), extents
    alone = [facts for facts in drawn if extent_for(facts) is Extent.PRIMARY and not facts.prostatectomy]
    assert len(alone) > 0.1 * len(drawn)
    assert len(rows()) == len(EXTENTS) + len(DOSES)
    assert {facts.risk for facts in drawn if not facts.prostatectomy} == set(Risk)
    assert not any(facts.psma is Psma.LOCAL for facts in drawn if not facts.prostatectomy)


@pytest.mark.parametrize("centre", CENTRES)
def test_notes_carry_the_facts_and_never_the_plan(centre: str) -> None:
    for number in range(150):
        facts = draw_facts(numpy_generator("notes", centre, number))
        note, evidence = write_note(facts, STYLES[centre], numpy_generator("words", centre, number))
        assert TELLTALE.search(note) is None, note
        assert "{" not in note
        assert {entry.fact for entry in evidence} == set(OPERATED_FACTS if facts.prostatectomy else INTACT_FACTS)
        shown: dict[str, str] = {}
        for entry in evidence:
            assert 0 <= entry.start < entry.end <= len(note)
            shown[entry.fact] = shown.get(entry.fact, "") + " " + note[entry.start : entry.end]
        assert str(facts.age) in shown["age"]
        assert f"{facts.psa:g}" in shown["psa"]
        assert f"{facts.gleason[0]}+{facts.gleason[1]}" in shown["gleason"]
        assert ("pT" if facts.prostatectomy else "cT") + facts.t in shown["t_stage"]
        summary = write_summary(facts)
        assert re.search(r"\b(Gy|fractions?|VMAT|bed|target|radiotherapy)\b", summary) is None
        assert f"grade group {facts.grade_group}" in summary


def test_the_summary_decides_the_plan() -> None:
    plans: dict[str, str] = {}
    for number in range(400):
        facts = draw_facts(numpy_generator("summaries", number))
        assert plans.setdefault(write_summary(facts), plan_text(facts)) == plan_text(facts)
    assert write_summary(PLAIN) != write_summary(replace(PLAIN, ipss=25))


def test_styles_differ_by_centre_and_the_unseen_centre_shares_none() -> None:
    assert set(STYLES) == set(CENTRES)
    seen = {style.name: style for centre, style in STYLES.items() if not CENTRES[centre].external}
    unseen = [style for centre, style in STYLES.items() if CENTRES[centre].external]
    assert len(seen) == 2
    assert not template_set(tuple(seen.values())) & template_set(unseen)


def test_a_case_is_the_same_every_time() -> None:
    record, volumes = case(Split.TRAIN, 1)
    again, same = make_case(CONFIG, Item("northgate", Split.TRAIN, 1))
    assert record == again
    for name in ("ct", "target", "parts", "readers"):
        one, other = getattr(volumes, name), getattr(same, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    more = CONFIG.updated(train=50)
    assert make_case(more, Item("northgate", Split.TRAIN, 1))[0] == record


def test_a_summary_belongs_to_its_split() -> None:
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        for index in range(8):
            assert split_of(draw_patient(CONFIG, "riverside", split, index).summary) is split


def test_training_twins_share_a_body_and_not_a_plan() -> None:
    patients = [draw_patient(CONFIG, "eastmoor", Split.TRAIN, index) for index in range(20)]
    twins = [p for p in patients if p.anatomy_of != p.case_id]
    assert 2 <= len(twins) <= 10
    by_name = {patient.case_id: patient for patient in patients}
    for twin in twins:
        other = by_name[twin.anatomy_of]
        assert twin.facts.prostatectomy == other.facts.prostatectomy
        assert twin.plan_text != other.plan_text


def test_counterfactual_cases_have_the_very_ct_and_other_plans() -> None:
    record, volumes = case(Split.EXTERNAL, 0, "lakeside")
    plans = {record["plan_text"]}
    for index in range(VARIANTS):
        variant, same = case(Split.COUNTERFACTUAL, index, "lakeside")
        assert same.ct.tobytes() == volumes.ct.tobytes()
        assert variant["provenance"]["scan_of"] == record["case_id"]
        plans.add(variant["plan_text"])
    assert len(plans) == 1 + VARIANTS
    for index in range(20 * VARIANTS):
        assert draw_patient(CONFIG, "lakeside", Split.COUNTERFACTUAL, index).plan_text


def test_no_combination_split() -> None:
    with pytest.raises(DataError, match="northgate-combination-0000: the prostate site has no combination split"):
        make_case(CONFIG, Item("northgate", Split.COMBINATION, 0))


def test_the_dataset_opens_with_free_text_plans(tmp_path: Path) -> None:
    wanted = {"northgate": (Split.TRAIN, Split.TEST), "hillcrest": (Split.TRAIN,), "lakeside": (Split.EXTERNAL,)}
    for centre, splits in wanted.items():
        items = []
        for split in splits:
            record, volumes = case(split, 0, centre)
            items.append((split, record))
            arrays = {
                "images": volumes.ct, "labels": volumes.target, "parts": volumes.parts, "readers": volumes.readers,
            }  # fmt: skip
            for folder, values in arrays.items():
                (tmp_path / centre / folder).mkdir(parents=True, exist_ok=True)
                write_nifti(tmp_path / centre / folder / f"{record['case_id']}.nii.gz", values, volumes.grid)
        write_centre(tmp_path / centre, items)
    info = DatasetInfo(
        name="prostate", version="2", synthetic=True, label="CTV", notice="SYNTHETIC", centres=tuple(wanted),
        external_centres=("lakeside",), content_hash="",
    )  # fmt: skip
    (tmp_path / "dataset.json").write_text(info.model_dump_json(), encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert len(dataset.cases) == 4
    for found in dataset.cases:
        assert found.plan is None
        assert found.plan_text.startswith("Volumes: prostate")
        with pytest.raises(DataError, match="no 'Side:' sentence"):
            parse_plan(found.plan_text)
        assert read_parts(found, read_ct(found.image)) == {}
        assert readers_path(found).is_file()
        assert found.provenance["site"] == "prostate"
    for split, index in ((Split.TRAIN, 0), (Split.TEST, 0)):
        _, volumes = case(split, index)
        assert volumes.target.any()
        assert volumes.ct.dtype == np.int16
        assert {int(v) for v in np.unique(volumes.readers)} <= set(range(8))
        assert volumes.readers.max() == 7
