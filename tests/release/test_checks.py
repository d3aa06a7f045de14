"""What else keeps a candidate out: training cases in the evaluation, settings that may not change."""

import json
import shutil

import pytest

from rollama.core.errors import DataError
from rollama.core.files import write_json
from rollama.core.manifest import training_hashes
from rollama.data.dataset import open_dataset
from rollama.release.changes import judge_changes
from rollama.release.gate import check_data, read_evaluation, selected
from rollama.release.overlap import Overlap, check_overlap
from rollama.release.protocol import Changes, Inputs
from rollama.release.scores import groups_of, read_scores
from rollama.release.verdict import Outcome, Refused
from tests.evaluation.conftest import root  # noqa: F401  # the toy data set
from tests.evaluation.toy import CASES, IDS, read_texts, stamp, write_texts
from tests.release.tables import protocol


def check(opened, trained, *folders):
    hashes = {"seg": [opened_hash(trained)]}
    return check_overlap(selected(opened), opened.info.content_hash, hashes, [opened.root, *folders])


def opened_hash(folder):
    return open_dataset(folder, False).info.content_hash


@pytest.fixture
def opened(root):  # noqa: F811
    for centre in ("north", "south", "west"):  # as no two patients' CTs are equal
        for path in (root / centre / "images").glob("*.nii.gz"):
            path.write_bytes(path.read_bytes() + path.name.encode())
    stamp(root)
    return open_dataset(root, check_volumes=False)


def other(opened, tmp_path, change):
    """A data set of training cases, made of the evaluation's, with other ids and texts as `change` says."""
    copy = tmp_path / "other"
    shutil.copytree(opened.root, copy)
    for centre in ("north", "south", "west"):
        folder = copy / centre
        names = {name: f"other-{name}" for name in read_texts(folder)}
        lines = [{**line, "case_id": names[name], "note": f"another note of {name}"}
                 for name, line in read_texts(folder).items()]  # fmt: skip
        for part in ("images", "labels"):
            for name, new in names.items():
                path = folder / part / f"{name}.nii.gz"
                path.rename(folder / part / f"{new}.nii.gz")
        for path in (folder / "images").glob("*"):
            path.write_bytes(path.read_bytes() + b"other")
        entries = [{"case_id": new, "image": f"images/{new}.nii.gz", "label": f"labels/{new}.nii.gz"}
                   for new in names.values()]  # fmt: skip
        write_json(folder / "dataset.json", {"training": entries})
        write_texts(folder, lines)
    change(copy)
    stamp(copy)
    return copy


def test_held_out_cases_of_the_training_data_itself_are_fine(opened):
    assert check(opened, opened.root) == [opened.info.content_hash]
    assert [case.case_id for case in selected(opened)] == IDS


def test_other_patients_are_fine(opened, tmp_path):
    trained = other(opened, tmp_path, lambda copy: None)
    assert check(opened, trained, trained) == [opened_hash(trained)]


def same_note(copy):
    lines = read_texts(copy / "west")
    write_texts(copy / "west", [{**line, "note": "SECRET  note\nwest-0"} for line in lines.values()])


def same_ct(copy):
    image = next((copy / "west" / "images").glob("*"))
    image.write_bytes(image.read_bytes().removesuffix(b"other"))


def same_patient(copy):
    lines = read_texts(copy / "west")
    write_texts(copy / "west", [{**line, "provenance": {"subject": "west-0"}} for line in lines.values()])


@pytest.mark.parametrize(("change", "word"), [(same_note, "note"), (same_ct, "CT"), (same_patient, "patient")])
def test_the_same_patient_under_another_number_is_found(opened, tmp_path, change, word):
    trained = other(opened, tmp_path, change)
    with pytest.raises(Overlap, match=f"case other-west-0 .*case west-0's {word}; evaluate on other cases") as told:
        check(opened, trained, trained)
    assert "SECRET" not in str(told.value) and told.value.exit_code == 3


def test_only_data_that_the_protocol_names_may_judge(opened):
    check_data(protocol(), opened)
    check_data(protocol(judged_on=[opened.info.content_hash]), opened)
    with pytest.raises(Refused, match=r"data set toy of content [0-9a-f]{16} may not judge; the protocol names a{16}$"):
        check_data(protocol(judged_on=["a" * 64]), opened)


def test_training_data_that_are_not_at_hand_are_demanded(opened, tmp_path):
    trained = other(opened, tmp_path, lambda copy: None)
    with pytest.raises(DataError, match=r"model seg was trained on data of content .* name it with --trained-on"):
        check(opened, trained)
    with pytest.raises(DataError, match="model seg does not say what it was trained on"):
        check_overlap(selected(opened), "x", {"seg": []}, [opened.root])


def test_groups_follow_from_the_true_plans(opened):
    found = groups_of(opened.cases, ("side", "nodes", "target", "guideline", "provenance.subject"))
    assert found["north-1"] == {"side": "left", "nodes": "nodes", "target": "target"}
    assert found["north-3"]["target"] == "no target" and set(found) == set(CASES)


def manifest(**changes):
    values = {"rollama": "1", "config": {"steps": 10, "lr": 0.1, "lora": {"r": 16}, "scale": {"workers": 2}}}
    return {**values, "base": {"weights_hash": "a", "tokenizer_hash": "b"}, **changes}


@pytest.mark.parametrize(
    ("new", "outcome", "words"),
    [
        (manifest(), Outcome.PASSED, "same settings"),
        (manifest(config={**manifest()["config"], "steps": 20}), Outcome.PASSED, "changed as allowed: steps"),
        (manifest(config={**manifest()["config"], "scale": {"workers": 8}}), Outcome.PASSED, "scale.workers"),
        (manifest(config={**manifest()["config"], "lora": {"r": 8}}), Outcome.REFUSED, "lora.r from 16 to 8"),
        (manifest(base={"weights_hash": "c"}), Outcome.REFUSED, "another base model"),
        (manifest(rollama="2"), Outcome.REFUSED, "rollama 1 to 2"),
    ],
)
def test_only_what_the_protocol_names_may_change(new, outcome, words):
    (finding,) = judge_changes(Changes(s=("steps", "l?")), {"s": new}, {"s": manifest()})
    assert finding.outcome is outcome and words in finding.remark


def test_the_manifests_say_what_models_were_trained_on():
    assert training_hashes({"data": {"content_hash": "a"}}) == ["a"]
    assert training_hashes({"data": {"content_hash": ["a", "b"]}}) == ["a", "b"]
    assert training_hashes({"data_hash": "c"}) == ["c"] and training_hashes({}) == []


def test_an_evaluation_of_something_else_is_not_taken(tmp_path):
    row = {"case_id": "a", "centre": "c", "split": "test", "task": "seg", "system": "SEG++", "source": "reference"}
    (tmp_path / "cases.jsonl").write_text(json.dumps({**row, "metrics": {"dice": 0.5, "hd95_mm": None}}) + "\n")
    results = {"models": {"seg": "w", "seg-vision": "v"}, "dataset": {"hash": "d"}, "limit": None}
    write_json(tmp_path / "evaluation.json", results)
    scores = read_evaluation(tmp_path, {"seg": "w"}, "d", Inputs(), None)
    assert scores.values["seg", "reference", "dice"] == {"a": 0.5}
    for hashes, data, inputs, word in (
        ({"seg": "x"}, "d", Inputs(), "models"),
        ({"seg": "w"}, "e", Inputs(), "dataset e|dataset d instead of e"),
        ({"seg": "w"}, "d", Inputs(corrupted=("noise",)), "corrupted"),
        ({"seg": "w"}, "d", Inputs(counterfactual=True), "counterfactual"),
    ):
        with pytest.raises(DataError, match=f"something else .*({word})"):
            read_evaluation(tmp_path, hashes, data, inputs, None)
    (tmp_path / "cases.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="line 1 is not the scores of a case"):
        read_scores(tmp_path)
