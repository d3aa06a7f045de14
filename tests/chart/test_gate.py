"""The gate's CronJob: what its pod is given is what `rollama release` reads, byte by byte, and little else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from rollama.cli.main import app
from rollama.cluster.presets import parse_presets
from rollama.release.keys import Role, Trust, check_file
from rollama.release.protocol import parse_protocol
from rollama.release.site import read_site
from tests.chart.cases import GATE_ALONE
from tests.chart.network import End, Network
from tests.chart.pods import Pod, pods_of
from tests.chart.rendering import SETS, Values, objects, of, rendered

pytestmark = pytest.mark.chart
(CLUSTER,) = [values for values in SETS if values.name == "gpu-cluster"]


def gate_of(found: Any) -> Pod:
    (pod,) = [pod for pod in pods_of(found) if pod.name == "gate"]
    return pod


def laid_out(found: Any, folder: Path) -> Path:
    """The files of the ConfigMap as the kubelet mounts them."""
    data = of(found, "ConfigMap", "rollama-gate")["data"]
    (volume,) = [item for item in gate_of(found).spec["volumes"] if item["name"] == "release"]
    assert {item["key"] for item in volume["configMap"]["items"]} == set(data)
    for item in volume["configMap"]["items"]:
        path = folder / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[item["key"]].encode())
    return folder


def trusted(folder: Path) -> Trust:
    """The keys, after the protocol's signature was checked with them."""
    site, _ = read_site(folder / "releases.yaml")
    trust, data = Trust.open(site.keys), site.protocol.read_bytes()
    check_file(site.protocol, data, trust, Role.PROTOCOL)
    parse_protocol(data, "protocol")
    return trust


def test_the_set_of_values_is_one_that_the_gate_accepts(tmp_path: Path) -> None:
    found = rendered(CLUSTER)
    folder = laid_out(found, tmp_path)
    trust, (site, _) = trusted(folder), read_site(folder / "releases.yaml")
    assert [len(trust.keys[role]) for role in Role] == [1, 1, 1]
    assert site.registry == "http://rollama-mlflow:5000" and site.history == "s3://rollama-releases/history"
    assert site.work == Path("/work/evaluations") and site.endpoint.values is None
    command = gate_of(found).boxes[0]["command"]
    assert command[:3] == ["rollama", "release", "gate"] and command[3:7] == ["s", "p", "seg", "proof"]
    assert set(command[3:7]) <= set(parse_presets((folder / "presets.yaml").read_text(), "presets"))
    assert f"--workspace=s3://rollama/work/retrain-{12 * '4'}" in command and "--gpus=1" in command


def test_the_command_is_one_that_the_program_takes(tmp_path: Path) -> None:
    """Until it has to read what is only in the pod."""
    command = gate_of(rendered(CLUSTER)).boxes[0]["command"]
    done = CliRunner().invoke(app, [*command[1:], f"--config={tmp_path / 'none.yaml'}"])
    assert "none.yaml: no such file" in str(done.exception), done.output


def test_files_that_a_person_made_arrive_as_they_are(tmp_path: Path) -> None:
    """`rollama release init`, `keygen`, `sign-protocol`, then helm's --set-file: the signature still fits."""
    site, made = tmp_path / "site", CliRunner()
    for arguments in (
        ["init", site],
        ["keygen", tmp_path / "me.key", "--role", "protocol", "--role", "approval", "--config", site / "releases.yaml"],
        ["keygen", tmp_path / "job.key", "--role", "release", "--config", site / "releases.yaml"],
        ["sign-protocol", site / "protocol.yaml", "--key", tmp_path / "me.key", "--config", site / "releases.yaml"],
    ):
        done = made.invoke(app, ["release", *(str(part) for part in arguments)])
        assert done.exit_code == 0, done.output
    files = {"protocol": "protocol.yaml", "signature": "protocol.yaml.sig", "keys.protocol.me": "keys/protocol/me.pem",
             "keys.approval.me": "keys/approval/me.pem", "keys.release.job": "keys/release/job.pem"}  # fmt: skip
    bare = [
        item for item in GATE_ALONE if not item.startswith(("--set=retrain.release.keys", "--set=retrain.release.p"))
    ]
    given = [f"--set-file=retrain.release.{name}={site / path}" for name, path in files.items()]
    found = objects(Values("", (*bare, *given, "--set=retrain.release.retired=retired: []")))
    trust = trusted(laid_out(found, tmp_path / "pod"))
    assert [len(trust.keys[role]) for role in Role] == [1, 1, 1] and trust.retired == {}
    assert (tmp_path / "pod/protocol.yaml").read_bytes() == (site / "protocol.yaml").read_bytes()


def test_only_the_gate_has_the_key_and_it_may_nothing_in_the_cluster() -> None:
    found = rendered(CLUSTER)
    holders = [pod.name for pod in pods_of(found) if "rollama-release-key" in str(pod.spec)]
    assert holders == ["gate"]
    pod = gate_of(found)
    assert pod.spec["automountServiceAccountToken"] is False
    assert pod.boxes[0]["envFrom"] == [{"secretRef": {"name": "s3-keys-releases"}}]
    network = Network(item for item in found if item["kind"] == "NetworkPolicy")
    gate, api = End("gate", "team", pod.labels), End("api", ip="203.0.113.1")
    assert not any(network.allows(gate, api, port) for port in (443, 6443))
    policy = of(found, "CronJob", "rollama-gate")["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert policy[0] == {
        "action": "FailJob",
        "onExitCodes": {"containerName": pod.boxes[0]["name"], "operator": "In", "values": [2, 3, 4, 5, 7]},
    }


def test_a_gate_in_a_namespace_of_its_own_needs_no_account_of_ci() -> None:
    """Where who may submit jobs is not to reach the key: the chart once more, for the gate alone."""
    found = objects(Values("", (*GATE_ALONE, "--set=ci.enabled=false")))
    assert not [item for item in found if item["kind"] in ("Role", "RoleBinding")]
    assert [item["metadata"]["name"] for item in found if item["kind"] == "CronJob"] == ["rollama-gate"]
    assert of(found, "CronJob")["spec"]["suspend"] is True, "until it is asked for"
    names = [item["name"] for item in gate_of(found).spec["volumes"]]
    assert names == ["release", "release-key", "work", "tmp", "shm"]
    assert (
        yaml.safe_load(of(found, "ConfigMap", "rollama-gate")["data"]["releases.yaml"])["registry"] == "http://mlflow"
    )
