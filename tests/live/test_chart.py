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
from tests.live.conftest import ROOT
from tests.live.kube import Kube

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
CHART = str(ROOT / "helm/rollama")
REFERENCE = f"s3://bucket/store@sha256:{'a' * 64}"
SERVING = [f"--set=serve.models.{name}={REFERENCE}" for name in ("s", "p", "seg")]
FULL = [
    *SERVING, "--set=serve.workers=1", "--set=serve.textGpus=1", "--set=serve.data.existingClaim=cts",
    "--set=storage.existingSecret=s3-keys", "--set=storage.workspace=s3://bucket/work", "--set=jobs.maxGpus=8",
    f"--set=storage.dataset={REFERENCE}", "--set=jobs.site.priority_class=training",
    "--set=image.pullSecrets={registry}",
]  # fmt: skip


def rendered(site: Kube, *options: str) -> list[dict[str, Any]]:
    text = site.helm("template", "rollama", CHART, "--kube-version", "1.34", *options)
    return [item for item in yaml.safe_load_all(text) if item]


def test_the_chart_is_in_order(site: Kube) -> None:
    assert "0 chart(s) failed" in site.helm("lint", CHART)


@pytest.mark.parametrize("options", [[], SERVING, FULL], ids=["defaults", "serving", "full"])
def test_the_api_server_takes_every_object(site: Kube, options: list[str]) -> None:
    objects = rendered(site, *options)
    kinds = [item["kind"] for item in objects]
    assert ("RayService" in kinds) == bool(options)
    text = yaml.safe_dump_all(objects)
    site.run(
        "apply", "--dry-run=server", "--validate=strict", "--server-side", "--force-conflicts", "-f", "-", text=text
    )


def test_the_endpoint_and_the_site_pass_the_clients_own_rules(site: Kube) -> None:
    objects = {item["kind"]: item for item in rendered(site, *FULL)}
    rules.check_rayservice(objects["RayService"])
    application = yaml.safe_load(objects["RayService"]["spec"]["serveConfigV2"])["applications"][0]
    served = build(ServeConfig, application["args"], "the chart's arguments")
    assert (served.text_gpus, served.models, served.store) == (1, None, "/store")
    assert [item["user_config"]["seg"] for item in application["deployments"]] == 3 * [REFERENCE]
    place = parse_site(objects["ConfigMap"]["data"]["site.yaml"], "the chart's site")
    assert (place.max_gpus, place.dataset, place.priority_class) == (8, REFERENCE, "training")


def test_the_api_server_takes_the_clients_rayservice(site: Kube) -> None:
    place = parse_site(site.get("configmap", "rollama-site")["data"]["site.yaml"], "site")
    args = {"models": "/models", "data_folder": "/data", "store": "/tmp/store"}
    body = build_rayservice(ServiceJob(name="dry", args=args, api_key_secret="key"), place, site.namespace)
    site.run("apply", "--dry-run=server", "--validate=strict", "--server-side", "-f", "-", text=yaml.safe_dump(body))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("imag.tag=1", "'imag'"),
        ("jobs.site.node_selectr.a=b", "'node_selectr'"),
        ("serve.resources.limts.memory=1Gi", "'limts'"),
        ("storage.env.aws_secret_access_key=x", "aws_secret_access_key"),
        ("jobs.site.storage_env.MY_TOKEN=x", "MY_TOKEN"),
        ("serve.models.s=s3://bucket/store", "/serve/models/s"),
        (f"serve.models.s={REFERENCE}", "name all three"),
        ("jobs.head.memory=4GB", "/jobs/head/memory"),
    ],
)
def test_wrong_values_are_refused_by_name(site: Kube, option: str, said: str) -> None:
    with pytest.raises(AssertionError, match="exit 1") as refused:
        rendered(site, "--set", option)
    assert said in str(refused.value)
