"""The Flower app that travels from the coordinator to the sites: a file that names our code, and no code.

Flower sends an app's code with every run and a node runs whatever came. Here the code is in the installed package on
both sides, the app is only `pyproject.toml`, and it comes out the same bytes from the same version; so a site knows
the one hash it accepts.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from rollama import __version__
from rollama.core.files import write_text

FOLDER = "rollama-federation"
ACCEPTED = "ROLLAMA_FEDERATION_APP"
"""Variable in which a site's SuperNode hands the accepted hash to the processes that it starts."""
_PROJECT = f"""[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{FOLDER}"
version = "{__version__}"
description = "Federated training of rollama; the code is in the installed package"
license = "Apache-2.0"
dependencies = ["flwr>=1.42.0"]

[tool.flwr.app]
publisher = "rollama"

[tool.flwr.app.components]
serverapp = "rollama.centres.federation.server_app:app"
clientapp = "rollama.centres.federation.client_app:app"

[tool.flwr.app.config]
folder = ""
"""


def write_bundle(place: Path) -> Path:
    """Write the app below `place`; returns its folder, which `flwr run` takes."""
    write_text(place / FOLDER / "pyproject.toml", _PROJECT)
    return place / FOLDER


def bundle_hash(place: Path) -> str:
    """SHA-256 (hex) of the app as Flower packs it; `place` is a folder to write to."""
    from flwr.cli.build import build_fab_from_disk

    return hashlib.sha256(build_fab_from_disk(write_bundle(place))).hexdigest()
