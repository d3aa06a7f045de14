"""The release under test as its tests see it: helm's verbs, pods, replicas; the endpoint's address and keys."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve.auth import digest
from tests.live.kube import Kube, until
from tests.live.setting import OWN, helm, secret

NOTE = "Left breast cancer, pT1 N1, breast-conserving surgery."
NOTES = (NOTE, f"{NOTE} Age 50.")
PLAN = (
    "Side: left. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
ENDPOINT = "app.kubernetes.io/component=endpoint"
HEAD = f"ray.io/node-type=head,{ENDPOINT}"
QUICK = {"look_back_period_s": 2, "upscale_delay_s": 2, "downscale_delay_s": 5}
"""Of replicas that come and go in a test, not in ten minutes."""
SERVED = """
import json, os, urllib.request
request = urllib.request.Request("http://localhost:8265/api/serve/applications/",
                                 headers={"Authorization": "Bearer " + os.environ["RAY_AUTH_TOKEN"]})
found = json.load(urllib.request.urlopen(request))["applications"]["rollama"]["deployments"]
print(json.dumps({name: [item["state"] for item in one["replicas"]] for name, one in found.items()}))
"""


@dataclass(frozen=True)
class Release:
    """The release, what it was installed with, and a folder for further values."""

    kube: Kube
    values: dict[str, Any]
    models: Path
    ct: Path
    folder: Path

    def upgrade(self, *options: str, **serve: Any) -> None:
        """`helm upgrade --reuse-values` with other values of `serve`."""
        helm(self.kube, "upgrade", {"serve": serve} if serve else {}, self.folder, "--reuse-values", *options)

    def pods(self) -> list[tuple[str, int]]:
        """Name of each pod of the endpoint, and how often it was restarted."""
        found = self.kube.get("pods", "-l", ENDPOINT)["items"]
        return sorted(
            (pod["metadata"]["name"], pod["status"]["containerStatuses"][0]["restartCount"])
            for pod in found
            if pod["status"].get("containerStatuses")
        )

    def head(self) -> str:
        """Name of the head pod of the cluster that serves."""
        active = self.kube.get("rayservice", "rollama")["status"]["activeServiceStatus"]["rayClusterName"]
        (pod,) = self.kube.get("pods", "-l", f"{HEAD},ray.io/cluster={active}")["items"]
        return str(pod["metadata"]["name"])

    def errors(self) -> str:
        """What the endpoint's processes warned of last: kinds, places and request ids, no texts."""
        command = "cat /tmp/ray/session_latest/logs/*.err | grep -E '\"(WARNING|ERROR)\"' | tail -n 12"
        return self.kube.run("exec", self.head(), "-c", "ray", "--", "sh", "-c", command, check=False)

    def replicas(self) -> dict[str, int]:
        """Running replicas of each deployment, as Ray's dashboard says."""
        said = self.kube.run("exec", self.head(), "-c", "ray", "--", "python", "-c", SERVED)
        return {name: states.count("RUNNING") for name, states in json.loads(said.splitlines()[-1]).items()}


@dataclass
class Endpoint:
    """An address that pods of any of the release's clusters answer (till its RayService is made anew), and the key."""

    url: str
    key: str = field(repr=False)

    def ready(self) -> bool:
        """Whether it answers that it is; a Service leads nowhere for a moment after its pods are ready."""
        try:
            with self.client() as client:
                return client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def client(self, key: str = "", **options: Any) -> httpx.Client:
        """A client with this key, else the one that may do everything."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=options.pop("timeout", 120), **options)


@dataclass
class Listed:
    """The list of keys that the release reads, and how to give out a new one."""

    kube: Kube
    key: str = field(default="", repr=False)

    def rotate(self) -> str:
        """Write a list with a new key; the old one, which is on it no longer."""
        old, self.key = self.key, secrets.token_urlsafe(32)
        text = yaml.safe_dump({"keys": [{"name": "clinic", "sha256": digest(self.key).hex(), "scopes": ["texts"]}]})
        self.kube.apply(secret("keys", **{"keys.yaml": text}))
        return old


@contextmanager
def reached(kube: Kube) -> Iterator[str]:
    """Address of the endpoint's Service as this machine reaches it.

    On the test cluster this machine is the node, and the Service leads to whichever cluster serves. Elsewhere a
    forwarded port leads to one pod, and ends with it.
    """
    if not OWN:
        address = until(lambda: kube.get("service", "rollama-serve-svc")["spec"]["clusterIP"], 30, "the Service")
        yield f"http://{address}:8000"
        return
    command = [kube.kubectl_path, "-n", kube.namespace, "port-forward", "service/rollama-serve-svc", ":8000"]
    forward = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=kube.environment())
    try:
        assert forward.stdout is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
        assert found, "kubectl port-forward did not say its port"
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        forward.terminate()
        forward.communicate(timeout=10)


def over(client: httpx.Client, job: str) -> dict[str, object] | None:
    """The job when it is over; None while it is not, or nobody answers."""
    try:
        body: dict[str, object] = client.get(f"/v1/jobs/{job}").json()
    except (httpx.TransportError, ValueError):
        return None
    return body if body.get("state") in ("done", "failed", "cancelled") else None
