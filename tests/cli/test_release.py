"""`rollama release` as a hospital's engineer calls it: from keys to a promotion, a cycle and a roll-back."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from rollama.cli.main import main
from tests.release.trained import PROTOCOL, trained


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["release", *(str(value) for value in arguments)])
    return ended.value.code


def said(capsys):
    shown = capsys.readouterr()
    return shown.out, " ".join(shown.err.split())


@pytest.fixture
def site(tmp_path, monkeypatch, capsys):
    """A site with a signed protocol, which the tests run in."""
    monkeypatch.setenv("ROLLAMA_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    assert run("init", folder) == 0
    monkeypatch.chdir(folder)
    (folder / "protocol.yaml").write_text(yaml.safe_dump(PROTOCOL))
    assert run("keygen", "private/physicist.key", "--role", "protocol", "--role", "approval") == 0
    assert run("keygen", "private/job.key", "--role", "release") == 0
    assert run("sign-protocol", "protocol.yaml", "--key", "private/physicist.key") == 0
    capsys.readouterr()
    return folder


def test_keys_are_listed_and_rotated(site, capsys):
    assert run("keys") == 0
    lines = said(capsys)[0].splitlines()
    assert len(lines) == 2 and all(re.match(r"[0-9a-f]{64}  (protocol, approval|release); in use$", x) for x in lines)
    job = next(line for line in lines if "release" in line)[:64]
    assert run("keygen", "private/new.key", "--role", "release") == 0
    assert run("retire-key", job[:12], "--key", "private/job.key") == 2
    assert "a key cannot retire itself" in said(capsys)[1]
    assert run("retire-key", job[:12], "--key", "private/new.key") == 0
    assert run("keys") == 0
    assert f"{job}  release; retired, signed up to record 0" in said(capsys)[0]


def test_only_who_may_signs_the_protocol(site, capsys):
    assert run("sign-protocol", "protocol.yaml", "--key", "private/job.key") == 1
    assert "is trusted for release only" in said(capsys)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("evaluate", "none", "--dataset", "none", "--key", "private/job.key"), 2, "the first release needs all of"),
        (("evaluate", "--model", "x=y", "--dataset", "none"), 2, "--model x=...: not a model; accepted: s, p, seg"),
        (("evaluate", "none", "--dataset", "none", "--key", "private/physicist.key"), 1, "trusted for protocol"),
        (("promote", "none", "--key", "private/job.key"), 1, "run 'rollama release evaluate' first"),
        (("rollback", "--key", "private/none.key"), 2, "not a readable private key"),
        (("history", "--config", "other.yaml"), 2, "'rollama release init FOLDER' writes one"),
        (("keygen", "private/job.key", "--role", "release"), 2, "a key is never written over"),
        (("init", "."), 2, "is there already"),
    ],
)
def test_bad_input_is_one_message(site, capsys, arguments, code, words):
    assert run(*arguments) == code
    assert words in said(capsys)[1]


def test_a_changed_or_contradictory_protocol_stops_everything(site, capsys):
    text = (site / "protocol.yaml").read_text()
    (site / "protocol.yaml").write_text(text.replace("margin: 0.4", "margin: 0.3"))
    assert run("evaluate", "none", "--dataset", "none") == 1
    assert "the signature does not fit" in said(capsys)[1]
    (site / "protocol.yaml").write_text(text.replace("margin: 0.4", "margin: 1.6"))
    assert run("sign-protocol", "protocol.yaml", "--key", "private/physicist.key") == 2
    assert "rules[0].margin is 1.6, the whole range of p.rougeL" in said(capsys)[1]
    (site / "releases.yaml").write_text("history: h\nstore: s\nkeyes: k\nprotocol: p\n")
    assert run("keys") == 2
    assert "unknown key 'keyes'; did you mean 'keys'?" in said(capsys)[1]


def test_a_person_approves_what_was_signed(site, capsys):
    from rollama.release.approval import read_approvals
    from rollama.release.folder import write_verdict
    from rollama.release.keys import load_private
    from rollama.release.verdict import Outcome, Parts, Verdict

    names = ("s", "p", "seg")
    parts = Parts(**{name: f"{site}/store@sha256:{digit * 64}" for name, digit in zip(names, "123", strict=True)})
    verdict = Verdict(
        synthetic=True, created="2026-01-01T00:00:00+00:00", candidate=parts, hashes=dict.fromkeys(names, "h"),
        protocol={"name": "tiny", "version": 1, "sha256": "f" * 64}, tables={}, findings=(), outcome=Outcome.PASSED,
        dataset={"name": "d", "hash": "e" * 64, "cases": 3}, trained_on={name: [] for name in names},
    )  # fmt: skip
    name = ("--name", "a person", "--key")
    write_verdict(site / "v", verdict, None)
    assert run("approve", "v", *name, "private/physicist.key") == 1
    assert "there is no signature" in said(capsys)[1]
    write_verdict(site / "v", verdict, load_private(site / "private" / "job.key"))
    assert run("approve", "v", *name, "private/job.key") == 1
    assert "is trusted for release only" in said(capsys)[1]
    assert run("approve", "v", *name, "private/physicist.key") == 0
    (approved,) = read_approvals(site / "v")
    assert approved.statement.by == "a person" and approved.statement.candidate == parts.release
    capsys.readouterr()
    assert run("promote", "v", "--key", "private/job.key") == 1
    assert "the store has no such content" in said(capsys)[1]
    assert not (site / "history").exists() and not (site / "serve-models.yaml").exists()


@pytest.fixture
def cohort(tmp_path):
    from rollama.cohort.make import make_cohort
    from rollama.presets import load_preset

    make_cohort(tmp_path / "cohort", load_preset("tiny").cohort, None)
    return tmp_path / "cohort"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_from_the_first_release_through_a_cycle_to_a_roll_back(site, cohort, tmp_path, capsys):
    key = ("--key", "private/job.key")
    old = trained(tmp_path / "old", cohort, 0)
    assert run("evaluate", old, "--dataset", cohort, "--out", "first", *key) == 0, said(capsys)
    assert run("promote", "first", *key) == 0
    first = said(capsys)[0].splitlines()[-1]
    served = yaml.safe_load((site / "serve-models.yaml").read_text())["serve"]["models"]
    assert set(served) == {"s", "p", "seg"} and all("@sha256:" in value for value in served.values())

    trained(tmp_path / "ws" / "models", cohort, 5)
    cycle = ("cycle", "--preset", "tiny", "--workspace", tmp_path / "ws", "--dataset", cohort, "--out", "second", *key)
    assert run(*cycle) == 0, said(capsys)
    out, err = said(capsys)
    second = out.splitlines()[-1]
    assert err.count("already trained") == 3 and second != first and "record 4: promoted" in err
    page = (site / "second" / "verdict.html").read_text()
    assert "RESEARCH USE ONLY" in page and "SYNTHETIC DATA" in page and "data:image/png" in page
    verdict = json.loads((site / "second" / "verdict.json").read_text())
    assert verdict["replaces"] == first and {item["kind"] for item in verdict["findings"]} == {
        "change", "limit", "non-inferiority",
    }  # fmt: skip
    assert run(*cycle) == 0
    assert "nothing to do" in said(capsys)[1]

    edited = {**verdict, "outcome": "passed", "candidate": {**verdict["candidate"], "seg": served["seg"]}}
    (site / "second" / "verdict.json").write_text(json.dumps(edited))
    assert run("promote", "second", *key) == 1
    assert "changed after it was signed" in said(capsys)[1]

    assert run("rollback", *key, "--remark", "only a test") == 0
    assert said(capsys)[0].strip() == first
    assert yaml.safe_load((site / "serve-models.yaml").read_text())["serve"]["models"] == served
    assert run("history", "--documents") == 0
    out, _ = said(capsys)
    assert re.findall(r"evaluated|promoted|rolled back to record \d", out) == [
        "evaluated",
        "promoted",
        "evaluated",
        "promoted",
        "rolled back to record 2",
    ]
    assert (site / "history" / "documents").is_dir()
