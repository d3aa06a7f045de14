"""A small real training for the tests of a federation: logistic regression on a site's invented cases, in NumPy."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from rollama.centres.federation.weights import read_artefact, write_artefact
from rollama.core.manifest import WEIGHTS
from rollama.lineage.events import Trained
from rollama.lineage.ledger import open_ledger


def main(init: str, out: str, data: str, prox_mu: float, slow_s: float) -> None:
    """Thirty steps of gradient descent from the weights in `init`."""
    tensors, manifest = read_artefact(Path(init))
    cases = np.load(data)
    x, y = cases["x"], cases["y"]
    first = w = np.concatenate([tensors["w"], tensors["b"]]).astype(np.float64)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    for _ in range(30):
        w = w - 0.5 * (x.T @ (1 / (1 + np.exp(-x @ w)) - y) / len(y) + prox_mu * (w - first))
    time.sleep(slow_s)
    trained = {"w": w[:4].astype(np.float32), "b": w[4:].astype(np.float32)}
    write_artefact(Path(out), trained, {**manifest, "cases": {"here": len(y)}})
    tell(Path(out), Path.cwd().name, len(y))


def tell(out: Path, name: str, count: int) -> None:
    """What `rollama train` writes into the lineage of a round's workspace."""
    ledger = open_ledger(out.parents[1])
    cases = [{"case": f"{name}-{k}", "centre": name, "split": "train"} for k in range(count)]
    ledger.keep_list(f"data-of-{name}", name, cases)
    model = read_artefact(out)[1]["files"][WEIGHTS]
    ledger.record(Trained(model=model, task="p", data=f"data-of-{name}", run="small"))


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]), float(sys.argv[5]))
