"""No key, no endpoint; and each kind of key lets in whom it should."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from rollama.core.config import build
from rollama.core.errors import ConfigError, ServeError
from serve.auth import Caller, Scope, bearer, digest, load_callers
from serve.config import ServeConfig

KEY = "test-key-of-the-endpoint"


def test_key_from_variable_or_file(config: ServeConfig, api_key: str, tmp_path: Path) -> None:
    assert load_callers(config)(api_key) == Caller(name="key")
    (tmp_path / "key").write_text("another-key-0123456789\n")
    check = load_callers(config.updated(api_key_file=tmp_path / "key"))
    assert check("another-key-0123456789") is not None and check(api_key) is None


@pytest.mark.parametrize("value", ["", "   ", "short", "with spaces in the middle of it"])
def test_no_proper_key_no_start(config: ServeConfig, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ROLLAMA_API_KEY", value)
    with pytest.raises(ServeError, match="environment variable ROLLAMA_API_KEY: the endpoint needs a key") as caught:
        load_callers(config)
    assert not value.strip() or value not in str(caught.value)
    monkeypatch.delenv("ROLLAMA_API_KEY")
    with pytest.raises(ServeError, match="does not start"):
        load_callers(config)


def test_unreadable_key_file(config: ServeConfig, api_key: str, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="cannot be read"):
        load_callers(config.updated(api_key_file=tmp_path / "absent"))


@pytest.mark.parametrize(
    ("header", "value"),
    [(f"Bearer {KEY}", KEY), (f"bearer  {KEY} ", KEY), ("Bearer ", ""), (f"Basic {KEY}", ""), (KEY, ""), (None, "")],
)
def test_header(header: str | None, value: str) -> None:
    assert bearer(header) == value


def test_nearly_the_key_is_not_the_key(config: ServeConfig, api_key: str) -> None:
    check = load_callers(config)
    for wrong in ("", api_key[:-1], api_key + "x", api_key.upper(), "t\u00ebst"):
        assert check(wrong) is None


def listed(config: ServeConfig, tmp_path: Path, *entries: dict[str, Any]) -> Any:
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": list(entries)}))
    return load_callers(config.updated(keys_file=tmp_path / "keys.yaml"))


def test_a_list_of_keys(config: ServeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROLLAMA_API_KEY", raising=False)
    one = {"name": "clinic-a", "sha256": digest("key of clinic a").hex(), "scopes": ["texts"], "per_minute": 5}
    old = {"name": "old", "sha256": digest("old key").hex(), "expires": "2020-01-01"}
    new = {"name": "new", "sha256": digest("new key").hex(), "expires": "2999-01-01"}
    check = listed(config, tmp_path, one, old, new)
    assert check("key of clinic a") == Caller(name="clinic-a", scopes=(Scope.TEXTS,), per_minute=5)
    assert check("old key") is None and check("no key") is None
    assert check("new key") == Caller(name="new")
    for wrong, message in (
        ([one, one], "clinic-a occur twice"),
        ([{**one, "scopes": ["all"]}], "scopes"),
        ([{**one, "sha256": "abc"}], "sha256"),
        ([{**one, "name": "a b"}], "name"),
        ([{**one, "scpoes": []}], "unknown key"),
        ([], "keys"),
    ):
        with pytest.raises(ServeError, match=message):
            listed(config, tmp_path, *wrong)
    with pytest.raises(ServeError, match=r"absent.yaml"):
        load_callers(config.updated(keys_file=tmp_path / "absent.yaml"))


@pytest.fixture(scope="module")
def signer() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def token(signer: Any, algorithm: str = "RS256", kid: str = "k1", **changes: Any) -> str:
    claims = {"iss": "https://login.example", "aud": "rollama", "sub": "u1", "exp": time.time() + 60,
              "scope": "openid rollama.texts rollama.other"}  # fmt: skip
    claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode(claims, signer, algorithm=algorithm, headers={"kid": kid})


def test_tokens_of_a_provider(config: ServeConfig, tmp_path: Path, signer: rsa.RSAPrivateKey) -> None:
    known = json.loads(RSAAlgorithm.to_jwk(signer.public_key())) | {"kid": "k1", "alg": "RS256", "use": "sig"}
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [known]}))
    oidc = {"issuer": "https://login.example", "audience": "rollama", "jwks_file": str(tmp_path / "jwks.json")}
    settings = build(ServeConfig, {**config.model_dump(mode="json"), "oidc": oidc}, "serve")
    check = load_callers(settings)
    assert check(token(signer)) == Caller(name="oidc:u1", scopes=(Scope.TEXTS,))
    both = check(token(signer, scope=["rollama.texts", "rollama.targets"]))
    assert both is not None and both.scopes == (Scope.TEXTS, Scope.TARGETS)
    nothing = check(token(signer, scope=None))
    assert nothing is not None and nothing.scopes == ()
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    unsigned = jwt.encode({"iss": "https://login.example", "aud": "rollama", "sub": "u1"}, "", algorithm="none")
    for bad in (
        token(other), token(signer, kid="k2"), token(signer, aud="another"), token(signer, iss="https://evil.example"),
        token(signer, exp=time.time() - 120), token(signer, sub=None), token(signer, exp=None), unsigned, "a.b.c", KEY,
    ):  # fmt: skip
        assert check(bad) is None
    for wrong in ({**oidc, "jwks_url": "https://login.example/keys"}, {"issuer": "a", "audience": "b"}):
        with pytest.raises(ConfigError, match="jwks_file or jwks_url"):
            build(ServeConfig, {**config.model_dump(mode="json"), "oidc": wrong}, "serve")
    (tmp_path / "jwks.json").write_text("no json")
    with pytest.raises(ServeError, match="not a readable set of keys"):
        load_callers(settings)
