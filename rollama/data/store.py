"""Data sets and models as immutable, content-addressed folders that jobs refer to by digest.

A job that says `/data/cohort` trains on whatever lies there; one that says `<store>@sha256:<digest>` trains on exactly
one content, on every node, or not at all. A store is a folder or bucket prefix:

    blobs/sha256/ab/<hash of the file>      every file once, whoever pushed it
    manifests/<digest>.json                 kind, relative paths, sizes, hashes; the digest is the hash of this file

The manifest is written last, so a push that was cut is invisible and the next one skips the blobs that are there. A
pull checks every file's hash on arrival, keeps the checked ones over an interruption, and gives the folder its name
when it is complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from rollama.core.cache import cache_folder
from rollama.core.config import StrictModel, build, hash_json, hash_text
from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.files import hash_file, read_json, write_text
from rollama.core.storage import Storage, locate, open_storage
from rollama.data.dataset import open_dataset, open_texts

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

TRANSFERS = 4
"""Files that move at the same time."""
REFERENCE = re.compile(r"(?P<store>.+)@sha256:(?P<digest>[0-9a-f]{64})")
SHA256 = r"^[0-9a-f]{64}$"
MODEL_MANIFEST = "manifest.json"


class Kind(StrEnum):
    """What a stored folder is."""

    DATASET = "dataset"
    MODEL = "model"
    BASE = "base"


@dataclass(frozen=True)
class Reference:
    """One content in one store; its text form is `<store-uri>@sha256:<64 hex>`."""

    store: str
    digest: str

    def __str__(self) -> str:
        return f"{self.store}@sha256:{self.digest}"


class StoredFile(StrictModel):
    """One file of a stored folder; `path` is relative, with `/` between its parts."""

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=SHA256)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        parts = self.path.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\\" in self.path or "\0" in self.path:
            raise ValueError("a path that leaves the folder")
        return self

    @property
    def blob(self) -> str:
        """Name of its content in the store."""
        return f"blobs/sha256/{self.sha256[:2]}/{self.sha256}"


class StoreManifest(StrictModel):
    """What a reference points to. `facts` describes the content (a data set's content hash, a model's run)."""

    format: Literal[1] = 1
    kind: Kind
    files: tuple[StoredFile, ...] = Field(min_length=1)
    facts: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        paths = {PurePosixPath(file.path) for file in self.files}
        if len(paths) != len(self.files) or any(parent in paths for path in paths for parent in path.parents):
            raise ValueError("two files of the same path")
        return self

    def text(self) -> str:
        """Canonical JSON: the bytes that are stored and hashed."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def is_reference(text: str) -> bool:
    """Whether a text means stored content rather than a folder."""
    return "@sha256:" in text


def parse_reference(text: str) -> Reference:
    """Read `<store-uri>@sha256:<64 hex>`.

    Raises:
        ConfigError: anything else.
    """
    found = REFERENCE.fullmatch(text.strip())
    if not found:
        raise ConfigError(
            f"{text!r} is not a reference; expected <store-uri>@sha256:<64 hexadecimal digits, lower case>, "
            "as 'rollama push' prints it"
        )
    return Reference(open_storage(found["store"]).uri, found["digest"])


def resolve(text: str | Path, progress: Progress | None = None) -> Path:
    """The folder that a path or a reference means on this machine; a reference is pulled into the cache.

    Raises:
        ConfigError, DataError, ClusterError: see `parse_reference` and `pull`.
    """
    if isinstance(text, str) and is_reference(text):
        return pull(parse_reference(text), progress=progress)
    found = locate(text)
    if isinstance(found, str):
        raise ConfigError(f"{found}: neither a folder nor a reference; push the data set first ('rollama push')")
    return found


def push(folder: Path, kind: Kind, store: str | Path, progress: Progress | None = None) -> Reference:
    """Check a folder and put it into a store; what is there already is not sent again.

    Raises:
        DataError: not a valid data set, a symbolic link, a file outside, or one that changed meanwhile.
        CheckpointError: not a model, or a damaged one; not a base language model.
        ConfigError, ClusterError: the store cannot be used.
    """
    storage = open_storage(store)
    paths = _files_of(folder)
    if kind is Kind.DATASET:
        _check_self_contained(folder)
    elif kind is Kind.BASE:
        paths = _check_base(folder, paths)
    elif MODEL_MANIFEST not in paths:
        raise CheckpointError(f"{folder}: no {MODEL_MANIFEST}; give the folder of a trained model")
    with _threads() as pool:
        hashes = list(pool.map(lambda path: hash_file(folder / path), paths))
    files = tuple(
        StoredFile(path=path, size=(folder / path).stat().st_size, sha256=sha256)
        for path, sha256 in zip(paths, hashes, strict=True)
    )
    manifest = StoreManifest(kind=kind, files=files, facts=_facts(folder, kind, {f.path: f.sha256 for f in files}))
    count = _Count(manifest.size, progress)

    def send(file: StoredFile) -> None:
        if storage.size(file.blob) == file.size:
            count(file.size)
        elif storage.upload(folder / file.path, file.blob, count) != file.sha256:
            storage.delete(file.blob)
            raise DataError(f"{folder / file.path}: changed while it was pushed; push again when nothing writes there")

    _each(send, manifest.files)
    text = manifest.text()
    digest = hash_text(text)
    storage.write_text(f"manifests/{digest}.json", text)
    return Reference(storage.uri, digest)


def pull(reference: Reference, folder: Path | None = None, progress: Progress | None = None) -> Path:
    """Bring stored content to this machine and return its folder.

    Any number of processes may pull the same content into the same place: one works, the others wait for it.

    Args:
        folder: where to; must not exist, be empty, or hold this very content. Default: a folder of the cache, which is
            used again without asking the store.

    Raises:
        DataError: no such content, a blob is missing or wrong, or the folder holds something else.
        ConfigError, ClusterError: the store cannot be used.
    """
    cached = folder is None
    target = cache_folder() / "store" / reference.digest if folder is None else folder.absolute()
    part = target.with_name(f".part-{target.name[:40]}-{reference.digest[:12]}")
    with _locked(part.with_name(part.name + ".lock")):
        known = target.with_name(target.name + ".json")
        if cached and target.is_dir() and known.is_file():
            manifest = _parsed(known.read_text(encoding="utf-8"), reference, str(known))
            if _has_sizes(target, manifest):
                return target
            shutil.rmtree(target)  # somebody deleted files in the cache
        manifest = read_stored(reference)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            if target.is_dir() and not _differences(target, manifest):
                return target
            raise DataError(f"{target}: holds something else than {reference}; choose an empty folder")
        _fetch(open_storage(reference.store), manifest, part, _Count(manifest.size, progress))
        if cached:
            write_text(known, manifest.text())
        try:
            (part / "files").replace(target)  # also takes the place of an empty folder
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror})") from error
        shutil.rmtree(part, ignore_errors=True)
    return target


def read_stored(reference: Reference) -> StoreManifest:
    """The manifest behind a reference.

    Raises:
        DataError: the store has no such content, or the manifest was changed.
    """
    text = open_storage(reference.store).read_text(f"manifests/{reference.digest}.json")
    if text is None:
        raise DataError(
            f"{reference}: the store has no such content; was its push finished, and is the store's address right?"
        )
    return _parsed(text, reference, str(reference))


def _parsed(text: str, reference: Reference, source: str) -> StoreManifest:
    if hash_text(text) != reference.digest:
        raise DataError(f"{source}: the manifest's hash is another one; it was changed or damaged, push again")
    try:
        return build(StoreManifest, json.loads(text), source)
    except (ConfigError, ValueError) as error:
        raise DataError(f"{source}: not a manifest that can be used: {error}") from error


def _fetch(storage: Storage, manifest: StoreManifest, part: Path, count: _Count) -> None:
    """Fill `part/files`; a file gets its name there only after its hash was checked."""
    tree = part / "files"

    def fetch(numbered: tuple[int, StoredFile]) -> None:
        number, file = numbered
        target, arriving = tree / file.path, part / f"arriving-{number}"
        if target.is_file() and target.stat().st_size == file.size and hash_file(target) == file.sha256:
            count(file.size)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if storage.download(file.blob, arriving, count) != file.sha256:
            arriving.unlink()
            raise DataError(
                f"{storage.uri}/{file.blob}: is not what its name says ({file.path}); delete it, push again"
            )
        arriving.replace(target)

    try:
        tree.mkdir(parents=True, exist_ok=True)
        _each(fetch, enumerate(manifest.files))
    except OSError as error:
        raise DataError(f"{part.parent}: cannot write here ({error.strerror}); free space or choose another") from error


def _files_of(folder: Path) -> list[str]:
    """Relative paths of all files, sorted; links are refused, because what they point to is not in the folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(folder.rglob("*"))
    for path in found:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise DataError(f"{path}: a symbolic link or special file; put the file itself there")
    return [path.relative_to(folder).as_posix() for path in found if path.is_file()]


def _check_self_contained(folder: Path) -> None:
    root = folder.resolve()
    if open_texts(folder).info.label == "none":
        return  # texts alone: nothing is referred to
    for case in open_dataset(folder).cases:
        for path in (case.image, case.target):
            if not path.is_relative_to(root):
                raise DataError(f"case {case.case_id}: {path} lies outside of the data set {folder}; move it inside")


def _check_base(folder: Path, paths: list[str]) -> list[str]:
    """The files of a base that are loaded: configuration, safetensors, tokenizer; no pickles, no pictures."""
    kept = [path for path in paths if "/" not in path and path.endswith((".json", ".jinja", ".safetensors", ".model"))]
    lacking = [
        what
        for what, there in {
            "config.json": "config.json" in kept,
            "*.safetensors": any(path.endswith(".safetensors") for path in kept),
            "tokenizer*": any(path.startswith("tokenizer") for path in kept),
        }.items()
        if not there
    ]
    if lacking:
        raise CheckpointError(f"{folder}: no {', '.join(lacking)}; give a model saved by Transformers as safetensors")
    return kept


def _facts(folder: Path, kind: Kind, hashes: dict[str, str]) -> dict[str, Any]:
    """What the manifest says about the content, after comparing the files with what the folder claims about them."""
    if kind is Kind.DATASET:
        info = open_texts(folder).info
        inside = {path: value for path, value in hashes.items() if path.split("/")[0] in info.centres}
        if hash_json(inside) != info.content_hash:
            raise DataError(f"{folder}: its files differ from the content hash in dataset.json; it was changed")
        return info.model_dump(mode="json", include={"name", "version", "synthetic", "label", "content_hash"})
    if kind is Kind.BASE:
        return {"model_type": str(read_json(folder / "config.json").get("model_type"))}
    manifest = read_json(folder / MODEL_MANIFEST)
    listed = manifest.get("files") if isinstance(manifest, dict) else None
    found = {path: value for path, value in hashes.items() if path != MODEL_MANIFEST}
    if not isinstance(listed, dict) or listed != found:
        wrong = sorted(name for name in {*found, *(listed or ())} if found.get(name) != (listed or {}).get(name))
        raise CheckpointError(f"{folder}: differs from its {MODEL_MANIFEST} ({', '.join(wrong[:5])}); it was changed")
    return {key: manifest.get(key) for key in ("kind", "task", "config_hash", "metrics") if key in manifest}


def _differences(folder: Path, manifest: StoreManifest) -> bool:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if found != {file.path for file in manifest.files}:
        return True
    return any(hash_file(folder / file.path) != file.sha256 for file in manifest.files)


def _has_sizes(folder: Path, manifest: StoreManifest) -> bool:
    return all(
        (folder / file.path).is_file() and (folder / file.path).stat().st_size == file.size for file in manifest.files
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock file that the kernel releases however this process ends, and remove it afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(handle, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    break
            os.close(handle)  # the one before us removed the file while we waited for it
    except OSError as error:
        raise DataError(f"{path.parent}: cannot write here ({error.strerror}); choose another folder") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


class _Count:
    """Sums up bytes from several threads for one progress function."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress, self.done, self.lock = total, progress, 0, Lock()

    def __call__(self, count: int) -> None:
        with self.lock:
            self.done += count
            if self.progress:
                self.progress(self.done, self.total)


@contextlib.contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(TRANSFERS, thread_name_prefix="rollama-store")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)  # what has not begun does not begin after an error or Ctrl-C


def _each(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Do all of it, a few at a time; the first error ends it."""
    with _threads() as pool:
        for _ in pool.map(work, items):
            pass
