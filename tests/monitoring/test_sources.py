"""Both sides of a comparison as they come: manifests old and new, data sets, scraped metrics."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from rollama.core.errors import CheckpointError, DataError
from rollama.core.files import write_json
from rollama.data.case import Split
from rollama.data.dataset import write_centre
from rollama.data.profile import ALL, Profile
from rollama.monitoring.sources import of_dataset, of_metrics, read_profiles
from rollama.training.artefact import save_artefact

PLAN = (
    "Side: {side}. Surgery: breast-conserving. Volumes: whole breast. Nodes: none. Boost: none. "
    "Prescription: 40.05 Gy in 15 fractions. Technique: VMAT."
)
PROFILE = Profile({"north": {"plan_side": {"left": 30, "right": 20}}}).as_dict()


def model(folder: Path, **manifest: Any) -> Path:
    save_artefact(folder, {"w": torch.ones(1)}, {"kind": "text-adapter", "task": "p", **manifest})
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Texts of 4 training cases (left) and 2 test cases (right)."""
    root = tmp_path / "texts"
    (root / "north").mkdir(parents=True)
    splits = [Split.TRAIN] * 4 + [Split.TEST] * 2 + [Split.COUNTERFACTUAL]
    items = [
        (split, {"case_id": f"c{n}", "note": "note", "summary": "left", "plan_text": PLAN.format(
            side="left" if split is Split.TRAIN else "right")})
        for n, split in enumerate(splits)
    ]  # fmt: skip
    write_centre(root / "north", items)
    write_json(root / "dataset.json", {
        "name": "toy", "version": "1", "synthetic": True, "label": "none", "notice": "synthetic", "centres": ["north"],
        "content_hash": "abc",
    })  # fmt: skip
    return root


def test_profiles_of_one_model_and_of_a_folder_of_models(tmp_path: Path) -> None:
    place = model(tmp_path / "models/p", profile=PROFILE, data={"content_hash": "abc"})
    for given in (place, place.parent):
        found, data = read_profiles(given)
        assert found["p"].counts("north", "plan_side") == [30, 20] and data == {"abc"}
    with pytest.raises(CheckpointError, match="no trained model here"):
        read_profiles(tmp_path)


def test_an_old_model_says_so_and_takes_its_training_data_instead(tmp_path: Path, texts: Path) -> None:
    old = model(tmp_path / "p")
    with pytest.raises(CheckpointError, match=r"holds no profile .* --reference"):
        read_profiles(old)
    found, _ = read_profiles(old, texts)
    assert found["p"].counts("north", "plan_side") == [4, 0]


def test_of_the_training_data_itself_only_what_was_held_out_counts(texts: Path) -> None:
    counted = {
        "its own": of_dataset(texts, ["p"], {"abc"}),
        "another": of_dataset(texts, ["p"], {"xyz"}),
        "named": of_dataset(texts, ["p"], {"abc"}, [Split.TRAIN]),
    }
    sides = {name: found["p"].counts("north", "plan_side") for name, found in counted.items()}
    assert sides == {"its own": [0, 2], "another": [4, 2], "named": [4, 0]}
    with pytest.raises(DataError, match="no case in external"):
        of_dataset(texts, ["p"], set(), [Split.EXTERNAL])


def metrics(*rows: tuple[str, str, str, float]) -> str:
    """(pod, centre, bin, count) as Ray prints them."""
    lines = [
        f'ray_rollama_profile_total{{WorkerId="{pod}",bin="{kind}",centre="{centre}",feature="plan_side",model="p"}}'
        f" {n}"
        for pod, centre, kind, n in rows
    ]
    return "\n".join(["# HELP ray_rollama_profile_total x", "# TYPE ray_rollama_profile_total counter", *lines, ""])


def test_servers_are_summed_and_a_window_is_a_difference_even_over_a_restart(tmp_path: Path) -> None:
    now, before = tmp_path / "now.txt", tmp_path / "before.txt"
    now.write_text(metrics(("a", "north", "left", 10.000000001), ("b", "north", "left", 4), ("a", "south", "right", 3)))
    before.write_text(metrics(("a", "north", "left", 8), ("b", "north", "left", 9)))
    whole = of_metrics([str(now)])["p"]
    assert whole.counts("north", "plan_side") == [14, 0] and whole.counts(ALL, "plan_side") == [14, 3]
    window = of_metrics([str(now)], [str(before)])["p"]
    assert window.counts("north", "plan_side") == [2 + 4, 0], "b started anew: all it counts is new"


def test_metrics_come_from_an_address_too(tmp_path: Path) -> None:
    class Port(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(metrics(("a", "north", "left", 7)).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        assert of_metrics([f"{address}/metrics"])["p"].counts("north", "plan_side") == [7, 0]
        with pytest.raises(DataError, match="metrics cannot be fetched"):
            of_metrics([f"{address}/elsewhere"])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ray_other_total 3\n", "no rollama_profile among the metrics"),
        ("<html>{{{\n", "is no Prometheus text"),
        (metrics(("a", "north", "up", 3)), "no bin 'up' of 'plan_side'"),
    ],
)
def test_what_are_no_counts_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "m.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        of_metrics([str(path)])
    with pytest.raises(DataError, match="cannot be read"):
        of_metrics([str(tmp_path / "absent")])
