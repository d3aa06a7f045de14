"""From two evaluations to a verdict: checks that they are what they say, then the protocol's rules."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollama.core.config import hash_json
from rollama.core.errors import DataError, RollamaError
from rollama.core.manifest import training_hashes
from rollama.data.case import Case
from rollama.data.dataset import Dataset
from rollama.evaluation.jobs import HELD_OUT
from rollama.release.changes import judge_changes
from rollama.release.compare import compare
from rollama.release.metrics import MODELS
from rollama.release.overlap import check_overlap
from rollama.release.protocol import Inputs, Protocol
from rollama.release.scores import RESULTS, Scores, groups_of, read_scores
from rollama.release.verdict import Parts, Refused, Verdict, overall


@dataclass(frozen=True)
class Side:
    """One of the two that are compared: references, models on this machine, their manifests and weights."""

    parts: Parts
    manifests: Mapping[str, Mapping[str, Any]]
    hashes: Mapping[str, str]


def selected(dataset: Dataset, limit: int | None = None) -> list[Case]:
    """The cases that an evaluation scores, as `rollama.evaluation.jobs.open_job` takes them."""
    found: list[Case] = []
    for centre in dataset.info.centres:
        for split in HELD_OUT:
            found += dataset.select(split, centre=centre)[:limit]
    return found


def evaluation_folder(work: Path, parts: Parts, content_hash: str, inputs: Inputs, limit: int | None) -> Path:
    """Where the evaluation of a release on a data set is kept, the same for the same of all."""
    key = hash_json([parts.digests, content_hash, inputs.model_dump(mode="json"), limit])
    return work / f"{parts.release[:12]}-{key[:12]}"


def read_evaluation(
    folder: Path, hashes: Mapping[str, str], content_hash: str, inputs: Inputs, limit: int | None
) -> Scores:
    """The scores of an evaluation, if it is one of these models on this data with these inputs.

    Raises:
        DataError: there is none, or it is of something else; the message says of what.
    """
    scores, results = read_scores(folder)
    wanted: dict[str, Any] = {
        "models": dict(hashes),
        "dataset": content_hash,
        "counterfactual": inputs.counterfactual,
        "corrupted": sorted(inputs.corrupted),
        "plan_decoding": str(inputs.plan_decoding),
        "limit": limit,
    }
    found = {
        "models": {name: value for name, value in results["models"].items() if name in hashes},
        "dataset": results.get("dataset", {}).get("hash"),
        "counterfactual": results.get("counterfactual", False),
        "corrupted": sorted(results.get("corrupted", [])),
        "plan_decoding": results.get("plan_decoding", "free"),
        "limit": results.get("limit"),
    }
    if other := [key for key, value in wanted.items() if found[key] != value]:
        shown = "; ".join(f"{key} {found[key]} instead of {wanted[key]}" for key in other)
        raise DataError(f"{folder / RESULTS}: is an evaluation of something else ({shown})")
    return scores


def is_evaluated(folder: Path, hashes: Mapping[str, str], content_hash: str, inputs: Inputs, limit: int | None) -> bool:
    """Whether a folder holds that evaluation, whole."""
    try:
        read_evaluation(folder, hashes, content_hash, inputs, limit)
    except RollamaError:
        return False
    return True


def check_data(protocol: Protocol, dataset: Dataset) -> None:
    """Refuse a data set that the protocol does not let judge.

    Raises:
        Refused: it is another one.
    """
    content = dataset.info.content_hash
    if protocol.judged_on and content not in protocol.judged_on:
        raise Refused(
            f"data set {dataset.info.name} of content {content[:16]} may not judge; the protocol names "
            f"{', '.join(value[:16] for value in protocol.judged_on)}"
        )


def refuse_overlap(dataset: Dataset, limit: int | None, candidate: Side, folders: Sequence[Path]) -> None:
    """Raise when the evaluation's cases are among those that the candidate was trained on (see `overlap`)."""
    trained = {name: training_hashes(manifest) for name, manifest in candidate.manifests.items()}
    check_overlap(selected(dataset, limit), dataset.info.content_hash, trained, [dataset.root, *folders])


def make_verdict(
    protocol: Protocol,
    protocol_digest: str,
    dataset: Dataset,
    candidate: Side,
    released: Side | None,
    scores: Scores,
    released_scores: Scores | None,
    replaces_record: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Judge a candidate.

    Args:
        protocol: and the SHA-256 of its file, `protocol_digest`.
        dataset: that both were scored on.
        candidate, released: what is compared; None for a first release.
        scores, released_scores: theirs, of the same cases.
        replaces_record: number of the record that released the released model.
        progress: called with (rules done, all rules).

    Raises:
        DataError: the two were not scored on the same cases.
    """
    groups = groups_of(dataset.cases, protocol.subgroups.by)
    same = set()
    if released is not None:
        same = {name for name, digest in candidate.parts.digests.items() if digest == released.parts.digests[name]}
    unchanged = {task for name in same for task in MODELS[name]}
    findings = compare(protocol, scores, released_scores, groups, unchanged, progress)
    if released is not None:
        findings = [*judge_changes(protocol.changes, candidate.manifests, released.manifests), *findings]
    tables = {"candidate": scores.table_hash}
    if released_scores is not None:
        tables["released"] = released_scores.table_hash
    return Verdict(
        synthetic=dataset.info.synthetic,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        candidate=candidate.parts,
        hashes=dict(candidate.hashes),
        replaces=released.parts.release if released else None,
        replaces_record=replaces_record,
        protocol={"name": protocol.name, "version": protocol.version, "sha256": protocol_digest},
        dataset={"name": dataset.info.name, "hash": dataset.info.content_hash, "cases": len(scores.centres)},
        trained_on={name: training_hashes(manifest) for name, manifest in candidate.manifests.items()},
        tables=tables,
        findings=tuple(findings),
        outcome=overall(findings),
    )
