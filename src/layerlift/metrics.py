"""How good a picture is, measured against the truth."""

from __future__ import annotations

import numpy as np

PSNR_CAP = 50.0  # decibels; beyond it differences are under a level of 255 and would swamp a mean over scenes


def psnr(picture: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None, cap: float = PSNR_CAP) -> float:
    """Peak signal-to-noise ratio in decibels of two uint8 clips (F, H, W, 3), at most `cap`.

    `where` (F, H, W) bool restricts it to pixels; with no pixel to compare the answer is NaN. 10·log10(255² / MSE).
    """
    if picture.shape != truth.shape:
        raise ValueError(f"PSNR of {picture.shape} against {truth.shape}: expected the same shape")
    difference = picture.astype(np.float32) - truth.astype(np.float32)
    squares = np.square(difference) if where is None else np.square(difference[where])
    if squares.size == 0:
        return float("nan")
    error = float(squares.mean(dtype=np.float64))
    return cap if error == 0 else min(cap, 10 * float(np.log10(255**2 / error)))


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """How often a positive outranks a negative, (P,) and (N,) scores; ties count half. The Mann-Whitney statistic."""
    ordered = np.sort(negative)
    below, up_to = np.searchsorted(ordered, positive, "left"), np.searchsorted(ordered, positive, "right")
    return float((below + up_to).mean() / 2 / len(negative))
