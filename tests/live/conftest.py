"""A real cluster for the tests marked `cluster`: image, S3, the chart in a namespace with Pod Security `restricted`.

`make cluster-up` makes the cluster; with ROLLAMA_KUBECONFIG (and ROLLAMA_IMAGE, which that cluster can pull) the same
tests run elsewhere, with an S3 server that both sides reach: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL
as this machine sees it and ROLLAMA_S3_INSIDE as pods do. Nothing here skips: without a cluster these tests fail and say
what to do.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.cluster.binaries import path_of
from infra.cluster.images import load
from infra.cluster.layout import KUBECONFIG, STATE
from rollama.core.storage import open_storage
from rollama.data.store import Kind, push
from tests.live.kube import Kube
from tests.live.setting import IMAGE, OWN, ROOT, Bucket, account, helm, namespace, s3_access, site_values


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


@pytest.fixture(scope="session")
def outside(bucket: Bucket) -> Iterator[None]:
    """This process reaches the bucket."""
    before = {key: os.environ.get(key) for key in bucket.environment}
    os.environ.update(bucket.environment)
    yield
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})


@pytest.fixture(scope="session")
def site(admin: Kube, image: str, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kube]:
    """A namespace with the chart installed, for jobs; its administrator."""
    with namespace(admin, bucket) as kube:
        helm(kube, "install", site_values(image, bucket), tmp_path_factory.mktemp("site"), "--wait")
        yield kube


@pytest.fixture(scope="session")
def ci(site: Kube, tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """The namespaced account that CI has: a kubeconfig with nothing but its token."""
    return account(site, "rollama-ci", tmp_path_factory.mktemp("ci"))


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
