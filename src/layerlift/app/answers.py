"""How answers are made: JSON, pictures, files and refusals; and how bodies are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from layerlift.app.projects import ConflictError
from layerlift.app.refusal import RefusalError, status_of
from layerlift.errors import LayerliftError, reason_of
from layerlift.small_files import as_record

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

MOST_BODY = 8 * 2**20  # bytes of JSON
FOREVER = "private, max-age=31536000, immutable"


def routes(*ways: tuple[str, str, Endpoint]) -> list[Route]:
    """Routes of (method, address, endpoint), whose errors are told."""
    return [Route(path, told(endpoint), methods=[method]) for method, path, endpoint in ways]


def json(what: Any, status: int = 200) -> Response:
    """An answer in JSON, which nobody keeps."""
    return Response(
        msgspec.json.encode(what), status, {"cache-control": "no-store"}, media_type="application/json; charset=utf-8"
    )


def picture(data: bytes, *, keep: bool, more: dict[str, str] | None = None) -> Response:
    """A picture, by what it begins with; `keep`: its address always leads to the same one."""
    kind = "image/png" if data[:4] == b"\x89PNG" else "image/webp" if data[:4] == b"RIFF" else "image/jpeg"
    return Response(data, 200, {"cache-control": FOREVER if keep else "no-store", **(more or {})}, media_type=kind)


async def body(request: Request, kind: type[T]) -> T:
    """A request's body, checked. Raises RefusalError (400, 413)."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BODY:
            raise RefusalError(413, f"this request has more than {MOST_BODY >> 20} MiB of JSON: send less.")
    try:
        return as_record(data, kind)
    except ValueError as error:
        raise RefusalError(400, f"this request cannot be read: {error}; /api says what it should hold.") from error


def told(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are answers: a status and a sentence."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ConflictError as error:
            return json({"error": str(error), "rev": error.rev, "doc": error.doc}, 409)
        except LayerliftError as error:
            return json({"error": str(error)}, status_of(error))
        except ClientDisconnect:  # in the middle of what it sent: nobody waits for an answer
            return Response(status_code=400)
        except OSError as error:
            return json({"error": f"{reason_of(error)}: look at the folder and its disk."}, 500)

    guarded.__name__ = endpoint.__name__
    return guarded
