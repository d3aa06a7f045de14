import json
import shlex

import pytest

from rollama.cluster import names, plan, pods
from rollama.cluster.rayjob import build_rayjob
from rollama.core.errors import ConfigError


def containers(body):
    """Every container of the job with its role: the autoscaler is one, though it has no template."""
    spec = body["spec"]
    cluster = spec["rayClusterSpec"]
    found = [("submitter", spec["submitterPodTemplate"]), ("head", cluster["headGroupSpec"]["template"])]
    found += [("worker", group["template"]) for group in cluster["workerGroupSpecs"]]
    boxes = [(role, box) for role, template in found for box in template["spec"]["containers"]]
    if "autoscalerOptions" in cluster:
        boxes.append(("autoscaler", cluster["autoscalerOptions"]))
    return boxes


def templates(body):
    cluster = body["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [body["spec"]["submitterPodTemplate"], *(group["template"] for group in groups)]


@pytest.fixture(params=[False, True], ids=["fixed", "autoscaling"])
def body(request, job, site):
    return build_rayjob(job, site.updated(autoscaling=request.param), "team")


def test_every_container_is_restricted(body):
    boxes = containers(body)
    assert {"submitter", "head", "worker"} <= {role for role, _ in boxes}
    for role, box in boxes:
        secured = box["securityContext"]
        assert secured["runAsNonRoot"] is True and secured["runAsUser"] == 1000, role
        assert secured["readOnlyRootFilesystem"] is True and secured["allowPrivilegeEscalation"] is False, role
        assert secured["capabilities"] == {"drop": ["ALL"]}, role
        assert secured["seccompProfile"] == {"type": "RuntimeDefault"}, role
        assert {"name": "tmp", "mountPath": "/tmp"} in box["volumeMounts"], role
        env = {item["name"]: item.get("value") for item in box["env"]}
        assert env["HOME"] == "/tmp/home" and env["RAY_USAGE_STATS_ENABLED"] == "0", role


def test_every_pod_has_its_volumes_and_no_token_but_the_scaling_head(body):
    scaled = "autoscalerOptions" in body["spec"]["rayClusterSpec"]
    for template in templates(body):
        spec, role = template["spec"], template["metadata"]["labels"][names.LABEL_ROLE]
        volumes = {item["name"]: item["emptyDir"] for item in spec["volumes"] if item["name"] != "account"}
        assert volumes["tmp"] == {} and volumes["shm"]["medium"] == "Memory"
        assert spec["automountServiceAccountToken"] is False
        assert any(volume["name"] == "account" for volume in spec["volumes"]) is (scaled and role == "head")
        assert not any(mount["name"] == "account" for box in spec["containers"] for mount in box["volumeMounts"])
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not any("hostPath" in volume for volume in spec["volumes"])


def test_memory_and_gpus_are_requested_as_they_are_limited(job, site):
    body = build_rayjob(job.updated(gpus_per_worker=1, workers=8), site, "team")
    for role, box in containers(body):
        needs = box["resources"]
        assert needs["requests"]["memory"] == needs["limits"]["memory"], role
        assert needs["requests"].get("nvidia.com/gpu") == needs["limits"].get("nvidia.com/gpu"), role
    worker = dict(containers(body))["worker"]["resources"]
    assert worker["limits"]["nvidia.com/gpu"] == "1" and "cpu" not in worker["limits"]
    limited = build_rayjob(job, site.updated(cpu_limits=True), "team")
    assert all(box["resources"]["limits"]["cpu"] for _, box in containers(limited))


def test_the_preset_may_ask_for_more_memory_than_the_site(job, site):
    def memory(gib):
        body = build_rayjob(job.updated(memory_gib_per_worker=gib), site, "team")
        return dict(containers(body))["worker"]["resources"]["limits"]["memory"]

    assert (memory(None), memory(1.0), memory(6.5)) == ("4Gi", "4Gi", "6656Mi")


def test_secrets_appear_by_reference_only_and_where_they_are_needed(body):
    for role, box in containers(body):
        sources = [item["secretRef"]["name"] for item in box.get("envFrom", [])]
        assert sources == (["s3-keys"] if role in ("head", "worker") else []), role
        by_key = {item["name"]: item["valueFrom"]["secretKeyRef"] for item in box["env"] if "valueFrom" in item}
        assert by_key == ({"HF_TOKEN": {"name": "hub", "key": "token"}} if role in ("head", "worker") else {}), role
        assert not any("SECRET" in item["name"] or "TOKEN" in item["name"] for item in box["env"] if "value" in item
                       and item["name"] != "TOKENIZERS_PARALLELISM"), role  # fmt: skip
    assert "runtimeEnvYAML" not in body["spec"] and "metadata" not in body["spec"]


@pytest.mark.parametrize("where", ["workspace", "override"])
def test_a_password_in_the_command_is_refused_and_not_repeated(job, site, where):
    changes = {"workspace": {"workspace": "s3://u:hunter2@b/x"}, "override": {"overrides": ["x.token=hunter2"]}}[where]
    with pytest.raises(ConfigError) as refused:
        build_rayjob(job.updated(**changes), site, "team")
    assert where == "workspace" or "hunter2" not in str(refused.value)


def test_hub_downloads_are_allowed_only_with_a_hub_token(job, site):
    def offline(the_site, role):
        env = dict(containers(build_rayjob(job, the_site, "team")))[role]["env"]
        return [item["value"] for item in env if item["name"] == "HF_HUB_OFFLINE"]

    for role in ("head", "worker"):  # the head looks for the base before it asks for workers
        assert offline(site, role) == ["0"] and offline(site.updated(hub_token_secret=None), role) == ["1"]


def test_token_authentication_and_the_ray_version_are_always_there(body):
    cluster = body["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    assert cluster["rayVersion"] == "2.60.0"


def test_training_runs_on_workers_only(body):
    cluster = body["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["workerGroupSpecs"][0]["maxReplicas"] == 2
    assert cluster["workerGroupSpecs"][0]["rayStartParams"] == {"num-cpus": "1"}


def test_autoscaling_starts_from_zero_with_version_two(job, site):
    fixed = build_rayjob(job, site, "team")["spec"]["rayClusterSpec"]
    scaled = build_rayjob(job, site.updated(autoscaling=True), "team")["spec"]["rayClusterSpec"]
    assert fixed["workerGroupSpecs"][0]["minReplicas"] == 2 and "enableInTreeAutoscaling" not in fixed
    assert scaled["workerGroupSpecs"][0]["minReplicas"] == scaled["workerGroupSpecs"][0]["replicas"] == 0
    assert "account" in [mount["name"] for mount in scaled["autoscalerOptions"]["volumeMounts"]]
    assert scaled["enableInTreeAutoscaling"] is True and scaled["autoscalerOptions"]["version"] == "v2"
    assert scaled["headGroupSpec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert "serviceAccountName" not in scaled["headGroupSpec"]["template"]["spec"]


def test_the_job_ends_and_is_cleared_away(job, site):
    spec = build_rayjob(job.updated(deadline_s=600), site.updated(retries=2, ttl_s=7), "team")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True and spec["ttlSecondsAfterFinished"] == 7
    assert spec["activeDeadlineSeconds"] == 600 and spec["preRunningDeadlineSeconds"] == 600
    assert spec["backoffLimit"] == 2 and spec["submitterConfig"]["backoffLimit"] == 4
    assert spec["submissionMode"] == "K8sJobMode"


def test_the_command_is_the_entrypoint_and_readable_in_the_annotation(job, site):
    body = build_rayjob(job, site, "team")
    assert shlex.split(body["spec"]["entrypoint"]) == job.command()
    assert body["metadata"]["annotations"][names.COMMAND] == shlex.join(job.command())
    assert job.command()[-2:] == ["--name", "p"] and "--set" in job.command()


def test_pods_can_be_found_by_job_and_role(job, site):
    body = build_rayjob(job, site, "team", attempt=3)
    assert body["metadata"]["name"].endswith("-r3")
    for template in templates(body):
        assert template["metadata"]["labels"][names.LABEL_JOB] == body["metadata"]["name"]


def test_site_placement_reaches_every_pod(job, site):
    chosen = site.updated(
        node_selector={"pool": "gpu"}, tolerations=[{"key": "gpu", "operator": "Exists"}], runtime_class="nvidia",
        priority_class="low", image_pull_secrets=["pull"], queue="team-queue", service_account="jobs",
    )  # fmt: skip
    body = build_rayjob(job, chosen, "team")
    assert body["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
    for template in templates(body):
        spec = template["spec"]
        assert spec["nodeSelector"] == {"pool": "gpu"} and spec["runtimeClassName"] == "nvidia"
        assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
        assert spec["priorityClassName"] == "low" and spec["imagePullSecrets"] == [{"name": "pull"}]
        assert spec["serviceAccountName"] == "jobs"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dataset": "/data/cohort"}, "--dataset"),
        ({"dataset": "s3://b/c@sha256:abc"}, "64 hex"),
        ({"workspace": "runs/x"}, "--workspace"),
        ({"preset": "mine.yaml"}, "not in the image"),
        ({"gpus_per_worker": 0.5}, "whole GPUs"),
        ({"run": "x" * 48}, "found 48 characters"),
        ({"overrides": ["a=b\nc"]}, "control character"),
    ],
)
def test_bad_jobs_are_refused(job, site, changes, says):
    with pytest.raises(ConfigError, match=says):
        build_rayjob(job.updated(**changes), site, "team")


def test_the_plan_counts_what_the_resource_says(job, site):
    body = build_rayjob(job.updated(gpus_per_worker=1, cpus_per_worker=6, workers=8), site, "team")
    rows = {row.role: row for row in plan.rows(body, "nvidia.com/gpu")}
    assert (rows["workers"].pods, rows["workers"].cpu, rows["workers"].gpus) == (8, 48, 8)
    assert plan.need(body, "nvidia.com/gpu") == pytest.approx(
        {"pods": 10, "requests.cpu": 49.1, "requests.memory": 36.5 * 2**30, "limits.memory": 36.5 * 2**30,
         "requests.nvidia.com/gpu": 8}
    )  # fmt: skip
    scaled = build_rayjob(job, site.updated(autoscaling=True), "team")
    assert {row.role: row.cpu for row in plan.rows(scaled, "nvidia.com/gpu")}["head"] == 1.25


def test_building_changes_no_shared_template(job, site):
    before = json.dumps([pods.SECURITY, pods.POD_SECURITY, pods.TMP])
    build_rayjob(job, site, "team")
    build_rayjob(job, site.updated(autoscaling=True), "team")
    assert json.dumps([pods.SECURITY, pods.POD_SECURITY, pods.TMP]) == before
