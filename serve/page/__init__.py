"""The page at `/`: static files of this package, the same for everybody and without any data.

`niivue.js` is fetched when the wheel or image is built (`sh infra/page`); without it the page shows pictures that the
endpoint draws.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException

HERE = Path(__file__).parent
SCRIPTS = ("app.js", "api.js", "evidence.js", "plan.js", "samples.js", "viewer.js", "niivue.js")
FILES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    **dict.fromkeys(SCRIPTS, "text/javascript; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self' blob: "
    "data:; worker-src 'self' blob:; font-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
PATH = "/page/"


def is_page(path: str) -> bool:
    """Whether a path is the page's, which needs no key."""
    return path == "/" or path.startswith(PATH)


def add_page(api: FastAPI) -> None:
    """Serve the page."""

    @api.get("/", include_in_schema=False)
    async def index() -> Response:
        return _file("index.html")

    @api.get(PATH + "{name}", include_in_schema=False)
    async def asset(name: str) -> Response:
        return _file(name)


def _file(name: str) -> Response:
    if name not in FILES or not (HERE / name).is_file():
        raise HTTPException(404, "no such page")
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
    return Response((HERE / name).read_bytes(), media_type=FILES[name], headers=headers)
