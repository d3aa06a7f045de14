"""What a federation tells the lineage, so that a subject withdrawn at one hospital is followed into the common model.

Case ids never leave a site, so the chain has two halves that meet in the hash of an update. The site's own lineage (in
its state folder) says which cases an update was made from; the coordinator's (in its folder) says which updates a model
was made from: they are the cases of its data. A site that withdraws a subject is told the updates it is in, tells the
coordinator those hashes, and `rollama lineage withdraw HASH` there marks the model. Where one lineage has both halves
(a hospital took the model over, `rollama lineage carry`), the case itself is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rollama.centres.federation.state import used
from rollama.core.config import hash_json
from rollama.core.manifest import WEIGHTS, artefact_hash
from rollama.data.case import Split
from rollama.data.origin import tool_version
from rollama.lineage.carry import carry_model
from rollama.lineage.events import Data, Trained
from rollama.lineage.ledger import has_ledger, open_ledger, read_ledger
from rollama.lineage.query import Lineage


def tell_update(state: Path, work: Path, model: Path, update: str) -> bool:
    """Write into the site's lineage from which cases an update that is about to leave was made.

    Args:
        state: the site's state folder, whose lineage is told.
        work: the round's workspace, which the next round empties.
        model: what the round's training left.
        update: hash of the weights that leave.

    Returns:
        Whether the round's training has told its lineage; a command of a site's own need not.

    Raises:
        DataError: a lineage cannot be read or written; nothing leaves then.
    """
    if not has_ledger(work):
        return False
    ledger, trained = open_ledger(state), artefact_hash(model)
    carry_model(read_ledger(work), ledger, trained)
    made = [event for event in Lineage(ledger).trained if event.model == trained]
    for event in made:
        ledger.record(event.model_copy(update={"model": update, "parents": (trained,)}))
    return bool(made)


def tell_model(folder: Path, manifest: Mapping[str, Any], rounds: Sequence[Mapping[str, Any]]) -> None:
    """Write into the coordinator's lineage from which updates its model was made.

    Args:
        folder: the coordinator's folder.
        manifest: the model's.
        rounds: facts of all rounds, as they are kept.

    Raises:
        DataError: the lineage cannot be written.
    """
    kept = {update["sha256"]: update["site"] for update in used(rounds)}
    ledger, data = open_ledger(folder), hash_json(sorted(kept))
    cases = [{"case": update, "centre": site, "split": str(Split.TRAIN)} for update, site in sorted(kept.items())]
    ledger.keep_list(data, manifest["federation"]["name"], cases)
    ledger.record(Data(kind="federation", data=data, version=tool_version(), synthetic=None))
    ledger.record(
        Trained(
            model=manifest["files"][WEIGHTS],
            task=manifest.get("task", "seg"),
            data=data,
            run=manifest["config_hash"],
            base=(manifest.get("base") or {}).get("weights_hash", ""),
            parents=(manifest["parent"], *sorted(kept)),  # which a site's half follows on to its cases
        )
    )
