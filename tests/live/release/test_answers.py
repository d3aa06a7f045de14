"""The chart's RayService: it wants its keys, answers what `rollama predict` does here, and its models change."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from rollama.chain.inputs import make_request, read_input_ct
from rollama.chain.run import Chain
from tests.chain.tiny import make_models
from tests.live.kube import until
from tests.live.release.parts import NOTE, NOTES, Endpoint, Listed, Release
from tests.live.setting import CHART, Bucket, push_models
from tests.load import steady

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_the_endpoint_answers_as_predict_does(endpoint: Endpoint, release: Release, listed: Listed) -> None:
    expected = Chain.load(release.models).answer(make_request(note=NOTE), read_input_ct(release.ct))
    body = {"note": NOTE, "ct_path": "ct.nii.gz"}
    with httpx.Client(base_url=endpoint.url, timeout=120) as client:
        assert client.post("/v1/pipeline", json=body).status_code == 401
        assert client.post("/v1/pipeline", json=body, headers={"Authorization": "Bearer wrong"}).status_code == 401
    with endpoint.client(listed.key) as client:
        assert client.post("/v1/pipeline", json=body).status_code == 403, "its scope is texts"
    with endpoint.client() as client:
        waits = {"Prefer": "wait=100"}
        answer = client.post("/v1/pipeline", json=body, headers=waits)
        with release.ct.open("rb") as stream:
            sent = client.post("/v1/pipeline/upload", data={"note": NOTE}, files={"ct": stream}, headers=waits)
    for answered in (answer, sent):
        assert answered.status_code == 200, answered.text + release.errors()
        found = answered.json()["findings"]
        assert (found["summary"], found["plan_text"]) == (expected.summary, expected.plan_text)
        assert found["warnings"] == list(expected.warnings)
        assert "target.nii.gz" in answered.json()["files"]


def test_models_change_and_come_back_without_a_failed_request(
    endpoint: Endpoint, release: Release, bucket: Bucket, tmp_path: Path
) -> None:
    """`helm upgrade` with other models, then `helm rollback`, under a steady load."""
    models = push_models(make_models(tmp_path / "models", first_seed=10), bucket)
    before = release.pods()
    with endpoint.client() as client:
        first = client.get("/v1/models").json()["serving"]

        def served() -> dict[str, str]:
            return dict(client.get("/v1/models").json()["serving"])

        with steady(lambda note: client.post("/v1/plan", json={"note": note}), NOTES) as answers:
            begin = time.monotonic()
            release.upgrade(models=models)
            until(lambda: served() != first, 240, "the new models are served")
            print(f"new models served {time.monotonic() - begin:.0f} s after helm upgrade, {len(answers)} answers")
            second = served()
            release.kube.helm("rollback", "rollama")
            until(lambda: served() == first, 240, "the old models are served again")
    assert second["s"] != first["s"] and second["seg"] == first["seg"]  # the tiny SEG is made from the same seed
    assert {answer.status_code for _, answer in answers} == {200}
    assert {answer.json()["models"]["s"] for _, answer in answers} == {first["s"], second["s"]}
    assert release.pods() == before, "a pod was made anew"


def test_emptied_models_take_the_endpoint_out_of_the_release(endpoint: Endpoint, release: Release) -> None:
    """As the documentation spells it; only tried, as everything else here needs the endpoint."""
    words = ("upgrade", "rollama", CHART, "--reuse-values", "--dry-run=server", "--set")
    assert "kind: RayService" in release.kube.helm(*words, "retrain.enabled=false")
    assert "kind: RayService" not in release.kube.helm(*words, "serve.models.s=,serve.models.p=,serve.models.seg=")


def test_helm_test_finds_doors_closed_and_keys_working(endpoint: Endpoint, release: Release) -> None:
    said = release.kube.helm(
        "test", "rollama", check=False, timeout=240
    )  # with the pod's own words, which go to stderr
    assert "Succeeded" in said and said.count("ok  ") == 7 and "FAIL" not in said, said
    assert endpoint.key not in said


def test_the_pods_of_the_release_are_restricted(endpoint: Endpoint, release: Release) -> None:
    """Read-only roots, no key in a pod's definition, and an account's token only where the API server is asked."""
    found = release.kube.get("pods")["items"]
    boxes = [
        (box, pod) for pod in found for part in ("containers", "initContainers") for box in pod["spec"].get(part, [])
    ]
    assert {"ray", "mlflow", "retrain"} <= {box["name"] for box, _ in boxes}
    assert all(box["securityContext"]["readOnlyRootFilesystem"] for box, _ in boxes)
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    holders = {
        box["name"] for box, _ in boxes if any(item["mountPath"] == token for item in box.get("volumeMounts", []))
    }
    assert holders == {"retrain"}
    assert not any(endpoint.key in str(pod) for pod in found)
