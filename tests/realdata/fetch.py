"""Fetch two real chest CTs by package name: the source distribution of pyradiomics 3.0.1 carries them as NRRD.

`pip download` would run the package's old set-up script only to read its metadata, and that script fails without a
compiler and an old NumPy. This script asks pip's own index client (so whatever index, proxy and certificates pip is
set up with) for the archive, checks its hash, and unpacks the images only. Nothing of the package is executed.

    uv run --no-project --with pip==25.3 python tests/realdata/fetch.py

The images go to `$ROLLAMA_CACHE/realdata` (or the XDG cache), outside the checkout. They come with that package
(BSD-3-Clause); they are diagnostic lung scans of one breath-hold, not radiotherapy planning CTs.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

PACKAGE, VERSION = "pyradiomics", "3.0.1"
SHA256 = "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5"
MEMBERS = ("lung1_image.nrrd", "lung2_image.nrrd")


def realdata_folder() -> Path:
    """Where the images are kept between runs."""
    # As rollama.core.cache, which is not importable where this script runs; the tests compare the two.
    if chosen := os.environ.get("ROLLAMA_CACHE"):
        return Path(chosen) / "realdata"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollama" / "realdata"


def download() -> bytes:
    """The bytes of the source distribution, from the index that pip is configured for."""
    try:
        from pip._internal.commands import create_command
    except ModuleNotFoundError:
        sys.exit("this script needs pip: uv run --no-project --with pip==25.3 python tests/realdata/fetch.py")
    command = create_command("download")
    options, _ = command.parse_args(["--no-deps", "--no-binary", PACKAGE, f"{PACKAGE}=={VERSION}"])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options=options, session=session)
        links = [found.link for found in finder.find_all_candidates(PACKAGE) if str(found.version) == VERSION]
        links = [link for link in links if not link.is_wheel]
        if not links:
            sys.exit(f"{PACKAGE} {VERSION}: no source distribution on the configured package index")
        answer = session.get(links[0].url_without_fragment, headers={"Accept-Encoding": "identity"})
        answer.raise_for_status()
        return bytes(answer.content)


def main() -> None:
    """Fetch, check and unpack, unless everything is there already."""
    folder = realdata_folder()
    if all((folder / name).is_file() for name in MEMBERS):
        print(f"{folder}: already complete")
        return
    archive = download()
    found = hashlib.sha256(archive).hexdigest()
    if found != SHA256:
        sys.exit(f"{PACKAGE} {VERSION}: SHA-256 {found}, expected {SHA256}; nothing was unpacked")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for name in MEMBERS:
            stream = tar.extractfile(f"{PACKAGE}-{VERSION}/data/{name}")
            if stream is None:
                sys.exit(f"{PACKAGE} {VERSION}: {name} is not in the archive")
            part = folder / f".part-{name}"
            with part.open("wb") as target:
                shutil.copyfileobj(stream, target)
            part.replace(folder / name)
            print(folder / name)


if __name__ == "__main__":
    main()
