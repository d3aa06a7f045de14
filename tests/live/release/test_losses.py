"""A pod or process of the endpoint, or KubeRay's operator, goes without grace under load: what fails, how long."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.live.kube import Kube, until
from tests.live.release.parts import NOTES, PLAN, Endpoint, Release, over
from tests.live.setting import KUBERAY
from tests.load import steady

pytestmark = [pytest.mark.cluster, pytest.mark.matrix, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("lost", "most_s"), [("operator", 0), ("replica", 0), ("head", 300)])
def test_what_a_loss_costs(endpoint: Endpoint, release: Release, admin: Kube, lost: str, most_s: float) -> None:
    """Something goes under load: without the operator nothing changes, with the head all of it starts again."""
    client = endpoint.client(timeout=30)

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
        with steady(ask, NOTES) as answers:
            until(lambda: len(answers) > 4, 60, "answers")
            ask_job = {"plan": PLAN, "ct_path": "ct.nii.gz"}
            job = client.post("/v1/segment", json=ask_job).json()["job_id"]
            killed = time.monotonic()
            lose(lost, release, admin)
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
    if lost != "replica":
        assert bool(failed) == (lost == "head")
    assert outage < most_s or not most_s


def lose(what: str, release: Release, admin: Kube) -> None:
    """End a pod without grace, or the process of the text models in one."""
    if what == "replica":
        command = "kill -9 $(pgrep -f ServeReplica:rollama:text | head -n 1)"
        release.kube.run("exec", release.head(), "-c", "ray", "--", "sh", "-c", command)
        return
    kube, pod = release.kube, release.head()
    if what == "operator":
        kube = admin.of(KUBERAY)
        pod = kube.get("pods", "-l", "app.kubernetes.io/component=kuberay-operator")["items"][0]["metadata"]["name"]
    kube.run("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")
