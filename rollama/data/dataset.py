"""A dataset on disk: one folder a centre, checked once and completely when it is opened.

Layout::

    <root>/dataset_card.md            what it is, how it was made, what it may be used for
    <root>/dataset.json               name, version, synthetic or not, label kind (CTV or PTV), centres, content hash,
                                      origins
    <root>/<centre>/dataset.json      MONAI datalist: lists under "training", "validation" and the held-out splits'
                                      names, each item {"case_id", "image", "label"}, paths relative to this folder
    <root>/<centre>/text.jsonl        one JSON line a case: case_id, note, summary, plan_text, evidence, provenance
    <root>/<centre>/images/<case_id>.nii.gz    CT in HU
    <root>/<centre>/labels/<case_id>.nii.gz    target mask, 0 or 1, on the CT's grid
    <root>/<centre>/parts/, readers/           label maps of the target's parts and of readers, if kept (see `parts`)

A data set of texts alone has the label kind `none` and no volumes; it trains S and P (see `texts`).

A broken case found in the ninth hour of training costs nine hours, so `open_dataset` looks at every case first and
names all that are wrong in one error.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field

from rollama.core.config import StrictModel, build, hash_json
from rollama.core.errors import ConfigError, DataError
from rollama.core.files import hash_file, read_json, write_json, write_text
from rollama.data.case import Case, Split, TextCase
from rollama.data.origin import Origin
from rollama.data.plan import parse_plan

KEYS = {split: "training" if split is Split.TRAIN else str(split) for split in Split}
"""Our split names and MONAI's datalist keys."""


class DatasetInfo(StrictModel):
    """The root `dataset.json`."""

    name: str
    version: str
    synthetic: bool
    label: Literal["CTV", "PTV", "none"]
    notice: str
    centres: tuple[str, ...] = Field(min_length=1)
    external_centres: tuple[str, ...] = ()
    content_hash: str
    generator: dict[str, Any] = Field(default_factory=dict)
    origins: tuple[Origin, ...] = Field((), description="how it came to be, oldest step first")


Kind = TypeVar("Kind", bound=TextCase)


@dataclass(frozen=True)
class Opened(Generic[Kind]):
    """An opened dataset; `cases` are in a stable order (centre, case id)."""

    root: Path
    info: DatasetInfo
    cases: tuple[Kind, ...]

    def select(self, *splits: Split, centre: str | None = None) -> tuple[Kind, ...]:
        """The cases of the given splits (all when none is given), of one centre when it is named.

        Raises:
            DataError: the centre is not in the dataset.
        """
        if centre is not None and centre not in self.info.centres:
            raise DataError(f"{self.root}: unknown centre {centre!r}; it has {', '.join(self.info.centres)}")
        return tuple(
            case
            for case in self.cases
            if (not splits or case.split in splits) and (centre is None or case.centre == centre)
        )


Dataset = Opened[Case]
TextDataset = Opened[TextCase]


def in_turn(groups: Sequence[Sequence[Kind]]) -> list[Kind]:
    """The cases of all groups, one of each in turn, so that a beginning of any length is as even as it can be."""
    turns = max(map(len, groups), default=0)
    return [cases[turn] for turn in range(turns) for cases in groups if turn < len(cases)]


def evenly(cases: Iterable[Kind]) -> list[Kind]:
    """The cases, one of each centre in turn; centres in the order in which they first occur."""
    centres: dict[str, list[Kind]] = {}
    for case in cases:
        centres.setdefault(case.centre, []).append(case)
    return in_turn(list(centres.values()))


def open_dataset(root: Path, check_volumes: bool = True) -> Dataset:
    """Open a dataset and check all of it.

    Args:
        root: the dataset's folder.
        check_volumes: also read every volume's header and label values (about 10 ms a small case).

    Raises:
        DataError: lists every case with a missing file, a wrong affine, a CT with values that are no numbers, a label
            that is not binary, and every centre that is missing or not declared.
    """
    found = _open(root, Case, check_volumes)
    if found.info.label == "none":
        raise DataError(f"{root}: holds texts only; it trains S and P, nothing that needs a CT")
    return found


def open_texts(root: Path) -> TextDataset:
    """Open the texts of a dataset, with or without volumes, and check them.

    Raises:
        DataError: lists every case that is broken, and every centre that is missing or not declared.
    """
    return _open(root, TextCase, check_volumes=False)


def _open(root: Path, kind: type[Kind], check_volumes: bool) -> Opened[Kind]:
    info_path = root / "dataset.json"
    if not root.is_dir():
        raise DataError(f"{root}: no such dataset folder; make one with 'rollama cohort make {root}'")
    try:
        info = build(DatasetInfo, read_json(info_path), str(info_path))
    except ConfigError as error:
        raise DataError(str(error)) from error
    problems: list[str] = []
    cases: list[Kind] = []
    if kind is not TextCase and info.label == "none":
        return Opened(root, info, ())
    found = {path.parent.name for path in root.glob("*/dataset.json")}
    problems += [
        f"{root / name}: centre folder missing, but declared in dataset.json" for name in set(info.centres) - found
    ]
    problems += [f"{root / name}: unknown centre, not declared in {info_path}" for name in found - set(info.centres)]
    for centre in info.centres:
        if centre in found:
            cases += _read_centre(root / centre, centre, kind, check_volumes, problems)
    ids = Counter(case.case_id for case in cases)
    problems += [f"{root}: case id {name} occurs more than once" for name, count in ids.items() if count > 1]
    if problems:
        shown = "\n  ".join(sorted(problems)[:50])
        raise DataError(f"{root}: {len(problems)} problem(s) in the dataset:\n  {shown}")
    return Opened(root, info, tuple(sorted(cases, key=lambda case: (case.centre, case.case_id))))


def _read_centre(folder: Path, centre: str, kind: type[Kind], check_volumes: bool, problems: list[str]) -> list[Kind]:
    try:
        datalist = read_json(folder / "dataset.json")
        texts = _read_lines(folder / "text.jsonl")
    except DataError as error:
        problems.append(str(error))
        return []
    lists = {split: datalist.get(key, []) if isinstance(datalist, dict) else None for split, key in KEYS.items()}
    if not all(isinstance(items, list) and all(isinstance(item, dict) for item in items) for items in lists.values()):
        problems.append(f"{folder / 'dataset.json'}: expected {', '.join(KEYS.values())}, each a list of objects")
        return []
    cases = []
    for split, items in lists.items():
        for item in items or ():
            name = str(item.get("case_id"))
            record = texts.pop(name, None)
            if record is None:
                problems.append(f"{folder / 'text.jsonl'}: no line for case {name}")
                continue
            try:
                case = _build_case(folder, centre, kind, split, item, record)
                if check_volumes and isinstance(case, Case):
                    case = case.updated(spacing=check_pair(case.image, case.target))
                cases.append(case)
            except (ConfigError, DataError) as error:
                problems.append(f"{centre}/{name}: {error}")
    problems += [f"{folder / 'text.jsonl'}: case {name} is in no split of dataset.json" for name in texts]
    return cases


def _read_lines(path: Path) -> dict[str, dict[str, Any]]:
    try:
        # Not splitlines: texts may hold Unicode's own line separators, which JSON does not escape.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from error
    records = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            records[str(record["case_id"])] = record
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: line {number} is not a JSON object with a case_id") from error
    return records


def _build_case(
    folder: Path, centre: str, kind: type[Kind], split: Split, item: dict[str, Any], record: dict[str, Any]
) -> Kind:
    text = str(record.get("plan_text", ""))
    try:
        plan = parse_plan(text, "plan_text").model_dump()
    except DataError:
        plan = None  # free text is kept and flagged by `plan is None`
    paths: dict[str, Path] = {}
    for key in ("image", "label") if kind is Case else ():
        if key not in item:
            raise DataError(f"its entry in dataset.json has no {key!r}")
        paths[key] = (folder / str(item[key])).resolve()
        if not paths[key].is_file():
            raise DataError(f"file {paths[key]} is missing")
    values = {
        "case_id": record["case_id"],
        "centre": centre,
        "split": split,
        "note": record.get("note", ""),
        "summary": record.get("summary", ""),
        "plan": plan,
        "plan_text": text,
        "evidence": record.get("evidence", ()),
        "provenance": record.get("provenance", {}),
    }
    if paths:
        values |= {"image": paths["image"], "target": paths["label"], "spacing": (1.0, 1.0, 1.0)}
    # Messages must not repeat the note: validate here and name the fields only.
    try:
        return kind.model_validate(values)
    except ValueError as error:
        fields = sorted({str(item["loc"][0]) for item in getattr(error, "errors", list)()})
        raise DataError(f"field(s) {', '.join(fields)} missing or not accepted") from None


def check_pair(image: Path, label: Path) -> tuple[float, float, float]:
    """Check that a CT and its label share one grid and that the label is binary; return the spacing in mm.

    Raises:
        DataError: unreadable file, other shape or affine, a CT with values that are no numbers, or label values other
            than 0 and 1.
    """
    import nibabel

    try:
        volume: Any = nibabel.load(image)
        mask: Any = nibabel.load(label)
        values = np.unique(np.asarray(mask.dataobj))
    except Exception as error:  # nibabel raises its own, zlib's and OS errors for damaged files
        raise DataError(f"{image.name} or its label is not a readable NIfTI file ({type(error).__name__})") from error
    if len(volume.shape) != 3:
        raise DataError(f"{image}: expected 3 dimensions, found shape {volume.shape}")
    if volume.shape != mask.shape:
        raise DataError(f"{label}: shape {mask.shape} differs from the CT's {volume.shape}")
    if not np.allclose(volume.affine, mask.affine, atol=1e-3):
        raise DataError(f"{label}: affine differs from the CT's; resample it onto the CT's grid")
    if not set(values.tolist()) <= {0, 1}:
        raise DataError(f"{label}: label values must be 0 and 1, found {values[:5].tolist()}")
    if volume.get_data_dtype().kind == "f" and not np.isfinite(np.asarray(volume.dataobj)).all():
        raise DataError(
            f"{image}: holds values that are no numbers (NaN or infinite); write it again from the scanner's"
        )
    x, y, z = (float(value) for value in volume.header.get_zooms()[:3])
    return (x, y, z)


def write_centre(folder: Path, items: Sequence[tuple[Split, dict[str, Any]]]) -> None:
    """Write a centre's `dataset.json` and `text.jsonl`; the volumes must already be in `images/` and `labels/`.

    Args:
        folder: the centre's folder.
        items: split and text record (`case_id`, `note`, `summary`, `plan_text`, ...) of each case.
    """
    datalist: dict[str, list[dict[str, str]]] = {key: [] for key in KEYS.values()}
    for split, record in items:
        name = record["case_id"]
        entry = {"case_id": name, "image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}
        datalist[KEYS[split]].append(entry)
    write_json(folder / "dataset.json", datalist)
    lines = [json.dumps(record, ensure_ascii=False, sort_keys=True) for _, record in items]
    write_text(folder / "text.jsonl", "\n".join(lines) + "\n")


def content_hash(root: Path, centres: Iterable[str]) -> str:
    """Hash of all files of the centres' folders, by relative path; independent of the file system's order."""
    files = sorted(path for centre in centres for path in (root / centre).rglob("*") if path.is_file())
    return hash_json({str(path.relative_to(root)): hash_file(path) for path in files})
