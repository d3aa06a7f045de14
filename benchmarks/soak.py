"""The endpoint under good and bad requests for a long time: python -m benchmarks.soak --minutes 60 --out DIR

A real local Ray Serve with the smallest models there are (weights that know nothing), `--clients` clients
(`soak_clients.py`), and kills in the first part of the run: the ingress replica, then the server process with all that
belongs to it, by SIGKILL; it is started again on the same store. What is promised, and makes the exit code 1 when it is
not kept:

* every answer is accounted for: expected, or repeated because of a kill or a full queue
* no job is lost: each accepted one ends as it may; nothing stays open in the store; none changes or vanishes later
* memory is flat: a line through the size (PSS) of all processes, after warm-up and the last kill, rises by less than
  RISE_MIB and RISE_MIB_A_MINUTE for each minute of it, and by WARMING_MIB more the shorter it is than WARMING_MIN, as
  caches still fill then; likewise the number of open files
* no text of a note stands in any log, no temporary folder of a killed process stays, the audit trail is whole, the
  server is ready again after each kill

Writes `soak.json` and `soak.md`. Nothing of it is a measurement of speed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import psutil

from benchmarks.serve_processes import KEY, START_S, Served, end, free_port, memory
from benchmarks.soak_clients import MARK, PATIENCE_S, Books, Client
from rollama.core.files import write_json, write_text
from rollama.core.storage import Storage, open_storage
from serve.scratch import YOUNG_S

KILLS = ("ingress", "text", "segmentation", "server")
FIRST_KILL, LAST_KILL = 0.2, 0.4
"""Shares of the run between which the kills are spread; the rest is for the memory."""
SAMPLE_S = 1.0
WARM_UP = 1 / 3
"""Share of the time after the last kill that is left out of the line."""
RISE_MIB, RISE_MIB_A_MINUTE, RISE_FILES = 48.0, 1.0, 64
WARMING_MIN, WARMING_MIB = 10.0, 112.0
"""Five minutes with a kill rose by 54 MiB in the last 2.7; an hour by 10 in the last 24."""
LEASE_S, DEADLINE_S, KEEP_S = 5.0, 300.0, 1200.0
DIE_S = 5.0
"""What belongs to a killed server and is there after so long is named in the report, and killed too."""
REPLICAS = {"ingress": ":pipeline", "text": ":text", "segmentation": ":segmentation"}


@dataclass
class Sizes:
    """Memory and open files over time, since the last kill."""

    moments: list[float] = field(default_factory=list)
    pss: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    roles: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def look(self, server: Served) -> None:
        """Take one sample."""
        tree = server.tree()
        total, files = 0.0, 0
        roles: dict[str, float] = defaultdict(float)
        for one in tree:
            try:
                role, count = role_of(one), one.num_fds()
            except psutil.Error:
                continue
            size = memory([one])["pss"]
            total, files = total + size, files + count
            roles[role] += size
        self.moments.append(time.monotonic())
        self.pss.append(total)
        self.files.append(files)
        for role, size in roles.items():
            self.roles[role].append(size)

    def rise(self, values: list[float] | list[int]) -> tuple[float, float]:
        """(rise of a fitted line after the warm-up, its minutes)."""
        skip = int(len(values) * WARM_UP)
        x, y = np.asarray(self.moments[skip:]), np.asarray(values[skip:], dtype=float)
        if len(x) < 5:
            return float("nan"), 0.0
        slope = float(np.polyfit(x - x[0], y, 1)[0])
        return slope * float(x[-1] - x[0]), float(x[-1] - x[0]) / 60


def role_of(process: psutil.Process) -> str:
    """What a process is for."""
    words = process.cmdline()
    first = words[0] if words else process.name()
    # Ray's names end with the method at work: ray::ServeReplica:rollama:text.generate
    return first.removeprefix("ray::").split(".")[0] if first.startswith("ray::") else process.name()


def prepare(folder: Path) -> None:
    """Tiny models; `ct.nii.gz` is a cylinder of tissue, `large.nii.gz` enough for a job that can be interrupted."""
    from tests.chain.tiny import make_models

    make_models(folder / "models")
    (folder / "data").mkdir()
    x, y, _ = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 24), np.arange(12), indexing="ij")
    small = np.where(x**2 + y**2 < 0.8, 30, -1000).astype(np.int16)
    large = np.full((110, 90, 60), -1000, np.int16)
    large[10:-10, 10:-10] = np.random.default_rng(0).integers(0, 60, (90, 70, 60))
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    for array, path in ((small, "data/ct.nii.gz"), (large, "data/large.nii.gz"), (small, "secret.nii.gz")):
        nibabel.save(nibabel.Nifti1Image(array, affine), folder / path)


class Soak:
    """One run."""

    def __init__(self, folder: Path, minutes: float, clients: int, kills: list[str], seed: int) -> None:
        self.folder, self.minutes, self.kills = folder, minutes, kills
        self.books, self.over, self.sizes = Books(), threading.Event(), Sizes()
        self.port = free_port()
        self.found: list[dict[str, Any]] = []
        self.leaks: list[str] = []
        (folder / "tmp").mkdir()
        self.server = self.start()
        url = self.server.url
        self.clients = [Client(url, seed * 1000 + k, folder / "data", self.books, self.over) for k in range(clients)]

    def start(self) -> Served:
        """A server on the store, which outlives it."""
        options = {
            "models": str(self.folder / "models"), "data_folder": str(self.folder / "data"),
            "store": str(self.folder / "store"), "lease_s": LEASE_S, "deadline_s": DEADLINE_S, "keep_s": KEEP_S,
            "drain_s": 5.0,
        }  # fmt: skip
        tmp = {"TMPDIR": str(self.folder / "tmp")}
        return Served("benchmarks.serve_ours", options, "/readyz", 1, self.port, tmp)

    def run(self) -> dict[str, Any]:
        """The whole run; the report."""
        self.server.wait()
        begun = time.monotonic()
        for client in self.clients:
            client.start()
        whole = 60 * self.minutes
        steps = np.linspace(FIRST_KILL, LAST_KILL, len(self.kills)) if len(self.kills) > 1 else [FIRST_KILL]
        pending = [(float(share) * whole, kind) for share, kind in zip(steps, self.kills, strict=False)]
        while (served := time.monotonic() - begun - self.away()) < whole:
            if pending and served >= pending[0][0]:
                self.kill(pending.pop(0)[1])
                self.sizes = Sizes()
            self.sizes.look(self.server)
            time.sleep(SAMPLE_S)
        self.over.set()
        for client in self.clients:
            client.join(PATIENCE_S + 60)
        return self.report()

    def away(self) -> float:
        """Seconds without a server."""
        return sum(last - first for first, last in self.books.kills)

    def kill(self, kind: str) -> None:
        """Kill something and wait until the server is ready again."""
        window = [time.monotonic(), float("inf")]
        self.books.kills.append(window)
        left: list[str] = []
        if kind == "server":
            tree = self.server.tree()
            self.server.process.kill()
            _, alive = psutil.wait_procs(tree, timeout=DIE_S)
            left = sorted(map(role_of, alive))  # processes that outlive the one that was killed
            end(alive)
            self.keep_logs()
            self.server.kill()
            self.server = self.start()
            self.server.wait()
        else:
            victims = [one for one in self.server.tree() if role_of(one).endswith(REPLICAS[kind])]
            if not victims:
                raise SystemExit(f"no {kind} replica among {[role_of(one) for one in self.server.tree()]}")
            end(victims)
            time.sleep(1)
            self.until_ready()
        window[1] = time.monotonic() + 1
        self.found.append({"kind": kind, "ready_after_s": round(window[1] - window[0], 1), "left_alive": left})

    def until_ready(self) -> None:
        """Wait for three good answers in a row: the proxy may still send to a replica that is gone."""
        good, until = 0, time.monotonic() + START_S
        while good < 3 and time.monotonic() < until:
            good = good + 1 if self.server.answers() else 0
            time.sleep(0.5)

    def keep_logs(self) -> None:
        """Look for clinical text in the logs of a server before they are removed."""
        for path in self.server.folder.rglob("*"):
            if path.is_file() and not path.is_socket() and MARK.encode() in path.read_bytes():
                self.leaks.append(path.name)

    def report(self) -> dict[str, Any]:
        """Judge everything, while the server still runs."""
        from rollama.core.chain import verify

        storage = open_storage(str(self.folder / "store"))
        until = time.monotonic() + 120
        while (still := storage.names("open")) and time.monotonic() < until:
            time.sleep(1)  # jobs of clients that went away before they knew an id
        changed = self.changed()
        until = time.monotonic() + 2 * LEASE_S + YOUNG_S  # by then servers have looked for what killed ones left
        while (left := len(list((self.folder / "tmp").glob("rollama-*")))) and time.monotonic() < until:
            time.sleep(1)
        lost = [f"{job.kind}: no end" for job in self.books.jobs.values() if not job.ended]
        stored = {name.split("/")[1] for name in storage.names("jobs")}
        until, stays = time.monotonic() + 60, stored - expiring(storage)
        while stays and time.monotonic() < until:  # what expired between the two looks is gone at the next
            time.sleep(2)
            stays = {job for job in stays if storage.names(f"jobs/{job}")} - expiring(storage)
        rise, minutes = self.sizes.rise(self.sizes.pss)
        files, _ = self.sizes.rise(self.sizes.files)
        allowed = RISE_MIB + RISE_MIB_A_MINUTE * minutes + WARMING_MIB * max(0.0, 1 - minutes / WARMING_MIN)
        self.keep_logs()
        ready = self.server.answers()
        self.server.kill()
        chains = verify(storage)
        failures = [client.failure for client in self.clients if client.failure or client.is_alive()]
        bad = [f"{chain.writer}: {'; '.join(chain.problems)}" for chain in chains if chain.problems]
        unexplained = len(self.books.unexplained)
        promises = {
            "every answer accounted for": (not unexplained and not failures,
                                           f"{unexplained} unexplained, {len(failures)} clients failed"),
            "no job lost": (not (lost or still or changed),
                            f"{len(lost)} without an end, {len(still)} open, {len(changed)} changed or vanished"),
            "whatever is stored expires": (not stays, f"{len(stays)} would stay for ever"),
            "memory flat": (rise <= allowed, f"{rise:+.1f} MiB in {minutes:.1f} min, allowed {allowed:.1f}"),
            "open files flat": (files <= RISE_FILES, f"{files:+.0f}, allowed {RISE_FILES}"),
            "no temporary folder left": (not left, f"{left} left"),
            "no text in logs": (not self.leaks, f"found in {sorted(set(self.leaks)) or 'none'}"),
            "audit trail whole": (bool(chains) and not bad, f"{len(chains)} chains, {len(bad)} broken"),
            "ready again after kills": (ready and len(self.found) == len(self.kills), json.dumps(self.found)),
        }  # fmt: skip
        roles = {
            role: [round(values[int(len(values) * WARM_UP)], 1), round(values[-1], 1)]
            for role, values in sorted(self.sizes.roles.items())
        }
        ends: dict[str, int] = defaultdict(int)
        for job in self.books.jobs.values():
            ends[f"{job.kind}: {job.ended or 'no end'}" + (", again" if job.attempt > 1 else "")] += 1
        calls = [[*key, count] for key, count in sorted(self.books.calls.items())]
        return {
            "minutes": self.minutes, "clients": len(self.clients), "kills": self.found,
            "promises": {name: {"kept": bool(kept), "found": said} for name, (kept, said) in promises.items()},
            "calls": calls, "jobs": dict(sorted(ends.items())), "stored_jobs": len(stored), "roles_mib": roles,
            "unexplained": self.books.unexplained[:50], "client_failures": failures, "lost": [*lost, *changed, *bad],
        }  # fmt: skip

    def changed(self) -> list[str]:
        """Jobs that are not what they ended as; those that may have expired are left out."""
        found = []
        with httpx.Client(base_url=self.server.url, timeout=60, headers={"Authorization": f"Bearer {KEY}"}) as client:
            for job_id, job in self.books.jobs.items():
                if job.ended and time.time() - job.accepted < KEEP_S - 120:
                    answer = client.get(f"/v1/jobs/{job_id}")
                    now = answer.json().get("state") if answer.is_success else answer.status_code
                    if now != job.ended.split()[0]:
                        found.append(f"{job.kind}: {job.ended}, later {now}")
        return found


def expiring(storage: Storage) -> set[str]:
    """Jobs for which the store says when they end."""
    return {name.partition("-")[2] for name in storage.names("expires")}


def markdown(report: dict[str, Any]) -> str:
    """The report to read."""
    lines = [f"{report['minutes']:g} minutes, {report['clients']} clients, tiny models (weights that know nothing)", ""]
    lines += ["| promise | kept | found |", "|---|---|---|"]
    lines += [f"| {name} | {'yes' if p['kept'] else 'NO'} | {p['found']} |" for name, p in report["promises"].items()]
    lines += ["", "| call | judged | answer | times |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in report["calls"]]
    lines += ["", "| jobs | |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in report["jobs"].items()]
    lines += ["", "| process | MiB after warm-up | at the end |", "|---|---|---|"]
    lines += [f"| {role} | {first} | {last} |" for role, (first, last) in report["roles_mib"].items()]
    lines.append("")
    lines += [f"* {text}" for text in (*report["unexplained"], *report["client_failures"], *report["lost"])]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, write the report, exit with 1 when a promise is broken."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers end with it
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="with a server; kills come on top")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--kills", nargs="*", choices=KILLS, default=["ingress", "server"], help="in this order")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for soak.json and soak.md")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="rollama-soak-"))
    soak = None
    try:
        prepare(folder)
        soak = Soak(folder, given.minutes, given.clients, given.kills, given.seed)
        report = soak.run()
    finally:
        if soak is not None:
            soak.server.kill()
        shutil.rmtree(folder, ignore_errors=True)
    write_json(given.out / "soak.json", report)
    write_text(given.out / "soak.md", markdown(report))
    print(markdown(report))
    sys.exit(0 if all(promise["kept"] for promise in report["promises"].values()) else 1)


if __name__ == "__main__":
    main()
