"""The pod network: one bridge with addresses of its own; and the removal of every trace of it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from infra.cluster.layout import BRIDGE, NODE_IP, POD_CIDR, STATE

# chains that Kubernetes and the CNI plugins make; `up` refuses a machine that has them already
OURS = re.compile(r"(KUBE-|CNI-)")

FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
FORWARDED_BEFORE = STATE / "ip_forward"


def make_bridge() -> None:
    """Create the bridge with the node's address, and the configuration that puts pods on it."""
    if not bridge_exists():
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "replace", f"{NODE_IP}/{POD_CIDR.rpartition('/')[2]}", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    if not FORWARDED_BEFORE.is_file():
        FORWARDED_BEFORE.write_text(FORWARDING.read_text())
    FORWARDING.write_text("1\n")
    folder = STATE / "cni"
    folder.mkdir(parents=True, exist_ok=True)
    plugins = [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": f"{STATE}/cni-addresses",
                "ranges": [[{"subnet": POD_CIDR, "rangeStart": "10.89.1.0", "gateway": NODE_IP}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    (folder / "10-rollama.conflist").write_text(
        json.dumps({"cniVersion": "0.4.0", "name": "rollama", "plugins": plugins})
    )


def bridge_exists() -> bool:
    """Whether the bridge is there."""
    return subprocess.run(["ip", "link", "show", BRIDGE], capture_output=True, check=False).returncode == 0


def foreign_chains() -> bool:
    """Whether the machine's firewall holds chains of Kubernetes or CNI."""
    return any(OURS.search(_save(tool)) for tool in ("iptables", "ip6tables"))


def remove() -> None:
    """Remove the bridge (pods' interfaces go with their namespaces) and every chain of ours."""
    if FORWARDED_BEFORE.is_file():
        FORWARDING.write_text(FORWARDED_BEFORE.read_text())
    if bridge_exists():
        _run("ip", "link", "delete", BRIDGE)
    for tool in ("iptables", "ip6tables"):
        rules = _save(tool)
        if OURS.search(rules):
            kept = "\n".join(line for line in rules.splitlines() if not OURS.search(line)) + "\n"
            subprocess.run([f"{tool}-restore"], input=kept, text=True, check=True, capture_output=True)


def _save(tool: str) -> str:
    return subprocess.run([f"{tool}-save"], capture_output=True, text=True, check=False).stdout


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
