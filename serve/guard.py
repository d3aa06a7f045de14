"""Who may ask, before anything of the request is read: key, request id, headers that browsers heed, one log line.

The body is not touched here, so a stranger cannot make the server parse anything.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rollama.client.schemas import Problem
from serve.auth import is_authorised
from serve.jobs import new_id
from serve.problems import describe, respond

logger = logging.getLogger("rollama.serve")
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

    def __init__(self, app: ASGIApp, key_digest: bytes) -> None:
        self.app, self.key_digest = app, key_digest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        allowed = scope["path"] in OPEN_PATHS
        if not allowed and is_authorised(Headers(scope=scope).get("authorization"), self.key_digest):
            scope["state"]["owner"] = "key"
            allowed = True
        if allowed:
            try:
                await self.app(scope, receive, send_on)
            except Exception as error:  # further out its text would be logged, and that may be clinical
                logger.error("request %s: %s", request_id, type(error).__name__)
                if not answered:
                    await respond(describe(error, request_id))(scope, receive, send_on)
        else:
            await _unauthorised(request_id)(scope, receive, send_on)
        seconds = time.perf_counter() - started
        # The route's pattern, never the path itself.
        route = getattr(scope.get("route"), "path", "none")
        status = answered[0] if answered else 0
        logger.info("request %s: %s %s %d in %.2f s", request_id, scope["method"], route, status, seconds)


def _unauthorised(request_id: str) -> Any:
    detail = "send the key as 'Authorization: Bearer <key>'"
    problem = Problem(title="Unauthorised", status=401, detail=detail, request_id=request_id)
    return respond(problem, {"WWW-Authenticate": "Bearer"})
