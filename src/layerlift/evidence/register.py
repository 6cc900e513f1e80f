"""Sub-pixel registration of two pictures over chosen points: inverse-compositional Gauss-Newton with robust weights.

After Baker and Matthews, *Lucas-Kanade 20 Years On* (2004), with gain and offset of brightness solved along. Matrices
are 3×3 and map pixels (x, y, 1) of the template to pixels of the source; pixel centres lie at whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import cv2
import numpy as np

from layerlift.pixels.arrays import sampled

# Pictures are compared after this blur (pixels): it hides sampling and noise, and keeps gradients linear over a step.
BLUR = 0.7
# Masked pixels are kept this far away from points, so that the blur brings nothing of the object into them.
MARGIN = 3
ITERATIONS = 4
# A step that moves no corner by more pixels than this ends the search.
CONVERGED = 0.01
# Tukey's biweight: 95% as efficient as least squares on Gaussian noise.
TUKEY = 4.685
# Brightness noise that is always granted, in levels of 255: robust weights must not chase rounding.
NOISE = 0.5
# An edge that lies off by so many pixels is no outlier yet.
SLACK = 0.25
# Numbers of a motion that are tried in turn: shift; zoom and turn too; any affine motion.
FREEDOM = (2, 4, 6)
# More freedom is taken only where it brings the cost under this share.
GAIN = 0.85
# Fewer points than this fix no affine motion.
LEAST_POINTS = 30
# Detail is what remains when the mean over a square of so many pixels is taken off.
DETAIL = 13
# Detail of fewer levels of 255 than this may be noise, and tells no scene from another.
FAINT = 2.5
# Soft pictures without detail show the same where their colours correlate by this much.
SOFT_ALIKE = 0.8
# It is compared in so many blocks across and down.
BLOCKS = 5


@dataclass(frozen=True, slots=True)
class Registration:
    """How a source lies to a template.

    Attributes:
        matrix: (3, 3) float64, template pixel → source pixel.
        error: robust standard deviation of the remaining brightness difference, in levels of 255.
        overlap: share of the template's points that the source shows.
        cost: robust mean square of the difference, by which motions are compared.
    """

    matrix: np.ndarray
    error: float
    overlap: float
    cost: float


class Sight:
    """A frame, or a part of it, as registration compares it.

    Attributes:
        planes: the three channels, (H, W) uint8 each, slightly blurred.
        usable: (H, W) uint8, 1 where nothing hidden reaches through the blur.
        offset: where its left upper corner (x, y) lies in the frame; matrices are in the frame's pixels.
    """

    def __init__(self, frame: np.ndarray, hidden: np.ndarray, offset: tuple[int, int] = (0, 0)) -> None:
        """Frame (H, W, 3) uint8, hidden (H, W) bool."""
        self.planes = cv2.split(cv2.GaussianBlur(frame, (0, 0), BLUR))
        size = 2 * MARGIN + 1
        self.usable = cv2.erode((~hidden).astype(np.uint8), np.ones((size, size), np.uint8), borderValue=1)
        self.offset = offset

    def cut(self, box: tuple[int, int, int, int]) -> Sight:
        """The part within a box (left, top, right, bottom) of the frame."""
        part = object.__new__(Sight)
        rows, columns = slice(box[1], box[3]), slice(box[0], box[2])
        part.planes = [plane[rows, columns] for plane in self.planes]
        part.usable, part.offset = self.usable[rows, columns], box[:2]
        return part

    @cached_property
    def detail(self) -> Sequence[np.ndarray]:
        """The picture without what is smoother than `DETAIL` pixels, three (H, W) float32; 0 where nothing is usable.

        What is hidden has no part in it: its outline would pass for detail that two frames share.
        """
        square = (DETAIL, DETAIL)
        mass = np.maximum(cv2.boxFilter(self.usable, cv2.CV_32F, square), 1e-6)
        seen = [plane * self.usable for plane in self.planes]
        return [part - cv2.boxFilter(part, cv2.CV_32F, square) / mass * self.usable for part in seen]


class Template:
    """A picture prepared for registering others to it: points of strong gradient, spread evenly."""

    def __init__(self, view: Sight, limit: int) -> None:
        """At most about `limit` points."""
        usable, offset = view.usable, view.offset
        height, width = usable.shape
        slopes = [tuple(cv2.Scharr(p, cv2.CV_32F, *d, scale=1 / 32) for d in ((1, 0), (0, 1))) for p in view.planes]
        squares = [gx * gx + gy * gy for gx, gy in slopes]
        strength = np.maximum(np.maximum(*squares[:2]), squares[2]) * usable
        strength[:2] = strength[-2:] = 0
        strength[:, :2] = strength[:, -2:] = 0
        # The strongest pixel of every cell: edges everywhere weigh more than one very sharp thing.
        cell = max(2, int(np.sqrt(height * width / limit)))
        rows, columns = height // cell, width // cell
        cells = strength[: rows * cell, : columns * cell].reshape(rows, cell, columns, cell).transpose(0, 2, 1, 3)
        flat = cells.reshape(rows * columns, cell * cell)
        best = flat.argmax(1)
        there = flat[np.arange(len(flat)), best] > 0
        index = np.flatnonzero(there)
        best = best[there]
        y = index // max(columns, 1) * cell + best // cell
        x = index % max(columns, 1) * cell + best % cell
        # Every point looks at the one channel that changes most there: colour often tells what brightness does not.
        channel = np.stack([square[y, x] for square in squares]).argmax(0)
        order = np.argsort(channel, kind="stable")
        y, x = y[order], x[order]
        # Where in the list of points each channel's begin and end.
        self._runs = np.searchsorted(channel[order], np.arange(4))
        values, dx, dy = (
            np.concatenate([plane[y[a:b], x[a:b]] for plane, (a, b) in zip(planes, pairwise(self._runs), strict=True)])
            for planes in (view.planes, [gx for gx, _ in slopes], [gy for _, gy in slopes])
        )

        self.values = values.astype(np.float64)
        self.x, self.y = x + float(offset[0]), y + float(offset[1])
        self._view, self._places = view, (y, x)
        self._centre = (offset[0] + width / 2, offset[1] + height / 2)
        self._length = max(width, height) / 2
        u, v = (self.x - self._centre[0]) / self._length, (self.y - self._centre[1]) / self._length
        dx, dy = dx.astype(np.float64), dy.astype(np.float64)
        self._slack_squared = SLACK**2 * (dx * dx + dy * dy)
        # Derivatives of the template's value by shift, zoom, turn, the two shears, then by gain and offset.
        self._jacobian = np.stack(
            [
                dx,
                dy,
                dx * u + dy * v,
                dy * u - dx * v,
                dx * u - dy * v,
                dx * v + dy * u,
                -self.values,
                -np.ones_like(dx),
            ],
            1,
        )

    def __len__(self) -> int:
        return len(self.x)

    def fit(
        self, source: Sight, start: np.ndarray | Registration, freedom: Sequence[int] = FREEDOM
    ) -> Registration | None:
        """Find where the template's points lie in a source near `start`; None when too few of them are shown there.

        Start is (3, 3), template → source, or what `judge` said of one. Tries motions of ever more freedom, and keeps
        the simplest that explains the picture.
        """
        best = start if isinstance(start, Registration) else self.judge(source, start)
        if best is None:
            return None
        matrix, in_vain = best.matrix, 0
        for count in freedom:
            if in_vain == 2:  # twice as free and still no better: the start was right
                break
            moved = self._descend(source, matrix, count)
            result = None if moved is None else self.judge(source, moved)
            if moved is None or result is None:
                break
            matrix = moved
            if result.cost < GAIN * best.cost:
                best, in_vain = result, 0
            else:
                in_vain += 1
        return best

    def _descend(self, source: Sight, start: np.ndarray, freedom: int) -> np.ndarray | None:
        """Gauss-Newton over the first `freedom` numbers of a motion, gain and offset."""
        matrix = start.copy()
        gain, bias = 1.0, 0.0
        chosen = [*range(freedom), 6, 7]
        jacobian = self._jacobian[:, chosen]
        for _ in range(ITERATIONS):
            found = self._look(source, matrix)
            if found is None:
                return None
            values, seen = found
            residual = gain * values + bias - self.values
            weights = seen * self._weights(residual, seen)
            weighted = jacobian * weights[:, None]
            normal = weighted.T @ jacobian
            # A flat picture fixes nothing: what is not fixed stays where it was.
            ridge = np.full(freedom + 2, 1e-3 * len(self))
            ridge[-1] = 1e-6 * len(self)
            normal[np.diag_indices(freedom + 2)] += ridge
            found_step = np.linalg.solve(normal, weighted.T @ residual)
            step = np.zeros(8)
            step[chosen] = found_step
            matrix = matrix @ np.linalg.inv(self._motion(step))
            gain, bias = gain + step[6], bias + step[7]
            if np.abs(step[:2]).max() + np.abs(step[2:6]).sum() < CONVERGED:
                break
        return matrix

    def judge(self, source: Sight, matrix: np.ndarray) -> Registration | None:
        """How well a source fits under a given matrix; None when too few points are shown."""
        found = self._look(source, matrix)
        if found is None:
            return None
        values, seen = found
        ours, theirs = self.values[seen], values[seen]
        # Robust gain and offset between the two.
        spread = middle(np.abs(theirs - middle(theirs)))
        gain = middle(np.abs(ours - middle(ours))) / spread if spread > 1 else 1.0
        residual = min(max(gain, 0.5), 2.0) * theirs - ours
        residual -= middle(residual)
        error = 1.4826 * middle(np.abs(residual))
        # Geman and McClure's cost, in the units of the strong edges' slack.
        squares = np.square(residual)
        limit = NOISE**2 + self._slack_squared[seen]
        cost = float((limit * squares / (limit + squares)).mean())
        return Registration(matrix, error, len(ours) / len(seen), cost)

    def agreement(self, source: Sight, matrix: np.ndarray) -> float:
        """Likeness, -1 to 1, of the two pictures' detail under a matrix; 1 where neither has any.

        It is the median over blocks of the picture, so that something moving in a part of it does not tell.
        """
        if len(self) < LEAST_POINTS:
            usable = source.usable > 0
            detail = np.stack([plane[usable] for plane in source.detail])
            return 1.0 if detail.size and float(detail.std()) < FAINT else -1.0
        found = self._look(source, matrix)
        if found is None:
            return -1.0
        _, seen = found
        x, y = project(matrix, self.x, self.y)
        theirs = self._sample(source.detail, x - source.offset[0], y - source.offset[1])[seen]
        rows, columns = self._places
        ours = self._sample(self._view.detail, columns, rows)[seen]
        rows, columns = rows[seen], columns[seen]
        height, width = self._view.usable.shape
        block = rows * BLOCKS // height * BLOCKS + columns * BLOCKS // width
        found_like, weights = [], []
        for number in range(BLOCKS**2):
            inside = block == number
            if inside.sum() < LEAST_POINTS // 3:
                continue
            a, b = ours[inside], theirs[inside]
            if max(a.std(), b.std()) >= FAINT:
                found_like.append(likeness(a, b))
                weights.append(inside.sum())
        if not found_like:
            # Soft pictures have no detail to compare: then how their colours lie.
            theirs = self._sample(source.planes, x - source.offset[0], y - source.offset[1])[seen]
            ours = self._sample(self._view.planes, *self._places[::-1])[seen]
            alike = likeness(ours, theirs)
            # A few soft patches lie alike by chance, as detail hardly does.
            return alike if alike >= SOFT_ALIKE else -1.0
        order = np.argsort(found_like)
        total = np.cumsum(np.array(weights)[order])
        return float(np.array(found_like)[order][np.searchsorted(total, total[-1] / 2)])

    def _weights(self, residual: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Tukey's biweight of residuals (N,), scaled by their median and, on an edge, by what a small shift does."""
        scale = 1.4826 * middle(np.abs(residual[seen][::3]))
        limit = TUKEY**2 * (NOISE**2 + scale**2 + self._slack_squared)
        return np.square(np.maximum(0, 1 - np.square(residual) / limit))

    def _look(self, source: Sight, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """The source's values at the template's points (N,), and which of them it shows (N,) bool."""
        x, y = project(matrix, self.x, self.y)
        x, y = x - source.offset[0], y - source.offset[1]
        height, width = source.usable.shape
        inside = (x >= 0.5) & (x < width - 1.5) & (y >= 0.5) & (y < height - 1.5)
        # What lies outside is read at the corner and left out.
        row, column = np.where(inside, y + 0.5, 0).astype(np.intp), np.where(inside, x + 0.5, 0).astype(np.intp)
        seen = inside & (source.usable[row, column] > 0)
        if np.count_nonzero(seen) < LEAST_POINTS:
            return None
        return self._sample(source.planes, x, y), seen

    def _sample(self, planes: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Three channels (H, W) at the places (N,) of the template's points, each in its channel: (N,) float64."""
        out = np.empty(len(x))
        for plane, (first, end) in zip(planes, pairwise(self._runs), strict=True):
            out[first:end] = sampled(plane, x[first:end], y[first:end], cv2.INTER_CUBIC)
        return out

    def _motion(self, step: np.ndarray) -> np.ndarray:
        """Shift, zoom, turn and two shears about the centre → (3, 3)."""
        (cx, cy), length = self._centre, self._length
        shift_x, shift_y, zoom, turn, stretch, shear = step[:6] / np.array([1, 1, *[length] * 4])
        a, b, c, d = zoom + stretch, shear - turn, shear + turn, zoom - stretch
        return np.array([[1 + a, b, shift_x - a * cx - b * cy], [c, 1 + d, shift_y - c * cx - d * cy], [0, 0, 1]])


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Covariance of two signals (N,) over their mean variance, drawn to 1 where both are hardly more than noise."""
    shared = float(((a - a.mean()) * (b - b.mean())).mean())
    return (shared + FAINT**2) / (float(a.var() + b.var()) / 2 + FAINT**2)


def project(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a (3, 3) matrix takes points."""
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    if g == h == 0:
        return (a * x + b * y + c) / i, (d * x + e * y + f) / i
    depth = g * x + h * y + i
    return (a * x + b * y + c) / depth, (d * x + e * y + f) / depth


def middle(values: np.ndarray) -> float:
    """The median of (N,), the upper of two."""
    half = len(values) // 2
    return float(np.partition(values, half)[half])


def largest_shift(matrix: np.ndarray, extent: tuple[float, float, float, float]) -> float:
    """The farthest that a matrix moves a corner of a box (left, top, right, bottom), in pixels."""
    left, top, right, bottom = extent
    x, y = np.array([left, right, left, right], float), np.array([top, top, bottom, bottom], float)
    to_x, to_y = project(matrix, x, y)
    return float(np.hypot(to_x - x, to_y - y).max())
