"""How bright the frames of a shot are next to each other: fades, flashes, flicker, a camera that adjusts itself.

A frame shows the shot's scene as ``gain · scene + bias``, for every channel. Frames are compared with those just
before them, along the camera's motion. One that is as bright as a frame before it has exactly its exposure, so that a
steady clip stays untouched, and what follows a flash is what was there before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np

from layerlift.evidence.motion import Motion
from layerlift.evidence.proxies import Proxies
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.progress import QUIET, StageProgress

# Frames are compared by means over squares of so many pixels.
SCALE = 4
# Pixels as bright as this may be cut off.
BRIGHTEST = 251
LEAST_POINTS = 200
# Frames are equally bright where the quantiles of what both show differ by fewer levels of 255 in the mean...
QUANTILES = np.linspace(0.05, 0.95, 19)
EVEN = 0.75
# ... or where another exposure leaves more than this share of that.
EXPLAINS = 0.5
# Pairs fit that miss a line by so many times what half of them do.
FITTING = 1.5
# A contrast of so little variance tells no gain.
FLAT = 1.0
# So many frames before are compared: a flash may lie between.
BEFORE = 3
# A frame this many times darker shows nothing of use to another.
DARKEST = 8.0
# Levels of 255 by which every frame may be off, which grow as it is brightened.
NOISE = 1.0


@dataclass(frozen=True, slots=True)
class Change:
    """From one frame's exposure to another's: ``gain · colours + bias``, (3,) float32 each."""

    gain: np.ndarray
    bias: np.ndarray

    def apply(self, colours: np.ndarray) -> np.ndarray:
        """Colours (..., 3) in the other exposure: float32, or uint8 for uint8."""
        changed = colours * self.gain + self.bias
        if colours.dtype == np.uint8:
            return np.clip(np.rint(changed), 0, 255).astype(np.uint8)
        return np.asarray(changed, np.float32)

    @property
    def worth(self) -> float:
        """What a level of the one exposure is in the other."""
        return float(self.gain.mean())


@dataclass(frozen=True, slots=True)
class Exposures:
    """The exposures of a clip's frames: gain and bias (3,) each that make of the scene what a frame shows of it."""

    gains: list[np.ndarray] = field(default_factory=list)
    biases: list[np.ndarray] = field(default_factory=list)

    def between(self, source: int, target: int) -> Change | None:
        """From one frame of a shot to another; None where they are equally bright."""
        if self.gains[source] is self.gains[target]:
            return None
        gain = self.gains[target] / self.gains[source]
        return Change(gain, self.biases[target] - gain * self.biases[source])

    def shows(self, source: int, target: int) -> bool:
        """Whether a frame is bright enough to tell anything about another."""
        return self.gains[source] is self.gains[target] or bool(
            (self.gains[target] <= DARKEST * self.gains[source]).all()
        )


def find_exposures(
    proxies: Proxies, motion: Motion, progress: StageProgress = QUIET, keeper: Keeper = TEMPORARY
) -> Exposures:
    """Compare every frame with those just before it in its shot; `progress` is asked at each whether to go on."""
    found = Exposures()
    with keeper.shelf("exposures") as shelf:
        for index in range(len(shelf)):
            gain, bias, number = shelf.get(index)
            # Frames that are equally bright share their arrays.
            like = int(number)
            found.gains.append(found.gains[like] if like < index else gain)
            found.biases.append(found.biases[like] if like < index else bias)
        start = len(shelf)
        recent = {index: _look(*proxies[index]) for index in range(max(0, start - BEFORE), start)}
        for index in range(start, proxies.count):
            progress.advance(0)
            recent[index] = _look(*proxies[index])
            recent.pop(index - BEFORE - 1, None)
            like = _add(found, index, recent, motion, proxies.size)
            shelf.put(index, found.gains[index], found.biases[index], np.array(like))
    return found


def _add(
    found: Exposures,
    index: int,
    recent: Mapping[int, tuple[np.ndarray, np.ndarray]],
    motion: Motion,
    size: tuple[int, int],
) -> int:
    """Add a frame's exposure; returns the number of the frame whose arrays it shares, its own where it has its own."""
    like, gain, bias = index, np.ones(3, np.float32), np.zeros(3, np.float32)
    earlier = [at for at in recent if at < index and motion.shots[at] == motion.shots[index]][::-1]
    changes: dict[int, Change | None] = {}
    for at in earlier:
        changes[at] = _compare(recent[at], recent[index], _between(motion, index, at, size))
        if changes[at] is None:  # equally bright
            like, gain, bias = at, found.gains[at], found.biases[at]
            break
    else:
        if earlier:
            change, gain, bias = changes[earlier[0]], found.gains[earlier[0]], found.biases[earlier[0]]
            assert change is not None
            gain, bias = change.gain * gain, change.gain * bias + change.bias
    found.gains.append(gain)
    found.biases.append(bias)
    return like


def _look(frame: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A frame (h, w, 3) uint8, and where it shows something that is not cut off, (h, w) uint8."""
    return frame, (~hidden & (frame.max(2) < BRIGHTEST)).view(np.uint8)


def _between(motion: Motion, target: int, source: int, size: tuple[int, int]) -> np.ndarray:
    """The (3, 3) between two frames, of reduced pixels; `size` (w, h)."""
    matrix = motion.between(target, source)
    assert matrix is not None
    sx, sy = (side / full for side, full in zip(size, motion.size, strict=True))
    # Pixel centres: full-size x lies at (x + ½)·scale - ½.
    reduce = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return np.asarray(reduce @ matrix @ np.linalg.inv(reduce))


def _compare(
    earlier: tuple[np.ndarray, np.ndarray], later: tuple[np.ndarray, np.ndarray], matrix: np.ndarray
) -> Change | None:
    """What makes the later picture of the earlier one, which `matrix` leads to; None where they are equally bright."""
    height, width = later[1].shape
    flags = cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(earlier[0], matrix, (width, height), flags=cv2.INTER_LINEAR | flags)
    there = cv2.warpPerspective(earlier[1], matrix, (width, height), flags=cv2.INTER_NEAREST | flags)
    # Resampling takes contrast from one of them: means over squares keep theirs.
    size = max(1, width // SCALE), max(1, height // SCALE)
    both = cv2.resize((there & later[1]).astype(np.float32), size, interpolation=cv2.INTER_AREA) > 1 - 1e-3
    if np.count_nonzero(both) < LEAST_POINTS:
        return None
    x, y = (
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA)[both].T.astype(np.float32)
        for picture in (moved, later[0])
    )  # (3, N)
    # Distributions are compared, not pairs: where a motion is a little off, a line through pairs comes out too flat.
    ours, theirs = (np.quantile(values, QUANTILES, axis=1).T for values in (y, x))  # (3, Q)
    apart = np.abs(ours - theirs).mean(1)
    if (apart < EVEN).all():
        return None
    gain, bias = _line(theirs, ours)
    if np.abs(ours - gain * theirs - bias).mean() > EXPLAINS * apart.mean():
        return None
    # The same again of the pairs that fit: what moved or was uncovered tells nothing.
    off = np.abs(y - gain * x - bias).max(0)
    fits = off <= FITTING * np.median(off) + 1
    gain, bias = _line(x[:, fits], y[:, fits])
    if np.abs(y - gain * x - bias).mean() > np.abs(y - x).mean():
        return None
    return Change(gain[:, 0].astype(np.float32), bias[:, 0].astype(np.float32))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and bias, (3, 1) each, that give x the mean and the contrast of y, (3, N) each."""
    mean_x, mean_y = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
    contrast_x, contrast_y = (np.square(part).mean(1, keepdims=True) for part in (x - mean_x, y - mean_y))
    gain = np.sqrt((contrast_y + FLAT) / (contrast_x + FLAT))
    return gain, mean_y - gain * mean_x
