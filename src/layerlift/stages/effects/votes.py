"""The model's vote on effects: heard where the clip itself cannot tell, as far as the two agree where it can."""

from __future__ import annotations

import cv2
import numpy as np

from layerlift.finder.find import Seen
from layerlift.metrics import area_under_curve

# What is this likely, and known, is taken for certain, one way or the other.
CERTAIN, NONE = 0.7, 0.1
# Fewer certain pixels than these say nothing of the model.
LEAST = 60
# From this agreement (area under the ROC curve) on the vote counts, in full at 1: what agreed less drew too much on
# footage.
CHANCE = 0.95
# What the vote counts where hardly anything around an object is known: nothing moves there.
UNTRIED, HARDLY = 0.6, 0.1
# Where the clip tells of nothing at all (less than this share of the object's size), a model is believed that calls
# hardly any of what is certainly no effect one: at most this share.
NOTHING, QUIET = 0.02, 0.05


def small_votes(
    scores: np.ndarray, side: tuple[float, float], size: tuple[int, int], native: tuple[int, int]
) -> np.ndarray:
    """Scores of the model's cells (n, F, h', w') as the small picture of `size` (w, h) has them, (n, F, h, w) float32.

    `side` is a cell's width and height in pixels of the clip, whose frames are `native` (width, height).
    """
    width, height = size
    # Pixel centres of the small picture in cells, whose own centres lie at ½.
    columns = ((np.arange(width) + 0.5) * native[0] / width / side[0] - 0.5).astype(np.float32)
    rows = ((np.arange(height) + 0.5) * native[1] / height / side[1] - 0.5).astype(np.float32)
    x, y = np.meshgrid(columns, rows)
    flat = scores.reshape(-1, *scores.shape[2:])
    spread = [cv2.remap(cells, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for cells in flat]
    return np.stack(spread).reshape(*scores.shape[:2], height, width)


def with_votes(likely: np.ndarray, seen: Seen, votes: np.ndarray, threshold: float) -> np.ndarray:
    """How likely effects are once the model was heard, (n, F, h, w) float32.

    `likely` is what the clip alone says, `votes` (n, F, h, w) float32 are the model's scores of what it would call an
    effect, from `threshold` on.
    """
    hidden = seen.objects.any(0)
    known = seen.known & ~hidden
    out = likely.copy()
    for target, own, vote, there in zip(out, likely, votes, seen.objects, strict=True):
        if not there.any():
            continue
        sure = known & (own > CERTAIN)
        no = known & (own < NONE)
        if (own > 0.5).sum() < NOTHING * there.sum():
            if not no.any() or float((vote[no] >= threshold).mean()) <= QUIET:
                target[:] = np.maximum(own, np.clip(vote / (2 * threshold), 0, 1))
            continue
        middle = threshold
        if min(int(sure.sum()), int(no.sum())) >= LEAST:
            agree = area_under_curve(vote[sure], vote[no])
            trust = float(np.clip((agree - CHANCE) / (1 - CHANCE), 0, 1))
            middle = float((np.median(vote[sure]) + np.quantile(vote[no], 0.95)) / 2)
        else:
            near = float(known.sum()) / float(there.sum())
            trust = UNTRIED if near < HARDLY else 0.0
        says = np.clip(vote / max(2 * middle, 1e-6), 0, 1)
        target[:] = np.maximum(own, own + trust * ~known * (says - own))
    return out
