"""What can be told of a case in fixed bins, so that what a model was trained on and what it is asked can be compared.

Whether a model meets patients like its own shows first in what it is sent: how notes are written, what the scanner does
to a CT, which plans are made; then in what it answers. Each of these is a feature here with bins that never depend on
data, so two counts from different years and hospitals are comparable. A bin is all that leaves a case: no text, no
number of a patient. A text's style is told by its form (lengths, marks, digits, capitals) and not by its words; a
scanner by voxel size, field, noise and the HU of fat, because a data set of NIfTI files names no manufacturer.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from rollama.data.body import body_mask
from rollama.data.plan import BoostKind, Guideline, Level, Plan, Side, Surgery, Technique
from rollama.data.plan import Volume as Treated
from rollama.data.volumes import Volume

VERSION = 1
"""Of bins and measures; counts of another version are not compared."""
NONE = "none"
FAT_HU, TISSUE_HU = (-180, -20), (-150.0, 150.0)
MOST_VOXELS = 4_000_000
"""HU are measured in every n-th slice of a larger CT."""
COARSE_MM = 6.0

Bins = dict[str, str]
"""Feature -> bin, of one case."""


@dataclass(frozen=True)
class Feature:
    """One thing that is told of a case. A number's bins begin at `edges`; without edges, `bins` are kinds."""

    name: str
    said: str
    bins: tuple[str, ...]
    edges: tuple[float, ...] = ()

    def bin(self, value: float) -> str:
        """The bin of a number."""
        return self.bins[bisect_right(self.edges, value)]


def _number(name: str, said: str, *edges: float) -> Feature:
    inner = (f"{low:g}..{high:g}" for low, high in pairwise(edges))
    return Feature(name, said, (f"<{edges[0]:g}", *inner, f">={edges[-1]:g}"), edges)


def _kind(name: str, said: str, *bins: str) -> Feature:
    return Feature(name, said, bins)


NOTE = (
    _number("note_words", "words", 40, 60, 80, 100, 120, 150, 200, 300, 500, 1000),
    _number("note_line_words", "words a line", 4, 7, 10, 15, 25, 50, 100, 200),
    _number("note_sentence_words", "words a sentence or line", 4, 6, 8, 10, 13, 17, 22),
    _number("note_letters", "letters a word", 4, 4.4, 4.8, 5.2, 5.6, 6, 6.6),
    _number("note_marks", "colons, brackets, slashes and the like in 100 words", 2, 5, 10, 15, 20, 30, 45),
    _number("note_digits", "words with digits, in 100", 3, 6, 9, 12, 16, 20, 28),
    _number("note_capitals", "words in capitals, in 100", 2, 4, 7, 10, 14, 20, 30),
)
SUMMARY = (_number("summary_words", "words of the summary", 10, 20, 30, 40, 50, 60, 80, 120),)
PLAN = (
    _kind("plan_form", "whether the plan's text parses", "parsed", "free"),
    _kind("plan_side", "side", *Side),
    _kind("plan_surgery", "surgery", *Surgery),
    _kind("plan_volume", "volume", NONE, *Treated),
    _kind("plan_levels", "number of nodal levels", NONE, "1-2", "3-4", "5-6"),
    _kind("plan_imn", "internal mammary nodes", "no", "yes"),
    _kind("plan_boost", "boost", NONE, *BoostKind),
    _kind("plan_fractions", "fractions", NONE, "1-9", "10-19", "20-29", "30-50"),
    _kind("plan_technique", "technique", NONE, *Technique),
    _kind("plan_guideline", "contouring guideline", NONE, *Guideline),
)
CT = (
    _number("ct_pixel_mm", "voxel size in plane (mm)",
            0.55, 0.65, 0.75, 0.85, 0.95, 1.05, 1.15, 1.25, 1.4, 1.75, 2.5, 3.5, 4.5, 5.5, 6, 6.5, 8),
    _number("ct_slice_mm", "slice distance (mm)", 0.9, 1.1, 1.4, 1.8, 2.2, 2.8, 3.5, 4.5, 5.5, 6.5, 8),
    _number("ct_field_mm", "width of the image (mm)", 350, 400, 450, 475, 495, 525, 575, 625, 675),
    _number("ct_length_mm", "length of the scan (mm)", 150, 200, 250, 300, 350, 400, 500, 700),
    _number("ct_body_mm", "width of the body (mm)", 280, 310, 340, 370, 400, 430, 460, 500),
    _number("ct_fat_hu", "HU of fat", -120, -115, -110, -105, -100, -95, -90, -85, -80),
    _number("ct_noise_hu", "noise between neighbours (HU)", 3, 5, 7, 9, 12, 16, 21, 28, 40),
)  # fmt: skip
TARGET = (_number("target_cc", "target (cc)", 0.5, 100, 200, 300, 400, 550, 750, 1000, 1400, 2000),)

FEATURES: dict[str, Feature] = {item.name: item for item in (*NOTE, *SUMMARY, *PLAN, *CT, *TARGET)}
SEES: dict[str, tuple[tuple[Feature, ...], tuple[Feature, ...]]] = {
    "s": (NOTE, SUMMARY), "p": (SUMMARY, PLAN), "seg": ((*CT, *PLAN), TARGET)
}  # fmt: skip
"""Of each model: what it is given, and what it answers."""
_MARKS = re.compile(r"[:;/()\[\]|=+*<>%-]")


def note_bins(text: str) -> Bins:
    """A note's form; an empty text has none."""
    words = text.split()
    if not words:
        return {}
    letters = [sum(map(str.isalpha, word)) for word in words]
    lines = max(1, sum(1 for line in text.splitlines() if line.strip()))
    sentences = max(1, sum(1 for part in re.split(r"[.!?](?:\s+|$)|\n", text) if part.strip()))
    count = len(words)
    worded = [length for length in letters if length]
    return _binned({
        "note_words": count,
        "note_line_words": count / lines,
        "note_sentence_words": count / sentences,
        "note_letters": sum(worded) / max(1, len(worded)),
        "note_marks": 100 * len(_MARKS.findall(text)) / count,
        "note_digits": 100 * sum(any(map(str.isdigit, word)) for word in words) / count,
        "note_capitals": 100 * sum(n > 1 and w.isupper() for n, w in zip(letters, words, strict=True)) / count,
    })  # fmt: skip


def summary_bins(text: str) -> Bins:
    """A summary's length; an empty text has none."""
    words = len(text.split())
    return _binned({"summary_words": words}) if words else {}


def plan_bins(plan: Plan | None) -> Bins:
    """A plan's fields; None: its text does not parse."""
    if plan is None:
        return {"plan_form": "free"}
    count = len(plan.levels)
    fractions = plan.dose.fractions if plan.dose else 0
    named = FEATURES["plan_fractions"].bins
    return {
        "plan_form": "parsed",
        "plan_side": plan.side,
        "plan_surgery": plan.surgery,
        "plan_volume": plan.volume or NONE,
        "plan_levels": FEATURES["plan_levels"].bins[(count + 1) // 2],
        "plan_imn": "yes" if Level.IMN in plan.levels else "no",
        "plan_boost": plan.boost.kind if plan.boost else NONE,
        "plan_fractions": named[min(4, fractions // 10 + 1)] if fractions else NONE,
        "plan_technique": plan.technique or NONE,
        "plan_guideline": plan.guideline or NONE,
    }


def ct_bins(volume: Volume) -> Bins:
    """What scanner and patient make of a CT, in any orientation; a scan without fat or tissue lacks those."""
    along = int(np.argmax(np.abs(volume.affine[2, :3]) / np.asarray(volume.spacing)))
    across = int(np.argmax(np.abs(volume.affine[0, :3]) / np.asarray(volume.spacing)))
    found: dict[str, float] = {
        "ct_pixel_mm": volume.spacing[across],
        "ct_slice_mm": volume.spacing[along],
        "ct_field_mm": volume.spacing[across] * volume.shape[across],
        "ct_length_mm": volume.spacing[along] * volume.shape[along],
    }
    body, steps = body_mask(volume, COARSE_MM)
    wide = np.flatnonzero(body.any(axis=tuple(axis for axis in range(3) if axis != across)))
    if wide.size:
        found["ct_body_mm"] = float(np.ptp(wide) + 1) * steps[across] * volume.spacing[across]
    every = max(1, -(-volume.array.size // MOST_VOXELS))
    array = np.moveaxis(volume.array, (across, along), (0, 2))[:, :, ::every]
    low, high = FAT_HU
    counts, _ = np.histogram(array, bins=high - low, range=(low, high))
    if counts.sum() > 100:
        found["ct_fat_hu"] = low + 0.5 + int(np.argmax(ndimage.gaussian_filter1d(counts.astype(float), 5)))
    inside = (array > TISSUE_HU[0]) & (array < TISSUE_HU[1])
    differences = np.diff(array, axis=0)[inside[1:] & inside[:-1]]
    if differences.size > 100:  # of the middle half: edges of organs lie outside it
        found["ct_noise_hu"] = float(np.subtract(*np.percentile(differences, (75, 25)))) / 1.349 / 2**0.5
    return _binned(found)


def target_bins(cc: float) -> Bins:
    """A target's volume in cubic centimetres; an empty one is a volume too."""
    return _binned({"target_cc": cc})


def _binned(values: Mapping[str, float]) -> Bins:
    return {name: FEATURES[name].bin(value) for name, value in values.items()}
