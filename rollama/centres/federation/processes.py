"""Flower's programs as this package starts them: which flags, which environment, which ports.

Telemetry, update checks and installing of packages at run time are off; everything but the coordinator's door listens
on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollama.centres.federation.bundle import ACCEPTED, bundle_hash, write_bundle
from rollama.centres.federation.config import Site
from rollama.centres.federation.keys import make_certificate
from rollama.core.errors import ClusterError, ConfigError
from rollama.core.files import read_json, write_json, write_text

CONNECTION = "coordinator"
ANSWER_S = 300
"""Seconds after which Flower's command line is given up."""


@dataclass(frozen=True)
class Coordinator:
    """Where the coordinator's own processes are: its folder, the SuperLink's port and certificates."""

    folder: Path
    port: int
    legacy_port: int
    authority: Path
    certificate: Path
    key: Path

    @property
    def home(self) -> Path:
        """Flower's home."""
        return self.folder / "flower"


def check_flower() -> None:
    """Say what to install where Flower is missing.

    Raises:
        ConfigError: Flower is not in this environment.
    """
    if shutil.which("flower-superlink", path=_path()) is None:
        raise ConfigError(
            "Flower is not installed here; make an environment of its own: pip install 'rollama[federated]'"
        )


def coordinator(folder: Path) -> Coordinator:
    """The coordinator's ports and certificates, chosen once and kept in the folder."""
    folder = folder.resolve()
    authority, certificate, key = make_certificate(folder / "inner", "rollama-coordinator", ["127.0.0.1", "localhost"])
    path = folder / "inner" / "ports.json"
    if not path.is_file():
        write_json(path, dict(zip(("port", "legacy_port"), free_ports(2), strict=True)))
    ports = read_json(path)
    found = Coordinator(folder, ports["port"], ports["legacy_port"], authority, certificate, key)
    write_text(
        found.home / "config.toml",
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\naddress = "127.0.0.1:{found.port}"\n'
        f"root-certificates = {json.dumps(str(authority))}\n",
    )
    return found


def superlink(where: Coordinator) -> subprocess.Popen[bytes]:
    """Start the SuperLink; its database keeps registered sites over restarts."""
    check_flower()
    command = [
        "flower-superlink", "--host", "127.0.0.1", "--port", str(where.port), "--ssl-ca-certfile", str(where.authority),
        "--ssl-certfile", str(where.certificate), "--ssl-keyfile", str(where.key), "--enable-supernode-auth",
        "--fleet-api-address", f"127.0.0.1:{where.legacy_port}", "--disable-runtime-dependency-installation",
        "--database", str(where.folder / "superlink.db"),
    ]  # fmt: skip
    return subprocess.Popen(_found(command), env=environment(where.home), cwd=where.folder)


def lame(link: subprocess.Popen[bytes]) -> bool:
    """Whether the SuperLink's child that starts runs has died; the SuperLink does not notice, and no run begins again.

    Seen where the machine was so busy that SQLite gave up waiting for its lock. Linux only; elsewhere never.
    """
    for listed in Path(f"/proc/{link.pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ended meanwhile, or a child
            for child in listed.read_text().split():
                if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return True
    return False


def supernode(site: Site, file: Path) -> subprocess.Popen[bytes]:
    """Start a site's SuperNode, with our guarded process in the place of Flower's for apps."""
    check_flower()
    home = site.state / "flower"
    home.mkdir(parents=True, exist_ok=True)
    for path, what in ((site.ca, "ca"), (site.key, "key"), (site.start / "manifest.json", "start")):
        if not path.is_file():
            raise ConfigError(f"{file}: {what}: no file {path}")
    if exposed(site.key.stat()):
        raise ConfigError(f"{site.key}: others can read this private key; chmod 600 it")
    port = site.local_port or free_ports(1)[0]
    command = [
        "flower-supernode", "--superlink", site.coordinator, "--root-certificates", str(site.ca),
        "--auth-supernode-private-key", str(site.key), "--host", "127.0.0.1", "--port", str(port),
        "--node-config", f"site={json.dumps(str(file.resolve()))}",
    ]  # fmt: skip
    values = environment(home)
    values[ACCEPTED] = bundle_hash(home)
    values["ROLLAMA_SITE_PATH"] = os.environ.get("PATH", "")
    values["PATH"] = os.pathsep.join((str(_guard(home)), values["PATH"]))
    return subprocess.Popen(_found(command), env=values, cwd=site.state)


def exposed(found: os.stat_result) -> bool:
    """Whether people beside the owner can read a private key.

    A Secret that Kubernetes mounts belongs to root and is readable for the pod's group, which is the only way for a
    process that is not root to read it. So, as PostgreSQL does, a key of root's may be its group's to read.
    """
    ours = found.st_uid == os.geteuid()
    allowed = stat.S_IRUSR | stat.S_IWUSR | (0 if ours or found.st_uid else stat.S_IRGRP)
    return bool(stat.S_IMODE(found.st_mode) & ~allowed & (stat.S_IRWXG | stat.S_IRWXO))


def flwr(where: Coordinator, *arguments: str) -> dict[str, Any]:
    """Run Flower's command line against the coordinator's SuperLink; its answer as JSON.

    Raises:
        ClusterError: it refused or could not reach the SuperLink.
    """
    try:
        done = subprocess.run(
            _found(["flwr", *arguments, "--format", "json"]), env=environment(where.home), capture_output=True,
            text=True, timeout=ANSWER_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"flwr {arguments[0]}: no answer from the SuperLink in {ANSWER_S} s") from error
    start = done.stdout.find("{")
    try:
        answer = json.loads(done.stdout[start:]) if start >= 0 else {}
    except ValueError:
        answer = {}
    if done.returncode or not isinstance(answer, dict) or answer.get("success") is False:
        said = answer.get("error-message") or (done.stderr or done.stdout).strip()[-500:]
        raise ClusterError(f"flwr {arguments[0]}: {said or 'failed'}; is 'rollama federation serve' running?")
    return answer


def start_run(where: Coordinator) -> str:
    """Submit our app to the SuperLink; returns the run's number."""
    app = write_bundle(where.folder / "inner")
    answer = flwr(where, "run", str(app), CONNECTION, "--run-config", f"folder={json.dumps(str(where.folder))}")
    return str(answer["run-id"])


def runner(folder: Path) -> subprocess.Popen[bytes]:
    """`rollama federation run` beside the coordinator, whose log it shares."""
    return subprocess.Popen([sys.executable, "-m", "rollama", "federation", "run", str(folder)])


def environment(home: Path) -> dict[str, str]:
    """Variables for Flower's programs: our Python's programs first, a home of their own, nothing told to anybody."""
    return {
        **os.environ,
        "PATH": _path(),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody uses at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _guard(home: Path) -> Path:
    """A folder with a `flwr-clientapp` that runs one app only (see `site_process`)."""
    script = home / "bin" / "flwr-clientapp"
    write_text(script, f'#!/bin/sh\nexec "{sys.executable}" -m rollama.centres.federation.site_process "$@"\n')
    script.chmod(0o755)
    return script.parent


def _path() -> str:
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))


def _found(command: list[str]) -> list[str]:
    """The command with its program's full path, taken from beside our Python."""
    program = shutil.which(command[0], path=_path())
    if program is None:
        raise ConfigError(f"{command[0]}: not found beside {sys.executable}; install 'rollama[federated]' there")
    return [program, *command[1:]]
