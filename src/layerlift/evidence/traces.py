"""Traces: for every hidden pixel, where the scene shows it before and after, found along dense motion.

What hides a pixel also hides how it moves. So motion is found twice: first continued under the hole from around it,
then between frames whose holes were filled along that. In the last round a frame also looks at frames farther away,
past neighbours that hide the same. Of all ways to a frame that shows a pixel the one counts whose links explain their
surroundings best: the sum of their errors is what a trace *costs*, and tells how far off its colour is likely to be.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.evidence.exposure import NOISE, Exposures, find_exposures
from layerlift.evidence.links import Box, Link, box_around, complete_flow, cut, dense_flow, link_error
from layerlift.evidence.motion import Motion
from layerlift.evidence.proxies import Proxies, inpainting_error
from layerlift.evidence.register import project
from layerlift.evidence.shelf import Shelf
from layerlift.progress import StageProgress

# How many frames away links lead, round by round.
ROUNDS = ((1,), (1, 2, 4, 8))
# The expected error of a trace in levels of 255: so much, and so much more by what it costs. Measured on frames of real
# clips, whose errors follow this from costs of 1 to 40.
TRACE_ERROR, ERROR_OF_COST = 0.5, 1.1
X, Y, FRAME, COST = range(4)
# What a link costs that the one back does not confirm: so many levels for every pixel by which it leads elsewhere, but
# for a little, and at most so many.
OFF_COST, OFF_FORGIVEN, OFF_MOST = 4.0, 0.5, 20.0
# Frames are linked by so many threads: OpenCV works outside of the interpreter.
WORKERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Trace:
    """Where hidden pixels are shown in one direction of time.

    Attributes:
        source: (h, w, 4) float32: x, y and number of the frame that shows a pixel, and what the trace costs; NaN, and
            infinite costs, where nothing was found. Pixels that are not hidden are their own source.
    """

    source: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """The error that colours taken along it are expected to have, (h, w) float32 in levels of 255."""
        return np.asarray(TRACE_ERROR + ERROR_OF_COST * self.source[..., COST])

    def without(self, other: Trace) -> Trace:
        """The same with nothing found where both lead the same way."""
        source = self.source.copy()
        source[source[..., COST] == other.source[..., COST], COST] = np.inf
        return Trace(source)


class Traces:
    """The traces of a clip's frames, backwards and forwards in time; they lie in a temporary file.

    Attributes:
        size: (width, height) of the pictures they were found on.
        exposures: of the frames; colours taken along a trace have to be brought from one to another.
        painted: those that lead to what reference frames show in their holes; None without references.
    """

    def __init__(self, size: tuple[int, int], exposures: Exposures) -> None:
        self.size, self.exposures = size, exposures
        self.painted: Traces | None = None
        self._shelf = Shelf()

    def put(self, index: int, side: int, hidden: np.ndarray, source: np.ndarray) -> None:
        """Keep where the `hidden` (h, w) bool pixels of a frame are shown; side 0 is before it, 1 after."""
        self._shelf.put(2 * index + side, np.packbits(hidden), source[hidden])

    def __getitem__(self, index: int) -> tuple[Trace, Trace]:
        """The traces of a frame backwards and forwards."""
        return self._get(index, 0), self._get(index, 1)

    def _get(self, index: int, side: int) -> Trace:
        width, height = self.size
        bits, found = self._shelf.get(2 * index + side)
        hidden = np.unpackbits(bits, count=width * height).reshape(height, width) > 0
        source = own_source(index, height, width)
        source[hidden] = found
        return Trace(source)

    def close(self) -> None:
        """Remove the file."""
        self._shelf.close()
        if self.painted is not None:
            self.painted.close()


def own_source(index: int, height: int, width: int) -> np.ndarray:
    """Every pixel of a frame as its own source, (h, w, 4) float32."""
    source = np.zeros((height, width, 4), np.float32)
    source[..., X], source[..., Y] = np.arange(width), np.arange(height)[:, None]
    source[..., FRAME] = index
    return source


def find_traces(
    proxies: Proxies,
    motion: Motion,
    reach: int,
    progress: StageProgress,
    painted: Mapping[int, np.ndarray] | None = None,
) -> Traces:
    """Find the traces of all frames; no link leads from one shot to another, no trace farther than `reach` frames.

    `painted` is what reference frames show in their holes, (h, w) bool by their numbers. Traces that lead there are
    found besides, even where another frame is nearer. `progress` advances by `len(ROUNDS)` for every frame.
    """
    filled: Shelf | None = None
    indices = range(proxies.count)
    with ThreadPoolExecutor(WORKERS) as threads:
        for _ in threads.map(proxies.fill, indices):
            pass
    exposures = find_exposures(proxies, motion)
    traces = Traces(proxies.size, exposures)
    try:
        for number, strides in enumerate(ROUNDS):
            traces.close()
            traces = Traces(proxies.size, exposures)
            tracer = Tracer(proxies, motion, exposures, reach, strides=strides, filled=filled)
            with ThreadPoolExecutor(WORKERS) as threads:
                # 1. How every frame lies to the others: the links of a pair lead both ways.
                for _ in threads.map(tracer.link, indices):
                    progress.advance()
                # 2. Follow them to frames that show what is hidden, before and after.
                walks: list[tuple[Traces, Mapping[int, np.ndarray] | None]] = [(traces, None)]
                if painted and number == len(ROUNDS) - 1:
                    traces.painted = Traces(proxies.size, exposures)
                    walks.append((traces.painted, painted))
                for done in [threads.submit(tracer.walk, side, *walk) for walk in walks for side in (0, 1)]:
                    done.result()
                tracer.close()
                # 3. Fill the frames, for the round that comes.
                if number < len(ROUNDS) - 1:
                    before, filled = filled, Shelf()
                    for index, picture in zip(indices, threads.map(tracer.fill(traces), indices), strict=True):
                        filled.put(index, picture)
                    if before is not None:
                        before.close()
    except BaseException:
        traces.close()
        raise
    finally:
        if filled is not None:
            filled.close()
    return traces


class Tracer:
    """One round over a clip."""

    def __init__(
        self,
        proxies: Proxies,
        motion: Motion,
        exposures: Exposures,
        reach: int,
        *,
        strides: Sequence[int],
        filled: Shelf | None,
    ) -> None:
        """`filled`: every frame as the round before filled it; None in the first round."""
        self._proxies, self._motion, self._exposures, self._reach = proxies, motion, exposures, reach
        self._strides, self._filled = strides, filled
        self._grays: dict[int, np.ndarray] = {}
        self._links = [Shelf() for _ in range(2 * len(strides))]

    def close(self) -> None:
        """Remove the links' files."""
        for shelf in self._links:
            shelf.close()

    def link(self, index: int) -> None:
        """Find the links between a frame and later ones, both ways."""
        for number, stride in enumerate(self._strides):
            to = index + stride
            if to >= self._proxies.count or self._motion.shots[to] != self._motion.shots[index]:
                continue
            ours, theirs = self._proxies[index][1].any(), self._proxies[to][1].any()
            forwards = self._look(index, to) if ours or theirs else None
            backwards = self._look(to, index) if ours or theirs else None
            for here, there, one, other, shelf in (
                (index, to, forwards, backwards, self._links[2 * number + 1]),
                (to, index, backwards, forwards, self._links[2 * number]),
            ):
                hidden = self._proxies[here][1]
                shown = self._exposures.shows(there, here)
                if shown and one is not None and other is not None and hidden.any():
                    rows, columns = np.nonzero(hidden)
                    flow = one.flow[rows - one.box[1], columns - one.box[0]]
                    error = one.error[rows - one.box[1], columns - one.box[0]] + contradiction(
                        flow, other, rows, columns
                    )
                    shelf.put(here, flow, error)

    def walk(self, side: int, traces: Traces, ends: Mapping[int, np.ndarray] | None = None) -> None:
        """Go through the clip, forwards for the traces backwards in time (side 0), or the other way round (1).

        Traces end wherever a frame shows something, or only in the pixels `ends` (h, w) bool of some frames.
        """
        count, step = self._proxies.count, (1, -1)[side]
        held: dict[int, np.ndarray] = {}  # the sources of the frames that links lead to
        width, height = self._proxies.size
        for index in range(count)[::step]:
            source = own_source(index, height, width)
            hidden = self._proxies[index][1]
            if hidden.any():
                source[hidden] = self._shown(index, side, hidden, held)
            traces.put(index, side, hidden, source)
            if ends is not None:
                elsewhere = ~hidden & ~ends[index] if index in ends else ~hidden
                source[elsewhere, COST] = np.inf
            held[index] = source
            for old in [old for old in held if abs(old - index) >= max(self._strides)]:
                del held[old]

    def _shown(self, index: int, side: int, hidden: np.ndarray, held: dict[int, np.ndarray]) -> np.ndarray:
        """Where N hidden pixels of a frame are shown: (N, 4) float32 as in `Trace`."""
        rows, columns = np.nonzero(hidden)
        best = np.full((len(rows), 4), np.nan, np.float32)
        best[:, COST] = np.inf
        for number, stride in enumerate(self._strides):
            shelf, to = self._links[2 * number + side], index - (1, -1)[side] * stride
            if index not in shelf:
                continue
            flow, error = shelf.get(index)
            found = follow_link(flow, error, held[to], rows, columns)
            # What the rest of the way costs is told in that frame's exposure.
            change = self._exposures.between(to, index)
            if change is not None:
                found[:, COST] = error + (found[:, COST] - error) * change.worth
            found[np.abs(found[:, FRAME] - index) > self._reach, COST] = np.inf
            found[~self._shows(found), COST] = np.inf
            better = found[:, COST] < best[:, COST]
            best[better] = found[better]
        best[~np.isfinite(best[:, COST]), :COST] = np.nan
        return best

    def _shows(self, found: np.ndarray) -> np.ndarray:
        """Whether N sources (N, 4) lie where their frames show something, (N,) bool.

        They may not: what a trace lies off the pixels that it passes adds up.
        """
        shown = np.zeros(len(found), bool)
        there = np.flatnonzero(np.isfinite(found[:, COST]))
        x, y, numbers = np.rint(found[there, :COST]).astype(np.intp).T
        width, height = self._proxies.size
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        for number in np.unique(numbers[inside]):
            of = inside & (numbers == number)
            shown[there[of]] = ~self._proxies[int(number)][1][y[of], x[of]]
        return shown

    def _look(self, index: int, to: int) -> Link:
        """The link of a frame to another one, around what is hidden in either where nothing is in the first."""
        hidden = self._proxies[index][1]
        box = box_around(hidden if hidden.any() else self._proxies[to][1])
        # Where the camera pans fast, flow starts from the part that the camera's motion leads to.
        shift = self._shift(index, to, box)
        (frame, hidden), (other, concealed) = self._proxies[index], self._proxies[to]
        ours = cut(frame, box), cut(hidden, box)
        theirs = cut(other, box, shift), cut(concealed, box, shift)
        gray = cut(self._gray(to), box, shift)
        change = self._exposures.between(to, index)
        if change is not None:
            theirs = change.apply(theirs[0]), theirs[1]
            gray = cv2.cvtColor(change.apply(cut(self._picture(to), box, shift)), cv2.COLOR_RGB2GRAY)
        flow = dense_flow(cut(self._gray(index), box), gray)
        if self._filled is None:
            flow = complete_flow(flow, ours[1], theirs[1])
        error = link_error(flow, ours, theirs)
        if change is not None:
            error += NOISE * max(change.worth - 1, 0)
        flow += np.array(shift, np.float32)
        return Link(box, flow, error)

    def _shift(self, index: int, to: int, box: Box) -> tuple[int, int]:
        """By how many whole pixels the camera's motion moves the middle of a box."""
        matrix = self._motion.between(index, to)
        assert matrix is not None
        width, height = self._proxies.size
        scale = width / self._motion.size[0], height / self._motion.size[1]
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        to_x, to_y = project(matrix, np.array([x / scale[0]]), np.array([y / scale[1]]))
        shift = float(to_x[0]) * scale[0] - x, float(to_y[0]) * scale[1] - y
        return round(min(max(shift[0], -width), width)), round(min(max(shift[1], -height), height))

    def _picture(self, index: int) -> np.ndarray:
        return self._proxies[index][0] if self._filled is None else self._filled.get(index)[0]

    def _gray(self, index: int) -> np.ndarray:
        gray = self._grays.get(index)
        if gray is None:
            gray = cv2.cvtColor(self._picture(index), cv2.COLOR_RGB2GRAY)
            self._grays = {at: kept for at, kept in self._grays.items() if at >= index - 2 * max(self._strides)}
            self._grays[index] = gray
        return gray

    def _as_in(self, source: int, target: int) -> np.ndarray:
        """A frame in another one's exposure."""
        frame, change = self._proxies[source][0], self._exposures.between(source, target)
        return frame if change is None else change.apply(frame)

    def fill(self, traces: Traces):  # type: ignore[no-untyped-def]
        """A function that fills a frame, by its number, along its traces: (h, w, 3) uint8."""

        def filled(index: int) -> np.ndarray:
            frame, hidden = self._proxies[index]
            if not hidden.any():
                return frame
            total = np.zeros(hidden.shape, np.float32)
            mixed = np.zeros(frame.shape, np.float32)
            for trace in traces[index]:
                colours = taken(trace.source, hidden, lambda number: self._as_in(number, index))
                weight = np.where(hidden, 1 / np.square(trace.error), 0)
                total += weight
                mixed += weight[..., None] * colours
            weight = 1 / np.square(inpainting_error(frame, hidden))
            mixed += weight[..., None] * frame
            total += weight
            out = frame.copy()
            out[hidden] = np.rint(mixed[hidden] / np.maximum(total[hidden], 1e-12)[:, None])
            return out

        return filled


def contradiction(flow: np.ndarray, back: Link, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What a link costs N pixels where the link `back` does not lead back to them: (N,) float32 in levels of 255.

    `flow` (N, 2) is the link's. Where something covers or uncovers a pixel, the two lead to different things.
    """
    to = (flow + np.stack([columns, rows], 1) - np.array(back.box[:2])).astype(np.float32)
    returned = cv2.remap(back.flow, to[:, None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
    off = np.hypot(*(flow + returned).T)
    return np.minimum(OFF_COST * np.maximum(off - OFF_FORGIVEN, 0), OFF_MOST)


def follow_link(
    flow: np.ndarray, error: np.ndarray, theirs: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Sources of N pixels of a frame by way of another one's, (h, w, 4): (N, 4) float32.

    `flow` (N, 2) and `error` (N,) are those of the link at these pixels.
    """
    height, width = theirs.shape[:2]
    to = flow + np.stack([columns, rows], 1)  # (N, 2)
    inside = (to[:, 0] >= 0) & (to[:, 0] <= width - 1) & (to[:, 1] >= 0) & (to[:, 1] <= height - 1)
    near = np.where(inside[:, None], np.rint(to), 0).astype(np.intp)
    found = theirs[near[:, 1], near[:, 0]]
    # The part of a pixel by which the place lies off the one whose source is known stays.
    found[:, :FRAME] += to - near
    found[:, COST] += error
    found[~inside | ~np.isfinite(found[:, COST]), COST] = np.inf
    return found


def taken(source: np.ndarray, where: np.ndarray, frame_of) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Colours at the sources (h, w, 4) of the pixels `where` (h, w) bool: (h, w, 3) float32, 0 where there is none.

    `frame_of` gives a frame (h, w, 3) uint8 by its number.
    """
    rows, columns = np.nonzero(where & np.isfinite(source[..., COST]))
    out = np.zeros((*where.shape, 3), np.float32)
    if not len(rows):
        return out
    found = source[rows, columns]
    numbers = found[:, FRAME].astype(np.intp)
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
    for first, end in zip(starts, [*starts[1:], len(order)], strict=True):
        part = order[first:end]
        frame = frame_of(int(numbers[part[0]]))
        for run in np.array_split(part, -(-len(part) // 32000)):
            colours = cv2.remap(
                frame, found[run, X][None], found[run, Y][None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            out[rows[run], columns[run]] = colours[0]
    return out
