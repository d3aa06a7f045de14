"""What the routes share: texts from the models, and jobs from a checked request to the store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastapi import UploadFile

from rollama.chain.agreement import answer_doubts
from rollama.chain.inputs import Request as ChainRequest
from rollama.client.schemas import Findings, JobAnswer, Options, Problem
from rollama.core.errors import DataError
from rollama.core.registry import Task
from serve.audit import Audit
from serve.auth import load_centres
from serve.config import ServeConfig
from serve.drift import Drift
from serve.inputs import resolve_ct
from serve.jobs import JobRequest, JobStore, Status, new_id
from serve.problems import NoSuchJobError, describe
from serve.runner import FullError, Runner
from serve.scratch import scratch
from serve.telemetry import Meter, NoMeter
from serve.uploads import Limits, read_checked, store_ct
from serve.work import Backend, PipelineWork, to_the_end

MAX_WAIT_S = 300
CHECKS = 2
"""CTs that are unpacked and checked at once."""
THREADS = 64
"""For the store, which makes threads wait and not work; leases must never queue behind those who look at jobs."""


class Service:
    """What the routes share."""

    def __init__(
        self, config: ServeConfig, backend: Backend, store: JobStore, owner: str, audit: Audit | None = None,
        meter: Meter | None = None,
    ) -> None:  # fmt: skip
        """Look at the store: here, because Serve shows what a deployment's constructor raises.

        Raises:
            ServeError: the store cannot carry jobs.
        """
        store.probe()
        self.config, self.backend, self.store, self.audit = config, backend, store, audit
        self.meter = meter or NoMeter()
        centres = load_centres(config)
        self.drift = Drift(
            self.meter,
            lambda caller: centres.get(caller, config.centre),
            tuple(dict.fromkeys((config.centre, *centres.values()))),
        )
        self.checking = asyncio.Semaphore(CHECKS)
        self.limits = Limits(config.max_ct_bytes, config.max_ct_voxels)
        work = PipelineWork(backend, store, config.data_folder, self.limits, config.plan_decoding, self.drift)
        self.runner = Runner(
            store, work, lambda error, job: describe(error, job).model_dump(), owner,
            config.max_ongoing_requests, config.max_queued_requests, self.meter,
        )  # fmt: skip

    async def start(self) -> None:
        """Begin to look for lost jobs."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="rollama"))
        self.store.decided = lambda job, status: asyncio.run_coroutine_threadsafe(self._over(job, status), loop)
        self.runner.start()

    async def stop(self) -> None:
        """Let running jobs finish for a while, then leave them to others."""
        await self.runner.stop(self.config.drain_s)
        if self.audit is not None:
            await self.audit.close()

    async def _over(self, job: JobRequest, status: Status) -> None:
        self.meter.count("rollama_jobs", {"state": str(status.state)})
        for stage, seconds in status.result.get("timings", {}).items():
            self.meter.time("rollama_stage_seconds", seconds, {"stage": stage})
        if self.audit is not None:
            self.audit.add(
                who=job.owner, what="job", job=job.job_id, outcome=str(status.state),
                models=status.result.get("models", {}), files=status.files,
            )  # fmt: skip

    def deadline(self) -> float:
        """When a request that comes now has to be answered, in seconds since 1970."""
        return self.store.clock() + self.config.deadline_s

    async def generate(self, backend: Backend, task: Task, text: str, deadline: float) -> tuple[str, list[str]]:
        """One text from a pinned text model until a request's deadline, and warnings.

        Raises:
            DataError, BusyError, TimeoutError: see `problems`.
        """
        async with asyncio.timeout(deadline - self.store.clock()):
            answer = await backend.generate(task, text, deadline)
        name = task.name.lower()
        if not answer.text.strip():
            raise DataError(f"the {name} came out empty; check the model and the input")
        return answer.text, answer_doubts(name, answer.text, answer.finished, answer.other)

    async def submit(
        self, owner: str, text: ChainRequest, options: Options, ct_path: str, parts: Sequence[UploadFile], key: str
    ) -> str:
        """Check everything about a request, keep it as a job and start it; the job's id.

        Raises:
            DataError, ConflictError, BusyError, FullError: see `problems`.
        """
        await self.backend.hashes()
        if self.runner.room <= 0:
            raise FullError
        now, job_id = self.store.clock(), new_id()
        expires = now + self.config.keep_s
        with scratch() as folder:
            async with self.checking:  # a CT at a time is unpacked and read; many would fill the memory
                if parts:
                    blob, digest = await to_the_end(receive, parts, folder, self.limits)
                else:
                    await to_the_end(self._check_reference, ct_path)
                    blob, digest = None, ct_path
            source = str(text.source)
            content = _digest(source, text.text, options.model_dump_json(), digest)
            key = key and _digest(owner, key)
            if key and (found := await asyncio.to_thread(self.store.earlier, key, content)):
                return found
            if blob is not None:
                await to_the_end(self.store.put_ct, job_id, blob, expires)
        job = JobRequest(
            job_id, owner, source, text.given, ct_path, {"asked": options.model_dump()},
            now, now + self.config.deadline_s, expires,
        )  # fmt: skip
        kept = await asyncio.to_thread(self.store.submit, job, key, content)
        if kept == job_id:
            with contextlib.suppress(FullError):  # others were faster meanwhile: it is stored, so it will be found
                self.runner.add(job_id)
        return kept

    def _check_reference(self, ct_path: str) -> None:
        path = resolve_ct(self.config.data_folder, ct_path)
        try:
            read_checked(path, self.limits)
        except DataError as error:
            raise DataError(f"ct_path: {error}") from None

    async def look(self, owner: str, job_id: str) -> tuple[JobRequest, Status]:
        """A job of this owner.

        Raises:
            NoSuchJobError: there is none.
        """
        job = await asyncio.to_thread(self.store.request, job_id)
        if job is None or job.owner != owner:
            raise NoSuchJobError("no such job; jobs are deleted some time after they were made")
        return job, await asyncio.to_thread(self.store.status, job_id)


def receive(parts: Sequence[UploadFile], folder: Path, limits: Limits) -> tuple[Path, str]:
    """Check an upload completely; one file that holds it, and its hash.

    Raises:
        DataError: it is not one CT.
    """
    (folder / "look").mkdir()
    blob = folder / "upload"
    if len(parts) == 1:
        with blob.open("wb") as stream:
            while data := parts[0].file.read(1 << 20):
                stream.write(data)
    else:
        with zipfile.ZipFile(blob, "w", zipfile.ZIP_STORED) as archive:
            for number, part in enumerate(parts):
                with archive.open(f"{number:05d}.dcm", "w") as stream:
                    while data := part.file.read(1 << 20):
                        stream.write(data)
    with blob.open("rb") as stream:
        read_checked(store_ct([stream], folder / "look", limits), limits)
        stream.seek(0)
        return blob, hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def to_answer(request_id: str, job: JobRequest, status: Status) -> JobAnswer:
    """A job as its owner sees it."""
    return JobAnswer(
        request_id=request_id, job_id=job.job_id, state=status.state, attempt=status.attempt, stage=status.stage,
        done=status.done, total=status.total, created=job.created, expires=job.expires,
        findings=Findings.model_validate(status.result),
        files={name: f"/v1/jobs/{job.job_id}/files/{name}" for name in status.files},
        error=None if status.error is None else Problem.model_validate({"request_id": job.job_id, **status.error}),
    )  # fmt: skip


def wanted_wait(prefer: str | None) -> float:
    """Seconds that `Prefer: wait=N` (RFC 7240) asks to wait; 0 without it."""
    for part in (prefer or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and re.fullmatch(r"[0-9]{1,9}", value.strip()):
            return min(float(value), MAX_WAIT_S)
    return 0.0
