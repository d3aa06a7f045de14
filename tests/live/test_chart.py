"""The chart rendered by the real helm: refused values, objects that the real API server accepts, and our own rules."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from rollama.cluster import rules
from rollama.cluster.config import parse_site
from rollama.cluster.rayservice import ServiceJob, build_rayservice
from rollama.core.config import build
from serve.config import ServeConfig
from tests.chart.pods import pods_of
from tests.chart.rendering import APIS
from tests.live.kube import Kube
from tests.live.setting import CHART, OWN, ROOT, Bucket

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
REFERENCE = f"s3://bucket/store@sha256:{'a' * 64}"
PLACE = "--set=networkPolicy.storage.cidrs={192.0.2.0/24}"
SERVING = [PLACE, *(f"--set=serve.models.{name}={REFERENCE}" for name in ("s", "p", "seg"))]
FULL = [
    *SERVING, "--set=serve.workers=1", "--set=serve.textGpus=1", "--set-json=gpuClasses={\"any\":{}}",
    "--set=serve.gpuClass=any", "--set=serve.data.existingClaim=cts", "--set=storage.existingSecret=s3-keys",
    "--set=storage.workspace=s3://bucket/work", "--set=jobs.maxGpus=8", f"--set=storage.dataset={REFERENCE}",
    "--set=jobs.site.priority_class=training", "--set=image.pullSecrets={registry}",
]  # fmt: skip
SETS = {path.stem: ["-f", str(path)] for path in sorted((ROOT / "helm/rollama/ci").iterdir())}
FOREIGN = ("PodMonitor", "PrometheusRule", "HTTPRoute")
"""Kinds of others. The test cluster has their definitions, of a pinned version; a cluster of one's own need not."""


def rendered(site: Kube, *options: str) -> list[dict[str, Any]]:
    apis = [f"--api-versions={api}" for api in APIS]
    text = site.helm("template", "rollama", CHART, "--kube-version", "1.34", *apis, *options)
    return [item for item in yaml.safe_load_all(text) if item]


@pytest.mark.parametrize("options", [[], SERVING, FULL, *SETS.values()], ids=["defaults", "serving", "full", *SETS])
def test_the_api_server_takes_every_object(site: Kube, options: list[str]) -> None:
    served = {line.split()[-1] for line in site.run("api-resources", "--no-headers").splitlines()}
    assert OWN or served >= set(FOREIGN)
    objects = [item for item in rendered(site, *options) if item["kind"] in served or item["kind"] not in FOREIGN]
    kinds = [item["kind"] for item in objects]
    federation = any("federation" in option for option in options)
    assert ("RayService" in kinds) == (bool(options) and not federation)
    assert ("Deployment" in kinds) or not federation
    assert OWN or not options or "PodMonitor" in kinds
    text = yaml.safe_dump_all(objects)
    site.run(
        "apply", "--dry-run=server", "--validate=strict", "--server-side", "--force-conflicts", "-f", "-", text=text
    )


@pytest.mark.parametrize("kind", FOREIGN)
def test_the_api_server_refuses_a_misspelt_key_of_others_kinds(site: Kube, kind: str) -> None:
    """So that their acceptance above means something."""
    if OWN:
        assert kind in FOREIGN
        return
    (item,) = [item for item in rendered(site, *SETS["air-gapped-values"]) if item["kind"] == kind]
    text = yaml.safe_dump(item | {"spec": {**item["spec"], "selektor": {}}})
    said = site.run(
        "apply", "--dry-run=server", "--validate=strict", "--server-side", "-f", "-", text=text, check=False
    )
    assert "selektor" in said and ("unknown field" in said or "not declared in schema" in said)


def test_monitoring_comes_by_itself_where_its_api_is(site: Kube) -> None:
    there = "monitoring.coreos.com" in site.run("api-versions")
    assert there or OWN
    assert ("kind: PodMonitor" in site.helm("get", "manifest", "rollama")) == there


def test_the_endpoint_and_the_site_pass_the_clients_own_rules(site: Kube) -> None:
    objects = {(item["kind"], item["metadata"]["name"]): item for item in rendered(site, *FULL)}
    service = objects["RayService", "rollama"]
    rules.check_rayservice(service)
    application = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]
    served = build(ServeConfig, application["args"], "the chart's arguments")
    assert (served.text_gpus, served.models, served.store) == (1, None, "/store")
    assert [item["user_config"]["seg"] for item in application["deployments"]] == 3 * [REFERENCE]
    place = parse_site(objects["ConfigMap", "rollama-site"]["data"]["site.yaml"], "the chart's site")
    assert (place.max_gpus, place.dataset, place.priority_class) == (8, REFERENCE, "training")


def test_the_api_server_takes_the_clients_rayservice(site: Kube) -> None:
    place = parse_site(site.get("configmap", "rollama-site")["data"]["site.yaml"], "site")
    args = {"models": "/models", "data_folder": "/data", "store": "/tmp/store"}
    body = build_rayservice(ServiceJob(name="dry", args=args, api_key_secret="key"), place, site.namespace)
    site.run("apply", "--dry-run=server", "--validate=strict", "--server-side", "-f", "-", text=yaml.safe_dump(body))


@pytest.mark.parametrize("name", SETS)
def test_pod_security_takes_every_pod(site: Kube, name: str) -> None:
    """The namespace demands `restricted`; pods of something else are admitted without a look, so as pods."""
    pods = []
    for pod in pods_of(rendered(site, *SETS[name])):
        # Admission also wants these to exist, which is not what is asked here.
        left_out = ("priorityClassName", "runtimeClassName", "serviceAccountName")
        spec = {key: value for key, value in pod.spec.items() if key not in left_out}
        meta = {"name": f"try-{len(pods)}", "labels": pod.labels}
        pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    assert len(pods) >= (4 if name.startswith("federation") else 6)
    site.run("apply", "--dry-run=server", "--validate=strict", "-f", "-", text=yaml.safe_dump_all(pods))


def test_a_secret_that_is_not_there_is_told_before_anything_changes(site: Kube) -> None:
    before = site.helm("history", "rollama", "-o", "json")
    with pytest.raises(AssertionError, match="has no Secret nobody") as refused:
        site.helm("upgrade", "rollama", CHART, "--reuse-values", "--set", "token.existingSecret=nobody")
    assert "kubectl create secret" in str(refused.value)
    assert site.helm("history", "rollama", "-o", "json") == before


def test_a_model_that_is_not_in_the_store_is_told_before_anything_changes(site: Kube, bucket: Bucket) -> None:
    models = [f"serve.models.{name}={bucket.uri}/store@sha256:{'0' * 64}" for name in ("s", "p", "seg")]
    with pytest.raises(AssertionError, match="pre-upgrade hooks failed") as refused:
        site.helm("upgrade", "rollama", CHART, "--reuse-values", "--set", ",".join(models))
    assert "refused: serve.models.p" in str(refused.value)
    assert "rollama-preflight" not in site.run("get", "jobs,configmaps,networkpolicies", "-o", "name")
    assert not site.get("rayservices")["items"]
    site.helm("rollback", "rollama")
