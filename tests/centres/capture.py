"""A proxy that ends TLS between a site and the coordinator and keeps every request, for a test of what leaves."""

from __future__ import annotations

import itertools
import os
import ssl
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TLS, FOLDER, NUMBERS = Path(os.environ["TLS"]), Path(os.environ["FOLDER"]), itertools.count()
client = httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(TLS / "ca.pem")), timeout=60)
HOP = {"connection", "host", "content-length", "transfer-encoding", "content-encoding", "accept-encoding"}


async def passed(request: Request) -> Response:
    """Keep the request's body, pass it on."""
    body = await request.body()
    (FOLDER / f"{next(NUMBERS):05d}-{request.url.path.rpartition('/')[2]}").write_bytes(body)
    headers = {key: value for key, value in request.headers.items() if key not in HOP}
    answer = await client.post(f"https://localhost:{os.environ['TO']}{request.url.path}", content=body, headers=headers)
    kept = {key: value for key, value in answer.headers.items() if key not in HOP}
    return Response(answer.content, answer.status_code, kept)


if __name__ == "__main__":
    (FOLDER / "ready").touch()
    uvicorn.run(
        Starlette(routes=[Route("/{path:path}", passed, methods=["POST"])]), host="127.0.0.1",
        port=int(os.environ["PORT"]),
        ssl_certfile=str(TLS / "cert.pem"), ssl_keyfile=str(TLS / "cert.key"), log_level="warning",
    )  # fmt: skip
