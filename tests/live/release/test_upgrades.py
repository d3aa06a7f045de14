"""Other code and other keys come to the running endpoint, and go again, while it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from infra.cluster.images import ctr
from tests.live.kube import until
from tests.live.release.parts import NOTE, NOTES, PLAN, Endpoint, Listed, Release, over
from tests.live.setting import IMAGE, OWN
from tests.load import steady

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
NEXT = IMAGE.replace(":local", ":next")
"""The same image by another tag: for Kubernetes other code."""


@pytest.mark.matrix  # four minutes
def test_other_code_and_keys_come_without_a_failed_request(
    endpoint: Endpoint, release: Release, listed: Listed
) -> None:
    """`helm upgrade` to another image tag after a key was rotated: a second cluster takes over from the first."""
    old_pods = release.pods()
    old = listed.rotate()
    statuses = [asked(endpoint, key) for key in (old, listed.key)]
    assert statuses == [200, 401], "pods read the list once"
    with under_load(endpoint) as (answers, client):
        job = client.post("/v1/segment", json={"plan": PLAN, "ct_path": "ct.nii.gz"}).json()["job_id"]
        begin = time.monotonic()
        release.upgrade("--set", f"image.tag={another_tag(release)}")
        until(lambda: asked(endpoint, listed.key) == 200, 400, "the second cluster answers")
        switched = time.monotonic() - begin
        until(lambda: not set(old_pods) & set(release.pods()), 180, "the first cluster is gone")
        print(f"switched after {switched:.0f} s, one left {time.monotonic() - begin:.0f} s, {len(answers)} answers")
        found = until(lambda: over(client, job), 120, "the job of before is over")
    assert found["state"] == "done"
    assert [answer for _, answer in answers if answer != 200] == []
    assert asked(endpoint, old) == 401


@pytest.mark.matrix
def test_other_code_is_taken_back_without_a_failed_request(endpoint: Endpoint, release: Release) -> None:
    """`helm rollback` of an upgrade of code; the changed keys are not in the release and stay."""
    old_pods = release.pods()
    with under_load(endpoint) as (answers, _):
        begin = time.monotonic()
        release.upgrade("--set", f"image.tag={another_tag(release)}")
        until(lambda: not set(old_pods) & set(release.pods()), 500, "the new code has taken over")
        upgraded, middle = time.monotonic() - begin, release.pods()
        begin = time.monotonic()
        release.kube.helm("rollback", "rollama")
        until(lambda: not set(middle) & set(release.pods()), 500, "the old code has taken over again")
        print(f"upgrade {upgraded:.0f} s, rollback {time.monotonic() - begin:.0f} s, {len(answers)} answers")
    assert [answer for _, answer in answers if answer != 200] == []


@contextmanager
def under_load(endpoint: Endpoint) -> Iterator[tuple[list[tuple[str, int]], httpx.Client]]:
    """Two clients that keep their connection and one that makes a new one for every request; statuses, and a client."""
    assert not OWN, "needs the Service's own address, which only the node reaches"
    with endpoint.client() as kept:

        def ask(note: str) -> int:
            if note in NOTES:
                return kept.post("/v1/plan", json={"note": note}).status_code
            with endpoint.client() as client:
                return client.post("/v1/plan", json={"note": note}).status_code

        with steady(ask, [*NOTES, f"{NOTE} Age 60."]) as answers:
            yield answers, kept


def asked(endpoint: Endpoint, key: str) -> int:
    """Status of a small request over a new connection; 0 without an answer."""
    try:
        with endpoint.client(key) as client:
            return client.post("/v1/summary", json={"note": NOTE}).status_code
    except httpx.TransportError:
        return 0


def another_tag(release: Release) -> str:
    """A tag of the same image that the endpoint's pods do not have now."""
    now = release.kube.get("rayservice", "rollama")["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"][
        "containers"
    ][0]["image"]
    if now == NEXT:
        return IMAGE.rpartition(":")[2]
    ctr("images", "tag", "--force", IMAGE, NEXT)
    return NEXT.rpartition(":")[2]
