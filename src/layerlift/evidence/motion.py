"""How the camera moves: every frame's place relative to its shot, from pixels that are not masked; and the shots.

One pass over the clip at reduced size. Each frame is followed from the one before it, then registered directly to a key
frame, so that errors do not add up; a new key frame is taken only when the old one is nearly out of sight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from layerlift.ahead import ahead
from layerlift.clip import Clip
from layerlift.evidence.register import Sight, Template, largest_shift
from layerlift.masks import Mask
from layerlift.pixels.arrays import grow
from layerlift.progress import StageProgress

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
    keep: Callable[[np.ndarray, np.ndarray], None] | None = None,
) -> Motion:
    """Read the clip once and place every frame; the mask is grown by `dilate` pixels.

    `keep` is given every reduced frame, (h, w, 3) uint8, and where anything of its pixels is hidden, (h, w) bool.
    """
    size = reduced_size(clip)
    # Pixel centres: full-size x lies at (x + ½)·scale - ½.
    sx, sy = size[0] / clip.width, size[1] / clip.height
    reduce = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    enlarge = np.linalg.inv(reduce)

    motion = Motion((clip.width, clip.height))
    recent: list[_Placed] = []  # candidates to go on from, newest first
    key: _Placed | None = None
    blind: list[int] = []  # frames of which nothing is to be seen
    shots = 0
    pairs = enumerate(zip(clip.frames(), mask.frames(), strict=True))
    for ours in ahead(_look(index, frame, grow(masked, dilate), size, keep) for index, (frame, masked) in pairs):
        index, before = ours.index, None
        if not ours.view.usable.any():
            blind.append(index)
            motion.poses.append(np.eye(3))
            motion.shots.append(0)
            progress.advance()
            continue
        for earlier in recent:
            matrix, agreement = _pair(ours, earlier)
            if agreement >= SAME_SHOT:
                before = earlier
                ours.pose, ours.shot = earlier.pose @ matrix, earlier.shot
                break
        if before is None:
            shots += 1
            ours.shot, key = shots, ours
            # What came before stays a candidate for a few frames: it may have been a flash.
            recent = [ours, *(old for old in recent if index - old.index < FLASH)]
        else:
            if key is None or key.shot != ours.shot:
                key = before
            key = _anchor(ours, key, before)
            recent = [ours, *(old for old in recent if old.shot != ours.shot and index - old.index < FLASH)]
        motion.poses.append(enlarge @ ours.pose @ reduce)
        motion.shots.append(ours.shot)
        progress.advance()
    _follow_blindly(motion, blind)
    _settle(motion, clip)
    return motion


def _look(
    index: int,
    frame: np.ndarray,
    hidden: np.ndarray,
    size: tuple[int, int],
    keep: Callable[[np.ndarray, np.ndarray], None] | None,
) -> _Placed:
    covered = covered_by(hidden, size)
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    if keep is not None:
        keep(small, covered)
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
