"""No model may be judged on cases that it was trained on.

The model's manifest says by content hash which data sets it was trained on. Those have to be at hand, and no case, no
patient, no CT and no note of their training and validation splits may be among the cases of the evaluation. Ids alone
are not enough: the same patient may come back under another number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rollama.core.errors import DataError
from rollama.core.files import hash_file
from rollama.data.case import Case, Split, TextCase
from rollama.data.dataset import open_dataset, open_texts

SUBJECTS = ("subject", "patient", "anatomy_of", "scan_of", "corrects")
"""Facts of a case's provenance that name the patient, or the case whose CT it shares."""
SEEN = (Split.TRAIN, Split.VALIDATION)


class Overlap(DataError):
    """The evaluation holds cases that the candidate was trained on."""

    exit_code = 3


def check_overlap(
    evaluated: Sequence[Case], evaluation_hash: str, trained: Mapping[str, Sequence[str]], folders: Sequence[Path]
) -> list[str]:
    """Refuse an evaluation on training cases; returns the content hashes of the data sets that were compared.

    Args:
        evaluated: the cases that are scored.
        evaluation_hash: content hash of the data set that they are of.
        trained: model -> content hashes of its training data.
        folders: data sets to look those up in, the evaluation's among them.

    Raises:
        Overlap: a case, patient, CT or note was trained on.
        DataError: a data set that a model was trained on is not among the folders.
    """
    opened = {}
    for folder in folders:
        info = open_texts(folder).info
        opened[info.content_hash] = open_texts(folder) if info.label == "none" else open_dataset(folder, False)
    needed = sorted({value for values in trained.values() for value in values})
    if lacking := [value for value in needed if value not in opened]:
        models = ", ".join(sorted(name for name, values in trained.items() if set(values) & set(lacking)))
        raise DataError(
            f"model {models} was trained on data of content {', '.join(value[:16] for value in lacking)}, which is not "
            "at hand, so nobody can say whether it holds cases of the evaluation; name it with --trained-on"
        )
    if unknown := sorted(name for name, values in trained.items() if not values):
        raise DataError(f"model {', '.join(unknown)} does not say what it was trained on; it cannot be released")
    problems = []
    mine = {key: case.case_id for case in evaluated for key in _keys(case)}
    for value in needed:
        for case in opened[value].select(*SEEN):
            shared = sorted(kind for kind, key in _keys(case) if (kind, key) in mine)
            if shared:
                other = next(mine[key] for key in _keys(case) if key in mine)
                same = "its" if other == case.case_id else f"case {other}'s"
                problems.append(f"case {case.case_id} ({case.split} of data {value[:16]}): {same} {', '.join(shared)}")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise Overlap(
            f"the evaluation on data of content {evaluation_hash[:16]} holds what the candidate was trained on: "
            f"{'; '.join(problems[:5])}{more}; evaluate on other cases"
        )
    return needed


def _keys(case: TextCase) -> Iterable[tuple[str, str]]:
    """What must not be shared: (kind, value)."""
    found = [("case", case.case_id)]
    names = {case.case_id, *(str(case.provenance[name]) for name in SUBJECTS if name in case.provenance)}
    found += [("patient", name) for name in sorted(names)]
    if case.note.strip():
        found.append(("note", hashlib.sha256(" ".join(case.note.split()).encode()).hexdigest()))
    if isinstance(case, Case):
        found.append(("CT", hash_file(case.image)))
    return found
