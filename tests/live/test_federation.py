"""A federation of two hospitals as releases of the chart: coordinator and sites in namespaces of their own, with TLS.

North trains in its own pod, south as a RayJob of the cluster; one round of the tiny P. Nothing of one namespace is
known in another but the coordinator's address, its authority and the sites' public keys. Takes minutes, so `make
test-cluster` leaves it out.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rollama.centres.federation import record
from rollama.centres.federation.keys import make_certificate, make_site_key
from rollama.centres.federation.weights import digest, moving, read_artefact
from rollama.data.case import Split
from rollama.data.dataset import open_texts
from rollama.data.store import Kind, push
from tests.live.kube import Kube, until
from tests.live.setting import Bucket, helm, namespace, secret, site_values, volume

pytestmark = [pytest.mark.cluster, pytest.mark.matrix, pytest.mark.timeout(2400)]
SITES = {"north": "northgate", "south": "riverside"}
"""Each trains on one centre's cases: on the same ones both updates are equal to the bit, and the second is refused."""
COORDINATOR, SITE = "deployment/rollama-coordinator", "deployment/rollama-federated-site"
ROUND = ["text.steps=2", "text.scale.workers=1"]
ASK = """
import ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile="/site/ca.pem")
try:
    print(urllib.request.urlopen(sys.argv[1], data=b"", context=context, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@dataclass(frozen=True)
class Federation:
    """The namespaces of the coordinator and of the sites, the address, the start model here."""

    coordinator: Kube
    sites: dict[str, Kube]
    address: str
    start: Path
    folder: Path

    def record(self, of: str, path: Path) -> list[dict[str, Any]]:
        """The lines of a site's record or of the coordinator's, which have to be whole."""
        kube, where, place = self.coordinator, COORDINATOR, "/federation/record.jsonl"
        if of in self.sites:
            kube, where, place = self.sites[of], SITE, "/site/state/record.jsonl"
        path.write_text(kube.run("exec", where, "--", "cat", place))
        assert record.verify(path) == []
        return record.read(path)


@pytest.fixture(scope="module")
def start(admin: Kube, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that all begin with: P, one step on this machine."""
    folder = tmp_path_factory.mktemp("start")
    done = admin.rollama(
        "train", "p", "--preset", "tiny", "--dataset", str(cohort), "--workspace", str(folder), "--set", "p.steps=1"
    )
    assert done.returncode == 0, done.stderr
    return folder / "models" / "p"


@pytest.fixture(scope="module")
def federation(
    admin: Kube, image: str, bucket: Bucket, dataset: str, start: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Federation]:
    """All three releases installed; the sites need not have joined yet."""
    folder = tmp_path_factory.mktemp("federation")
    reference = str(push(start, Kind.MODEL, f"{bucket.uri}/store"))
    api = admin.of("default").get("endpoints", "kubernetes")["subsets"][0]["addresses"][0]["ip"]
    with ExitStack() as stack:
        coordinator = stack.enter_context(namespace(admin, bucket))
        sites = {name: stack.enter_context(namespace(admin, bucket)) for name in SITES}
        host = f"rollama-coordinator.{coordinator.namespace}.svc.cluster.local"
        authority, certificate, key = make_certificate(folder / "tls", "coordinator.test", [host])
        public = {name: make_site_key(folder / f"{name}.key").read_text().strip() for name in SITES}
        coordinator.apply(secret("federation-tls", **{"tls.crt": certificate.read_text(), "tls.key": key.read_text()}))
        values = site_values(image, bucket)
        network = values.pop("networkPolicy", {})
        small = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
        rounds = {"name": "trial", "rounds": 1, "min_sites": 2, "round_timeout_s": 1500, "guard": {"max_relative": 1e3}}
        side: dict[str, Any] = {
            "enabled": True, "settings": rounds, "start": reference, "sites": public, "resources": small, "size": "1Gi",
            "tls": {"existingSecret": "federation-tls"}, "storageClass": volume(coordinator, "rollama-coordinator"),
        }  # fmt: skip
        helm(
            coordinator, "install",
            {
                **values, "federation": {"coordinator": side},
                "networkPolicy": {
                    **network, "federation": {"sites": {"namespaces": [kube.namespace for kube in sites.values()]}}
                },
            },
            folder,
        )  # fmt: skip
        for name, kube in sites.items():
            private = (folder / f"{name}.key").read_text()
            kube.apply(secret("federation-key", **{"site.key": private, "ca.pem": authority.read_text()}))
            side = {
                "enabled": True, "name": name, "coordinator": f"{host}:9443", "existingSecret": "federation-key",
                "start": reference, "policy": {"max_norm": 1e3, "max_relative": 1e3, "min_cases": 1}, "size": "1Gi",
                "training": {"preset": "tiny", "dataset": dataset, "timeoutSeconds": 1400,
                             "set": [*ROUND, f"p.centres.only=[{SITES[name]}]"]},
                "storageClass": volume(kube, "rollama-federated-site"),
                "resources": {"requests": {"cpu": "200m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
            }  # fmt: skip
            if name == "south":
                side |= {"resources": small, "training": {**side["training"], "where": "job"}}
            place = {**values["storage"], "workspace": f"{bucket.uri}/{name}"}
            helm(
                kube, "install",
                {
                    **values, "storage": place, "federation": {"site": side},
                    "networkPolicy": {**network, "apiServer": {"cidrs": [f"{api}/32"]}},
                },
                folder,
            )  # fmt: skip
        coordinator.run("rollout", "status", COORDINATOR, "--timeout=300s", timeout=320)
        for kube in sites.values():
            kube.run("rollout", "status", SITE, "--timeout=300s", timeout=320)
        yield Federation(coordinator, sites, f"https://{host}:9443", start, folder)


@pytest.fixture(scope="module")
def trained(federation: Federation) -> str:
    """What `rollama federation run` said, once the round is over."""

    def log() -> str:
        return federation.coordinator.run("logs", COORDINATOR, "-c", "coordinator")

    until(lambda: log().count("Activated node") >= len(SITES), 240, "the sites have joined")
    command = ("exec", COORDINATOR, "-c", "coordinator", "--", "rollama", "federation", "run", "/federation")
    try:
        return federation.coordinator.run(*command, timeout=1700)
    except AssertionError as error:
        tails = [kube.run("logs", SITE, "-c", "site", "--tail", "40") for kube in federation.sites.values()]
        tails += [
            kube.run("exec", SITE, "-c", "site", "--", "sh", "-c", "tail -n 30 /site/state/trial/*.log", check=False)
            for kube in federation.sites.values()
        ]
        raise AssertionError("\n---\n".join([str(error), log()[-3000:], *tails])) from error


def test_a_round_of_two_hospitals(federation: Federation, trained: str, tmp_path: Path) -> None:
    assert trained.strip().endswith("/federation/model")
    accepted = {
        line["site"]: line["sha256"]
        for line in federation.record("coordinator", tmp_path / "coordinator.jsonl")
        if line["event"] == "accepted"
    }
    assert set(accepted) == set(SITES)
    for name in SITES:
        (left,) = [line for line in federation.record(name, tmp_path / f"{name}.jsonl") if line["event"] == "left"]
        assert left["sha256"] == accepted[name] and left["weight"] == 1, "what came is what left, and no count of cases"
    said = federation.coordinator.run("exec", COORDINATOR, "--", "rollama", "federation", "status", "/federation")
    assert "north" in said and "south" in said


def test_the_model_is_an_artefact_of_both_sites(federation: Federation, trained: str, tmp_path: Path) -> None:
    for name in ("manifest.json", "model.safetensors"):
        text = federation.coordinator.run("exec", COORDINATOR, "--", "base64", "-w0", f"/federation/model/{name}")
        (tmp_path / name).write_bytes(base64.b64decode(text))
    tensors, manifest = read_artefact(tmp_path)
    assert manifest["federation"]["sites"] == sorted(SITES) and manifest["federation"]["rounds"] == 1
    before = moving(*read_artefact(federation.start))
    after = moving(tensors, manifest)
    assert set(after) == set(before) and digest(after) != digest(before)


def test_a_subject_is_followed_into_the_common_model(
    federation: Federation, trained: str, cohort: Path, tmp_path: Path
) -> None:
    """From a hospital's case to the update it is in, and from that to the model; no case id is at the coordinator."""
    ask = ("--", "rollama", "lineage")
    for name, centre in SITES.items():
        (left,) = [line for line in federation.record(name, tmp_path / f"{name}.jsonl") if line["event"] == "left"]
        cases = open_texts(cohort).cases
        case = next(item.case_id for item in cases if item.centre == centre and item.split is Split.TRAIN)
        asked = ("exec", SITE, "-c", "site", *ask, "--workspace", "/site/state", "--case", case)
        assert left["sha256"][:16] in federation.sites[name].run(*asked)
        asked = ("exec", COORDINATOR, "-c", "coordinator", *ask, "--workspace", "/federation")
        said = federation.coordinator.run(*asked, "--case", left["sha256"])
        assert f"{left['sha256']}: train in data" in said and "federation, rollama" in said
    said = federation.coordinator.run(*asked[:4], *ask, "withdraw", left["sha256"], "--workspace", "/federation")
    model = json.loads(federation.coordinator.run("exec", COORDINATOR, "--", "cat", "/federation/model/manifest.json"))
    (row,) = [line for line in said.splitlines() if line.startswith(model["files"]["model.safetensors"][:16])]
    assert left["sha256"][:12] in row


def test_the_round_of_the_south_was_a_job_of_its_cluster(federation: Federation, trained: str) -> None:
    north, south = (federation.sites[name].get("rayjobs")["items"] for name in SITES)
    events = federation.sites["south"].run("get", "events", "-o", "name")
    assert not north and (south or events), "the job's record goes after its ttl"
    names = {item["metadata"]["labels"].get("rollama.io/job", "") for item in south}
    assert not south or any("federated-south" in name for name in names), json.dumps(sorted(names))


def test_the_door_passes_sites_requests_only(federation: Federation, trained: str) -> None:
    """Asked from a site, with the authority it was given: the API that starts runs is not there."""
    for path in ("/v1/control/start-run", "/v1/control/list-nodes", "/"):
        command = ("exec", SITE, "-c", "site", "--", "python", "-c", ASK, federation.address + path)
        assert federation.sites["north"].run(*command).strip() == "404"


def test_a_pod_that_is_replaced_in_a_run_goes_on_by_itself(
    federation: Federation, trained: str, tmp_path: Path
) -> None:
    kube = federation.coordinator
    helm(
        kube, "upgrade", {"federation": {"coordinator": {"settings": {"rounds": 2}}}}, federation.folder,
        "--reuse-values",
    )  # fmt: skip
    kube.run("rollout", "status", COORDINATOR, "--timeout=300s", timeout=320)

    def told(event: str, number: int) -> list[dict[str, Any]]:
        try:
            lines = federation.record("coordinator", tmp_path / "record.jsonl")
        except AssertionError:  # no pod at this moment
            return []
        return [line for line in lines if line["event"] == event and number in (line.get("round"), line.get("rounds"))]

    time.sleep(30)  # longer than the coordinator waits between two looks
    assert federation.record("coordinator", tmp_path / "now.jsonl")[-1]["event"] == "model", "an ended run stays ended"
    kube.run("exec", COORDINATOR, "-c", "coordinator", "--", "rollama", "federation", "run", "/federation", "--no-wait")
    until(lambda: told("asked", 2), 300, "the second round")
    (pod,) = kube.get("pods", "-l", "app.kubernetes.io/component=coordinator")["items"]
    kube.run("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")
    until(lambda: told("model", 2), 1500, "the model")
    assert len(told("started", 2)) == 2
    assert {line["site"] for line in told("accepted", 2)} == set(SITES)


def test_a_site_that_is_taken_from_the_list_is_turned_out(federation: Federation, trained: str) -> None:
    kube = federation.coordinator
    values = {"federation": {"coordinator": {"sites": {"south": None}, "settings": {"min_sites": 1}}}}
    helm(kube, "upgrade", values, federation.folder, "--reset-then-reuse-values")  # --reuse-values forgets no key
    kube.run("rollout", "status", COORDINATOR, "--timeout=300s", timeout=320)
    assert "south: turned out" in kube.run("logs", COORDINATOR, "-c", "coordinator")
    said = kube.run("exec", COORDINATOR, "--", "rollama", "federation", "status", "/federation")
    assert "south" in said, "the rounds are those of before"


def test_records_outlive_the_releases(federation: Federation, trained: str) -> None:
    for kube, claim in (
        (federation.coordinator, "rollama-coordinator"),
        (federation.sites["north"], "rollama-federated-site"),
    ):
        kube.helm("uninstall", "rollama")
        assert claim in {item["metadata"]["name"] for item in kube.get("persistentvolumeclaims")["items"]}
