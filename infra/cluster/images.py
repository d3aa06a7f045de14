"""Container images without a registry: built with buildah into archives, imported into the cluster's containerd."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from infra.cluster.binaries import path_of
from infra.cluster.layout import CONTAINERD_SOCKET, IMAGES, TOOLS_IMAGE

NAMESPACE = "k8s.io"
TOOLS = ("pause", "coredns", "kuberay-operator", "versitygw")


def tools_archive() -> Path:
    """The image of static programs that the cluster's own pods run; built once for a set of programs."""
    key = "-".join(path_of(name).parent.name.rpartition("-")[2][:6] for name in TOOLS)
    archive = IMAGES / f"tools-{key}.tar"
    if archive.is_file():
        return archive
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for name in TOOLS:
            shutil.copy2(path_of(name), context / name)
        lines = ["FROM scratch", *(f"COPY {name} /{name}" for name in TOOLS), 'ENTRYPOINT ["/pause"]']
        (context / "Dockerfile").write_text("\n".join(lines) + "\n")
        build_archive(context, f"{TOOLS_IMAGE}:local", archive)
    return archive


def build_archive(context: Path, image: str, archive: Path, *options: str) -> None:
    """Build the Dockerfile in `context` and write the image as an OCI archive.

    Raises:
        RuntimeError: the build fails; its last lines are in the message.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    temporary = archive.with_name(f".{archive.name}.new")
    temporary.unlink(missing_ok=True)
    buildah("bud", "--isolation", "chroot", "--layers", *options, "-t", image, str(context))
    # Less work than gzip, to make and for the node to unpack; the archive is no larger.
    fast = ("--compression-format", "zstd", "--compression-level", "1")
    buildah("push", "-q", *fast, image, f"oci-archive:{temporary}:{image}")
    temporary.replace(archive)


def buildah(*arguments: str) -> str:
    """Run buildah on overlay storage; raise RuntimeError with its last lines when it fails."""
    done = subprocess.run(
        ["buildah", "--storage-driver", "overlay", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"buildah {arguments[0]}: " + "\n".join((done.stdout + done.stderr).splitlines()[-15:]))
    return done.stdout.strip()


def load(archive: Path) -> None:
    """Import an OCI archive into the cluster."""
    ctr("images", "import", str(archive))


def ctr(*arguments: str) -> str:
    """Run containerd's client against the cluster's socket; raise RuntimeError when it fails."""
    done = subprocess.run(
        ["ctr", "--address", str(CONTAINERD_SOCKET), "--namespace", NAMESPACE, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"ctr {' '.join(arguments[:2])}: {done.stderr.strip()}")
    return done.stdout
