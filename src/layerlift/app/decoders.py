"""Decoders of one clip that stay where they were; some are parked along a long group of pictures, for jumps into it.

A frame is decoded from the key frame before it, or from where a decoder stands already.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from layerlift.clip import Clip
from layerlift.clip.jump import Jumper, jumper
from layerlift.errors import InputError

MOST_THREADS = 4  # of one decoder: each holds frames in memory
KEPT = 2  # decoders that are open and wait, beside those that are parked
APART = 60  # frames: parked decoders are as far from each other, and a jump decodes no more
PARKED_BYTES = 128 * 2**20  # that parked decoders take together
HELD = 12  # frames that one holds, about


class Decoders:
    """Decoders of one clip. For any thread."""

    def __init__(self, clip: Clip) -> None:
        self._lock, self._closed = threading.Lock(), False
        self.first = jumper(clip, min(MOST_THREADS, os.cpu_count() or 1))
        self._idle: list[Jumper] = [self.first] if self.first else []
        self._stands: list[int] = []  # frames that parked decoders are at
        sample = 1 if clip.samples is None or clip.samples.bits <= 8 else 2
        self._most = int(PARKED_BYTES / (HELD * clip.width * clip.height * 1.5 * sample))

    @contextmanager
    def taken(self, index: int) -> Iterator[Jumper | None]:
        """The decoder that is nearest before a frame; None where the clip has no quick way."""
        if self.first is None:
            yield None
            return
        with self._held(index, lambda one: one.goes_on(index)) as decoder:
            yield decoder

    def empty(self, index: int) -> list[int]:
        """Frames at which a decoder should be parked, for jumps into the group of pictures of a frame, and none is."""
        with self._lock:
            first, end = (0, 0) if self.first is None or self._closed else self.first.group(index)
            count = min((end - first - 1) // APART, self._most)
            self._stands = [first + (end - first) * number // (count + 1) for number in range(1, count + 1)]
            there = {one.at for one in self._idle}
            return [stand for stand in self._stands if stand not in there]

    def park(self, stand: int, between: Callable[[], object]) -> None:
        """Have a decoder wait at a frame; see `Jumper.picture` for `between`. Once that fails, none is parked again."""
        try:
            with self._held(stand, lambda _: False) as decoder:
                decoder.picture(stand, between)
        except InputError:
            self._most = 0

    def open(self) -> None:
        """Keep decoders, from now on or again."""
        self._closed = False

    def close(self) -> None:
        """Let go of the file; whoever asks still opens it again."""
        with self._lock:
            self._closed = True
            gone, self._idle = self._idle, []
        for one in gone:
            one.close()

    @contextmanager
    def _held(self, index: int, fits: Callable[[Jumper], bool]) -> Iterator[Jumper]:
        """The nearest decoder that fits, else the longest idle of enough, else another."""
        assert self.first is not None
        with self._lock:
            free = [one for one in self._idle if one.at not in self._stands]
            near = sorted(filter(fits, [*free, *self._idle]), key=lambda one: index - one.at)
            unused = [one for one in free if one.unused]
            decoder = next(iter([*near, *unused, *free[: len(free) // KEPT]]), None)
            if decoder is not None:
                self._idle.remove(decoder)
        decoder = decoder or self.first.another()
        try:
            yield decoder
        finally:
            self._give(decoder)

    def _give(self, decoder: Jumper) -> None:
        """Have a decoder wait; those that are too many are closed, the longest idle first."""
        with self._lock:
            self._idle.append(decoder)
            kept = 0 if self._closed else KEPT + len(self._stands)
            free = [one for one in self._idle if self._closed or one.at not in self._stands]
            gone = free[: max(0, len(self._idle) - kept)]
            self._idle = [one for one in self._idle if one not in gone]
        for one in gone:
            one.close()
