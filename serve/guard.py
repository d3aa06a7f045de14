"""Who may ask, before anything of the request is read: key, request id, headers that browsers heed, one log line.

The body is not touched here, so a stranger cannot make the server parse anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from rollama.client.schemas import Problem
from serve.audit import Audit
from serve.auth import Caller, Check, Scope, bearer
from serve.jobs import new_id
from serve.page import is_page
from serve.problems import describe, respond
from serve.telemetry import LOGGER, Meter, NoMeter, named

logger = logging.getLogger(LOGGER)
NEEDED = (
    ("/v1/summary", (Scope.TEXTS,)), ("/v1/plan", (Scope.TEXTS,)), ("/v1/pipeline", (Scope.TARGETS,)),
    ("/v1/segment", (Scope.TARGETS,)), ("/v1/jobs", (Scope.TARGETS,)), ("/v1/samples", (Scope.TEXTS, Scope.TARGETS)),
)  # fmt: skip
"""Paths that begin so need one of these scopes."""
METHODS = {"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"}
OPEN_PATHS = ("/healthz", "/readyz")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Guard:
    """ASGI middleware around the API."""

    def __init__(
        self, app: ASGIApp, check: Check, audit: Audit | None = None, meter: Meter | None = None, close: bool = False
    ) -> None:
        self.app, self.check, self.audit, self.meter = app, check, audit, meter or NoMeter()
        self.headers = {**HEADERS, "Connection": "close"} if close else HEADERS
        self.limiter = MovingWindowRateLimiter(MemoryStorage())

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, started = new_id(), time.perf_counter()
        scope.setdefault("state", {})["request_id"] = request_id
        answered: list[int] = []

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal, caller = None, None
        open_to_all = scope["path"] in OPEN_PATHS or is_page(scope["path"])
        if not open_to_all:
            value = bearer(Headers(scope=scope).get("authorization"))
            caller = await asyncio.to_thread(self.check, value)  # a provider's keys may have to be fetched
            refusal = self._refusal(caller, scope["path"], request_id)
            scope["state"]["owner"] = caller.name if caller else ""
        try:
            if refusal is not None:
                await refusal(scope, receive, send_on)
            else:
                await self._go_on(scope, receive, send_on, request_id, answered)
        finally:  # also when the client went away in the middle
            self._tell(scope, request_id, answered, time.perf_counter() - started)
            if self.audit is not None and not open_to_all:
                self.audit.add(
                    who=caller.name if caller else "", what=_what(scope), request=request_id,
                    outcome=answered[0] if answered else 0, **scope["state"].get("audit", {}),
                )  # fmt: skip
                self.meter.level("rollama_audit_pending", len(self.audit.pending))

    async def _go_on(
        self, scope: Connection, receive: Receive, send: Send, request_id: str, answered: list[int]
    ) -> None:
        try:
            await self.app(scope, receive, send)
        except Exception as error:  # further out its text would be logged, and that may be clinical
            logger.error("request failed", extra={"request": request_id, **named(error)})
            if not answered:
                await respond(describe(error, request_id))(scope, receive, send)

    def _tell(self, scope: Connection, request_id: str, answered: list[int], seconds: float) -> None:
        method, route = _what(scope).split(" ")
        status = answered[0] if answered else 0
        self.meter.count("rollama_requests", {"method": method, "route": route, "status": str(status)})
        self.meter.time("rollama_request_seconds", seconds, {"method": method, "route": route})
        told = {"request": request_id, "method": method, "route": route, "status": status, "seconds": round(seconds, 3)}
        logger.info("request", extra=told)

    def _refusal(self, caller: Caller | None, path: str, request_id: str) -> Response | None:
        """Why a caller may not go on."""
        if caller is None:
            problem = _problem(401, "send the key as 'Authorization: Bearer <key>'", request_id)
            return respond(problem, {"WWW-Authenticate": "Bearer"})
        needed = next((scopes for start, scopes in NEEDED if path.startswith(start)), ())
        if needed and not set(needed) & set(caller.scopes):
            said = f"this key may not do that; it needs the scope {' or '.join(needed)}"
            return respond(_problem(403, said, request_id))
        if self.audit is not None and not self.audit.takes_more:
            return respond(_problem(503, "the audit trail cannot be written; no request is taken", request_id))
        if caller.per_minute:
            limit = RateLimitItemPerMinute(caller.per_minute)
            if not self.limiter.hit(limit, caller.name):
                again = max(1, round(self.limiter.get_window_stats(limit, caller.name).reset_time - time.time()))
                problem = _problem(429, f"more than {caller.per_minute} requests in a minute", request_id)
                return respond(problem, {"Retry-After": str(again)})
        return None


def _what(scope: Connection) -> str:
    """Method and route: the route's pattern, never the path itself, and no method that a stranger made up."""
    method = scope["method"] if scope["method"] in METHODS else "other"
    return f"{method} {getattr(scope.get('route'), 'path', 'none')}"


def _problem(status: int, detail: str, request_id: str) -> Problem:
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, request_id=request_id)
