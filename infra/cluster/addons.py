"""What runs inside: DNS, the KubeRay operator as a Deployment with its own rights, an S3 server, others' kinds."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import yaml

from infra.cluster.binaries import kuberay_config, path_of
from infra.cluster.crds import definitions
from infra.cluster.layout import KUBECONFIG, MANIFESTS, S3_NAMESPACE, STATE

ROLLOUT_S = 180


def install() -> None:
    """Apply DNS, KubeRay, S3 and definitions of others' kinds, and wait until each is available."""
    wait_for_node()
    apply(MANIFESTS / "dns.yaml", *definitions())
    _install_kuberay()
    _install_s3()
    for namespace, name in (("kube-system", "coredns"), ("kuberay", "kuberay-operator"), ("s3", "s3")):
        kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", f"--timeout={ROLLOUT_S}s")


def wait_for_node(patience_s: float = 90) -> None:
    """Wait until the node is ready and the default service account exists."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=2s")
            kubectl("-n", "default", "get", "serviceaccount", "default")
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def apply(*paths: Path) -> None:
    """Server-side apply of manifests; KubeRay's CRDs are too large for the client-side kind."""
    for path in paths:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))


def kubectl(*arguments: str, text: str | None = None) -> str:
    """Run the cluster's own kubectl as its administrator; raise RuntimeError with its words when it fails."""
    done = subprocess.run(
        [str(path_of("kubectl")), *arguments],
        env={**os.environ, "KUBECONFIG": str(KUBECONFIG)},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _install_kuberay() -> None:
    folder = STATE / "kuberay"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(MANIFESTS / "kuberay", folder)
    shutil.copytree(kuberay_config(), folder / "config")
    _apply_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: kuberay}\n")
    _apply_text(kubectl("kustomize", str(folder)))


def _install_s3() -> None:
    for folder in (STATE / "s3", STATE / "s3" / "objects", STATE / "s3" / "meta"):
        folder.mkdir(exist_ok=True)
        os.chown(folder, 1000, 1000)
    text = (MANIFESTS / "s3.yaml").read_text().replace("@STATE@", str(STATE))
    _apply_text(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {S3_NAMESPACE}}}\n")
    try:
        kubectl("-n", S3_NAMESPACE, "get", "secret", "s3-root")
    except RuntimeError:
        values = {"ROOT_ACCESS_KEY": f"rollama{secrets.token_hex(4)}", "ROOT_SECRET_KEY": secrets.token_urlsafe(24)}
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s3-root", "namespace": S3_NAMESPACE},
            "data": encoded,
        }
        _apply_text(yaml.safe_dump(secret))
    _apply_text(text)


def _apply_text(text: str) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=text)
