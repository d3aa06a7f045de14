from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollama.cli.main import _run
from rollama.cli.train import What, run_key
from rollama.core.errors import ConfigError, DataError
from rollama.core.registry import Task
from rollama.data.case import Split
from rollama.data.dataset import open_dataset, open_texts
from rollama.data.texts import Source, import_texts
from rollama.data.tokenization import tokenize_cases
from rollama.language.base import load_tokenizer
from rollama.presets import load_preset

MAP = {"note": "REPORT", "summary": "IMPRESSION"}
SECRET = "Jane Roe, left breast"


def row(number: int, **more: object) -> dict[str, object]:
    return {
        "mrn": f"P {number}",
        "REPORT": f"Report {number}\u2028 of {SECRET}",
        "IMPRESSION": f"Short {number}.",
        **more,
    }


def lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(item, ensure_ascii=False) for item in rows) + "\n", encoding="utf-8")
    return path


def test_json_lines_become_a_data_set_that_s_trains_on(tmp_path: Path) -> None:
    path = lines(tmp_path / "reports.jsonl", *(row(number) for number in range(40)))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    data = import_texts(Source(path, MAP, "mrn"), tmp_path / "out", "north")
    assert len(data.cases) == 40 and data.info.label == "none" and not data.info.synthetic
    case = next(case for case in data.cases if case.case_id == "P-7")
    assert case.note.startswith("Report 7\u2028") and case.summary == "Short 7." and case.plan_text == ""
    assert {case.split for case in data.cases} >= {Split.TRAIN, Split.VALIDATION}
    rows = tokenize_cases(load_tokenizer("tiny"), Task.SUMMARY, data.cases, 2000)
    assert len(rows) == 40
    with pytest.raises(DataError, match="text or answer is empty in 40"):
        tokenize_cases(load_tokenizer("tiny"), Task.PLAN, data.cases, 2000)
    with pytest.raises(DataError, match="holds texts only"):
        open_dataset(tmp_path / "out")


def test_adding_cases_moves_none(tmp_path: Path) -> None:
    few = lines(tmp_path / "few.jsonl", *(row(number) for number in range(20)))
    many = lines(tmp_path / "many.jsonl", *(row(number) for number in range(60)))
    first, second = (
        {case.case_id: case.split for case in import_texts(Source(path, MAP, "mrn"), tmp_path / path.stem, "a").cases}
        for path in (few, many)
    )
    assert first.items() <= second.items()


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "in" / f"p{number}").mkdir(parents=True)
        (tmp_path / "in" / f"p{number}" / "summary.txt").write_text(f"Summary {number}")
        (tmp_path / "in" / f"p{number}" / "plan.txt").write_text("Free text.")
    mapping = {"summary": "{id}/summary.txt", "plan": "{id}/plan.txt"}
    data = import_texts(Source(tmp_path / "in", mapping), tmp_path / "out", "a", synthetic=True)
    assert [(case.case_id, case.plan_text, case.plan) for case in data.cases] == [
        ("p1", "Free text.", None), ("p2", "Free text.", None)
    ]  # fmt: skip
    (tmp_path / "in" / "p2" / "plan.txt").unlink()
    with pytest.raises(DataError, match=r"p2/plan\.txt"):
        import_texts(Source(tmp_path / "in", mapping), tmp_path / "again", "a")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([row(1), {"mrn": "2", "REPORT": SECRET}], {}, "line 2 has no IMPRESSION; it has mrn, REPORT"),
        ([row(1), row(1)], {}, r"1 case id\(s\) occur more than once: P-1"),
        ([row(1), ["x"]], {}, "line 2 is not a JSON object"),
        ([row(1, mrn=" ?")], {}, "line 1: the case has no id"),
        ([row(1, mrn=None)], {}, "line 1: the case has no id"),
        ([row(1)], {"split": "REPORT"}, "line 1: REPORT is no split"),
        ([row(1, part="holdout")], {"split": "part"}, "line 1: part is no split; accepted: train"),
        ([], {}, "no case found"),
    ],
)
def test_broken_sources_are_named_without_their_text(
    tmp_path: Path, rows: list[object], options: dict[str, str], message: str
) -> None:
    path = lines(tmp_path / "in.jsonl", *rows)
    with pytest.raises(DataError, match=message) as caught:
        import_texts(Source(path, MAP, "mrn", **options), tmp_path / "out", "a")
    assert SECRET not in str(caught.value) and not (tmp_path / "out").exists()


def test_the_mapping_has_to_make_sense(tmp_path: Path) -> None:
    path = lines(tmp_path / "in.jsonl", row(1))
    for mapping in ({"note": "REPORT"}, {"summary": "IMPRESSION"}, {**MAP, "title": "X"}):
        with pytest.raises(ConfigError, match="needed: summary with note, plan or both"):
            import_texts(Source(path, mapping, "mrn"), tmp_path / "out", "a")
    with pytest.raises(ConfigError, match="such as St-Mary"):
        import_texts(Source(path, MAP, "mrn"), tmp_path / "out", "St. Mary")
    assert not (tmp_path / "out").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=r"\{id\} once"):
        import_texts(Source(tmp_path / "folder", MAP), tmp_path / "out", "a")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lines(tmp_path / "in.jsonl", *(row(number) for number in range(12)))
    words = ["import-text", str(path), str(tmp_path / "out"), "--id", "mrn"]
    assert _run([*words, "--map", "note=REPORT", "--map", "summary=IMPRESSION", "--centre", "north"]) == 0
    shown = capsys.readouterr()
    assert "12 cases" in shown.err and "clinical text" in shown.err and SECRET not in shown.err + shown.out
    assert {case.centre for case in open_texts(tmp_path / "out").cases} == {"north"}
    assert _run(["preview", "--preset", "tiny", "--dataset", str(tmp_path / "out")]) == 0
    assert "p: no texts for it" in " ".join(capsys.readouterr().out.split())
    assert _run([*words, "--map", "note"]) == 2
    store = str(tmp_path / "store")
    assert _run(["push", "dataset", str(tmp_path / "out"), store]) == 0
    key = run_key(What.S, load_preset("tiny"), tmp_path / "out")
    assert key == run_key(What.S, load_preset("tiny"), tmp_path / "out")
