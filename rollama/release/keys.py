"""Ed25519 keys of people and jobs: who may sign protocols, releases and approvals, and how keys are taken out of use.

    keys/protocol/*.pem    who may say what a release must show
    keys/release/*.pem     who may write verdicts and the release history (a CI job's key, for example)
    keys/approval/*.pem    who may approve
    keys/retired.yaml      keys that sign nothing new, and the last record that each of them may have signed

Only public keys lie there. A key is named by the SHA-256 of its raw public half, so a file's name means nothing. "Old"
and "new" are told apart by the number of a record, not by a time: whoever holds a retired key can write any date.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rollama.core.config import StrictModel, build, read_yaml
from rollama.core.errors import ConfigError, ReleaseError
from rollama.core.files import write_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SHA256 = r"^[0-9a-f]{64}$"
RETIRED = "retired.yaml"
SIGNATURE = ".sig"
"""Ending of a detached signature, after the signed file's whole name."""


class Role(StrEnum):
    """What a key may sign."""

    PROTOCOL = "protocol"
    RELEASE = "release"
    APPROVAL = "approval"


class Signature(StrictModel):
    """A detached signature; `key` is the id of the public key."""

    key: str = Field(pattern=SHA256)
    algorithm: Literal["ed25519"] = "ed25519"
    signature: str = Field(description="base64")


class NotTrusted(ReleaseError):
    """A signature is missing, wrong, or of a key that may not make it."""


class _Retired(StrictModel):
    key: str = Field(pattern=SHA256)
    last_record: int = Field(ge=0)


class _RetiredFile(StrictModel):
    retired: tuple[_Retired, ...] = ()


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 (hex) of the raw public key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def make_key(private: Path, publics: list[Path]) -> str:
    """Write a new private key (readable by its owner only) and its public half; return its id.

    Raises:
        ConfigError: one of the files is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    for path in (private, *publics):
        if path.exists():
            raise ConfigError(f"{path}: is there already; a key is never written over, choose another name")
    key = Ed25519PrivateKey.generate()
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except OSError as error:
        raise ConfigError(f"{private}: cannot be written ({error.strerror})") from error
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for path in publics:
        write_text(path, pem)
    return key_id(key.public_key())


def load_private(path: Path) -> Ed25519PrivateKey:
    """A private key in PEM, as `make_key` or `openssl genpkey -algorithm ed25519` write it.

    Raises:
        ConfigError: unreadable, or another kind of key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: not a readable private key in PEM without a password ({type(error).__name__})"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: not an Ed25519 key; make one: rollama release keygen")
    return key


def sign(key: Ed25519PrivateKey, role: Role, payload: bytes) -> Signature:
    """Sign bytes for one purpose; a signature made for another purpose does not verify."""
    return Signature(
        key=key_id(key.public_key()), signature=base64.b64encode(key.sign(_message(role, payload))).decode()
    )


def canonical(value: Any) -> bytes:
    """The bytes of a JSON value that are signed: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _message(role: Role, payload: bytes) -> bytes:
    return f"rollama {role} 1\n{hashlib.sha256(payload).hexdigest()}".encode()


@dataclass(frozen=True)
class Trust:
    """The public keys of one folder, by role and id; `retired` maps an id to the last record it may have signed."""

    folder: Path
    keys: dict[Role, dict[str, Any]] = field(repr=False)
    retired: dict[str, int]

    @classmethod
    def open(cls, folder: Path) -> Trust:
        """Read a folder of public keys.

        Raises:
            ConfigError: no such folder, or a file in it is no Ed25519 public key.
        """
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder of trusted keys; make a key: rollama release keygen")
        found: dict[Role, dict[str, Any]] = {}
        for role in Role:
            keys = (_load_public(path) for path in sorted((folder / role).glob("*.pem")))
            found[role] = {key_id(key): key for key in keys}
        retired = folder / RETIRED
        listed = build(_RetiredFile, read_yaml(retired), str(retired)).retired if retired.exists() else ()
        return cls(folder, found, {item.key: item.last_record for item in listed})

    def check(self, role: Role, payload: bytes, signature: Signature, what: str, record: int | None = None) -> None:
        """Accept a signature, or say why not.

        Args:
            role: what it must be for.
            payload: the signed bytes.
            signature: over them.
            what: names the signed thing in messages.
            record: its number, where it is a record of the history; everything else counts as new.

        Raises:
            NotTrusted: the key is unknown, retired or of another role, or the bytes were changed.
        """
        from cryptography.exceptions import InvalidSignature

        short = signature.key[:16]
        key = self.keys[role].get(signature.key)
        if key is None:
            others = [other for other in Role if signature.key in self.keys[other]]
            told = f"is trusted for {', '.join(others)} only" if others else "is not trusted"
            raise NotTrusted(
                f"{what}: signed by key {short}, which {told}; keys that may sign it lie in {self.folder / role}"
            )
        last = self.retired.get(signature.key)
        if last is not None and (record is None or record > last):
            raise NotTrusted(
                f"{what}: signed by key {short}, which is retired (last record {last}); sign it anew with a key in use"
            )
        try:
            key.verify(base64.b64decode(signature.signature, validate=True), _message(role, payload))
        except (InvalidSignature, ValueError):
            raise NotTrusted(f"{what}: the signature does not fit; the file was changed after it was signed") from None

    def check_signer(self, role: Role, key: Ed25519PrivateKey, path: Path) -> None:
        """Refuse a private key whose signatures nobody would accept, before work is done with it.

        Raises:
            NotTrusted: its public half is not trusted for the role, or retired.
        """
        self.check(role, b"", sign(key, role, b""), f"{path}")


def retire(folder: Path, key: str, last_record: int) -> None:
    """Take a key out of use: what it signed up to a record of the history stays good.

    Raises:
        ConfigError: the folder does not know the key, or it is retired already.
    """
    trust = Trust.open(folder)
    matches = {known for keys in trust.keys.values() for known in keys if known.startswith(key)} if key else set()
    if len(matches) != 1:
        raise ConfigError(
            f"{key!r}: {len(matches)} keys in {folder} begin so; give more of the id (rollama release keys)"
        )
    (found,) = matches
    if found in trust.retired:
        raise ConfigError(f"key {found[:16]} is retired already (last record {trust.retired[found]})")
    lines = ["# Keys that sign nothing new; records of the history up to last_record stay good.", "retired:"]
    for name, last in sorted({**trust.retired, found: last_record}.items()):
        lines.append(f"  - {{key: {name}, last_record: {last}}}")
    write_text(folder / RETIRED, "\n".join(lines) + "\n")


def sign_file(path: Path, key: Ed25519PrivateKey, role: Role, data: bytes) -> Path:
    """Write the detached signature of a file's bytes beside it."""
    beside = path.with_name(path.name + SIGNATURE)
    write_text(beside, json.dumps(sign(key, role, data).model_dump(), indent=2) + "\n")
    return beside


def read_signature(data: bytes | None, source: str) -> Signature:
    """A detached signature.

    Raises:
        NotTrusted: there is none, or it is not readable.
    """
    if data is None:
        raise NotTrusted(f"{source}: there is no signature; somebody who may has to sign first")
    try:
        return build(Signature, json.loads(data), source)
    except (ValueError, ConfigError) as error:
        raise NotTrusted(f"{source}: not a signature that can be read") from error


def check_file(path: Path, data: bytes, trust: Trust, role: Role) -> Signature:
    """Check a file's bytes against the signature beside it; returns that.

    Raises:
        NotTrusted: see `Trust.check`, and no signature.
    """
    beside = path.with_name(path.name + SIGNATURE)
    signature = read_signature(beside.read_bytes() if beside.is_file() else None, str(beside))
    trust.check(role, data, signature, str(path))
    return signature


def _load_public(path: Path) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a readable public key in PEM ({type(error).__name__})") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: not an Ed25519 key")
    return key
