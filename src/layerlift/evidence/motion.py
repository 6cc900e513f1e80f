"""How the camera moves: every frame's place relative to its shot, from pixels that are not masked; and the shots.

One pass over the clip at reduced size. Each frame is followed from the one before it, then registered directly to a key
frame, so that errors do not add up; a new key frame is taken only when the old one is nearly out of sight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np

from layerlift.ahead import ahead
from layerlift.clip import Clip
from layerlift.evidence.register import Sight, Template, largest_shift
from layerlift.masks import Mask
from layerlift.pixels.arrays import grow
from layerlift.progress import StageProgress

if TYPE_CHECKING:
    from layerlift.jobs.shelf import Shelf

# Motion is followed on frames no longer than this; gathering registers again at full size.
WORKING_SIDE = 432
POINTS = 1200
# What a camera does to a whole picture: shift, zoom and turn.
MOVES = (2, 4)
# Two frames whose aligned detail correlates less belong to different shots.
SAME_SHOT = 0.3
# A key frame serves while it shows this share of a frame's points, with this correlation.
KEY_OVERLAP = 0.6
KEY_AGREEMENT = 0.6
# So many frames may be unlike (a flash, a frame of titles) before a shot is taken to have ended.
FLASH = 3
# Shots whose frames all lie within this many pixels of each other are taken by a camera that stands still.
STILL = 0.12


@dataclass(slots=True)
class Motion:
    """Where the frames of a clip lie.

    Attributes:
        size: (width, height) of the clip's frames.
        poses: a (3, 3) for every frame, taking its pixels into the coordinates of its shot.
        shots: the number of every frame's shot; a frame that belongs to none has a number of its own.
        still_shots: those whose camera does not move.
    """

    size: tuple[int, int]
    poses: list[np.ndarray] = field(default_factory=list)
    shots: list[int] = field(default_factory=list)
    still_shots: set[int] = field(default_factory=set)

    def between(self, target: int, source: int) -> np.ndarray | None:
        """The (3, 3) from pixels of frame `target` to pixels of frame `source`; None across a cut."""
        if self.shots[target] != self.shots[source]:
            return None
        return np.linalg.inv(self.poses[source]) @ self.poses[target]

    def still(self, index: int) -> bool:
        """Whether the camera stands still in the shot of a frame: nothing there is ever resampled."""
        return self.shots[index] in self.still_shots

    def shot_of(self, index: int, reach: int) -> list[int]:
        """Frames of the same shot within `reach` frames of `index`, without it, nearest first."""
        first, last = max(0, index - reach), min(len(self.shots) - 1, index + reach)
        same = [i for i in range(first, last + 1) if i != index and self.shots[i] == self.shots[index]]
        return sorted(same, key=lambda i: (abs(i - index), i))


@dataclass(slots=True)
class _Placed:
    """A frame as motion sees it: reduced, blurred, and where nothing is hidden."""

    index: int
    view: Sight
    template: Template
    pose: np.ndarray = field(default_factory=lambda: np.eye(3))  # in reduced pixels
    shot: int = 0


def reduced_size(clip: Clip) -> tuple[int, int]:
    """The size, (width, height), at which motion is followed."""
    scale = min(1.0, WORKING_SIDE / max(clip.width, clip.height))
    return max(16, round(clip.width * scale)), max(16, round(clip.height * scale))


def covered_by(hidden: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where anything of a reduced frame's pixels is hidden, (h, w) bool; `hidden` (H, W) bool, `size` (w, h)."""
    return cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0


def follow(
    clip: Clip,
    mask: Mask,
    dilate: int,
    progress: StageProgress,
    keep: Callable[[int, np.ndarray, np.ndarray], None] | None = None,
    *,
    shelf: Shelf | None = None,
    kept: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None,
    done: int = 0,
) -> Motion:
    """Read the clip once and place every frame; the mask is grown by `dilate` pixels.

    `keep` is given every frame's number, the frame reduced, (h, w, 3) uint8, and where anything of its pixels is
    hidden, (h, w) bool. A `shelf` is given where every frame lies, and the first `done`, which it has already, are not
    placed again; `kept` returns what `keep` was given of them.
    """
    size = reduced_size(clip)
    # Pixel centres: full-size x lies at (x + ½)·scale - ½.
    sx, sy = size[0] / clip.width, size[1] / clip.height
    reduce = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    enlarge = np.linalg.inv(reduce)

    motion = Motion((clip.width, clip.height))
    track, blind = _Track(), list[int]()  # frames of which nothing is to be seen
    if shelf is not None and kept is not None and done:
        track, blind = _track_on(shelf, kept, motion, done=done, enlarge=enlarge, reduce=reduce)

    def looks() -> Iterator[_Placed]:
        for index, (frame, masked) in enumerate(zip(clip.frames(done), mask.frames(done), strict=True), done):
            small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            covered = covered_by(grow(masked, dilate), size)
            if keep is not None:
                keep(index, small, covered)
            yield _look(index, small, covered)

    for ours in ahead(looks()):
        if ours.view.usable.any():
            track.place(ours)
        else:
            blind.append(ours.index)
        motion.poses.append(enlarge @ ours.pose @ reduce if ours.shot else np.eye(3))
        motion.shots.append(ours.shot)
        if shelf is not None:
            shelf.put(ours.index, ours.pose, track.numbers(ours.shot))
        progress.advance()
    _follow_blindly(motion, blind)
    _settle(motion, clip)
    return motion


class _Track:
    """The frames that the next one is placed by."""

    def __init__(self) -> None:
        self.recent: list[_Placed] = []  # candidates to go on from, newest first
        self.key: _Placed | None = None
        self.shots = 0

    def place(self, ours: _Placed) -> None:
        """Place the next frame in which anything is to be seen."""
        index, before = ours.index, None
        for earlier in self.recent:
            matrix, agreement = _pair(ours, earlier)
            if agreement >= SAME_SHOT:
                before = earlier
                ours.pose, ours.shot = earlier.pose @ matrix, earlier.shot
                break
        if before is None:
            self.shots += 1
            ours.shot, self.key = self.shots, ours
            # What came before stays a candidate for a few frames: it may have been a flash.
            self.recent = [ours, *(old for old in self.recent if index - old.index < FLASH)]
        else:
            if self.key is None or self.key.shot != ours.shot:
                self.key = before
            self.key = _anchor(ours, self.key, before)
            others = (old for old in self.recent if old.shot != ours.shot and index - old.index < FLASH)
            self.recent = [ours, *others]

    def numbers(self, shot: int) -> np.ndarray:
        """What is kept with a frame's pose: its shot, and what the next frame needs to know."""
        key = -1 if self.key is None else self.key.index
        return np.array([shot, self.shots, key, *(old.index for old in self.recent)], np.int64)


def _track_on(
    shelf: Shelf,
    kept: Callable[[int], tuple[np.ndarray, np.ndarray]],
    motion: Motion,
    *,
    done: int,
    enlarge: np.ndarray,
    reduce: np.ndarray,
) -> tuple[_Track, list[int]]:
    """Put the first `done` frames of a shelf into `motion`.

    Returns the track as it was after them, and those of which nothing is seen.
    """
    poses, told = zip(*(shelf.get(index) for index in range(done)), strict=True)
    shots = [int(numbers[0]) for numbers in told]
    motion.shots += shots
    motion.poses += [enlarge @ pose @ reduce if shot else np.eye(3) for pose, shot in zip(poses, shots, strict=True)]

    def placed(index: int) -> _Placed:
        ours = _look(index, *kept(index))
        ours.pose, ours.shot = poses[index], shots[index]
        return ours

    track = _Track()
    _, track.shots, key, *recent = map(int, told[-1])
    again = {index: placed(index) for index in {key, *recent} - {-1}}
    track.key, track.recent = again.get(key), [again[index] for index in recent]
    return track, [index for index, shot in enumerate(shots) if not shot]


def _look(index: int, small: np.ndarray, covered: np.ndarray) -> _Placed:
    view = Sight(small, covered)
    return _Placed(index, view, Template(view, POINTS))


def _pair(ours: _Placed, earlier: _Placed) -> tuple[np.ndarray, float]:
    """Register two frames close in time: the matrix, and how well they agree."""
    direct = ours.template.fit(earlier.view, np.eye(3), MOVES)
    matrix = np.eye(3) if direct is None else direct.matrix
    agreement = ours.template.agreement(earlier.view, matrix)
    if agreement >= KEY_AGREEMENT:
        return matrix, agreement
    # Too far for a descent from where it was, which may also have followed a big thing that moves: follow features, or
    # stay.
    others = [np.eye(3)]
    start = _features(ours, earlier)
    if start is not None:
        moved = ours.template.fit(earlier.view, start, MOVES)
        others += [start] if moved is None else [start, moved.matrix]
    for other in others:
        better = ours.template.agreement(earlier.view, other)
        if better > agreement:
            matrix, agreement = other, better
    return matrix, agreement


def _features(ours: _Placed, earlier: _Placed) -> np.ndarray | None:
    """Motion from corners followed by pyramidal Lucas-Kanade with RANSAC: (3, 3), None when too few agree."""
    gray = _gray(ours.view)
    corners = cv2.goodFeaturesToTrack(gray, 400, 0.01, 6, mask=ours.view.usable)
    if corners is None or len(corners) < 8:
        return None
    moved, status, _ = cv2.calcOpticalFlowPyrLK(gray, _gray(earlier.view), corners, None, winSize=(21, 21), maxLevel=4)
    kept = status.ravel() > 0
    if kept.sum() < 8:
        return None
    affine, inliers = cv2.estimateAffinePartial2D(
        corners[kept], moved[kept], method=cv2.RANSAC, ransacReprojThreshold=1.5
    )
    if affine is None or inliers.sum() < 8:
        return None
    return np.vstack([affine, [0, 0, 1]])


def _anchor(ours: _Placed, key: _Placed, before: _Placed) -> _Placed:
    """Register a placed frame directly to the key frame; returns the key frame to go on with."""
    if key is not before:
        start = np.linalg.inv(key.pose) @ ours.pose
        direct = ours.template.fit(key.view, start, MOVES)
        if direct is None or direct.overlap < KEY_OVERLAP:
            return before
        if ours.template.agreement(key.view, direct.matrix) < KEY_AGREEMENT:
            return before
        ours.pose = key.pose @ direct.matrix
    return key


def _follow_blindly(motion: Motion, blind: list[int]) -> None:
    """Frames that are hidden wholly lie where the nearest frame lies that is not."""
    seen = sorted(set(range(len(motion.shots))) - set(blind))
    for index in blind if seen else []:
        nearest = min(seen, key=lambda other: (abs(other - index), other))
        motion.poses[index], motion.shots[index] = motion.poses[nearest], motion.shots[nearest]


def _settle(motion: Motion, clip: Clip) -> None:
    """Shots from a camera that stands still get exactly no motion: their pixels are taken without resampling."""
    extent = (0.0, 0.0, clip.width - 1.0, clip.height - 1.0)
    for shot in set(motion.shots):
        frames = [index for index, its in enumerate(motion.shots) if its == shot]
        first = np.linalg.inv(motion.poses[frames[0]])
        if all(largest_shift(first @ motion.poses[index], extent) < STILL for index in frames):
            for index in frames:
                motion.poses[index] = np.eye(3)
            motion.still_shots.add(shot)


def _gray(view: Sight) -> np.ndarray:
    return cv2.cvtColor(cv2.merge(view.planes), cv2.COLOR_RGB2GRAY)
