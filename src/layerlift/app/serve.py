"""The server's life: its socket, its token, what is printed, and its end."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from layerlift.app.context import Context
from layerlift.app.server import guarded
from layerlift.errors import LayerliftError, reason_of

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GRACE = 1  # seconds that open requests have at the end


def serve(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    clip: str | None = None,
    say: Callable[[str], None],
    show: bool = True,
) -> None:
    """Serve a folder until a signal comes.

    `port` 0 is any that is free; without `token` a random one is made; `clip` is opened at once, a path below the
    folder; `say` gets the address; `show` opens it in a browser.

    Raises LayerliftError where the port is taken, InputError where the clip cannot be opened.
    """
    bound = _bind(host, port)
    port = bound.getsockname()[1]
    token = token or secrets.token_urlsafe(24)
    context = Context.of(root)
    if clip is not None:
        context.opened = context.projects.create(clip).name
    loopback = host in LOOPBACK
    names = list(LOOPBACK) if loopback else [*LOOPBACK, host, socket.gethostname()]
    app = guarded(context, token, port, names, any_address=not loopback)
    config = uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=GRACE, lifespan="on"
    )
    server = _Server(config, context)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/?token={token}"
    say(address)
    if show:
        threading.Thread(target=webbrowser.open, args=(address,), name="browser", daemon=True).start()
    import av  # noqa: F401 - by one thread: it does not bear being imported by two at once

    try:
        server.run(sockets=[bound])
    except SystemExit as error:  # uvicorn's, after what it has printed
        raise LayerliftError("the server of the page could not start: see above.") from error


class _Server(uvicorn.Server):
    """Ends the streams of events as soon as a signal comes: open connections would hold it up."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """See uvicorn."""
        self._context.events.end_soon()
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn, which leaves out the signal of a terminal that was closed."""
        number = getattr(signal, "SIGHUP", None)
        before = None if number is None else signal.getsignal(number)
        elsewhere = threading.current_thread() is not threading.main_thread()
        with super().capture_signals():
            if number is None or elsewhere or before in (None, signal.SIG_IGN):
                yield
                return
            signal.signal(number, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(number, before)


def _bind(host: str, port: int) -> socket.socket:
    """A socket that listens already: whoever opens the address at once is not turned away."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        reason = reason_of(error)
        raise LayerliftError(
            f"--host {host} --port {port} cannot be used: {reason}; give another port, or another host."
        ) from error
    return bound
