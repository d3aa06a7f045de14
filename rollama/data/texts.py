"""A hospital's own texts as a data set for S and P: JSON lines, or a folder of text files.

Reports come out of information systems as exports with their own column names, or as a file a document. A mapping says
which column or file is the note, the summary and the plan; what a task does not need may be missing (S: the plan, P:
the note). Splits are taken from a column or drawn by the case's id, so that adding cases moves none.

Messages name files, lines, columns and ids, never text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rollama.core.errors import ConfigError, DataError
from rollama.core.files import new_folder, write_json, write_text
from rollama.core.seeding import derive_seed
from rollama.data.case import Split
from rollama.data.dataset import KEYS, DatasetInfo, TextDataset, content_hash, open_texts
from rollama.data.origin import Origin, tool_version

FIELDS = {"note": "note", "summary": "summary", "plan": "plan_text"}
"""Names in a mapping, and in a data set's text.jsonl."""
_ID = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Source:
    """Where the texts are.

    Attributes:
        path: a file of JSON lines, or a folder.
        mapping: `note`, `summary`, `plan` -> column, or for a folder a path with `{id}`, such as `{id}/note.txt`.
        case_id: column with the case's id (JSON lines).
        split: column with the split's name; without it splits are drawn.
        shares: of the cases that become validation and test, where splits are drawn.
    """

    path: Path
    mapping: Mapping[str, str]
    case_id: str = "case_id"
    split: str | None = None
    shares: tuple[float, float] = (0.1, 0.1)


def import_texts(source: Source, out: Path, centre: str, synthetic: bool = False) -> TextDataset:
    """Write a data set of texts with one centre.

    Raises:
        ConfigError: a mapping that names no known field, or no summary.
        DataError: a line, column or file that is missing or not readable, ids that are not unique; names them.
    """
    unknown = sorted(set(source.mapping) - set(FIELDS))
    if unknown or "summary" not in source.mapping or len(source.mapping) < 2:
        raise ConfigError(
            f"mapping: found {', '.join(source.mapping) or 'nothing'}; needed: summary with note, plan or both"
        )
    if out.exists():
        raise ConfigError(f"{out}: is there already; name another folder")
    check_centre(centre)
    records = [(split or draw_split(record["case_id"], source.shares), record) for split, record in _records(source)]
    with new_folder(out) as temporary:
        lists: dict[str, list[dict[str, str]]] = {key: [] for key in KEYS.values()}
        for split, record in records:
            lists[KEYS[split]].append({"case_id": record["case_id"]})
        write_json(temporary / centre / "dataset.json", lists)
        lines = [json.dumps(record, ensure_ascii=False, sort_keys=True) for _, record in records]
        write_text(temporary / centre / "text.jsonl", "\n".join(lines) + "\n")
        content = content_hash(temporary, [centre])
        info = DatasetInfo(
            name=source.path.stem,
            version="1",
            synthetic=synthetic,
            label="none",
            notice="SYNTHETIC TEXT" if synthetic else "CLINICAL TEXT: keep it where patients' data may be",
            centres=(centre,),
            content_hash=content,
            origins=(Origin(kind="texts", data=content, version=tool_version(), synthetic=synthetic),),
        )
        write_json(temporary / "dataset.json", info.model_dump(mode="json"))
        checked = open_texts(temporary)
    return replace(checked, root=out)


def read_texts(source: Source) -> dict[str, tuple[Split | None, dict[str, str]]]:
    """The texts of a source by case id, with the split where a column names it; to go with volumes.

    Raises:
        ConfigError: a mapping that names no known field, or no plan.
        DataError: as `import_texts`.
    """
    unknown = sorted(set(source.mapping) - set(FIELDS))
    if unknown or "plan" not in source.mapping:
        raise ConfigError(
            f"mapping: found {', '.join(source.mapping) or 'nothing'}; needed: plan, and note and summary"
        )
    return {record["case_id"]: (split, record) for split, record in _records(source)}


def _records(source: Source) -> list[tuple[Split | None, dict[str, str]]]:
    records = list(_folder(source) if source.path.is_dir() else _lines(source))
    if not records:
        raise DataError(f"{source.path}: no case found")
    check_unique([record["case_id"] for _, record in records], f"{source.path}: ")
    return records


def _lines(source: Source) -> Iterator[tuple[Split | None, dict[str, str]]]:
    try:
        text = source.path.read_text(encoding="utf-8-sig")  # Windows programs write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source.path}: cannot be read as UTF-8 text ({type(error).__name__})") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{source.path}: line {number} is not a JSON object")
        wanted = [source.case_id, *source.mapping.values(), *([source.split] if source.split else [])]
        if missing := [name for name in wanted if name not in row]:
            raise DataError(f"{source.path}: line {number} has no {', '.join(missing)}; it has {', '.join(row)}")
        identity = row[source.case_id]
        name = clean_id("" if identity is None else str(identity), f"{source.path}: line {number}")
        record = {FIELDS[field]: str(row[column] or "") for field, column in source.mapping.items()}
        yield _split(source, row.get(source.split or ""), f"line {number}"), {"case_id": name, **record}


def _folder(source: Source) -> Iterator[tuple[Split | None, dict[str, str]]]:
    if wrong := [pattern for pattern in source.mapping.values() if pattern.count("{id}") != 1]:
        raise ConfigError(
            f"mapping: for a folder each path holds {{id}} once, such as {{id}}/note.txt; found {wrong[0]}"
        )
    pattern = source.mapping.get("summary", next(iter(source.mapping.values())))
    before, after = pattern.split("{id}")
    for path in sorted(source.path.glob(f"{before}*{after}")):
        found = str(path.relative_to(source.path))
        raw = found[len(before) : len(found) - len(after)]
        record = {}
        for field, where in source.mapping.items():
            file = source.path / where.replace("{id}", raw)
            try:
                record[FIELDS[field]] = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(f"{file}: cannot be read as UTF-8 text ({type(error).__name__})") from error
        name = clean_id(raw, str(path))
        yield None, {"case_id": name, **record}


def check_centre(centre: str) -> None:
    """Refuse a name that is no folder's (ConfigError)."""
    if clean_id(centre, "centre") != centre:
        raise ConfigError(f"centre {centre!r}: letters, digits, - and _ only, such as {clean_id(centre, 'centre')}")


def check_unique(ids: Sequence[str], where: str = "") -> None:
    """Refuse case ids that occur more than once, with their names (DataError)."""
    if twice := sorted(name for name, count in Counter(ids).items() if count > 1):
        raise DataError(f"{where}{len(twice)} case id(s) occur more than once: {', '.join(twice[:10])}")


def clean_id(raw: str, where: str) -> str:
    """An id as data sets have it: letters, digits, - and _; the case must not be nameless."""
    name = _ID.sub("-", raw.strip()).strip("-_")
    if not name:
        raise DataError(f"{where}: the case has no id")
    return name


def _split(source: Source, found: object, where: str) -> Split | None:
    if source.split is None:
        return None
    names: Sequence[str] = [str(split) for split in Split]
    if str(found) not in names:
        raise DataError(f"{source.path}: {where}: {source.split} is no split; accepted: {', '.join(names)}")
    return Split(str(found))


def draw_split(name: str, shares: tuple[float, float]) -> Split:
    """The split of a case by its id alone, so that adding cases moves none; `shares`: validation, test."""
    place = derive_seed(name, "split") / 2**63
    validation, test = shares
    if place < validation:
        return Split.VALIDATION
    return Split.TEST if place < validation + test else Split.TRAIN
