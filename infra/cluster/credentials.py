"""One throw-away certificate authority and the identities of the cluster's parts.

Keys live in the state folder with mode 0600 and go with it; certificates are valid for a week.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from infra.cluster.layout import API_IP, API_URL, NODE, NODE_IP

VALID = datetime.timedelta(days=7)
# file name -> (common name, organisation): the names that Kubernetes' own RBAC rules expect
CLIENTS = {
    "admin": ("rollama-test-admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", None),
    "kube-scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "apiserver-to-kubelet": ("kube-apiserver", "system:masters"),
}
SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", NODE)


def write_credentials(folder: Path) -> None:
    """Write `NAME.crt` and `NAME.key` of all parties, `NAME.kubeconfig` of the clients, and `service-accounts.key`."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rollama test cluster")])
    authority = (
        _builder(name, name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    _write(folder, "ca", authority, authority_key)
    addresses = [x509.IPAddress(ipaddress.ip_address(item)) for item in ("127.0.0.1", NODE_IP, API_IP)]
    names = x509.SubjectAlternativeName([*(x509.DNSName(item) for item in SERVER_NAMES), *addresses])
    for file, (common, organisation) in {"apiserver": ("kube-apiserver", None), **CLIENTS}.items():
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
        if organisation:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
        builder = _builder(x509.Name(attributes), name, key.public_key())
        if file == "apiserver":
            usage = ExtendedKeyUsageOID.SERVER_AUTH
            builder = builder.add_extension(names, critical=False)
        else:
            usage = ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        _write(folder, file, builder.sign(authority_key, hashes.SHA256()), key)
        if file in CLIENTS:
            _write_private(folder / f"{file}.kubeconfig", kubeconfig(folder, file).encode())
    _write_private(
        folder / "service-accounts.key", _private(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    )


def kubeconfig(folder: Path, client: str) -> str:
    """A kubeconfig for one client, with its key inside."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": NODE,
                    "cluster": {"server": API_URL, "certificate-authority-data": _data(folder / "ca.crt")},
                }
            ],
            "users": [
                {
                    "name": client,
                    "user": {
                        "client-certificate-data": _data(folder / f"{client}.crt"),
                        "client-key-data": _data(folder / f"{client}.key"),
                    },
                }
            ],
            "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": client}}],
            "current-context": NODE,
        }
    )


def _builder(subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + VALID)
    )


def _write(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_private(folder / f"{name}.key", _private(key))


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
