"""One CPU training step inside the image, as the cluster would run it: a non-root user, a read-only root, no compiler.

Checks what a wrong image gets wrong: it makes a small cohort, trains P for one step with CEFTune under DeepSpeed
ZeRO-2 on two Ray Train workers, loads the adapter back, and says what it found about the container. Of Flower's
environment: that it has Flower and the same code, has no torch, and makes a site's key. Exit code 0 means all held.

    docker run --rm --read-only --tmpfs /tmp --network none IMAGE python /opt/rollama/smoke.py
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rollama

FEDERATED = Path("/opt/federated")
LOOK = """
import importlib.util, json, pathlib, flwr, rollama
torch = importlib.util.find_spec("torch") is not None
print(json.dumps({"package": str(pathlib.Path(rollama.__file__).parent), "torch": torch}))
"""
COMPILERS = ("cc", "gcc", "g++", "clang", "nvcc")  # ninja is there, as a package that DeepSpeed requires


def main() -> int:
    """Run all checks; print one JSON line; return the exit code."""
    found: dict[str, object] = {
        "user": os.geteuid(),
        "compilers": [name for name in COMPILERS if shutil.which(name)],
        "root_read_only": _read_only(Path("/opt/rollama")),
    }
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        begin = time.monotonic()
        command = ["rollama", "train", "p", "--preset", "tiny", "--workspace", folder, "--set", "p.steps=1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found["seconds"] = round(time.monotonic() - begin, 1)
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", file=sys.stderr)
            found["training"] = f"exit code {done.returncode}"
        else:
            found |= _trained(Path(folder))
    found["code"] = code_hash(Path(rollama.__file__).parent)
    found["sbom_components"] = _components(Path(sys.prefix) / "sbom.cdx.json")
    found["federated"] = federated(FEDERATED)
    print(json.dumps(found))
    held = found["training"] == "ok" and found["user"] != 0 and found["root_read_only"] and not found["compilers"]
    return 0 if held and found["sbom_components"] and found["federated"] == "ok" else 1


def code_hash(package: Path) -> str:
    """Hash of a package's files, to tell the code in an image from another version of it."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def federated(environment: Path) -> str:
    """What is wrong with Flower's environment; "ok" for nothing."""
    programs = [environment / "bin" / name for name in ("python", "rollama", "flower-superlink", "flower-supernode")]
    if missing := [path.name for path in programs if not path.is_file()]:
        return f"no {', '.join(missing)} in {environment}"
    looked = subprocess.run([str(programs[0]), "-c", LOOK], capture_output=True, text=True, check=False)
    if looked.returncode:
        return looked.stderr[-500:]
    said = json.loads(looked.stdout.splitlines()[-1])
    if said["torch"] or code_hash(Path(said["package"])) != code_hash(Path(rollama.__file__).parent):
        return "holds torch" if said["torch"] else "holds other code than the first environment"
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        command = [str(programs[1]), "federation", "key", f"{folder}/site.key"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "ok" if done.returncode == 0 and Path(folder, "site.key.pub").is_file() else done.stderr[-500:]


def _trained(folder: Path) -> dict[str, object]:
    from rollama.training.artefact import load_artefact
    from rollama.training.metrics_log import read_metrics

    tensors, manifest = load_artefact(folder / "models" / "p")
    rows = read_metrics(next((folder / "train").glob("p-*")) / "metrics.jsonl")
    complete = len(rows) == 1 and tensors and manifest["config"]["method"] == "ceftune"
    return {"training": "ok" if complete else "artefact incomplete", "loss": rows[-1]["loss"], "tensors": len(tensors)}


def _read_only(path: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=path):
            return False
    except OSError:
        return True


def _components(path: Path) -> int:
    return len(json.loads(path.read_text())["components"]) if path.is_file() else 0


if __name__ == "__main__":
    sys.exit(main())
