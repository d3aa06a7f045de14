"""Builds the cluster's programs from their Go modules, each once a version.

The modules in `modules/` pin the versions and, by their go.sum, the content. A built program lies in a folder named
after the hash of all that went into it, so an older checkout finds its own programs and a newer one builds its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.cluster.layout import BUILT, MODULES

KUBERNETES_VERSION = "1.34.4"
_STAMP = "-X k8s.io/component-base/version."
KUBERNETES_STAMP = " ".join(
    f"{_STAMP}{key}={value}"
    for key, value in {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": "1", "gitMinor": "34"}.items()
)
ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly -trimpath"}


class BuildError(RuntimeError):
    """A program could not be built; the message ends with the compiler's own words."""


@dataclass(frozen=True)
class Program:
    """One command of a Go module, and the name its binary gets."""

    module: str
    package: str
    name: str
    stamp: str = ""


PROGRAMS = (
    Program("etcd", "go.etcd.io/etcd/server/v3", "etcd"),
    Program("versitygw", "github.com/versity/versitygw/cmd/versitygw", "versitygw"),
    Program("coredns", "github.com/coredns/coredns", "coredns"),
    Program("kuberay", "github.com/ray-project/kuberay/ray-operator", "kuberay-operator"),
    Program("helm", "helm.sh/helm/v3/cmd/helm", "helm"),
    *(
        Program("kubernetes", f"k8s.io/kubernetes/cmd/{name}", name, KUBERNETES_STAMP)
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        )
    ),
    Program("pause", ".", "pause"),
)
BY_NAME = {program.name: program for program in PROGRAMS}


def path_of(name: str) -> Path:
    """Where the program `name` lies once it is built."""
    program = BY_NAME[name]
    return BUILT / f"{program.module}-{_key(program)}" / name


def kuberay_config() -> Path:
    """KubeRay's own manifests (CRDs, RBAC, Deployment) as its module ships them, beside the operator's program."""
    return path_of("kuberay-operator").parent / "config"


def missing() -> list[Program]:
    """The programs that are still to be built."""
    return [program for program in PROGRAMS if not path_of(program.name).is_file()]


def build(program: Program) -> Path:
    """Build one program under a temporary name and move it into place.

    Raises:
        BuildError: the module cannot be fetched or does not compile.
    """
    path = path_of(program.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{program.name}.new")
    go(
        ["build", "-ldflags", f"-s -w {program.stamp}".strip(), "-o", str(temporary), program.package],
        MODULES / program.module,
    )
    if program.name == "kuberay-operator":
        _copy_kuberay_config(path.parent / "config")
    temporary.replace(path)
    return path


def build_missing(told: Callable[[Program, int, int], None]) -> None:
    """Build what is not there; `told(program, index, count)` is called before each."""
    todo = missing()
    for index, program in enumerate(todo):
        told(program, index, len(todo))
        build(program)


def _copy_kuberay_config(target: Path) -> None:
    # Not `go list`: it names no folder for a module that is not on this machine yet.
    module = go(["mod", "download", "-json", "github.com/ray-project/kuberay/ray-operator"], MODULES / "kuberay")
    folder = json.loads(module)["Dir"]
    temporary = target.with_name(".config.new")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(Path(folder) / "config", temporary, copy_function=shutil.copyfile)
    for item in [temporary, *temporary.rglob("*")]:
        item.chmod(0o755 if item.is_dir() else 0o644)  # the module cache is read-only
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def go(arguments: list[str], folder: Path) -> str:
    """Run `go` in the folder of a module; its output.

    Raises:
        BuildError: it fails.
    """
    done = subprocess.run(
        ["go", *arguments], cwd=folder, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BuildError(f"go {arguments[0]} in {folder.name}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def folder_key(module: Path, settings: object) -> str:
    """Twelve digits of the hash of a module's folder and of what else decides what is made from it."""
    digest = hashlib.sha256(repr(settings).encode())
    for item in sorted(module.iterdir()):
        digest.update(item.name.encode() + item.read_bytes())
    return digest.hexdigest()[:12]


def _key(program: Program) -> str:
    return folder_key(MODULES / program.module, (program, sorted(ENVIRONMENT.items())))
