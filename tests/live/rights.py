"""What the accounts of a release may do and what not, written down; the API server is asked for every line.

A line is `verb resource`, in the account's own namespace unless it ends in `@namespace`; `@` alone: everywhere.
What an account may do stands in its own list, and everything else that is asked is refused to it.
"""

from __future__ import annotations

import json
from typing import Any

from tests.live.kube import Kube

CI = frozenset(
    {
        "create rayjobs.ray.io", "get rayjobs.ray.io", "list rayjobs.ray.io", "delete rayjobs.ray.io", "get pods",
        "list pods", "get pods/log", "list events", "list resourcequotas", "get configmaps/rollama-site",
    }
)  # fmt: skip
"""`rollama-ci`: pipelines and the scheduled retraining. Jobs in its namespace, and nothing that leads further."""
AUTOSCALER = frozenset(
    {"get pods", "list pods", "patch pods", "patch pods/resize", "get rayclusters.ray.io", "patch rayclusters.ray.io"}
)
"""An account that KubeRay makes for each autoscaled cluster; only the autoscaler's container has its token."""
NOTHING: frozenset[str] = frozenset()
"""`rollama-job` (trainings), `rollama-serve` (the endpoint), `default` (MLflow, preflight, `helm test`)."""
ASKED = sorted(
    CI | AUTOSCALER | {
        # Secrets, and ways to them: a pod mounts any, an account's token is one.
        "get secrets", "list secrets", "watch secrets", "create secrets", "get secrets/rollama-ray-token",
        "get secrets/rollama-api-key", "get secrets/s3-keys", "create pods", "create serviceaccounts/token",
        "get configmaps", "list configmaps", "get secrets@kube-system", "list secrets@", "get secrets@kuberay",
        # Other people's processes.
        "create pods/exec", "get pods/exec", "create pods/attach", "create pods/portforward", "create pods/proxy",
        "create services/proxy", "patch pods/ephemeralcontainers", "delete pods", "deletecollection pods",
        # What runs, and with which image and account.
        "update rayjobs.ray.io", "patch rayjobs.ray.io", "deletecollection rayjobs.ray.io",
        "create rayclusters.ray.io", "update rayclusters.ray.io", "delete rayclusters.ray.io",
        "create rayservices.ray.io", "patch rayservices.ray.io", "delete rayservices.ray.io", "create jobs.batch",
        "create cronjobs.batch", "patch cronjobs.batch", "create deployments.apps", "patch deployments.apps",
        "patch configmaps/rollama-site", "update configmaps/rollama-site",
        # More rights.
        "create roles.rbac.authorization.k8s.io", "patch roles.rbac.authorization.k8s.io",
        "escalate roles.rbac.authorization.k8s.io", "bind roles.rbac.authorization.k8s.io",
        "create rolebindings.rbac.authorization.k8s.io", "create clusterrolebindings.rbac.authorization.k8s.io@",
        "create serviceaccounts", "impersonate serviceaccounts", "impersonate users@",
        "create certificatesigningrequests.certificates.k8s.io@",
        # Doors.
        "create networkpolicies.networking.k8s.io", "patch networkpolicies.networking.k8s.io",
        "delete networkpolicies.networking.k8s.io", "create ingresses.networking.k8s.io", "create services",
        "patch services", "delete poddisruptionbudgets.policy", "patch namespaces@",
        # What is kept, and what tells.
        "get persistentvolumeclaims", "delete persistentvolumeclaims", "delete podmonitors.monitoring.coreos.com",
        "delete prometheusrules.monitoring.coreos.com", "delete events", "patch resourcequotas",
        # Elsewhere.
        "create rayjobs.ray.io@default", "create rayjobs.ray.io@kube-system", "list pods@default", "list pods@",
        "list nodes@", "get nodes/proxy@", "list namespaces@", "create priorityclasses.scheduling.k8s.io@",
        "create validatingwebhookconfigurations.admissionregistration.k8s.io@",
        "patch customresourcedefinitions.apiextensions.k8s.io@",
    }
)  # fmt: skip


def allowed(admin: Kube, account: str) -> set[str]:
    """The lines of ASKED that an account of the namespace may do; one call to kubectl."""
    user = f"system:serviceaccount:{admin.namespace}:{account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{admin.namespace}", "system:authenticated"]
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "groups": groups, "resourceAttributes": _attributes(line, admin.namespace)},
        }
        for line in ASKED
    ]  # fmt: skip
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    said = admin.run("create", "-f", "-", "-o", 'jsonpath={.status}{"\\n"}', text=body)
    answers = [json.loads(line) for line in said.splitlines()]
    assert not any(answer.get("evaluationError") for answer in answers)
    return {line for line, answer in zip(ASKED, answers, strict=True) if answer["allowed"]}


def _attributes(line: str, own: str) -> dict[str, Any]:
    verb, _, rest = line.partition(" ")
    thing, at, space = rest.partition("@")
    found = {"verb": verb, "namespace": space if at else own}
    resource, slash, more = thing.partition("/")
    found["resource"], _, found["group"] = resource.partition(".")
    if slash:  # of pods, services and the like a part; else the name of one object
        parts = {"exec", "log", "attach", "portforward", "proxy", "ephemeralcontainers", "resize", "token"}
        found["subresource" if more in parts else "name"] = more
    return found
