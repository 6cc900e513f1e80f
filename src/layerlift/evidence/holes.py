"""Which holes in the evidence are worth a model: shallow ones are continued from around them better than generated.

A hole is followed through time, so that it is not inpainted in one frame and generated in the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from layerlift.evidence.state import State
from layerlift.pixels.arrays import distance_to


class ShallowHoles:
    """The holes of a clip that are nowhere deeper than `depth` pixels: no pixel of theirs, in any frame, lies farther
    than that from one that is known.

    Made by one pass over the states of all frames, of which it keeps a few numbers each.
    """

    def __init__(self, states: Iterable[np.ndarray], depth: float) -> None:
        """`states`: `State` (H, W) uint8 of every frame, in order."""
        self._tracks: list[int] = []  # of a union-find forest: each track's parent
        self._depths: list[float] = []
        self._holes: list[list[int]] = []  # for every frame the tracks of its holes, by label
        self._depth = depth
        before: np.ndarray | None = None
        for state in states:
            labels = self._add_frame(state, before)
            before = labels

    def settle(
        self, frames: Iterable[tuple[np.ndarray, np.ndarray]], start: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Settle the shallow holes of frames (H, W, 3) uint8 with their `State` (H, W) uint8: they stay as filled.

        The first is frame `start`.

        Yields the same frames with GENERATED there; deeper holes stay UNKNOWN.
        """
        for index, (frame, state) in enumerate(frames, start):
            inside = self._inside(index, state)
            yield frame, np.where(inside, np.uint8(State.GENERATED), state) if inside.any() else state

    def left(self, index: int, state: np.ndarray) -> np.ndarray:
        """Where frame `index` with its states (H, W) uint8 has deeper holes, (H, W) bool."""
        return np.asarray((state == State.UNKNOWN) & ~self._inside(index, state))

    def _inside(self, index: int, state: np.ndarray) -> np.ndarray:
        """The pixels of the shallow holes of a frame, (H, W) bool."""
        shallow = [label for label, track in enumerate(self._holes[index], 1) if self._is_shallow(track)]
        if not shallow:
            return np.zeros(state.shape, bool)
        _, labels = _label(state)
        return np.isin(labels, shallow)

    def _add_frame(self, state: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        count, labels = _label(state)
        depth = distance_to(state != State.UNKNOWN)
        tracks = []
        for label in range(1, count):
            inside = labels == label
            track = len(self._tracks)
            self._tracks.append(track)
            self._depths.append(float(depth[inside].max()))
            if before is not None:
                for other in np.unique(before[inside]):
                    if other:
                        self._join(track, self._holes[-1][other - 1])
            tracks.append(track)
        self._holes.append(tracks)
        return labels

    def _root(self, track: int) -> int:
        while self._tracks[track] != track:
            self._tracks[track] = self._tracks[self._tracks[track]]
            track = self._tracks[track]
        return track

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        self._tracks[one] = other
        self._depths[other] = max(self._depths[one], self._depths[other])

    def _is_shallow(self, track: int) -> bool:
        return self._depths[self._root(track)] <= self._depth


def _label(state: np.ndarray) -> tuple[int, np.ndarray]:
    """Number of labels, 0 among them, and the label of every pixel (H, W) int32; 0 where nothing is unknown."""
    count, labels = cv2.connectedComponents((state == State.UNKNOWN).astype(np.uint8), connectivity=8)
    return count, labels
