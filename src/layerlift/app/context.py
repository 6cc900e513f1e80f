"""What every endpoint needs: the folder's projects, the segmenter, the jobs and the events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
from starlette.requests import Request

from layerlift.app.events import Events
from layerlift.app.jobs import Jobs
from layerlift.app.predict import Predictor
from layerlift.app.projects import OpenProject, Projects
from layerlift.app.results import Results
from layerlift.app.shapes import Doc

T = TypeVar("T")


@dataclass(slots=True)
class Context:
    """One server.

    Attributes:
        root: the one folder that may be read and written.
        events: what happens, for pages that listen.
        projects: those of the folder.
        predictor: answers clicks.
        results: what jobs have made.
        jobs: the queue.
        opened: the project that a page should show at once.
    """

    root: Path
    events: Events
    projects: Projects
    predictor: Predictor
    results: Results
    jobs: Jobs
    opened: str | None = None

    @staticmethod
    def of(root: Path, opened: str | None = None) -> Context:
        """The context of a folder."""
        events = Events()
        projects, results = Projects(root, events), Results()

        def made(project: OpenProject, stage: str, doc: Doc) -> None:
            results.note_made(project, stage, doc)
            events.tell("results", {"name": project.name, "results": results.listing(project)})

        return Context(root, events, projects, Predictor(), results, Jobs(projects, events, made), opened)

    def close(self) -> None:
        """Stop everything that runs."""
        self.events.stop()
        self.jobs.close()
        self.predictor.close()
        self.projects.close()


def context_of(request: Request) -> Context:
    """The server's context."""
    context: Context = request.app.state.context
    return context


async def in_thread(work: Callable[..., T], *given: Any) -> T:
    """Do blocking work beside the loop. It is not broken off when the client goes."""
    return await asyncio.shield(asyncio.ensure_future(anyio.to_thread.run_sync(work, *given)))


async def project_of(request: Request) -> OpenProject:
    """The project that a request names."""
    return await in_thread(context_of(request).projects.get, request.path_params["project"])
