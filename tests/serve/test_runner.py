"""Working off jobs: what a job has of the request that started it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from rollama.client.schemas import State
from rollama.core.storage import open_storage
from serve.jobs import JobRequest, JobStore, Status, new_id
from serve.runner import Report, Runner

REQUEST = ContextVar("REQUEST", default="none")


def test_a_job_runs_in_no_requests_context(tmp_path: Path) -> None:
    store = JobStore(open_storage(str(tmp_path)), 30.0)
    jobs = [JobRequest(new_id(), "a", "note", "text", "ct", {}, 0, 2e9, 3e9) for _ in range(2)]
    for job in jobs:
        store.submit(job)
    seen: list[str] = []

    async def work(job: JobRequest, attempt: int, report: Report) -> Status:
        seen.append(REQUEST.get())
        await asyncio.sleep(0.01)
        return Status(State.DONE, attempt)

    def explain(error: Exception, job: str) -> dict[str, Any]:
        raise AssertionError(error)

    async def requests() -> None:
        runner = Runner(store, work, explain, "replica", 1, 5)
        REQUEST.set("a request")
        for job in jobs:  # the second is started by the end of the first
            runner.add(job.job_id)
        while store.waiting():
            await asyncio.sleep(0.01)

    asyncio.run(requests())
    assert seen == ["none", "none"]
    assert [store.status(job.job_id).state for job in jobs] == [State.DONE, State.DONE]
