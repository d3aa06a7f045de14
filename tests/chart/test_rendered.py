"""What the chart renders, for every set of values: safe, reachable as meant, and what KubeRay and Ray take."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path

import pytest

from infra.chart import CHART
from rollama.cli.submit import training
from rollama.cli.train import What
from rollama.cluster.config import parse_site
from rollama.cluster.presets import parse_presets
from rollama.cluster.rayjob import Job, build_rayjob
from rollama.cluster.serveconfig import parse_serve
from rollama.core.config import build
from serve.config import ServeConfig
from serve.preflight import check
from tests.chart.pods import pods_of
from tests.chart.rendering import APIS, CI, S3, SERVING, SETS, Values, helm, objects, of, rendered
from tests.chart.rules import problems
from tests.chart.strict import unknown

pytestmark = pytest.mark.chart
BY_NAME = {values.name: values for values in SETS}
SERVED = [values for values in SETS if values.name != "defaults" and not values.name.startswith("federation")]


@pytest.mark.parametrize("values", SETS, ids=lambda item: item.name)
def test_everything_holds(values: Values) -> None:
    assert list(problems(rendered(values), values.name)) == []


@pytest.mark.parametrize("values", SETS, ids=lambda item: item.name)
def test_no_key_would_be_dropped(values: Values) -> None:
    assert [sentence for item in rendered(values) for sentence in unknown(item)] == []


def test_the_strict_look_sees_typos() -> None:
    service = copy.deepcopy(of(rendered(BY_NAME["gpu-cluster"]), "RayService"))
    service["spec"]["rayClusterConfig"]["authOption"] = {}
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["tolerations"] = {}
    assert len(list(unknown(service))) == 2
    budget = copy.deepcopy(of(rendered(BY_NAME["cpu"]), "PodDisruptionBudget"))
    budget["spec"]["minAvailabl"] = "1"
    budget["spec"]["selector"]["matchLabels"] = ["x"]
    assert len(list(unknown(budget))) == 2


def test_objects_of_other_apis_come_where_the_api_is_or_is_said_to_be() -> None:
    def kinds(*options: str) -> set[str]:
        return {item["kind"] for item in objects(Values("", (*SERVING, S3, *options)))}

    apis = [f"--api-versions={api}" for api in APIS]
    assert not {"PodMonitor", "PrometheusRule"} & kinds()
    assert {"PodMonitor", "PrometheusRule"} <= kinds(*apis)
    assert {"PodMonitor", "PrometheusRule"} <= kinds(
        "--set=monitoring.podMonitor=always", "--set=monitoring.rules=always"
    )
    assert not {"PodMonitor", "PrometheusRule"} & kinds(
        *apis, "--set=monitoring.podMonitor=never", "--set=monitoring.rules=never"
    )


def test_the_endpoint_is_where_its_class_says() -> None:
    found = {pod.name: pod for pod in pods_of(rendered(BY_NAME["gpu-cluster"]))}
    worker, head = found["endpoint/worker"], found["endpoint/head"]
    assert worker.spec["nodeSelector"] == {"gpu": "a100-80"} and "nodeSelector" not in head.spec
    assert worker.boxes[0]["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "1"}
    assert "nvidia.com/gpu" not in head.boxes[0]["resources"]["limits"]
    (small,) = [pod for pod in pods_of(rendered(BY_NAME["gpu-small"])) if pod.name == "endpoint/head"]
    assert small.spec["runtimeClassName"] == "nvidia" and small.boxes[0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    training = [pod for pod in pods_of(rendered(BY_NAME["gpu-small"])) if pod.name == "jobs/worker"]
    assert training[0].spec["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_settings_reach_the_application() -> None:
    service = of(rendered(BY_NAME["gpu-cluster"]), "RayService")
    config = build(ServeConfig, parse_serve(service["spec"]["serveConfigV2"], "").applications[0].args, "")
    assert (config.text_scaling.max_replicas, config.text_scaling.target_ongoing_requests) == (3, 8)
    assert config.text_scaling.downscale_delay_s == 600 and config.keys_file == Path("/secrets/keys/keys.yaml")
    assert config.audit_heads == "s3://rollama-heads/endpoint" and config.api_key_file is None
    # Nobody stays with a cluster that another one has taken over from, and what it is doing may end.
    assert config.close_connections and service["spec"]["rayClusterDeletionDelaySeconds"] == config.drain_s + 30
    service = of(rendered(BY_NAME["air-gapped"]), "RayService")
    config = build(ServeConfig, parse_serve(service["spec"]["serveConfigV2"], "").applications[0].args, "")
    assert config.oidc is not None and config.oidc.jwks_file == Path("/secrets/jwks/jwks.json")
    assert service["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "radiotherapy"


@pytest.mark.parametrize("values", SERVED, ids=lambda item: item.name)
def test_the_preflight_accepts_the_settings_it_is_given(values: Values, tmp_path: Path) -> None:
    for name, content in of(rendered(values), "ConfigMap", "rollama-preflight")["data"].items():
        (tmp_path / name).write_text(content)
    assert check(tmp_path, {}) == []
    command = of(rendered(values), "Job")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:3] == ["python", "-m", "serve.preflight"]
    assert [part.partition("=")[0] for part in command[4:]] == ["s", "p", "seg"]


def test_scheduled_jobs_are_suspended_until_asked_for() -> None:
    from tests.chart.cases import RETRAIN

    cron = of(objects(Values("", RETRAIN)), "CronJob")
    assert cron["spec"]["suspend"] is True
    cron = of(rendered(BY_NAME["gpu-small"]), "CronJob", "rollama-retrain")
    assert cron["spec"]["suspend"] is False and cron["spec"]["timeZone"] == "Europe/Berlin"
    assert cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"][2:] == [
        "s",
        "p",
        "seg",
        "proof",
    ]


def test_job_presets_are_what_submit_reads() -> None:
    data = of(rendered(BY_NAME["gpu-small"]), "ConfigMap", "rollama-site")["data"]
    presets = parse_presets(data["presets.yaml"], "")
    assert presets["p"].set == ["text.scale.workers=1"] and presets["proof"].thresholds[0]["at_least"] == 0.85
    assert parse_site(data["site.yaml"], "").priority_class == "team-rollama-training"


@pytest.mark.parametrize("values", CI, ids=lambda item: item.name)
def test_every_job_preset_of_the_sets_can_be_submitted(values: Values) -> None:
    data = of(rendered(values), "ConfigMap", "rollama-site")["data"]
    site = parse_site(data["site.yaml"], "")
    for name, preset in parse_presets(data["presets.yaml"], "").items():
        if preset.task != "evaluate":
            asked = training(What(preset.task), preset.preset, preset.set, preset.name)
            places = {"dataset": f"s3://b/store@sha256:{'a' * 64}", "workspace": "s3://bucket/work"}
            build_rayjob(build(Job, {**asked, **places}, name), site, "team")


def test_jobs_are_told_where_mlflow_is() -> None:
    for name, place in (("gpu-cluster", "http://rollama-mlflow:5000"), ("air-gapped", "https://mlflow.hospital.local")):
        data = of(rendered(BY_NAME[name]), "ConfigMap", "rollama-site")["data"]
        assert parse_site(data["site.yaml"], "").storage_env["MLFLOW_TRACKING_URI"] == place


def test_the_notes_say_what_is_open(tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    body = '{{ include (print $.Template.BasePath "/NOTES.txt") . | nindent 4 }}'
    (chart / "templates/shown.yaml").write_text(f"kind: Shown\nmetadata: {{name: x}}\nnotes: |\n{body}\n")
    for values in SETS:
        notes = of(objects(values, chart), "Shown")["notes"]
        assert "not a medical device" in notes and "WARNING" not in notes
    open_ = objects(Values("", ("--set=networkPolicy.enabled=false", *SERVING)), chart)
    assert "WARNING: networkPolicy.enabled is false" in of(open_, "Shown")["notes"]
    assert not [item for item in open_ if item["kind"] == "NetworkPolicy"]


def test_helm_has_nothing_to_complain_about() -> None:
    for values in SETS:
        command = [helm(), "lint", "--strict", str(CHART), "--kube-version", "1.34", *values.arguments(CHART)]
        command = [part for part in command if not part.startswith("--api-versions")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
