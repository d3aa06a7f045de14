"""Signatures: of changed files, of other roles, of retired and unknown keys."""

import stat

import pytest

from rollama.core.errors import ConfigError
from rollama.release.keys import NotTrusted, Role, Trust, check_file, load_private, make_key, retire, sign, sign_file


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "keys"
    for name, role in (("physicist", Role.PROTOCOL), ("job", Role.RELEASE)):
        make_key(tmp_path / f"{name}.key", [folder / role / f"{name}.pem"])
    return folder


def private(keys, name):
    return load_private(keys.parent / f"{name}.key")


def test_a_private_key_is_its_owners_and_never_written_over(keys):
    path = keys.parent / "job.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="a key is never written over"):
        make_key(path, [])
    assert path.read_bytes() == before


def test_a_signed_file_that_was_changed_is_refused(keys, tmp_path):
    path, trust = tmp_path / "protocol.yaml", Trust.open(keys)
    path.write_bytes(b"margin: 0.02\n")
    with pytest.raises(NotTrusted, match="there is no signature"):
        check_file(path, path.read_bytes(), trust, Role.PROTOCOL)
    sign_file(path, private(keys, "physicist"), Role.PROTOCOL, path.read_bytes())
    assert check_file(path, path.read_bytes(), trust, Role.PROTOCOL).key in trust.keys[Role.PROTOCOL]
    with pytest.raises(NotTrusted, match="changed after it was signed"):
        check_file(path, b"margin: 0.20\n", trust, Role.PROTOCOL)
    (tmp_path / "protocol.yaml.sig").write_text("{}")
    with pytest.raises(NotTrusted, match="not a signature that can be read"):
        check_file(path, path.read_bytes(), trust, Role.PROTOCOL)


def test_a_signature_is_good_for_one_purpose_only(keys):
    trust = Trust.open(keys)
    made = sign(private(keys, "job"), Role.RELEASE, b"data")
    trust.check(Role.RELEASE, b"data", made, "record")
    with pytest.raises(NotTrusted, match="is trusted for release only"):
        trust.check(Role.PROTOCOL, b"data", made, "protocol")
    (keys / "protocol" / "job.pem").write_bytes((keys / "release" / "job.pem").read_bytes())
    with pytest.raises(NotTrusted, match="changed after it was signed"):  # the role is part of what is signed
        Trust.open(keys).check(Role.PROTOCOL, b"data", made, "protocol")


def test_rotation_old_records_stay_good_and_new_things_are_refused(keys):
    made = sign(private(keys, "job"), Role.RELEASE, b"data")
    retire(keys, made.key[:12], 7)
    trust = Trust.open(keys)
    trust.check(Role.RELEASE, b"data", made, "record 7", record=7)
    for record in (8, None):
        with pytest.raises(NotTrusted, match=r"is retired \(last record 7\)"):
            trust.check(Role.RELEASE, b"data", made, "it", record)
    with pytest.raises(ConfigError, match="is retired already"):
        retire(keys, made.key, 9)
    with pytest.raises(ConfigError, match=r"0 keys in .* begin so"):
        retire(keys, "x", 9)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n"])
def test_a_file_that_is_no_key_is_named(keys, content):
    (keys / "release" / "odd.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=r"odd\.pem: not a readable public key"):
        Trust.open(keys)


def test_a_key_of_another_kind_is_refused(tmp_path):
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "ec.key"
    path.write_bytes(generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match="not an Ed25519 key"):
        load_private(path)
