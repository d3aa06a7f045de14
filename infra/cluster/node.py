"""The node: containerd, etcd, control plane, kubelet and kube-proxy as processes, in the order they need each other.

What is unusual about a machine that is itself a small virtual one is set here: cgroup v1, no right to lower the
out-of-memory score, a root file system that other things use too.
"""

from __future__ import annotations

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from infra.cluster.binaries import path_of
from infra.cluster.layout import (
    API_URL,
    CONTAINERD_SOCKET,
    DNS_IP,
    ETCD_PEER_URL,
    ETCD_URL,
    NODE,
    NODE_IP,
    POD_CIDR,
    SERVICE_CIDR,
    STATE,
    TOOLS_IMAGE,
)
from infra.cluster.needs import CNI
from infra.cluster.processes import StartError, check_alive, start

PKI = STATE / "pki"
PATIENCE_S = 120


def start_containerd() -> None:
    """containerd with a root, a state folder and a socket of its own."""
    config = STATE / "containerd.toml"
    config.write_text(f"""version = 2
root = "{STATE}/containerd"
state = "{STATE}/containerd-run"
[grpc]
address = "{CONTAINERD_SOCKET}"
[debug]
level = "warn"
[plugins."io.containerd.internal.v1.opt"]
path = "{STATE}/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{TOOLS_IMAGE}:local"
restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE every sandbox would die otherwise
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI}"
conf_dir = "{STATE}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
""")
    start("containerd", ["containerd", "--config", str(config)])
    _wait("containerd", CONTAINERD_SOCKET.exists)


def start_control_plane() -> None:
    """etcd, API server, controller manager and scheduler; returns when the API server is ready."""
    start(
        "etcd",
        [
            str(path_of("etcd")),
            f"--data-dir={STATE}/etcd",
            "--unsafe-no-fsync",  # a throw-away cluster on a slow disk
            f"--listen-client-urls={ETCD_URL}",
            f"--advertise-client-urls={ETCD_URL}",
            f"--listen-peer-urls={ETCD_PEER_URL}",
            f"--initial-advertise-peer-urls={ETCD_PEER_URL}",
            f"--initial-cluster=default={ETCD_PEER_URL}",
            "--log-level=warn",
        ],
    )
    start(
        "kube-apiserver",
        [
            str(path_of("kube-apiserver")),
            f"--etcd-servers={ETCD_URL}",
            f"--bind-address={NODE_IP}",
            f"--advertise-address={NODE_IP}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--anonymous-auth=false",
            f"--client-ca-file={PKI}/ca.crt",
            f"--tls-cert-file={PKI}/apiserver.crt",
            f"--tls-private-key-file={PKI}/apiserver.key",
            f"--kubelet-client-certificate={PKI}/apiserver-to-kubelet.crt",
            f"--kubelet-client-key={PKI}/apiserver-to-kubelet.key",
            "--kubelet-preferred-address-types=InternalIP",  # the node's name resolves nowhere
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={PKI}/service-accounts.key",
            f"--service-account-signing-key-file={PKI}/service-accounts.key",
        ],
    )
    _wait("kube-apiserver", api_ready)
    for name, more in {
        "kube-controller-manager": [
            f"--root-ca-file={PKI}/ca.crt",
            f"--service-account-private-key-file={PKI}/service-accounts.key",
            "--use-service-account-credentials=true",
            f"--cluster-cidr={POD_CIDR}",
        ],
        "kube-scheduler": [],
    }.items():
        kubeconfig = f"{PKI}/{name}.kubeconfig"
        start(
            name,
            [
                str(path_of(name)),
                f"--kubeconfig={kubeconfig}",
                f"--authentication-kubeconfig={kubeconfig}",
                f"--authorization-kubeconfig={kubeconfig}",
                "--bind-address=127.0.0.1",
                "--leader-elect=false",
                *more,
            ],
        )


def start_node() -> None:
    """kubelet and kube-proxy."""
    _write_yaml(
        STATE / "kubelet.yaml",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_IP,
            "healthzBindAddress": "127.0.0.1",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": f"{PKI}/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [DNS_IP],
            "clusterDomain": "cluster.local",
            "resolvConf": "/dev/null",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            "podLogsDir": f"{STATE}/pod-logs",
            "staticPodPath": "",
            "imageGCHighThresholdPercent": 100,  # images were imported by hand and cannot be pulled again
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        },
    )
    start(
        "kubelet",
        [
            str(path_of("kubelet")),
            f"--config={STATE}/kubelet.yaml",
            f"--kubeconfig={PKI}/kubelet.kubeconfig",
            f"--root-dir={STATE}/kubelet",
            f"--cert-dir={STATE}/kubelet-pki",
            f"--hostname-override={NODE}",
            f"--node-ip={NODE_IP}",
        ],
    )
    _write_yaml(
        STATE / "kube-proxy.yaml",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            # Pods share one bridge: without this, answers from a Service's pod would go back past the translation.
            "iptables": {"masqueradeAll": True},
            "clientConnection": {"kubeconfig": f"{PKI}/kube-proxy.kubeconfig"},
            "clusterCIDR": POD_CIDR,
            "hostnameOverride": NODE,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "nodePortAddresses": [f"{NODE_IP}/32"],
            "conntrack": {"maxPerCore": 0, "min": 0},
        },
    )
    start("kube-proxy", [str(path_of("kube-proxy")), f"--config={STATE}/kube-proxy.yaml"])


def api_ready() -> bool:
    """Whether the API server says it is ready."""
    context = ssl.create_default_context(cafile=str(PKI / "ca.crt"))
    context.load_cert_chain(PKI / "admin.crt", PKI / "admin.key")
    try:
        with urllib.request.urlopen(f"{API_URL}/readyz", context=context, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait(name: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        check_alive(name)
        if time.monotonic() > deadline:
            raise StartError(f"{name} did not become ready in {PATIENCE_S} s")
        time.sleep(0.3)


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content))
