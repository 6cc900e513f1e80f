"""A clip at the working size: what tracking needs of every frame, and which frames are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.evidence.motion import follow, reduced_size
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.masks import Mask
from layerlift.progress import Progress
from layerlift.stages.segment.base import Target
from layerlift.stages.spool import FrameSpool

# Frames from one keyframe to the next.
EVERY = 4


class Survey:
    """A clip at the working size: every frame in grey, and which shot it belongs to. A context manager.

    Attributes:
        shots: the number of every frame's shot.
    """

    def __init__(self, clip: Clip, progress: Progress, keeper: Keeper = TEMPORARY) -> None:
        self._clip = clip
        with ExitStack() as files:
            self._grey = files.enter_context(FrameSpool(keeper.shelf("grey")))
            with progress.stage("motion", clip.frame_count) as bar, keeper.shelf("motion") as placed:
                done = min(len(placed), len(self._grey))
                keeper.skip(bar, "motion", done)
                motion = follow(
                    clip, nothing_masked(clip), 0, bar, self._keep, shelf=placed, kept=self._kept, done=done
                )
            self.shots = motion.shots
            self._files = files.pop_all()

    def _keep(self, index: int, small: np.ndarray, _: np.ndarray) -> None:
        if index == len(self._grey):  # an earlier process may have kept it, and not where it lies
            self._grey.append(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))

    def _kept(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """What `_keep` was given: few frames are asked for, and only their grey was kept."""
        frame = next(self._clip.frames(index, index + 1))
        small = cv2.resize(frame, working_size(self._clip), interpolation=cv2.INTER_AREA)
        return small, np.zeros(small.shape[:2], np.bool_)

    def grey(self, index: int) -> np.ndarray:
        """A frame, (h, w) uint8."""
        return next(self._grey.frames(index, index + 1))

    def __enter__(self) -> Survey:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()


def keyframes(count: int, shots: Sequence[int], targets: Sequence[Target]) -> list[int]:
    """The frames to look at: every few, those that were touched, and the first and last of every shot."""
    keys = {*range(0, count, EVERY), count - 1}
    keys |= {index for target in targets for index in target.touched}
    for index in range(1, count):
        if shots[index] != shots[index - 1]:
            keys |= {index - 1, index}
    return sorted(keys)


def chosen_frames(clip: Clip, chosen: Sequence[int]) -> Iterator[np.ndarray]:
    """The frames of these rising numbers, in one pass."""
    if not chosen:
        return
    wanted = set(chosen)
    for index, frame in enumerate(clip.frames(chosen[0], chosen[-1] + 1), chosen[0]):
        if index in wanted:
            yield frame


def nothing_masked(clip: Clip) -> Mask:
    """A mask of a clip that hides nothing."""
    nothing = np.zeros((clip.height, clip.width), np.bool_)
    return Mask(clip.width, clip.height, clip.frame_count, lambda start, stop: (nothing for _ in range(start, stop)))


def working_size(clip: Clip) -> tuple[int, int]:
    """The (width, height) at which masks are followed."""
    return reduced_size(clip)
