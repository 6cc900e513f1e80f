"""What happens on the server, told to every page that listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec

KEPT = 500  # events that a page may be behind before it is cut off; it comes back and asks anew
ALIVE_EVERY = 15.0  # seconds between lines that only keep the connection open


class Events:
    """Hands events to listeners. `tell` may be called from any thread."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Remember the loop that listeners run in; called from within it."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """End every listener."""
        for queue in list(self._listeners):
            _put(queue, None)
        self._loop = None

    def end_soon(self) -> None:
        """`stop`, from any thread or from a signal's handler."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self.stop)

    def tell(self, kind: str, what: Any) -> None:
        """An event of a kind, and what it says, as JSON."""
        data = f"event: {kind}\ndata: {msgspec.json.encode(what).decode()}\n\n".encode()
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._hand_out, data)

    async def listen(self) -> AsyncIterator[bytes]:
        """Events as they come, in the words of server-sent events."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(KEPT)
        self._listeners.add(queue)
        try:
            yield b"retry: 1000\n: hello\n\n"
            while True:
                try:
                    data = await asyncio.wait_for(queue.get(), ALIVE_EVERY)
                except TimeoutError:
                    data = b": alive\n\n"
                if data is None:
                    return
                yield data
        finally:
            self._listeners.discard(queue)

    def _hand_out(self, data: bytes) -> None:
        for queue in list(self._listeners):
            if queue.full():
                self._listeners.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                _put(queue, None)
            else:
                _put(queue, data)


def _put(queue: asyncio.Queue[bytes | None], data: bytes | None) -> None:
    with suppress(asyncio.QueueFull):
        queue.put_nowait(data)
