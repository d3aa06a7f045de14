"""Ask the endpoint from Python, without knowing its paths, headers or waiting rules.

    endpoint = Endpoint("https://rollama.hospital.example", key)
    job = endpoint.pipeline(Path("ct.nii.gz"), note=note)
    for answer in job.follow():
        print(answer.stage, answer.done, answer.total)
    job.save(Path("result"))

Every submission carries an idempotency key of its own, so one that is repeated because the network failed is still one
job. A server that is busy or asked too often is asked again when it says that it is worth it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from rollama.client.schemas import (
    JobAnswer,
    PlanAnswer,
    Problem,
    Sample,
    SamplesAnswer,
    ServedModels,
    SummaryAnswer,
)
from rollama.core.errors import DataError, ServeError
from rollama.core.files import new_file

Reply = TypeVar("Reply", bound=BaseModel)
ATTEMPTS = 4
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 5.0
TIMEOUT_S = 600.0


class EndpointError(ServeError):
    """The endpoint refused or could not be reached; `problem` is what it said, if it said something."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class Endpoint:
    """One endpoint and a key. Usable from several threads."""

    def __init__(
        self,
        url: str,
        key: str,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Connect to `url` (`https://host`); `transport` and `pause` are for tests."""
        headers = {"Authorization": f"Bearer {key}"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport)
        self.pause = pause

    def close(self) -> None:
        """Give up the connections."""
        self.client.close()

    def models(self) -> ServedModels:
        """Which models answer, and which are to.

        Raises:
            EndpointError: refused or not reached.
        """
        return self._read(ServedModels, self.send("GET", "/v1/models"))

    def summary(self, note: str) -> SummaryAnswer:
        """S on a clinical note.

        Raises:
            EndpointError: refused or not reached.
        """
        return self._read(SummaryAnswer, self.send("POST", "/v1/summary", json={"note": note}))

    def plan(self, note: str | None = None, summary: str | None = None) -> PlanAnswer:
        """S and P on a note, or P on a summary; give one of them.

        Raises:
            EndpointError: refused or not reached.
        """
        given = {name: text for name, text in (("note", note), ("summary", summary)) if text is not None}
        return self._read(PlanAnswer, self.send("POST", "/v1/plan", json=given))

    def pipeline(
        self,
        ct: Path | str,
        note: str | None = None,
        summary: str | None = None,
        plan: str | Mapping[str, Any] | None = None,
        probability: bool = False,
    ) -> Job:
        """Start the chain for one patient.

        Args:
            ct: a file, or a folder with one DICOM series, to be sent; as text: a path below the server's data folder.
            note, summary, plan: exactly one; a plan as sentences or fields.
            probability: also ask for the probability map.

        Raises:
            EndpointError: refused or not reached.
            DataError: the CT is not there.
        """
        texts = {
            name: text for name, text in (("note", note), ("summary", summary), ("plan", plan)) if text is not None
        }
        header = {"Idempotency-Key": uuid.uuid4().hex}
        if isinstance(ct, str):
            body = {**texts, "ct_path": ct, "options": {"probability": probability}}
            answer = self.send("POST", "/v1/pipeline", json=body, headers=header)
        else:
            form = {name: text if isinstance(text, str) else json.dumps(text) for name, text in texts.items()}
            form["probability"] = str(probability).lower()
            answer = self.send("POST", "/v1/pipeline/upload", data=form, headers=header, parts=_slices(ct))
        return Job(self, self._read(JobAnswer, answer).job_id)

    def samples(self) -> list[Sample]:
        """The synthetic patients that the endpoint offers to try it with.

        Raises:
            EndpointError: refused or not reached.
        """
        return self._read(SamplesAnswer, self.send("GET", "/v1/samples")).samples

    def save_sample(self, sample: Sample, path: Path) -> Path:
        """Write a sample's CT to `path` (`.nii.gz`), to be handed to `pipeline`; its note is `sample.note`.

        Raises:
            EndpointError: refused or not reached.
            DataError: the file cannot be written.
        """
        content = self.send("GET", sample.ct).content
        with new_file(path) as temporary:
            temporary.write_bytes(content)
        return path

    def job(self, job_id: str) -> Job:
        """A job that was started before, perhaps elsewhere."""
        return Job(self, job_id)

    def send(self, method: str, path: str, parts: list[Path] | None = None, **options: Any) -> httpx.Response:
        """One request, again when the server is busy or was not reached.

        Args:
            method, path: of the request.
            parts: files of the form field `ct`.
            options: of httpx.

        Raises:
            EndpointError: refused or not reached.
        """
        wait = FIRST_PAUSE_S
        for left in range(ATTEMPTS - 1, -1, -1):
            try:
                with ExitStack() as stack:
                    files = [("ct", (item.name, stack.enter_context(item.open("rb")))) for item in parts or ()]
                    answer = self.client.request(method, path, files=files or None, **options)
            except httpx.TransportError as error:
                problem, message = None, f"{self.client.base_url}: not reached ({type(error).__name__})"
            else:
                if answer.is_success:
                    return answer
                problem = _problem(answer)
                message = f"{self.client.base_url}: {answer.status_code}: {problem.detail if problem else 'no reason'}"
                if answer.status_code not in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
                    raise EndpointError(message, problem)
                said = answer.headers.get("Retry-After", "")
                wait = max(wait, float(said) if said.isascii() and said.isdecimal() else 0.0)
            if left:
                self.pause(wait)
                wait *= 2
        raise EndpointError(message, problem)

    @staticmethod
    def _read(kind: type[Reply], answer: httpx.Response) -> Reply:
        try:
            return kind.model_validate_json(answer.content)
        except ValidationError as error:  # its text repeats the answer
            fields = sorted({str(item["loc"][0]) for item in error.errors() if item["loc"]})
        raise EndpointError(f"the server's answer is not the expected one ({', '.join(fields)}); versions may differ")


class Job:
    """A job at the endpoint."""

    def __init__(self, endpoint: Endpoint, job_id: str) -> None:
        self.endpoint, self.job_id = endpoint, job_id

    def look(self) -> JobAnswer:
        """How far it is.

        Raises:
            EndpointError: there is no such job, or the server is not reached.
        """
        return self.endpoint._read(JobAnswer, self.endpoint.send("GET", f"/v1/jobs/{self.job_id}"))

    def follow(self, every_s: float = 0.5) -> Iterator[JobAnswer]:
        """Its answer now, and each time it has changed, until it is over; asked less often the longer nothing changes.

        Raises:
            EndpointError: see `look`.
        """
        last, pause = None, every_s
        while True:
            answer = self.look()
            shown = answer.model_copy(update={"request_id": ""})
            if shown != last:
                last, pause = shown, every_s
                yield answer
            if answer.state.final:
                return
            self.endpoint.pause(pause)
            pause = min(1.3 * pause, LONGEST_PAUSE_S)

    def result(self) -> JobAnswer:
        """Wait until it is over.

        Raises:
            EndpointError: it failed or was cancelled, or see `look`.
        """
        answer = self.look()
        for answer in self.follow():  # noqa: B007  # the last one counts
            pass
        if answer.error is not None:
            raise EndpointError(f"job {self.job_id} failed: {answer.error.detail}", answer.error)
        if answer.state != "done":
            raise EndpointError(f"job {self.job_id} was {answer.state}")
        return answer

    def cancel(self) -> JobAnswer:
        """Ask it to stop.

        Raises:
            EndpointError: see `look`.
        """
        return self.endpoint._read(JobAnswer, self.endpoint.send("DELETE", f"/v1/jobs/{self.job_id}"))

    def save(self, folder: Path) -> list[Path]:
        """Wait for the result and write its files into `folder`.

        Raises:
            EndpointError: see `result`.
            DataError: the folder cannot be written.
        """
        written = []
        for name, place in sorted(self.result().files.items()):
            content = self.endpoint.send("GET", place).content
            path = folder / Path(name).name
            with new_file(path) as temporary:
                temporary.write_bytes(content)
            written.append(path)
        return written


def _slices(ct: Path) -> list[Path]:
    """The files to send."""
    found = sorted(item for item in ct.iterdir() if item.is_file()) if ct.is_dir() else [ct]
    if not found or not all(item.is_file() for item in found):
        raise DataError(f"{ct}: no such CT; give a file or a folder of DICOM slices")
    return found


def _problem(answer: httpx.Response) -> Problem | None:
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:  # not from the endpoint: a proxy's page
        return None
