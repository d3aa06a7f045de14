"""Where the live tests run: the cluster, its object store, namespaces of their own, and values that fit two cores."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from infra.cluster.layout import STATE
from rollama.data.store import Kind, push
from tests.live.kube import Kube

ROOT = Path(__file__).resolve().parents[2]
CHART = str(ROOT / "helm/rollama")
IMAGE = "rollama.test/rollama:local"
S3 = "http://s3.s3.svc.cluster.local:7070"
OWN = os.environ.get("ROLLAMA_KUBECONFIG")
KUBERAY = os.environ.get("ROLLAMA_KUBERAY_NAMESPACE", "kuberay")
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@dataclass(frozen=True)
class Bucket:
    """The object store as the cluster sees it and, with `environment`, as this machine sees it."""

    uri: str
    inside: str
    keys: dict[str, str] = field(repr=False)
    environment: dict[str, str] = field(repr=False)


def s3_access(admin: Kube) -> tuple[str, str, str, str]:
    """The S3 server as pods see it and as this machine does, and its two keys."""
    if OWN:
        names = ("ROLLAMA_S3_INSIDE", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        found = [os.environ.get(name, "") for name in names]
        assert all(found), f"a cluster of your own needs an S3 server: set {', '.join(names)}"
        return found[0], found[1], found[2], found[3]
    data = admin.of("s3").get("secret", "s3-root")["data"]
    access, secret = (base64.b64decode(data[key]).decode() for key in ("ROOT_ACCESS_KEY", "ROOT_SECRET_KEY"))
    address = admin.of("s3").get("service", "s3")["spec"]["clusterIP"]
    return S3, f"http://{address}:7070", access, secret


def secret(name: str, **data: str) -> dict[str, Any]:
    """A Secret; underscores in keys stay as they are."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


@contextmanager
def namespace(admin: Kube, bucket: Bucket) -> Iterator[Kube]:
    """A new namespace that demands `restricted`, with the object store's keys; goes with the release in it."""
    kube = admin.of(f"rollama-{secrets.token_hex(3)}")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": kube.namespace, "labels": RESTRICTED}}
    admin.apply(body)
    kube.apply(secret("s3-keys", **bucket.keys))
    try:
        yield kube
    finally:
        if not os.environ.get("ROLLAMA_KEEP_NAMESPACE"):
            kube.helm("uninstall", "rollama", check=False)
            admin.run("delete", "namespace", kube.namespace, "--wait=false")


def site_values(image: str, bucket: Bucket) -> dict[str, Any]:
    """Values for jobs alone."""
    repository, _, tag = image.rpartition(":")
    values: dict[str, Any] = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "storage": {
            "workspace": f"{bucket.uri}/work",
            "existingSecret": "s3-keys",
            "env": {"AWS_ENDPOINT_URL": bucket.inside, "AWS_REGION": "us-east-1"},
        },
        # Two cores hold head, two workers and submitter only with small requests.
        "jobs": {
            "head": {"cpu": "200m", "memory": "3Gi"},
            "worker": {"cpu": "300m", "memory": "3Gi"},
            "site": {"ttl_s": 60},
        },
    }
    if ".svc" not in bucket.inside:  # a policy knows no host names
        values["networkPolicy"] = {"storage": {"cidrs": ["0.0.0.0/0"]}}
    return values


def account(kube: Kube, name: str, folder: Path) -> Kube:
    """The namespace as a service account sees it: a kubeconfig with nothing but its token."""
    token = kube.run("create", "token", name, "--duration=4h").strip()
    config = yaml.safe_load(kube.kubeconfig.read_text())
    context = next(item for item in config["contexts"] if item["name"] == config["current-context"])
    context["context"] |= {"namespace": kube.namespace, "user": name}
    config["users"] = [{"name": name, "user": {"token": token}}]
    config["contexts"] = [context]
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return replace(kube, kubeconfig=path)


def helm(kube: Kube, verb: str, values: dict[str, Any], folder: Path, *options: str) -> str:
    """helm install or upgrade with these values."""
    path = folder / f"values-{kube.namespace}.yaml"
    path.write_text(yaml.safe_dump(values))
    return kube.helm(verb, "rollama", CHART, "-f", str(path), *options)


def volume(kube: Kube, claim: str) -> str:
    """A volume for one claim to come: a folder of the test cluster's node; elsewhere the cluster's own class makes it.

    Returns:
        The storage class for the claim to name; '' for the default one.
    """
    if OWN:
        return ""
    name = f"{kube.namespace}-{claim}"
    folder = STATE / name
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    spec = {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(folder)},
        "storageClassName": "none", "claimRef": {"namespace": kube.namespace, "name": claim},
    }  # fmt: skip
    kube.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec})
    return "none"


def push_models(folder: Path, bucket: Bucket) -> dict[str, str]:
    """References of the models of a folder, now in the bucket's store."""
    return {name: str(push(folder / name, Kind.MODEL, f"{bucket.uri}/store")) for name in ("s", "p", "seg")}
