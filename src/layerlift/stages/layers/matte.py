"""How much of a pixel is the object: closed-form matting in a narrow band, with the plate behind it known.

A matte from a trimap alone has to guess both colours of an edge pixel. Here the background is known, and the object's
own colour is known a few pixels further in, so every pixel of the band has a least-squares alpha of its own; the
matting Laplacian of Levin, Lischinski and Weiss, *A Closed-Form Solution to Natural Image Matting* (2008), says how
neighbours go together. Only windows that touch the band are built, a few thousand unknowns a frame, which SciPy solves
directly: PyMatting builds the same Laplacian, but compiles for minutes when it is first imported.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from layerlift.pixels.arrays import distance_to, grow, spread

# Weight of a pixel's own least-squares alpha against its neighbours', per squared distance of the two colours.
DATA_WEIGHT = 1.0
# Regularises a window's 3x3 colour covariance, as in the paper: colours closer than a level of 255 count as one.
WINDOW_EPSILON = 1e-5
# A mask that is too large is believed to be so by at most this many times the band's half width.
DOUBT_REACH = 3
# Where object and background have the same colour the plain least-squares alpha leans to 0 below this distance squared.
LEAST_CONTRAST = 1e-4


def solid_alpha(
    frame: np.ndarray, behind: np.ndarray, mask: np.ndarray, radius: float, doubtful: np.ndarray | None = None
) -> np.ndarray:
    """Alpha of the objects themselves, without what they cause: (H, W) float32 in [0, 1].

    1 deeper than `radius` pixels inside the mask, 0 farther than that outside, solved in the band between. A mask may
    be too large: where `doubtful`, the band reaches further in.

    Args:
        frame: the clip's frame (H, W, 3) float32 in [0, 1].
        behind: what would be seen if the objects were not there but what they cause still was, alike.
        mask: the objects (H, W) bool.
        doubtful: pixels that no object is needed for to explain them, (H, W) bool.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.float32)
    core, outside = band_borders(mask, radius)
    if doubtful is not None:
        core = without_doubt(core, mask, radius, doubtful)
    band = ~core & ~outside
    colour = spread(frame, core.astype(np.float32))
    contrast = colour - behind
    weight = np.square(contrast).sum(-1)  # (H, W)
    own = np.clip(((frame - behind) * contrast).sum(-1) / (weight + LEAST_CONTRAST), 0, 1)
    alpha = np.where(band, own, core).astype(np.float32)
    if not band.any():
        return alpha

    laplacian = matting_laplacian(frame, band)
    unknown, known = np.flatnonzero(band), np.flatnonzero(~band)
    weights = DATA_WEIGHT * weight.ravel()[unknown].astype(np.float64) + 1e-6  # never singular
    rows = laplacian[unknown]
    system = rows[:, unknown] + scipy.sparse.diags_array(weights)
    right = weights * own.ravel()[unknown] - rows[:, known] @ alpha.ravel()[known]
    alpha.ravel()[unknown] = np.clip(scipy.sparse.linalg.spsolve(system.tocsc(), right), 0, 1)
    return alpha


def band_borders(mask: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """What surely is object and what surely is not, (H, W) bool each: deeper and farther than `radius` pixels.

    An object too thin to have such an inside keeps the middle of every part of it.
    """
    # Padded, because the picture's border is no edge of the object.
    depth = distance_to(~mask)
    core = depth > radius
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    deepest = np.zeros(count, np.float32)
    np.maximum.at(deepest, labels.ravel(), np.where(mask, depth, 0).ravel())
    thin = mask & (deepest[labels] <= radius)
    core |= thin & (depth >= deepest[labels])
    return core, distance_to(mask) > radius


def without_doubt(core: np.ndarray, mask: np.ndarray, radius: float, doubtful: np.ndarray) -> np.ndarray:
    """The core without what is near doubtful pixels near the mask's border; parts that would vanish are kept."""
    doubtful = doubtful & mask & (distance_to(~mask) <= DOUBT_REACH * radius)
    # Single pixels are chance: an object may have a colour of the background's here and there.
    doubtful = cv2.morphologyEx(doubtful.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0
    left = core & ~grow(doubtful, radius)
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    lost = np.bincount(labels[left], minlength=count) == 0
    return left | (core & lost[labels])


def matting_laplacian(frame: np.ndarray, band: np.ndarray) -> scipy.sparse.csr_array:
    """The matting Laplacian (H·W, H·W) of all 3x3 windows that touch the band; frame (H, W, 3), band (H, W) bool.

    Equation 12 of the paper: L_ij = Σ over windows of δ_ij − (1 + (I_i − μ)ᵀ(Σ + ε/9·1)⁻¹(I_j − μ)) / 9.
    """
    height, width = band.shape
    centres = cv2.dilate(band.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    centres[[0, -1]] = False
    centres[:, [0, -1]] = False
    y, x = np.nonzero(centres)
    dy, dx = np.mgrid[-1:2, -1:2]
    members = (y[:, None] + dy.ravel()) * width + x[:, None] + dx.ravel()  # (windows, 9)
    colours = frame.reshape(-1, 3)[members].astype(np.float64)  # (windows, 9, 3)
    colours -= colours.mean(1, keepdims=True)
    covariance = colours.transpose(0, 2, 1) @ colours / 9 + WINDOW_EPSILON / 9 * np.eye(3)
    affinity = (1 + colours @ np.linalg.inv(covariance) @ colours.transpose(0, 2, 1)) / 9  # (windows, 9, 9)
    rows, columns = np.repeat(members, 9, axis=1).ravel(), np.tile(members, (1, 9)).ravel()
    size = height * width
    return scipy.sparse.csr_array(((np.eye(9) - affinity).ravel(), (rows, columns)), shape=(size, size))
