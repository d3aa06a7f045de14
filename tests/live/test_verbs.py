"""A job's whole life by the verbs of the command line: deadline, a second attempt, status, list, logs, cancel."""

from __future__ import annotations

from typing import Any

import pytest

from tests.live.kube import Kube, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_a_job_past_its_deadline_makes_room_for_the_next_and_that_one_is_cancelled(
    ci: Kube, site: Kube, dataset: str
) -> None:
    words = (
        "submit",
        "train",
        "p",
        "--preset",
        "tiny",
        "--set",
        "p.steps=3000",
        "--name",
        "long",
        "--dataset",
        dataset,
    )

    def pods() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = site.get("pods", "-l", "rollama.io/run=long")["items"]
        return [pod for pod in found if pod["metadata"]["labels"]["rollama.io/role"] in ("head", "worker")]

    late = ci.rollama(*words, "--timeout", "60", "--wait")
    assert late.returncode == 12, late.stdout[-3000:] + late.stderr
    assert "deadline" in late.stderr.splitlines()[-1]
    first = {pod["metadata"]["uid"] for pod in pods()}
    assert first, "KubeRay leaves the cluster of a failed job for a while, and the command goes on in it"

    again = ci.rollama(*words)
    assert again.returncode == 0, again.stderr
    (job,) = site.get("rayjobs", "-l", "rollama.io/run=long")["items"]
    name = job["metadata"]["name"]
    second = until(pods, 60, "the second attempt has pods")
    assert not first & {pod["metadata"]["uid"] for pod in second}, "both attempts would write into the same run"

    running = lambda: "Running / RUNNING" in ci.rollama("status", "long").stdout  # noqa: E731
    until(running, 180, "the second attempt runs")
    assert name in ci.rollama("list").stdout
    log = until(lambda: ci.rollama("logs", name).stdout, 60, "there is a log")
    assert "rollama train p" in log
    cancelled = ci.rollama("cancel", "long")
    assert cancelled.returncode == 0, cancelled.stderr
    until(lambda: not pods() and not site.get("rayjobs", "-l", "rollama.io/run=long")["items"], 120, "all is gone")
    assert ci.rollama("logs", name).stdout.startswith(log[:200]), "the log outlives its pods on this machine"
    assert ci.rollama("status", "long").returncode == 2
