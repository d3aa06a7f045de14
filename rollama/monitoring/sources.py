"""Where the two sides of a comparison come from: a model's manifest, a data set, the endpoint's metrics.

The metrics are counts since each server started, summed over the scrapes that are given. A window is the difference of
two scrapes; where a counter fell in between, its server was started anew and what it counts now is all there is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from rollama.core.errors import CheckpointError, DataError
from rollama.data.case import Case, Split, TextCase
from rollama.data.dataset import Opened, open_dataset, open_texts
from rollama.data.features import FEATURES, SEES
from rollama.data.profile import ALL, Profile, profile_in, profile_of
from rollama.training.artefact import MANIFEST, read_manifest

COUNTER = "rollama_profile"
"""The endpoint's counter of bins; Ray puts its prefix before it and `_total` behind."""
TIMEOUT_S = 30.0
MADE_UP = (Split.COMBINATION, Split.COUNTERFACTUAL)
Series = dict[tuple[tuple[str, str], ...], float]


def read_profiles(models: Path, reference: Path | None = None) -> tuple[dict[str, Profile], set[str]]:
    """What models were trained on: (model -> profile, content hashes of their data).

    Args:
        models: folder of one model, or of `s/`, `p/` and `seg/`.
        reference: training data, for models that hold no profile.

    Raises:
        CheckpointError: no model, or one without a profile and no `reference`.
        DataError: the profile is of another version.
    """
    found, data = dict[str, Profile](), set[str]()
    for folder in model_folders(models):
        manifest = read_manifest(folder)
        task = str(manifest.get("task", "seg" if manifest.get("kind") == "segmentation" else ""))
        if task not in SEES:
            continue
        data.add(str(manifest.get("data_hash") or manifest.get("data", {}).get("content_hash", "")))
        profile = profile_in(manifest, str(folder / MANIFEST))
        if profile is None:
            if reference is None:
                raise CheckpointError(
                    f"{folder}: holds no profile of its training data: it comes from before rollama wrote one, or from "
                    "a federation, whose sites keep theirs. Train again, or name the training data with --reference"
                )
            profile = profile_of(_open(reference, task).select(Split.TRAIN), task)
        found[task] = profile
    if not found:
        raise CheckpointError(f"{models}: no trained model here; give the folder of one, or that with s/, p/ and seg/")
    return found, data


def model_folders(models: Path) -> list[Path]:
    """The folder itself if it is a model, else those in it."""
    if (models / MANIFEST).is_file():
        return [models]
    return sorted(path.parent for path in models.glob(f"*/{MANIFEST}"))


def of_dataset(
    root: Path, tasks: Iterable[str], trained_on: set[str], splits: Sequence[Split] = ()
) -> dict[str, Profile]:
    """Counts of a data set's cases, by model.

    Without `splits` it is all cases, or, of the data that the models were trained on, those held out; cases that are
    made up to be unlike others (combinations, counterfactual texts) are left out.

    Raises:
        DataError: the data set is broken, or no case is left.
    """
    found = {}
    for task in tasks:
        opened = _open(root, task)
        left_out = (*MADE_UP, *((Split.TRAIN, Split.VALIDATION) if opened.info.content_hash in trained_on else ()))
        chosen = splits or [split for split in Split if split not in left_out]
        cases = opened.select(*chosen)
        if not cases:
            raise DataError(f"{root}: no case in {', '.join(chosen)}; name others with --split")
        found[task] = profile_of(cases, task)
    return found


def _open(root: Path, task: str) -> Opened[Case] | Opened[TextCase]:
    return open_dataset(root, check_volumes=False) if task == "seg" else open_texts(root)


def of_metrics(now: Sequence[str], before: Sequence[str] = ()) -> dict[str, Profile]:
    """Counts of the endpoint's cases, by model.

    Args:
        now: files with scraped metrics, or addresses of Ray's metrics ports (one a node).
        before: earlier ones; what they hold is taken off.

    Raises:
        DataError: unreadable, or without the endpoint's counts.
    """
    later, earlier = _scraped(now), _scraped(before)
    if not later:
        raise DataError(
            f"{', '.join(now)}: no {COUNTER} among the metrics; give those of the nodes that run the endpoint, once it "
            "has answered a request"
        )
    counts: dict[str, dict[str, dict[str, dict[str, float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    )
    for labels, value in later.items():
        old = earlier.get(labels, 0.0)
        name = dict(labels)
        model, feature, kind = (name.get(key, "") for key in ("model", "feature", "bin"))
        if feature not in FEATURES or kind not in FEATURES[feature].bins:
            raise DataError(
                f"metrics: no bin {kind!r} of {feature!r} in this rollama; the endpoint runs another version"
            )
        for centre in (name.get("centre", ""), ALL):
            counts[model][centre][feature][kind] += value - old if value >= old else value
    return {
        model: Profile({
            centre: {feature: {kind: round(n) for kind, n in bins.items()} for feature, bins in features.items()}
            for centre, features in centres.items()
        })
        for model, centres in counts.items()
    }  # fmt: skip


def _scraped(places: Sequence[str]) -> Series:
    """Every series of the counter by all of its labels: a server's own are told apart, so that a restart shows."""
    from prometheus_client.parser import text_string_to_metric_families

    found: Series = {}
    for place in places:
        try:
            for family in text_string_to_metric_families(_text(place)):
                for sample in family.samples:
                    if sample.name.removesuffix("_total").removeprefix("ray_") == COUNTER:
                        found[tuple(sorted(sample.labels.items()))] = float(sample.value)
        except ValueError as error:
            raise DataError(f"{place}: is no Prometheus text ({type(error).__name__})") from None
    return found


def _text(place: str) -> str:
    if not place.startswith(("http://", "https://")):
        try:
            return Path(place).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{place}: metrics cannot be read ({type(error).__name__})") from error
    import httpx

    try:
        answer = httpx.get(place, timeout=TIMEOUT_S)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise DataError(f"{place}: metrics cannot be fetched ({type(error).__name__})") from error
    return answer.text


def titled(centre: str) -> str:
    """A centre's name for readers."""
    return "all centres" if centre == ALL else centre
