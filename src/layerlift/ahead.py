"""Work in threads: beside each other, or ahead of who uses it, such as reading while frames before are worked on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()
# Threads of a pool, at most.
WORKERS = 4


def pool() -> ThreadPoolExecutor:
    """Threads for OpenCV and numpy, which leave the interpreter alone most of the time; no more than cores."""
    return ThreadPoolExecutor(min(WORKERS, os.cpu_count() or 1))


def ahead(items: Iterable[T], count: int = 2) -> Iterator[T]:
    """Yield what `items` yields, in its order; a thread makes up to `count` of them before they are asked for.

    What `items` raises is raised here, in its place. Nothing is made before the first item is asked for, and nothing
    runs on after this generator is closed.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, iterator, _END) for _ in range(count))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, iterator, _END))
                yield item  # type: ignore[misc]  # what is not the end is an item
        finally:
            for later in waiting:
                later.cancel()
