"""A site's training as a command: what it gets, what it leaves, what is told of a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from rollama.centres.federation.config import Site
from rollama.centres.federation.training import TrainingFailed, train
from rollama.centres.federation.weights import write_artefact
from rollama.core.errors import CheckpointError, ConfigError

HALVE = """
import sys
from pathlib import Path
from rollama.centres.federation.weights import read_artefact, write_artefact
tensors, manifest = read_artefact(Path(sys.argv[1]))
print("patient 4711")
write_artefact(Path(sys.argv[2]), {"w": tensors["w"] / 2}, {**manifest, "cases": {"a": 3, "b": 4}})
"""


def site(folder: Path, *command: str, **training: object) -> Site:
    write_artefact(folder / "start", {"w": np.ones(2, np.float32)}, {"kind": "mini", "task": "p"})
    (folder / "halve.py").write_text(HALVE)
    values = {
        "name": "north", "coordinator": "host:1", "start": folder / "start", "state": folder / "state",
        "training": {"command": command, **training}, "policy": {"max_norm": 1},
    }  # fmt: skip
    return Site.model_validate(values)


def run(chosen: Site, folder: Path) -> tuple[dict[str, np.ndarray], int]:
    return train(chosen, folder, {"w": np.full(2, 8.0, np.float32)}, 3, 20, 0.5, "trial")


def test_it_begins_from_the_weights_that_came(tmp_path: Path) -> None:
    chosen = site(tmp_path, sys.executable, "halve.py", "{init}", "{out}", "{prox_mu}", "{seed}", "{rounds}", "{task}")
    tensors, cases = run(chosen, tmp_path)
    assert tensors["w"].tolist() == [4, 4] and cases == 7
    assert "patient 4711" in (tmp_path / "state" / "trial" / "round-0003.log").read_text()


@pytest.mark.parametrize(
    ("command", "words", "kind"),
    [
        (("python", "{data}"), "unknown placeholder 'data'", ConfigError),
        (("no-such-program",), "could not start", TrainingFailed),
        ((sys.executable, "-c", "print('patient 4711'); raise SystemExit(3)"), "with exit code 3", TrainingFailed),
        ((sys.executable, "-c", "pass"), "left no model", TrainingFailed),
        (("mkdir", "-p", "{out}"), "no manifest", CheckpointError),
        ((sys.executable, "-c", "import time; time.sleep(9)"), "took longer than 0.2 s", TrainingFailed),
    ],
)  # fmt: skip
def test_a_failure_is_told_without_what_was_printed(
    tmp_path: Path, command: tuple[str, ...], words: str, kind: type[Exception]
) -> None:
    chosen = site(tmp_path, *command, timeout_s=0.2 if "sleep" in command[-1] else 20)
    with pytest.raises(kind, match=words) as caught:
        run(chosen, tmp_path)
    assert "4711" not in str(caught.value)
