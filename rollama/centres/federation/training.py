"""A site's own training, started as a command and read back as an artefact.

Whatever trains is the site's business: `rollama train` on this machine, a script that submits a RayJob to the
hospital's cluster, anything that begins from the artefact in {init} and leaves one in {out}. It runs in its own
environment, so Flower's packages and the training's never meet.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from rollama.centres.federation.config import Site
from rollama.centres.federation.weights import Tensors, moving, read_artefact, write_artefact
from rollama.core.errors import ConfigError, RollamaError

WORK, MODELS, NAME = "work", "models", "update"
"""A round's workspace in `<state>/<federation>`, and where its model is in it."""
TAIL = 2000


class TrainingFailed(RollamaError):
    """The site's command failed or left no model."""


def train(
    site: Site, folder: Path, received: Tensors, number: int, rounds: int, prox_mu: float, federation: str
) -> tuple[Tensors, int]:
    """Run a round of the site's training in `folder`, that of its file: (weights after it, cases it was trained on).

    What the command prints goes to `<state>/<federation>/round-NNNN.log` and nowhere else: it may name cases.

    Raises:
        TrainingFailed: the command failed, ran too long, or left no artefact.
        CheckpointError: what it left is damaged.
    """
    work = site.state / federation / WORK
    init, manifest = begin(site.start, received, work)
    out = work / MODELS / NAME
    values = {
        "init": init, "out": out, "work": work, "name": NAME, "prox_mu": prox_mu, "seed": number,
        "rounds": rounds, "task": manifest.get("task", "seg"),
    }  # fmt: skip
    log = site.state / federation / f"round-{number:04d}.log"
    _run(site, folder, values, log)
    if not out.is_dir():
        raise TrainingFailed(f"the site's training left no model in its folder {{out}}; see {log.name} at the site")
    return taken(out)


def begin(start: Path, received: Tensors, work: Path) -> tuple[Path, dict[str, Any]]:
    """Empty the folder `work` and write what a round's training begins from: (that artefact, the start's manifest)."""
    tensors, manifest = read_artefact(start)
    shutil.rmtree(work, ignore_errors=True)  # a round that was interrupted began from other weights
    work.mkdir(parents=True)
    write_artefact(work / "init", {**tensors, **received}, manifest)
    return work / "init", manifest


def taken(out: Path) -> tuple[Tensors, int]:
    """What a round's training left: (its trained tensors, the cases it was trained on)."""
    after, described = read_artefact(out)
    return moving(after, described), cases_of(described)


def cases_of(manifest: dict[str, Any]) -> int:
    """How many cases a model was trained on, as its manifest says; 0 where it does not."""
    cases = manifest.get("cases")
    return sum(int(count) for count in cases.values()) if isinstance(cases, dict) else 0


def _run(site: Site, folder: Path, values: dict[str, Any], log: Path) -> None:
    try:
        command = [part.format(**values) for part in site.training.command]
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"training.command: unknown placeholder {error}; there are {', '.join(values)}") from error
    # Flower runs its apps with its own variables and folders on the path; the training starts from a clean slate. The
    # lineage of a round's workspace goes with it, so whoever signs the site's must not sign that one.
    left_out = ("FLWR_", "ROLLAMA_LINEAGE_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    environment["PATH"] = environment.get("ROLLAMA_SITE_PATH", environment.get("PATH", ""))
    environment |= site.training.environment
    with log.open("w", encoding="utf-8") as stream:
        try:
            done = subprocess.run(
                command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment, cwd=folder,
                timeout=site.training.timeout_s, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise TrainingFailed(f"the site's training took longer than {site.training.timeout_s} s") from error
        except OSError as error:
            raise TrainingFailed(f"the site's training could not start ({error.strerror})") from error
    if done.returncode:
        raise TrainingFailed(f"the site's training ended with exit code {done.returncode}; see {log.name} at the site")
