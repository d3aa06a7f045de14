"""kubectl, helm and the `rollama` command as subprocesses against one cluster and namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.signals import hear_ctrl_c

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Kube:
    """A cluster as one account sees it."""

    kubeconfig: Path
    kubectl_path: str
    helm_path: str
    namespace: str = "default"

    def of(self, namespace: str) -> Kube:
        """The same account in another namespace."""
        return replace(self, namespace=namespace)

    def run(self, *arguments: str, text: str | None = None, check: bool = True, timeout: float = 180) -> str:
        """kubectl in the namespace; its output."""
        return self._call([self.kubectl_path, "-n", self.namespace, *arguments], text, check, timeout)

    def helm(self, *arguments: str, check: bool = True, timeout: float = 300) -> str:
        """helm in the namespace; its output."""
        return self._call([self.helm_path, "-n", self.namespace, *arguments], None, check, timeout)

    def get(self, *arguments: str) -> Any:
        """kubectl get as JSON."""
        return json.loads(self.run("get", *arguments, "-o", "json"))

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", text=body)

    def _call(self, command: list[str], text: str | None, check: bool, timeout: float) -> str:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=timeout, env=self.environment()
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command[1:])}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + ("" if check else done.stderr)

    def environment(self, **more: str) -> dict[str, str]:
        """This process's environment with the kubeconfig, without keys of an object store."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "ROLLAMA_SITE"))}
        return {**kept, "KUBECONFIG": str(self.kubeconfig), "ROLLAMA_KUBECONFIG": str(self.kubeconfig), **more}

    def rollama(self, *arguments: str, timeout: float = 600, **env: str) -> subprocess.CompletedProcess[str]:
        """The command line as its user runs it."""
        return subprocess.run(
            [str(BIN / "rollama"), *arguments], capture_output=True, text=True, check=False, timeout=timeout,
            env=self.environment(**env),
        )  # fmt: skip

    def start(self, *arguments: str, apart: bool = False, **env: str) -> subprocess.Popen[str]:
        """The command line in the background; `apart` keeps stderr from stdout."""
        stderr = subprocess.PIPE if apart else subprocess.STDOUT
        return subprocess.Popen(
            [str(BIN / "rollama"), *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=self.environment(**env), preexec_fn=hear_ctrl_c,
        )  # fmt: skip


def until(condition: Callable[[], Any], patience_s: float, what: str) -> Any:
    """Wait for a true value and return it."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
        time.sleep(1)
    return found


def with_site(site: Kube, folder: Path, **changes: object) -> str:
    """Path of a site file like the chart's, with other values."""
    values = yaml.safe_load(site.get("configmap", "rollama-site")["data"]["site.yaml"])
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump({**values, "namespace": site.namespace, **changes}))
    return str(path)
