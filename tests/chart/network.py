"""What NetworkPolicies let through, computed: the test cluster's network plugin does not enforce them.

After the API's own words: a pod that a policy of a direction selects may talk in that direction only to what one of
those policies names; a flow needs the sender's egress and the receiver's ingress.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """A pod (namespace and labels), or an address outside the cluster."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ip: str = ""


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector fits; an empty one fits everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for item in selector.get("matchExpressions") or ():
        key, operator, values = item["key"], item["operator"], item.get("values") or ()
        fits = {
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
        }[operator]
        if not fits:
            return False
    return True


def allowed(policies: Iterable[Policy], sender: End, receiver: End, port: int, protocol: str = "TCP") -> bool:
    """Whether the flow passes. Policies without a namespace are of the namespace `team`."""
    given = list(policies)
    return _direction(given, "Egress", sender, receiver, port, protocol) and _direction(
        given, "Ingress", receiver, sender, port, protocol
    )


def _direction(policies: list[Policy], way: str, pod: End, other: End, port: int, protocol: str) -> bool:
    if pod.ip:
        return True
    mine = [item for item in policies if _is_about(item, way, pod)]
    key, side = ("egress", "to") if way == "Egress" else ("ingress", "from")
    return not mine or any(
        _ports(rule.get("ports"), port, protocol) and _peers(rule.get(side), other, _namespace(policy))
        for policy in mine
        for rule in policy["spec"].get(key) or ()
    )


def _namespace(policy: Policy) -> str:
    return str(policy["metadata"].get("namespace", "team"))


def _is_about(policy: Policy, way: str, pod: End) -> bool:
    spec = policy["spec"]
    kinds = spec.get("policyTypes") or (["Ingress", "Egress"] if "egress" in spec else ["Ingress"])
    inside = pod.namespace == _namespace(policy)
    return way in kinds and inside and selects(spec.get("podSelector") or {}, pod.labels)


def _ports(ports: Any, port: int, protocol: str) -> bool:
    return not ports or any(
        item.get("protocol", "TCP") == protocol
        and ("port" not in item or item["port"] <= port <= item.get("endPort", item["port"]))
        for item in ports
    )


def _peers(peers: Any, other: End, namespace: str) -> bool:
    return not peers or any(_peer(item, other, namespace) for item in peers)


def _peer(peer: Mapping[str, Any], other: End, namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        if not other.ip or ip_address(other.ip) not in ip_network(block["cidr"]):
            return False
        return not any(ip_address(other.ip) in ip_network(item) for item in block.get("except") or ())
    if other.ip:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"] or {}, {"kubernetes.io/metadata.name": other.namespace}):
            return False
    elif other.namespace != namespace:
        return False
    return selects(peer.get("podSelector") or {}, other.labels)
