"""Definitions of others' kinds that the chart has objects of: the real API server can then take or refuse them.

They lie in the projects' Go modules as files. `modules/crds` pins the versions and, by its go.sum, the content; nothing
is built and nothing of theirs runs, so objects of these kinds are stored and not acted upon.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from infra.cluster.binaries import folder_key, go
from infra.cluster.layout import BUILT, MODULES

FILES = {
    "sigs.k8s.io/gateway-api": ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",),
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
}


def definitions() -> list[Path]:
    """The files, fetched once a version.

    Raises:
        BuildError: a module cannot be fetched, or is not what go.sum says.
    """
    folder = BUILT / f"crds-{folder_key(MODULES / 'crds', FILES)}"
    found = [folder / Path(name).name for names in FILES.values() for name in names]
    if not folder.is_dir():
        temporary = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for module, names in FILES.items():
            source = Path(json.loads(go(["mod", "download", "-json", module], MODULES / "crds"))["Dir"])
            for name in names:
                shutil.copyfile(source / name, temporary / Path(name).name)
        temporary.rename(folder)
    return found
