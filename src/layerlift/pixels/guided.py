"""The guided filter: bring a coarse map to pixels so that its edges follow those of a picture. On any device.

After He, Sun & Tang, *Guided Image Filtering* (ECCV 2010), with a colour guide, in its fast form: what is slow runs on
a grid coarser than the pixels (He & Sun, *Fast Guided Filter*, 2015). Every sum is weighted, so that pixels that are
known not to matter (the object's own) do not speak for those beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

# Colours in [0, 1] that differ by less than the root of this are one surface.
SMOOTHNESS = 1e-3

# Weight of a pixel that does not count: where nothing else is near, it still has an answer.
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class Guide:
    """A picture prepared for filtering maps at its pixels.

    Attributes:
        colours: (B, 3, H', W') float32, the picture averaged over cells of `step` pixels.
        weights: (B, 1, H', W') float32, how much of each cell counts.
        radius: of the filter's window, in cells.
        step: pixels to a cell, across and down.
        middle: (B, 3, H', W') float32, mean colour of the window around each cell.
        inverse: (B, 3, 3, H', W') float32, inverse of the colours' covariance in that window.
    """

    colours: torch.Tensor
    weights: torch.Tensor
    radius: int
    step: int
    middle: torch.Tensor
    inverse: torch.Tensor


def make_guide(pictures: torch.Tensor, counts: torch.Tensor, radius: int, step: int) -> Guide:
    """A guide of pictures (B, 3, H, W) float32 in [0, 1] where `counts` (B, 1, H, W) float32 is 1; radius in pixels.

    The 3×3 covariances are inverted by cofactors: one formula for all cells, where a solver would take them one by one.
    """
    colours = F.avg_pool2d(pictures, step, ceil_mode=True)
    weights = F.avg_pool2d(counts, step, ceil_mode=True) + LEAST_WEIGHT
    cells = max(1, round(radius / step))
    middle = weighted_mean(colours, weights, cells)
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    products = torch.stack([colours[:, i] * colours[:, j] for i, j in pairs], 1)
    middles = torch.stack([middle[:, i] * middle[:, j] for i, j in pairs], 1)
    rr, rg, rb, gg, gb, bb = (weighted_mean(products, weights, cells) - middles).unbind(1)
    rr, gg, bb = rr + SMOOTHNESS, gg + SMOOTHNESS, bb + SMOOTHNESS
    cofactors = (
        (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb),
        (gb * rb - rg * bb, rr * bb - rb * rb, rb * rg - rr * gb),
        (rg * gb - gg * rb, rb * rg - rr * gb, rr * gg - rg * rg),
    )
    inverse = torch.stack([torch.stack(row, 1) for row in cofactors], 1)  # (B, 3, 3, H', W')
    inverse /= (rr * cofactors[0][0] + rg * cofactors[0][1] + rb * cofactors[0][2])[:, None, None]
    return Guide(colours, weights, cells, step, middle, inverse)


def filter_twice(guide: Guide, coarse: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Filter maps (B, n, H', W') on the guide's cells, twice, to (B, n, H, W) at the pixels of its pictures.

    One pass follows edges as far as its window reaches and leaves a wash of the coarse map beyond; the second takes
    that away.
    """
    slopes, offsets = linear_models(guide, coarse)
    once = apply_models(slopes, offsets, guide.colours).clamp(0, 1)
    slopes, offsets = linear_models(guide, once)
    height, width = pictures.shape[2:]
    # Cells cover whole pixels from the top left, so what lies past the edge is cut off.
    size = (slopes.shape[-2] * guide.step, slopes.shape[-1] * guide.step)
    slopes = F.interpolate(slopes.flatten(1, 2), size, mode="bilinear")[..., :height, :width].unflatten(1, (-1, 3))
    offsets = F.interpolate(offsets, size, mode="bilinear")[..., :height, :width]
    return apply_models(slopes, offsets, pictures).clamp(0, 1)


def linear_models(guide: Guide, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Around every cell the best `map ≈ slope·colour + offset`, for maps (B, n, H', W').

    Returns slopes (B, n, 3, H', W') and offsets (B, n, H', W').
    """
    mean = partial(weighted_mean, weights=guide.weights, radius=guide.radius)
    averages = mean(maps)
    joint = mean((maps[:, :, None] * guide.colours[:, None]).flatten(1, 2)).unflatten(1, (-1, 3))
    covariance = joint - averages[:, :, None] * guide.middle[:, None]  # (B, n, 3, H', W')
    slopes = torch.einsum("bijhw,bnjhw->bnihw", guide.inverse, covariance)
    offsets = averages - (slopes * guide.middle[:, None]).sum(2)
    # Every cell lies in many windows: it takes the mean of their models.
    return mean(slopes.flatten(1, 2)).unflatten(1, (-1, 3)), mean(offsets)


def apply_models(slopes: torch.Tensor, offsets: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """slope·colour + offset: (B, n, 3, H, W), (B, n, H, W), (B, 3, H, W) → (B, n, H, W)."""
    return (slopes * colours[:, None]).sum(2) + offsets


def weighted_mean(values: torch.Tensor, weights: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over the window around each cell, (B, C, H, W), where cells count as much as `weights` (B, 1, H, W) says."""
    return box_mean(values * weights, radius) / box_mean(weights, radius)


def box_mean(values: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over a square of 2·radius + 1 cells around each, (B, C, H, W); the edge is repeated beyond it."""
    size = 2 * radius + 1
    padded = F.pad(values, (radius,) * 4, mode="replicate")
    return sliding_sum(sliding_sum(padded, size, 2), size, 3) / size**2


def sliding_sum(values: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """Sums of `size` neighbours along an axis, which becomes shorter by size − 1.

    Sums of 1, 2, 4, 8 … neighbours are put together: about 2·log2(size) additions a cell, whose order, unlike that of a
    running sum, lets no rounding errors pile up.
    """
    length = values.shape[axis] - size + 1
    total: torch.Tensor | None = None
    offset, width, sums = 0, 1, values
    while True:
        if size & width:
            part = sums.narrow(axis, offset, length)
            total = part if total is None else total + part
            offset += width
        if offset == size:
            assert total is not None
            return total
        count = sums.shape[axis] - width
        sums = sums.narrow(axis, 0, count) + sums.narrow(axis, width, count)
        width *= 2
