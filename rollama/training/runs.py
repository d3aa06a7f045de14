"""Identity of a training run: what decides its result, and nothing else.

Workers, checkpoint interval and restarts do not change what is learned, so they are no part of the identity: a run goes
on with another number of workers. Configuration, task and data are.
"""

from __future__ import annotations

from pathlib import Path

from rollama.core.config import StrictModel, hash_json
from rollama.training.artefact import MANIFEST, load_artefact

LATER = {"keep_texts": False, "mirrored": False, "mirrored_look": False, "corrected_side_weight": 1.0}
"""Keys that came later, with the value that stands for what there was before: a run begun then goes on."""


def run_hash(config: StrictModel, task: str, content_hash: str) -> str:
    """Hash of the configuration without its `scale` section, the task (`s`, `p`, `seg`) and the data's content."""
    values = config.model_dump(mode="json", exclude={"scale"})
    values = {key: value for key, value in values.items() if key not in LATER or value != LATER[key]}
    return hash_json({"config": values, "task": task, "data": content_hash})


def is_trained(folder: Path, key: str) -> bool:
    """Whether `folder` holds an undamaged artefact of the run `key`.

    Raises:
        CheckpointError: it holds one that was changed or damaged.
    """
    if not (folder / MANIFEST).is_file():
        return False
    _, manifest = load_artefact(folder)
    return manifest.get("config_hash") == key
