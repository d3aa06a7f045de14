"""No key, no endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollama.core.errors import ServeError
from serve.auth import digest, is_authorised, load_key
from serve.config import ServeConfig


def test_key_from_variable_or_file(config: ServeConfig, api_key: str, tmp_path: Path) -> None:
    assert load_key(config) == digest(api_key)
    (tmp_path / "key").write_text("another-key-0123456789\n")
    assert load_key(config.updated(api_key_file=tmp_path / "key")) == digest("another-key-0123456789")


@pytest.mark.parametrize("value", ["", "   ", "short", "with spaces in the middle of it"])
def test_no_proper_key_no_start(config: ServeConfig, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ROLLAMA_API_KEY", value)
    with pytest.raises(ServeError, match="environment variable ROLLAMA_API_KEY: the endpoint needs a key") as caught:
        load_key(config)
    assert not value.strip() or value not in str(caught.value)
    monkeypatch.delenv("ROLLAMA_API_KEY")
    with pytest.raises(ServeError, match="does not start"):
        load_key(config)


def test_unreadable_key_file(config: ServeConfig, api_key: str, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="cannot be read"):
        load_key(config.updated(api_key_file=tmp_path / "absent"))


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("Bearer test-key-of-the-endpoint", True),
        ("bearer test-key-of-the-endpoint", True),
        ("Bearer test-key-of-the-endpoin", False),
        ("Bearer ", False),
        ("Basic test-key-of-the-endpoint", False),
        ("test-key-of-the-endpoint", False),
        ("Bearer t\u00ebst", False),
        (None, False),
    ],
)
def test_header(header: str | None, accepted: bool) -> None:
    assert is_authorised(header, digest("test-key-of-the-endpoint")) is accepted
