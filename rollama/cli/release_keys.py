"""`rollama release init|keygen|keys|retire-key|sign-protocol|approve`: what people do beside the gate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer
from rich.console import Console

CONFIG = typer.Option(None, "--config", help="The site's file. Default: variable ROLLAMA_RELEASES, else releases.yaml.")
KEY = typer.Option(..., "--key", help="Ed25519 private key in PEM; it is read and kept nowhere.")


class Purpose(StrEnum):
    """What a key may sign (the values of `rollama.release.keys.Role`, which `--help` need not load)."""

    PROTOCOL = "protocol"
    RELEASE = "release"
    APPROVAL = "approval"


def init(folder: Path = typer.Argument(..., help="Folder to make; it must not hold these files yet.")) -> None:
    """Begin: write releases.yaml and an example protocol.yaml, both commented, and the folders for public keys.

    Next: 'rollama release keygen' for each person and for the job that releases, then 'rollama release sign-protocol'.
    """
    from rollama.core.errors import ConfigError
    from rollama.core.files import write_text
    from rollama.release.keys import Role
    from rollama.release.protocol import example
    from rollama.release.site import EXAMPLE, FILE

    texts = {folder / FILE: EXAMPLE, folder / "protocol.yaml": example()}
    for path in texts:
        if path.exists():
            raise ConfigError(f"{path}: is there already; choose another folder")
    for path, text in texts.items():
        write_text(path, text)
    for role in Role:
        (folder / "keys" / role).mkdir(parents=True, exist_ok=True)
    Console(stderr=True).print(f"{folder}: {FILE}, protocol.yaml and keys/ are there", highlight=False, soft_wrap=True)


def keygen(
    private: Path = typer.Argument(..., help="Where the private key goes; keep it where nobody else reads it."),
    role: list[Purpose] = typer.Option(..., "--role", help="What it may sign. Repeatable."),
    config: Path | None = CONFIG,
) -> None:
    """Make an Ed25519 key: the private half where you say, the public half into the site's folder of trusted keys.

    Prints the key's id, the SHA-256 of its public half. Keys made otherwise (openssl genpkey -algorithm ed25519) do as
    well: put the public PEM into keys/ROLE/.
    """
    from rollama.release.keys import make_key
    from rollama.release.site import read_site

    site, _ = read_site(config)
    publics = [site.keys / item.value / f"{private.stem}.pem" for item in dict.fromkeys(role)]
    typer.echo(make_key(private, publics))
    shown = ", ".join(str(path) for path in publics)
    Console(stderr=True).print(f"{private}: private; trusted now: {shown}", highlight=False, soft_wrap=True)


def keys(config: Path | None = CONFIG) -> None:
    """List the trusted keys: id, what each may sign, whether it is retired."""
    from rollama.release.keys import Role, Trust
    from rollama.release.site import read_site

    trust = Trust.open(read_site(config)[0].keys)
    for name in sorted({key for found in trust.keys.values() for key in found}):
        roles = ", ".join(role for role in Role if name in trust.keys[role])
        last = trust.retired.get(name)
        typer.echo(f"{name}  {roles}; {'in use' if last is None else f'retired, signed up to record {last}'}")


def retire_key(
    key_id: str = typer.Argument(..., help="Beginning of the id of the key to retire (rollama release keys)."),
    key: Path = KEY,
    config: Path | None = CONFIG,
) -> None:
    """Take a key out of use: what it signed so far stays good, it signs nothing new.

    Sign the protocol anew when its key is retired. --key is another release key: the history gets a record.
    """
    from rollama.core.errors import ConfigError
    from rollama.core.storage import open_storage
    from rollama.release.history import note, read_history
    from rollama.release.keys import Role, Trust, load_private, retire
    from rollama.release.keys import key_id as id_of
    from rollama.release.site import read_site

    site, _ = read_site(config)
    signer, storage, trust = load_private(key), open_storage(site.history), Trust.open(site.keys)
    trust.check_signer(Role.RELEASE, signer, key)
    if id_of(signer.public_key()).startswith(key_id):
        raise ConfigError("a key cannot retire itself; use another release key for --key")
    history = read_history(storage, trust)
    history.require_whole("retired")
    retire(site.keys, key_id, len(history.records))
    note(storage, Trust.open(site.keys), signer, kind="key retired", remark=f"key {key_id}")
    Console(stderr=True).print(f"{site.keys / 'retired.yaml'}: key {key_id} signs nothing new", highlight=False)


def sign_protocol(
    protocol: Path = typer.Argument(..., help="Protocol file."),
    key: Path = KEY,
    config: Path | None = CONFIG,
) -> None:
    """Check a protocol and sign it: PROTOCOL.sig beside it. Any change to the file afterwards undoes the signature."""
    from rollama.release.keys import Role, Trust, load_private, sign_file
    from rollama.release.protocol import digest, parse_protocol, read_bytes
    from rollama.release.site import read_site

    data = read_bytes(protocol)
    parsed = parse_protocol(data, str(protocol))
    signer = load_private(key)
    Trust.open(read_site(config)[0].keys).check_signer(Role.PROTOCOL, signer, key)
    beside = sign_file(protocol, signer, Role.PROTOCOL, data)
    typer.echo(digest(data))
    Console(stderr=True).print(
        f"{beside}: protocol {parsed.name} version {parsed.version} is signed", highlight=False, soft_wrap=True
    )


def approve(
    verdict: str = typer.Argument(
        ..., help="Folder that 'rollama release evaluate' or 'gate' wrote, also s3://...; read verdict.html first."
    ),
    name: str = typer.Option(..., "--name", help="Who approves; it goes into the release history."),
    key: Path = KEY,
    config: Path | None = CONFIG,
) -> None:
    """Approve one candidate under one protocol with the figures of its verdict: a signed file beside the verdict."""
    import hashlib

    from rollama.release import approval
    from rollama.release.folder import read_verdict
    from rollama.release.keys import Role, Trust, load_private
    from rollama.release.reports import at_hand
    from rollama.release.site import read_site

    signer, trust = load_private(key), Trust.open(read_site(config)[0].keys)
    trust.check_signer(Role.APPROVAL, signer, key)
    with at_hand(verdict) as folder:
        found, data, signature = read_verdict(folder)
        trust.check(Role.RELEASE, data, signature, verdict)
        digest = hashlib.sha256(data).hexdigest()
        protocol = str(found.protocol["sha256"])
        path = approval.approve(folder, signer, found.candidate.release, protocol, digest, name)
    Console(stderr=True).print(
        f"{verdict.rstrip('/')}/{path.name}: {name} approves, verdict {found.outcome}", highlight=False, soft_wrap=True
    )
