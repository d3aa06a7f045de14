"""A federation of real processes: SuperLink, SuperNodes, TLS, keys, and what happens when something is wrong.

The first test is in CI (make test-federation); the faults are run by hand (make test-federation-faults).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serve_processes import free_port
from rollama.cohort.config import CohortConfig
from rollama.cohort.make import make_cohort
from rollama.core.files import read_json
from rollama.lineage.ledger import open_ledger
from rollama.lineage.query import Lineage
from tests.centres.fleet import Fleet, wait_for

pytestmark = pytest.mark.federation


@pytest.fixture
def fleet(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    settings: dict[str, Any] = getattr(request, "param", {})
    made = Fleet(tmp_path, free_port(), **settings)
    yield made
    made.close()


def children(pid: int, called: str = "flower-superlink") -> list[int]:
    """Children of a process in whose command line the words stand."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and called.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def after_the_first_round(fleet: Fleet) -> None:
    """Two slow sites, and a federation that has ended its first round and goes on."""
    for seed, name in enumerate(("north", "south")):
        fleet.site(name, seed, slow_s=2)
    fleet.serve()
    for name in ("north", "south"):
        fleet.register(name)
        fleet.join(name)
    wait_for("the sites", lambda: fleet.log("serve").count("Activated node") >= 2)
    fleet.run()
    wait_for("the first round", lambda: (fleet.coordinator / "rounds" / "0001" / "round.json").is_file())


def averaged(fleet: Fleet, number: int) -> dict[str, np.ndarray]:
    """The weighted mean of what the sites of a round sent, from their own records' norms and the stored rounds."""
    from safetensors.numpy import load_file

    return load_file(fleet.coordinator / "rounds" / f"{number:04d}" / "model.safetensors")


@pytest.mark.parametrize("fleet", [{"rounds": 3}], indirect=True)
def test_three_sites_one_killed_and_back_strangers_refused(fleet: Fleet) -> None:
    for seed, name in enumerate(("north", "south", "west")):
        fleet.site(name, seed, slow_s=3 if name == "west" else 0)
    fleet.site("stranger", 8)
    fleet.site("misled", 9)
    shutil.copy(fleet._certificate("other"), fleet.root / "misled" / "ca.pem")
    fleet.serve()
    for name in ("north", "south", "west", "misled"):
        fleet.register(name)
    for name in ("north", "south", "west", "misled", "stranger"):
        fleet.join(name)
    wait_for("the sites", lambda: fleet.log("serve").count("Activated node") >= 3)
    fleet.run()
    wait_for("west's training", lambda: (fleet.root / "west" / "state" / "trial" / "work" / "init").exists())
    fleet.kill("west")
    fleet.join("west")
    assert fleet.ended() == 0, fleet.log("run")

    accepted = {(line["site"], line["round"]) for line in fleet.events("accepted")}
    assert {(name, number) for name in ("north", "south") for number in (1, 2, 3)} <= accepted
    assert {site for site, _ in accepted} <= {"north", "south", "west"}
    assert "CERTIFICATE_VERIFY_FAILED" in fleet.log("misled") or "certificate verify failed" in fleet.log("misled")
    for name in ("misled", "stranger"):
        assert not (fleet.root / name / "state" / "record.jsonl").exists(), "nothing came there and nothing left"
    # Every update that was averaged is in the record of the site that sent it, with the same hash.
    for line in fleet.events("accepted"):
        assert line["sha256"] in {left["sha256"] for left in fleet.events("left", of=line["site"])}
    # A case is followed to its updates at the site, and from there to the model at the coordinator.
    updates = {line["sha256"] for line in fleet.events("accepted")}
    common = Lineage(open_ledger(fleet.coordinator))
    (model,) = common.models()
    assert common.seen(model) == updates
    for name in ("north", "south"):
        saw = set(Lineage(open_ledger(fleet.root / name / "state")).who_saw(f"{name}-7"))
        assert {line["sha256"] for line in fleet.events("left", of=name)} <= saw
    text = "".join(path.read_text() for path in (fleet.coordinator / "lineage").rglob("*.json*"))
    assert "north-7" not in text
    assert np.sign(fleet.model()["w"][:2]).tolist() == [1, -1]
    manifest = read_json(fleet.coordinator / "model" / "manifest.json")
    assert manifest["federation"]["rounds"] == 3 and manifest["kind"] == "mini"


@pytest.mark.matrix
@pytest.mark.parametrize("fleet", [{"rounds": 2}], indirect=True)
def test_rogue_updates_are_refused_and_the_round_goes_on(fleet: Fleet) -> None:
    kinds = {"nan": "holds NaN", "shape": "has shape", "huge": "guard.max_", "replay": "was sent before (round 1)"}
    for seed, name in enumerate(("north", "south", *kinds)):
        fleet.site(name, seed)
    fleet.serve()
    for name in ("north", "south", *kinds):
        fleet.register(name)
        fleet.join(name, rogue=name if name in kinds else "")
    wait_for("the sites", lambda: fleet.log("serve").count("Activated node") >= 6)
    fleet.run()
    assert fleet.ended() == 0, fleet.log("run")
    refused = {(line["site"], line["round"]): line["refusal"] for line in fleet.events("refused")}
    for kind, words in kinds.items():
        for number in (2,) if kind == "replay" else (1, 2):
            assert words in refused[kind, number]
    assert {line["site"] for line in fleet.events("accepted") if line["round"] == 2} == {"north", "south"}
    assert np.isfinite(fleet.model()["w"]).all() and float(np.abs(fleet.model()["w"]).max()) < 20


@pytest.mark.matrix
@pytest.mark.parametrize("fleet", [{"rounds": 3, "strategy": "fedyogi"}], indirect=True)
def test_the_coordinator_is_killed_and_comes_back(fleet: Fleet) -> None:
    after_the_first_round(fleet)
    first = averaged(fleet, 1)
    fleet.kill("serve")
    fleet.kill("run")
    fleet.serve()
    fleet.run()
    assert fleet.ended() == 0, fleet.log("run") + fleet.log("serve")[-3000:]
    assert [line["round"] for line in fleet.events("finished")] == [1, 2, 3]
    assert [line["round"] for line in fleet.events("started")] == [1, 2]
    again = averaged(fleet, 1)
    assert all(bool((again[name] == value).all()) for name, value in first.items())
    assert read_json(fleet.coordinator / "rounds" / "0003" / "round.json")["changed"]


@pytest.mark.matrix
@pytest.mark.parametrize("fleet", [{"rounds": 3}], indirect=True)
def test_a_coordinator_that_goes_on_by_itself_needs_no_second_command(fleet: Fleet) -> None:
    """As on a cluster, where the pod is replaced and with it whoever had given the command."""
    after_the_first_round(fleet)
    fleet.kill("serve")
    fleet.kill("run")
    fleet.serve("--go-on")
    wait_for("the run", lambda: [line["round"] for line in fleet.events("started")] == [1, 2])
    fleet.run()
    assert fleet.ended() == 0, fleet.log("run") + fleet.log("serve")[-3000:]
    assert "going on already; following it" in fleet.log("run"), "who gives the command again sees that run"
    assert [line["round"] for line in fleet.events("finished")] == [1, 2, 3]
    assert len(fleet.events("started")) == 2 and not fleet.events("stopped")
    # Another three rounds are begun and stopped by a person: then nothing goes on by itself.
    settings = json.loads((fleet.coordinator / "federation.yaml").read_text())
    (fleet.coordinator / "federation.yaml").write_text(json.dumps({**settings, "rounds": 6}))
    fleet.run()
    wait_for("the fourth round", lambda: [line for line in fleet.events("asked") if line["round"] == 4])
    said = fleet.call("-m", "rollama", "federation", "stop", str(fleet.coordinator)).stdout
    assert "stopped run " in said and fleet.ended() == 1 and "a person stopped it" in fleet.log("run")
    fleet.kill("serve")
    before, begun = fleet.log("serve").count("was cut off"), len(fleet.events("started"))
    fleet.serve("--go-on")
    wait_for("its door", lambda: fleet.log("serve").count("serving sites on") == 3)
    time.sleep(10)
    assert fleet.log("serve").count("was cut off") == before and len(fleet.events("started")) == begun


@pytest.mark.matrix
@pytest.mark.parametrize("fleet", [{"rounds": 3}], indirect=True)
def test_flowers_process_that_starts_runs_dies(fleet: Fleet) -> None:
    """The SuperLink lives on without it and would begin no run again; the coordinator starts the SuperLink anew."""
    after_the_first_round(fleet)
    (child,) = (name for link in children(fleet.running["serve"].pid) for name in children(link, "flower-superexec"))
    os.kill(child, signal.SIGKILL)
    wait_for("a new SuperLink", lambda: "starting it again" in fleet.log("serve"))
    assert fleet.ended() == 0, fleet.log("run") + fleet.log("serve")[-3000:]
    assert [line["round"] for line in fleet.events("finished")] == [1, 2, 3]


@pytest.mark.matrix
@pytest.mark.parametrize("fleet", [{"rounds": 1, "strategy": "fedprox", "prox_mu": 0.1}], indirect=True)
def test_a_capture_holds_what_the_record_says_and_no_more(fleet: Fleet) -> None:
    """Between site and coordinator sits a proxy that ends TLS and keeps every request."""
    captured = fleet.root / "captured"
    captured.mkdir()
    between = free_port()
    for seed, name in enumerate(("north", "south")):
        fleet.site(name, seed, port=between if name == "north" else None)
    fleet.serve()
    tls = fleet.root / "tls"
    fleet.begin(
        "capture", program=(str(Path(__file__).parent / "capture.py"),), PORT=str(between), TO=str(fleet.port),
        TLS=str(tls), FOLDER=str(captured),
    )  # fmt: skip
    wait_for("the proxy", lambda: (captured / "ready").exists())
    for name in ("north", "south"):
        fleet.register(name)
        fleet.join(name)
    fleet.run()
    assert fleet.ended() == 0, fleet.log("run")
    decoded = fleet.call(str(Path(__file__).parent / "decode_capture.py"), str(captured)).stdout
    seen = sorted(tuple(line.split()) for line in decoded.splitlines())
    (left,) = fleet.events("left", of="north")
    said = sorted((tensor["name"], tensor["sha256"]) for tensor in left["tensors"])
    assert seen == said


@pytest.mark.matrix
@pytest.mark.timeout(2400)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("what", ["p", "seg"])
def test_real_trainings_give_the_weights_of_their_rehearsal(what: str, tmp_path: Path) -> None:
    """Four sites train P or SEG as processes over TLS; the study of centres rehearses the same in one process."""
    from benchmarks.centres_study import SETUP, START, Job, train
    from benchmarks.centres_training import Setup, training_centres

    dataset = tmp_path / "cohort"
    make_cohort(dataset, CohortConfig.model_validate({"size": "xs", "train": 3, "validation": 1, "test": 1}))
    steps = tuple(f"{part}.{key}=4" for part in ("text", "segmentation") for key in ("steps", "batch", "micro_batch"))
    setup = Setup("tiny", steps, str(dataset), rounds=2)
    setup.write(tmp_path / SETUP)
    job = Job(tmp_path, what, 0, "federated")
    start = train(job.other(START), setup)
    centres = training_centres(dataset)
    fleet = Fleet(
        tmp_path / "fleet", free_port(), start, min_sites=len(centres), round_timeout_s=900, guard={"max_relative": 1e3}
    )
    try:
        for number, centre in enumerate(centres):
            command = [sys.executable, "-m", "benchmarks.centres_training", str(tmp_path / SETUP), what, centre]
            command += ["{seed}", "{init}", "{out}"]
            fleet.site(centre, number, command=command, max_norm=1e9, max_relative=1e3, min_cases=1)
        fleet.serve()
        for centre in centres:
            fleet.register(centre)
            fleet.join(centre)
        wait_for("the sites", lambda: fleet.log("serve").count("Activated node") >= len(centres))
        fleet.run()
        assert fleet.ended(1800) == 0, fleet.log("run")
        lost = [(line["round"], line["reason"]) for line in fleet.events("failed")]
        assert not lost, "updates were lost on the way, so there is nothing to compare; is the machine too busy?"
    finally:
        fleet.close()
    train(job, setup)
    (rehearsal,) = (tmp_path / "federated").iterdir()
    flower, rehearsed = (
        [read_json(path)["weights"] for path in sorted((place / "rounds").glob("*/round.json"))]
        for place in (fleet.coordinator, rehearsal)
    )
    assert flower == rehearsed and len(set(flower)) == 2
