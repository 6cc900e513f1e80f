"""Results, painted and imported masks, and saved files over HTTP."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from layerlift.app.answers import json, picture, routes
from layerlift.app.clip_routes import asked_width, in_clip
from layerlift.app.confined import clean_name, existing
from layerlift.app.context import context_of, in_thread, project_of
from layerlift.app.pictures import view_width
from layerlift.app.projects import OpenProject
from layerlift.app.seen import KINDS
from layerlift.app.uploads import MOST_MASK, receive
from layerlift.masks import open_mask

CHUNK = 1 << 20


def result_routes() -> list[Route]:
    """The routes of results."""
    return routes(
        ("GET", "/api/projects/{project}/results", get_results),
        ("GET", "/api/projects/{project}/results/{name}/{index:int}", get_picture),
        ("PUT", "/api/projects/{project}/masks/{name}", put_mask),
        ("GET", "/api/projects/{project}/masks/{name}", get_mask),
        ("GET", "/api/projects/{project}/masks/{name}/{index:int}", get_mask_picture),
        ("GET", "/api/projects/{project}/exports", get_exports),
        ("GET", "/api/projects/{project}/exports/{file}", get_export),
    )


async def get_results(request: Request) -> Response:
    """Which results there are."""
    project = await project_of(request)
    return json(await in_thread(context_of(request).results.listing, project))


async def get_picture(request: Request) -> Response:
    """A frame of a result."""
    project = await project_of(request)
    width = view_width(asked_width(request), project.opened.facts.width)
    name, index = request.path_params["name"], request.path_params["index"]
    asked = request.query_params.get("kinds")
    kinds = None if asked is None else [kind for kind in KINDS[1:] if kind in asked.split(",")]
    data = await in_thread(context_of(request).results.picture, project, name, index, width, kinds)
    return picture(data, keep="v" in request.query_params)


async def put_mask(request: Request) -> Response:
    """Take a painted frame, or a mask file; one that is no mask of this clip is refused, and not kept."""
    project = await project_of(request)
    name, folder = clean_name(request.path_params["name"]), project.folder / "masks"
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as kept:
        path = Path(kept) / name
        await receive(request.stream(), request.headers.get("content-length"), path, MOST_MASK)
        found = await in_thread(_checked, project, path)
        path.replace(folder / name)
    return json(found)


def _checked(project: OpenProject, path: Path) -> dict:
    mask = open_mask(path, project.opened.clip)
    return {"path": f"masks/{path.name}", "frames": 1 if mask.still else mask.frame_count, "notes": list(mask.notes)}


async def get_mask(request: Request) -> Response:
    """A painted or imported mask, as it came."""
    project = await project_of(request)
    path = existing(project.folder / "masks", request.path_params["name"], "mask")
    return FileResponse(path, media_type=_kind(path), headers={"cache-control": "no-store"})


async def get_mask_picture(request: Request) -> Response:
    """A frame of a mask, in white on black: of a video, which a page cannot read."""
    project = await project_of(request)
    facts = project.opened.facts
    index, width = in_clip(request.path_params["index"], facts.frames), view_width(asked_width(request), facts.width)
    name = request.path_params["name"]
    data = await in_thread(context_of(request).results.mask_picture, project, name, index, width)
    return picture(data, keep=True)


async def get_exports(request: Request) -> Response:
    """What was saved: files, and folders of pictures."""
    project = await project_of(request)
    folder = project.folder / "exports"
    names = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return json([{"file": path.name, "folder": path.is_dir(), "bytes": _size(path)} for path in names])


async def get_export(request: Request) -> Response:
    """A saved file; of a folder of pictures, a .zip of it."""
    project = await project_of(request)
    name = request.path_params["file"]
    path = existing(project.folder / "exports", name, "file")
    if path.is_dir():
        packed = await in_thread(_packed, path)
        return StreamingResponse(_chunks(packed), 200, _download(f"{path.name}.zip"), media_type="application/zip")
    return FileResponse(path, media_type="application/octet-stream", headers=_download(path.name))


def _packed(folder: Path) -> IO[bytes]:
    file = tempfile.TemporaryFile(prefix="layerlift-zip-")  # noqa: SIM115 - whoever reads it closes it
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            if path.is_file() and not path.is_symlink():
                archive.write(path, f"{folder.name}/{path.name}")
    file.seek(0)
    return file


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while part := file.read(CHUNK):
            yield part


def _download(name: str) -> dict[str, str]:
    """Headers of what a browser is to save, not to show, under a plain name."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return {"content-disposition": f'attachment; filename="{plain}"', "cache-control": "no-store"}


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file())


def _kind(path: Path) -> str:
    return "image/png" if path.suffix.lower() == ".png" else "application/octet-stream"
