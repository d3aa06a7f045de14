"""What must hold for whatever the chart renders; each function answers with the sentences that do not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from rollama.cluster import rules as cluster_rules
from rollama.cluster.config import parse_site
from rollama.cluster.presets import parse_presets
from rollama.cluster.serveconfig import make_serve, parse_serve
from rollama.core.config import build
from rollama.core.errors import RollamaError
from serve.config import ServeConfig
from tests.chart.federation_rules import side_rules
from tests.chart.flows import wrong_flows
from tests.chart.pods import Pod, pods_of

Objects = Any
MAY_CALL = {"retrain": "rollama-ci", "site/jobs": "rollama-ci"}
"""Pods that get an account's token into their containers, and whose."""
READ_ONLY = {"data", "api-key", "keys", "jwks", "audit", "token", "check", "settings", "script", "account", "tls",
             "sites", "site", "identity", "release", "release-key"}  # fmt: skip
"""Volumes that nobody may write to."""
CI_RULES = [
    {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["events", "resourcequotas"], "verbs": ["list"]},
    {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["rollama-site"], "verbs": ["get"]},
]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def problems(objects: Objects, name: str) -> Iterator[str]:
    """Everything that is wrong with the objects of the set of values `name`; what is quick to find comes first."""
    try:
        pods = pods_of(objects)
        for check in (
            _pods(pods), _ray(objects), _accounts(objects), _ways_in(objects), _secrets(objects), _kept(objects),
            _work(objects), _site(objects, pods), side_rules(objects), _network(objects, pods, name),
        ):  # fmt: skip
            yield from check
    except (RollamaError, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        yield f"{type(error).__name__}: {error}"


def _pods(pods: list[Pod]) -> Iterator[str]:
    for pod in pods:
        for sentence in (*restricted(pod), *careful(pod)):
            yield f"{pod.name}: {sentence}"


def restricted(pod: Pod) -> Iterator[str]:
    """Pod Security `restricted`, as kube-apiserver checks it, by each container itself and by the pod too."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(key):
            yield key
    for volume in pod.spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume}"
    parts = [("pod", pod.spec.get("securityContext") or {})]
    parts += [(box["name"], box.get("securityContext") or {}) for box in pod.boxes]
    for name, context in parts:
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{name} may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name} without seccomp"
        if name != "pod":
            if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
                yield f"{name} may gain privileges"
            if context.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name} has capabilities"


def careful(pod: Pod) -> Iterator[str]:
    """What we ask beyond it."""
    if pod.spec["securityContext"].get("fsGroup") != 1000 or pod.spec["securityContext"].get("runAsGroup") != 1000:
        yield "files of volumes are not the group's"
    if pod.spec["securityContext"].get("fsGroupChangePolicy") != "OnRootMismatch":
        yield "every file of a volume is changed at each start"
    if pod.spec.get("enableServiceLinks") is not False:
        yield "addresses of all Services among its variables"
    head = any(box["name"] == "autoscaler" for box in pod.boxes)
    token = pod.name in MAY_CALL
    if pod.spec.get("automountServiceAccountToken") is not token:
        yield f"automountServiceAccountToken is not {token}"
    if pod.name in MAY_CALL and pod.spec.get("serviceAccountName") != MAY_CALL[pod.name]:
        yield "not the account that it may have"
    own = {"endpoint": "rollama-serve", "cluster": "rollama-job", "gate": "rollama-job"}.get(pod.name.split("/")[0])
    if own and not head and pod.spec.get("serviceAccountName") != own:  # the autoscaler's KubeRay makes itself
        yield "another account than its own"
    for box in pod.boxes:
        context = box["securityContext"]
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{box['name']} may write to its root"
        if context.get("runAsGroup") != 1000 or context.get("runAsUser") != 1000:
            yield f"{box['name']} runs as somebody else"
        needs = box["resources"]
        if not needs.get("limits", {}).get("memory") or needs["limits"]["memory"] != needs["requests"]["memory"]:
            yield f"{box['name']}: memory is not limited to what is requested"
        mounts = {mount["name"]: mount for mount in box["volumeMounts"]}
        writes = {name for name in READ_ONLY & set(mounts) if not mounts[name].get("readOnly")}
        if pod.name != "mlflow" and writes:
            yield f"{box['name']} may write to {sorted(writes)}"
        if "account" in mounts and box["name"] != "autoscaler":
            yield f"{box['name']} has the account's token"
        if box["name"] == "autoscaler" and "account" not in mounts:
            yield "the autoscaler has no account"
        for variable in box.get("env", []):
            if re.search(r"SECRET|PASSWORD|TOKEN$|ACCESS_KEY|API_KEY", variable["name"]) and "value" in variable:
                yield f"{variable['name']} in the open"
    mounted = {mount["name"] for box in pod.boxes for mount in box["volumeMounts"]}
    if mounted != {volume["name"] for volume in pod.spec["volumes"]}:
        yield f"volumes and mounts differ: {sorted(mounted)}"
    ray = {mount["name"] for box in pod.boxes if box["name"] == "ray" for mount in box["volumeMounts"]}
    if pod.name.startswith("endpoint/") and ray != mounted - {"account"}:
        yield f"Ray lacks volumes: {sorted(mounted - ray)}"
    for volume in pod.spec.get("volumes", []):
        mine = pod.name.split("/")[0] in ("endpoint", "coordinator", "site", "gate")
        if "secret" in volume and mine and volume["secret"].get("defaultMode") != 0o440:
            yield f"Secret {volume['name']} is readable for everybody in the container"
        if "projected" in volume and volume["projected"].get("defaultMode") != 0o440:
            yield "the account's token is readable for everybody in the container"


def _ray(objects: Objects) -> Iterator[str]:
    for item in objects:
        if item["kind"] == "RayService":
            groups = item["spec"]["rayClusterConfig"]
            for group in (groups["headGroupSpec"], *groups.get("workerGroupSpecs", [])):
                if "app.kubernetes.io/name" in group["template"]["metadata"]["labels"]:
                    yield "pods with a name of ours: KubeRay's Service of the head does not find them"
            cluster_rules.check_rayservice(item)
            served = parse_serve(item["spec"]["serveConfigV2"], "serveConfigV2")
            args = served.applications[0].args
            config = build(ServeConfig, args, "serveConfigV2")
            if served.plain() != make_serve(args, models=served.applications[0].models).plain():
                yield "serveConfigV2 is not what the client would make of these arguments"
            if yaml.safe_load(item["spec"]["serveConfigV2"]) != served.plain():
                yield "serveConfigV2 leaves something to Ray's own defaults"
            for key in ("text_scaling", "segmentation_scaling"):
                if key in args and set(args[key]) < set(getattr(config, key).model_dump(exclude_none=True)):
                    yield f"{key} leaves something to Ray's own defaults"
            if config.api_key_file is None and config.keys_file is None and config.oidc is None:
                yield "the endpoint has no key"
        if item["kind"] == "RayCluster":
            cluster_rules.check_cluster("spec", item["spec"])
        if item["kind"] in ("RayService", "RayCluster"):
            cluster = item["spec"].get("rayClusterConfig", item["spec"])
            of = "endpoint" if item["kind"] == "RayService" else "cluster"
            if item["metadata"]["labels"].get("app.kubernetes.io/component") != of:
                yield f"{item['kind']} is not labelled as {of}"
            if cluster["authOptions"]["secretName"] not in ("rollama-ray-token", "ray-token"):
                yield f"{item['kind']}: another token"


def _accounts(objects: Objects) -> Iterator[str]:
    for item in objects:
        if item["kind"] == "ServiceAccount" and item.get("automountServiceAccountToken") is not False:
            yield f"account {item['metadata']['name']} gives its token to every pod"
        if item["kind"] == "Role" and item["rules"] != CI_RULES:
            yield f"Role {item['metadata']['name']}: other rights than those of CI"
        if item["kind"] == "RoleBinding":
            subject = {"kind": "ServiceAccount", "name": "rollama-ci", "namespace": "team"}
            if item["subjects"] != [subject] or item["roleRef"]["name"] != "rollama-ci":
                yield "the rights of CI go to somebody else"
        if item["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            yield f"{item['kind']}: rights beyond the namespace"


def _network(objects: Objects, pods: list[Pod], name: str) -> Iterator[str]:
    policies = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "NetworkPolicy"}
    if policies.get("rollama-deny") != {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}:
        yield "no policy that denies everything"
    for key, spec in policies.items():
        ways = {"Ingress": "ingress" in spec, "Egress": "egress" in spec}
        said = spec.get("policyTypes") or []
        if "podSelector" not in spec or not said or any(there and way not in said for way, there in ways.items()):
            yield f"NetworkPolicy {key} does not say what it is about"
        for way, side in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(way) or ():
                if not rule.get(side):
                    yield f"NetworkPolicy {key}: an opening to everybody"
                own = rule.get(side) == [{"podSelector": spec["podSelector"]}]  # Ray talks to itself on any port
                if not rule.get("ports") and not own and "namespaceSelector" not in str(rule):
                    yield f"NetworkPolicy {key}: an opening on every port"
    yield from wrong_flows(objects, pods, name)


def _ways_in(objects: Objects) -> Iterator[str]:
    for item in objects:
        spec = item.get("spec", {})
        door = item["metadata"]["name"] == "rollama-coordinator"  # sites are elsewhere
        if item["kind"] == "Service" and spec.get("type", "ClusterIP") != "ClusterIP" and not door:
            yield f"Service {item['metadata']['name']} is reachable from outside"
        if item["kind"] == "Ingress":
            hosts = [rule.get("host") for rule in spec["rules"]]
            covered = [
                host for tls in spec.get("tls") or () if tls.get("secretName") for host in tls.get("hosts") or ()
            ]
            if not all(hosts) or not set(hosts) <= set(covered):
                yield "Ingress without TLS"
            backends = [path["backend"]["service"] for rule in spec["rules"] for path in rule["http"]["paths"]]
            if backends != [{"name": "rollama-serve-svc", "port": {"number": 8000}}]:
                yield f"Ingress to {backends}"
        if item["kind"] == "HTTPRoute":
            if not all(ref.get("sectionName") for ref in spec["parentRefs"]) or not spec.get("hostnames"):
                yield "HTTPRoute on every listener, or for every host"
            backends = [ref for rule in spec["rules"] for ref in rule["backendRefs"]]
            if backends != [{"name": "rollama-serve-svc", "port": 8000}]:
                yield f"HTTPRoute to {backends}"
        if item["kind"] == "PodMonitor":
            chosen = {"matchExpressions": [{"key": "ray.io/node-type", "operator": "Exists"}]}
            told = ["app.kubernetes.io/component", "ray.io/node-type", "ray.io/cluster"]
            if spec.get("selector") != chosen or spec.get("podTargetLabels") != told:
                yield "PodMonitor looks at other pods, or does not say at which"
        if item["kind"] == "Deployment" and pods_of([item])[0].name == "mlflow":
            if spec["selector"]["matchLabels"].items() - spec["template"]["metadata"]["labels"].items():
                yield "Deployment does not find its pods"
            words = " ".join(item["spec"]["template"]["spec"]["containers"][0]["args"])
            if "--allowed-hosts=rollama-mlflow:5000" not in words:
                yield "MLflow answers to any host name"
            if {"name": "MLFLOW_DISABLE_TELEMETRY", "value": "true"} not in pods_of([item])[0].boxes[0]["env"]:
                yield "MLflow may call home"


def _secrets(objects: Objects) -> Iterator[str]:
    values = [text for item in objects if item["kind"] == "Secret" for text in item["data"].values()]
    others = yaml.safe_dump([item for item in objects if item["kind"] != "Secret"])
    if any(text in others for text in values):
        yield "a Secret's value outside it"


def _kept(objects: Objects) -> Iterator[str]:
    for item in objects:
        notes = item["metadata"].get("annotations") or {}
        if item["kind"] in ("Secret", "PersistentVolumeClaim") and notes.get("helm.sh/resource-policy") != "keep":
            yield f"{item['kind']} {item['metadata']['name']} goes with the release"
    serves = any(item["kind"] == "RayService" for item in objects)
    budgets = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "PodDisruptionBudget"}
    if serves:
        chosen = {"app.kubernetes.io/part-of": "rollama", "app.kubernetes.io/instance": "rollama",
                  "app.kubernetes.io/component": "endpoint"}  # fmt: skip
        head = {"minAvailable": 1, "selector": {"matchLabels": {**chosen, "ray.io/node-type": "head"}}}
        if budgets.get("rollama-head") != head:
            yield "a drain ends the endpoint's head"
        (service,) = [item for item in objects if item["kind"] == "RayService"]
        cluster = service["spec"]["rayClusterConfig"]
        count = sum(group["replicas"] for group in cluster.get("workerGroupSpecs", []))
        if count > 1 and not cluster.get("enableInTreeAutoscaling"):
            workers = {"minAvailable": count - 1, "selector": {"matchLabels": {**chosen, "ray.io/node-type": "worker"}}}
            if budgets.get("rollama-workers") != workers:
                yield "a drain ends several workers at once"


def _work(objects: Objects) -> Iterator[str]:
    """Hooks, schedules, priorities."""
    classes = {item["metadata"]["name"]: item for item in objects if item["kind"] == "PriorityClass"}
    if classes:
        first, last = classes["team-rollama-serving"], classes["team-rollama-training"]
        ways = first.get("preemptionPolicy"), last.get("preemptionPolicy")
        if first["value"] <= last["value"] or ways != ("PreemptLowerPriority", "Never"):
            yield "training may push the endpoint out"
        for pod in pods_of(objects):
            training = dict.fromkeys(("jobs", "cluster", "site", "gate"), "team-rollama-training")
            wanted = {"endpoint": "team-rollama-serving", **training}.get(pod.name.split("/")[0])
            if wanted and pod.spec.get("priorityClassName") != wanted:
                yield f"{pod.name} has not the priority {wanted}"
    for item in objects:
        notes = item["metadata"].get("annotations") or {}
        if item["kind"] == "CronJob":
            inner = item["spec"]["jobTemplate"]["spec"]
            if item["spec"].get("concurrencyPolicy") != "Forbid" or not inner.get("activeDeadlineSeconds"):
                yield "scheduled jobs may run into each other"
        if item["kind"] == "Job":
            if notes.get("helm.sh/hook") != "pre-install,pre-upgrade" or not item["spec"].get("activeDeadlineSeconds"):
                yield "the preflight does not come first, or has no end"
            if notes.get("helm.sh/hook-output-log-policy") != "hook-failed" or item["spec"].get("backoffLimit") != 0:
                yield "the preflight does not say at once what is wrong"
        hook = {"rollama-preflight": "pre-install,pre-upgrade", "rollama-test": "test"}.get(item["metadata"]["name"])
        other = item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "rollama-test"  # stays with the release
        told = notes.get("helm.sh/hook-output-log-policy")
        if item["kind"] == "Pod" and (
            told != "hook-succeeded,hook-failed" or "hook-succeeded" not in notes["helm.sh/hook-delete-policy"]
        ):
            yield "helm test does not say what it found"
        if hook and not other and notes.get("helm.sh/hook") != hook:
            yield f"{item['kind']} {item['metadata']['name']} is no hook"


def _site(objects: Objects, pods: list[Pod]) -> Iterator[str]:
    (item,) = [item for item in objects if item["kind"] == "ConfigMap" and item["metadata"]["name"] == "rollama-site"]
    site = parse_site(item["data"]["site.yaml"], "the chart's site")
    cluster_rules.check_site(site)
    parse_presets(item["data"]["presets.yaml"], "the chart's presets")
    if site.service_account != "rollama-job" or site.token_secret not in ("rollama-ray-token", "ray-token"):
        yield "the site has another account or token"
    for pod in pods:
        if pod.name == "endpoint/head" and "terminationGracePeriodSeconds" not in pod.spec:
            yield "jobs in work are cut off"
