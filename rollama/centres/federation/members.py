"""Whose keys the coordinator lets in, as a folder of public keys: `north.pub` is the site north.

Registering by hand changes Flower's database and nothing else, so nobody can read afterwards who should be in it. With
a folder (a ConfigMap on a cluster, a folder under version control elsewhere) the list is a file: at each start of the
coordinator keys that are new are registered, and nodes whose key is not in the folder any more are turned out. Flower
takes a key once: a site that was turned out needs a new one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rollama.centres.federation import processes
from rollama.centres.federation.processes import Coordinator
from rollama.core.errors import ClusterError, ConfigError

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
GONE = "unregistered"
"""Flower's word for a node that was turned out; its key stays in the database."""


@dataclass(frozen=True)
class Node:
    """A key that Flower knows: `key` is PEM, `status` registered, online, offline or unregistered."""

    number: str
    name: str
    key: bytes
    status: str


def read_keys(folder: Path) -> dict[str, tuple[Path, bytes]]:
    """Public keys of a folder: site -> (file, key as PEM).

    Raises:
        ConfigError: there is none, a name is odd, or a file is no public key of an elliptic curve.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    found: dict[str, tuple[Path, bytes]] = {}
    for path in sorted(folder.glob("*.pub")):
        if not NAME.match(path.stem):
            raise ConfigError(f"{path}: a site's name is letters, digits, - and _")
        try:
            key = serialization.load_ssh_public_key(path.read_bytes())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{path}: no public key ({error}); 'rollama federation key' makes one") from error
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ConfigError(f"{path}: a {type(key).__name__}; 'rollama federation key' makes one that Flower takes")
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        if twin := next((name for name, (_, other) in found.items() if other == pem), None):
            raise ConfigError(f"{path}: the key of {twin} as well; each site has its own")
        found[path.stem] = path, pem
    if not found:  # else a mount that is empty for a moment would turn everybody out, for good
        raise ConfigError(f"{folder}: no site's key in it; expected NAME.pub for each site")
    return found


def nodes(where: Coordinator) -> list[Node]:
    """Every key that the SuperLink knows. Flower's command line shows neither names nor keys, so its API is asked.

    Raises:
        ClusterError: no answer.
    """
    import httpx
    from flwr.proto.control_pb2 import ListNodesRequest
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    client = ControlHttpClient.from_server_address(
        server_address=f"127.0.0.1:{where.port}", insecure=False, root_certificates=where.authority.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )  # fmt: skip
    try:
        answer = client.ListNodes(ListNodesRequest())
    except (httpx.HTTPError, ValueError) as error:
        raise ClusterError(f"the SuperLink does not list its nodes ({type(error).__name__}: {error})") from error
    finally:
        client.close()
    return [Node(str(node.node_id), node.name, node.public_key, node.status) for node in answer.nodes_info]


def keep(where: Coordinator, folder: Path) -> list[str]:
    """Make the SuperLink's nodes those of a folder of keys; what was done, a sentence each.

    Raises:
        ConfigError: see `read_keys`.
        ClusterError: the SuperLink refused or does not answer.
    """
    wanted, known = read_keys(folder), nodes(where)
    said: list[str] = []
    keys = {key for _, key in wanted.values()}
    for node in known:
        if node.status != GONE and node.key not in keys:
            processes.flwr(where, "supernode", "unregister", node.number, processes.CONNECTION)
            said.append(f"{node.name or node.number}: turned out, as its key is not in {folder}")
    status = {node.key: node.status for node in known}
    for name, (path, key) in wanted.items():
        if key not in status:
            said.append(f"{name}: registered as node {register(where, path, name)}")
        elif status[key] == GONE:
            said.append(
                f"{name}: not let in: its key was turned out before, and Flower takes none twice; make a new one"
            )
    return said


def register(where: Coordinator, public: Path, name: str) -> str:
    """Let a site in; the number of its node."""
    answer = processes.flwr(where, "supernode", "register", str(public), processes.CONNECTION, "--name", name)
    return str(answer.get("node-id", "?"))
