"""Removes everything a test cluster made, whatever state it is in: after `down`, a crash, or a half-finished `up`."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path

from infra.cluster import network
from infra.cluster.binaries import path_of
from infra.cluster.images import ctr
from infra.cluster.layout import CONTAINERD_SOCKET, STATE
from infra.cluster.processes import end, recorded, stop, with_argument

NAMESPACES = Path("/run/netns")
LOG_LINKS = Path("/var/log/containers")
"""Links to logs that kubelet always makes, wherever its own folders are."""
CGROUPS = Path("/sys/fs/cgroup")
REMEMBERED = "netns-before.json"


def remember_namespaces() -> None:
    """Note which network namespaces were there before the cluster; those stay."""
    (STATE / REMEMBERED).write_text(json.dumps(sorted(item.name for item in _namespaces())))


def run() -> None:
    """Tear down, in an order in which nothing starts anew what was just ended."""
    for name in ("kubelet", "kube-scheduler", "kube-controller-manager"):
        stop(name)
    _end_containers()
    for name in ("kube-proxy", "kube-apiserver", "etcd", "containerd"):
        stop(name)
    for pid in _shims():
        end(pid, patience_s=2)
    _unmount()
    for item in _new_namespaces():
        subprocess.run(["ip", "netns", "delete", item.name], capture_output=True, check=False)
    proxy = path_of("kube-proxy")
    if proxy.is_file() and network.foreign_chains():
        subprocess.run([str(proxy), "--cleanup"], capture_output=True, check=False)
    network.remove()
    _remove_cgroups()
    for link in _log_links():
        link.unlink()
    if STATE.exists():
        shutil.rmtree(STATE)


def leftovers() -> list[str]:
    """What is still there of a cluster; empty after a clean `down`."""
    found = [f"process {name} ({pid})" for name, pid in recorded().items()]
    found += [f"process containerd-shim ({pid})" for pid in _shims()]
    found += [f"mount {path}" for path in _mounts()]
    found += [f"cgroup {path}" for path in _cgroups()]
    found += [f"link {path}" for path in _log_links()]
    if network.bridge_exists():
        found.append("the bridge")
    if network.foreign_chains():
        found.append("firewall chains")
    if STATE.exists():
        found.append(str(STATE))
    return found


def _end_containers() -> None:
    if "containerd" not in recorded():
        return
    with contextlib.suppress(RuntimeError):
        for identifier in ctr("tasks", "list", "-q").split():
            with contextlib.suppress(RuntimeError):
                ctr("tasks", "kill", "--signal", "SIGKILL", identifier)
        deadline = time.monotonic() + 20
        while "RUNNING" in ctr("tasks", "list") and time.monotonic() < deadline:
            time.sleep(0.3)
        for identifier in ctr("containers", "list", "-q").split():
            with contextlib.suppress(RuntimeError):
                ctr("tasks", "delete", "--force", identifier)
            with contextlib.suppress(RuntimeError):
                ctr("containers", "delete", identifier)


def _shims() -> list[int]:
    return with_argument("containerd-shim-runc-v2", str(CONTAINERD_SOCKET))


def _mounts() -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    paths = [line.split()[1].replace("\\040", " ") for line in lines]
    return sorted((path for path in paths if path.startswith(f"{STATE}/")), reverse=True)


def _unmount() -> None:
    for path in _mounts():
        subprocess.run(["umount", "--lazy", path], capture_output=True, check=False)


def _namespaces() -> list[Path]:
    return sorted(NAMESPACES.glob("cni-*")) if NAMESPACES.is_dir() else []


def _new_namespaces() -> list[Path]:
    path = STATE / REMEMBERED
    if not path.is_file():
        return []
    before = set(json.loads(path.read_text()))
    return [item for item in _namespaces() if item.name not in before]


def _log_links() -> list[Path]:
    links = LOG_LINKS.iterdir() if LOG_LINKS.is_dir() else ()
    return [item for item in links if item.is_symlink() and str(item.readlink()).startswith(f"{STATE}/")]


def _cgroups() -> list[Path]:
    return sorted(CGROUPS.glob("*/kubepods"))


def _remove_cgroups() -> None:
    for top in _cgroups():
        folders = sorted((item for item in top.rglob("*") if item.is_dir()), reverse=True)
        for folder in [*folders, top]:
            with contextlib.suppress(OSError):  # a busy one shows up in `leftovers`
                folder.rmdir()
