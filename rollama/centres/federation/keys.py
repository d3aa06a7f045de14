"""Keys and certificates of a federation: a site's key pair, and a certificate inside the coordinator.

The certificate that sites see is the coordinator's own, from whoever signs certificates for it.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from rollama.core.errors import ConfigError
from rollama.core.files import new_file

VALID = datetime.timedelta(days=3650)


def make_site_key(path: Path) -> Path:
    """Write a private key (readable by its owner only) and its public key beside it, `<path>.pub`; returns the latter.

    Raises:
        ConfigError: there is a key already; it would be lost.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if path.exists():
        raise ConfigError(f"{path}: there is a key already; the coordinator knows the site by it")
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    _write_secret(path, private)
    shown = path.with_name(path.name + ".pub")
    with new_file(shown) as temporary:
        temporary.write_bytes(public + b"\n")
    return shown


def make_certificate(folder: Path, name: str, hosts: list[str]) -> tuple[Path, Path, Path]:
    """A certificate authority of its own and a certificate for `hosts` signed by it: (authority, certificate, key).

    What is there already is kept.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    paths = folder / "ca.pem", folder / "cert.pem", folder / "cert.key"
    if all(path.is_file() for path in paths):
        return paths
    now = datetime.datetime.now(datetime.UTC)
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def called(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def base(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(called(subject))
            .issuer_name(called(f"{name} authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + VALID)
        )

    root = (
        base(f"{name} authority", authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    leaf = (
        base(name, own.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
        .sign(authority, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    secret = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, content in zip(paths[:2], (root, leaf), strict=True):
        path.write_bytes(content.public_bytes(serialization.Encoding.PEM))
    _write_secret(paths[2], secret)
    return paths


def _write_secret(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
