"""Jobs over HTTP: begun, stopped, gone on with, and as they would be typed."""

from __future__ import annotations

import shlex
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from layerlift.app.answers import body, json, routes
from layerlift.app.commands import line_of
from layerlift.app.context import context_of, in_thread, project_of
from layerlift.app.jobs import steps_of
from layerlift.app.shapes import NewJob


def job_routes() -> list[Route]:
    """The routes of jobs."""
    return routes(
        ("POST", "/api/projects/{project}/jobs", add_job),
        ("GET", "/api/projects/{project}/command", get_command),
        ("GET", "/api/jobs", get_jobs),
        ("DELETE", "/api/jobs/{job}", forget_job),
        ("POST", "/api/jobs/{job}/cancel", cancel_job),
        ("POST", "/api/jobs/{job}/resume", resume_job),
    )


async def add_job(request: Request) -> Response:
    """Put work into the queue."""
    wanted = await body(request, NewJob)
    project = await project_of(request)
    return json(await in_thread(context_of(request).jobs.add, project, wanted), 201)


async def get_command(request: Request) -> Response:
    """What one would type for a kind of work: the same commands, line by line."""
    project = await project_of(request)
    options: dict[str, Any] = dict(request.query_params)
    kind = options.pop("kind", "run")
    whole = options.pop("all", "1") != "0"

    def lines() -> str:
        steps = steps_of(project, project.saved.doc, kind, options, everything=whole)
        return "\n".join([f"cd {shlex.quote(str(project.root))}", *map(line_of, steps)])

    return json({"command": await in_thread(lines)})


async def get_jobs(request: Request) -> Response:
    """All jobs."""
    return json(context_of(request).jobs.all())


async def cancel_job(request: Request) -> Response:
    """Stop a job."""
    return json(await in_thread(context_of(request).jobs.cancel, request.path_params["job"]))


async def resume_job(request: Request) -> Response:
    """Have a job go on."""
    return json(await in_thread(context_of(request).jobs.resume, request.path_params["job"]))


async def forget_job(request: Request) -> Response:
    """Remove a job."""
    await in_thread(context_of(request).jobs.forget, request.path_params["job"])
    return json({})
