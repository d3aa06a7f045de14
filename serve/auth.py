"""Who asks, and what they may do. Ray's own token does not cover the HTTP port, so the endpoint fails closed itself.

Three ways in, all as `Authorization: Bearer ...`:

* one key, from a file (a mounted secret) or an environment variable, that may do everything;
* a list of keys, each with a name, scopes, an end and a rate; only their digests are on disk;
* tokens of an identity provider (OIDC), whose signature, issuer, audience and end are checked.

Keys are random and long, so a plain SHA-256 of them is no weaker than a slow one. They are read in the replica and are
in no configuration, no deployment argument and no log.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field

from rollama.core.config import StrictModel, build, read_yaml
from rollama.core.errors import ConfigError, ServeError
from serve.config import CENTRE, VARIABLE, OidcConfig, ServeConfig

MIN_LENGTH = 16
SINGLE = "key"
"""Name of the caller with the one key of file or variable."""


class Scope(StrEnum):
    """What a caller may do."""

    TEXTS = "texts"
    TARGETS = "targets"


class Caller(StrictModel):
    """Who asks. `name` owns jobs and stands in the audit trail; `per_minute` 0 is no limit."""

    name: str
    scopes: tuple[Scope, ...] = tuple(Scope)
    per_minute: int = 0


class KeyEntry(StrictModel):
    """One key of the list; `rollama serve-key NAME` makes one."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the key, in hexadecimal")
    scopes: list[Scope] = Field(default_factory=lambda: list(Scope), min_length=1)
    expires: date | None = Field(default=None, description="the last day on which it is accepted (UTC)")
    per_minute: int = Field(default=0, ge=0, description="requests a minute in one server; 0: no limit")
    centre: str | None = Field(default=None, pattern=CENTRE, description="whose patients; else the setting `centre`")


class KeyList(StrictModel):
    """The file of `keys_file`."""

    keys: list[KeyEntry] = Field(min_length=1)


Check = Callable[[str], Caller | None]
"""The caller whose bearer value this is, or None."""


def load_callers(config: ServeConfig) -> Check:
    """How bearer values are checked.

    Raises:
        ServeError: there is no way in (no key, a short one, an unreadable list); the endpoint must not start.
    """
    checks: list[Check] = []
    if config.keys_file is not None:
        checks.append(_listed(read_keys(config.keys_file)))
    if config.oidc is not None:
        checks.append(_provider(config.oidc))
    if not checks or config.api_key_file is not None:
        checks.append(_single(digest(read_key(config.api_key_file, config.api_key_env))))

    def check(value: str) -> Caller | None:
        return next((caller for one in checks if (caller := one(value)) is not None), None)

    return check


def load_centres(config: ServeConfig) -> dict[str, str]:
    """Caller -> centre, of those whose key names one.

    Raises:
        ServeError: the list of keys is unreadable.
    """
    keys = read_keys(config.keys_file).keys if config.keys_file is not None else ()
    return {entry.name: entry.centre for entry in keys if entry.centre is not None}


def read_key(file: Path | None, variable: str = VARIABLE) -> str:
    """The key from a file, or else from an environment variable.

    Raises:
        ServeError: there is none, or it is short or not plain ASCII.
    """
    if file is not None:
        place = str(file)
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ServeError(f"{place}: the endpoint's key cannot be read ({type(error).__name__})") from None
    else:
        place = f"environment variable {variable}"
        key = os.environ.get(variable, "").strip()
    if len(key) < MIN_LENGTH or not key.isascii() or any(character.isspace() for character in key):
        raise ServeError(
            f"{place}: the endpoint needs a key of at least {MIN_LENGTH} ASCII characters without spaces and does not "
            'start without one; make it with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return key


def read_keys(file: Path) -> KeyList:
    """The list of keys.

    Raises:
        ServeError: unreadable, an entry is wrong, or a name occurs twice.
    """
    try:
        found = build(KeyList, read_yaml(file), str(file))
    except ConfigError as error:
        raise ServeError(str(error)) from None
    names = [entry.name for entry in found.keys]
    if SINGLE in names:
        raise ServeError(f"{file}: the name {SINGLE!r} is that of the single key; choose another")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ServeError(f"{file}: the name(s) {', '.join(twice)} occur twice; each key needs one of its own")
    return found


def digest(key: str) -> bytes:
    """SHA-256: equal lengths for the comparison, and the key itself is not kept."""
    return hashlib.sha256(key.encode()).digest()


def bearer(header: str | None) -> str:
    """The value of an `Authorization: Bearer` header; empty for any other."""
    scheme, _, value = (header or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _single(expected: bytes) -> Check:
    return lambda value: Caller(name=SINGLE) if hmac.compare_digest(digest(value), expected) else None


def _listed(keys: KeyList) -> Check:
    entries = [(bytes.fromhex(entry.sha256), entry) for entry in keys.keys]

    def check(value: str) -> Caller | None:
        found, mine = None, digest(value)
        for expected, entry in entries:  # all of them, whichever fits: the time tells nothing
            if hmac.compare_digest(expected, mine):
                found = entry
        if found is None or (found.expires is not None and datetime.now(UTC).date() > found.expires):
            return None
        return Caller(name=found.name, scopes=tuple(found.scopes), per_minute=found.per_minute)

    return check


def _provider(oidc: OidcConfig) -> Check:
    import jwt

    keys = _signing_keys(oidc)
    names = {str(scope): scope for scope in Scope}

    def check(value: str) -> Caller | None:
        if value.count(".") != 2:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                value, keys(value), algorithms=list(oidc.algorithms), audience=oidc.audience, issuer=oidc.issuer,
                leeway=oidc.leeway_s, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except (jwt.PyJWTError, ServeError):
            return None
        given = claims.get(oidc.scope_claim) or ()
        said = given.split() if isinstance(given, str) else [str(item) for item in given]
        allowed = [name.removeprefix(oidc.scope_prefix) for name in said if name.startswith(oidc.scope_prefix)]
        scopes = tuple(names[name] for name in allowed if name in names)
        return Caller(name=f"oidc:{claims['sub']}", scopes=scopes, per_minute=oidc.per_minute)

    return check


def _signing_keys(oidc: OidcConfig) -> Callable[[str], Any]:
    """The key that signed a token, from a file (no network) or from the provider's address."""
    import json

    import jwt

    if oidc.jwks_file is not None:
        try:
            known = jwt.PyJWKSet.from_dict(json.loads(oidc.jwks_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, jwt.PyJWTError) as error:
            raise ServeError(f"{oidc.jwks_file}: not a readable set of keys ({type(error).__name__})") from None

        def from_file(token: str) -> Any:
            wanted = jwt.get_unverified_header(token).get("kid")
            for key in known.keys:
                if wanted is None or key.key_id == wanted:
                    return key
            raise ServeError("no such signing key")

        return from_file
    client = jwt.PyJWKClient(str(oidc.jwks_url), cache_keys=True, lifespan=oidc.cache_s, timeout=5)
    return client.get_signing_key_from_jwt
