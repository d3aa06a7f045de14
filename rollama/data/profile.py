"""How often each bin of each feature occurred, per centre: what a model was trained on, told without telling a patient.

Counts alone can tell: a single patient in a rare bin of a small centre, or the one who was added between two
versions. So what leaves (`Profile.as_dict`, part of an artefact's manifest) is rounded to multiples of `CELL`; a cell
of one or two is told as none, and neither a sum nor a difference of counts leads back to one patient. A centre too
small to leave anything is told only within the sum over all centres.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rollama.core.errors import DataError
from rollama.data.case import Case, TextCase
from rollama.data.dataset import evenly
from rollama.data.features import (
    FEATURES,
    SEES,
    VERSION,
    Bins,
    ct_bins,
    note_bins,
    plan_bins,
    summary_bins,
    target_bins,
)
from rollama.data.volumes import read_ct, read_mask

CELL = 5
ALL = "_all"
"""The sum over all centres; no centre can have this name."""
MOST_CTS = 400
"""CTs that are read for a profile, of each centre as evenly as they come: more would only take longer."""

Counts = dict[str, dict[str, int]]
"""Feature -> bin -> cases."""


class Profile:
    """Counts of cases by centre, feature and bin; `ALL` is the sum over centres."""

    def __init__(self, centres: Mapping[str, Mapping[str, Mapping[str, int]]] | None = None) -> None:
        self.centres: dict[str, Counts] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
        for centre, features in (centres or {}).items():
            for feature, bins in features.items():
                self.centres[centre][feature].update(bins)

    def add(self, centre: str, bins: Bins) -> None:
        """Count one case's bins for its centre and for all."""
        for name in (centre, ALL):
            for feature, kind in bins.items():
                self.centres[name][feature][kind] += 1

    def counts(self, centre: str, feature: str) -> list[int]:
        """Cases in each bin of a feature, in the order of its bins; all zero where nothing is known."""
        found = self.centres.get(centre, {}).get(feature, {})
        return [int(found.get(kind, 0)) for kind in FEATURES[feature].bins]

    def reference(self, centre: str, feature: str) -> tuple[str, list[int]]:
        """What a centre's cases are to be compared with: (its own past, or `ALL` where that is unknown; counts)."""
        own = self.counts(centre, feature)
        return (centre, own) if any(own) else (ALL, self.counts(ALL, feature))

    def as_dict(self) -> dict[str, Any]:
        """For a manifest: rounded, and only what is not zero then."""
        told: dict[str, Counts] = {}
        for centre, features in sorted(self.centres.items()):
            kept = {
                feature: cells
                for feature, bins in sorted(features.items())
                if (cells := {kind: CELL * round(n / CELL) for kind, n in bins.items() if n >= CELL / 2})
            }
            if kept:
                told[centre] = {feature: dict(sorted(cells.items())) for feature, cells in kept.items()}
        return {"version": VERSION, "rounded_to": CELL, "centres": told}


def profile_of(cases: Sequence[TextCase], task: str, most_cts: int = MOST_CTS) -> Profile:
    """Count what a model of `task` (`s`, `p`, `seg`) is given with these cases, and is to answer.

    Args:
        cases: of any centres.
        task: decides the features (`features.SEES`).
        most_cts: so many CTs are read; the other cases count with their plan only.

    Raises:
        DataError: a CT or target cannot be read.
    """
    wanted = {item.name for side in SEES[task] for item in side}
    read = {case.case_id for case in evenly(case for case in cases if isinstance(case, Case))[:most_cts]}
    profile = Profile()
    for case in cases:
        bins: Bins = {**note_bins(case.note), **summary_bins(case.summary)}
        bins |= plan_bins(case.plan) if case.plan_text else {}
        if task == "seg" and isinstance(case, Case) and case.case_id in read:
            ct = read_ct(case.image)
            bins |= {**ct_bins(ct), **target_bins(float(read_mask(case.target, ct).sum()) * ct.voxel_cc)}
        profile.add(case.centre, {name: kind for name, kind in bins.items() if name in wanted})
    return profile


def parse_profile(values: object, source: str) -> Profile:
    """A profile from a manifest.

    Args:
        values: what `as_dict` gave.
        source: for messages.

    Raises:
        DataError: it is of another version, or not a profile.
    """
    if not isinstance(values, dict) or not isinstance(values.get("centres"), dict):
        raise DataError(f"{source}: its profile is no table of counts by centre, feature and bin")
    if values.get("version") != VERSION:
        raise DataError(
            f"{source}: its profile has bins of version {values.get('version')!r}, this rollama counts in version "
            f"{VERSION}; train again, or compare with the rollama that trained it"
        )
    for centre, features in values["centres"].items():
        for feature, bins in features.items():
            known = FEATURES[feature].bins if feature in FEATURES else ()
            if odd := sorted(set(bins) - set(known)):
                raise DataError(f"{source}: profile of {centre}: no bin {odd[0]!r} of {feature!r} in version {VERSION}")
            if not all(isinstance(count, int) and count >= 0 for count in bins.values()):
                raise DataError(f"{source}: profile of {centre}, {feature}: counts must be whole numbers from 0")
    return Profile(values["centres"])


def profile_in(manifest: Mapping[str, Any], source: str) -> Profile | None:
    """The profile of a model's manifest; None for a model from before there were profiles.

    Raises:
        DataError: see `parse_profile`.
    """
    return parse_profile(manifest["profile"], source) if "profile" in manifest else None


def centres_of(profiles: Iterable[Profile]) -> list[str]:
    """The centres that any of some profiles knows, without `ALL`."""
    return sorted({name for profile in profiles for name in profile.centres} - {ALL})
