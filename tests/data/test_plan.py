import itertools

import pytest

from rollama.core.errors import DataError
from rollama.data.plan import (
    Boost,
    BoostKind,
    Dose,
    Guideline,
    Level,
    Plan,
    Side,
    Structures,
    Surgery,
    Technique,
    Volume,
    parse_plan,
    plan_from_dict,
    render_plan,
    structures,
)

TEXT = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: L3, L4. "
    "Boost: sequential 10 Gy in 5 fractions. Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
EMPTY = Plan(side=Side.LEFT, surgery=Surgery.MASTECTOMY, volume=None, dose=None, technique=None)


def plans():
    doses = (Dose(gy=40.05, fractions=15), Dose(gy=26, fractions=5))
    boosts = (None, *(Boost(kind=kind, dose=Dose(gy=48, fractions=15)) for kind in BoostKind))
    levels = ((), (Level.L3, Level.L4), tuple(Level))
    for side, surgery, volume, level, boost, dose, how, guide in itertools.product(
        Side, Surgery, Volume, levels, boosts, doses, Technique, (None, *Guideline)
    ):
        yield Plan(
            side=side,
            surgery=surgery,
            volume=volume,
            levels=level,
            boost=boost,
            dose=dose,
            technique=how,
            guideline=guide,
        )
    yield EMPTY


def test_text_form_is_as_documented():
    plan = parse_plan(TEXT)
    assert plan.levels == (Level.L3, Level.L4)
    assert plan.boost == Boost(kind=BoostKind.SEQUENTIAL, dose=Dose(gy=10, fractions=5))
    assert render_plan(plan) == TEXT


def test_structures_of_a_plan_one_by_one():
    plan = parse_plan(f"{TEXT} Guideline: RTOG.")
    whole, *levels = structures(plan)
    assert whole == Structures(Side.LEFT, Volume.BREAST, (), Guideline.RTOG)
    assert levels == [Structures(Side.LEFT, None, (level,), Guideline.RTOG) for level in (Level.L3, Level.L4)]
    assert structures(plan.mirrored()) == [part.mirrored() for part in structures(plan)]
    assert structures(EMPTY) == []


def test_parser_inverts_renderer_for_all_plans():
    texts = set()
    for plan in plans():
        text = render_plan(plan)
        assert parse_plan(text) == plan
        assert parse_plan("  " + text.replace(". ", ".\n") + "\n") == plan
        texts.add(text)
    assert len(texts) == sum(1 for _ in plans())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Side: left. ", "", "no 'Side:' sentence"),
        ("left", "both", "side: found 'both'"),
        ("L3, L4", "L4, L3", "in the order L1, L2, L3, L4, interpectoral, IMN"),
        ("L3, L4", "L3, L3", "unique"),
        ("L3, L4", "L3,L4", "levels"),
        ("40.05 Gy", "4005 cGy", "Prescription is not of the form"),
        ("40.05 Gy in 15 fractions", "none", "needs a prescription"),
        ("whole breast", "none", "no nodes, boost, prescription"),
        ("sequential 10 Gy", "sequential ten Gy", "Boost is not of the form"),
        ("VMAT.", "VMAT. And call the patient.", "technique: found"),
        ("VMAT.", "VMAT. Thanks", "not of the form"),
        ("40.05", "400.5", "less than or equal to 100"),
    ],
)
def test_anything_else_is_refused_and_never_guessed(old, new, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_plan(TEXT.replace(old, new), "case-1")
    assert str(caught.value).startswith("case-1: ")


def test_mirroring_changes_the_side_only():
    plan = parse_plan(TEXT)
    assert plan.mirrored().side is Side.RIGHT
    assert plan.mirrored().mirrored() == plan
    assert EMPTY.mirrored().has_target is False


def test_plans_from_plain_values():
    plan = parse_plan(TEXT)
    assert plan_from_dict(plan.model_dump(mode="json")) == plan
    with pytest.raises(DataError, match=r"plan\.yaml: unknown key 'sides'; did you mean 'side'\?"):
        plan_from_dict({**plan.model_dump(), "sides": "left"}, "plan.yaml")
    with pytest.raises(DataError, match="expected the fields of a plan, found list"):
        plan_from_dict([])
