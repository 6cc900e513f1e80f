"""What `pixels` and `stages.paste` do frame by frame with OpenCV, done to many frames at once on a device.

The same formulas, so the same pixels up to rounding. Worth it where the device is much faster than the CPU beside it:
at 704×480 OpenCV takes 19 ms a frame to fill and 19 ms to match and paste on one core.

Axis order: frames (F, H, W, 3) uint8 as clips have them; in between (F, C, H, W) float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from math import ceil, exp
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F

from layerlift.geometry.fit import Fit
from layerlift.geometry.focus import Box, Spot
from layerlift.pixels.paste import RING_LIMIT, RING_MEMORY, RING_SCALE, moved_grid, ring_radius

T = TypeVar("T")

# Bytes of one float32 picture a frame that are worked on at once; intermediate results are about six times that.
CHUNK_BYTES = 2**25
# Frames that are worked on at once, however small: what a kill tears off has to be done again.
CHUNK_FRAMES = 32
# Of the blur over colour differences, as in `stages.paste`; OpenCV cuts it off at four standard deviations.
BLUR_SIGMA = 1.5
# Overlaps of an old and a new pixel up to this many old pixels are taken for rounding.
SLIVER = 1e-3


# --- whole clips -----------------------------------------------------------------------------------------------------


def fit_parts(
    items: Iterable[tuple[np.ndarray, np.ndarray, Box | None]], fit: Fit, device: torch.device | str
) -> Iterator[tuple[np.ndarray, np.ndarray, Box | None]]:
    """`arrays.fit_frame`, `fit_mask` and `fill_masked` for a region of each frame (H, W, 3) uint8 with its mask (H, W)
    bool: yields (frame, mask, region) at the model's size.

    Where the picture is not scaled, items bring the region's own pixels. Items without a region pass as they are.
    """
    for chunk in _chunks(items, lambda item: item[0], lambda item: item[2] is None, lambda item: item[2]):
        region = chunk[0][2]
        if region is None:
            yield chunk[0]
            continue
        frames = _to_device([frame for frame, _, _ in chunk], device)
        masks = _to_device([mask for _, mask, _ in chunk], device)
        if fit.scaled != fit.native:
            rows, columns = slice(region.top, region.bottom), slice(region.left, region.right)
            values, covered = frames.permute(0, 3, 1, 2).float(), masks[:, None].float()
            frames = _fit(values, fit)[:, :, rows, columns].round().to(torch.uint8).permute(0, 2, 3, 1)
            masks = _fit(covered, fit)[:, 0, rows, columns] > 0
        filled = fill_masked(frames, masks)
        yield from ((*pair, region) for pair in zip(filled.cpu().numpy(), masks.cpu().numpy(), strict=True))


def paste_frames(
    items: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray | torch.Tensor | None, T]],
    feather: float,
    device: torch.device | str,
    *,
    place: Callable[[T], tuple[tuple[int, int], tuple[int, int]]] | None = None,
    match: ColorMatch | None = None,
    before: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[np.ndarray, T]]:
    """`ColorMatch` and `paste` for each frame of a clip, in order.

    Each item is the clip's frame (H, W, 3) uint8, the mask (H, W) bool, what was generated (H, W, 3) float32 in
    0 … 255 or None, and anything, which is handed on. Yields (frame with the generated pixels, that). A frame without
    a mask or without something generated passes as it is, and colours are matched afresh after it.

    Frames may be parts of a picture: `place` then tells from what is handed on where the part lies, (left, top), and
    the size of the picture, (height, width). `match` goes on matching colours. `before` is called before the frames
    that are pasted together, with the number of the first of them.
    """
    match, done = match or ColorMatch(), 0

    def passes(item: tuple[np.ndarray, np.ndarray, np.ndarray | torch.Tensor | None, T]) -> bool:
        return item[2] is None or not item[1].any()

    for chunk in _chunks(items, lambda item: item[0], passes, lambda item: (item[0].shape, place and place(item[3]))):
        before(done)
        done += len(chunk)
        if passes(chunk[0]):
            match.reset()
            yield chunk[0][0], chunk[0][3]
            continue
        if place is not None:
            match.place(*place(chunk[0][3]))
        frames = _to_device([item[0] for item in chunk], device)
        masks = _to_device([item[1] for item in chunk], device)
        generated = torch.stack([torch.as_tensor(item[2], device=device) for item in chunk])
        made = paste(frames, match(generated, frames, masks), masks, feather).cpu().numpy()
        yield from zip(made, (item[3] for item in chunk), strict=True)


def _chunks(
    items: Iterable[T],
    picture: Callable[[T], np.ndarray],
    apart: Callable[[T], bool] = lambda _: False,
    kind: Callable[[T], object] = lambda _: None,
) -> Iterator[list[T]]:
    """Consecutive items of one kind, as many at a time as `CHUNK_BYTES` and `CHUNK_FRAMES` allow; those that stand
    `apart` come alone."""
    held: list[T] = []
    for item in items:
        alone = apart(item)
        full = len(held) == CHUNK_FRAMES or len(held) * picture(item).size * 4 >= CHUNK_BYTES
        if held and (alone or full or kind(held[0]) != kind(item)):
            yield held
            held = []
        if alone:
            yield [item]
        else:
            held.append(item)
    if held:
        yield held


def _to_device(arrays: list[np.ndarray], device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


# --- pixels ----------------------------------------------------------------------------------------------------------


def unfit_frame(frame: torch.Tensor, fit: Fit) -> torch.Tensor:
    """`pixels.unfit_frame`: (H', W', 3) float32 in 0 … 255 → (H, W, 3) at the clip's size."""
    frame = frame[: fit.scaled[1], : fit.scaled[0]]
    if fit.scaled == fit.native:
        return frame
    size = fit.native[1], fit.native[0]
    enlarged = F.interpolate(frame.permute(2, 0, 1)[None], size, mode="bicubic", align_corners=False)
    return enlarged[0].permute(1, 2, 0).clamp(0, 255)


def unfit_part(frame: torch.Tensor, fit: Fit, box: Box, spot: Spot) -> torch.Tensor:
    """(h, w, 3) float32 in 0 … 255 of a box of the padded picture → the pixels of the clip in `spot`."""
    left, top, right, bottom = spot
    if fit.scaled == fit.native:
        return frame[: bottom - top, : right - left]
    if spot == (0, 0, *fit.native):
        return unfit_frame(frame, fit)
    frame = frame[: fit.scaled[1] - box.top, : fit.scaled[0] - box.left]
    across, down = (
        _cubic(first, last, small / large, start, length).to(frame)
        for first, last, small, large, start, length in (
            (left, right, fit.scaled[0], fit.native[0], box.left, frame.shape[1]),
            (top, bottom, fit.scaled[1], fit.native[1], box.top, frame.shape[0]),
        )
    )
    return torch.einsum("yh,hwc,xw->yxc", down, frame, across).clamp(0, 255)


def _fit(values: torch.Tensor, fit: Fit) -> torch.Tensor:
    """(F, C, H, W) scaled down and padded by repeating the edge."""
    right, bottom = fit.padding
    return F.pad(shrink(values, (fit.scaled[1], fit.scaled[0])), (0, right, 0, bottom), mode="replicate")


def fill_masked(frames: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Masked pixels become a smooth continuation of what surrounds them: frames (F, H, W, 3) uint8, masks (F, H, W)
    bool → (F, H, W, 3) uint8."""
    values = frames.permute(0, 3, 1, 2).float()
    filled = spread(values, (~masks)[:, None].float()).round().to(torch.uint8)
    return torch.where(masks[..., None], filled.permute(0, 2, 3, 1), frames)


def spread(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """`pixels.spread`: values (F, C, H, W), weights (F, 1, H, W) in [0, 1] → (F, C, H, W)."""
    height, width = values.shape[2:]
    if max(height, width) == 1:
        return values * (weights > 0)
    half = max(1, height // 2), max(1, width // 2)
    mass = shrink(weights, half)
    coarse = shrink(values * weights, half) / mass.clamp(min=torch.finfo(torch.float32).tiny)
    coarse = spread(coarse, (2 * mass).clamp(max=1))
    return torch.lerp(_enlarge(coarse, (height, width)), values, weights)


def shrink(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Means over the area of each new pixel, as OpenCV's INTER_AREA: (F, C, H, W) → (F, C, *size), none larger."""
    height, width = values.shape[2:]
    if height % size[0] == 0 and width % size[1] == 0:
        return F.avg_pool2d(values, (height // size[0], width // size[1]))
    down, across = (_area(old, new).to(values) for old, new in zip((height, width), size, strict=True))
    return down @ values @ across.T


def _enlarge(values: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


@lru_cache(maxsize=64)
def _area(old: int, new: int) -> torch.Tensor:
    """(new, old): the share of each old pixel in each new one."""
    edges = torch.arange(new + 1, dtype=torch.float32) * (old / new)
    pixel = torch.arange(old, dtype=torch.float32)
    overlap = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    # Slivers that rounding makes count for nothing, as in OpenCV: else a mask would grow by them.
    shares = torch.where(overlap > SLIVER, overlap, 0.0)
    return shares / shares.sum(1, keepdim=True)


@lru_cache(maxsize=64)
def _cubic(first: int, last: int, scale: float, start: int, length: int) -> torch.Tensor:
    """Cubic interpolation of one axis, with the border repeated: (last − first, length), for pixels `first` … of the
    large picture from a part of the small one that begins at `start`. Keys' kernel with a = −0.75, as OpenCV and torch
    have it."""
    place = (torch.arange(first, last, dtype=torch.float32) + 0.5) * scale - 0.5 - start
    below = place.floor()
    weights = torch.zeros(last - first, length)
    for tap in (-1, 0, 1, 2):
        x = (place - below - tap).abs()
        near = (1.25 * x - 2.25) * x**2 + 1
        far = ((-0.75 * x + 3.75) * x - 6) * x + 3
        index = (below.long() + tap).clamp(0, length - 1)
        weights.scatter_add_(1, index[:, None], torch.where(x <= 1, near, far)[:, None])
    return weights


def squared_distance(masks: torch.Tensor, reach: int) -> torch.Tensor:
    """Squared Euclidean distance from every pixel to the nearest True one of its frame, (F, H, W) bool → float32;
    exact up to `reach` pixels, infinite where there is none so near."""
    width = masks.shape[2]
    column = torch.arange(width, device=masks.device, dtype=torch.float32)
    left = torch.where(masks, column, -torch.inf).cummax(2).values
    right = -torch.where(masks, -column, -torch.inf).flip(2).cummax(2).values.flip(2)
    across = torch.minimum(column - left, right - column).square()
    rows = F.pad(across, (0, 0, reach, reach), value=torch.inf)
    best = across
    for down in range(-reach, reach + 1):
        best = torch.minimum(best, rows[:, reach + down : reach + down + masks.shape[1]] + down**2)
    return torch.where(best <= reach**2, best, torch.inf)


def feather_alpha(masks: torch.Tensor, feather: float) -> torch.Tensor:
    """`stages.paste.feather_alpha`: masks (F, H, W) bool → (F, H, W) float32."""
    feather = max(feather, 1.0)
    return (squared_distance(~masks, ceil(feather)).sqrt() / feather).clamp(max=1.0)


def paste(frames: torch.Tensor, generated: torch.Tensor, masks: torch.Tensor, feather: float) -> torch.Tensor:
    """`stages.paste.paste`: frames (F, H, W, 3) uint8, generated the same float32, masks (F, H, W) bool → uint8."""
    alpha = feather_alpha(masks, feather)[..., None]
    blended = torch.lerp(frames.float(), generated, alpha).round().clamp(0, 255).to(torch.uint8)
    return torch.where(masks[..., None], blended, frames)


class ColorMatch:
    """`stages.paste.ColorMatch` for several frames at a time, in order."""

    def __init__(self) -> None:
        self._place = (0, 0)
        self._within: tuple[int, int] | None = None
        self._seen: tuple[torch.Tensor, torch.Tensor] | None = None
        self._seen_at = (0, 0)

    def reset(self) -> None:
        """Forget the frames seen so far."""
        self._seen = None

    def state(self) -> list[np.ndarray]:
        """What it has seen so far, as arrays; none where that is nothing."""
        return [] if self._seen is None else [*(part.cpu().numpy() for part in self._seen), np.array(self._seen_at)]

    def restore(self, state: Sequence[np.ndarray], device: torch.device | str) -> None:
        """Go on from where `state` was asked for."""
        self._seen = None
        if state:
            seen = [torch.from_numpy(part).to(device) for part in state[:2]]
            self._seen, self._seen_at = (seen[0], seen[1]), (int(state[2][0]), int(state[2][1]))

    def place(self, corner: tuple[int, int], within: tuple[int, int]) -> None:
        """The parts from here on lie at `corner` (left, top) of a picture whose (height, width) is `within`."""
        self._place, self._within = corner, within

    def __call__(self, generated: torch.Tensor, frames: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Generated (F, H, W, 3) float32, the clip's frames uint8, masks (F, H, W) bool → generated, matched."""
        height, width = masks.shape[1:]
        radius = ring_radius(*(self._within or (height, width)))
        ring = ~masks & (squared_distance(masks, int(radius)) <= radius**2)
        small = max(1, height // RING_SCALE), max(1, width // RING_SCALE)
        known = (frames - generated).clamp(-RING_LIMIT, RING_LIMIT) * ring[..., None]
        differences = shrink(known.permute(0, 3, 1, 2), small)  # (F, 3, h, w)
        weights = shrink(ring[:, None].float(), small)  # (F, 1, h, w)
        for i in range(len(frames)):
            if self._seen is not None:
                (left, top), (old_left, old_top) = self._place, self._seen_at
                (rows, columns), (to_rows, to_columns) = moved_grid(
                    (self._seen[1].shape[1], self._seen[1].shape[2]), small,
                    round((top - old_top) / RING_SCALE), round((left - old_left) / RING_SCALE),
                )  # fmt: skip
                differences[i, :, to_rows, to_columns] += RING_MEMORY * self._seen[0][:, rows, columns]
                weights[i, :, to_rows, to_columns] += RING_MEMORY * self._seen[1][:, rows, columns]
            self._seen, self._seen_at = (differences[i], weights[i]), self._place

        mean = differences / weights.clamp(min=torch.finfo(torch.float32).tiny)
        smooth = spread(mean, (weights > 0).float())
        down, across = (_blur(size).to(smooth) for size in small)
        moved = _enlarge(down @ smooth @ across.T, (height, width))
        return generated + moved.permute(0, 2, 3, 1)


@lru_cache(maxsize=64)
def _blur(size: int) -> torch.Tensor:
    """(size, size): a Gaussian blur along one axis, mirrored at the border without repeating it (OpenCV's default)."""
    reach = round(4 * BLUR_SIGMA)
    weights = [exp(-((offset / BLUR_SIGMA) ** 2) / 2) for offset in range(-reach, reach + 1)]
    matrix = torch.zeros(size, size)
    period = max(1, 2 * (size - 1))
    for row in range(size):
        for offset, weight in zip(range(-reach, reach + 1), weights, strict=True):
            place = (row + offset) % period
            matrix[row, min(place, period - place) if size > 1 else 0] += weight / sum(weights)
    return matrix
