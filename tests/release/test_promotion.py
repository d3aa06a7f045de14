"""Promotions and roll-backs: killed at every step, two at once, tampered with, with a registry that is down."""

import json
import os
import threading

import pytest

from rollama.core.errors import ClusterError, DataError, ReleaseError
from rollama.release.approval import approve, read_approvals
from rollama.release.history import check_documents
from rollama.release.keys import NotTrusted, Role, make_key, retire
from rollama.release.promotion import STEPS, NotSettled, is_settled, promote, rollback, settle
from rollama.release.verdict import Outcome, Overtaken, Refused, Underpowered
from tests.release.desk import PROTOCOL, Place
from tests.release.tables import draw, protocol

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    promote(made.desk(), made.case("old"), made.key())
    return made


def die_at(name):
    """As a pulled plug: no `finally`, no buffers."""

    def step(reached):
        if reached == name:
            os._exit(9)

    return step


def killed(work):
    """Run work in a child; returns its exit code."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_promotion_moves_history_alias_and_endpoint(place):
    assert place.state() == ("old", "old", "old")
    record = promote(place.desk(), place.case("new"), place.key())
    assert place.state() == ("new", "new", "new")
    desk = place.desk()
    assert desk.registry.pointed("previous") == place.parts("old").release
    assert record.entry.replaces == place.parts("old").release and record.entry.number == 2
    assert desk.history().problems == () and check_documents(desk.storage, desk.history().records) == []
    assert "seg: " in place.values.read_text() and place.parts("new").seg in place.values.read_text()


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_same_command_finishes(place, step):
    case = place.case("new")
    assert killed(lambda: promote(place.desk(die_at(step)), case, place.key())) == 9
    history, alias, endpoint = place.state()
    decided = STEPS.index(step) >= STEPS.index("recorded")
    assert history == ("new" if decided else "old")
    if not decided:
        assert (alias, endpoint) == ("old", "old")
    assert {alias, endpoint} <= {"old", "new"}
    assert is_settled(place.desk(), place.desk().history()) is (not decided or step == "settled")
    promote(place.desk(), case, place.key())
    assert place.state() == ("new", "new", "new")
    assert [record.entry.kind for record in place.desk().history().records] == ["promoted", "promoted"]


@pytest.mark.parametrize("step", ["recorded", "endpoint", "alias"])
def test_killed_after_the_decision_a_roll_back_undoes_it(place, step):
    case = place.case("new")
    assert killed(lambda: promote(place.desk(die_at(step)), case, place.key())) == 9
    rollback(place.desk(), place.key())
    assert place.state() == ("old", "old", "old")


@pytest.mark.parametrize("step", ["recorded", "endpoint", "alias"])
def test_a_killed_roll_back_is_finished_by_settle(place, step):
    promote(place.desk(), place.case("new"), place.key())
    assert killed(lambda: rollback(place.desk(die_at(step)), place.key())) == 9
    assert settle(place.desk()) is True and place.state() == ("old", "old", "old")
    assert settle(place.desk()) is False


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(place):
    cases, barrier, answers = [place.case("a"), place.case("b", key="job2")], threading.Barrier(2), {}

    def run(index):
        desk = place.desk(lambda name: name == "registered" and barrier.wait(20))
        try:
            answers[index] = promote(desk, cases[index], place.key(("job", "job2")[index]))
        except ReleaseError as error:
            answers[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (loser,) = [index for index in range(2) if isinstance(answers[index], Exception)]
    winner = "ab"[1 - loser]
    assert isinstance(answers[loser], Overtaken) and answers[loser].exit_code == 5
    assert f"released is now {place.parts(winner).release[:16]}" in str(answers[loser])
    settle(place.desk())
    assert place.state() == (winner, winner, winner)


def test_a_verdict_against_a_model_that_is_not_released_any_more_is_refused(place):
    late = place.case("late")
    promote(place.desk(), place.case("new"), place.key())
    with pytest.raises(Overtaken, match="evaluate it again"):
        promote(place.desk(), late, place.key())
    assert place.state() == ("new", "new", "new")


def test_roll_backs_go_down_the_stack_and_end(place):
    for name in ("b", "c"):
        promote(place.desk(), place.case(name), place.key())
    rollback(place.desk(), place.key())
    assert place.state() == ("b", "b", "b")
    rollback(place.desk(), place.key())
    assert place.state() == ("old", "old", "old") and place.desk().registry.pointed("previous") is None
    with pytest.raises(DataError, match="only one is"):
        rollback(place.desk(), place.key())
    promote(place.desk(), place.case("d"), place.key())
    rollback(place.desk(), place.key(), remark="contours too small")
    with pytest.raises(Refused, match=r"was rolled back \(record 7: contours too small\); --again"):
        promote(place.desk(), place.case("d"), place.key())
    assert promote(place.desk(), place.case("d"), place.key(), again=True).entry.number == 8


def test_roll_back_to_a_record_by_number(place):
    for name in ("b", "c"):
        promote(place.desk(), place.case(name), place.key())
    with pytest.raises(DataError, match="record 3 is no release to go back to; there are 1, 2"):
        rollback(place.desk(), place.key(), to=3)
    rollback(place.desk(), place.key(), to=1)
    assert place.state() == ("old", "old", "old")


def test_a_registry_that_is_down_promotes_nothing_and_does_not_hold_up_a_roll_back(place):
    case = place.case("new")
    down = place.desk()
    down.registry.down = True
    with pytest.raises(ClusterError, match="does not answer"):
        promote(down, case, place.key())
    assert place.state() == ("old", "old", "old")
    promote(place.desk(), case, place.key())
    down = place.desk()
    down.registry.down = True
    with pytest.raises(NotSettled, match=r"record 3 stands: rolled back.*does not answer"):
        rollback(down, place.key())
    assert place.state() == ("old", "new", "old")
    settle(place.desk())
    assert place.state() == ("old", "old", "old")


@pytest.mark.parametrize(
    ("scores", "kind"),
    [(draw(-0.05), Refused), (draw(0.05, west=-0.05), Refused), (draw(0.0, spread=0.2, seed=8), Underpowered)],
)
def test_nothing_is_promoted_without_a_passed_verdict(place, scores, kind):
    with pytest.raises(kind) as told:
        promote(place.desk(), place.case("new", scores), place.key())
    assert told.value.exit_code == {Refused: 3, Underpowered: 4}[kind]
    assert place.state() == ("old", "old", "old")


def test_a_verdict_that_was_edited_after_it_was_signed_is_refused(place):
    case = place.case("new", draw(-0.05))
    edited = case.verdict.updated(outcome=Outcome.PASSED, findings=())
    forged = type(case)(**{
        **vars(case), "verdict": edited, "verdict_bytes": json.dumps(edited.model_dump(mode="json")).encode()
    })  # fmt: skip
    with pytest.raises(NotTrusted, match="changed after it was signed"):
        promote(place.desk(), forged, place.key())


def test_a_verdict_under_another_protocol_is_refused(place):
    case = place.case("new", protocol={"name": "toy", "version": 1, "sha256": "f" * 64})
    with pytest.raises(Refused, match="was found under protocol ffffffffffffffff"):
        promote(place.desk(), case, place.key())


def test_an_artefact_that_was_changed_in_the_store_is_refused(place):
    case = place.case("new")
    blob = next(path for path in (place.root / "store").rglob("*") if path.is_file() and path.read_text() == "new-seg")
    blob.write_text("new-sEg")
    with pytest.raises(DataError, match=r"model seg: model.safetensors .* it was changed"):
        promote(place.desk(), case, place.key())
    assert place.state() == ("old", "old", "old")


def test_clocks_that_disagree_are_told_and_order_is_by_number(place):
    case = place.case("new")
    place.now -= 3600  # this machine's clock is an hour behind the one that released `old`
    with pytest.raises(ReleaseError, match=r"record 1 is from the future by this machine's clock .*60 min"):
        promote(place.desk(), case, place.key())
    assert place.state() == ("old", "old", "old")
    promote(place.desk(), case, place.key(), despite_clock=True)
    assert place.state() == ("new", "new", "new")
    assert any("dated before record 1" in text for text in place.desk().history().clocks(place.now + 7200, 300))
    rollback(place.desk(), place.key())  # never waits for a clock
    assert place.state() == ("old", "old", "old")


def record_path(place, number):
    return place.root / "history" / "records" / f"{number:06d}.json"


@pytest.mark.parametrize("change", ["edited", "dropped", "exchanged", "cut"])
def test_a_history_that_was_changed_is_found_and_nothing_is_promoted(place, change):
    promote(place.desk(), place.case("b"), place.key())
    promote(place.desk(), place.case("c"), place.key())
    case = place.case("d")
    first, second, last = (record_path(place, number) for number in (1, 2, 3))
    if change == "edited":
        second.write_text(second.read_text().replace("promoted", "evaluated"))
    elif change == "dropped":
        second.unlink()
    elif change == "exchanged":
        content = first.read_bytes(), second.read_bytes()
        first.write_bytes(content[1])
        second.write_bytes(content[0])
    else:
        last.unlink()
    words = "end was cut off" if change == "cut" else "not whole"
    with pytest.raises((DataError, Overtaken), match=f"{words}|another release was first"):
        promote(place.desk(), case, place.key())
    if change == "cut":
        with pytest.raises(DataError, match="its end was cut off"):
            promote(place.desk(), place.case("d"), place.key())


def test_a_retired_key_vouches_for_old_records_and_signs_nothing_new(place):
    (old,) = place.desk().history().records
    retire(place.root / "keys", old.signature.key[:20], 1)
    assert place.desk().history().problems == ()
    with pytest.raises(NotTrusted, match="which is retired"):
        promote(place.desk(), place.case("new"), place.key())
    with pytest.raises(NotTrusted, match="which is retired"):
        promote(place.desk(), place.case("new"), place.key("job2"))  # the verdict was signed with the retired one
    promote(place.desk(), place.case("new", key="job2"), place.key("job2"))
    assert place.state() == ("new", "new", "new")


def test_a_stranger_and_a_key_of_another_role_release_nothing(place):
    make_key(place.root / "private" / "stranger.key", [])
    for name, words in (("stranger", "is not trusted"), ("physicist", "is trusted for approval only")):
        with pytest.raises(NotTrusted, match=words):
            promote(place.desk(), place.case("new"), place.key(name))


def approvals_of(place, case, key="physicist", **changes):
    values = {"candidate": case.verdict.candidate.release, "protocol": PROTOCOL, "verdict": case.digest, **changes}
    folder = place.root / "approvals"
    approve(folder, place.key(key), values["candidate"], values["protocol"], values["verdict"], "a person",
            lambda: place.now)  # fmt: skip
    return read_approvals(folder)


def test_a_persons_approval_is_demanded_where_the_protocol_does(place):
    rules = protocol(approval={"needed": 1})
    case = place.case("new", rules=rules)
    with pytest.raises(Refused, match=r"wants 1 approval.* and 0 count"):
        promote(place.desk(), case, place.key())
    for wrong in ("candidate", "protocol", "verdict"):
        other = type(case)(**{**vars(case), "approvals": approvals_of(place, case, **{wrong: "0" * 64})})
        with pytest.raises(Refused, match=f"is about another {wrong}"):
            promote(place.desk(), other, place.key())
    with pytest.raises(Refused, match="is trusted for release only"):
        promote(place.desk(), type(case)(**{**vars(case), "approvals": approvals_of(place, case, "job")}), place.key())
    good = type(case)(**{**vars(case), "approvals": approvals_of(place, case)})
    record = promote(place.desk(), good, place.key())
    assert record.entry.approvals[0].startswith("a person (")


def test_the_job_that_releases_cannot_approve_its_own_release(place):
    rules = protocol(approval={"needed": 1})
    approver = place.root / "keys" / Role.APPROVAL / "job.pem"
    approver.write_bytes((place.root / "keys" / Role.RELEASE / "job.pem").read_bytes())
    case = place.case("new", rules=rules)
    own = type(case)(**{**vars(case), "approvals": approvals_of(place, case, "job")})
    with pytest.raises(Refused, match="made with the key that signs the release"):
        promote(place.desk(), own, place.key())


def test_the_endpoint_is_asked_until_it_answers_with_the_release(tmp_path):
    place, asked = Place(tmp_path, url="http://endpoint", wait_s=30), []

    class Served:
        def __init__(self, name, problem=""):
            self.serving, self.problem = {model: f"{name}-{model}" for model in ("s", "p", "seg")}, problem

    def slowly():
        asked.append(1)
        return Served("old" if len(asked) < 3 else "new", "loading")

    promote(place.desk(ask=slowly), place.case("new"), place.key())
    assert len(asked) == 3 and place.state() == ("new", "new", "new")


def test_an_endpoint_that_does_not_follow_is_told_and_can_be_settled_or_undone(tmp_path):
    place = Place(tmp_path)
    promote(place.desk(), place.case("old"), place.key())
    broken = place.site.endpoint.updated(command=("false", "{values}"))
    desk = place.desk()
    desk.target.config = broken
    with pytest.raises(NotSettled, match=r"endpoint.command false failed with 1") as told:
        promote(desk, place.case("new"), place.key())
    assert told.value.exit_code == 6 and "rollback' takes it back" in str(told.value)
    assert not is_settled(place.desk(), place.desk().history())
    rollback(place.desk(), place.key())
    assert place.state() == ("old", "old", "old")
