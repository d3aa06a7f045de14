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


class Network:
    """The policies of a cluster. One without a namespace is of the namespace `team`."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = list(policies)
        self._rules: dict[tuple[str, str], list[tuple[Any, Any, str]] | None] = {}

    def allows(self, sender: End, receiver: End, port: int, protocol: str = "TCP") -> bool:
        """Whether the flow passes. Ends of one name are taken for the same."""
        return self._direction("egress", sender, receiver, port, protocol) and self._direction(
            "ingress", receiver, sender, port, protocol
        )

    def _direction(self, way: str, pod: End, other: End, port: int, protocol: str) -> bool:
        if pod.ip:
            return True
        rules = self._of(way, pod)
        return rules is None or any(
            _ports(ports, port, protocol) and _peers(peers, other, namespace) for peers, ports, namespace in rules
        )

    def _of(self, way: str, pod: End) -> list[tuple[Any, Any, str]] | None:
        """(peers, ports, namespace) of every rule for the pod; None where no policy is about it."""
        if (way, pod.name) not in self._rules:
            mine = [item for item in self.policies if _is_about(item, way.capitalize(), pod)]
            side = "to" if way == "egress" else "from"
            found = [
                (rule.get(side), rule.get("ports"), _namespace(item))
                for item in mine
                for rule in item["spec"].get(way) or ()
            ]
            self._rules[way, pod.name] = found if mine else None
        return self._rules[way, pod.name]


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
