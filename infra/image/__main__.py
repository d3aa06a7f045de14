"""`python -m infra.image`: build the image with buildah into an OCI archive, where no registry or Docker is at hand.

The base is a Debian made with debootstrap (kept in the cache). With a container engine, use the Dockerfile directly.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import typer
from rich.console import Console

from infra.cluster.images import build_archive, buildah
from infra.cluster.layout import IMAGES

ROOT = Path(__file__).resolve().parents[2]
BASE = "rollama.test/base:bookworm-1"
PACKAGES = "python3,python3-venv,bash,wget,procps,libgomp1,ca-certificates"
CODE = ("rollama", "ray_jobs", "serve", "infra/image", "requirements", "pyproject.toml", "README.md", "LICENSE")
say = Console(stderr=True)


def build(
    out: Path | None = typer.Option(None, help="Archive to write. Default: a name by content in the cluster's cache."),
    name: str = typer.Option("rollama.test/rollama:local", help="Name of the image."),
    base: str = typer.Option("", help="Base image; default: a Debian made here with debootstrap."),
    lock: str = typer.Option("", help="Lock file; default: lock-cpu.txt where UV_FIND_LINKS offers its torch."),
) -> None:
    """Build the image; prints the path of the archive. Does nothing when the archive of this content is there."""
    wheels = os.environ.get("UV_FIND_LINKS", "")
    lock = lock or ("requirements/lock-cpu.txt" if wheels else "requirements/lock.txt")
    out = out or IMAGES / f"rollama-{content_key(lock, base)}.tar"
    if not out.is_file():
        options = ["--build-arg", f"BASE={base or local_base()}", "--build-arg", f"LOCK={lock}"]
        options += ["--build-arg", f"REVISION={_revision()}", *_host_options(wheels)]
        say.print(f"building {name} from {lock}", highlight=False)
        build_archive(ROOT, name, out, *options, "-f", str(ROOT / "infra/image/Dockerfile"))
        for old in sorted(out.parent.glob("rollama-*.tar"), key=lambda path: path.stat().st_mtime)[:-2]:
            old.unlink()
    print(out)


def local_base() -> str:
    """The base image, made once: Debian with Python, bash and wget, nothing else."""
    if BASE in buildah("images", "--format", "{{.Name}}:{{.Tag}}"):
        return BASE
    archive = IMAGES / "base-bookworm-1.tar"
    if not archive.is_file():
        say.print("making the base image with debootstrap (about a minute, once)", highlight=False)
        archive.parent.mkdir(parents=True, exist_ok=True)
        temporary = archive.with_name(f".{archive.name}.new")
        folder = archive.with_name(".base-root")
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError("debootstrap: " + "\n".join(done.stdout.splitlines()[-10:]))
        subprocess.run(
            ["tar", "-C", str(folder), "--exclude=./var/cache/apt/archives/*.deb", "--exclude=./var/lib/apt/lists/*",
             "-cf", str(temporary), "."], check=True,
        )  # fmt: skip
        subprocess.run(["rm", "-rf", str(folder)], check=True)
        temporary.replace(archive)
    container = buildah("from", "scratch")
    try:
        buildah("add", container, str(archive), "/")
        buildah("config", "--cmd", "/bin/bash", container)
        buildah("commit", "-q", container, BASE)
    finally:
        buildah("rm", container)
    return BASE


def content_key(lock: str, base: str) -> str:
    """Hash of everything that goes into the image."""
    digest = hashlib.sha256(f"{lock} {base}".encode())
    for item in CODE:
        top = ROOT / item
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _host_options(wheels: str) -> list[str]:
    """Let the build reach packages the way this machine does: its certificates, its resolver, a folder of wheels."""
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    options = ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro"]
    options += ["--build-arg", f"SSL_CERT_FILE={certificates}", "--build-arg", f"PIP_CERT={certificates}"]
    if Path("/etc/resolv.conf").is_file():
        options += ["-v", "/etc/resolv.conf:/etc/resolv.conf:ro"]
    if wheels:
        options += ["-v", f"{Path(wheels).resolve()}:/wheels:ro", "--build-arg", "UV_FIND_LINKS=/wheels"]
    return options


def _revision() -> str:
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    typer.run(build)
