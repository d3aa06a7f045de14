"""Local folders and S3 (a small server in this process) behind one interface, and what is said when they fail."""

from __future__ import annotations

import errno
import hashlib
import logging
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rollama.core import storage as storage_module
from rollama.core.errors import ClusterError, ConfigError, DataError
from rollama.core.storage import Storage, join, locate, open_storage
from tests.core.s3server import Server, serving


@pytest.fixture
def s3(monkeypatch):
    with serving(Server()) as server:
        connect(monkeypatch, server.server_port)
        yield server


def connect(monkeypatch, port: int) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "visible-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.delenv("AWS_REGION", raising=False)


@pytest.fixture(params=["folder", "file-uri", "s3"])
def place(request, tmp_path) -> Storage:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return open_storage("s3://bucket/some/prefix")
    folder = tmp_path / "a b"
    return open_storage(folder if request.param == "folder" else folder.as_uri())


def test_files_come_back_as_they_were_written(place, tmp_path):
    assert place.read_bytes("x/y.gz") is None and place.size("x/y.gz") is None and place.names() == []
    place.write_text("x/y.gz", "é")  # the suffix must not make pyarrow compress it
    place.write_bytes("empty", b"")
    assert place.read_text("x/y.gz") == "é" and place.size("x/y.gz") == 2 and place.size("empty") == 0
    place.write_text("x/y.gz", "new")
    assert place.read_bytes("x/y.gz") == b"new"
    assert place.names() == ["empty", "x/y.gz"] and place.names("x") == ["x/y.gz"]
    assert place.child("x").read_text("y.gz") == "new"
    place.delete("x/y.gz")
    place.delete("x/y.gz")
    assert not place.exists("x/y.gz") and place.exists("empty")


def test_of_several_creators_exactly_one_is_told_so(place):
    assert place.create("x/claim", b"first") and not place.create("x/claim", b"second")
    assert place.read_bytes("x/claim") == b"first" and place.names() == ["x/claim"]
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: place.create("x/race", str(number).encode()), range(16)))
    assert sum(won) == 1
    assert place.read_bytes("x/race") == str(won.index(True)).encode()
    assert place.names() == ["x/claim", "x/race"]


def test_a_bucket_that_refuses_creates_nothing(s3):
    s3.refuse = True
    with pytest.raises(ClusterError, match="cannot create s3://bucket/p/claim"):
        open_storage("s3://bucket/p").create("claim", b"")


def test_transfers_tell_the_hash_of_what_went_through(place, tmp_path):
    source, back, moved = tmp_path / "source", tmp_path / "back", []
    source.write_bytes(bytes(range(256)) * 4000)
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    assert place.upload(source, "big", moved.append) == expected
    assert place.download("big", back, moved.append) == expected
    assert back.read_bytes() == source.read_bytes() and sum(moved) == 2 * 1024000
    with pytest.raises(DataError, match=r"none: no such file"):
        place.download("none", back)


def test_a_storage_and_its_file_system_go_to_other_processes_without_credentials(s3):
    place = open_storage("s3://bucket/p")
    for value in (place, place.filesystem):
        text = pickle.dumps(value)
        assert b"secret" not in text and b"visible-id" not in text and len(text) < 300
    copy = pickle.loads(pickle.dumps(place.filesystem))
    with copy.open_output_stream(f"{place.path}/z") as stream:
        stream.write(b"1")
    assert s3.objects["p/z"] == b"1"
    assert pickle.loads(pickle.dumps(place)) == place


def test_a_cut_upload_leaves_nothing(place, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.write_bytes(b"x" * 100)

    def cut(read, write, moved):
        write(read(10))
        raise KeyboardInterrupt

    monkeypatch.setattr(storage_module, "_copy", cut)
    with pytest.raises(KeyboardInterrupt):
        place.upload(source, "blob")
    assert place.names() == []


def test_refused_credentials_and_a_missing_bucket_are_named_without_credentials(s3):
    with pytest.raises(DataError, match=r"cannot write s3://elsewhere/p/x: there is no such bucket; create it"):
        open_storage("s3://elsewhere/p").write_text("x", "x")
    s3.refuse = True
    for action in (lambda place: place.read_text("x"), lambda place: place.write_text("x", "x")):
        with pytest.raises(ClusterError, match=r"s3://bucket/p/x: .* refused the credentials") as caught:
            action(open_storage("s3://bucket/p"))
        assert "secret" not in str(caught.value) and "visible-id" not in str(caught.value)


def test_a_server_that_is_away_for_a_while_is_waited_for(monkeypatch, caplog):
    server = Server()
    port = server.server_port
    server.server_close()
    connect(monkeypatch, port)
    monkeypatch.setattr(storage_module, "QUICK", 1)
    started: list[Server] = []
    ready, stop = threading.Event(), threading.Event()

    def come_back() -> None:
        with serving(Server(port)) as again:
            started.append(again)
            ready.set()
            stop.wait(60)

    timer = threading.Timer(1.5, come_back)
    timer.start()
    with caplog.at_level(logging.WARNING):
        open_storage("s3://bucket/p").write_text("x", "late")
    assert ready.is_set() and started[0].objects == {"p/x": b"late"}
    assert "does not answer; trying again" in caplog.text
    stop.set()
    timer.join()


def test_a_server_that_stays_away_is_given_up(monkeypatch):
    server = Server()
    server.server_close()
    connect(monkeypatch, server.server_port)
    monkeypatch.setattr(storage_module, "QUICK", 1)
    monkeypatch.setattr(storage_module, "PATIENT", 2)
    with pytest.raises(ClusterError, match=r"cannot read s3://bucket/p/x: http://127\.0\.0\.1:\d+ does not answer"):
        open_storage("s3://bucket/p").read_text("x")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://id:word@bucket/p", "credentials and options do not belong"),
        ("s3://bucket/p?endpoint_override=x", "credentials and options do not belong"),
        ("s3:///p", "not a place for files"),
        ("gs://bucket/p", "not a place for files"),
        ("file://host/p", "not a place for files"),
    ],
)
def test_uris_that_are_refused(uri, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_storage(uri)
    assert "word" not in str(caught.value)


def test_places_are_spelled_one_way(tmp_path):
    assert locate("s3://bucket/a/") == "s3://bucket/a" == join("s3://bucket", "a")
    assert locate("runs/x") == Path("runs/x")
    assert locate("file:///a%20b") == Path("/a b")
    assert open_storage(f"{tmp_path}/x/").uri == str(tmp_path / "x")
    assert open_storage("s3://bucket").path == "bucket"


@pytest.mark.parametrize("name", ["../x", "a/../x", "/x", "a//b", ""])
def test_names_stay_inside(tmp_path, name):
    with pytest.raises(ConfigError, match="not a name inside the storage"):
        open_storage(tmp_path / "s").write_text(name, "x")


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x").write_text("x")
    monkeypatch.setattr(storage_module, "_copy", full)
    with pytest.raises(DataError, match=r"No space left on device\); free space"):
        open_storage(tmp_path).download("x", tmp_path / "y")


@pytest.mark.parametrize("verb", ["push", "pull", "train"])
def test_help_does_not_wait_for_pyarrow(verb):
    code = (
        f"import sys\nfrom rollama.cli.main import main\ntry:\n    main(['{verb}', '--help'])\n"
        "finally:\n    print('LOADED', [m for m in ('pyarrow', 'torch', 'numpy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("LOADED []"), done.stderr
