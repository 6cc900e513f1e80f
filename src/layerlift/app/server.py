"""What is served: the page, its files, and the API."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from layerlift import __version__
from layerlift.app.answers import json, routes
from layerlift.app.clip_routes import clip_routes
from layerlift.app.context import Context, context_of, in_thread
from layerlift.app.guard import Guard
from layerlift.app.job_routes import job_routes
from layerlift.app.listing import clips_in
from layerlift.app.machine import device, models, segmenters
from layerlift.app.openapi import document
from layerlift.app.presets import FORMATS
from layerlift.app.project_routes import project_routes
from layerlift.app.refusal import RefusalError
from layerlift.app.result_routes import result_routes
from layerlift.app.settings import option_groups

PAGE = Path(__file__).with_name("page")
# Endings of the page's files, whatever this machine's tables say of them.
KINDS = {
    ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png",
    ".json": "application/json", ".woff2": "font/woff2", ".ico": "image/x-icon",
}  # fmt: skip
THREADS = 12  # for blocking work
LONGEST_NAME = 100  # characters of a name among the page's files


def make_app(context: Context) -> Starlette:
    """The application, unguarded."""

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        context.events.start()
        Thread(target=_look_around, name="look around", daemon=True).start()
        yield
        context.close()

    every = [
        *routes(
            ("GET", "/", index),
            ("GET", "/static/{file:path}", static),
            ("GET", "/api", api),
            ("GET", "/api/state", state),
            ("GET", "/api/events", events),
        ),
        *project_routes(),
        *clip_routes(),
        *result_routes(),
        *job_routes(),
    ]
    app = Starlette(routes=every, lifespan=life, exception_handlers={HTTPException: refused, 500: failed})
    app.state.context = context
    return app


def _look_around() -> None:
    """Import what the first questions need, while the browser loads the page."""
    models()
    segmenters()


def guarded(context: Context, token: str, port: int, names: list[str], *, any_address: bool = False) -> ASGIApp:
    """The application behind its guard; see `Guard`."""
    return Guard(make_app(context), token, port, names, any_address=any_address)


async def index(request: Request) -> Response:
    """The page."""
    return _file("index.html")


async def static(request: Request) -> Response:
    """A file of the page."""
    return _file(request.path_params["file"])


async def state(request: Request) -> Response:
    """What the page begins with."""
    context = context_of(request)

    def look() -> dict:
        return {
            "version": __version__,
            "folder": os.fsencode(context.root.name or context.root).decode("utf-8", "replace"),
            "projects": context.projects.recent(),
            "clips": clips_in(context.root),
            "opened": context.opened,
            "models": models(),
            "segmenters": segmenters(),
            "options": option_groups(),
            "presets": [one.preset for one in FORMATS],
            "device": device(),
        }

    return json(await in_thread(look))


async def api(request: Request) -> Response:
    """The API's description."""
    return json(document())


async def events(request: Request) -> Response:
    """Server-sent events."""
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(context_of(request).events.listen(), 200, headers, media_type="text/event-stream")


async def refused(request: Request, error: Exception) -> Response:
    """An address that does not exist, or a method that it does not know."""
    assert isinstance(error, HTTPException)
    return json({"error": f"{error.detail.lower()}: /api lists what there is."}, error.status_code)


async def failed(request: Request, error: Exception) -> Response:
    """A bug; the server's terminal shows its traceback."""
    said = f"this is a bug in layerlift ({type(error).__name__}): the terminal shows more."
    return json({"error": said}, 500)


def _is_plain(part: str) -> bool:
    return bool(part) and len(part) < LONGEST_NAME and part.isprintable() and part[0] != "." and "\\" not in part


def _file(name: str) -> Response:
    path = PAGE / name
    kind = KINDS.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    parts = name.split("/")
    if any(not _is_plain(part) for part in parts):
        raise RefusalError(404, "there is no such file.")
    if not path.is_file():
        raise RefusalError(404, "there is no such file.")
    return Response(path.read_bytes(), media_type=kind, headers={"cache-control": "no-cache"})
