"""What is known of a hidden pixel from several sides becomes one colour, and how far off that may be.

Every side comes with the error it is expected to have; what is surer weighs more, by the inverse of the squared error.
A pixel is called gathered only where what other frames show leaves no more error than an eye would forgive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.evidence.inpaint import enlarge, inpaint
from layerlift.evidence.proxies import inpainting_error
from layerlift.evidence.traces import COST, FRAME, Trace, Traces, X, Y
from layerlift.pixels.arrays import distance_to, sampled, spread

# Gathered is what is expected to be wrong by no more levels of 255.
SURE = 9.0
# The errors of samples gathered by one motion for a whole region: so much, and so much more by what they miss the frame
# by just outside the hole.
REGION_ERROR, ERROR_OF_MISFIT = 0.5, 1.1
# That is looked at after this blur, in pixels of the reduced clip; a mean over a smaller share of it says nothing.
BLUR = 2.0
LEAST_SHARE = 0.1
# At the border of what is unknown a fill counts for nothing, this deep (pixels of the reduced clip) alone.
FILL_DEPTH = 1.0, 4.0
# In thin holes, letters and lines nowhere deeper than this (pixels of the reduced clip), inpainting is better than it
# expects: what other frames show there has to be surer by this factor.
THIN, SURER = 7.0, 0.45


@dataclass(frozen=True, slots=True)
class Side:
    """One side's word on N hidden pixels: colours (N, 3) float32, expected errors (N,) float32, infinite for none."""

    colours: np.ndarray
    error: np.ndarray

    def of(self, where: np.ndarray) -> Side:
        """Its word on some of the pixels, (N,) bool."""
        return Side(self.colours[where], self.error[where])

    def unless(self, where: np.ndarray) -> Side:
        """The same without a word on some of the pixels, (N,) bool."""
        return Side(self.colours, np.where(where, np.float32(np.inf), self.error))


@dataclass(frozen=True, slots=True)
class Fused:
    """Colours (N, 3) float32 of hidden pixels, and the error (N,) that the evidence alone is expected to have."""

    colours: np.ndarray
    evidence_error: np.ndarray


def fuse(evidence: Sequence[Side], prior: Side) -> Fused:
    """Mix what other frames show of N pixels with what inpainting makes of them."""
    weights = [1 / np.square(side.error) for side in (*evidence, prior)]
    seen = np.sum(weights[:-1], 0) if evidence else np.zeros_like(weights[-1])
    total = seen + weights[-1]
    mixed = sum(weight[:, None] * side.colours for weight, side in zip(weights, (*evidence, prior), strict=True))
    # Where two sides contradict each other, neither can be right by more than they differ.
    apart = np.zeros_like(seen)
    middle = mixed / np.maximum(total, 1e-12)[:, None]
    for weight, side in zip(weights[:-1], evidence, strict=True):
        apart += weight * np.square(np.abs(side.colours - middle).mean(1))
    apart = np.sqrt(apart / np.maximum(seen, 1e-12))
    with np.errstate(divide="ignore"):
        evidence_error = np.hypot(1 / np.sqrt(seen), apart)
    return Fused(middle.astype(np.float32), evidence_error.astype(np.float32))


def thin_parts(covered: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Which of the N pixels `hidden` (H, W) bool lie in thin holes, (N,); `covered` (h, w) is the same reduced."""
    _, labels = cv2.connectedComponents(covered.view(np.uint8), connectivity=8)
    deep = np.isin(labels, np.unique(labels[distance_to(~covered) > THIN]))
    size = hidden.shape[1], hidden.shape[0]
    return np.asarray(cv2.resize(deep.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)[hidden] == 0)


def surer(evidence: Sequence[Side], prior: Side, thin: np.ndarray) -> list[Side]:
    """Evidence of N pixels without what inpainting (`prior`) leaves no need for in `thin` holes, (N,) bool."""
    return [side.unless(thin & (side.error >= SURER * prior.error)) for side in evidence]


def region_error(values: np.ndarray, truth: np.ndarray, near: np.ndarray, scale: int) -> np.ndarray:
    """The error expected inside a hole of values (h, w, 3) float32 that miss the truth by this just outside, (h, w).

    `near` (h, w) bool are pixels outside the hole for which there are values; they are compared `scale` times smaller.
    """
    height, width = near.shape
    size = max(1, width // scale), max(1, height // scale)
    apart = np.abs(truth - values).mean(-1, dtype=np.float32) * near
    weight = cv2.resize(near.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    apart = cv2.resize(apart, size, interpolation=cv2.INTER_AREA)
    mass = cv2.GaussianBlur(weight, (0, 0), BLUR)
    error = cv2.GaussianBlur(apart, (0, 0), BLUR) / np.maximum(mass, LEAST_SHARE)
    inside = spread(error[..., None], (mass > LEAST_SHARE).astype(np.float32))[..., 0]
    return REGION_ERROR + ERROR_OF_MISFIT * cv2.resize(inside, (width, height), interpolation=cv2.INTER_LINEAR)


class TracedColours:
    """Colours at full size along the traces that were found on the reduced clip."""

    def __init__(self, traces: Traces, size: tuple[int, int]) -> None:
        """`size`: (width, height) of the clip."""
        self._traces = traces
        self._scale = traces.size[0] / size[0], traces.size[1] / size[1]
        self.scale = max(1, round(size[0] / traces.size[0]))

    def sides(
        self, index: int, rows: np.ndarray, columns: np.ndarray, frame_of: Callable[[int], np.ndarray | None]
    ) -> list[Side]:
        """What frames before and after `index` show of its N pixels; `frame_of` gives a frame where it is at hand.

        Without what `painted` tells.
        """
        traces: Sequence[Trace] = self._traces[index]
        if self._traces.painted is not None:
            pairs = zip(traces, self._traces.painted[index], strict=True)
            traces = [trace.without(painted) for trace, painted in pairs]
        return [self._side(index, trace, rows, columns, frame_of) for trace in traces]

    def painted(
        self, index: int, rows: np.ndarray, columns: np.ndarray, frame_of: Callable[[int], np.ndarray | None]
    ) -> list[Side]:
        """The same of what references before and after it show; none where the clip has no references."""
        if self._traces.painted is None:
            return []
        return [self._side(index, trace, rows, columns, frame_of) for trace in self._traces.painted[index]]

    def fill(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """What no frame shows of a reduced one, (h, w) bool, and its fill (N, 3) uint8; None where that is nothing."""
        fills = self._traces.fills
        return fills[index] if fills is not None and index in fills else None

    def _side(
        self,
        index: int,
        trace: Trace,
        rows: np.ndarray,
        columns: np.ndarray,
        frame_of: Callable[[int], np.ndarray | None],
    ) -> Side:
        (sx, sy), (height, width) = self._scale, trace.source.shape[:2]
        # Pixel centres: full-size x lies at (x + ½)·scale - ½ of the reduced frame.
        x, y = (columns + 0.5) * sx - 0.5, (rows + 0.5) * sy - 0.5
        near_x = np.clip(np.rint(x), 0, width - 1).astype(np.intp)
        near_y = np.clip(np.rint(y), 0, height - 1).astype(np.intp)
        found = trace.source[near_y, near_x]
        error = trace.error[near_y, near_x].copy()
        with np.errstate(invalid="ignore"):
            to_x = ((found[:, X] + x - near_x + 0.5) / sx - 0.5).astype(np.float32)
            to_y = ((found[:, Y] + y - near_y + 0.5) / sy - 0.5).astype(np.float32)
        colours = np.zeros((len(rows), 3), np.float32)
        seen = np.flatnonzero(np.isfinite(found[:, COST]))
        numbers = found[seen, FRAME].astype(np.intp)
        order = np.argsort(numbers, kind="stable")
        seen, numbers = seen[order], numbers[order]
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for part in np.split(seen, starts[1:]) if len(seen) else []:
            source = int(found[part[0], FRAME])
            frame, change = frame_of(source), self._traces.exposures.between(source, index)
            if frame is None:
                error[part] = np.inf
                continue
            colours[part] = sampled(frame, to_x[part], to_y[part])
            if change is not None:
                colours[part] = np.clip(change.apply(colours[part]), 0, 255)
        return Side(colours, error)


def inpainted(hidden: np.ndarray, small: np.ndarray, covered: np.ndarray) -> Side:
    """What inpainting makes of the pixels `hidden` (H, W) bool of a frame.

    `small` (h, w, 3) uint8 is the frame reduced, with what is `covered` (h, w) bool inpainted: it is enlarged.
    """
    size = hidden.shape[1], hidden.shape[0]
    error = cv2.resize(inpainting_error(small, covered), size, interpolation=cv2.INTER_LINEAR)[hidden]
    if small.shape[:2] != hidden.shape:
        small = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    return Side(small[hidden].astype(np.float32), error)


def inpainted_rest(frame: np.ndarray, rest: np.ndarray, size: tuple[int, int]) -> Side:
    """`inpainted` for the `rest` (H, W) bool of a frame (H, W, 3) uint8 whose other hidden pixels are known by now.

    It is done on a frame of `size` (w, h), and meets the full one without a seam.
    """
    covered = cv2.resize(rest.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    small = inpaint(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), covered)
    side = inpainted(rest, small, covered)
    if small.shape == frame.shape:
        return side
    return Side(np.clip(enlarge(small, frame, rest), 0, 255), side.error)


def with_fill(
    colours: np.ndarray,
    frame: np.ndarray,
    rest: np.ndarray,
    size: tuple[int, int],
    filled: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Colours (N, 3) float32 of the `rest` (H, W) bool of a frame (H, W, 3) with a fill in place of them deep inside.

    `filled` is what was filled of a frame of `size` (w, h): where, (h, w) bool, and with what, (M, 3) uint8. Where it
    meets what is known, what it misses that by is taken off smoothly inwards.
    """
    unseen, fill = filled
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    inside = unseen & (cv2.resize(rest.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0)
    if not inside.any():
        return colours
    picture = small.copy()
    picture[unseen] = fill
    small[inside] = np.clip(np.rint(enlarge(picture, small, inside)), 0, 255)
    border, deep = FILL_DEPTH
    share = np.clip((distance_to(~inside) - border) / (deep - border), 0, 1).astype(np.float32)
    full = rest.shape[1], rest.shape[0]
    share = cv2.resize(share, full, interpolation=cv2.INTER_LINEAR)[rest][:, None]
    shown = cv2.resize(small, full, interpolation=cv2.INTER_LINEAR)[rest].astype(np.float32)
    return share * shown + (1 - share) * colours
