"""A federation's two sides as rendered: the programs accept their files, and a round's command is one that trains."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.chart import CHART
from rollama.centres.federation.config import Site, Strategy, read_federation
from rollama.centres.federation.members import read_keys
from rollama.cli.train import What, model_config
from rollama.core.config import build, parse_yaml
from rollama.presets import load_preset
from tests.chart.cases import BY_JOB, COORDINATOR, SITE, T
from tests.chart.federation_rules import side_rules
from tests.chart.pods import pods_of
from tests.chart.rendering import SETS, Values, objects, of, rendered

pytestmark = pytest.mark.chart
BY_NAME = {values.name: values for values in SETS}
PLACES = {
    "init": "/work/init", "out": "/work/models/update", "work": "/work", "name": "update", "prox_mu": 0.25, "seed": 3,
    "rounds": 20,
}  # fmt: skip
"""What `training.train` puts in, but for the task."""


def site_of(found: Any) -> Site:
    text = of(found, "ConfigMap", "rollama-federated-site")["data"]["site.yaml"]
    return build(Site, parse_yaml(text, "site.yaml"), "site.yaml")


def test_the_coordinator_reads_its_settings_and_its_list(tmp_path: Path) -> None:
    found = rendered(BY_NAME["federation-coordinator"])
    for name, text in of(found, "ConfigMap", "rollama-coordinator")["data"].items():
        (tmp_path / name).write_text(text)
    federation = read_federation(tmp_path)
    assert (federation.strategy, federation.prox_mu, federation.min_sites) == (Strategy.FEDPROX, 0.01, 2)
    assert federation.start == tmp_path / f"start-{12 * '5'}"
    (tmp_path / "sites").mkdir()
    for name, text in of(found, "ConfigMap", "rollama-coordinator-keys")["data"].items():
        (tmp_path / "sites" / name).write_text(text)
    assert list(read_keys(tmp_path / "sites")) == ["north", "south"]


def test_false_stays_false_and_small_numbers_stay_numbers(tmp_path: Path) -> None:
    settings = '{"weight_by_cases": false, "privacy": {"kind": "central"}, "tau": 1e-7}'
    found = objects(Values("", (*COORDINATOR, f"--set-json=federation.coordinator.settings={settings}")))
    (tmp_path / "federation.yaml").write_text(of(found, "ConfigMap", "rollama-coordinator")["data"]["federation.yaml"])
    federation = read_federation(tmp_path)
    assert federation.weight_by_cases is False and federation.tau == 1e-7


@pytest.mark.parametrize(("task", "section"), [("s", "s"), ("p", "p"), ("seg", "segmentation")])
@pytest.mark.parametrize("where", ["pod", "job"])
def test_the_command_of_a_round_is_a_training(task: str, section: str, where: str) -> None:
    """Placeholders filled in as a site does it, the settings are ones that the preset has."""
    options = BY_JOB if where == "job" else SITE
    more = ("training.preset=tiny", f"training.task={task}", f"training.set={{{section}.steps=8}}")
    site = site_of(objects(Values("", (*options, *(f"{T}.{option}" for option in more)))))
    words = [word.format(**PLACES, task=task) for word in site.training.command]
    overrides = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    config = model_config(What(task), load_preset("tiny", overrides))
    assert (config.seed, config.prox_mu, tuple(config.part), config.steps) == (3, 0.25, (3, 20), 8)
    if where == "job":
        assert words[:6] == [
            "bash",
            "/site/federated_round.sh",
            task,
            "/work/init",
            "/work/models/update",
            "federated-north",
        ]
    else:
        assert words[:3] == ["rollama", "train", task] and words[words.index("--init") + 1] == "/work/init"
        assert Path(words[words.index("--workspace") + 1], "models", words[words.index("--name") + 1]) == Path(
            PLACES["out"]
        )
    assert task != "seg" or config.measure is False


def test_braces_of_ones_own_settings_are_no_placeholders() -> None:
    words = [word.format(**PLACES, task="p") for word in site_of(rendered(BY_NAME["federation-site"])).training.command]
    assert "text.centres.weights={north: 2}" in words


def test_a_file_of_the_hospitals_own_takes_the_place_of_the_charts() -> None:
    said = (f"{T}.name", f"{T}.policy", f"{T}.training")
    options = tuple(option for option in SITE if not option.startswith(said))
    found = objects(Values("", (*options, f"{T}.existingConfigMap=own")))
    assert not [item for item in found if item["metadata"]["name"] == "rollama-federated-site" and "data" in item]
    (pod,) = [pod for pod in pods_of(found) if pod.name == "site"]
    assert {"name": "site", "configMap": {"name": "own"}} in pod.spec["volumes"]


def test_both_sides_may_live_in_one_release() -> None:
    address = "rollama-coordinator.team.svc.cluster.local:9443"
    both = Values("", (*COORDINATOR, *SITE, f"{T}.coordinator={address}", "--set=storage.existingSecret=keys"))
    assert list(side_rules(objects(both))) == []
    egress = of(objects(both), "NetworkPolicy", "rollama-federated-site")["spec"]["egress"][0]
    assert egress["ports"] == [{"port": 9443, "protocol": "TCP"}]
    assert egress["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "coordinator"


def test_the_door_alone_is_published() -> None:
    service = of(rendered(BY_NAME["federation-coordinator"]), "Service", "rollama-coordinator")["spec"]
    assert service["ports"] == [{"name": "door", "port": 443, "targetPort": "door"}]
    options = ("service.type=NodePort", "service.nodePort=30443")
    found = objects(Values("", (*COORDINATOR, *(f"--set=federation.coordinator.{option}" for option in options))))
    assert of(found, "Service", "rollama-coordinator")["spec"]["ports"][0]["nodePort"] == 30443


ROLLAMA = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
  push) echo s3://bucket/store@sha256:{start};;
  submit) {submit};;
  pull) mkdir -p "$3";;
esac
"""
PYTHON = """#!/bin/sh
echo s3://bucket/work/store@sha256:{trained}
"""


def round_of(tmp_path: Path, submit: str) -> tuple[int, list[str]]:
    """Run the script of a round with another `rollama`: (exit code, how that was called)."""
    log = tmp_path / "log"
    for name, text in (("rollama", ROLLAMA), ("python", PYTHON)):
        program = tmp_path / name
        program.write_text(text.format(log=log, submit=submit, start=64 * "1", trained=64 * "2"))
        program.chmod(0o755)
    command = [
        "bash",
        str(CHART / "files/federated_round.sh"),
        "p",
        str(tmp_path / "init"),
        str(tmp_path / "models" / "out"),
        "federated-north",
    ]
    done = subprocess.run(
        [*command, "--preset", "tiny", "--set", "p.seed=3"], check=False, timeout=60,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "WORKSPACE": "s3://bucket/work/"},
    )  # fmt: skip
    return done.returncode, log.read_text().splitlines()


def test_a_round_as_a_job_pushes_submits_and_brings_back(tmp_path: Path) -> None:
    code, calls = round_of(tmp_path, "true")
    out = tmp_path / "models" / "out"
    assert code == 0 and out.is_dir()
    assert calls == [
        f"push model {tmp_path / 'init'} s3://bucket/work/store",
        f"submit train p --init s3://bucket/store@sha256:{64 * '1'} --name federated-north "
        "--workspace s3://bucket/work/ --wait --retries 2 --preset tiny --set p.seed=3",
        f"pull s3://bucket/work/store@sha256:{64 * '2'} {out}",
        f"lineage carry {out} --workspace s3://bucket/work/ --to {tmp_path}",
    ]


def test_a_failed_job_leaves_no_model(tmp_path: Path) -> None:
    code, calls = round_of(tmp_path, "exit 10")
    assert code == 10 and len(calls) == 2 and not (tmp_path / "models").exists()
