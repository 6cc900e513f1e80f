"""One round of finding traces: links between the frames of a clip, and the ways along them to what is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from layerlift.evidence.exposure import NOISE, Exposures
from layerlift.evidence.links import Box, Link, box_around, complete_flow, cropped, dense_flow, link_error
from layerlift.evidence.motion import Motion
from layerlift.evidence.proxies import Proxies, inpainting_error
from layerlift.evidence.register import project
from layerlift.evidence.traces import COST, FRAME, Traces, follow_link, own_source, taken
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.arrays import sampled, spread
from layerlift.progress import QUIET, StageProgress

# What a link costs that the one back does not confirm: so many levels for every pixel by which it leads elsewhere, but
# for a little, and at most so many.
OFF_COST, OFF_FORGIVEN, OFF_MOST = 4.0, 0.5, 20.0
# Nothing moves that zero flow explains worse by no more levels of 255.
STAYS = 1.0
# What moves by fewer pixels otherwise than the camera moves with it.
WITH_CAMERA = 1.0
# Links are kept so far around what is hidden, too, in pixels; within so many of what no frame shows they tell nothing.
RING, UNSURE = 8, 2


class Tracer:
    """One round over a clip.

    Attributes:
        strides: how many frames away links lead.
    """

    def __init__(
        self,
        proxies: Proxies,
        motion: Motion,
        exposures: Exposures,
        reach: int,
        *,
        strides: Sequence[int],
        filled: Shelf | None,
        progress: StageProgress = QUIET,
        keeper: Keeper = TEMPORARY,
    ) -> None:
        """`filled`: every frame as the round before filled it; None in the first round. `progress` is asked at every
        frame of a walk whether to go on."""
        self._proxies, self._motion, self._exposures, self._reach = proxies, motion, exposures, reach
        self.strides, self._filled = strides, filled
        self._progress = progress
        self._grays: dict[int, np.ndarray] = {}
        # By stride, and for each backwards and forwards in time.
        kinds = range(2 * len(strides))
        self._links, self._rings = (
            [keeper.shelf(f"{name}-{at}", packed=False) for at in kinds] for name in ("links", "rings")
        )
        self._linked = keeper.shelf("linked")

    def close(self) -> None:
        """Close the links' files."""
        for shelf in (*self._links, *self._rings, self._linked):
            shelf.close()

    def drop(self) -> None:
        """Close them, and remove them where a job keeps them: what marks the others goes first."""
        for shelf in (self._linked, *self._links, *self._rings):
            shelf.drop()

    def is_linked(self, index: int) -> bool:
        """Whether `link` was called for a frame, maybe in an earlier process, and what it found is there."""
        if index not in self._linked:
            return False
        (found,) = self._linked.get(index)
        shelves = self._links, *([] if self._filled is None else [self._rings])
        return all(here in kind[at] for at, here in found.tolist() for kind in shelves)

    def link(self, index: int) -> None:
        """Find the links between a frame and later ones, both ways."""
        found: list[tuple[int, int]] = []  # which shelves were given a link, and of which frame
        for number, stride in enumerate(self.strides):
            to = index + stride
            if to >= self._proxies.count or self._motion.shots[to] != self._motion.shots[index]:
                continue
            ours, theirs = self._proxies[index][1].any(), self._proxies[to][1].any()
            forwards = self._look(index, to) if ours or theirs else None
            backwards = self._look(to, index) if ours or theirs else None
            for here, there, one, other, side in (
                (index, to, forwards, backwards, 1),
                (to, index, backwards, forwards, 0),
            ):
                hidden = self._proxies[here][1]
                shown = self._exposures.shows(there, here)
                if shown and one is not None and other is not None and hidden.any():
                    rows, columns = np.nonzero(hidden)
                    flow = one.flow[rows - one.box[1], columns - one.box[0]]
                    error = one.error[rows - one.box[1], columns - one.box[0]] + contradiction(
                        flow, other, rows, columns
                    )
                    self._links[2 * number + side].put(here, flow, error)
                    found.append((2 * number + side, here))
                    if self._filled is not None:  # nothing is carried before motion is found on filled frames
                        ring = ring_around(cropped(hidden, one.box))
                        self._rings[2 * number + side].put(here, one.flow[ring], one.error[ring])
        self._linked.put(index, np.array(found, np.int64).reshape(-1, 2))

    def walk(self, side: int, traces: Traces, ends: Mapping[int, np.ndarray] | None = None) -> None:
        """Go through the clip, forwards for the traces backwards in time (side 0), or the other way round (1).

        Traces end wherever a frame shows something, or only in the pixels `ends` (h, w) bool of some frames.
        """
        count, step = self._proxies.count, (1, -1)[side]
        held: dict[int, np.ndarray] = {}  # the sources of the frames that links lead to
        width, height = self._proxies.size
        for index in range(count)[::step]:
            self._progress.advance(0)
            if traces.has(index, side):
                source = traces.get(index, side).source
            else:
                source = own_source(index, height, width)
                hidden = self._proxies[index][1]
                if hidden.any():
                    source[hidden] = self._shown(index, side, hidden, held)
                traces.put(index, side, hidden, source)
            if ends is not None:
                hidden = self._proxies[index][1]
                elsewhere = ~hidden & ~ends[index] if index in ends else ~hidden
                source[elsewhere, COST] = np.inf
            held[index] = source
            for old in [old for old in held if abs(old - index) >= max(self.strides)]:
                del held[old]

    def _shown(self, index: int, side: int, hidden: np.ndarray, held: dict[int, np.ndarray]) -> np.ndarray:
        """Where N hidden pixels of a frame are shown: (N, 4) float32 as in `Trace`."""
        rows, columns = np.nonzero(hidden)
        best = np.full((len(rows), 4), np.nan, np.float32)
        best[:, COST] = np.inf
        for number, stride in enumerate(self.strides):
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

    def continued(self, index: int, side: int, unseen: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """A frame's shortest and longest link for its N `unseen` pixels (h, w) bool, continued into them.

        Smoothly, or as the camera moves where that is how most of what lies around a part of them moves.

        Yields for each the number of the frame it leads to, its flow (N, 2) and its errors (N,), float32.
        """
        box = box_around(self._proxies[index][1])
        hidden, unseen = cropped(self._proxies[index][1], box), cropped(unseen, box)
        ring = ring_around(hidden)
        near = cv2.dilate(unseen.view(np.uint8), np.ones((2 * UNSURE + 1, 2 * UNSURE + 1), np.uint8)) > 0
        known = ((hidden | ring) & ~near).astype(np.float32)
        for number in (0, len(self.strides) - 1):
            inner, outer = self._links[2 * number + side], self._rings[2 * number + side]
            if index not in inner:
                continue
            link = np.zeros((*hidden.shape, 3), np.float32)
            for where, shelf in ((hidden, inner), (ring, outer)):
                link[where, :2], link[where, 2] = shelf.get(index)
            to = index - (1, -1)[side] * self.strides[number]
            camera = self._camera(index, to, box)
            with_camera = (np.hypot(*np.moveaxis(link[..., :2] - camera, -1, 0)) < WITH_CAMERA) & (known > 0)
            link = spread(link, known)
            _, parts = cv2.connectedComponents(unseen.view(np.uint8), connectivity=8)
            for label in range(1, parts.max() + 1):
                part = parts == label
                near = ring_around(part) & (known > 0)
                if 2 * np.count_nonzero(near & with_camera) > np.count_nonzero(near):
                    link[part, :2] = camera[part]
            yield to, link[unseen, :2], link[unseen, 2]

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
        ours = cropped(frame, box), cropped(hidden, box)
        theirs = cropped(other, box, shift), cropped(concealed, box, shift)
        gray = cropped(self._gray(to), box, shift)
        change = self._exposures.between(to, index)
        if change is not None:
            theirs = change.apply(theirs[0]), theirs[1]
            gray = cv2.cvtColor(change.apply(cropped(self._picture(to), box, shift)), cv2.COLOR_RGB2GRAY)
        flow = dense_flow(cropped(self._gray(index), box), gray)
        if self._filled is None:
            flow = complete_flow(flow, ours[1], theirs[1])
        error = link_error(flow, ours, theirs)
        if self._motion.still(index):
            # What hardly moves under a camera that stands still does not move: flow would drift out of the hole.
            without = link_error(np.zeros_like(flow), ours, theirs)
            stays = without <= error + STAYS
            flow[stays], error[stays] = 0, without[stays]
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

    def _camera(self, index: int, to: int, box: Box) -> np.ndarray:
        """By how much the camera's motion moves the pixels of a box: (h, w, 2) float32."""
        matrix = self._motion.between(index, to)
        assert matrix is not None
        scale = np.array(self._proxies.size, float) / self._motion.size
        rows, columns = np.mgrid[box[1] : box[3], box[0] : box[2]]
        to_x, to_y = project(matrix, columns / scale[0], rows / scale[1])
        return np.dstack([to_x * scale[0] - columns, to_y * scale[1] - rows]).astype(np.float32)

    def _picture(self, index: int) -> np.ndarray:
        return self._proxies[index][0] if self._filled is None else self._filled.get(index)[0]

    def _gray(self, index: int) -> np.ndarray:
        gray = self._grays.get(index)
        if gray is None:
            gray = cv2.cvtColor(self._picture(index), cv2.COLOR_RGB2GRAY)
            self._grays = {at: kept for at, kept in self._grays.items() if at >= index - 2 * max(self.strides)}
            self._grays[index] = gray
        return gray

    def as_in(self, frame: np.ndarray, source: int, target: int) -> np.ndarray:
        """A frame (h, w, 3) uint8 in another one's exposure; they are given by their numbers."""
        change = self._exposures.between(source, target)
        return frame if change is None else change.apply(frame)

    def fill(self, traces: Traces, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Fill a frame along its traces, and where they tell little, by inpainting.

        Returns (h, w, 3) uint8, and the error (h, w) float32 that what is hidden is expected to have by traces alone.
        """
        frame, hidden = self._proxies[index]
        if not hidden.any():
            return frame, np.zeros(hidden.shape, np.float32)
        seen = np.zeros(hidden.shape, np.float32)
        mixed = np.zeros(frame.shape, np.float32)
        for trace in traces[index]:
            colours = taken(trace.source, hidden, lambda at: self.as_in(self._proxies[at][0], at, index))
            weight = np.where(hidden, 1 / np.square(trace.error), 0)
            seen += weight
            mixed += weight[..., None] * colours
        weight = 1 / np.square(inpainting_error(frame, hidden))
        mixed += weight[..., None] * frame
        out = frame.copy()
        out[hidden] = np.rint(mixed[hidden] / np.maximum(seen + weight, 1e-12)[hidden, None])
        with np.errstate(divide="ignore"):
            return out, np.where(hidden, 1 / np.sqrt(seen), 0).astype(np.float32)


def ring_around(hidden: np.ndarray, width: int = RING) -> np.ndarray:
    """What lies within so many pixels of what is hidden, (h, w) bool → (h, w) bool."""
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return (cv2.dilate(hidden.view(np.uint8), square) > 0) & ~hidden


def contradiction(flow: np.ndarray, back: Link, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """What a link costs N pixels where the link `back` does not lead back to them: (N,) float32 in levels of 255.

    `flow` (N, 2) is the link's. Where something covers or uncovers a pixel, the two lead to different things.
    """
    x, y = (flow + np.stack([columns, rows], 1) - np.array(back.box[:2])).T
    returned = sampled(back.flow, x, y)
    off = np.hypot(*(flow + returned).T)
    return np.minimum(OFF_COST * np.maximum(off - OFF_FORGIVEN, 0), OFF_MOST)
