"""The content-addressed store: what goes in comes out, cut transfers resume, and nothing wrong is accepted."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import pytest

from rollama.cohort.make import make_cohort
from rollama.core.config import hash_json
from rollama.core.errors import CheckpointError, ConfigError, DataError
from rollama.core.files import hash_file, write_json
from rollama.core.storage import Storage, open_storage
from rollama.data.dataset import open_dataset
from rollama.data.store import Kind, Reference, is_reference, parse_reference, pull, push, read_stored, resolve
from rollama.presets import load_preset
from tests.core.s3server import Server, serving

SMALL = [f"cohort.{split}={count}" for split, count in {"train": 1, "validation": 0, "test": 0, "external": 1}.items()]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("made") / "cohort"
    make_cohort(root, load_preset("tiny", SMALL).cohort, None)
    return root


@pytest.fixture
def dataset(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "cohort")


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(5000))
    files = {"model.safetensors": hash_file(folder / "model.safetensors")}
    write_json(folder / "manifest.json", {"kind": "text-adapter", "config_hash": "k", "files": files})
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("ROLLAMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path, monkeypatch):
    if request.param == "folder":
        yield str(tmp_path / "store")
        return
    with serving(Server()) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "word")
        yield "s3://bucket/store"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_data_set_goes_in_and_comes_out(dataset, store, tmp_path):
    seen: list[tuple[int, int]] = []
    reference = push(dataset, Kind.DATASET, store, lambda *values: seen.append(values))
    total = sum(len(value) for value in contents(dataset).values())
    assert seen[-1] == (total, total)
    assert parse_reference(str(reference)) == reference and is_reference(str(reference))
    names = open_storage(store).names()
    assert f"manifests/{reference.digest}.json" in names
    assert all(name.startswith("manifests/") or name.split("/")[3][:2] == name.split("/")[2] for name in names)
    manifest = read_stored(reference)
    assert hash_json(manifest.model_dump(mode="json")) == reference.digest
    assert manifest.facts["content_hash"] == open_dataset(dataset).info.content_hash
    out = pull(reference, tmp_path / "out" / "here")
    assert contents(out) == contents(dataset)
    assert pull(reference, out) == out  # the same content again
    assert sorted(path.name for path in out.parent.iterdir()) == ["here"]


def test_pushing_again_sends_nothing_and_gives_the_same_reference(model, store, monkeypatch):
    first = push(model, Kind.MODEL, store)
    monkeypatch.setattr(Storage, "upload", lambda *_: pytest.fail("sent again"))
    assert push(model, Kind.MODEL, store) == first


def test_a_cut_push_is_invisible_and_resumes(dataset, store, monkeypatch):
    real, sent = Storage.upload, []

    def fails_later(self, source, name, advance=None):
        if len(sent) == 3:
            raise KeyboardInterrupt
        sent.append(name)
        return real(self, source, name, advance)

    monkeypatch.setattr("rollama.data.store.TRANSFERS", 1)
    monkeypatch.setattr(Storage, "upload", fails_later)
    with pytest.raises(KeyboardInterrupt):
        push(dataset, Kind.DATASET, store)
    assert open_storage(store).names("manifests") == []
    half = open_storage(store)
    half.write_bytes(sent[0], b"cut")  # as a store without atomic writes would leave it
    before, resumed = set(sent[1:]), []
    monkeypatch.setattr(Storage, "upload", lambda self, *given: (resumed.append(given[1]), real(self, *given))[1])
    reference = push(dataset, Kind.DATASET, store)
    assert sent[0] in resumed and not before & set(resumed)
    assert contents(pull(reference)) == contents(dataset)


def test_a_cut_pull_keeps_what_it_has(dataset, store, cache, monkeypatch):
    reference = push(dataset, Kind.DATASET, store)
    real, fetched = Storage.download, []

    def fails_later(self, name, target, advance=None):
        if len(fetched) == 4:
            target.write_bytes(b"half")
            raise KeyboardInterrupt
        fetched.append(name)
        return real(self, name, target, advance)

    monkeypatch.setattr("rollama.data.store.TRANSFERS", 1)
    monkeypatch.setattr(Storage, "download", fails_later)
    with pytest.raises(KeyboardInterrupt):
        pull(reference)
    assert not (cache / "store" / reference.digest).exists()
    damaged = next(path for path in cache.rglob("files/**/*") if path.is_file())
    damaged.write_bytes(b"x" * damaged.stat().st_size)  # a crash of the machine may leave such a file
    resumed: list[str] = []
    monkeypatch.setattr(Storage, "download", lambda self, *given: (resumed.append(given[0]), real(self, *given))[1])
    folder = pull(reference)
    assert contents(folder) == contents(dataset)
    assert len(resumed) == len(contents(dataset)) - 3
    assert not list(cache.rglob(".part-*"))


def test_the_cache_is_used_again_without_the_store_and_repaired(model, tmp_path, cache):
    reference = push(model, Kind.MODEL, tmp_path / "store")
    folder = pull(reference)
    (tmp_path / "store").rename(tmp_path / "away")
    assert pull(reference) == folder == cache / "store" / reference.digest
    assert resolve(str(reference)) == folder
    (tmp_path / "away").rename(tmp_path / "store")
    (folder / "model.safetensors").unlink()
    assert contents(pull(reference)) == contents(model)


def test_a_wrong_blob_is_refused_and_named(model, store, tmp_path):
    reference = push(model, Kind.MODEL, store)
    file = next(file for file in read_stored(reference).files if file.path == "model.safetensors")
    open_storage(store).write_bytes(file.blob, b"\1" * file.size)
    with pytest.raises(DataError, match=rf"{file.blob}: is not what its name says \(model.safetensors\)"):
        pull(reference, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    open_storage(store).delete(file.blob)
    with pytest.raises(DataError, match=f"{file.sha256}: no such file"):
        pull(reference, tmp_path / "out")
    push(model, Kind.MODEL, store)
    assert contents(pull(reference, tmp_path / "out")) == contents(model)


def test_a_changed_manifest_and_an_unknown_digest_are_refused(model, store, tmp_path):
    reference = push(model, Kind.MODEL, store)
    with pytest.raises(DataError, match="the store has no such content"):
        pull(Reference(reference.store, "0" * 64), tmp_path / "out")
    name = f"manifests/{reference.digest}.json"
    storage = open_storage(store)
    storage.write_text(name, (storage.read_text(name) or "").replace("model.safetensors", "model.safetensorz"))
    with pytest.raises(DataError, match="the manifest's hash is another one"):
        pull(reference, tmp_path / "out")


@pytest.mark.parametrize("path", ["../escape", "/etc/escape", "a/../../escape", "a//b", "", ".", "a\\..\\b"])
def test_a_manifest_that_leaves_the_folder_is_refused(tmp_path, path):
    storage = open_storage(tmp_path / "store")
    content = {"format": 1, "kind": "model", "facts": {}, "files": [{"path": path, "size": 1, "sha256": "a" * 64}]}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    reference = Reference(storage.uri, hash_json(content))
    storage.write_text(f"manifests/{reference.digest}.json", text)
    with pytest.raises(DataError, match="leaves the folder"):
        pull(reference, tmp_path / "out" / "folder")
    assert not (tmp_path / "out" / "escape").exists() and not (tmp_path / "escape").exists()


@pytest.mark.parametrize(
    "text",
    ["", "s3://bucket/x", "s3://bucket@sha256:12", "@sha256:" + "a" * 64, "s3://b/x@sha256:" + "A" * 64,
     "s3://b/x@sha512:" + "a" * 64, "s3://b/x@sha256:" + "a" * 65],
)  # fmt: skip
def test_wrong_references_are_refused(text):
    with pytest.raises(ConfigError, match=r"is not a reference; expected <store-uri>@sha256:"):
        parse_reference(text)


def test_a_uri_without_digest_is_no_data_set(tmp_path):
    with pytest.raises(ConfigError, match="neither a folder nor a reference"):
        resolve("s3://bucket/cohort")
    assert resolve(tmp_path) == tmp_path


def test_links_are_refused(dataset, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("secret")
    (dataset / "link").symlink_to(outside)
    with pytest.raises(DataError, match="link: a symbolic link"):
        push(dataset, Kind.DATASET, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_data_set_with_volumes_elsewhere_is_refused(dataset, tmp_path):
    listing = next(dataset.glob("*/dataset.json"))
    datalist = json.loads(listing.read_text())
    item = next(items[0] for items in datalist.values() if items)
    shutil.move(listing.parent / item["image"], tmp_path / "elsewhere.nii.gz")
    item["image"] = "../../elsewhere.nii.gz"
    listing.write_text(json.dumps(datalist))
    with pytest.raises(DataError, match="lies outside of the data set"):
        push(dataset, Kind.DATASET, tmp_path / "store")


def test_a_data_set_that_is_broken_or_changed_is_not_pushed(dataset, tmp_path):
    with pytest.raises(DataError, match=r"no such folder"):
        push(tmp_path / "none", Kind.DATASET, tmp_path / "store")
    text = next(dataset.glob("*/text.jsonl"))
    text.write_text(text.read_text().replace("{", "{ ", 1))
    with pytest.raises(DataError, match="differ from the content hash"):
        push(dataset, Kind.DATASET, tmp_path / "store")
    text.unlink()
    with pytest.raises(DataError, match="cannot read it"):
        push(dataset, Kind.DATASET, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_model_that_was_changed_is_not_pushed(model, tmp_path):
    (model / "model.safetensors").write_bytes(bytes(5001))
    with pytest.raises(CheckpointError, match=r"differs from its manifest.json \(model.safetensors\)"):
        push(model, Kind.MODEL, tmp_path / "store")
    (model / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"no manifest.json"):
        push(model, Kind.MODEL, tmp_path / "store")


def test_a_file_that_changes_while_it_is_pushed_is_not_kept(model, store, monkeypatch):
    real = Storage.upload

    def changing(self, source, name, advance=None):
        if source.name == "model.safetensors":
            source.write_bytes(b"\2" * 5000)
        return real(self, source, name, advance)

    monkeypatch.setattr(Storage, "upload", changing)
    with pytest.raises(DataError, match="changed while it was pushed"):
        push(model, Kind.MODEL, store)
    assert all(open_storage(store).size(name) != 5000 for name in open_storage(store).names())


def test_a_folder_with_something_else_is_left_alone(model, tmp_path):
    reference = push(model, Kind.MODEL, tmp_path / "store")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(DataError, match="holds something else"):
        pull(reference, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"file": b"x"}
    (tmp_path / "empty").mkdir()
    assert contents(pull(reference, tmp_path / "empty")) == contents(model)


def _pull(text: str, log: str) -> None:
    real = Storage.download

    def counted(self, name, target, advance=None):
        with Path(log).open("a") as stream:
            stream.write(name + "\n")
        return real(self, name, target, advance)

    Storage.download = counted  # type: ignore[method-assign]
    pull(parse_reference(text))


def test_pulls_at_the_same_time_work_once(dataset, tmp_path, cache):
    reference = push(dataset, Kind.DATASET, tmp_path / "store")
    context = multiprocessing.get_context("spawn")
    log = tmp_path / "log"
    processes = [context.Process(target=_pull, args=(str(reference), str(log))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert contents(cache / "store" / reference.digest) == contents(dataset)
    assert len(log.read_text().splitlines()) == len(contents(dataset))
    assert not list((cache / "store").glob(".part-*"))
