"""What `rollama release evaluate`, `promote` and `cycle` do, one step after the other, with progress shown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rollama.release.gate import Side
    from rollama.release.history import Record
    from rollama.release.promotion import Desk
    from rollama.release.protocol import Inputs, Protocol
    from rollama.release.scores import Scores
    from rollama.release.site import Site
    from rollama.release.verdict import Parts, Verdict


def judge(
    site: Site,
    candidate: Path | None,
    given: Mapping[str, str],
    dataset: str,
    trained_on: Sequence[str],
    key: Path | None,
    out: Path | None,
    limit: int | None,
    scores: Path | None,
    released_scores: Path | None,
    gpus: int,
    same_is_fine: bool = False,
) -> tuple[Verdict | None, Path]:
    """Score, compare, write the verdict and note it in the history; returns the verdict and its folder.

    With `same_is_fine` the verdict is None when the candidate is the released model; else that is an error.
    """
    from rollama.cli.progress import bar
    from rollama.cli.store import transfer
    from rollama.core.errors import ConfigError
    from rollama.core.storage import open_storage
    from rollama.data.dataset import open_dataset
    from rollama.data.store import resolve
    from rollama.release import gate
    from rollama.release.ancestry import refuse_withdrawn
    from rollama.release.candidate import gather
    from rollama.release.folder import write_verdict
    from rollama.release.history import note, read_history
    from rollama.release.keys import Role, Trust, load_private

    console = Console(stderr=True)
    trust = Trust.open(site.keys)
    signer = load_private(key) if key is not None else None
    if signer is not None:
        trust.check_signer(Role.RELEASE, signer, Path(str(key)))
    if limit is not None:
        signer = None
    protocol, _, digest = signed_protocol(site, trust)
    history = read_history(open_storage(site.history), trust)
    history.require_whole("evaluated")
    current = history.released()
    released = current.entry.candidate if current is not None else None
    with transfer("storing the candidate (MiB)") as progress:
        parts = gather(candidate, given, released, site.store, progress)
    if released is not None and parts.release == released.release:
        if same_is_fine:
            return None, site.work
        raise ConfigError(f"the candidate is the released model (release {released.release[:16]}); nothing to compare")
    with transfer("pulling the data set (MiB)") as progress:
        opened = open_dataset(resolve(dataset, progress))
        others = [resolve(place, progress) for place in trained_on]
    mine = _side(site, parts)
    theirs = _side(site, released) if released is not None else None
    content = opened.info.content_hash
    gate.check_data(protocol, opened)
    with console.status("looking for training cases among the evaluation's"):
        gate.refuse_overlap(opened, limit, mine, others)

    if unknown := refuse_withdrawn(site, mine.hashes):
        console.print(f"not in the lineage of {site.lineage}: {', '.join(unknown)}", highlight=False, soft_wrap=True)

    def scored(name: str, side: Side, made: Path | None) -> Scores:
        where = made or gate.evaluation_folder(site.work, side.parts, content, protocol.inputs, limit)
        if made is None and not gate.is_evaluated(where, side.hashes, content, protocol.inputs, limit):
            _run(name, site, side.parts, opened.root, where, protocol.inputs, limit, gpus, console)
        return gate.read_evaluation(where, side.hashes, content, protocol.inputs, limit)

    table = scored("candidate", mine, scores)
    other = scored("released", theirs, released_scores) if theirs is not None else None
    with bar("judging (rules)", len(protocol.rules) + len(protocol.limits), console) as update:
        verdict = gate.make_verdict(
            protocol, digest, opened, mine, theirs, table, other,
            0 if current is None else current.entry.number, lambda done, total: update(done, total),
        )  # fmt: skip
    base = gate.evaluation_folder(site.work, parts, content, protocol.inputs, limit)
    place = out or base.with_name(f"verdict-{base.name}")
    data = write_verdict(place, verdict, signer)
    if signer is None:
        why = "--limit is for trying out" if limit is not None else "no --key"
        console.print(f"not signed ({why}), so this verdict cannot be promoted", highlight=False)
    else:
        note(
            open_storage(site.history), trust, signer, kind="evaluated", candidate=parts.model_dump(),
            hashes=dict(mine.hashes), replaces=verdict.replaces, outcome=str(verdict.outcome),
            protocol=verdict.protocol, verdict=hashlib.sha256(data).hexdigest(), synthetic=verdict.synthetic,
        )  # fmt: skip
    return verdict, place


def release(desk: Desk, place: Path, key: Path, again: bool = False, despite_clock: bool = False) -> Record:
    """Promote what a verdict's folder holds."""
    from rollama.release.ancestry import refuse_withdrawn, tell_lineage
    from rollama.release.approval import read_approvals
    from rollama.release.candidate import lay_out, read_manifests
    from rollama.release.folder import make_documents, read_verdict
    from rollama.release.keys import SIGNATURE, load_private
    from rollama.release.promotion import Case, promote

    console = Console(stderr=True)
    signer = load_private(key)
    verdict, data, signature = read_verdict(place)
    refuse_withdrawn(desk.site, verdict.hashes)
    protocol, protocol_bytes, digest = signed_protocol(desk.site, desk.trust)
    sealed = desk.site.protocol.with_name(desk.site.protocol.name + SIGNATURE).read_bytes()
    approvals = read_approvals(place if place.is_dir() else place.parent)
    with console.status("promoting: checks, record, registry, endpoint"):
        models = desk.site.work / f"models-{verdict.candidate.release[:12]}"
        manifests = read_manifests(lay_out(verdict.candidate, models))
        documents = make_documents(
            verdict, data, signature, manifests, {"protocol.yaml": protocol_bytes, "protocol.yaml.sig": sealed}
        )
        case = Case(verdict, data, signature, protocol, digest, approvals, documents)
        record = promote(desk, case, signer, despite_clock, again)
        tell_lineage(desk.site, record)
        return record


def signed_protocol(site: Site, trust: Any) -> tuple[Protocol, bytes, str]:
    """The site's protocol, its bytes and their SHA-256, after checking its signature."""
    from rollama.release.keys import Role, check_file
    from rollama.release.protocol import digest, parse_protocol, read_bytes

    data = read_bytes(site.protocol)
    protocol = parse_protocol(data, str(site.protocol))
    check_file(site.protocol, data, trust, Role.PROTOCOL)
    return protocol, data, digest(data)


def _side(site: Site, parts: Parts) -> Side:
    from rollama.cli.store import transfer
    from rollama.data.store import resolve
    from rollama.release.candidate import lay_out, read_manifests, weights
    from rollama.release.gate import Side

    with transfer("pulling models (MiB)") as progress:
        for reference in parts.model_dump().values():
            resolve(reference, progress)
    models = lay_out(parts, site.work / f"models-{parts.release[:12]}")
    return Side(parts, read_manifests(models), weights(models))


def _run(
    name: str, site: Site, parts: Parts, dataset: Path, out: Path, inputs: Inputs, limit: int | None, gpus: int,
    console: Console,
) -> None:  # fmt: skip
    from ray_jobs.evaluate import evaluate
    from rollama.cli.progress import bar

    with ExitStack() as stack:
        update = stack.enter_context(bar(f"evaluating {name} (%)", 100, console))

        def share_done(share: float, note: str) -> None:
            update(round(100 * share), note=note)

        evaluate(
            site.work / f"models-{parts.release[:12]}", dataset, out, limit=limit, zero_shot=0, progress=share_done,
            gpus=gpus, counterfactual=inputs.counterfactual, corrupted=inputs.corrupted,
            plan_decoding=inputs.plan_decoding,
        )  # fmt: skip
