"""The folder of a verdict: `verdict.json` (what is signed), its signature, `verdict.html`, approvals beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rollama.core.errors import DataError
from rollama.core.files import new_file
from rollama.release.documents import data_manifest, model_card
from rollama.release.keys import SIGNATURE, Role, Signature, read_signature, sign_file
from rollama.release.page import render_page
from rollama.release.sbom import make_sbom
from rollama.release.verdict import Verdict

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VERDICT, PAGE = "verdict.json", "verdict.html"


def write_verdict(folder: Path, verdict: Verdict, key: Ed25519PrivateKey | None) -> bytes:
    """Write a verdict and its page; sign it when there is a key. Returns the bytes that are signed."""
    data = (json.dumps(verdict.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()
    (folder / (VERDICT + SIGNATURE)).unlink(missing_ok=True)
    for name, content in ((VERDICT, data), (PAGE, render_page(verdict))):
        with new_file(folder / name) as path:
            path.write_bytes(content)
    if key is not None:
        sign_file(folder / VERDICT, key, Role.RELEASE, data)
    return data


def read_verdict(folder: Path) -> tuple[Verdict, bytes, Signature]:
    """A verdict, its bytes and its signature; a path to `verdict.json` does as well.

    Raises:
        DataError: no verdict that can be read.
        NotTrusted: it is not signed.
    """
    path = folder / VERDICT if folder.is_dir() else folder
    try:
        data = path.read_bytes()
        verdict = Verdict.model_validate(json.loads(data))
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror}); run 'rollama release evaluate' first") from error
    except ValueError as error:
        raise DataError(f"{path}: not a verdict that can be read ({type(error).__name__})") from error
    beside = path.with_name(path.name + SIGNATURE)
    return verdict, data, read_signature(beside.read_bytes() if beside.is_file() else None, str(beside))


def make_documents(
    verdict: Verdict, verdict_bytes: bytes, signature: Signature, manifests: Mapping[str, Mapping[str, Any]],
    protocol: Mapping[str, bytes],
) -> Callable[[Sequence[str]], dict[str, bytes]]:  # fmt: skip
    """What goes with the release, made when it is known who approved.

    Args:
        verdict: with its bytes and signature.
        manifests: of the models.
        protocol: file name -> bytes of the protocol and its signature.
    """

    def make(approvals: Sequence[str]) -> dict[str, bytes]:
        data = {
            value: f"training data of {', '.join(sorted(n for n, v in verdict.trained_on.items() if value in v))}"
            for values in verdict.trained_on.values()
            for value in values
        }
        data[str(verdict.dataset["hash"])] = f"evaluation data {verdict.dataset['name']}"
        return {
            "model_card.md": model_card(verdict, manifests, approvals),
            "sbom.cdx.json": make_sbom(verdict.candidate, manifests, verdict.hashes, data),
            "data.json": data_manifest(verdict, manifests),
            VERDICT: verdict_bytes,
            VERDICT + SIGNATURE: (json.dumps(signature.model_dump(), indent=2) + "\n").encode(),
            PAGE: render_page(verdict, approvals),
            **protocol,
        }

    return make
