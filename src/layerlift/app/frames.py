"""A clip's frames by their numbers, as JPEG: made on request, and ahead of it, into a bounded folder on the disk.

A file knows frames in order. One thread goes through the clip from where the user looks, so that what is asked for next
is there, and parks decoders for jumps; it waits while anything else is asked for, and rests while the page is busy and
has enough.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np

from layerlift.app.opening import Opened
from layerlift.app.pictures import WIDTHS, jpeg, pixels_of, scaled
from layerlift.errors import LayerliftError
from layerlift.progress import Cancellation

KEPT_BYTES = 2 * 2**30  # of one clip's frames on the disk
LEFT_BYTES = 2**30  # that stay free on the disk
TOLD_EVERY = 12  # frames, between two events of what is ready
LEAST_AHEAD = 640  # pixels of width: smaller frames are for looking at many, and none of them is made ahead
COMING = 12  # frames: what is asked for within so many of those that are being decoded waits for them
PATIENCE = 2.0  # seconds that it waits
NEAR = 24  # frames that belong to what is looked at
ENOUGH = 2 * NEAR  # frames after what was asked for last: more of them can wait until the page rests
REST = 0.3  # seconds without any question, after which the page rests
BACK = 8  # frames before one that is stepped back to: they come next, and cost a seek together, not each
_NAME = re.compile(r"[0-9]{1,9}\.jpg")  # of a frame
_STAMP = re.compile(r"[0-9a-f]{16}")  # see `opening.stamp_of`


class FrameStore:
    """Frames of one clip. May be asked from any thread.

    `ahead` is the width of the frames that are made ahead: the one that was asked for last. `told` gets (first, end) of
    frames that have become ready.
    """

    def __init__(self, opened: Opened, folder: Path, told: Callable[[int, int], None] = lambda *_: None) -> None:
        self.opened, self.told = opened, told
        self.ahead = min(opened.clip.width, 1280)
        self._folder = folder / opened.facts.stamp
        _drop_others(folder, opened.facts.stamp)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._count = opened.facts.frames
        self._bytes = sum(file.stat().st_size for file in self._folder.glob("*/*.jpg"))
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._look = self._last = 0  # what was asked for last, and what was last decoded for it alone
        self._decoding = -1  # the frame that the thread is at
        self._busy = 0
        self._quiet = 0.0  # when the page rests
        self._waiting: list[int] = []  # frames that wait to be decoded because they are asked for
        self._taken = False  # one of them is being decoded
        self._closed = self._full = self._going = self._wanted = False

    def start(self) -> None:
        """Begin to make frames ahead, also where the store was closed."""
        with self._changed:
            self._closed = False
            self.opened.decoders.open()
        self._go_on()

    def _go_on(self) -> None:
        """Have the thread look for something to do, unless the store is closed."""
        with self._changed:
            if self._closed or self._going:
                return
            self._going, self._full, self._wanted = True, False, True
            self._thread = threading.Thread(target=self._go_ahead, name="frames", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop, and wait until nothing is written any more; what is on the disk stays."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(PATIENCE)
        self.opened.decoders.close()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While the block runs, nothing is made ahead: something else is asked for."""
        with self._changed:
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._quiet = time.monotonic() + REST  # the page has something to draw now
                self._changed.notify_all()

    def ready(self, width: int | None = None) -> list[tuple[int, int]]:
        """Spans (first, end) of frames that are on the disk at a width."""
        folder = self._folder / str(width or self.ahead)
        files = folder.glob("*.jpg") if folder.is_dir() else ()
        names = {int(file.stem) for file in files if _NAME.fullmatch(file.name)}
        spans: list[tuple[int, int]] = []
        for index in sorted(names):
            if spans and spans[-1][1] == index:
                spans[-1] = spans[-1][0], index + 1
            else:
                spans.append((index, index + 1))
        return spans

    def jpeg(self, index: int, width: int, cancellation: Cancellation | None = None) -> bytes:
        """Frame `index` at a width. Raises InputError where the clip cannot be decoded there, and CancelledError."""
        path = self._path(index, width)
        self._look, self._quiet = index, time.monotonic() + REST
        if self._full:
            self._go_on()
        with suppress(OSError):
            return path.read_bytes()
        with self._changed:
            if width >= min(LEAST_AHEAD, self.opened.clip.width):
                self.ahead = width  # the page's view has another size now
            self._changed.notify_all()
            coming = width == self.ahead and 0 <= self._decoding <= index < self._decoding + COMING and not self._busy
            if coming:
                self._changed.wait_for(lambda: path.exists() or not 0 <= self._decoding <= index, PATIENCE)
        with suppress(OSError):
            return path.read_bytes()
        data = self._of_larger(path, index, width)
        if data is None:
            with self.aside():
                data = self._in_turn(path, index, width, cancellation or Cancellation())
        if self._wanted:
            self._go_on()  # it may have ended, for want of anything to do
        return data

    def _of_larger(self, path: Path, index: int, width: int) -> bytes | None:
        """A frame made of a larger picture of it, where there is one."""
        widths = sorted({*WIDTHS, self.opened.clip.width})
        larger = next((other for other in widths if other > width and self._path(index, other).exists()), None)
        if larger is not None:
            with suppress(OSError, ValueError):  # it may be gone by now
                return self._keep(path, pixels_of(self._path(index, larger).read_bytes()), width)
        return None

    def _in_turn(self, path: Path, index: int, width: int, cancellation: Cancellation) -> bytes:
        """A frame that is decoded because it is asked for: one at a time, the first in the clip first."""
        with self._changed:
            self._waiting.append(index)
            self._changed.wait_for(lambda: not self._taken and index == min(self._waiting))
            self._waiting.remove(index)
            self._taken = True
        try:
            with suppress(OSError):
                return path.read_bytes()
            back = BACK if self._last - ENOUGH < index < self._last else 1
            near = range(max(0, index - back + 1), index)
            first = next((at for at in near if not self._path(at, width).exists()), index)
            data, self._last = b"", index
            for number, frame in enumerate(self.opened.frames(first, index + 1, cancellation.check), first):
                there = self._path(number, width)
                if number == index or not there.exists():
                    data = self._keep(there, frame, width)
            return data
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()

    def _path(self, index: int, width: int) -> Path:
        return self._folder / str(width) / f"{index:06d}.jpg"

    def _keep(self, path: Path, frame: np.ndarray, width: int) -> bytes:
        """A frame as JPEG, put on the disk where there is room, or where something farther away can go."""
        data = jpeg(scaled(frame, width))
        with suppress(OSError):
            if self._has_room(len(data)) or self._make_room(int(path.stem), len(data)):
                path.parent.mkdir(exist_ok=True)
                part = path.with_suffix(f".{threading.get_ident()}")
                part.write_bytes(data)
                part.replace(path)
                self._bytes += len(data)
        return data

    def _has_room(self, size: int) -> bool:
        return self._bytes + size <= KEPT_BYTES and shutil.disk_usage(self._folder).free > LEFT_BYTES

    def _make_room(self, index: int, size: int = 0) -> bool:
        """Remove the frames that will be looked at last; False where these would be looked at before frame `index`."""
        files = [file for file in self._folder.glob("*/*.jpg") if _NAME.fullmatch(file.name)]
        files.sort(key=lambda file: self._away(int(file.stem)))
        least = len(files) // 20  # at least, so that the folder is not read again for each frame
        for gone, file in enumerate(reversed(files)):
            if self._away(int(file.stem)) <= self._away(index) or (gone >= least and self._has_room(size)):
                break
            self._bytes -= file.stat().st_size
            file.unlink(missing_ok=True)
        return self._has_room(size)

    def _away(self, index: int) -> int:
        """How many frames later than the one that is looked at a frame is reached, in a loop."""
        return (index - self._look) % self._count

    def _next(self) -> int | None:
        """The first frame that is not ready, from where the user looks, then from the beginning."""
        there = {file.name for file in (self._folder / str(self.ahead)).glob("*.jpg")}
        order = (*range(self._look, self._count), *range(self._look))
        return next((index for index in order if f"{index:06d}.jpg" not in there), None)

    def _go_ahead(self) -> None:
        while (found := self._take()) is not None:
            index, parks = found
            try:
                if parks:
                    self.opened.decoders.park(index, self._check_rest)
                else:
                    self._full = not self._run_from(index)
            except _Elsewhere:
                pass
            except LayerliftError:  # whoever asks for the frame is told
                self._full = True
            with self._changed:
                self._decoding = -1
                self._changed.notify_all()  # whoever waits for a frame of this run does not any more

    def _take(self) -> tuple[int, bool] | None:
        """The frame at which to park a decoder (True), or to go on from; None where the thread ends.

        That it ends holds from then on.
        """
        with self._changed:
            while not self._closed:
                self._changed.wait_for(lambda: self._closed or not self._busy)
                parked = self.opened.decoders.empty(self._look)
                rests_in = self._quiet - time.monotonic()
                if parked and rests_in <= 0:
                    return parked[-1], True  # the farthest from the key frame: what is jumped to from there gains most
                index = None if self._full else self._next()
                if index is not None:
                    return index, False
                if not parked:
                    break
                self._changed.wait(rests_in)
            self._going = False
            return None

    def _run_from(self, start: int) -> bool:
        """Decode in order from a frame on, until what follows is there, or the user looks elsewhere.

        False where the disk takes no more.
        """
        look, index, begun, full = self._look, start, start, False
        self._decoding = start
        with closing(self.opened.frames(start, self._count, lambda: self._pause(look))) as frames, suppress(_Elsewhere):
            for frame in frames:
                path = self._path(index, self.ahead)
                if not path.exists():
                    self._keep(path, frame, self.ahead)
                    full = not path.exists()
                    if full:
                        break
                index += 1
                with self._changed:
                    self._decoding = index
                    self._changed.notify_all()
                if index - begun >= TOLD_EVERY:
                    self.told(begun, index)
                    begun = index
                if self._there_already(index):
                    break
                look = self._pause(look)
        if index > begun:
            self.told(begun, index)
        return not full

    def _pause(self, look: int) -> int:
        """Wait for what else is asked for, and for the page where it has enough; returns where the user looks.

        `look` is where they looked before. Raises _Elsewhere where these frames are not what they look at now, and
        where the page rests, so that decoders can be parked.
        """
        with self._changed:
            while not self._closed:
                at = self._decoding
                if self._look != look and not at - NEAR <= self._look <= at + ENOUGH:
                    raise _Elsewhere
                if self._quiet <= time.monotonic() and self.opened.decoders.empty(self._look):
                    raise _Elsewhere
                waited_for = self._look - COMING < at <= self._look + ENOUGH
                left = 0.0 if waited_for else self._quiet - time.monotonic()
                if not self._busy and left <= 0:
                    return self._look
                self._changed.wait(None if self._busy else left)
        raise _Elsewhere

    def _check_rest(self) -> None:
        """Raises _Elsewhere where the page asks for something, or the store is closed."""
        if self._closed or self._busy or self._quiet > time.monotonic():
            raise _Elsewhere

    def _there_already(self, index: int) -> bool:
        """Whether the next frames are on the disk, so that decoding them again gains nothing."""
        near = range(index, min(index + NEAR, self._count))
        return index >= self._count or all(self._path(at, self.ahead).exists() for at in near)


class _Elsewhere(Exception):  # noqa: N818 - the end of a run, nothing that went wrong
    """Something else is to be done now, or the store is closed."""


def _drop_others(folder: Path, stamp: str) -> None:
    """Remove frames of what the clip was before."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name != stamp and _STAMP.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
