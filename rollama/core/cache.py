"""Where prepared files that can be made again are kept: outside the checkout, per user."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$ROLLAMA_CACHE`, else `$XDG_CACHE_HOME/rollama`, else `~/.cache/rollama`."""
    if chosen := os.environ.get("ROLLAMA_CACHE"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "rollama"
