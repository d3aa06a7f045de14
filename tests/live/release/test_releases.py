"""`rollama release` moves the running endpoint by digest and takes it back, and no request fails meanwhile."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.live.kube import BIN
from tests.live.release.parts import NOTES, Endpoint, Release
from tests.live.setting import CHART, Bucket
from tests.load import steady
from tests.release.trained import PROTOCOL, trained

pytestmark = [pytest.mark.cluster, pytest.mark.matrix, pytest.mark.timeout(1500)]
KEY = ("--key", "job.key")


@dataclass(frozen=True)
class Desk:
    """`rollama release` in the folder of a site."""

    folder: Path
    release: Release
    environment: dict[str, str] = field(repr=False)

    def run(self, *arguments: str, at: Path | None = None) -> str:
        """One verb; what it printed."""
        done = subprocess.run(
            [str(BIN / "rollama"), "release", *arguments], cwd=at or self.folder, capture_output=True, text=True,
            check=False, timeout=400, env=self.release.kube.environment(**self.environment),
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments[0]}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def desk(tmp_path: Path, release: Release, endpoint: Endpoint, bucket: Bucket) -> Desk:
    """A site whose releases are in the bucket and whose endpoint is this one; the served models are its first."""
    found = Desk(tmp_path / "site", release, {**bucket.environment, "ROLLAMA_API_KEY": endpoint.key})
    found.run("init", str(found.folder), at=tmp_path)
    site = yaml.safe_load((found.folder / "releases.yaml").read_text())
    command = [release.kube.helm_path, "-n", release.kube.namespace, "upgrade", "rollama", CHART]
    site |= {"history": f"{bucket.uri}/history", "store": f"{bucket.uri}/store"}
    site["endpoint"] = {
        "values": "serve-models.yaml", "command": [*command, "--reuse-values", "--values", "{values}"],
        "url": endpoint.url,
    }  # fmt: skip
    (found.folder / "releases.yaml").write_text(yaml.safe_dump(site))
    (found.folder / "protocol.yaml").write_text(yaml.safe_dump(PROTOCOL))
    found.run("keygen", "physicist.key", "--role", "protocol", "--role", "approval")
    found.run("keygen", "job.key", "--role", "release")
    found.run("sign-protocol", "protocol.yaml", "--key", "physicist.key")
    return found


@pytest.mark.usefixtures("retrained")  # two cores bear its pods or the evaluation here, not both
def test_a_promotion_and_a_roll_back_fail_no_request(
    desk: Desk, endpoint: Endpoint, release: Release, cohort: Path, tmp_path: Path
) -> None:
    judged = ("--dataset", str(cohort))
    desk.run("evaluate", str(trained(tmp_path / "first", cohort, 0)), *judged, "--out", "first", *KEY)
    desk.run("promote", "first", *KEY)
    desk.run("evaluate", str(trained(tmp_path / "second", cohort, 20)), *judged, "--out", "second", *KEY)
    before = release.pods()
    with endpoint.client() as client:

        def served() -> dict[str, str]:
            return dict(client.get("/v1/models").json()["serving"])

        first = served()
        with steady(lambda note: client.post("/v1/plan", json={"note": note}), NOTES) as answers:
            begin = time.monotonic()
            desk.run("promote", "second", *KEY)
            promoted, second = time.monotonic() - begin, served()
            begin = time.monotonic()
            desk.run("rollback", *KEY, "--remark", "a test")
            print(f"promotion {promoted:.0f} s, roll-back {time.monotonic() - begin:.0f} s, {len(answers)} answers")
            assert served() == first
    assert second["s"] != first["s"] and second["p"] != first["p"]
    assert {answer.status_code for _, answer in answers} == {200}
    assert {answer.json()["models"]["s"] for _, answer in answers} == {first["s"], second["s"]}
    assert release.pods() == before, "a pod was made anew"
    said = desk.run("history")
    assert said.count("promoted") == 2 and "rolled back" in said
