"""Projects over HTTP: made, read, saved, removed."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from layerlift.app.answers import body, json, routes
from layerlift.app.confined import clean_name, free_name
from layerlift.app.context import Context, context_of, in_thread, project_of
from layerlift.app.projects import OpenProject, as_project
from layerlift.app.shapes import NewProject, Project, Save
from layerlift.app.uploads import MOST_CLIP, receive

SHOWN_AFTER = 0.7  # seconds


def project_routes() -> list[Route]:
    """The routes of projects and uploads."""
    return routes(
        ("PUT", "/api/clips/{name}", put_clip),
        ("POST", "/api/projects", make_project),
        ("GET", "/api/projects/{project}", get_project),
        ("PUT", "/api/projects/{project}", save_project),
        ("DELETE", "/api/projects/{project}", delete_project),
        ("GET", "/api/projects/{project}/facts", get_facts),
    )


async def put_clip(request: Request) -> Response:
    """Take a file."""
    root = context_of(request).root
    path = free_name(root, clean_name(request.path_params["name"]))
    await receive(request.stream(), request.headers.get("content-length"), path, MOST_CLIP)
    return json({"path": path.name})


async def make_project(request: Request) -> Response:
    """Open a clip."""
    wanted = await body(request, NewProject)
    return await _opened(request, await in_thread(context_of(request).projects.create, wanted.clip))


async def get_project(request: Request) -> Response:
    """A project."""
    return await _opened(request, await project_of(request))


async def _opened(request: Request, project: OpenProject) -> Response:
    """A project that a page shows from now on."""
    context = context_of(request)
    await in_thread(context.projects.decode_ahead, project)
    # The networks are opened when the first frame has most likely been shown: that comes first.
    asyncio.get_running_loop().call_later(SHOWN_AFTER, context.predictor.warm)
    return json(await in_thread(described, context, project))


async def save_project(request: Request) -> Response:
    """Keep what the user says."""
    save = await body(request, Save)
    project = await project_of(request)
    rev = await in_thread(project.save, save.rev, save.doc)
    tab = request.query_params.get("tab", "")[:64]
    context_of(request).events.tell("project", {"name": project.name, "rev": rev, "tab": tab})
    return json({"rev": rev})


async def delete_project(request: Request) -> Response:
    """Remove a project's folder."""
    context, name = context_of(request), request.path_params["project"]
    await in_thread(context.jobs.drop_project, name)
    await in_thread(context.projects.delete, name)
    return json({})


def described(context: Context, project: OpenProject) -> Project:
    """A project with its results."""
    return as_project(project, context.results.listing(project))


async def get_facts(request: Request) -> Response:
    """What the clip is."""
    return json((await project_of(request)).opened.facts)
