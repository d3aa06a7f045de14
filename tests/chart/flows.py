"""The flows that are meant, and nothing else: every pair of ends on every port that anything here listens on."""

from __future__ import annotations

from typing import Any

from tests.chart.network import End, Network
from tests.chart.pods import Pod

PORTS = (53, 443, 3128, 5000, 6443, 8000, 8080, 8265, 9000, 9443, 41234)
RAY = ("endpoint", "jobs", "cluster")
DNS = End("dns", "kube-system", {"k8s-app": "kube-dns"})
OPERATOR = End("operator", "kuberay", {"app.kubernetes.io/component": "kuberay-operator"})
STRANGERS = (
    End("other namespace", "default", {"app": "x"}),
    End("pretender", "default", {"rollama.io/client": "true", "rollama.io/job": "x"}),
    End("same namespace", "team", {"app": "x"}),
    End("other of kube-system", "kube-system", {"app": "x"}),
    End("internet", ip="8.8.8.8"),
    End("other of the coordinator's namespace", "federation", {"app": "x"}),
)
CLIENT = End("client", "team", {"rollama.io/client": "true"})
PROMETHEUS = End("prometheus", "monitoring", {"app": "prometheus"})


COORDINATOR = {"app.kubernetes.io/part-of": "rollama", "app.kubernetes.io/component": "coordinator"}


class Places:
    """Where things are outside the release, for one set of values."""

    def __init__(
        self,
        store: End,
        store_ports: tuple[int, ...],
        api: End | None = None,
        gates: tuple[End, ...] = (),
        openings: tuple[tuple[str, End, int], ...] = (),
        sites: tuple[End, ...] = (),
        storing: tuple[str, ...] = (),
    ) -> None:
        self.store, self.store_ports, self.api, self.gates, self.openings = store, store_ports, api, gates, openings
        self.sites, self.storing = sites, storing
        """A federation's sites as the coordinator sees them; which of its two sides use the store."""


S3_SERVICE = Places(End("store", "s3", {"app": "s3"}), PORTS)
PLACES = {
    "defaults": S3_SERVICE,
    "serving": S3_SERVICE,
    "cpu": Places(End("store", "storage", {"app": "s3"}), PORTS),
    "gpu-small": Places(End("store", ip="192.0.2.10"), (9000,), End("api", ip="192.0.2.1")),
    "gpu-cluster": Places(
        End("store", ip="198.51.100.7"), (443,), End("api", ip="203.0.113.1"),
        (End("ingress", "ingress-nginx", {"app": "nginx"}),),
    ),
    "air-gapped": Places(
        End("store", ip="10.20.0.5"), (9000,), None, (End("gateway", "gateways"), End("hospital", ip="10.1.2.3")),
        (("jobs", End("proxy", ip="10.20.0.8"), 3128),),
    ),
    "federation-coordinator": Places(
        End("store", ip="198.51.100.9"), (9000,), storing=("coordinator",),
        sites=(End("north", ip="203.0.113.10"), End("south", ip="203.0.113.20")),
    ),
    "federation-site": Places(
        S3_SERVICE.store, (), openings=(("site", End("coordinator's door", ip="192.0.2.40"), 443),)
    ),
    "federation-site-jobs": Places(
        End("store", ip="10.20.0.5"), (9000,), End("api", ip="192.0.2.1"),
        openings=(("site", End("coordinator's door", "federation", COORDINATOR), 9443),), storing=("site",),
    ),
}  # fmt: skip


def wrong_flows(objects: Any, pods: list[Pod], name: str) -> list[str]:
    """Flows that pass and should not, or do not and should."""
    network = Network(item for item in objects if item["kind"] == "NetworkPolicy")
    places = PLACES[name]
    inside = [End(pod.name, "team", pod.labels) for pod in pods]
    outside = [DNS, OPERATOR, CLIENT, PROMETHEUS, places.store, *STRANGERS, *places.gates, *places.sites]
    outside += [end for end in (places.api, *(item[1] for item in places.openings)) if end]
    stores = any(item["kind"] == "NetworkPolicy" and "-storage-" in item["metadata"]["name"] for item in objects)
    found = []
    for sender in [*inside, *outside]:
        for receiver in [*inside, *outside]:
            if sender is receiver or not (sender in inside or receiver in inside or sender is CLIENT):
                continue
            for port in PORTS:
                meant = _meant(sender, receiver, port, places, pods, stores)
                if network.allows(sender, receiver, port) != meant:
                    found.append(f"{sender.name} -> {receiver.name}:{port} should {'pass' if meant else 'not pass'}")
    if "preflight" in (pod.name for pod in pods):
        (policy,) = [
            item
            for item in objects
            if item["metadata"]["name"] == "rollama-preflight" and item["kind"] == "NetworkPolicy"
        ]
        (end,) = [item for item in inside if item.name == "preflight"]
        alone = Network([policy])  # before the first installation there are no others
        if not alone.allows(end, DNS, 53, "UDP") or not alone.allows(end, places.store, places.store_ports[0]):
            found.append("the preflight reaches neither DNS nor the store")
    for end in inside:
        if not network.allows(end, DNS, 53, "UDP"):
            found.append(f"{end.name} does not reach DNS")
        found += [f"{end.name} -> dns:{port} UDP passes" for port in (54, 443) if network.allows(end, DNS, port, "UDP")]
    return found


def _meant(sender: End, receiver: End, port: int, places: Places, pods: list[Pod], stores: bool) -> bool:
    kind, role = (*sender.name.split("/"), "")[:2]
    to = receiver.name.split("/")[0]
    ray = to in RAY and receiver.namespace == "team"
    if receiver is DNS:
        return sender.namespace == "team" and port == 53
    if receiver is places.store:
        uses = kind == "preflight" or kind in places.storing or (kind in (*RAY, "gate") and stores)
        return uses and port in places.store_ports
    if receiver is places.api:
        submits = kind == "retrain" or sender.name == "site/jobs"
        return port in (443, 6443) and (submits or (role == "head" and _scales(sender.name, pods)))
    if ray and kind == to:
        return True
    if sender is OPERATOR:
        return ray and (port == 8265 or (port == 8000 and to == "endpoint"))
    if sender is PROMETHEUS:
        return ray and port == 8080
    if to == "endpoint" and (sender is CLIENT or sender in places.gates):
        return port == 8000
    if to == "endpoint" and kind == "test":
        return port in (8000, 8265)
    if to == "coordinator" and receiver.namespace == "team":
        return sender in places.sites and port == 9443
    if to == "mlflow":
        return kind in ("jobs", "gate") and port == 5000
    return any((kind, receiver, port) == opening for opening in places.openings)


def _scales(name: str, pods: list[Pod]) -> bool:
    (pod,) = [item for item in pods if item.name == name]
    return any(box["name"] == "autoscaler" for box in pod.boxes)
