"""A ledger with three models, the third begun with the second, on data of six cases."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rollama.core.storage import open_storage
from rollama.data.case import Split, TextCase
from rollama.data.dataset import DatasetInfo
from rollama.lineage.events import Trained
from rollama.lineage.ledger import Ledger

SPLITS = (Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST)


def info(content: str) -> DatasetInfo:
    return DatasetInfo(
        name="d", version="1", synthetic=True, label="none", notice="SYNTHETIC", centres=("a",), content_hash=content
    )


def cases(first: int) -> list[TextCase]:
    return [
        TextCase(case_id=f"a-{number}", centre="a", split=split, plan=None)
        for number, split in enumerate(SPLITS, first)
    ]


def make_keys(folder: Path) -> tuple[Path, Path]:
    """Files of a new private key and its public half."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "lineage"


@pytest.fixture
def ledger(place: Path) -> Ledger:
    made = Ledger(open_storage(place))
    made.keep_cases(info("one"), cases(0))
    made.keep_cases(info("two"), cases(4))
    made.record(Trained(model="aaa1", task="s", data="one", run="r1"))
    made.record(Trained(model="aaa2", task="p", data="two", run="r2"))
    made.record(Trained(model="bbb3", task="p", data="one", run="r3", parents=("aaa2",)))
    return made
