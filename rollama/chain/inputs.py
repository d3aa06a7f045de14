"""What a user hands in for one patient: a note, a summary or a plan, and a CT; refused early and by name.

Each text can start the chain: a note (S, P and SEG run), a summary (P and SEG) or a plan (SEG only). A plan handed in
must parse, because nobody else checks it; a plan written by P may fail to, and is then kept and flagged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from rollama import RESEARCH_ONLY
from rollama.core.config import hash_json, read_yaml
from rollama.core.errors import ConfigError, DataError
from rollama.core.files import hash_file
from rollama.data.plan import Plan, parse_plan, plan_from_dict, render_plan
from rollama.data.volumes import Volume, read_ct

MAX_BYTES = 1 << 20
"""A clinical note is a few kB; a megabyte is a wrong file. The model's context is checked by the model itself."""
LABEL = f"# {RESEARCH_ONLY}"
"""First line of every text file we write; skipped when such a file is handed in again."""


class PlanSource(StrEnum):
    """Where the plan comes from: both text models, P alone, or the user."""

    NOTE = "note"
    SUMMARY = "summary"
    GIVEN = "given"


@dataclass(frozen=True)
class Request:
    """One patient's text: `source` says what `text` is, `plan` is set when it is a plan, `name` is for messages.

    `given` is a note or summary before our label and white space around it were taken off; places in it count a line
    break as one character, however it was written.
    """

    source: PlanSource
    text: str = field(repr=False)
    plan: Plan | None = None
    name: str = field(default="text", compare=False)
    given: str = field(default="", repr=False, compare=False)

    @property
    def skipped(self) -> int:
        """Characters of `given` before `text`."""
        return max(0, self.given.find(self.text))


def make_request(
    note: str | None = None, summary: str | None = None, plan_text: str | None = None, name: str | None = None
) -> Request:
    """Check that exactly one text is given and that it is usable.

    Args:
        note, summary, plan_text: exactly one; a plan in its text form.
        name: for messages (a file name); by default the kind of text.

    Raises:
        DataError: none or several are given, the text is empty, too long or holds NUL; a plan does not parse.
    """
    pairs = ((PlanSource.NOTE, note), (PlanSource.SUMMARY, summary), (PlanSource.GIVEN, plan_text))
    given = [(source, text) for source, text in pairs if text is not None]
    if len(given) != 1:
        raise DataError(f"give exactly one of a note, a summary or a plan; found {len(given)}")
    source, text = given[0]
    label = name or {PlanSource.GIVEN: "plan"}.get(source, str(source))
    given_text = text.replace("\r\n", "\n")  # as a form sends it, and as Windows writes it
    text = given_text.removeprefix(LABEL).strip()
    if not text:
        raise DataError(f"{label}: is empty")
    if len(text.encode("utf-8", errors="replace")) > MAX_BYTES:
        raise DataError(f"{label}: longer than {MAX_BYTES} bytes; is it the right file?")
    if "\x00" in text:
        raise DataError(f"{label}: holds NUL characters; is it a text file?")
    if source is not PlanSource.GIVEN:
        return Request(source, text, None, label, given_text)
    plan = parse_plan(text, label)
    text = render_plan(plan)
    return Request(source, text, plan, label, text)


def read_text_input(path: Path) -> str:
    """Read a note or summary.

    Raises:
        DataError: missing, longer than a megabyte, or not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: longer than {MAX_BYTES} bytes; is it the right file?")
        return path.read_bytes().decode("utf-8-sig")  # Windows editors begin UTF-8 with a mark
    except OSError as error:
        raise DataError(f"{path}: cannot read it ({error.strerror})") from error
    except UnicodeDecodeError as error:
        position = error.start
    # Raised outside the handler: the decoding error carries the note's bytes and must not be chained.
    raise DataError(f"{path}: not UTF-8 text (byte {position}); save it as UTF-8")


def read_request(note: Path | None = None, summary: Path | None = None, plan: Path | None = None) -> Request:
    """Read exactly one text file as a request; a plan may be `.yaml` (its fields) or text (its sentences).

    Raises:
        DataError: see `make_request` and `read_text_input`; for YAML also unknown or wrong fields.
    """
    paths = [path for path in (note, summary, plan) if path is not None]
    if len(paths) != 1:
        raise DataError(f"give exactly one of --note, --summary or --plan; found {len(paths)}")
    name = str(paths[0])
    if plan is not None and plan.suffix.lower() in (".yaml", ".yml"):
        return make_request(plan_text=render_plan(read_plan_yaml(plan)), name=name)
    text = read_text_input(paths[0])
    if note is not None:
        return make_request(note=text, name=name)
    if summary is not None:
        return make_request(summary=text, name=name)
    return make_request(plan_text=text, name=name)


def read_plan_yaml(path: Path) -> Plan:
    """Read a plan's fields from YAML, the form of `plan.yaml`.

    Raises:
        DataError: unreadable, or a field is missing, unknown or not accepted.
    """
    try:
        values = read_yaml(path)
    except ConfigError as error:
        raise DataError(str(error)) from error
    return plan_from_dict(values, str(path))


def read_input_ct(path: Path) -> Volume:
    """Read a CT from a file (NIfTI, NRRD, MHA) or a folder of DICOM slices.

    Raises:
        DataError: see `rollama.data.volumes.read_ct` and `rollama.dicom.series.read_series`.
    """
    if path.is_dir():
        from rollama.dicom.series import read_series

        return read_series(path)
    return read_ct(path)


def hash_ct(path: Path) -> str:
    """SHA-256 of a CT: of the file, or of all files of a folder (their names, which may name a patient, left out)."""
    if path.is_dir():
        return hash_json(sorted(hash_file(item) for item in path.iterdir() if item.is_file()))
    return hash_file(path)
