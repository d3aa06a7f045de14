"""`rollama release gate` as the chart's CronJob calls it: what jobs left in a workspace, up to the promotion."""

from __future__ import annotations

import json

import pytest
import yaml

from rollama.release.verdict import Outcome
from tests.cli.test_release import cohort, run, said, site
from tests.release.trained import PROTOCOL, trained

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
    trained(tmp_path / "ws" / "models", cohort, 0)
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


@pytest.fixture
def evaluations(monkeypatch):
    """Stands in for running the models, as tests/cli/test_release.py does that: figures made up, files as they are.

    A list of what was scored; `figures` of it are what is written for every case.
    """
    from rollama.evaluation import jobs
    from rollama.evaluation.run import Record

    class Scored(list):
        figures: dict[str, float]

    done = Scored()
    done.figures = {"unparsed": 0.0}

    def evaluate(models, dataset, out, limit, zero_shot, progress, gpus, counterfactual, corrupted, plan_decoding):
        job = jobs.open_job(models.resolve(), dataset.resolve(), out.resolve(), limit, None, False, False,
                            plan_decoding, corrupted)  # fmt: skip
        done.append(models.name)
        text = {"rougeL": 0.8, **done.figures}
        records = [
            Record(case.case_id, case.centre, str(case.split), task, system, source, metrics)
            for case in job.cases
            for task, system, source, metrics in (
                ("p", "RO-LLaMA", "reference", text),
                ("p", "RO-LLaMA", "capitals", text),
                ("seg", "SEG++", "reference", {"missed": 0.0, "invented": 0.0}),
            )
        ]
        return jobs.write_results(job, records, limit, zero_shot)

    monkeypatch.setattr("ray_jobs.evaluate.evaluate", evaluate)
    return done


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")  # of MLflow
def test_from_waiting_through_an_approval_to_releases_and_a_refusal(gate, site, cohort, tmp_path, evaluations, capsys):
    shelf = tmp_path / "ws" / "release"
    sign(site, approval={"needed": 1, "keys": []})
    trained(tmp_path / "ws" / "models", cohort, 0)
    code, out, err = gate()
    (place,) = shelf.glob("verdict-*")
    assert code == 7 and out.startswith("# Release gate: waiting for approval") and "RESEARCH USE ONLY" in out, err
    assert "the protocol wants 1 approval(s) and 0 count" in err and f"approve {place} --key" in out
    assert (place / "summary.md").read_text() == out[:-1] and "SYNTHETIC DATA" in (place / "verdict.html").read_text()
    assert not (shelf / "serve-models.yaml").exists() and len(evaluations) == 1
    assert gate()[0] == 7

    assert run("approve", f"file://{place}", "--key", "private/physicist.key", "--name", "a person") == 0
    assert len(list(place.glob("approval-*.json"))) == 1, "it went back to where the verdict is"
    code, out, _ = gate()
    assert code == 0 and out.startswith("# Release gate: promoted") and "helm upgrade" in out
    code, _, err = gate()
    assert code == 0 and "nothing to do: these models are released (record 2)" in err
    assert len(evaluations) == 1, "what was judged is not judged again"
    copy = (shelf / "serve-models.yaml").read_text()
    capsys.readouterr()
    assert run("values") == 0 and said(capsys)[0] == copy
    assert set(yaml.safe_load(copy)["serve"]["models"]) == {"s", "p", "seg"}

    trained(tmp_path / "ws" / "models", cohort, 5)
    evaluations.figures = {"unparsed": 0.5}
    limit = {"task": "p", "metric": "unparsed", "at_most": 0.1, "each": "all"}
    sign(site, version=2, limits=[*PROTOCOL["limits"], limit])
    code, out, _ = gate()
    assert code == 3 and out.startswith("# Release gate: refused") and "p.unparsed" in out
    (refused,) = set(shelf.glob("verdict-*")) - {place}
    verdict = json.loads((refused / "verdict.json").read_text())
    assert verdict["replaces_record"] == 2 and verdict["outcome"] == str(Outcome.REFUSED)
    (refused / "verdict.json").write_text(json.dumps({**verdict, "outcome": "passed"}))
    code, _, err = gate()
    assert code == 3 and "judging anew: verdict.json: the signature does not fit" in err
    assert json.loads((refused / "verdict.json").read_text())["outcome"] == "refused"
    assert (shelf / "serve-models.yaml").read_text() == copy, "nothing was promoted"

    sign(site, version=3)
    assert gate()[0] == 0 and (shelf / "serve-models.yaml").read_text() != copy, "nobody's approval is wanted"
    assert run("rollback", *KEY, "--remark", "only a test") == 0
    before = len(evaluations)
    code, out, _ = gate()
    assert code == 3 and "was rolled back" in out and "only a test" in out
    assert len(evaluations) == before and (shelf / "serve-models.yaml").read_text() == copy


def test_a_report_is_fetched_to_be_read(site, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    for name in ("verdict.json", "verdict.html", "other.txt"):
        (tmp_path / "there" / name).write_text(name)
    assert run("fetch", f"file://{tmp_path / 'there'}", tmp_path / "here") == 0
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"verdict.json", "verdict.html"}
    assert run("fetch", f"file://{tmp_path / 'nowhere'}", tmp_path / "other") == 1
    assert "no verdict.json there" in said(capsys)[1]
    assert run("values") == 1
    assert "nothing is released yet" in said(capsys)[1]
