"""Where the sentences of a clinical note begin and end.

A note is prose, a form of one line a finding, or dictation full of stops that end nothing ("Lt.", "Dr.", "1.5 cm").
A line break always ends a sentence; a stop does when what follows looks like a beginning and what stands before it is
no abbreviation. Nothing is rewritten: the pieces are ranges of the note, so whoever points to one points to the note.
"""

from __future__ import annotations

import re

_STOP = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(\[]*[A-Z0-9À-Þ])|\n")
_SHORT = re.compile(
    r"(?:\b(?:dr|mr|mrs|ms|prof|st|pt|pat|lt|rt|li|re|no|nr|vs|approx|ca|dept|prev|hist|path|tel|resp|bzw|z\.b|e\.g|i\.e|"
    r"a\.p|p\.o|fig)|\b[A-Z])\.$",
    re.IGNORECASE,
)


def sentences(note: str) -> list[tuple[int, int]]:
    """Start and end (Python code points, end exclusive) of each sentence, in order, without white space around it."""
    found, start = [], 0
    for stop in _STOP.finditer(note):
        line = stop.group() == "\n"
        if not line and _SHORT.search(note, max(start, stop.start() - 8), stop.start()):
            continue
        found.append((start, stop.start()))
        start = stop.end()
    found.append((start, len(note)))
    trimmed = ((a + len(note[a:b]) - len(note[a:b].lstrip()), a + len(note[a:b].rstrip())) for a, b in found)
    return [(a, b) for a, b in trimmed if a < b]
