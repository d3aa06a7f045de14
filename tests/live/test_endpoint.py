"""The chart's RayService: it becomes ready, wants its key, and answers what `rollama predict` answers here."""

from __future__ import annotations

import base64
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest
import yaml

from infra.cluster.layout import STATE
from rollama.chain.inputs import make_request, read_input_ct
from rollama.chain.run import Chain
from rollama.data.store import Kind, push
from tests.chain.tiny import make_models
from tests.live.conftest import KUBERAY, OWN, ROOT, Bucket
from tests.live.kube import Kube, until
from tests.load import steady

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
NOTE = "Left breast cancer, pT1 N1, breast-conserving surgery."
PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)


@dataclass(frozen=True)
class Endpoint:
    """An address on this machine, the key, and what is behind it."""

    url: str
    key: str
    models: Path
    ct: Path


@pytest.fixture(scope="module")
def claim(site: Kube, image: str) -> Iterator[str]:
    """A volume claim for CTs: of the cluster's default class, or on the test cluster a folder of its node."""
    spec: dict[str, object] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volume = f"cts-{site.namespace}"
    if not OWN:
        folder = STATE / volume
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        place = {"capacity": {"storage": "1Gi"}, "hostPath": {"path": str(folder)}, "storageClassName": "none"}
        body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}}
        site.apply({**body, "spec": {**place, "accessModes": ["ReadWriteOnce"]}})
        spec |= {"storageClassName": "none", "volumeName": volume}
    site.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cts"}, "spec": spec})
    yield "cts"
    if not OWN:
        site.run("delete", "persistentvolume", volume, "--wait=false")


@pytest.fixture(scope="module")
def ct(site: Kube, image: str, claim: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cylinder of tissue in air, here and in the claim."""
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 24), np.arange(12), indexing="ij")
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    path = tmp_path_factory.mktemp("ct") / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.where(x**2 + y**2 < 0.8, 30, -1000).astype(np.int16), affine), path)
    from rollama.cluster import pods

    box = {
        "name": "writer", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "300"],
        "securityContext": pods.SECURITY, "volumeMounts": [{"name": "cts", "mountPath": "/data"}],
    }  # fmt: skip
    spec = {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": pods.POD_SECURITY,
        "containers": [box], "volumes": [{"name": "cts", "persistentVolumeClaim": {"claimName": claim}}],
    }  # fmt: skip
    site.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"}, "spec": spec})
    site.run("wait", "pod/writer", "--for=condition=Ready", "--timeout=120s")
    text = base64.b64encode(path.read_bytes()).decode()
    site.run("exec", "-i", "writer", "--", "sh", "-c", "base64 -d > /data/ct.nii.gz", text=text)
    site.run("delete", "pod", "writer", "--grace-period=0", "--force")
    return path


def push_models(folder: Path, bucket: Bucket) -> dict[str, str]:
    """References of the models of a folder, now in the bucket's store."""
    return {name: str(push(folder / name, Kind.MODEL, f"{bucket.uri}/store")) for name in ("s", "p", "seg")}


@pytest.fixture(scope="module")
def endpoint(
    site: Kube, bucket: Bucket, outside: None, ct: Path, claim: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    """The release upgraded to serve three tiny models, reached through a port-forward."""
    models = make_models(tmp_path_factory.mktemp("models"))
    serve = {
        "models": push_models(models, bucket), "store": {"uri": f"{bucket.uri}/endpoint"},
        "data": {"existingClaim": claim}, "textCpus": 0.5, "segmentationCpus": 0.5,
        "resources": {"requests": {"cpu": "200m"}},
    }  # fmt: skip
    values = tmp_path_factory.mktemp("values") / "values.yaml"
    values.write_text(yaml.safe_dump({"serve": serve}))
    begin = time.monotonic()
    site.helm("upgrade", "rollama", str(ROOT / "helm/rollama"), "--reuse-values", "-f", str(values))
    site.run("wait", "rayservice/rollama", "--for=condition=Ready", "--timeout=300s", timeout=320)
    print(f"RayService ready {time.monotonic() - begin:.0f} s after helm upgrade")
    key = base64.b64decode(site.get("secret", "rollama-api-key")["data"]["api-key"]).decode()
    command = [site.kubectl_path, "-n", site.namespace, "port-forward", "service/rollama-serve-svc", ":8000"]
    forward = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=site.environment())
    try:
        assert forward.stdout is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert found, "kubectl port-forward did not say its port"
        yield Endpoint(f"http://127.0.0.1:{found[1]}", key, models, ct)
    finally:
        forward.terminate()
        forward.communicate(timeout=10)
        # Not serve.models=null: with --reuse-values helm takes what was set before for the chart's own default.
        nothing = "serve.models.s=,serve.models.p=,serve.models.seg="
        site.helm("upgrade", "rollama", str(ROOT / "helm/rollama"), "--reuse-values", "--set", nothing)
        until(
            lambda: not site.get("pods", "-l", "app.kubernetes.io/instance=rollama")["items"],
            120,
            "the endpoint is gone",
        )


def test_the_endpoint_answers_as_predict_does(endpoint: Endpoint) -> None:
    expected = Chain.load(endpoint.models).answer(make_request(note=NOTE), read_input_ct(endpoint.ct))
    with httpx.Client(base_url=endpoint.url, timeout=120) as client:
        until(lambda: client.get("/readyz").status_code == 200, 120, "the endpoint is ready")
        body = {"note": NOTE, "ct_path": "ct.nii.gz"}
        assert client.post("/v1/pipeline", json=body).status_code == 401
        assert client.post("/v1/pipeline", json=body, headers={"Authorization": "Bearer wrong"}).status_code == 401
        header = {"Authorization": f"Bearer {endpoint.key}", "Prefer": "wait=100"}
        answer = client.post("/v1/pipeline", json=body, headers=header)
        with endpoint.ct.open("rb") as stream:
            sent = client.post("/v1/pipeline/upload", data={"note": NOTE}, files={"ct": stream}, headers=header)
    for answered in (answer, sent):
        assert answered.status_code == 200, answered.text
        found = answered.json()["findings"]
        assert (found["summary"], found["plan_text"]) == (expected.summary, expected.plan_text)
        assert found["warnings"] == list(expected.warnings)
        assert "target.nii.gz" in answered.json()["files"]


def test_models_change_and_come_back_without_a_failed_request(
    endpoint: Endpoint, site: Kube, bucket: Bucket, tmp_path: Path
) -> None:
    """`helm upgrade` with other models, then `helm rollback`, under a steady load."""
    made = make_models(tmp_path / "models", first_seed=10)
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({"serve": {"models": push_models(made, bucket)}}))
    header = {"Authorization": f"Bearer {endpoint.key}"}

    def pods() -> list[tuple[str, int]]:
        found = site.get("pods", "-l", "app.kubernetes.io/component=endpoint")["items"]
        return sorted((pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in found)

    before = pods()
    with httpx.Client(base_url=endpoint.url, timeout=120, headers=header) as client:
        until(lambda: client.get("/readyz").status_code == 200, 120, "the endpoint is ready")
        first = client.get("/v1/models").json()["serving"]

        def served() -> dict[str, str]:
            return dict(client.get("/v1/models").json()["serving"])

        with steady(lambda note: client.post("/v1/plan", json={"note": note}), [NOTE, f"{NOTE} Age 50."]) as answers:
            begin = time.monotonic()
            site.helm("upgrade", "rollama", str(ROOT / "helm/rollama"), "--reuse-values", "-f", str(values))
            until(lambda: served() != first, 240, "the new models are served")
            print(f"new models served {time.monotonic() - begin:.0f} s after helm upgrade, {len(answers)} answers")
            second = served()
            site.helm("rollback", "rollama")
            until(lambda: served() == first, 240, "the old models are served again")
    assert second["s"] != first["s"] and second["seg"] == first["seg"]  # the tiny SEG is made from the same seed
    assert {answer.status_code for _, answer in answers} == {200}
    assert {answer.json()["models"]["s"] for _, answer in answers} == {first["s"], second["s"]}
    assert pods() == before, "a pod was made anew"


def test_helm_test_finds_doors_closed_and_keys_working(endpoint: Endpoint, site: Kube) -> None:
    said = site.helm("test", "rollama", check=False, timeout=240)  # with the pod's own words, which go to stderr
    assert "Succeeded" in said and said.count("ok  ") == 7 and "FAIL" not in said, said
    assert endpoint.key not in said


def test_the_pods_of_the_endpoint_are_restricted(endpoint: Endpoint, site: Kube) -> None:
    found = site.get("pods", "-l", "ray.io/node-type=head,app.kubernetes.io/component=endpoint")["items"]
    boxes = [box for pod in found for box in pod["spec"]["containers"] + pod["spec"].get("initContainers", [])]
    assert boxes
    assert all(box["securityContext"]["readOnlyRootFilesystem"] for box in boxes)
    assert not any(endpoint.key in str(pod) for pod in found)


@pytest.mark.matrix
@pytest.mark.parametrize(("lost", "most_s"), [("operator", 0), ("head", 300)])
def test_what_a_loss_costs(endpoint: Endpoint, site: Kube, admin: Kube, lost: str, most_s: float) -> None:
    """A pod goes under load: without the operator nothing changes, with the head the whole endpoint starts again."""
    address = site.get("service", "rollama-serve-svc")["spec"]["clusterIP"]
    client = httpx.Client(
        base_url=f"http://{address}:8000", timeout=30, headers={"Authorization": f"Bearer {endpoint.key}"}
    )

    def status_of(method: str, path: str, **body: object) -> int:
        try:
            return client.request(method, path, **body).status_code  # type: ignore[arg-type]
        except httpx.TransportError:
            return 0

    def ask(note: str) -> tuple[float, int]:
        status = status_of("POST", "/v1/plan", json={"note": note})
        time.sleep(0.2)
        return time.monotonic(), status

    with client:
        until(lambda: status_of("GET", "/readyz") == 200, 120, "the endpoint is ready")
        with steady(ask, [NOTE, f"{NOTE} Age 50."]) as answers:
            until(lambda: len(answers) > 4, 60, "answers")
            ask_job = {"plan": PLAN, "ct_path": "ct.nii.gz"}
            job = client.post("/v1/segment", json=ask_job).json()["job_id"]
            place, label = (admin.of(KUBERAY), "app.kubernetes.io/name=kuberay-operator") if lost == "operator" else (
                site, "ray.io/node-type=head,app.kubernetes.io/component=endpoint"
            )  # fmt: skip
            killed = time.monotonic()
            place.run("delete", "pod", "-l", label, "--grace-period=0", "--force", "--wait=false")
            time.sleep(10)
            until(lambda: [status for _, (_, status) in answers[-4:]] == [200] * 4, 400, "answers again")
            found = until(lambda: over(client, job), 300, "the job that was accepted before is over")
            time.sleep(5)
    ended = [when for _, (when, status) in answers if status == 200 and when > killed]
    failed = [status for _, (_, status) in answers if status != 200]
    outage = max(after - before for before, after in zip([killed, *ended], ended, strict=False))
    print(
        f"{lost} lost: longest time without an answer {outage:.0f} s, {len(failed)} of {len(answers)} requests failed"
    )
    assert found["state"] == "done", found
    assert bool(failed) == (lost == "head") and (outage < most_s or not most_s)


def over(client: httpx.Client, job: str) -> dict[str, object] | None:
    """The job when it is over; None while it is not, or nobody answers."""
    try:
        body: dict[str, object] = client.get(f"/v1/jobs/{job}").json()
    except (httpx.TransportError, ValueError):
        return None
    return body if body.get("state") in ("done", "failed", "cancelled") else None
