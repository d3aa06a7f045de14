"""Give a trained S or P another way of answering, such as a second look at the mirrored text, without training it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rollama.core.config import hash_json
from rollama.core.errors import ConfigError, DataError
from rollama.core.manifest import training_hashes
from rollama.data.dataset import open_texts
from rollama.text.checkpoint import load_text_model
from rollama.training.applied import applied
from rollama.training.artefact import artefact_hash, read_manifest, save_artefact
from rollama.training.runs import run_hash

APPLIED = ("mirrored_look", "max_new_tokens", "generate_batch")
"""Keys of a configuration that say how a model answers, and nothing of how it was trained."""


def answering(folder: Path) -> str:
    """Hash of what decides an S's or P's answers: its weights and the way it is applied. For caches.

    Raises:
        CheckpointError: no artefact, or damaged.
    """
    config = read_manifest(folder)["config"]
    return hash_json([artefact_hash(folder), {key: config.get(key) for key in APPLIED}])


def takes_second_looks(folder: Path) -> bool:
    """Whether an S or P answers the mirrored text as well (`mirrored_look`)."""
    return bool(read_manifest(folder)["config"].get("mirrored_look", False))


def apply_again(model: Path, dataset: Path, out: Path, changes: Sequence[str]) -> Path:
    """Write the S or P `model` to `out` with `KEY=VALUE` changes of `APPLIED`; its weights stay.

    Args:
        model: artefact folder.
        dataset: that it was trained on, for the lineage; its cases are not read.
        out: folder of the new artefact, replaced when it exists.
        changes: what changes.

    Raises:
        ConfigError: no change, or one of another key or to a value that it does not take.
        CheckpointError: the model is damaged or no text model.
        DataError: the data set is another one.
    """
    if not changes:
        raise ConfigError(f"an S or P has nothing to measure; give --set with one of {', '.join(APPLIED)}")
    artefact = load_text_model(model)
    config = applied(artefact.config, changes, APPLIED)
    manifest = {key: value for key, value in artefact.manifest.items() if key != "files"}
    manifest["config"] = config.model_dump(mode="json")
    given, trained = open_texts(dataset).info.content_hash, training_hashes(manifest)
    if given not in trained:
        raise DataError(
            f"{dataset}: content {given}, but {model} was trained on {', '.join(trained)}; an S or P is not measured"
        )
    manifest["config_hash"] = run_hash(config, str(artefact.task), "+".join(trained))
    manifest["applied"] = {"changes": [*manifest.get("applied", {}).get("changes", []), *changes]}
    save_artefact(out, artefact.tensors, manifest)
    return out
