"""What of the samples is trusted: passers-by are left out, and where samples contradict each other nothing is gathered.

Samples are compared after a blur. Waves and leaves differ from moment to moment, but average out; a passer-by, a shadow
that wanders or a picture that does not fit differs as a whole.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from layerlift.evidence.align import Aligned
from layerlift.evidence.combine import Combined
from layerlift.evidence.join import misfit
from layerlift.evidence.motion import Motion
from layerlift.evidence.region import Box, Region
from layerlift.pixels.arrays import distance_to, spread

# Comparison is done on a smaller picture: half the size, or about so many pixels high if that is less; and after a mean
# over so many of those pixels.
COMPARED_HEIGHT = 240
BLUR = 5
# A mean over fewer of its pixels than this share says too little.
SHOWN = 0.7
# Samples further than this many levels of 255 from the middle one are left out.
DISAGREE = 14.0
# When more than this share of a pixel's samples is left out, nobody knows which are right.
MINORITY = 0.4
# Gathered pixels that miss the clip's own by more than this beside the mask, after a blur, do not belong there...
SEAM = 18.0
SEAM_BLUR = 3.0
# ... as far inside as this many pixels.
SEAM_REACH = 24
# Doubted regions narrower than this many pixels are let pass.
SPECK = 7
# What was doubted in the frame before stays doubted above this share of the limits.
STAY = 0.7


class Decider:
    """Decides frame after frame, and keeps to what it has decided unless there is a reason."""

    def __init__(self, motion: Motion) -> None:
        self._motion = motion
        self._doubted: tuple[int, np.ndarray] | None = None  # frame, (H, W) bool
        self._now: np.ndarray | None = None
        self._scale = 2

    def begin(self, shape: tuple[int, int]) -> None:
        """A new frame (H, W) begins."""
        self._now = np.zeros(shape, bool)
        self._scale = max(2, round(min(shape) / COMPARED_HEIGHT))

    def end(self, present: int) -> None:
        """All boxes of a frame are decided."""
        assert self._now is not None
        self._doubted = present, self._now

    @property
    def doubted(self) -> np.ndarray:
        """What was doubted in the frame decided last, (H, W) bool."""
        assert self._doubted is not None
        return self._doubted[1]

    def go_on(self, present: int, doubted: np.ndarray) -> None:
        """Go on after a frame in which an earlier decider `doubted` this, (H, W) bool."""
        self._doubted = present, doubted

    def leave_out(self, samples: Aligned) -> tuple[Aligned, np.ndarray]:
        """Samples without those that contradict the others, and how far the others contradict (h, w) float32."""
        height, width = (int(length) for length in samples.valid.shape[1:])
        size = max(1, width // self._scale), max(1, height // self._scale)
        low = np.empty((len(samples.sources), size[1], size[0]), np.float32)
        gain, bias = samples.gain.mean(1), samples.bias.mean(1)
        for at, (picture, valid) in enumerate(zip(samples.pictures, samples.valid, strict=True)):
            shown = valid.view(np.uint8) * np.uint8(255)
            gray = cv2.bitwise_and(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), shown)
            blurred, mass = (
                cv2.boxFilter(cv2.resize(part, size, interpolation=cv2.INTER_AREA), cv2.CV_32F, (BLUR, BLUR))
                for part in (gray, shown)
            )
            mass /= 255
            low[at] = np.where(mass > SHOWN, gain[at] * blurred / np.maximum(mass, SHOWN) + bias[at], np.inf)
        there = np.isfinite(low)
        count = there.sum(0)
        place = np.maximum(count - 1, 0)[None] // 2
        middle = np.take_along_axis(np.sort(low, 0), place, 0)[0]
        apart = np.where(there, np.abs(low - np.where(count > 0, middle, 0)), 0)
        off = apart > DISAGREE
        # Of two nobody knows which is right.
        share = off.sum(0) / np.maximum(count, 1)
        far = apart.max(0) * ((count == 2) | (share > MINORITY))
        off &= (count > 2) & (share <= MINORITY)
        valid = samples.valid.copy()
        for at in range(len(off)):
            if not off[at].any():
                continue
            larger = cv2.resize(off[at].astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
            valid[at] &= larger == 0
        doubt = cv2.resize(far.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        return replace(samples, valid=valid), doubt

    def sure(self, found: Combined, doubt: np.ndarray, region: Region, present: int) -> np.ndarray:
        """Which pixels of a region are gathered, (h, w) bool; `doubt` (h, w) float32 is what `leave_out` says."""
        hidden, box = region.hidden, region.box
        step = seam_step(found.values, region.truth, ~hidden & found.any_sample, self._scale)
        step *= distance_to(~hidden) <= SEAM_REACH
        worst = np.maximum(doubt / DISAGREE, step / SEAM)
        limit = np.where(self._doubted_before(present, box, hidden.shape), STAY, 1.0)
        doubted = (hidden & found.any_sample & (worst > limit)).astype(np.uint8)
        # Specks are not worth a token each: an edge that wavers, not a thing.
        doubted = cv2.morphologyEx(doubted, cv2.MORPH_OPEN, np.ones((SPECK, SPECK), np.uint8)) > 0
        assert self._now is not None
        left, top, right, bottom = box
        self._now[top:bottom, left:right] |= doubted
        return hidden & found.any_sample & ~doubted

    def _doubted_before(self, present: int, box: Box, shape: tuple[int, ...]) -> np.ndarray:
        if self._doubted is None or self._doubted[0] != present - 1:
            return np.zeros(shape, bool)
        matrix = self._motion.between(present, present - 1)
        if matrix is None:
            return np.zeros(shape, bool)
        from_box = matrix @ np.array([[1, 0, box[0]], [0, 1, box[1]], [0, 0, 1.0]])
        moved = cv2.warpPerspective(
            self._doubted[1].astype(np.uint8),
            from_box,
            (shape[1], shape[0]),
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        )
        return moved > 0


def seam_step(values: np.ndarray, truth: np.ndarray, known: np.ndarray, scale: int) -> np.ndarray:
    """How far values miss the truth where it is known, blurred and continued over the mask: (h, w) float32.

    Measured on a picture `scale` times smaller.
    """
    missed, there = misfit(values, truth, known, scale=scale, blur=SEAM_BLUR)
    step = np.abs(spread(missed, there.astype(np.float32)))
    largest = np.maximum(np.maximum(step[..., 0], step[..., 1]), step[..., 2])
    return cv2.resize(largest, (known.shape[1], known.shape[0]), interpolation=cv2.INTER_LINEAR)
