"""What differs between the candidate and the released model besides its weights, and whether the protocol allows it.

New data is what retraining is for and always allowed. A changed setting is allowed when the protocol names its key;
anything else is another model, which needs another protocol before it can be released by one.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from rollama.release.contradictions import flatten
from rollama.release.protocol import Changes
from rollama.release.verdict import Finding, Outcome

MEANINGLESS = ("scale.*",)
"""How a training is spread over machines does not change what is learned."""


def judge_changes(
    changes: Changes, candidate: Mapping[str, Mapping[str, Any]], released: Mapping[str, Mapping[str, Any]]
) -> list[Finding]:
    """One finding a model; `candidate` and `released` are the models' manifests by name."""
    return [_judge(name, changes, candidate[name], released[name]) for name in sorted(candidate)]


def _judge(name: str, changes: Changes, new: Mapping[str, Any], old: Mapping[str, Any]) -> Finding:
    allowed = (*getattr(changes, name), *MEANINGLESS)
    before, after = flatten(dict(old.get("config", {}))), flatten(dict(new.get("config", {})))
    differing = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    wrong = [
        f"{key} from {before.get(key)!r} to {after.get(key)!r}"
        for key in differing
        if not any(fnmatch.fnmatchcase(key, pattern) for pattern in allowed)
    ]
    if not changes.base and _base(new) != _base(old):
        wrong.append("another base model or text encoder (base: false)")
    if not changes.software and new.get("rollama") != old.get("rollama"):
        wrong.append(f"rollama {old.get('rollama')} to {new.get('rollama')} (software: false)")
    if wrong:
        remark = f"not among the allowed changes: {'; '.join(wrong)}"
        return Finding(kind="change", figure=f"changes.{name}", group=name, outcome=Outcome.REFUSED, remark=remark)
    remark = f"changed as allowed: {', '.join(differing)}" if differing else "same settings"
    return Finding(kind="change", figure=f"changes.{name}", group=name, outcome=Outcome.PASSED, remark=remark)


def _base(manifest: Mapping[str, Any]) -> Any:
    found = manifest.get("base") or manifest.get("encoder") or {}
    return {key: found.get(key) for key in ("weights_hash", "tokenizer_hash")} if isinstance(found, Mapping) else found
