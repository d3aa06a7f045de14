"""Would the API server take an object without dropping a key? Asked of the models that describe its API, offline.

Kubernetes' own kinds are looked up in the Python client's models; Ray's in the CRDs of the KubeRay that the test
cluster installs. Kinds of others (Prometheus operator, Gateway API) are not known here. `make test-cluster` asks a real
server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from kubernetes.client import models

from infra.cluster.binaries import kuberay_config
from tests.chart.rendering import LOADER

KINDS = {
    "v1": "V1", "apps/v1": "V1", "batch/v1": "V1", "networking.k8s.io/v1": "V1", "policy/v1": "V1",
    "rbac.authorization.k8s.io/v1": "V1", "scheduling.k8s.io/v1": "V1",
}  # fmt: skip
PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def unknown(item: dict[str, Any]) -> Iterator[str]:
    """Keys and types that the kind does not have; nothing for kinds that are not known here."""
    kind, version = item["kind"], item["apiVersion"]
    if version in KINDS:
        yield from _model(f"{KINDS[version]}{kind}", item, kind)
    elif version == "ray.io/v1":
        yield from _schema(ray_schema(kind), item, kind)


def _model(name: str, value: Any, where: str) -> Iterator[str]:
    if value is None:
        return
    if name in PLAIN:
        fits = isinstance(value, PLAIN[name]) and not (name == "int" and isinstance(value, bool))
        if not fits:
            yield f"{where}: {value!r} is no {name}"
    elif found := re.fullmatch(r"(List|Dict)\[(?:str, )?(.*)\]", name):
        if not isinstance(value, list if found[1] == "List" else dict):
            yield f"{where}: {value!r} is no {found[1]}"
            return
        pairs = enumerate(value) if found[1] == "List" else value.items()
        for key, inner in pairs:
            yield from _model(found[2], inner, f"{where}.{key}")
    elif hasattr(models, name):
        model = getattr(models, name)
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no object"
            return
        known = {spelt: attribute for attribute, spelt in model.attribute_map.items()}
        for key, inner in value.items():
            if key not in known:
                yield f"{where}.{key}: unknown"
            else:
                yield from _model(model.openapi_types[known[key]], inner, f"{where}.{key}")


@cache
def ray_schema(kind: str) -> dict[str, Any]:
    """The v1 schema of a kind of ray.io."""
    path = kuberay_config() / "crd/bases" / f"ray.io_{kind.lower()}s.yaml"
    crd = yaml.load(path.read_text(), LOADER)
    (version,) = [item for item in crd["spec"]["versions"] if item["name"] == "v1"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"]["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _schema(schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, (int, str)):
            yield f"{where}: {value!r} is neither number nor text"
        return
    kind = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}.get(schema.get("type", ""))
    if kind is not None and not isinstance(value, kind):
        yield f"{where}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is not among {schema['enum']}"
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{where}.{key}: missing"
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _schema(schema.get("items", {}), inner, f"{where}[{index}]")
    elif isinstance(value, dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, inner in value.items():
            if key in known:
                yield from _schema(known[key], inner, f"{where}.{key}")
            elif isinstance(others, dict):
                yield from _schema(others, inner, f"{where}.{key}")
            else:
                yield f"{where}.{key}: unknown"
