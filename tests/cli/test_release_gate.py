"""`rollama release gate` as the chart's CronJob calls it: what jobs left in a workspace, up to the promotion."""

from __future__ import annotations

import json

import pytest
import yaml

from rollama.release.verdict import Outcome
from tests.cli.test_release import PROTOCOL, cohort, models, run, said, site

__all__ = ["cohort", "site"]
PRESETS = {
    **{task: {"task": task, "preset": "tiny"} for task in ("s", "p", "seg")},
    "proof": {"task": "evaluate"},
    "other": {"task": "p", "preset": "tiny", "set": ["text.steps=3"]},
}
KEY = ("--key", "private/job.key")


def sign(site, **changes):
    """Put another protocol in force."""
    (site / "protocol.yaml").write_text(yaml.safe_dump({**PROTOCOL, **changes}))
    assert run("sign-protocol", "protocol.yaml", "--key", "private/physicist.key") == 0


@pytest.fixture
def gate(site, cohort, tmp_path, capsys):
    """Runs the gate; answers exit code, standard output and standard error."""
    (tmp_path / "presets.yaml").write_text(yaml.safe_dump(PRESETS))

    def call(*jobs, **options):
        given = {"presets": tmp_path / "presets.yaml", "dataset": cohort, "workspace": tmp_path / "ws", **options}
        arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
        capsys.readouterr()
        code = run("gate", *(jobs or ("s", "p", "seg", "proof")), *arguments, *KEY)
        return code, *said(capsys)

    return call


def test_models_that_are_not_trained_yet_are_waited_for(gate, cohort, tmp_path, site):
    code, out, err = gate()
    assert (code, out) == (0, "") and "nothing to judge yet: s, p, seg not trained on this data" in err
    models(tmp_path / "ws" / "models", cohort, 0)
    code, _, err = gate("s", "other", "seg")
    assert code == 0 and "nothing to judge yet: other not trained" in err, "trained with another configuration"
    assert not (site / "history").exists() and not (tmp_path / "ws" / "release").exists()


def test_jobs_and_keys_that_do_not_do(gate, site):
    for jobs, code, words in (
        (("s", "x"), 2, "no job 'x'; it has: other, p, proof, s, seg"),
        (("proof",), 2, "none of proof trains a model"),
        (("p", "other"), 2, "other trains p, and another job named before it does as well"),
    ):
        found, _, err = gate(*jobs)
        assert found == code and words in err
    (site / "keys" / "release" / "job.pem").unlink()
    code, _, err = gate()
    assert code == 1 and "is not trusted" in err, "before anything is looked at"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_from_waiting_through_an_approval_to_a_release_and_a_refusal(gate, site, cohort, tmp_path, monkeypatch):
    from rollama.cli import release_evaluate

    sign(site, approval={"needed": 1, "keys": []})
    models(tmp_path / "ws" / "models", cohort, 0)
    code, out, err = gate()
    (place,) = (tmp_path / "ws" / "release").glob("verdict-*")
    assert code == 7 and out.startswith("# Release gate: waiting for approval") and "RESEARCH USE ONLY" in out
    assert "the protocol wants 1 approval(s) and 0 count" in err and f"approve {place} --key" in out
    assert (place / "summary.md").read_text() == out[:-1] and "SYNTHETIC DATA" in (place / "verdict.html").read_text()
    assert not (tmp_path / "ws" / "release" / "serve-models.yaml").exists()

    def never(*_, **__):
        raise AssertionError("what was judged is judged again")

    with monkeypatch.context() as patched:
        patched.setattr(release_evaluate, "judge", never)
        assert gate()[0] == 7
        assert run("approve", place, "--key", "private/physicist.key", "--name", "a person") == 0
        code, out, _ = gate()
        assert code == 0 and out.startswith("# Release gate: promoted") and "helm upgrade" in out
        code, _, err = gate()
        assert code == 0 and "nothing to do: these models are released (record 2)" in err
    copy = (tmp_path / "ws" / "release" / "serve-models.yaml").read_text()
    first = yaml.safe_load(copy)["serve"]["models"]
    assert run("values") == 0 and set(first) == {"s", "p", "seg"}

    models(tmp_path / "ws" / "models", cohort, 5)
    sign(site, version=2, limits=[{"task": "p", "metric": "unparsed", "at_most": 0.01, "each": "all"}])
    code, out, _ = gate()
    assert code == 3 and out.startswith("# Release gate: refused") and "p.unparsed" in out
    (refused,) = set((tmp_path / "ws" / "release").glob("verdict-*")) - {place}
    verdict = json.loads((refused / "verdict.json").read_text())
    assert verdict["replaces_record"] == 2 and verdict["outcome"] == str(Outcome.REFUSED)
    assert (tmp_path / "ws" / "release" / "serve-models.yaml").read_text() == copy

    (refused / "verdict.json").write_text(json.dumps({**verdict, "outcome": "passed"}))
    code, _, err = gate()
    assert code == 3 and "judging anew: verdict.json: the signature does not fit" in err
    assert json.loads((refused / "verdict.json").read_text())["outcome"] == "refused"
