"""One frame's hidden pixels continued from around them: a smooth surface, with the slopes of what it joins.

Near its border a hole takes up how its surroundings change (the surface of least squared Laplacian, a thin plate); deep
inside, where a slope would be carried on too far, the membrane between its borders takes over (Laplace's equation). On
frames of real clips this comes closer to the truth than Telea's or Bertalmío's methods at every depth.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from layerlift.pixels.arrays import bounds, distance_to, spread

# The plate's share falls to a third at this depth, in pixels.
PLATE_DEPTH = 5.0
# Larger holes (pixels) are filled on a smaller picture, whose surface meets the full one's border afterwards.
LARGEST = 2000
# Pixels around a hole that tell it all there is to know.
CONTEXT = 4
# So many systems of equations are kept: a mask that stays where it is needs only one.
KEPT = 2
# The plate's equations alone may leave a hole of one pixel's height undetermined.
RIDGE = 1e-6

NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))

# Factorised equations, and what makes their right side of a whole picture.
System = tuple[scipy.sparse.linalg.SuperLU, scipy.sparse.csr_matrix]


def inpaint(frame: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """A frame (h, w, 3) uint8 whose pixels `hidden` (h, w) bool continue what is around them.

    A frame that is hidden everywhere or nowhere stays as it is.
    """
    spot = bounds(hidden)
    if spot is None or hidden.all():
        return frame
    height, width = hidden.shape
    left, top = max(0, spot[0] - CONTEXT), max(0, spot[1] - CONTEXT)
    right, bottom = min(width, spot[2] + CONTEXT), min(height, spot[3] + CONTEXT)
    part, hole = frame[top:bottom, left:right], hidden[top:bottom, left:right]
    shrink = float(np.sqrt(LARGEST / np.count_nonzero(hole)))
    if shrink >= 1:
        filled = surface(part, hole)
    else:
        size = max(1, round(hole.shape[1] * shrink)), max(1, round(hole.shape[0] * shrink))
        small_hole = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        if small_hole.all():
            filled = spread(part.astype(np.float32), (~hole).astype(np.float32))
        else:
            small = surface(cv2.resize(part, size, interpolation=cv2.INTER_AREA), small_hole)
            filled = part.astype(np.float32)
            filled[hole] = enlarge(small, part, hole)
    out = frame.copy()
    out[top:bottom, left:right][hole] = np.clip(np.rint(filled[hole]), 0, 255)
    return out


def enlarge(small: np.ndarray, frame: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """A surface made on a smaller picture, (h', w', 3), in the N `hidden` pixels (h, w) bool of a frame (h, w, 3).

    What it misses the frame by just outside of them is taken off smoothly inwards: (N, 3) float32.
    """
    height, width = hidden.shape
    spot = bounds(hidden)
    assert spot is not None
    box = np.s_[max(0, spot[1] - CONTEXT) : spot[3] + CONTEXT, max(0, spot[0] - CONTEXT) : spot[2] + CONTEXT]
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)[box].astype(np.float32)
    hole = hidden[box]
    ring = ~hole & (cv2.dilate(hole.view(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    # What is missed is smooth: half the size shows all of it.
    size = max(1, hole.shape[1] // 2), max(1, hole.shape[0] // 2)
    weight = cv2.resize(ring.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    missed = cv2.resize((frame[box] - large) * ring[..., None], size, interpolation=cv2.INTER_AREA)
    missed = spread(missed / np.maximum(weight, 1e-3)[..., None], (weight > 0).astype(np.float32))
    missed = cv2.resize(missed, (hole.shape[1], hole.shape[0]), interpolation=cv2.INTER_LINEAR)
    return large[hole] + missed[hole]


def surface(frame: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The hidden pixels as plate and membrane: (h, w, 3) float32, elsewhere the frame."""
    systems = _systems(np.packbits(hidden).tobytes(), hidden.shape)
    known = frame.reshape(-1, 3).astype(np.float64)
    plate, membrane = (solver.solve(outside @ known) for solver, outside in systems)
    share = np.exp(-distance_to(~hidden)[hidden] / PLATE_DEPTH)[:, None]
    out = frame.astype(np.float32)
    out[hidden] = share * plate + (1 - share) * membrane
    return out


@lru_cache(maxsize=KEPT)
def _systems(bits: bytes, shape: tuple[int, int]) -> tuple[System, System]:
    """For plate and membrane: the factorised equations of N hidden pixels, and (N, h·w) that makes their right side."""
    height, width = shape
    hidden = np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width).reshape(shape) > 0
    places = np.flatnonzero(hidden)
    known = scipy.sparse.diags((~hidden).ravel().astype(float))
    near = _laplacian(np.flatnonzero(cv2.dilate(hidden.view(np.uint8), np.ones((3, 3), np.uint8))), shape)
    own = _laplacian(places, shape)
    plate = near[:, places].T @ near[:, places] + RIDGE * scipy.sparse.eye(len(places))
    return (
        (factorised(plate), (-near[:, places].T @ near @ known).tocsr()),
        (factorised(own[:, places]), (-own @ known).tocsr()),
    )


def factorised(equations: scipy.sparse.spmatrix) -> scipy.sparse.linalg.SuperLU:
    """Symmetric equations, ready to be solved: taken as such they fill up less than by SuperLU's defaults."""
    return scipy.sparse.linalg.splu(
        equations.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )


def _laplacian(places: np.ndarray, shape: tuple[int, int]) -> scipy.sparse.csr_matrix:
    """The five-point Laplacian at M places of a picture, (M, h·w); the picture's edge repeats beyond it."""
    height, width = shape
    y, x = places // width, places % width
    rows = np.arange(len(places))
    count = len(NEIGHBOURS)
    columns = [np.clip(y + dy, 0, height - 1) * width + np.clip(x + dx, 0, width - 1) for dy, dx in NEIGHBOURS]
    values = np.concatenate([np.full(len(places), -float(count)), np.ones(count * len(places))])
    return scipy.sparse.csr_matrix(
        (values, (np.tile(rows, count + 1), np.concatenate([places, *columns]))), (len(places), height * width)
    )
