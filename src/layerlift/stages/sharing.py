"""One part of a model on several devices, for windows that do not depend on each other's result."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Generic, TypeVar, cast

from layerlift.engine.device.memory import use_device
from layerlift.engine.device.plan import Plan

Part = TypeVar("Part")
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Shared(Generic[Part]):
    """A part of a model that is open on several devices."""

    devices: Sequence[str]
    parts: Sequence[Part]

    def each(self, begin: Callable[[Part, Item], Iterator[Made]], items: Iterable[Item]) -> Iterator[Iterable[Made]]:
        """See `each`. As many items as there are devices, and one more, are in memory, with what was made of them."""
        with ExitStack() as stack:
            pools = [
                stack.enter_context(ThreadPoolExecutor(1, initializer=use_device, initargs=(device,)))
                for device in self.devices
            ]
            waiting: deque[tuple[Future[list[Made]], Event]] = deque()
            stopped, before = Event(), Event()

            def stop() -> None:
                stopped.set()
                for future, begun in waiting:
                    future.cancel()
                    begun.set()  # the one after it may run already, and waits for one that never will

            stack.callback(stop)
            before.set()
            for number, item in enumerate(items):
                place, begun = number % len(pools), Event()
                future = pools[place].submit(_made, begin, self.parts[place], item, before, begun, stopped)
                waiting.append((future, begun))
                before = begun
                if len(waiting) > len(pools):
                    yield waiting.popleft()[0].result()
            while waiting:
                yield waiting.popleft()[0].result()


def each(
    part: Part | Shared[Part], begin: Callable[[Part, Item], Iterator[Made]], items: Iterable[Item]
) -> Iterator[Iterable[Made]]:
    """For every item, in order, what `begin` makes an iterator of, with a part of a model.

    It is called for one item after the other, in order, whatever device has it: so noise may be drawn in it. What its
    iterators do is done beside each other where there are several devices.
    """
    if isinstance(part, Shared):
        yield from part.each(begin, items)
        return
    for item in items:
        yield begin(part, item)


def on_all(
    opened: Callable[[Plan], AbstractContextManager[Part]], devices: Sequence[str]
) -> Callable[[Plan], AbstractContextManager[Part | Shared[Part]]]:
    """A part as a pass opens it, on all of these devices; fewer than two are the plan's own."""
    if len(devices) < 2:
        return cast("Callable[[Plan], AbstractContextManager[Part | Shared[Part]]]", opened)

    @contextmanager
    def several(plan: Plan) -> Iterator[Part | Shared[Part]]:
        with ExitStack() as stack:
            yield Shared(devices, [stack.enter_context(opened(plan.on(device))) for device in devices])

    return several


def _made(
    begin: Callable[[Part, Item], Iterator[Made]], part: Part, item: Item, before: Event, begun: Event, stopped: Event
) -> list[Made]:
    before.wait()
    if stopped.is_set():
        return []
    try:
        making = begin(part, item)
    finally:
        begun.set()  # after an error, too: whoever waits for it is not to wait forever
    return list(making)
