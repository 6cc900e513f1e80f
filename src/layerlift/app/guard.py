"""Who may ask: the token, the host and the origin of every request, and the headers of every answer.

A page of another site that is open in the same browser can send requests here, and a name of its own can be made to
lead here (DNS rebinding): so the name that was asked for counts, not only where the connection comes from.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qs

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSP = (
    "default-src 'self'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the first address holds the token
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
READING = ("GET", "HEAD")
LONGEST_PATH = 4000  # characters of an address; a number in it must be one that Python reads
OPEN_THE_ADDRESS = "open the address that `layerlift app` printed: it holds the token."


class Guard:
    """Lets requests through to `app` that may be made. An ASGI application.

    `names` are the hosts by which the server may be asked for, without port; addresses of this machine always may where
    it listens to others. `port` is the one it listens on.
    """

    def __init__(self, app: ASGIApp, token: str, port: int, names: Iterable[str], *, any_address: bool = False) -> None:
        self._app, self._token, self._port = app, token, port
        self._names, self._any_address = {name.lower() for name in names}, any_address

    @property
    def cookie(self) -> str:
        """The cookie's name: browsers do not keep those of two ports apart."""
        return f"layerlift-{self._port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no web sockets
            return
        if len(scope["path"]) > LONGEST_PATH:
            await _answer(send, 414, "this address is too long: /api lists what there is.")
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope["method"], headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["path"] == "/" and "token" in asked and scope["method"] in READING:
            await self._let_in(send, asked["token"][0])
            return
        if not self._is_known(headers):
            await _answer(send, 401, f"this request has no valid token: {OPEN_THE_ADDRESS}")
            return
        await self._app(scope, receive, _with_headers(send))

    def _refused(self, method: str, headers: dict[str, str]) -> tuple[int, str] | None:
        if not self._is_ours(headers.get("host", "")):
            return 403, "this server answers only to its own address: open the one that `layerlift app` printed."
        origin = headers.get("origin")
        if origin is not None:
            scheme, between, name = origin.partition("://")
            if scheme.lower() != "http" or not between or not self._is_ours(name):
                return 403, "this request comes from another page: use the one that `layerlift app` opened."
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "this request comes from another page: use the one that `layerlift app` opened."
        if method not in READING and origin is None and not headers.get("authorization"):
            return 403, "a request that changes something needs an Origin, or `Authorization: Bearer TOKEN`."
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a host and port, as a browser says them, are this server's."""
        name, colon, port = host.rpartition(":")
        if not colon or port.endswith("]"):
            name, port = host, "80"
        if port != str(self._port) or "@" in name or name.startswith("[") != name.endswith("]"):
            return False
        bare = name.lower().removeprefix("[").removesuffix("]")
        if bare in self._names:
            return True
        if not self._any_address:
            return False
        try:
            ip_address(bare)
        except ValueError:
            return False
        return True

    def _is_known(self, headers: dict[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._matches(given.strip())
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and self._matches(morsel.value)

    def _matches(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    async def _let_in(self, send: Send, given: str) -> None:
        """Swap the token in the address for a cookie, and take it out of the address."""
        if not self._matches(given):
            await _answer(send, 401, f"this token is not valid: {OPEN_THE_ADDRESS}")
            return
        cookie = f"{self.cookie}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        await _answer(send, 303, "", {"location": "/", "set-cookie": cookie})


async def _answer(send: Send, status: int, said: str, more: dict[str, str] | None = None) -> None:
    body = msgspec.json.encode({"error": said}) if said else b""
    headers = {"content-type": "application/json", "cache-control": "no-store", **(more or {})}
    start = {"type": "http.response.start", "status": status, "headers": _raw(headers)}
    wrapped = _with_headers(send)
    await wrapped(start)
    await wrapped({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *_raw(HEADERS)]}
        await send(message)

    return sending


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
