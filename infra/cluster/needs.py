"""Says in one message what the machine lacks for the test cluster, before anything is started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

# program -> Debian package
PROGRAMS = {
    "containerd": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nft": "nftables",
    "ip": "iproute2",
    "mount": "mount",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}
CNI = Path("/usr/lib/cni")
GO = (1, 24)


def lacking() -> list[str]:
    """One line for each thing that is missing, with its remedy; empty when the cluster can be made."""
    found: list[str] = []
    if os.geteuid() != 0:
        found.append("root: containers, mounts and network interfaces need it (run as root, or set ROLLAMA_KUBECONFIG)")
    packages = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if not (CNI / "bridge").is_file():
        packages.add("containernetworking-plugins")
    if packages:
        found.append(
            f"Debian packages: {' '.join(sorted(packages))} (make cluster-install, or apt-get install of the same)"
        )
    version = go_version()
    if version is None:
        found.append(f"Go {GO[0]}.{GO[1]} or newer on PATH (to build Kubernetes and KubeRay from their modules)")
    elif version < GO:
        found.append(f"Go {GO[0]}.{GO[1]} or newer; this is {version[0]}.{version[1]}")
    return found


def go_version() -> tuple[int, int] | None:
    """Major and minor version of the `go` on PATH, None without one."""
    if shutil.which("go") is None:
        return None
    text = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
