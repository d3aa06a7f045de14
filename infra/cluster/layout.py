"""Where the test cluster keeps its files, and its fixed addresses.

The node's address is the gateway of the pod network, on a bridge that only this machine sees: nothing listens on an
outside interface, and the cluster needs no network at all once its images are there.
"""

from __future__ import annotations

import os
from pathlib import Path

HOME = Path(os.environ.get("ROLLAMA_CLUSTER_HOME") or Path.home() / ".cache" / "rollama" / "cluster")
BUILT = HOME / "built"  # programs, one folder a module and version; kept
IMAGES = HOME / "images"  # image archives; kept
STATE = HOME / "state"  # everything a running cluster writes; `down` removes it
LOGS = HOME / "logs"  # of the last cluster; `up` empties it

MODULES = Path(__file__).with_name("modules")
MANIFESTS = Path(__file__).with_name("manifests")

KUBECONFIG = STATE / "kubeconfig"
CONTAINERD_SOCKET = STATE / "containerd.sock"

NODE = "rollama-test"
BRIDGE = "rollama0"
NODE_IP = "10.89.0.1"
POD_CIDR = "10.89.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
API_IP = "10.96.0.1"
DNS_IP = "10.96.0.10"
API_URL = f"https://{NODE_IP}:6443"
ETCD_URL = "http://127.0.0.1:23790"
ETCD_PEER_URL = "http://127.0.0.1:23800"

TOOLS_IMAGE = "rollama.test/tools"  # pause, CoreDNS, the operator and the S3 server: static programs from scratch
S3_NAMESPACE = "s3"
