"""What the test cluster is built from, what it needs, what its firewall clean-up may touch. No cluster runs here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from infra.cluster import binaries, crds, layout, needs, network
from infra.cluster.credentials import CLIENTS, write_credentials


def test_every_program_is_pinned_by_its_module() -> None:
    for program in binaries.PROGRAMS:
        text = (layout.MODULES / program.module / "go.mod").read_text()
        if program.module != "pause":
            assert "require " in text
            assert (layout.MODULES / program.module / "go.sum").stat().st_size > 0
            assert program.package in (layout.MODULES / program.module / "tools.go").read_text()
    assert f"k8s.io/kubernetes v{binaries.KUBERNETES_VERSION}" in (layout.MODULES / "kubernetes/go.mod").read_text()


def test_definitions_of_others_are_pinned_by_version_and_content() -> None:
    pins = (layout.MODULES / "crds/go.mod").read_text(), (layout.MODULES / "crds/go.sum").read_text()
    for module in crds.FILES:
        (version,) = re.findall(rf"^\t{re.escape(module)} (v[0-9.]+)$", pins[0], re.MULTILINE)
        assert re.search(rf"^{re.escape(module)} {version} h1:\S{{44}}$", pins[1], re.MULTILINE)


def test_the_folder_of_a_program_follows_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(layout.MODULES, tmp_path / "modules")
    monkeypatch.setattr(binaries, "MODULES", tmp_path / "modules")
    before = binaries.path_of("etcd"), binaries.path_of("helm")
    (tmp_path / "modules/etcd/go.sum").write_text("changed\n")
    assert binaries.path_of("etcd") != before[0]
    assert binaries.path_of("helm") == before[1]


def test_all_needs_are_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(needs.shutil, "which", lambda program: None)
    monkeypatch.setattr(needs.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(needs, "CNI", tmp_path)
    lines = needs.lacking()
    assert [line.split(":")[0].split(" ")[0] for line in lines] == ["root", "Debian", "Go"]
    assert "containernetworking-plugins" in lines[1] and "buildah" in lines[1]


def test_an_old_go_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "go_version", lambda: (1, 19))
    assert any("this is 1.19" in line for line in needs.lacking())


def test_only_kubernetes_chains_leave_the_firewall(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rules = (
        "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:CNI-abc - [0:0]\n:MINE - [0:0]\n"
        "-A PREROUTING -j KUBE-SERVICES\n-A PREROUTING -j MINE\n-A CNI-abc -j ACCEPT\nCOMMIT\n"
    )
    restored: list[str] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        if command[0].endswith("-restore"):
            restored.append(str(options["input"]))
        return subprocess.CompletedProcess(command, 1 if command[0] == "ip" else 0, stdout=rules, stderr="")

    monkeypatch.setattr(network.subprocess, "run", run)
    for name, value in (("FORWARDING", "1\n"), ("FORWARDED_BEFORE", "0\n")):
        (tmp_path / name).write_text(value)
        monkeypatch.setattr(network, name, tmp_path / name)
    assert network.foreign_chains()
    network.remove()
    assert restored == ["*nat\n:PREROUTING ACCEPT [0:0]\n:MINE - [0:0]\n-A PREROUTING -j MINE\nCOMMIT\n"] * 2
    assert (tmp_path / "FORWARDING").read_text() == "0\n", "as it was before the cluster"


def test_credentials_are_private_and_signed_by_one_authority(tmp_path: Path) -> None:
    write_credentials(tmp_path)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    for name in ("apiserver", *CLIENTS):
        x509.load_pem_x509_certificate((tmp_path / f"{name}.crt").read_bytes()).verify_directly_issued_by(authority)
        assert (tmp_path / f"{name}.key").stat().st_mode & 0o077 == 0
    assert isinstance(authority.public_key(), ec.EllipticCurvePublicKey)
    config = yaml.safe_load((tmp_path / "kubelet.kubeconfig").read_text())
    assert config["clusters"][0]["cluster"]["server"] == layout.API_URL
    subject = x509.load_pem_x509_certificate((tmp_path / "kubelet.crt").read_bytes()).subject.rfc4514_string()
    assert "O=system:nodes" in subject and f"CN=system:node:{layout.NODE}" in subject
