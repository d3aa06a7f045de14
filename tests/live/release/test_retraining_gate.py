"""The gate after the scheduled retraining: refused, waiting for a person, promoted; and the endpoint follows.

Four evaluations in a pod, so it is left to `make test-faults`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rollama.core.storage import open_storage
from tests.live.kube import until
from tests.live.release.parts import Endpoint, Release
from tests.live.setting import Bucket, helm, secret

pytestmark = [pytest.mark.cluster, pytest.mark.matrix, pytest.mark.timeout(1500)]
PROTOCOL = {
    "format": 1, "name": "live", "version": 1, "cases": {"all": 6, "centre": 2, "subgroup": 2},
    "centres": {"bound": "mean"}, "rules": [{"task": "p", "metric": "rougeL", "margin": 0.4}],
    "changes": {"s": ["*"], "p": ["*"], "seg": ["*"]}, "approval": {"needed": 1},
}  # fmt: skip
OUT_OF_REACH = {"limits": [{"task": "s", "metric": "rougeL", "at_least": 0.999, "each": "all"}]}
ALIAS = """
import mlflow
version = mlflow.MlflowClient("http://localhost:5000").get_model_version_by_alias("rollama", "released")
print(version.tags["release"])
"""


@dataclass(frozen=True)
class Gate:
    """The gate of the release, the folder that its protocol and keys are kept in, and this machine's way to S3."""

    release: Release
    site: Path
    bucket: Bucket

    def call(self, *arguments: str) -> str:
        """`rollama release ...` as the physicist types it."""
        done = self.release.kube.rollama(
            "release", *arguments, "--config", str(self.site / "releases.yaml"), **self.bucket.environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def put(self, version: int, **changes: object) -> None:
        """Sign a version of the protocol and put it in force."""
        (self.site / "protocol.yaml").write_text(yaml.safe_dump({**PROTOCOL, "version": version, **changes}))
        self.call("sign-protocol", str(self.site / "protocol.yaml"), "--key", str(self.site / "me.key"))
        names = {"protocol": "protocol.yaml", "signature": "protocol.yaml.sig"}
        texts = {key: (self.site / name).read_text() for key, name in names.items()}
        keys = {role: {path.stem: path.read_text() for path in (self.site / "keys" / role).glob("*.pem")}
                for role in ("protocol", "release", "approval")}  # fmt: skip
        self.upgrade(
            schedule="45 3 * * *", history=f"{self.bucket.uri}/releases", keySecret="release-key", keys=keys, **texts,
            resources={"requests": {"cpu": "200m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
        )  # fmt: skip

    def upgrade(self, **values: object) -> None:
        """Other values of the gate."""
        helm(self.release.kube, "upgrade", {"retrain": {"release": values}}, self.release.folder, "--reuse-values")

    def run(self, name: str) -> tuple[int, str]:
        """Exit code and log of one run."""
        kube = self.release.kube
        kube.run("create", "job", "--from=cronjob/rollama-gate", name)

        def ended() -> Any:
            pods = kube.get("pods", "-l", f"job-name={name}")["items"]
            states = [pod["status"].get("containerStatuses", [{}])[0].get("state", {}) for pod in pods]
            return [state["terminated"] for state in states if "terminated" in state]

        (state,) = until(ended, 600, f"{name} is over")
        log = kube.run("logs", f"job/{name}")
        if state["exitCode"]:
            assert "# Release gate: " in state["message"], "the pod's status says why"
        return int(state["exitCode"]), log


@pytest.fixture(scope="module")
def gate(
    release: Release, bucket: Bucket, retrained: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gate]:
    """Keys of a physicist and of the gate, the latter's private half in a Secret; the chart has no gate yet."""
    site = tmp_path_factory.mktemp("gate") / "site"
    found = Gate(release, site, bucket)
    assert release.kube.rollama("release", "init", str(site)).returncode == 0
    (site / "releases.yaml").write_text(
        f"history: {bucket.uri}/releases\nstore: {bucket.uri}/work/store\nkeys: keys\nprotocol: protocol.yaml\n"
    )
    found.call("keygen", str(site / "me.key"), "--role", "protocol", "--role", "approval")
    found.call("keygen", str(site / "gate.key"), "--role", "release")
    release.kube.apply(secret("release-key", **{"release.key": (site / "gate.key").read_text()}))
    yield found
    found.upgrade(schedule="")
    release.kube.run("delete", "secret", "release-key")


def test_the_gate_refuses_what_misses_a_limit(gate: Gate, bucket: Bucket) -> None:
    gate.put(1, **OUT_OF_REACH)
    code, log = gate.run("gate-refused")
    assert code == 3, log[-6000:]
    assert "# Release gate: refused" in log and "s.rougeL" in log and "SYNTHETIC" in log
    shelf = open_storage(f"{bucket.uri}/work/release")
    assert {name.split("/")[1] for name in shelf.names()} == {
        "verdict.json", "verdict.json.sig", "verdict.html", "summary.md",
    }  # fmt: skip
    assert "promoted" not in gate.call("history")


def test_the_gate_waits_for_a_person_and_promotes(gate: Gate, release: Release) -> None:
    gate.put(2)
    code, log = gate.run("gate-waits")
    assert code == 7 and "# Release gate: waiting for approval" in log, log[-6000:]
    (place,) = re.findall(r"^- page: (\S+)/verdict.html$", log, re.MULTILINE)
    gate.call("approve", place, "--key", str(gate.site / "me.key"), "--name", "a physicist")
    code, log = gate.run("gate-promotes")
    assert code == 0 and "# Release gate: promoted" in log and "judged before" in log, log[-6000:]
    code, log = gate.run("gate-again")
    assert code == 0 and "nothing to do: these models are released" in log, log[-6000:]
    alias = release.kube.run("exec", "deployment/rollama-mlflow", "--", "python", "-c", ALIAS).split()[-1]
    shown = gate.call("history")
    assert alias[:12] in next(line for line in shown.splitlines() if line.split()[:1] == ["->"])


def test_the_endpoint_follows_by_digest(gate: Gate, release: Release, endpoint: Endpoint) -> None:
    """With the values of the signed history; then the former models come back, as other tests know them."""
    values = yaml.safe_load(gate.call("values"))
    shelf = open_storage(f"{gate.bucket.uri}/work/release")
    verdicts = [json.loads(shelf.read_text(name) or "") for name in shelf.names() if name.endswith("verdict.json")]
    (released,) = [verdict for verdict in verdicts if verdict["outcome"] == "passed"]
    assert released["candidate"] == values["serve"]["models"] == yaml.safe_load(
        shelf.read_text("serve-models.yaml") or ""
    )["serve"]["models"]  # fmt: skip

    def served() -> dict[str, str]:
        with endpoint.client() as client:
            return dict(client.get("/v1/models").json()["serving"])

    before, pods = served(), release.pods()
    helm(release.kube, "upgrade", values, release.folder, "--reuse-values")
    try:
        until(lambda: served() == released["hashes"], 300, "the released models are served")
    finally:
        release.kube.helm("rollback", "rollama")
    until(lambda: served() == before, 300, "the former models are served again")
    assert release.pods() == pods, "a pod was made anew"
