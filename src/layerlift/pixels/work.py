"""Pixels on their way to the model and back, by the rules of a policy: on the CPU with OpenCV, or on the device.

Only the part of the picture is touched that the model sees (`focus`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from layerlift.geometry.fit import Fit
from layerlift.geometry.focus import Box, Spot, View
from layerlift.pixels import arrays, tensors
from layerlift.pixels.paste import ColorMatch, paste

if TYPE_CHECKING:
    from layerlift.engine.device import Policy
    from layerlift.jobs.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the padded picture: where it lies, its frame (h, w, 3) uint8, and what of it is hidden (h, w) bool."""

    region: Box
    frame: np.ndarray
    hidden: np.ndarray

    def cut(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Frame and hidden pixels of a box inside the region."""
        left, top = box.left - self.region.left, box.top - self.region.top
        where = np.s_[top : top + box.height, left : left + box.width]
        return self.frame[where], self.hidden[where]


@dataclass(frozen=True, slots=True)
class Patch:
    """What was generated of one frame.

    Attributes:
        spot: the pixels of the clip that it covers.
        pixels: (h, w, 3) float32 in 0 … 255, at the clip's size: an array, or a tensor on the device.
    """

    spot: Spot
    pixels: np.ndarray | torch.Tensor


def fit_regions(
    frames: Iterable[tuple[np.ndarray, np.ndarray]], regions: Iterable[Box | None], fit: Fit, policy: Policy
) -> Iterator[Part | None]:
    """For each frame (H, W, 3) uint8 with its hidden pixels (H, W) bool the region of it at the model's size, with a
    smooth continuation of its surroundings in the hidden pixels' place; None where no region is needed."""
    if policy.device_pixels:
        yield from _fit_on_device(frames, regions, fit, policy.device)
        return
    for (frame, hidden), region in zip(frames, regions, strict=True):
        if region is None:
            yield None
            continue
        small, masked = _fit_region(frame, hidden, region, fit)
        yield Part(region, arrays.fill_masked(small, masked), masked)


def _fit_on_device(
    frames: Iterable[tuple[np.ndarray, np.ndarray]], regions: Iterable[Box | None], fit: Fit, device: str
) -> Iterator[Part | None]:
    def given() -> Iterator[tuple[np.ndarray, np.ndarray, Box | None]]:
        for (frame, hidden), region in zip(frames, regions, strict=True):
            if region is not None and fit.scaled == fit.native:
                # Nothing is scaled: only what is needed travels.
                yield *_fit_region(frame, hidden, region, fit), region
            else:
                yield frame, hidden, region

    for frame, hidden, region in tensors.fit_parts(given(), fit, device):
        yield None if region is None else Part(region, frame, hidden)


def _fit_region(frame: np.ndarray, hidden: np.ndarray, region: Box, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """A region of the padded picture, with its hidden pixels."""
    if fit.scaled == fit.native:
        where = np.s_[region.top : region.bottom, region.left : region.right]
        part, masked = frame[where], hidden[where]
        short = region.width - part.shape[1], region.height - part.shape[0]
        fit = Fit(part.shape[1::-1], part.shape[1::-1], (part.shape[1] + short[0], part.shape[0] + short[1]))
        return arrays.fit_frame(part, fit), arrays.fit_mask(masked, fit)
    small, masked = arrays.fit_frame(frame, fit), arrays.fit_mask(hidden, fit)
    where = np.s_[region.top : region.bottom, region.left : region.right]
    return small[where], masked[where]


def make_patches(frames: Iterable[np.ndarray | torch.Tensor], view: View, box: Box) -> Iterator[Patch]:
    """Decoded frames of a box (h, w, 3) float32 in 0 … 255, at the clip's size and place."""
    spot = view.native(box)
    for frame in frames:
        if isinstance(frame, torch.Tensor):
            yield Patch(spot, tensors.unfit_part(frame, view.fit, box, spot))
        else:
            yield Patch(spot, _unfit_part(frame, view.fit, box, spot))


def _unfit_part(frame: np.ndarray, fit: Fit, box: Box, spot: Spot) -> np.ndarray:
    """(h, w, 3) float32 of a box of the padded picture → the pixels of the clip in `spot`."""
    left, top, right, bottom = spot
    if fit.scaled == fit.native:
        return frame[: bottom - top, : right - left]
    if spot == (0, 0, *fit.native):
        return arrays.unfit_frame(frame, fit)
    frame = frame[: fit.scaled[1] - box.top, : fit.scaled[0] - box.left]
    across, down = (small / large for small, large in zip(fit.scaled, fit.native, strict=True))
    # Pixel centres: x of the clip lies at (x + 1/2)·across − 1/2 of the scaled picture.
    moved = np.array(
        [[across, 0, (left + 0.5) * across - 0.5 - box.left], [0, down, (top + 0.5) * down - 0.5 - box.top]]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    enlarged = cv2.warpAffine(frame, moved, (right - left, bottom - top), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(enlarged, 0.0, 255.0)


def paste_patches(
    items: Iterable[tuple[np.ndarray, np.ndarray, Patch | None]],
    feather: float,
    policy: Policy,
    shelf: Shelf | None = None,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8 with their patches blended in, colours matched around what is replaced. Each mask (h, w)
    bool is that of its patch's spot; what it is without a patch does not matter.

    Against the clip a patch fades in over `feather` pixels inside the mask; beyond it every pixel stays. A frame
    without a patch or a mask passes as it is, and colours are matched afresh after it.

    The frames' numbers begin with `first`. A `shelf` is given how colours are matched before a frame, or several, by
    its number; what it has for the first one is gone on from.
    """
    if policy.device_pixels:
        yield from _paste_on_device(items, feather, policy.device, shelf, first)
        return
    match = ColorMatch()
    if shelf is not None and first in shelf:
        match.restore(shelf.get(first))
    for number, (frame, mask, patch) in enumerate(items, first):
        if shelf is not None:
            shelf.put(number, *match.state())
        if patch is None or not mask.any():
            match.reset()
            yield frame
            continue
        own, new = _under(patch.spot, frame), np.asarray(patch.pixels)
        match.place(patch.spot[:2], frame.shape[:2])
        yield _laid(frame, paste(own, match(new, own, mask), mask, feather), patch.spot)


def _paste_on_device(
    items: Iterable[tuple[np.ndarray, np.ndarray, Patch | None]],
    feather: float,
    device: str,
    shelf: Shelf | None,
    first: int,
) -> Iterator[np.ndarray]:
    match = tensors.ColorMatch()
    if shelf is not None and first in shelf:
        match.restore(shelf.get(first), device)

    def before(done: int) -> None:
        if shelf is not None:
            shelf.put(first + done, *match.state())

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray, Any, tuple[np.ndarray, Spot | None]]]:
        for frame, mask, patch in items:
            if patch is None:
                yield frame, mask, None, (frame, None)
            else:
                yield _under(patch.spot, frame), mask, patch.pixels, (frame, patch.spot)

    pasted = tensors.paste_frames(
        parts(), feather, device, place=lambda given: ((given[1] or (0, 0))[:2], given[0].shape[:2]), match=match,
        before=before,
    )  # fmt: skip
    for made, (frame, spot) in pasted:
        yield frame if spot is None else _laid(frame, made, spot)


def _under(spot: Spot, picture: np.ndarray) -> np.ndarray:
    left, top, right, bottom = spot
    return picture[top:bottom, left:right]


def _laid(frame: np.ndarray, part: np.ndarray, spot: Spot) -> np.ndarray:
    """A copy of a frame with other pixels in a spot."""
    left, top, right, bottom = spot
    made = frame.copy()
    made[top:bottom, left:right] = part
    return made
