"""Files in a local folder or in an S3 bucket, behind the same few methods.

A run on a cluster has no folder that all its pods share; it has a bucket. Code that keeps runs, data and models
therefore reads and writes through a `Storage`, opened from a path, a `file://` or an `s3://bucket/prefix` URI; the
transport is pyarrow's, which Ray Train uses as well. The S3 endpoint comes from AWS_ENDPOINT_URL (http allowed),
credentials and region from the usual AWS_* variables. They are read in the process that connects: they never enter
a URI, a message, a pickle or a job's metadata.

What is written appears whole or not at all: locally by a rename, on S3 because an object is only there once its
upload is complete. A server that does not answer is tried again for one to two minutes, long enough for a restart.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from rollama.core.conditional import create_object, s3_environment
from rollama.core.errors import ClusterError, ConfigError, DataError, RollamaError
from rollama.core.files import new_file

if TYPE_CHECKING:
    from typing import BinaryIO

Location = Path | str
"""A folder as a path, or an `s3://` URI as text."""
Advance = Callable[[int], None]
"""Called with the number of bytes just moved (negative when a transfer starts again)."""
Result = TypeVar("Result")

QUICK, PATIENT = 3, 16
"""Attempts of the S3 client. It waits a random part of 1, 2, 4, 8, 16, 20, 20, ... s: about 2 s and about 115 s."""
CHUNK = 8 << 20
REFUSED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID", "403")
UNREACHABLE = (
    "NETWORK_CONNECTION", "SERVICE_UNAVAILABLE", "SLOW_DOWN", "INTERNAL_FAILURE", "REQUEST_TIMEOUT", "500", "502", "503"
)  # fmt: skip

log = logging.getLogger(__name__)


def locate(place: str | Path) -> Location:
    """A path for a local place (as given; `file://` becomes its path), the URI without a trailing slash for S3.

    Raises:
        ConfigError: the scheme is another one, the bucket is missing, or the URI carries credentials or options.
    """
    if isinstance(place, Path) or "://" not in place:
        return Path(place)
    parts = urlsplit(place)
    if parts.scheme == "file" and not parts.netloc:
        return Path(unquote(parts.path))
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{parts.scheme}://...: credentials and options do not belong into a storage URI; set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL and AWS_REGION instead and give s3://bucket/prefix"
        )
    if parts.scheme != "s3" or not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,62}", parts.netloc):
        raise ConfigError(f"{place}: not a place for files; give a folder, file:///folder or s3://bucket/prefix")
    return f"s3://{parts.netloc}{parts.path}".rstrip("/")


def join(place: Location, *names: str) -> Location:
    """A place below another."""
    return place.joinpath(*names) if isinstance(place, Path) else "/".join((place, *names))


def open_storage(place: str | Path) -> Storage:
    """Describe a folder or bucket prefix; nothing is contacted and nothing need exist yet.

    Raises:
        ConfigError: see `locate`.
    """
    found = locate(place)
    if isinstance(found, Path):
        found = found.expanduser().resolve()
        return Storage(str(found), str(found), found)
    return Storage(found, found.removeprefix("s3://"), None)


@dataclass(frozen=True)
class Storage:
    """One folder or bucket prefix. Names are relative to it, with `/` between their parts. Picklable.

    Every method raises ClusterError (server does not answer, credentials refused) or DataError (no such bucket, disk
    full, no permission), naming the place and what to do.

    Attributes:
        uri: absolute path or `s3://bucket/prefix`.
        path: the same as pyarrow's `filesystem` and Ray Train's `storage_path` spell it.
        local: the folder, or None on S3.
    """

    uri: str
    path: str
    local: Path | None

    @property
    def filesystem(self) -> Any:
        """The pyarrow file system; it pickles without credentials and is patient with a server that is down."""
        return _local() if self.local is not None else s3_filesystem(PATIENT)

    def child(self, name: str) -> Storage:
        """The storage below this one."""
        return open_storage(join(self.local or self.uri, *_parts(name)))

    def read_bytes(self, name: str) -> bytes | None:
        """The whole file, or None when there is none."""

        def read(filesystem: Any) -> bytes:
            with filesystem.open_input_stream(self._full(name), compression=None) as stream:
                return bytes(stream.read())

        try:
            return self._try(name, "read", read)
        except FileNotFoundError:
            return None

    def read_text(self, name: str) -> str | None:
        """The whole file as UTF-8, or None when there is none."""
        data = self.read_bytes(name)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{self.uri}/{name}: not UTF-8 text (byte {error.start})") from None

    def write_bytes(self, name: str, data: bytes) -> None:
        """Create or replace a file."""

        def write(filesystem: Any) -> None:
            with self._writing(filesystem, name) as stream:
                stream.write(data)

        self._try(name, "write", write)

    def create(self, name: str, data: bytes) -> bool:
        """Create a file unless there is one; whether this call did. Of several callers exactly one is told so."""
        if self.local is None:
            bucket, _, key = self._full(name).partition("/")
            return create_object(bucket, key, data)
        path = Path(self._full(name))

        def link(_: Any) -> bool:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(temporary, path)  # unlike a rename it fails when the name is taken
            except FileExistsError:
                return False
            finally:
                Path(temporary).unlink()
            return True

        return self._try(name, "write", link)

    def write_text(self, name: str, text: str) -> None:
        """Create or replace a file as UTF-8."""
        self.write_bytes(name, text.encode())

    def size(self, name: str) -> int | None:
        """Bytes of a file, or None when there is none."""
        info = self._try(name, "look at", lambda filesystem: filesystem.get_file_info(self._full(name)))
        return int(info.size) if info.is_file else None

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self.size(name) is not None

    def names(self, prefix: str = "") -> list[str]:
        """Names of all files below `prefix`, sorted; empty when there is no such folder."""
        place = self._full(prefix) if prefix else self.path
        selector = _pyarrow().FileSelector(place, recursive=True, allow_not_found=True)
        try:
            found = self._try(prefix, "list", lambda filesystem: filesystem.get_file_info(selector))
        except (
            FileNotFoundError
        ):  # the folder was made between pyarrow's failed look and its question whether it is there
            found = self._try(prefix, "list", lambda filesystem: filesystem.get_file_info(selector))
        names = (item.path.removeprefix(self.path).lstrip("/") for item in found if item.is_file)
        return sorted(name for name in names if not name.rpartition("/")[2].startswith(".part-"))

    def delete(self, name: str) -> None:
        """Remove a file; it need not exist."""
        with suppress(FileNotFoundError):
            self._try(name, "delete", lambda filesystem: filesystem.delete_file(self._full(name)))

    def upload(self, source: Path, name: str, advance: Advance | None = None) -> str:
        """Copy a local file here; return the SHA-256 (hex) of the bytes that were sent."""

        def send(filesystem: Any) -> str:
            with source.open("rb") as stream, self._writing(filesystem, name) as target:
                return _copy(stream.read, target.write, moved)

        moved = _Moved(advance)
        try:
            return self._try(name, f"write {source} to", send)
        except FileNotFoundError:
            raise DataError(f"{source}: no such file any more; leave the folder alone while it is copied") from None

    def download(self, name: str, target: Path, advance: Advance | None = None) -> str:
        """Copy a file to the local path `target`; return the SHA-256 (hex) of the bytes that arrived.

        Raises:
            DataError: besides the reasons of every method, when there is no such file.
        """

        def fetch(filesystem: Any) -> str:
            with filesystem.open_input_stream(self._full(name), compression=None) as stream, target.open("wb") as file:
                return _copy(stream.read, file.write, moved)

        moved = _Moved(advance)
        try:
            return self._try(name, "read", fetch)
        except FileNotFoundError:
            raise DataError(f"{self.uri}/{name}: no such file; was it deleted from the storage?") from None

    def _full(self, name: str) -> str:
        return "/".join((self.path, *_parts(name)))

    @contextmanager
    def _writing(self, filesystem: Any, name: str) -> Iterator[BinaryIO]:
        if self.local is not None:
            with new_file(Path(self._full(name))) as temporary, temporary.open("wb") as file:
                yield file
            return
        stream = filesystem.open_output_stream(self._full(name), compression=None)
        try:
            yield stream
            stream.close()
        except BaseException:
            # pyarrow has no way to abandon an upload: closing completes it, so the cut object is taken away again.
            with suppress(OSError):
                stream.close()
                filesystem.delete_file(self._full(name))
            raise

    def _try(self, name: str, verb: str, action: Callable[[Any], Result]) -> Result:
        """Run `action(filesystem)`, again and patiently when the server does not answer."""
        place = f"{self.uri}/{name}".rstrip("/")
        try:
            if self.local is not None:
                return action(_local())
            try:
                return action(s3_filesystem(QUICK))
            except OSError as error:
                if _cause(error) not in UNREACHABLE:
                    raise
                log.warning("%s: %s does not answer; trying again for up to two minutes", place, _endpoint())
                return action(s3_filesystem(PATIENT))
        except FileNotFoundError:
            raise  # each method knows what a missing file means
        except OSError as error:
            raise self._explained(error, verb, place) from error

    def _explained(self, error: OSError, verb: str, place: str) -> RollamaError:
        cause = _cause(error)
        if cause in UNREACHABLE:
            return ClusterError(
                f"cannot {verb} {place}: {_endpoint()} does not answer ({cause}); check that the S3 server runs and "
                "that AWS_ENDPOINT_URL names it, then run the same again"
            )
        if cause in REFUSED:
            return ClusterError(
                f"cannot {verb} {place}: {_endpoint()} refused the credentials ({cause}); set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY of an account that may use this bucket"
            )
        if cause == "NO_SUCH_BUCKET":
            return DataError(f"cannot {verb} {place}: there is no such bucket; create it or correct the URI")
        if self.local is None and cause:
            return ClusterError(f"cannot {verb} {place}: {_endpoint()} answered {cause}")
        reason = error.strerror or (os.strerror(error.errno) if error.errno else type(error).__name__)
        return DataError(f"cannot {verb} {place} ({reason}); free space, check permissions or choose another place")


@lru_cache(maxsize=1)
def _local() -> Any:
    return _pyarrow().LocalFileSystem()


def _pyarrow() -> Any:
    try:
        import pyarrow.fs  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError("the package pyarrow is missing; install rollama with its extra 'train'") from error
    return pyarrow.fs


def s3_filesystem(attempts: int) -> Any:
    """The S3 client of this process for the endpoint and region of its environment.

    pyarrow's constructor reads credentials from the environment by itself, but not AWS_ENDPOINT_URL. Its own pickle
    loses the retries, and would carry credentials given to it; ours is rebuilt from the other process's environment.
    """
    return _connect(attempts, *s3_environment())


@lru_cache(maxsize=8)
def _connect(attempts: int, endpoint: str | None, region: str | None) -> Any:
    arrow = _pyarrow()

    class Rebuilt(arrow.S3FileSystem):  # type: ignore[misc, name-defined, unused-ignore]
        def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
            return s3_filesystem, (attempts,)

    return Rebuilt(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=10,
        allow_delayed_open=True,  # a small file is one PUT instead of three requests
        retry_strategy=arrow.AwsStandardS3RetryStrategy(max_attempts=attempts),
    )


def _endpoint() -> str:
    address = s3_environment()[0] or ""
    return urlsplit(address)._replace(netloc=urlsplit(address).netloc.rpartition("@")[2]).geturl() or "Amazon S3"


def _cause(error: OSError) -> str:
    """The name that the AWS SDK gave to what went wrong, such as NO_SUCH_BUCKET, or an HTTP status; '' for others."""
    found = re.search(r"AWS Error (?:UNKNOWN \(HTTP status (\d+)\)|([A-Z_]+))", str(error))
    return (found[1] or found[2]) if found else ""


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"{name!r}: not a name inside the storage; '..', '.' and empty parts are not accepted")
    return parts


class _Moved:
    """Counts what a transfer moved, so that one that starts again takes it back from the progress."""

    def __init__(self, advance: Advance | None) -> None:
        self.advance, self.total = advance or (lambda _: None), 0

    def start(self) -> None:
        if self.total:
            self.advance(-self.total)
        self.total = 0

    def __call__(self, count: int) -> None:
        self.total += count
        self.advance(count)


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], Any], moved: _Moved) -> str:
    moved.start()
    digest = hashlib.sha256()
    while data := read(CHUNK):
        digest.update(data)
        write(data)
        moved(len(data))
    return digest.hexdigest()
