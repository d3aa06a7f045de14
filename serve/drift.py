"""Counts what the models are sent and what they answer, in fixed bins, beside what they were trained on.

`rollama.data.features` says which bins; nothing else of a case leaves this server. The centre is a tag, so it comes
from the settings alone (the list of keys, or `centre`), never from a request. A text or CT that comes again, as when
somebody edits the plan at the page, counts once: cases are to be independent. For that the digests of the latest are
remembered in memory, made with a key that nobody knows. Counting never fails a request.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from rollama.core.errors import DataError
from rollama.data.features import FEATURES, SEES, Bins, ct_bins, note_bins, plan_bins, summary_bins, target_bins
from rollama.data.plan import Plan
from rollama.data.profile import Profile, profile_in
from rollama.data.volumes import Volume
from rollama.training.artefact import MANIFEST, read_manifest
from serve.telemetry import LOGGER, Meter, NoMeter, named

logger = logging.getLogger(LOGGER)
COUNTER, REFERENCE = "rollama_profile", "rollama_profile_reference"
REMEMBERED = 10_000
"""Texts and CTs that are known again."""
Centres = Callable[[str], str]
"""The centre of a caller, by the caller's name."""


class Drift:
    """The counts of one server."""

    def __init__(self, meter: Meter | None = None, centre_of: Centres = lambda _: "", centres: tuple[str, ...] = ()):
        """Begin at zero.

        Args:
            meter: takes the numbers.
            centre_of: the centre of a caller.
            centres: all there can be.
        """
        self.meter, self.centre_of, self.centres = meter or NoMeter(), centre_of, centres
        self._key, self._seen, self._lock = secrets.token_bytes(32), OrderedDict[bytes, None](), threading.Lock()
        for tags in _series(self.centres):
            self.meter.begin(COUNTER, tags)

    def trained(self, profiles: Mapping[str, Profile]) -> None:
        """Show what the models of the served release were trained on; those without a profile show nothing."""
        self.meter.forget(REFERENCE)
        for tags in _series(self.centres):
            profile = profiles.get(tags["model"])
            if profile is not None:
                _, counts = profile.reference(tags["centre"], tags["feature"])
                place = FEATURES[tags["feature"]].bins.index(tags["bin"])
                self.meter.level(REFERENCE, float(counts[place]), tags)

    def summary(self, owner: str, note: str, summary: str) -> None:
        """S wrote a summary of a note."""
        self._count(owner, "s", note, lambda: {**note_bins(note), **summary_bins(summary)})

    def plan(self, owner: str, summary: str, plan: Plan | None) -> None:
        """P wrote a plan for a summary; None: it does not parse."""
        self._count(owner, "p", summary, lambda: {**summary_bins(summary), **plan_bins(plan)})

    def target(self, owner: str, digest: str, volume: Volume, plan: Plan | None, cc: float) -> None:
        """SEG outlined a target on the CT with this digest. Takes a third of a second with 512 x 512 x 96 voxels."""
        self._count(owner, "seg", digest, lambda: {**ct_bins(volume), **plan_bins(plan), **target_bins(cc)})

    def _count(self, owner: str, model: str, case: str, measure: Callable[[], Bins]) -> None:
        if isinstance(self.meter, NoMeter) or not self._new(f"{model}\x00{case}"):
            return
        try:
            found = measure()
        except Exception as error:  # a number less is no reason to lose a patient's answer
            logger.warning("a case is not counted", extra={"model": model, **named(error)})
            return
        centre = self.centre_of(owner)
        for feature, kind in found.items():
            self.meter.count(COUNTER, {"model": model, "centre": centre, "feature": feature, "bin": kind})

    def _new(self, case: str) -> bool:
        digest = hashlib.blake2b(case.encode(errors="replace"), key=self._key, digest_size=16).digest()
        with self._lock:
            known = digest in self._seen
            self._seen[digest] = None
            self._seen.move_to_end(digest)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return not known


def read_trained(folders: Mapping[str, Path]) -> dict[str, Profile]:
    """The profiles of a release's models; those without one are named in the log.

    Raises:
        CheckpointError: a manifest is missing or damaged.
    """
    found = {}
    for model, folder in folders.items():
        try:
            profile = profile_in(read_manifest(folder), f"{model}/{MANIFEST}")
        except DataError as error:  # of another version: the model itself is fine
            logger.warning("a model's drift is not watched", extra={"model": model, "reason": str(error)})
            continue
        if profile is None:
            reason = "it holds no profile of its training data; train it again with this rollama"
            logger.warning("a model's drift is not watched", extra={"model": model, "reason": reason})
        else:
            found[model] = profile
    return found


def _series(centres: tuple[str, ...]) -> list[dict[str, str]]:
    """The tags of every series there can be: some 230 a centre."""
    return [
        {"model": model, "centre": centre, "feature": feature.name, "bin": kind}
        for centre in centres
        for model, sides in SEES.items()
        for side in sides
        for feature in side
        for kind in feature.bins
    ]
