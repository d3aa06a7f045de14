import copy

import pytest

from rollama.cluster import rules
from rollama.cluster.exits import Refused
from rollama.cluster.rayjob import build_rayjob
from rollama.core.errors import ConfigError

CLUSTER = ("spec", "rayClusterSpec")
HEAD = (*CLUSTER, "headGroupSpec")
GROUP = (*CLUSTER, "workerGroupSpecs", 0)


def changed(body, path, value):
    body = copy.deepcopy(body)
    node = body
    for part in path[:-1]:
        node = node[part]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return body


def test_what_we_build_passes(job, site):
    rules.check_rayjob(build_rayjob(job, site, "team"))


def test_a_pod_in_which_ray_cannot_start_is_refused(job, site):
    with pytest.raises(ConfigError, match=r"worker\.memory: found '300Mi'; accepted: at least 512Mi"):
        build_rayjob(job, site.updated(worker={"memory": "300Mi"}), "team")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("metadata", "name"), "x" * 48, "48 characters"),
        (("metadata", "name"), "9x", "a letter first"),
        (("metadata", "labels"), {"a": "b c"}, "metadata.labels"),
        (("spec", "submissionMode"), "Magic", "K8sJobMode"),
        (("spec", "shutdownAfterJobFinishes"), False, "ttlSecondsAfterFinished"),
        (("spec", "ttlSecondsAfterFinished"), -1, "0 or more"),
        (("spec", "deletionStrategy"), {"deletionRules": []}, "deletionStrategy"),
        (("spec", "activeDeadlineSeconds"), 0, "more than 0"),
        (("spec", "preRunningDeadlineSeconds"), -5, "more than 0"),
        (("spec", "backoffLimit"), -1, "backoffLimit"),
        (("spec", "rayClusterSpec"), None, "rayClusterSpec"),
        (("spec", "submissionMode"), "SidecarMode", "neither in SidecarMode"),
        ((*CLUSTER, "authOptions"), None, "authOptions"),
        ((*CLUSTER, "authOptions"), {"mode": "disabled"}, "mode: token"),
        ((*CLUSTER, "authOptions"), {"mode": "token"}, "secretName"),
        ((*CLUSTER, "authOptions"), {"mode": "token", "secretName": "x", "enableK8sTokenAuth": True}, "nothing else"),
        ((*CLUSTER, "rayVersion"), "2.51.1", "2.52.0"),
        ((*CLUSTER, "rayVersion"), None, "2.52.0"),
        ((*CLUSTER, "rayVersion"), "nightly", "2.52.0"),
        ((*CLUSTER, "upgradeStrategy"), {"type": "Recreate"}, "upgradeStrategy"),
        ((*HEAD, "rayStartParams"), {"num-cpus": 0}, "quote the number"),
        ((*HEAD, "rayStartParams"), {"labels": "a=b"}, "group's labels"),
        ((*HEAD, "resources"), {"CPU": "1"}, "rayStartParams"),
        ((*GROUP, "minReplicas"), 3, "minReplicas"),
        ((*GROUP, "maxReplicas"), None, "minReplicas"),
        ((*GROUP, "template", "spec", "containers"), [], "at least one container"),
    ],
)
def test_what_kuberay_refuses_is_refused_before(job, site, path, value, says):
    with pytest.raises(ConfigError, match=says):
        rules.check_rayjob(changed(build_rayjob(job, site, "team"), path, value))


def test_suspend_needs_shutdown(job, site):
    body = changed(build_rayjob(job, site, "team"), ("spec", "suspend"), True)
    rules.check_rayjob(body)
    body["spec"] |= {"shutdownAfterJobFinishes": False, "ttlSecondsAfterFinished": 0}
    with pytest.raises(ConfigError, match=r"spec\.suspend"):
        rules.check_rayjob(body)


def test_modes_exclude_retries(job, site):
    body = build_rayjob(job, site.updated(retries=1), "team")
    with pytest.raises(ConfigError, match="InteractiveMode"):
        rules.check_rayjob(changed(body, ("spec", "submissionMode"), "InteractiveMode"))
    with pytest.raises(ConfigError, match="clusterSelector"):
        rules.check_rayjob(changed(body, ("spec", "clusterSelector"), {"ray.io/cluster": "x"}))


@pytest.mark.parametrize("name", ["HOME", "RAY_AUTH_TOKEN", "RAY_enable_autoscaler_v2"])
def test_a_variable_twice_or_one_of_kuberay_is_refused(job, site, name):
    with pytest.raises(ConfigError, match=name):
        build_rayjob(job, site.updated(storage_env={name: "x"}) if "TOKEN" not in name else _sneak(site, name), "team")


def _sneak(site, name):
    return site.model_copy(update={"storage_env": {name: "x"}})


def test_restart_policies_do_not_fit_the_autoscaler(job, site):
    body = build_rayjob(job, site.updated(autoscaling=True), "team")
    with pytest.raises(ConfigError, match="restartPolicy"):
        rules.check_rayjob(changed(body, (*GROUP, "template", "spec", "restartPolicy"), "Always"))


def test_kueue_and_autoscaling_exclude_each_other(job, site):
    with pytest.raises(ConfigError, match="one of the two"):
        build_rayjob(job, site.updated(queue="q", autoscaling=True), "team")


def test_declared_gpus(job, site):
    gpu = job.updated(gpus_per_worker=1, workers=8)
    build_rayjob(gpu, site.updated(max_gpus=8), "team")
    with pytest.raises(ConfigError, match=r"found 8; accepted: at most 4"):
        build_rayjob(gpu, site.updated(max_gpus=4), "team")


def nodes(*counts):
    return [{"status": {"allocatable": {"nvidia.com/gpu": str(count)} if count else {}}} for count in counts]


@pytest.mark.parametrize(
    ("there", "pods", "fits"),
    [(nodes(0), 1, False), (nodes(4, 4), 8, True), (nodes(4, 3), 8, False), (None, 8, True), (nodes(), 1, False)],
)
def test_nodes(site, there, pods, fits):
    if fits:
        rules.check_nodes(1, pods, there, site)
    else:
        with pytest.raises(Refused, match=r"lower scale\.workers"):
            rules.check_nodes(1, pods, there, site)
        rules.check_nodes(1, pods, there, site.updated(nodes_scale=True))


def quota(**more):
    return [
        {"metadata": {"name": "team"}, "spec": {"hard": {"requests.cpu": "4", "requests.nvidia.com/gpu": "2"}, **more}}
    ]


def test_quotas():
    rules.check_quotas({"requests.cpu": 4.0, "requests.nvidia.com/gpu": 2.0}, quota())
    rules.check_quotas({"requests.cpu": 5.0}, None)
    rules.check_quotas({"requests.cpu": 5.0}, quota(scopes=["BestEffort"]))
    with pytest.raises(Refused, match=r"ResourceQuota team: the job needs 5 of requests.cpu, the quota allows 4"):
        rules.check_quotas({"requests.cpu": 5.0}, quota())
