"""What cannot work is said by the real cluster before anything is created."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.live.kube import Kube, until, with_site
from tests.live.setting import Bucket

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def nothing_created(site: Kube) -> Iterator[None]:
    """No test here leaves a job."""

    def jobs() -> set[str]:
        return {item["metadata"]["name"] for item in site.get("rayjobs")["items"]}

    before = jobs()
    yield
    assert jobs() <= before


def submit(kube: Kube, dataset: str, *more: str, **env: str) -> tuple[int, str]:
    done = kube.rollama("submit", "train", "p", "--preset", "tiny", "--dataset", dataset, *more, **env)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_kubeconfig_that_is_not_there(ci: Kube, dataset: str, tmp_path: Path) -> None:
    code, said = submit(replace(ci, kubeconfig=tmp_path / "none"), dataset)
    assert code == 2
    assert str(tmp_path / "none") in said


def test_a_server_that_does_not_answer(ci: Kube, dataset: str, tmp_path: Path) -> None:
    config = yaml.safe_load(ci.kubeconfig.read_text())
    for item in config["clusters"]:
        item["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    code, said = submit(replace(ci, kubeconfig=tmp_path / "kubeconfig"), dataset)
    assert code == 14
    assert "127.0.0.1:9" in said or "does not answer" in said


def test_an_account_without_rights(site: Kube, ci: Kube, dataset: str, tmp_path: Path) -> None:
    site.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}})
    config = yaml.safe_load(ci.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = site.run("create", "token", "nobody").strip()
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    nobody = replace(ci, kubeconfig=tmp_path / "kubeconfig")
    code, said = submit(nobody, dataset, "--site", with_site(site, tmp_path))
    assert code == 2
    assert "rayjobs" in said


def test_a_token_that_is_wrong(ci: Kube, dataset: str, tmp_path: Path) -> None:
    config = yaml.safe_load(ci.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = "not-a-token"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    code, said = submit(replace(ci, kubeconfig=tmp_path / "kubeconfig"), dataset)
    assert code == 2
    assert "not-a-token" not in said


def test_a_digest_that_is_not_there(ci: Kube, dataset: str, bucket: Bucket) -> None:
    missing = f"{dataset.partition('@')[0]}@sha256:{'0' * 64}"
    code, said = submit(ci, missing, **bucket.environment)
    assert code == 2
    assert "0" * 64 in said or "0" * 12 in said


def test_a_secret_that_is_not_there_for_who_may_look(site: Kube, dataset: str, tmp_path: Path) -> None:
    code, said = submit(site, dataset, "--site", with_site(site, tmp_path, storage_secret="no-such-secret"))
    assert code == 2
    assert "no-such-secret" in said


def test_a_name_that_is_too_long(ci: Kube, dataset: str) -> None:
    code, said = submit(ci, dataset, "--name", "x" * 48)
    assert code == 2
    assert "48" in said


def test_gpus_beyond_what_the_site_declares(ci: Kube, site: Kube, dataset: str, tmp_path: Path) -> None:
    more = ("--set", "p.scale.gpus_per_worker=1", "--site", with_site(site, tmp_path, max_gpus=0))
    code, said = submit(ci, dataset, *more)
    assert code == 2
    assert "max_gpus" in said


def test_a_preset_with_gpus_on_nodes_without_for_who_may_look(site: Kube, dataset: str, tmp_path: Path) -> None:
    more = ("--set", "p.scale.gpus_per_worker=1", "--site", with_site(site, tmp_path))
    code, said = submit(site, dataset, *more)
    assert code == 2
    assert "nvidia.com/gpu" in said


def test_a_pod_in_which_ray_cannot_start(ci: Kube, site: Kube, dataset: str, tmp_path: Path) -> None:
    code, said = submit(ci, dataset, "--site", with_site(site, tmp_path, worker={"cpu": "300m", "memory": "300Mi"}))
    assert code == 2
    assert "worker.memory" in said


def test_a_quota_that_is_too_small_even_when_empty(ci: Kube, site: Kube, dataset: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "1"}},
    }
    site.apply(quota)
    try:
        code, said = submit(ci, dataset)
        assert code == 2
        assert "ResourceQuota small" in said
    finally:
        site.run("delete", "resourcequota", "small")


def test_dry_run_and_plan_create_nothing(ci: Kube, dataset: str) -> None:
    done = ci.rollama("submit", "train", "p", "--preset", "tiny", "--dataset", dataset, "--plan", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "the cluster would accept it; nothing was created" in done.stdout
    assert "workers" in done.stdout
    assert "head" in done.stdout


def test_an_older_kuberay(ci: Kube, site: Kube, dataset: str) -> None:
    """Its CRD lacks `authOptions`: the field is taken out of the real one for a moment, and put back."""
    crd = site.get("crd", "rayjobs.ray.io")
    versions = [item["name"] for item in crd["spec"]["versions"]]
    where = f"/spec/versions/{versions.index('v1')}/schema/openAPIV3Schema/properties/spec/properties"
    where += "/rayClusterSpec/properties/authOptions"
    node = crd["spec"]["versions"][versions.index("v1")]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    kept = node["properties"]["rayClusterSpec"]["properties"]["authOptions"]

    def patch(*operations: dict[str, object]) -> None:
        site.run("patch", "crd", "rayjobs.ray.io", "--type=json", "-p", json.dumps(operations))

    patch({"op": "remove", "path": where})
    try:
        until(lambda: "too old" in submit(ci, dataset, "--dry-run")[1], 60, "the API server uses the changed CRD")
        code, said = submit(ci, dataset)
        assert code == 2
        assert "KubeRay >= 1.6" in said
    finally:
        patch({"op": "add", "path": where, "value": kept})
        until(lambda: submit(ci, dataset, "--dry-run")[0] == 0, 60, "the API server uses the whole CRD again")
