"""A person's signature under a verdict, where the protocol wants one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rollama.core.config import StrictModel, build
from rollama.core.errors import ConfigError
from rollama.core.files import write_text
from rollama.release.keys import SHA256, NotTrusted, Role, Signature, Trust, canonical, sign
from rollama.release.protocol import Approval
from rollama.release.verdict import Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX = "approval-"


class Statement(StrictModel):
    """What is signed: this candidate, under this protocol, with these figures."""

    format: Literal[1] = 1
    candidate: str = Field(pattern=SHA256)
    protocol: str = Field(pattern=SHA256)
    verdict: str = Field(pattern=SHA256)
    by: str = Field(min_length=1, description="who; goes into the release history")
    time: float = Field(description="by the signer's clock; decides nothing")


class Approved(StrictModel):
    """A statement with its signature."""

    statement: Statement
    signature: Signature


def approve(
    folder: Path, key: Ed25519PrivateKey, candidate: str, protocol: str, verdict: str, by: str,
    clock: Callable[[], float] = time.time,
) -> Path:  # fmt: skip
    """Write a signed approval into the folder of a verdict; returns its path."""
    statement = Statement(candidate=candidate, protocol=protocol, verdict=verdict, by=by, time=clock())
    signature = sign(key, Role.APPROVAL, canonical(statement.model_dump(mode="json")))
    path = folder / f"{PREFIX}{signature.key[:16]}.json"
    write_text(path, json.dumps(Approved(statement=statement, signature=signature).model_dump(), indent=2) + "\n")
    return path


def read_approvals(folder: Path) -> list[Approved]:
    """All approvals in a folder.

    Raises:
        ConfigError: one cannot be read.
    """
    found = []
    for path in sorted(folder.glob(f"{PREFIX}*.json")):
        try:
            found.append(build(Approved, json.loads(path.read_text(encoding="utf-8")), str(path)))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not an approval that can be read") from error
    return found


def check_approvals(
    wanted: Approval, given: Sequence[Approved], trust: Trust, candidate: str, protocol: str, verdict: str, signer: str
) -> list[str]:
    """Who approved, as `name (key)`; refuses unless enough people did.

    Args:
        wanted: the protocol's section.
        given: approvals at hand; those about something else do not count.
        trust: with the approval keys.
        candidate: digest of the release that is to be approved.
        protocol: digest of the protocol file.
        verdict: digest of the verdict.
        signer: id of the key that signs the release, which does not count as a second person.

    Raises:
        Refused: fewer than the protocol wants.
    """
    names: dict[str, str] = {}
    reasons = []
    for item in given:
        said, key = item.statement, item.signature.key
        about = {"candidate": (said.candidate, candidate), "protocol": (said.protocol, protocol),
                 "verdict": (said.verdict, verdict)}  # fmt: skip
        other = [name for name, (found, expected) in about.items() if found != expected]
        try:
            trust.check(Role.APPROVAL, canonical(said.model_dump(mode="json")), item.signature, f"approval {key[:16]}")
        except NotTrusted as error:
            reasons.append(str(error))
            continue
        if other:
            reasons.append(f"approval {key[:16]} is about another {', '.join(other)}")
        elif key == signer:
            reasons.append(f"approval {key[:16]} was made with the key that signs the release")
        elif wanted.keys and key not in wanted.keys:
            reasons.append(f"approval {key[:16]} is by a key that the protocol does not name")
        else:
            names[key] = said.by
    if len(names) < wanted.needed:
        more = f" ({'; '.join(reasons)})" if reasons else ""
        raise Refused(
            f"the protocol wants {wanted.needed} approval(s) and {len(names)} count{more}; "
            "'rollama release approve VERDICT --key KEY --name NAME'"
        )
    return [f"{name} ({key[:16]})" for key, name in sorted(names.items())]
