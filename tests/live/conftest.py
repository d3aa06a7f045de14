"""A real cluster for the tests marked `cluster`: image, S3, the chart in a namespace with Pod Security `restricted`.

`make cluster-up` makes the cluster; with ROLLAMA_KUBECONFIG (and ROLLAMA_IMAGE, which that cluster can pull) the same
tests run elsewhere, with an S3 server that both sides reach: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL
as this machine sees it and ROLLAMA_S3_INSIDE as pods do. Nothing here skips: without a cluster these tests fail and say
what to do.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml

from infra.cluster.binaries import path_of
from infra.cluster.images import load
from infra.cluster.layout import KUBECONFIG, STATE
from rollama.core.storage import open_storage
from rollama.data.store import Kind, push
from tests.live.kube import Kube

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture(scope="session")
def admin() -> Kube:
    """The cluster's administrator."""
    kubeconfig = Path(OWN) if OWN else KUBECONFIG
    assert kubeconfig.is_file(), f"{kubeconfig}: no cluster; run 'make cluster-up', or set ROLLAMA_KUBECONFIG"
    programs = [shutil.which(name) if OWN else str(path_of(name)) for name in ("kubectl", "helm")]
    assert all(programs), "kubectl and helm have to be on PATH"
    return Kube(kubeconfig, str(programs[0]), str(programs[1]))


@pytest.fixture(scope="session")
def image(admin: Kube) -> str:
    """The project's image, built from this checkout and present on the node."""
    if given := os.environ.get("ROLLAMA_IMAGE"):
        return given
    command = [sys.executable, "-m", "infra.image"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    archive = Path(done.stdout.split()[-1])
    marker = STATE / "loaded-image"
    if not marker.is_file() or marker.read_text() != archive.name:
        load(archive)
        marker.write_text(archive.name)
    return IMAGE


@pytest.fixture(scope="session")
def bucket(admin: Kube) -> Bucket:
    """A new bucket on the cluster's S3 server."""
    inside, endpoint, access, secret = s3_access(admin)
    keys = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
    environment = {**keys, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}
    name = f"rollama-{secrets.token_hex(4)}"
    from pyarrow import fs

    client = fs.S3FileSystem(
        access_key=access, secret_key=secret, region="us-east-1", endpoint_override=environment["AWS_ENDPOINT_URL"],
        allow_bucket_creation=True,
    )  # fmt: skip
    client.create_dir(name)
    return Bucket(f"s3://{name}", inside, keys, environment)


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


@pytest.fixture(scope="session")
def outside(bucket: Bucket) -> Iterator[None]:
    """This process reaches the bucket."""
    before = {key: os.environ.get(key) for key in bucket.environment}
    os.environ.update(bucket.environment)
    yield
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})


@pytest.fixture(scope="session")
def site(admin: Kube, image: str, bucket: Bucket) -> Iterator[Kube]:
    """A namespace with the chart installed; its administrator."""
    name = f"rollama-{secrets.token_hex(3)}"
    kube = admin.of(name)
    admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in bucket.keys.items()}
    kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3-keys"}, "data": encoded})
    repository, _, tag = image.rpartition(":")
    values = {
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
    path = STATE / f"values-{name}.yaml" if STATE.is_dir() else Path("/tmp") / f"values-{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    kube.helm("install", "rollama", str(ROOT / "helm/rollama"), "-f", str(path), "--wait")
    yield kube
    if not os.environ.get("ROLLAMA_KEEP_NAMESPACE"):
        kube.helm("uninstall", "rollama", check=False)
        admin.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def ci(site: Kube, tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """The namespaced account that CI has: a kubeconfig with nothing but its token."""
    token = site.run("create", "token", "rollama-ci", "--duration=4h").strip()
    config = yaml.safe_load(site.kubeconfig.read_text())
    context = next(item for item in config["contexts"] if item["name"] == config["current-context"])
    context["context"] |= {"namespace": site.namespace, "user": "ci"}
    config["users"] = [{"name": "ci", "user": {"token": token}}]
    config["contexts"] = [context]
    path = tmp_path_factory.mktemp("ci") / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return replace(site, kubeconfig=path)


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny preset's cohort on this machine."""
    from rollama.cohort.make import make_cohort
    from rollama.presets import load_preset

    root = tmp_path_factory.mktemp("cohort") / "cohort"
    make_cohort(root, load_preset("tiny").cohort, None)
    return root


@pytest.fixture(scope="session")
def dataset(bucket: Bucket, outside: None, cohort: Path) -> str:
    """Reference of the cohort in the bucket's store."""
    return str(push(cohort, Kind.DATASET, f"{bucket.uri}/store"))


@pytest.fixture(scope="session")
def workspace(bucket: Bucket, outside: None) -> str:
    """Where the chart's site puts runs."""
    open_storage(bucket.uri)
    return f"{bucket.uri}/work"
