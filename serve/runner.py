"""Works off jobs in this replica, and finds those whose replica was lost.

New jobs are taken from a queue in memory; that queue is only the short way. Every `lease_s` seconds the store is asked
for jobs without an outcome whose lease has run out (or that nobody claimed in that time), so a job survives whatever
happens to the replica that accepted it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from rollama.client.schemas import State
from serve.jobs import JobRequest, JobStore, Status
from serve.scratch import sweep_scratch
from serve.telemetry import LOGGER, Meter, NoMeter, named

logger = logging.getLogger(LOGGER)
Report = Callable[[Status], None]
"""Take the job's newest status; cheap, may be called often."""
Work = Callable[[JobRequest, int, Report], Awaitable[Status]]
"""Do an attempt of a job; the status it ends with."""
Explain = Callable[[Exception, str], dict[str, Any]]
"""The problem that describes an error to the job's owner."""
WRITE_EVERY_S = 0.5
"""Progress is kept in the store at most so often."""


class FullError(Exception):
    """No room in the queue."""


class Runner:
    """Up to `slots` jobs at once, up to `queue` waiting."""

    def __init__(
        self, store: JobStore, work: Work, explain: Explain, owner: str, slots: int, queue: int,
        meter: Meter | None = None,
    ) -> None:  # fmt: skip
        self.store, self.work, self.explain, self.owner = store, work, explain, owner
        self.slots, self.queue, self.meter = slots, queue, meter or NoMeter()
        self.waiting: OrderedDict[str, None] = OrderedDict()
        self.running: dict[str, asyncio.Task[None]] = {}
        self._search: asyncio.Task[None] | None = None
        self._stopping = False
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def room(self) -> int:
        """How many more jobs are accepted."""
        return self.slots + self.queue - len(self.running) - len(self.waiting)

    def start(self) -> None:
        """Begin to look for lost jobs."""
        if self._search is None:
            self._search = asyncio.create_task(self._find_lost())

    async def stop(self, patience_s: float) -> None:
        """Take no more work, let what runs finish for a while, then leave it to other replicas."""
        self._stopping = True
        if self._search is not None:
            self._search.cancel()
        if self.running:
            await asyncio.wait(self.running.values(), timeout=patience_s)
        for task in list(self.running.values()):
            task.cancel()
        if left := [*self.running.values(), *self._endings]:
            await asyncio.wait(left, timeout=5)

    def add(self, job_id: str) -> None:
        """Work on a job as soon as there is a slot.

        Raises:
            FullError: too many are waiting.
        """
        if self.room <= 0 or self._stopping:
            raise FullError
        self.waiting[job_id] = None
        self._next()

    def cancel(self, job_id: str) -> None:
        """Stop a job at once if it runs or waits here; the store has to know already."""
        self.waiting.pop(job_id, None)
        task = self.running.get(job_id)
        if task is not None:
            task.cancel()

    def _next(self) -> None:
        while self.waiting and len(self.running) < self.slots and not self._stopping:
            job_id, _ = self.waiting.popitem(last=False)
            # In a context of its own: in that of the request that came just now, Ray takes the job's calls for the
            # request's, and cancels them when its client goes away.
            task = asyncio.create_task(self._run(job_id), context=contextvars.Context())
            self.running[job_id] = task
            task.add_done_callback(partial(self._ended, job_id))
        self.meter.level("rollama_jobs_running", len(self.running))
        self.meter.level("rollama_jobs_waiting", len(self.waiting))

    def _ended(self, job_id: str, _: asyncio.Task[None]) -> None:
        self.running.pop(job_id, None)
        self._next()

    async def _run(self, job_id: str) -> None:
        try:
            await self._attempt(job_id)
        except Exception as error:  # the store does not answer: the lease runs out, and somebody tries again
            logger.warning("left to another attempt", extra={"job": job_id, **named(error)})

    async def _attempt(self, job_id: str) -> None:
        attempt = await asyncio.to_thread(self.store.claim, job_id, self.owner)
        request = await asyncio.to_thread(self.store.request, job_id)
        if attempt is None or request is None:
            return
        latest = [Status(State.RUNNING, attempt)]
        current = asyncio.current_task()
        assert current is not None
        keeper = asyncio.create_task(self._keep(job_id, attempt, latest, current))
        try:
            outcome = await self._outcome(request, attempt, latest)
        except asyncio.CancelledError:
            keeper.cancel()
            await self._undisturbed(self._end(job_id, replace(latest[0], state=State.CANCELLED), asked=True))
            raise
        finally:
            keeper.cancel()
        await self._undisturbed(self._end(job_id, outcome))

    async def _end(self, job_id: str, outcome: Status, asked: bool = False) -> None:
        """Decide the outcome. `asked`: only if somebody asked for the stop (else lease or replica are lost)."""
        if asked and not await asyncio.to_thread(self.store.is_cancelled, job_id):
            return
        await asyncio.to_thread(self.store.finish, job_id, outcome)
        logger.info("job", extra={"job": job_id, "state": str(outcome.state), "attempt": outcome.attempt})

    async def _undisturbed(self, ending: Coroutine[Any, Any, None]) -> None:
        """Wait for a job's end; a further cancellation ends the waiting, not the ending."""
        task = asyncio.create_task(ending)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        await asyncio.shield(task)

    async def _outcome(self, request: JobRequest, attempt: int, latest: list[Status]) -> Status:
        def report(status: Status) -> None:
            latest[0] = status

        left = request.deadline - self.store.clock()
        try:
            async with asyncio.timeout(left):
                return await self.work(request, attempt, report)
        except Exception as error:
            problem = self.explain(error, request.job_id)
            logger.warning("job failed", extra={"job": request.job_id, **named(error)})
            return replace(latest[0], state=State.FAILED, error=problem)

    async def _keep(self, job_id: str, attempt: int, latest: list[Status], job: asyncio.Task[None]) -> None:
        """Renew the lease and keep progress in the store until cancelled; cancel the job when the lease is lost."""
        written: Status | None = None
        loop = asyncio.get_running_loop()
        renewed = loop.time()
        while True:
            try:
                if loop.time() - renewed > self.store.lease_s / 3:  # the lease first: progress may have to wait
                    held = await asyncio.to_thread(self.store.renew, job_id, attempt, self.owner)
                    renewed = loop.time()
                    if not held:
                        job.cancel()
                        return
                if latest[0] is not written:
                    newest = latest[0]
                    await asyncio.to_thread(self.store.update, job_id, newest)
                    written = newest
            except Exception as error:  # the store does not answer: as long as the lease holds, go on
                logger.warning("lease or progress not kept", extra={"job": job_id, **named(error)})
                if loop.time() - renewed > self.store.lease_s:
                    job.cancel()
                    return
            await asyncio.sleep(min(WRITE_EVERY_S, self.store.lease_s / 6))

    async def _find_lost(self) -> None:
        while True:
            await asyncio.sleep(self.store.lease_s)
            try:
                await asyncio.to_thread(self.store.sweep)
                await asyncio.to_thread(sweep_scratch)
                for job_id in await asyncio.to_thread(self.store.waiting):
                    if self.room > 0 and job_id not in self.running and job_id not in self.waiting:
                        await self._adopt(job_id)
            except Exception as error:
                logger.warning("looking for lost jobs failed", extra=named(error))

    async def _adopt(self, job_id: str) -> None:
        request = await asyncio.to_thread(self.store.request, job_id)
        if request is None or await asyncio.to_thread(self.store.leased, job_id):
            return
        if request.deadline < self.store.clock():
            problem = self.explain(TimeoutError(), job_id)
            await asyncio.to_thread(self.store.finish, job_id, Status(State.FAILED, error=problem))
        elif request.created + self.store.lease_s < self.store.clock():
            with contextlib.suppress(FullError):
                self.add(job_id)
