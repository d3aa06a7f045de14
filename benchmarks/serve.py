"""The endpoint against a plain FastAPI process: python -m benchmarks.serve --models MODELS --dataset DATASET

    python -m benchmarks.serve --models runs/demo/models --dataset runs/demo/cohort            # 25 minutes on two cores
    python -m benchmarks.serve --models runs/demo/models --dataset runs/demo/cohort --quick    # whether all works

Three systems with the same weights, number format, model grid and threads: this endpoint (Ray Serve, default
settings unless `--ours key=value`), a plain process as an able team writes it (`serve_peer.py`), and that process with
our crop. Locust (fetched by `uv run --with locust`) asks them in a closed loop with notes and CTs of held-out cases:
`text` is one request for summary and plan, `pipeline` note and CT until the target is here. One system runs at a time;
turns go to and fro, ratios are taken within a turn, medians and ranges over turns. For each mix a system is started
anew and asked once before the clock runs.

After `--seconds` no request is begun. With up to eight clients those that run may end; with more they are given up and
their age counts as a latency, so a percentile above it is a lower bound (marked >=). Requests a second: those answered,
divided by the time until the last of them. Ours also writes a picture, a manifest and a record in the store for each
job; the peer only the target. The answers of all systems are compared: texts must be equal; masks by
their Dice with ours and with the true target.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serve_processes import KEY, ROOT, Served
from benchmarks.serve_report import report

OURS, PEER, CROPPED = "this endpoint", "plain process", "plain process with our crop"
SYSTEMS = {OURS: ("text", "pipeline"), PEER: ("text", "pipeline"), CROPPED: ("pipeline",)}
"""What is measured; the crop changes nothing for texts."""
DRAINED = 8
"""Up to so many clients, running requests may end."""
DRAIN_S = 600.0
UV = Path(sys.executable).parent / "uv"


def held_out(dataset: Path, count: int) -> tuple[list[dict[str, str]], list[dict[str, str]], dict[str, Path]]:
    """Cases for the load (test, then the unseen centre); edits: a CT with its plan and with another side's; targets."""
    from rollama.data.case import Split
    from rollama.data.dataset import open_dataset
    from rollama.data.plan import render_plan

    data = open_dataset(dataset, check_volumes=False)
    cases = [case for split in (Split.TEST, Split.EXTERNAL) for case in data.select(split) if case.note]
    if not cases:
        raise SystemExit(f"{dataset}: no held-out case with a note")
    load = [
        {"case": case.case_id, "note": case.note, "ct_path": str(case.image.relative_to(dataset.resolve()))}
        for case in cases[:count]
    ]
    edits = []
    for case in cases:
        if case.plan is not None and case.plan.has_target:
            ct = str(case.image.relative_to(dataset.resolve()))
            edits.append({"ct_path": ct, "plan": case.plan_text, "edited": render_plan(case.plan.mirrored())})
    return load, edits, {case.case_id: case.target for case in cases}


def start(system: str, given: argparse.Namespace) -> Served:
    """A system, not yet ready."""
    common = {"models": str(given.models.resolve()), "data_folder": str(given.dataset.resolve())}
    if system == OURS:
        options = {**common, "deadline_s": 1800.0, **dict(given.ours)}
        return Served("benchmarks.serve_ours", options, "/readyz", given.threads)
    options = {**common, "dtype": given.dtype, "lock": given.lock, "crop": system == CROPPED}
    return Served("benchmarks.serve_peer", options, "/ready", given.threads)


def ask(system: str, server: Served, mix: str, cases: list[dict[str, str]], **bounds: Any) -> dict[str, Any]:
    """One cell: some clients for some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        side = "ours" if system == OURS else "peer"
        task = {"url": server.url, "system": side, "mix": mix, "key": KEY, "cases": cases, "out": str(out), **bounds}
        command = [str(UV), "run", "-q", "--no-project", "--with", "locust", "python"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [*command, str(ROOT / "benchmarks" / "serve_load.py")], input=json.dumps(task), cwd=folder, text=True,
            env=environment, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode or not out.is_file():
            raise SystemExit(f"{system}: the load generator failed\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def edit_seconds(system: str, server: Served, edits: list[dict[str, str]]) -> list[float]:
    """Seconds from another plan to its target, for CTs that were segmented just before."""
    seconds = []
    with httpx.Client(base_url=server.url, timeout=600, headers={"Authorization": f"Bearer {KEY}"}) as client:

        def segment(plan: str, ct_path: str) -> None:
            path = "/v1/segment" if system == OURS else "/segment"
            answer = client.post(path, json={"plan": plan, "ct_path": ct_path}, headers={"Prefer": "wait=300"})
            answer.raise_for_status()
            if system == OURS:
                found = answer.json()
                if found["state"] != "done":
                    raise SystemExit(f"{system}: a plan's job is {found['state']}: {found['error']}")
                client.get(found["files"]["target.nii.gz"]).raise_for_status()

        for edit in edits:
            segment(edit["plan"], edit["ct_path"])
            begun = time.perf_counter()
            segment(edit["edited"], edit["ct_path"])
            seconds.append(time.perf_counter() - begun)
    return seconds


def session(
    system: str, mix: str, given: argparse.Namespace, cases: list[dict[str, str]], edits: list[dict[str, str]]
) -> dict[str, Any]:
    """Start a system, ask it with one mix and every number of clients, end it."""
    server = start(system, given)
    with server:
        waited = server.wait()
        warm = ask(system, server, mix, cases[-1:], clients=1, seconds=0.5, drain_s=DRAIN_S)
        if any(record["error"] for record in warm["done"]):
            raise SystemExit(f"{system}: {warm['done'][0]['error']}\n{server.log.read_text(errors='replace')[-2000:]}")
        server.watch()
        found: dict[str, Any] = {"start_s": waited, "cells": {}, "answers": {}}
        if mix == "pipeline":
            found["edit"] = edit_seconds(system, server, edits)
        for clients in given.clients:
            drain = DRAIN_S if clients <= DRAINED else 0.0
            cell = ask(system, server, mix, cases, clients=clients, seconds=given.seconds, drain_s=drain)
            found["answers"] |= cell.pop("answers")
            found["cells"][clients] = cell
            print(f"  {system}, {mix}, {clients}: {len(cell['done'])} answered", file=sys.stderr, flush=True)
        found["peak"] = dict(server.peak)
    return found


def decode(side: str, given: argparse.Namespace, notes: list[str]) -> dict[str, Any]:
    """One text alone, in a process of its own."""
    task = {
        "side": side,
        "models": str(given.models.resolve()),
        "notes": notes,
        "threads": given.threads,
        "dtype": given.dtype,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve_decode", json.dumps(task)], cwd=ROOT, env=environment, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"decoding ({side}) failed\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers end with it
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder with s/, p/ and seg/")
    parser.add_argument("--dataset", type=Path, required=True, help="a data set with held-out cases")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="of one cell, plus what is still running then")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--cases", type=int, default=32, help="different patients at most")
    parser.add_argument("--threads", type=int, default=2, help="of torch, in every process of every system")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the plain process")
    parser.add_argument("--lock", default="one", choices=["one", "model"], help="of the plain process")
    parser.add_argument("--ours", type=setting, nargs="*", default=[], metavar="KEY=VALUE", help="of the endpoint")
    parser.add_argument("--only", nargs="*", choices=["text", "pipeline", "decode"], help="parts; default: all")
    parser.add_argument("--quick", action="store_true", help="one turn, few requests: shows that all works, no result")
    parser.add_argument("--json", type=Path, help="also everything that was measured, answers left out")
    given = parser.parse_args()
    if given.quick:
        given.turns, given.seconds, given.clients, given.cases = 1, 1.0, [1, 4], 4
    parts = given.only or ["text", "pipeline", "decode"]
    cases, edits, truths = held_out(given.dataset, given.cases)
    edits = edits[: 1 if given.quick else 3]
    names = [(system, mix) for system, mixes in SYSTEMS.items() for mix in mixes if mix in parts]
    sessions: dict[tuple[str, str], list[dict[str, Any]]] = {name: [] for name in names}
    alone: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    failed = False
    for turn in range(given.turns):
        for name in names if turn % 2 == 0 else reversed(names):
            print(f"turn {turn + 1}: {name[0]}, {name[1]}", file=sys.stderr, flush=True)
            sessions[name].append(session(*name, given, cases, edits))
        for side in (alone if turn % 2 == 0 else reversed(alone)) if "decode" in parts else ():
            try:
                alone[side].append(decode(side, given, [case["note"] for case in cases[: 1 if given.quick else 3]]))
            except SystemExit as error:  # ten minutes of other figures must not be lost with this one
                print(error, file=sys.stderr)
                failed = True
    whole = all(alone.values())
    text, broken = report(sessions, alone if whole else {}, vars(given), OURS, PEER, truths)
    print(text)
    if given.json:
        kept = {f"{system}: {mix}": without_answers(runs) for (system, mix), runs in sessions.items()}
        given.json.write_text(json.dumps({"sessions": kept, "decode": alone}, indent=1))
    sys.exit(1 if broken or failed else 0)


def setting(text: str) -> tuple[str, Any]:
    """`key=value` of the endpoint's configuration."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def without_answers(runs: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Measurements without clinical text."""
    return [{key: value for key, value in run.items() if key != "answers"} for run in runs]


if __name__ == "__main__":
    main()
