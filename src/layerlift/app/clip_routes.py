"""Frames of clips over HTTP, and what is clicked on in them."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from layerlift.app.answers import body, json, picture, routes
from layerlift.app.context import context_of, in_thread, project_of
from layerlift.app.pictures import view_width
from layerlift.app.refusal import RefusalError
from layerlift.app.shapes import Predict
from layerlift.progress import Cancellation


def clip_routes() -> list[Route]:
    """The routes of frames and predictions."""
    return routes(
        ("GET", "/api/projects/{project}/frames", get_ready),
        ("GET", "/api/projects/{project}/frames/{index:int}", get_frame),
        ("POST", "/api/projects/{project}/predict", predict),
    )


async def get_frame(request: Request) -> Response:
    """A frame, as JPEG."""
    project = await project_of(request)
    facts = project.opened.facts
    index = in_clip(request.path_params["index"], facts.frames)
    width = view_width(asked_width(request), facts.width)
    cancellation = Cancellation()
    watch = asyncio.ensure_future(_left(request, cancellation))
    try:
        data = await in_thread(project.frames.jpeg, index, width, cancellation)
    finally:
        watch.cancel()
    return picture(data, keep=request.query_params.get("v") == facts.stamp)


async def _left(request: Request, cancellation: Cancellation) -> None:
    """Cancel where whoever asked does not wait any more: a user who scrubs wants the newest frame alone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    cancellation.cancel()


async def get_ready(request: Request) -> Response:
    """Which frames are ready, as spans, and at which width they are made ahead."""
    project = await project_of(request)
    return json({"width": project.frames.ahead, "ready": await in_thread(project.frames.ready)})


async def predict(request: Request) -> Response:
    """The mask of what was clicked on, as PNG."""
    asked = await body(request, Predict)
    project = await project_of(request)
    in_clip(asked.frame, project.opened.facts.frames)
    if not asked.points and asked.box is None:
        raise RefusalError(400, "nothing was clicked on: give points or a box.")
    tab = request.query_params.get("tab", "")[:64]
    answer = await in_thread(context_of(request).predictor.ask, project, asked, tab)
    return picture(answer.png, keep=False, more={"x-score": f"{answer.score:.3f}", "x-request": str(asked.request)})


def in_clip(index: int, count: int) -> int:
    """A frame's number. Raises RefusalError (404) where there is no such frame."""
    if not 0 <= index < count:
        raise RefusalError(404, f"there is no frame {index}: this clip has frames 0 to {count - 1}.")
    return index


def asked_width(request: Request) -> int:
    """The width that is asked for in pixels. Raises RefusalError (400) for what is no number."""
    said = request.query_params.get("w", "1280")
    if not (said.isascii() and said.isdigit() and 0 < len(said) < 6):
        raise RefusalError(400, f"w is {said[:20]!r}: give a width in pixels, such as 1280.")
    return int(said)
