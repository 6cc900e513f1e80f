"""How bright the frames of a shot are next to each other: fades, flashes, flicker, a camera that adjusts itself.

A frame shows the shot's scene as ``gain · scene + bias``, for every channel. Frames are compared with those just
before them, along the camera's motion. One that is as bright as a frame before it has exactly its exposure, so that a
steady clip stays untouched, and what follows a flash is what was there before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from layerlift.evidence.align import robust_lines
from layerlift.evidence.motion import Motion
from layerlift.evidence.proxies import Proxies

# Frames are compared on pictures this many times smaller, which a motion that is a little off does not matter to.
SCALE = 4
# Pixels as bright as this may be cut off.
BRIGHTEST = 251
LEAST_POINTS = 200
# Frames are equally bright where the middle and the ends of their range differ by fewer levels of 255.
MIDDLE_EVEN, ENDS_EVEN = 0.5, 1.0
# Another exposure has to bring the difference under this share.
EXPLAINS = 0.8
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


def find_exposures(proxies: Proxies, motion: Motion) -> Exposures:
    """Compare every frame with those just before it in its shot."""
    found = Exposures()
    recent: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for index in range(proxies.count):
        recent[index] = _look(*proxies[index])
        recent.pop(index - BEFORE - 1, None)
        gain, bias = np.ones(3, np.float32), np.zeros(3, np.float32)
        earlier = [at for at in recent if at < index and motion.shots[at] == motion.shots[index]][::-1]
        changes: dict[int, Change | None] = {}
        for at in earlier:
            changes[at] = _compare(recent[at], recent[index], _reduced(motion, index, at, proxies.size))
            if changes[at] is None:  # equally bright
                gain, bias = found.gains[at], found.biases[at]
                break
        else:
            if earlier:
                change, gain, bias = changes[earlier[0]], found.gains[earlier[0]], found.biases[earlier[0]]
                assert change is not None
                gain, bias = change.gain * gain, change.gain * bias + change.bias
        found.gains.append(gain)
        found.biases.append(bias)
    return found


def _look(frame: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A frame (h, w, 3) uint8 made small, float32, and where it shows something that is not cut off, (h', w') uint8."""
    size = max(1, frame.shape[1] // SCALE), max(1, frame.shape[0] // SCALE)
    usable = (~hidden & (frame.max(2) < BRIGHTEST)).astype(np.float32)
    usable = cv2.resize(usable, size, interpolation=cv2.INTER_AREA) > 1 - 1e-3
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32), usable.view(np.uint8)


def _reduced(motion: Motion, target: int, source: int, size: tuple[int, int]) -> np.ndarray:
    """The (3, 3) between two frames, of the small pictures' pixels."""
    matrix = motion.between(target, source)
    assert matrix is not None
    sx, sy = (max(1, side // SCALE) / full for side, full in zip(size, motion.size, strict=True))
    # Pixel centres: full-size x lies at (x + ½)·scale - ½.
    reduce = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return np.asarray(reduce @ matrix @ np.linalg.inv(reduce))


def _compare(
    earlier: tuple[np.ndarray, np.ndarray], later: tuple[np.ndarray, np.ndarray], matrix: np.ndarray
) -> Change | None:
    """What makes the later picture of the earlier one, which `matrix` leads to; None where they are equally bright."""
    size = later[1].shape[1], later[1].shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(earlier[0], matrix, size, flags=flags)
    there = cv2.warpPerspective(earlier[1], matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    both = (there > 0) & (later[1] > 0)
    if np.count_nonzero(both) < LEAST_POINTS:
        return None
    x, y = moved[both].T.astype(np.float64), later[0][both].T.astype(np.float64)  # (3, N)
    # What shows more contrast tells how the other follows from it; never the other way round.
    turned = y.std() > x.std()
    gain, bias = robust_lines(*((y, x) if turned else (x, y)), limit=np.inf)
    if turned:
        gain = np.maximum(gain, 1 / DARKEST**2)
        gain, bias = 1 / gain, -bias / gain
    else:
        gain = np.maximum(gain, 1 / DARKEST**2)
    middle = np.abs(np.median(y - x, axis=1))
    ends = np.quantile(x, (0.1, 0.9), axis=1)
    if (middle < MIDDLE_EVEN).all() and (np.abs(gain * ends + bias - ends) < ENDS_EVEN).all():
        return None
    left = np.median(np.abs(y - gain[:, None] * x - bias[:, None]), axis=1).mean()
    if left > EXPLAINS * np.median(np.abs(y - x), axis=1).mean():
        return None
    return Change(gain.astype(np.float32), bias.astype(np.float32))
