"""A federation of processes on this machine: coordinator and sites as their people would start them.

Each site trains a logistic regression on invented numbers, in NumPy, by a command of its own: a real training that
takes a moment, so that what is tested is the federation. The coordinator and the sites run in Flower's environment
(make federation-install).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rollama.centres.federation import record
from rollama.centres.federation.weights import read_artefact, write_artefact

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRUE = np.array([1.0, -2.0, 0.5, 0.0])
PATIENCE_S = 240.0


def flower_python() -> Path:
    """The Python of Flower's environment, as `infra/federation/install` says where it is."""
    if given := os.environ.get("ROLLAMA_FEDERATION_PYTHON"):
        return Path(given)
    where = subprocess.run(
        ["sh", "infra/federation/install", "--where"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return Path(where.stdout.strip()) / "bin" / "python"


def wait_for(what: str, found: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """Look until something is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.3)
    raise AssertionError(f"{what}: not within {seconds} s")


class Fleet:
    """A coordinator's folder, sites' folders, and the processes that run on them."""

    def __init__(self, root: Path, port: int, start: Path | None = None, **settings: Any) -> None:
        self.root, self.port, self.python = root, port, flower_python()
        self.coordinator = root / "coordinator"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        if start is not None:
            shutil.copytree(start, self.coordinator / "start")
        else:
            small = {"w": np.full(4, 0.1, np.float32), "b": np.zeros(1, np.float32)}
            about = {"kind": "mini", "config": {}, "task": "p", "synthetic": True}
            write_artefact(self.coordinator / "start", small, about)
        values = {
            "name": "trial", "rounds": 2, "min_sites": 2, "round_timeout_s": 200, "grace_s": 60,
            "guard": {"max_relative": 50}, **settings,
        }  # fmt: skip
        (self.coordinator / "federation.yaml").write_text(json.dumps(values))
        self.authority = self._certificate("tls")

    def _certificate(self, name: str) -> Path:
        """A certificate for localhost and its authority, made in Flower's environment, which has cryptography."""
        code = (
            "import sys; from pathlib import Path; from rollama.centres.federation.keys import make_certificate; "
            "make_certificate(Path(sys.argv[1]), 'coordinator.test', ['localhost', '127.0.0.1'])"
        )
        self.call("-c", code, str(self.root / name))
        return self.root / name / "ca.pem"

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Flower's Python to its end."""
        done = subprocess.run(
            [str(self.python), *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}

    def begin(self, name: str, *arguments: str, program: tuple[str, ...] = ("-m", "rollama"), **more: str) -> None:
        """Start a long-running command in a process group of its own; its output goes to `<name>.log`."""
        with (self.root / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [str(self.python), *program, "federation", *arguments], env=self.environment(**more), stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def log(self, name: str) -> str:
        path = self.root / f"{name}.log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def serve(self, *options: str) -> None:
        """Start the coordinator and wait until its SuperLink answers."""
        before = self.log("serve").count("Uvicorn running")
        tls = self.root / "tls"
        self.begin(
            "serve", "serve", str(self.coordinator), "--cert", str(tls / "cert.pem"), "--key", str(tls / "cert.key"),
            "--host", "127.0.0.1", "--port", str(self.port), *options,
        )  # fmt: skip
        wait_for("the SuperLink", lambda: self.log("serve").count("Uvicorn running") > before)

    def site(
        self,
        name: str,
        seed: int,
        port: int | None = None,
        slow_s: float = 0,
        command: list[str] | None = None,
        **policy: Any,
    ) -> Path:
        """Make a site's folder with 40 invented cases and a key; returns its file. `command`: another training."""
        folder = self.root / name
        folder.mkdir()
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(40, 4))
        np.savez(folder / "data.npz", x=x, y=(rng.random(40) < 1 / (1 + np.exp(-x @ TRUE))).astype(float))
        shutil.copytree(self.coordinator / "start", folder / "start")
        shutil.copy(self.authority, folder / "ca.pem")
        self.call("-m", "rollama", "federation", "key", str(folder / "site.key"))
        command = command or [
            sys.executable,
            str(HERE / "small_training.py"),
            "{init}",
            "{out}",
            "data.npz",
            "{prox_mu}",
            str(slow_s),
        ]
        values = {
            "name": name, "coordinator": f"localhost:{port or self.port}", "training": {"command": command},
            "policy": {"max_norm": 5.0, "max_relative": 50.0, "counts": "cases", **policy},
        }  # fmt: skip
        (folder / "site.yaml").write_text(json.dumps(values))
        return folder / "site.yaml"

    def register(self, name: str) -> None:
        key = self.root / name / "site.key.pub"
        self.call("-m", "rollama", "federation", "register", str(self.coordinator), str(key), "--name", name)

    def join(self, name: str, rogue: str = "") -> None:
        """Start a site; a rogue one sends what no policy checked (see `rogue_site.py`)."""
        program = (str(HERE / "rogue_site.py"),) if rogue else ("-m", "rollama")
        self.begin(name, "join", str(self.root / name / "site.yaml"), program=program, ROGUE=rogue)

    def kill(self, name: str) -> None:
        """SIGKILL a command and everything below it."""
        process = self.running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def close(self) -> None:
        for name in list(self.running):
            if self.running[name].poll() is None:
                self.kill(name)

    def run(self) -> None:
        self.begin("run", "run", str(self.coordinator))

    def ended(self, seconds: float = 2 * PATIENCE_S) -> int:
        """Exit code of the run, once it has ended."""
        return self.running["run"].wait(seconds)

    def events(self, event: str | None = None, of: str = "coordinator") -> list[dict[str, Any]]:
        """Lines of a record: the coordinator's, or a site's."""
        path = self.root / of / ("record.jsonl" if of == "coordinator" else "state/record.jsonl")
        assert record.verify(path) == []
        return [line for line in record.read(path) if event in (None, line["event"])]

    def model(self) -> dict[str, np.ndarray]:
        return read_artefact(self.coordinator / "model")[0]
