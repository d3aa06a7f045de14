"""How each centre's authors write: sentence templates only, no logic. One module a centre."""

from __future__ import annotations

from rollama.cohort.notes import Style
from rollama.cohort.styles import hillcrest, lakeside, northgate, riverside

STYLES: dict[str, tuple[Style, ...]] = {
    "northgate": northgate.STYLES,
    "riverside": riverside.STYLES,
    "hillcrest": hillcrest.STYLES,
    "lakeside": lakeside.STYLES,
}
"""The styles in use at each centre."""
