"""The bearer key. Ray's own token does not cover the HTTP port, so the endpoint checks one itself and fails closed.

The key comes from a file (a mounted secret) or an environment variable and is read where it is used: it is in no
configuration, no deployment argument and no log. To make one::

    export ROLLAMA_API_KEY=$(python -c "import secrets; print(secrets.token_urlsafe(32))")

Every request then sends `Authorization: Bearer <key>`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from rollama.core.errors import ServeError
from serve.config import VARIABLE, ServeConfig

MIN_LENGTH = 16


def load_key(config: ServeConfig) -> bytes:
    """The digest of the key that requests must carry.

    Raises:
        ServeError: there is no key, it is short or not plain ASCII; the endpoint must not start.
    """
    return digest(read_key(config.api_key_file, config.api_key_env))


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


def digest(key: str) -> bytes:
    """SHA-256: equal lengths for the comparison, and the key itself is not kept."""
    return hashlib.sha256(key.encode()).digest()


def is_authorised(header: str | None, key_digest: bytes) -> bool:
    """Whether an `Authorization` header carries the key; takes the same time for every wrong key."""
    scheme, _, key = (header or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(digest(key.strip()), key_digest)
