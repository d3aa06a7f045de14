"""Give a trained S or P another way of answering, such as a second look at the mirrored text, without training it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rollama.core.errors import ConfigError
from rollama.text.checkpoint import load_text_model
from rollama.training.applied import applied
from rollama.training.artefact import save_artefact
from rollama.training.runs import run_hash

APPLIED = ("mirrored_look", "max_new_tokens", "generate_batch")
"""Keys of a configuration that say how a model answers, and nothing of how it was trained."""


def apply_again(model: Path, out: Path, changes: Sequence[str]) -> Path:
    """Write the S or P `model` to `out` with `KEY=VALUE` changes of `APPLIED`; its weights stay.

    Raises:
        ConfigError: no change, or one of another key or to a value that it does not take.
        CheckpointError: the model is damaged or no text model.
    """
    if not changes:
        raise ConfigError(f"an S or P has nothing to measure; give --set with one of {', '.join(APPLIED)}")
    artefact = load_text_model(model)
    config = applied(artefact.config, changes, APPLIED)
    manifest = {key: value for key, value in artefact.manifest.items() if key != "files"}
    manifest["config"] = config.model_dump(mode="json")
    manifest["config_hash"] = run_hash(config, str(artefact.task), str(manifest.get("data_hash")))
    manifest["applied"] = {"changes": [*manifest.get("applied", {}).get("changes", []), *changes]}
    save_artefact(out, artefact.tensors, manifest)
    return out
