"""From scores of tokens to masks of pixels: joined over time, decided on the small grid, then drawn along edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from layerlift.geometry.fit import Fit, Geometry
from layerlift.pixels.guided import filter_twice, make_guide

# Cells join an effect from this share of the threshold on, if somewhere in it one reaches this multiple of it.
WEAK, STRONG = 0.6, 1.6

# An effect is as strong as this share of its cells are at most: its few strongest may be chance.
STRENGTH_SHARE = 0.9

# Faint effects are lifted by at most this factor before they are drawn.
MOST_GAIN = 3.0

# An effect that touches no object covers at least this many cells in every frame that has it.
ISLAND_CELLS = 3

# Cells no further than this from an object touch it.
TOUCHING_CELLS = 1.5

# What the objects leave visible of a cell counts, but never nothing: scores beneath an object are guesses.
LEAST_SEEN = 0.02

# The filter averages over cells of about this share of a token's side.
GUIDE_CELLS = 8

# Bytes that drawing may take at a time, far below what the VAE has just taken and given back.
DRAW_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class Decision:
    """How scores become effects.

    Attributes:
        threshold: scores from here on are effects.
        clear: scores of an effect that is seen in full; fainter ones are lifted there. None: drawn as they are.
        max_distance: pixels of the clip; effects further from their object are dropped. None: any distance.
        edges: draw along the edges of the frames; else scores are only interpolated.
        guide_cells: the filter that follows edges averages over cells of about this share of a score's side.
    """

    threshold: float
    clear: float | None = None
    max_distance: float | None = None
    edges: bool = True
    guide_cells: float = GUIDE_CELLS


def scores_of_frames(scores: torch.Tensor, hidden: torch.Tensor, frame_count: int, time: int) -> torch.Tensor:
    """Scores of latent frames as those of frames: (n, f, h, w) → (n, F, h, w).

    A latent frame stands in the middle of the frames it covers; in between, the two neighbours blend. What objects hide
    of a cell, the share `hidden` (f, h, w), does not speak.
    """
    latent = torch.arange(scores.shape[1], dtype=torch.float32, device=scores.device)
    centres = (latent * time - (time - 1) / 2).clamp(min=0)  # frame 0 alone, then `time` frames each
    frames = torch.arange(frame_count, dtype=torch.float32, device=scores.device)
    blend = linear_weights(frames, centres)  # (F, f)
    seen = (1 - hidden).clamp(LEAST_SEEN, 1)
    return torch.einsum("Ff,nfhw->nFhw", blend, scores * seen) / torch.einsum("Ff,fhw->Fhw", blend, seen)


def linear_weights(positions: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Linear interpolation as a matrix: row p holds the weights of all centres at position p; constant beyond the ends.

    (P,) and (C,) rising, float32 → (P, C). A matrix runs alike on every backend, and on any axis.
    """
    if len(centres) == 1:
        return torch.ones(len(positions), 1, device=positions.device)
    above = torch.searchsorted(centres.contiguous(), positions.contiguous()).clamp(1, len(centres) - 1)
    low, high = centres[above - 1], centres[above]
    share = ((positions - low) / (high - low)).clamp(0, 1)
    weights = torch.zeros(len(positions), len(centres), device=positions.device)
    weights.scatter_(1, (above - 1)[:, None], (1 - share)[:, None])
    return weights.scatter_(1, above[:, None], share[:, None])


def smooth_in_time(scores: torch.Tensor, radius: int) -> torch.Tensor:
    """Each frame with its neighbours, (n, F, h, w), weighted less the further: `radius` frames to either side."""
    if radius == 0:
        return scores
    n, frames, height, width = scores.shape
    kernel = (radius + 1 - torch.arange(-radius, radius + 1, device=scores.device).abs()).float()
    lines = scores.permute(0, 2, 3, 1).reshape(-1, 1, frames)
    lines = F.conv1d(F.pad(lines, (radius, radius), mode="replicate"), (kernel / kernel.sum())[None, None])
    return lines.view(n, height, width, frames).permute(0, 3, 1, 2)


def smoothed(scores: np.ndarray, radius: int) -> np.ndarray:
    """`smooth_in_time` on the host: (n, F, h, w) float32."""
    return smooth_in_time(torch.from_numpy(scores), radius).numpy()


def keep_effects(scores: np.ndarray, covered: np.ndarray, decision: Decision, cell: float) -> np.ndarray:
    """Scores with those set to 0 that belong to no effect: hysteresis, small islands, distance; faint effects lifted.

    Args:
        scores: (n, F, h, w) float32.
        covered: (n, F, h, w) bool, cells that the object touches.
        decision: the threshold, how far effects may lie, and whether faint ones are lifted.
        cell: pixels of the clip to a cell's side.
    """
    kept = np.zeros_like(scores)
    anchored = np.zeros(scores.shape[1:], bool)  # effects that touch their object
    neighbours = np.ones((3, 3, 3), bool)
    for own, values, there in zip(kept, scores, covered, strict=True):
        distance = distance_in_frames(there)
        candidates = values >= WEAK * decision.threshold
        if decision.max_distance is not None:
            candidates &= distance * cell <= decision.max_distance
        labels, count = ndimage.label(candidates, neighbours)
        if count == 0:
            continue
        every = np.arange(1, count + 1)
        peak = ndimage.maximum(values, labels, every)
        touching = ndimage.minimum(distance, labels, every) <= TOUCHING_CELLS
        size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        first = [span[0] for span in ndimage.find_objects(labels)]
        lasting = np.array([span.stop - span.start for span in first])
        good = (peak >= min(1.0, STRONG * decision.threshold)) & (touching | (size >= ISLAND_CELLS * lasting))
        own[:] = np.where(np.concatenate([[False], good])[labels], values, 0)
        anchored |= np.concatenate([[False], good & touching])[labels]
    return kept if decision.clear is None else lift_faint(kept, anchored, decision.clear)


def lift_faint(kept: np.ndarray, anchored: np.ndarray, clear: float) -> np.ndarray:
    """Effects (n, F, h, w) that are `anchored` (F, h, w) bool, scaled so that each has a clear one's scores somewhere.

    Cells at an effect's border show less of it than those inside. One threshold for all would take the border from a
    faint shadow, or all of a thin one, that fits a dark one. Effects of several objects that touch are lifted alike, so
    that they stay apart where they were.
    """
    strongest = kept.max(0) * anchored
    labels, count = ndimage.label(strongest > 0, np.ones((3, 3, 3), bool))
    if count == 0:
        return kept

    def strength(values: np.ndarray) -> float:
        return float(np.quantile(values, STRENGTH_SHARE))

    strengths = ndimage.labeled_comprehension(strongest, labels, np.arange(1, count + 1), strength, np.float32, 0.0)
    gains = np.concatenate([[1.0], np.clip(clear / strengths, 1, MOST_GAIN)]).astype(np.float32)
    return np.minimum(kept * gains[labels], 1)


def distance_in_frames(there: np.ndarray) -> np.ndarray:
    """Cells from each cell to the nearest True one of its frame, (F, h, w); infinite in frames without any."""
    if not there.any():
        return np.full(there.shape, np.inf)
    # A step in time costs more than any way within a frame.
    far = float(there.shape[1] + there.shape[2])
    distance = np.asarray(ndimage.distance_transform_edt(~there, sampling=(far, 1.0, 1.0)))
    shown = np.asarray(there.any((1, 2)))
    return np.where(shown[:, None, None], distance, np.inf)


@torch.no_grad()
def draw_effects(
    frames: torch.Tensor, objects: torch.Tensor, scores: torch.Tensor, decision: Decision, *, side: tuple[float, float]
) -> torch.Tensor:
    """Effects at the pixels of the clip.

    Args:
        frames: (F, H, W, 3) uint8, the clip's own, on the device to work on.
        objects: (n, F, H, W) bool.
        scores: (n, F, h, w) float32, of cells that begin at the top left and may reach beyond the picture.
        decision: the threshold, and whether to follow edges.
        side: (width, height) of a cell in pixels of the clip, see `cell_side`.

    Returns:
        (n, F, H, W) bool, what each object causes: free of every object, and no pixel belongs to two of them.
    """
    count, total, height, width = objects.shape
    chunk = max(1, DRAW_BYTES // (4 * height * width * (8 * count + 8)))
    numbers = torch.arange(count, device=frames.device)[:, None, None, None]
    drawn = []
    for start in range(0, total, chunk):
        part = slice(start, start + chunk)
        hidden = objects[:, part].any(0)
        values = draw_scores(frames[part], hidden, scores[:, part], side=side, decision=decision)
        best, owner = values.max(0)
        drawn.append((best >= decision.threshold) & ~hidden & (owner == numbers))
    return torch.cat(drawn, 1)


def drawn(
    frames: np.ndarray,
    objects: np.ndarray,
    scores: np.ndarray,
    decision: Decision,
    *,
    side: tuple[float, float],
    device: str,
) -> np.ndarray:
    """`draw_effects` from the host to the host, computed on `device`: (n, F, H, W) bool."""
    pictures, own, values = (torch.from_numpy(array).to(device) for array in (frames, objects, scores))
    return draw_effects(pictures, own, values, decision, side=side).cpu().numpy()


def draw_scores(
    frames: torch.Tensor, hidden: torch.Tensor, scores: torch.Tensor, *, side: tuple[float, float], decision: Decision
) -> torch.Tensor:
    """Scores at pixels, (n, F, H, W) float32: frames (F, H, W, 3) uint8, hidden (F, H, W) bool, scores (n, F, h, w)."""
    height, width = frames.shape[1:3]
    step = max(1, round(side[0] / decision.guide_cells)) if decision.edges else 1
    rows = cell_weights(height, step, side[1], scores.shape[2], scores.device)
    columns = cell_weights(width, step, side[0], scores.shape[3], scores.device)
    coarse = torch.einsum("yh,nFhw,xw->Fnyx", rows, scores, columns)
    if not decision.edges:
        return coarse.transpose(0, 1)
    pictures = frames.permute(0, 3, 1, 2).float() / 255
    guide = make_guide(pictures, (~hidden)[:, None].float(), max(1, round(side[0])), step)
    return filter_twice(guide, coarse, pictures).transpose(0, 1)


def cell_side(fit: Fit, geometry: Geometry) -> tuple[float, float]:
    """Width and height of a token in pixels of the clip."""
    return geometry.space * fit.native[0] / fit.scaled[0], geometry.space * fit.native[1] / fit.scaled[1]


def cell_weights(length: int, step: int, side: float, cells: int, device: torch.device) -> torch.Tensor:
    """How to interpolate from a token grid to every `step` pixels of one axis: (ceil(length / step), cells)."""
    positions = (torch.arange(-(-length // step), dtype=torch.float32, device=device) + 0.5) * step
    centres = (torch.arange(cells, dtype=torch.float32, device=device) + 0.5) * side
    return linear_weights(positions, centres)
