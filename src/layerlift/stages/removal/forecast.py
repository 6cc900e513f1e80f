"""What a removal would borrow from other frames and what it would invent, looked at on a small picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.clip.clip import Pixels
from layerlift.evidence import Evidence, EvidenceOptions, State, gather_evidence
from layerlift.masks import Mask
from layerlift.options import RemovalOptions
from layerlift.runtime import Runtime
from layerlift.stages.removal import choose_margin

# The small picture's longer side in pixels: a quarter of the work of a third of its size tells the shares to a few
# hundredths.
SIDE = 480


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was found on the small picture; a context manager whose end closes its file.

    Attributes:
        clip: as it was given, at its own size.
        found: the small picture's evidence.
    """

    clip: Clip
    found: Evidence

    @property
    def borrowed(self) -> float:
        """The share of the hidden pixels that other frames show, 0 to 1."""
        return float(self.found.shares["gathered"])

    @property
    def invented(self) -> float:
        """The share that no frame shows, 0 to 1."""
        return float(self.found.shares["unknown"])

    def states(self) -> Iterator[np.ndarray]:
        """Every frame's `State` at the clip's size, (H, W) uint8; what no frame shows is GENERATED."""
        for small in self.found.states():
            state = np.where(small == State.UNKNOWN, np.uint8(State.GENERATED), small)
            yield cv2.resize(state, (self.clip.width, self.clip.height), interpolation=cv2.INTER_NEAREST_EXACT)

    def __enter__(self) -> Forecast:
        return self

    def __exit__(self, *_: object) -> None:
        self.found.close()


def forecast(clip: Clip, mask: Mask, options: RemovalOptions, runtime: Runtime) -> Forecast:
    """Look at a clip what other frames show of what a mask hides; nothing is filled or generated.

    Raises InputError for a margin that cannot be used.
    """
    dilate = choose_margin(options, clip).dilate
    scale = min(1.0, SIDE / max(clip.width, clip.height))
    size = max(2, round(clip.width * scale)), max(2, round(clip.height * scale))
    with runtime.report.stage("evidence"):
        found = gather_evidence(
            smaller(clip, size), smaller_mask(mask, size), dilate=max(1, round(dilate * scale)),
            options=EvidenceOptions(fills=False), progress=runtime.progress,
        )  # fmt: skip
    return Forecast(clip, found)


def smaller(clip: Clip, size: tuple[int, int]) -> Clip:
    """A clip at another size, (width, height)."""

    def reader(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
        return (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip.reader(start, stop, pixels))

    return replace(clip, width=size[0], height=size[1], reader=reader, samples=None, pictures=None)


def smaller_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another size: what holds a masked pixel is masked."""

    def reader(start: int, stop: int) -> Iterator[np.ndarray]:
        for frame in mask.frames(start, stop):
            yield cv2.resize(frame.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA) > 0

    return replace(mask, width=size[0], height=size[1], reader=reader)
