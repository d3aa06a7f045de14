"""Tables of the endpoint's benchmark from what was measured, and whether the systems did the same work."""

from __future__ import annotations

import base64
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from benchmarks.text_peers import spread

Sessions = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
"""(system, mix) -> its turns."""
GOALS = {"faster": 5.0, "latency": 0.5, "memory": 0.55, "edit": 2.0, "share": 0.5}
GOAL_CLIENTS = 8
LEAST_EQUAL = 0.95
"""Share of texts that must be equal; a merged adapter rounds differently, so two tokens that tie may fall otherwise."""


def rate(cell: Mapping[str, Any]) -> float:
    """Answered requests a second until the last answer."""
    done = [record for record in cell["done"] if not record["error"]]
    return len(done) / max(record["begun"] + record["seconds"] for record in done) if done else 0.0


def quantile(cell: Mapping[str, Any], share: float) -> tuple[float, bool]:
    """Latency in seconds below which a share of the requests lies; True: a lower bound, some were given up younger."""
    done = [record["seconds"] for record in cell["done"] if not record["error"]]
    young = [record["seconds"] for record in cell["given_up"]]
    if not done and not young:
        return float("nan"), False
    value = float(np.quantile(np.asarray(done + young), share, method="higher"))
    return value, any(age <= value for age in young)


def latency(cells: Sequence[Mapping[str, Any]], share: float) -> str:
    """Median and range over turns."""
    found = [quantile(cell, share) for cell in cells]
    return (">= " if any(bound for _, bound in found) else "") + spread([value for value, _ in found], 1)


def load_table(sessions: Sessions, mix: str, reference: str) -> list[str]:
    """One row for each number of clients and system; ratios within a turn."""
    lines = [
        f"| {mix}, clients | | requests/s | times {reference} | p50 s | p95 s | answered | given up | asked again "
        "| errors |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    systems = [system for system, found in sessions if found == mix]
    for clients in sessions[systems[0], mix][0]["cells"]:
        for system in systems:
            cells = [turn["cells"][clients] for turn in sessions[system, mix]]
            others = [turn["cells"][clients] for turn in sessions[reference, mix]]
            ratios = [rate(a) / rate(b) for a, b in zip(cells, others, strict=True) if rate(b)]
            errors = Counter(record["error"] for cell in cells for record in cell["done"] if record["error"])
            lines.append(
                f"| {clients} | {system} | {spread([rate(cell) for cell in cells], 3)} | "
                f"{spread(ratios) if ratios else 'none answered'} | {latency(cells, 0.5)} | {latency(cells, 0.95)} | "
                f"{sum(len(cell['done']) for cell in cells) - errors.total()} | "
                f"{sum(len(cell['given_up']) for cell in cells)} | {sum(cell['busy'] for cell in cells)} | "
                f"{', '.join(f'{count} x {name}' for name, count in errors.items()) or 0} |"
            )
    return lines


def memory_table(sessions: Sessions) -> list[str]:
    """Peak of all processes of a system under the pipeline's load, and how long it took to start."""
    lines = ["| | peak PSS GiB | peak sum of RSS GiB | ready after s |", "|---|---|---|---|"]
    for (system, mix), turns in sessions.items():
        if mix == "pipeline":
            peaks = [spread([turn["peak"][kind] / 1024 for turn in turns]) for kind in ("pss", "rss")]
            lines.append(f"| {system} | {peaks[0]} | {peaks[1]} | {spread([turn['start_s'] for turn in turns], 0)} |")
    return lines


def decode_table(alone: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """One text alone."""
    lines = [
        "| one text alone | tokens/s | weights read, GB/s | memory: read, copy GB/s | share of the better | "
        "weights MiB | cache MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    sides = {
        "this endpoint's decoder, without guesses": alone["ours"],
        "this endpoint's decoder": [{**turn, **turn["guessed"], "share": None} for turn in alone["ours"]],
        "transformers.generate, merged": alone["peer"],
    }
    for name, turns in sides.items():

        def of(what: str, digits: int = 2, scale: float = 1.0, turns: Any = turns) -> str:
            return "" if turns[0][what] is None else spread([turn[what] / scale for turn in turns], digits)

        lines.append(
            f"| {name} | {of('tokens_s', 1)} | {of('gb_s')} | {of('read', 1)}, {of('copy', 1)} | {of('share')} | "
            f"{of('weights', 0, 1 << 20)} | {of('cache', 1, 1 << 20)} |"
        )
    return lines


def agreement(sessions: Sessions, ours: str, truths: Mapping[str, Path]) -> tuple[list[str], bool]:
    """How the answers of the other systems compare with ours, and whether their texts are the same.

    Masks are only reported: a network under other windows is not the same function, and one that looks at the whole
    body may find something where ours did not look. Dice with the true target says who is nearer to it.
    """
    lines, same = [], True
    for mix in sorted({mix for _, mix in sessions}):
        mine = answers(sessions, ours, mix)
        for system in [name for name, found in sessions if found == mix and (name != ours or mix == "pipeline")]:
            theirs = answers(sessions, system, mix)
            both = sorted(set(mine) & set(theirs))
            equal = [case for case in both if all(mine[case][k] == theirs[case][k] for k in ("summary", "plan_text"))]
            line = f"* {mix}, {system}: texts equal to ours in {len(equal)} of {len(both)} cases"
            same &= bool(both) and len(equal) >= LEAST_EQUAL * len(both)
            if mix == "pipeline" and equal:
                masks = {case: (mask_of(mine[case]), mask_of(theirs[case])) for case in equal}
                found = [dice(*pair) for pair in masks.values()]
                true = [dice(read_mask(truths[case]), masks[case][1]) for case in equal]
                line += (
                    f"; Dice there with our targets: median {median(found):.4f}, lowest {min(found):.4f}; with the "
                    f"true ones (the plan is the generated one): median {median(true):.3f}"
                )
            lines.append(line)
    return lines, same


def answers(sessions: Sessions, system: str, mix: str) -> dict[str, dict[str, str]]:
    """The last answer for each case."""
    return {case: answer for turn in sessions.get((system, mix), ()) for case, answer in turn["answers"].items()}


def mask_of(answer: Mapping[str, str]) -> npt.NDArray[np.bool_]:
    """The target of an answer, a NIfTI file in base64."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.nii.gz"
        path.write_bytes(base64.b64decode(answer["target"]))
        return read_mask(path)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """A NIfTI file's mask."""
    return np.asarray(nibabel.load(path).dataobj) > 0  # type: ignore[attr-defined]


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """1 for two empty masks."""
    total = int(one.sum()) + int(other.sum())
    return 2 * float((one & other).sum()) / total if total else 1.0


def goals(
    sessions: Sessions, alone: Mapping[str, Sequence[Mapping[str, Any]]], ours: str, peer: str
) -> list[str]:  # fmt: skip
    """What was wanted, beside what came out; left out where it was not measured."""
    lines = ["| goal | wanted | found | |", "|---|---|---|---|"]

    def add(name: str, wanted: str, values: Sequence[float], met: bool) -> None:
        lines.append(f"| {name} | {wanted} | {spread(list(values))} | {'met' if met else 'missed'} |")

    mine, other = sessions.get((ours, "pipeline"), ()), sessions.get((peer, "pipeline"), ())
    if mine and GOAL_CLIENTS in mine[0]["cells"]:
        pairs = [(a["cells"][GOAL_CLIENTS], b["cells"][GOAL_CLIENTS]) for a, b in zip(mine, other, strict=True)]
        ratios = [rate(a) / rate(b) for a, b in pairs if rate(b)]
        if ratios:
            wanted = f">= {GOALS['faster']:g} times"
            add(f"pipeline requests/s, {GOAL_CLIENTS} clients", wanted, ratios, median(ratios) >= GOALS["faster"])
    if mine and 1 in mine[0]["cells"]:
        ratios = [
            quantile(a["cells"][1], 0.95)[0] / quantile(b["cells"][1], 0.95)[0]
            for a, b in zip(mine, other, strict=True)
        ]
        wanted = f"<= {GOALS['latency']:g} of the peer's"
        add("pipeline p95, 1 client", wanted, ratios, median(ratios) <= GOALS["latency"])
    if mine:
        edits = [value for turn in mine for value in turn["edit"]]
        add("changed plan to target, s", f"< {GOALS['edit']:g}", edits, median(edits) < GOALS["edit"])
        theirs = [value for turn in other for value in turn["edit"]]
        lines.append(f"| the same, plain process | | {spread(theirs)} | |")
    if alone:
        memory = [
            (a["weights"] + a["cache"]) / (b["weights"] + b["cache"])
            for a, b in zip(alone["ours"], alone["peer"], strict=True)
        ]
        wanted = f"<= {GOALS['memory']:g} of two models"
        add("text weights and cache", wanted, memory, median(memory) <= GOALS["memory"])
        shares = [turn["share"] for turn in alone["ours"]]
        add("decoding alone, of the memory's speed", f">= {GOALS['share']:g}", shares, median(shares) >= GOALS["share"])
    return lines


def report(
    sessions: Sessions, alone: Mapping[str, Sequence[Mapping[str, Any]]], given: Mapping[str, Any], ours: str,
    peer: str, truths: Mapping[str, Path],
) -> tuple[str, bool]:  # fmt: skip
    """Markdown, and whether the comparison is void: the systems did not do the same work, or something failed."""
    lines = [
        f"{given['threads']} threads, {given['dtype']}, cells of {given['seconds']:g} s, {given['turns']} turn(s), "
        f"{given['cases']} cases at most; median (range) over turns" + ("; QUICK: no result" if given["quick"] else ""),
        "",
    ]
    for mix in ("text", "pipeline"):
        if (peer, mix) in sessions:
            lines += [*load_table(sessions, mix, peer), ""]
    if any(mix == "pipeline" for _, mix in sessions):
        lines += [*memory_table(sessions), ""]
    if alone:
        lines += [*decode_table(alone), ""]
    lines += goals(sessions, alone, ours, peer)
    compared, same = agreement(sessions, ours, truths)
    errors = sum(
        bool(record["error"])
        for turns in sessions.values() for turn in turns for cell in turn["cells"].values() for record in cell["done"]
    )  # fmt: skip
    lines += ["", *compared]
    if not same:
        lines.append("* THE TEXTS DIFFER: no ratio says anything before that is understood")
    if errors:
        lines.append(f"* {errors} requests failed")
    return "\n".join(lines), bool(errors) or not same
