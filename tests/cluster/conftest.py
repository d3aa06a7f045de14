"""A site, a job and a fake of the API client for the tests of the cluster room."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from rollama.cluster.client import Conflict
from rollama.cluster.config import SiteConfig
from rollama.cluster.rayjob import Job
from rollama.cluster.watch import Follower

DIGEST = "a" * 64


class FakeApi:
    """A fake of `rollama.cluster.client.Api`: RayJobs in a dictionary, everything else as the test scripts it.

    It does what the API server does for names (a second create of one name is a conflict), and nothing of what KubeRay
    does: tests set the status. `answers` holds what the next `get_job` calls return or raise, before the dictionary.
    """

    def __init__(self) -> None:
        self.namespace = "team"
        self.jobs: dict[str, dict[str, Any]] = {}
        self.answers: list[Any] = []
        self.pod_list: list[dict[str, Any]] = []
        self.event_list: list[dict[str, Any]] = []
        self.node_list: list[dict[str, Any]] | None = None
        self.quota_list: list[dict[str, Any]] | None = None
        self.secrets: dict[str, bool | None] = {}
        self.log_parts: dict[str, list[Any]] = {}
        self.calls: list[str] = []
        self.reconnected = 0
        self._uids = itertools.count(1)

    def get_job(self, name: str) -> dict[str, Any] | None:
        self.calls.append(f"get {name}")
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self.jobs.get(name)

    def list_jobs(self, selector: str) -> list[dict[str, Any]]:
        key, _, value = selector.partition("=")
        return [job for job in self.jobs.values() if job["metadata"].get("labels", {}).get(key) == value]

    def create_job(self, body: dict[str, Any], dry_run: bool = False) -> dict[str, Any]:
        name = body["metadata"]["name"]
        self.calls.append(f"{'dry-run' if dry_run else 'create'} {name}")
        if name in self.jobs:
            raise Conflict(f"{name}: is there already")
        made = copy.deepcopy(body)
        made["metadata"] |= {"uid": f"{next(self._uids):08x}-uid", "creationTimestamp": "2026-11-24T10:00:00Z"}
        if not dry_run:
            self.jobs[name] = made
        return made

    def delete_job(self, name: str) -> bool:
        self.calls.append(f"delete {name}")
        return self.jobs.pop(name, None) is not None

    def pods(self, job: str) -> list[dict[str, Any]]:
        return self.pod_list

    def events(self) -> list[dict[str, Any]]:
        return self.event_list

    def log(self, pod: str, container: str, follow: bool, since_s: int | None = None) -> Iterator[str]:
        readings = self.log_parts[pod]
        for part in readings.pop(0) if readings else []:
            if isinstance(part, Exception):
                raise part
            yield part

    def nodes(self) -> list[dict[str, Any]] | None:
        return self.node_list

    def quotas(self) -> list[dict[str, Any]] | None:
        return self.quota_list

    def has_secret(self, name: str) -> bool | None:
        return self.secrets.get(name, True)

    def site_text(self, key: str = "site.yaml") -> str | None:
        return None

    def reconnect(self) -> None:
        self.reconnected += 1


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def site() -> SiteConfig:
    return SiteConfig(
        image="registry.example/rollama:1",
        token_secret="ray-token",
        storage_secret="s3-keys",
        storage_env={"AWS_ENDPOINT_URL": "http://s3:7070"},
        hub_token_secret="hub",
    )


@pytest.fixture
def job() -> Job:
    return Job(
        task="p",
        run="p",
        preset="tiny",
        overrides=["text.lr=1e-3"],
        dataset=f"s3://bucket/store@sha256:{DIGEST}",
        workspace="s3://bucket/work",
        config_digest="c" * 64,
        workers=2,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def follow(api, clock):
    """Follow a job with virtual time; returns the result and what was said."""

    def _follow(job, **options):
        said: list[str] = []
        follower = Follower(api, job, said.append, clock=clock, sleep=clock.sleep, **options)
        return follower.run(), said

    return _follow


def pod(role="worker", name="job-abcde-workers-worker-x", uid="1", created="2026-11-24T10:00:10Z", **status):
    """A pod as the API server shows it, with the fields the room reads."""
    return {
        "metadata": {
            "name": name,
            "uid": uid,
            "creationTimestamp": created,
            "labels": {"rollama.io/role": role},
        },
        "spec": {"containers": [{"name": "ray-worker", "resources": {"limits": {"memory": "4Gi"}}}]},
        "status": status,
    }


def event(message, reason="FailedCreate", name="job-abcde", uid="e1", at="2026-11-24T10:00:20Z"):
    """An event as the API server shows it."""
    return {
        "metadata": {"uid": uid, "creationTimestamp": at},
        "involvedObject": {"name": name},
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
        "type": "Warning",
    }


@pytest.fixture
def make_pod():
    return pod


@pytest.fixture
def make_event():
    return event
