"""The one door that sites see: TLS, and behind it Flower's Fleet API and nothing else.

A SuperLink of Flower 1.42 answers on one port to sites (`/v1/fleet`, signed by each site's key) and to whoever starts
runs (`/v1/control`, without any login unless an identity provider is set up). A run carries code that the coordinator
executes, so that port must not be reachable from outside. The SuperLink listens on 127.0.0.1; this passes on `POST
/v1/fleet/...` and answers 404 to everything else.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

OPEN = "/v1/fleet/"
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-authorization", "host",
       "content-length", "content-encoding", "accept-encoding"}  # fmt: skip
"""Headers that belong to one connection, not to the message."""
LARGEST = 64 << 20
"""Bytes of a request; Flower sends large tensors in pieces of 5 MiB."""


def gate(inner: str, authority: Path) -> Starlette:
    """The door before the SuperLink at `inner` (https://127.0.0.1:port), whose certificate `authority` signed."""
    import httpx
    from starlette.applications import Starlette
    from starlette.responses import Response as Plain
    from starlette.routing import Route

    client = httpx.AsyncClient(
        base_url=inner,
        verify=ssl.create_default_context(cafile=str(authority)),
        timeout=httpx.Timeout(120),
        trust_env=False,
    )

    async def passed(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                return Plain(status_code=413)
        headers = [(key, value) for key, value in request.headers.items() if key not in HOP]
        try:
            answer = await client.post(request.url.path, content=bytes(body), headers=headers)
        except httpx.TransportError:
            return Plain(status_code=503)  # a SuperNode waits and asks again
        kept = {key: value for key, value in answer.headers.items() if key not in HOP}
        return Plain(answer.content, answer.status_code, kept)

    return Starlette(routes=[Route(OPEN + "{name:str}", passed, methods=["POST"])])


def serve(inner: str, authority: Path, host: str, port: int, certificate: Path, key: Path) -> None:
    """Serve the door until the process is told to end."""
    import uvicorn

    uvicorn.run(
        gate(inner, authority), host=host, port=port, ssl_certfile=str(certificate), ssl_keyfile=str(key),
        log_level="warning", access_log=False, server_header=False,
    )  # fmt: skip
