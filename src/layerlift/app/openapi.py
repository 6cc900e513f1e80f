"""The API's description, an OpenAPI 3.1 document, made from the shapes that requests are checked against."""

from __future__ import annotations

from typing import Any

import msgspec

from layerlift import __version__
from layerlift.app import shapes

_REF = "#/components/schemas/{name}"
# Method, address, what it does, body, answer: a shape, a kind of file, or None for an empty object.
_WAYS: list[tuple[str, str, str, Any, Any]] = [
    ("get", "/api", "This document", None, "application/json"),
    ("get", "/api/state", "Projects, clips, models, settings and presets", None, "application/json"),
    ("get", "/api/events", "Server-sent events: job, project, results, cache, note", None, "text/event-stream"),
    ("put", "/api/clips/{name}", "Send a clip into the folder", "application/octet-stream", "application/json"),
    ("post", "/api/projects", "Open a clip's project; it is made where there is none", shapes.NewProject,
     shapes.Project),
    ("get", "/api/projects/{project}", "A project", None, shapes.Project),
    ("put", "/api/projects/{project}", "Save what the user says; 409 where another page was faster", shapes.Save,
     "application/json"),
    ("delete", "/api/projects/{project}", "Remove a project's folder, never its clip", None, None),
    ("get", "/api/projects/{project}/facts", "What the clip is", None, shapes.Facts),
    ("get", "/api/projects/{project}/frames", "Which frames are ready", None, "application/json"),
    ("get", "/api/projects/{project}/frames/{index}", "A frame, at most w pixels wide", None, "image/jpeg"),
    ("post", "/api/projects/{project}/predict", "The mask of what is clicked on; X-Score says how good it is",
     shapes.Predict, "image/png"),
    ("get", "/api/projects/{project}/results", "Which results there are", None, "application/json"),
    ("get", "/api/projects/{project}/results/{name}/{index}", "A frame of a result", None, "image/*"),
    ("put", "/api/projects/{project}/masks/{name}", "Send a painted frame, or a mask file", "application/octet-stream",
     "application/json"),
    ("get", "/api/projects/{project}/masks/{name}", "A mask, as it came", None, "application/octet-stream"),
    ("get", "/api/projects/{project}/masks/{name}/{index}", "A frame of a mask", None, "image/png"),
    ("post", "/api/projects/{project}/jobs", "Put work into the queue", shapes.NewJob, shapes.Job),
    ("get", "/api/projects/{project}/command", "What one would type for it", None, "application/json"),
    ("get", "/api/projects/{project}/exports", "What was saved", None, "application/json"),
    ("get", "/api/projects/{project}/exports/{file}", "A saved file; of a folder a .zip", None,
     "application/octet-stream"),
    ("get", "/api/jobs", "All jobs", None, list[shapes.Job]),
    ("delete", "/api/jobs/{job}", "Remove a job that does not run", None, None),
    ("post", "/api/jobs/{job}/cancel", "Stop a job", None, shapes.Job),
    ("post", "/api/jobs/{job}/resume", "Have a job go on", None, shapes.Job),
]  # fmt: skip
_QUERY = {
    "/api/projects/{project}/frames/{index}": ("w", "v"),
    "/api/projects/{project}/results/{name}/{index}": ("w", "v", "kinds"),
    "/api/projects/{project}/masks/{name}/{index}": ("w",),
    "/api/projects/{project}/predict": ("tab",),
    "/api/projects/{project}": ("tab",),
    "/api/projects/{project}/command": ("kind", "preset", "of", "onto"),
}


def document() -> dict[str, Any]:
    """The document."""
    kinds = [kind for *_, body, answer in _WAYS for kind in (body, answer) if kind is not None]
    shaped = list(dict.fromkeys(kind for kind in kinds if not isinstance(kind, str)))
    schemas, components = msgspec.json.schema_components(shaped, ref_template=_REF)
    known = dict(zip(shaped, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for method, path, said, body, answer in _WAYS:
        way: dict[str, Any] = {"summary": said, "parameters": _parameters(path, method), "responses": {}}
        if body is not None:
            way["requestBody"] = {"required": True, "content": _content(body, known)}
        way["responses"]["200"] = {"description": said, "content": _content(answer, known)}
        way["responses"]["4XX"] = {"description": "`{error}`: a sentence", "content": _content(_ERROR, known)}
        paths.setdefault(path, {})[method] = way
    return {
        "openapi": "3.1.0",
        "info": {"title": "layerlift app", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


_ERROR = "application/json"


def ways() -> set[tuple[str, str]]:
    """(method, address) of everything that is described."""
    return {(method, path) for method, path, *_ in _WAYS}


def _content(kind: Any, known: dict[Any, Any]) -> dict[str, Any]:
    if kind is None:
        return {"application/json": {"schema": {"type": "object"}}}
    if isinstance(kind, str):
        return {kind: {"schema": {} if kind != "application/json" else {"type": "object"}}}
    return {"application/json": {"schema": known[kind]}}


def _parameters(path: str, method: str) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer" if name == "index" else "string"}}
        for name in names
    ]
    asked = () if path == "/api/projects/{project}" and method != "put" else _QUERY.get(path, ())
    return [*found, *({"name": name, "in": "query", "schema": {"type": "string"}} for name in asked)]
