"""What Serve's HTTP proxy says before it knows the application: come back later, and not that there is no such path.

The proxy listens before it has been told a route, and answers 404 meanwhile. To somebody who follows a job across a
restart that reads as if the job were gone. The application takes every path, so a 404 of the proxy's own (plain text;
those of the application are problems) always means "not yet", and this middleware makes it a 503 with `Retry-After`.

On Kubernetes no request comes that early: the Service sends none to a proxy whose health check fails.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.jobs import new_id
from serve.problems import BusyError, describe, respond

CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Serve's variable: a function that its proxies call for their middlewares."""
CALLBACK = "serve.proxy:middlewares"


class NotYet:
    """ASGI middleware around Serve's proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        early = False

        async def forward(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.NOT_FOUND:
                early = Headers(raw=message["headers"]).get("content-type", "").startswith("text/plain")
            if not early:
                await send(message)

        await self.app(scope, receive, forward)
        if early:
            problem = describe(BusyError("the endpoint is starting; try again"), new_id())
            await respond(problem, {"Cache-Control": "no-store"})(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What Serve's proxies call when they start (see `CALLBACK_VARIABLE`)."""
    return [Middleware(NotYet)]
