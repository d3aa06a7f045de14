"""The evaluator of NetworkPolicies, on policies whose meaning the API's documentation says."""

from __future__ import annotations

from tests.chart.network import End, Network, selects

WEB, DB = End("web", "team", {"app": "web"}), End("db", "team", {"app": "db"})
FAR = End("far", "other", {"app": "web"})
OUT = End("out", ip="203.0.113.9")


def policy(selector: dict, namespace: str = "team", **spec: object) -> dict:
    return {"metadata": {"namespace": namespace}, "spec": {"podSelector": selector, **spec}}


def test_without_a_policy_everything_passes() -> None:
    assert Network([]).allows(FAR, DB, 5432) and Network([]).allows(DB, OUT, 443)


def test_a_policy_isolates_only_in_its_directions_and_its_namespace() -> None:
    network = Network([policy({}, policyTypes=["Ingress"])])
    assert not network.allows(WEB, DB, 80) and network.allows(DB, OUT, 443)
    assert network.allows(WEB, FAR, 80), "a policy says nothing about other namespaces"
    assert not Network([policy({}, policyTypes=["Egress"])]).allows(DB, OUT, 443)


def test_policies_add_up_and_both_ends_have_to_agree() -> None:
    closed = policy({}, policyTypes=["Ingress", "Egress"])
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 5432}]}
    way_in = policy({"matchLabels": {"app": "db"}}, ingress=[rule])
    way_out = policy({"matchLabels": {"app": "web"}}, policyTypes=["Egress"], egress=[{"to": [{"podSelector": {}}]}])
    assert not Network([closed, way_in]).allows(WEB, DB, 5432)
    assert not Network([closed, way_out]).allows(WEB, DB, 5432)
    both = Network([closed, way_in, way_out])
    assert both.allows(WEB, DB, 5432)
    assert not both.allows(WEB, DB, 5433) and not both.allows(WEB, DB, 5432, "UDP")
    assert not both.allows(FAR, DB, 5432), "a podSelector alone is of the policy's namespace"


def test_peers_by_namespace_and_address() -> None:
    def opened(peer: dict, ports: list | None = None) -> Network:
        return Network(
            [policy({"matchLabels": {"app": "db"}}, ingress=[{"from": [peer], **({"ports": ports} if ports else {})}])]
        )

    other = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}
    assert opened(other).allows(FAR, DB, 1) and not opened(other).allows(WEB, DB, 1)
    narrow = {**other, "podSelector": {"matchLabels": {"app": "x"}}}
    assert not opened(narrow).allows(FAR, DB, 1), "both selectors have to fit"
    assert opened({"namespaceSelector": {}}).allows(FAR, DB, 1)
    block = {"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/30"]}}
    assert not opened(block).allows(OUT, DB, 1) and opened({"ipBlock": {"cidr": "203.0.113.0/24"}}).allows(OUT, DB, 1)
    assert not opened(block).allows(WEB, DB, 1)
    assert opened(other, [{"port": 10, "endPort": 20}]).allows(FAR, DB, 15)


def test_an_opening_without_peers_or_rules() -> None:
    everybody = policy({}, ingress=[{}])
    assert Network([everybody]).allows(FAR, DB, 9)
    assert not Network([policy({}, ingress=[])]).allows(FAR, DB, 9)


def test_label_selectors() -> None:
    labels = {"a": "1"}
    assert selects({}, labels) and selects({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, labels)
    assert not selects({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, labels)
    assert selects({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, labels)
    assert not selects(
        {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["2"]}]}, labels
    )
