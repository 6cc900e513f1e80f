"""Which tokens a training example leaves unknown: masks of whole batches on the device, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from layerlift.geometry.fit import Geometry


def token_mask(mask: Tensor, geometry: Geometry) -> Tensor:
    """Pixels (B, F, H, W) bool → tokens (B, f, h, w) bool: any masked pixel masks its token.

    `layerlift.engine.model.latents.unknown_tokens` without growth, for a batch on any device.
    """
    cells = F.max_pool2d(mask.float(), geometry.space)  # (B, F, h, w)
    first, later = cells[:, :1], cells[:, 1:].unflatten(1, (-1, geometry.time)).amax(2)
    return torch.cat([first, later], 1) > 0


def grow(tokens: Tensor) -> Tensor:
    """The tokens (B, f, h, w) bool and their neighbours in space."""
    return F.max_pool2d(tokens.float(), 3, 1, 1) > 0


def moving_boxes(shape: tuple[int, ...], device: str) -> Tensor:
    """Random drifting boxes, tokens (B, f, h, w) bool."""
    count, f, h, w = shape
    tall, wide = 0.2 + 0.5 * torch.rand(2, count, 1, 1, 1, device=device)
    top, left = torch.rand(2, count, 1, 1, 1, device=device) * 1.2 - 0.3
    when = torch.linspace(-0.5, 0.5, f, device=device).view(1, f, 1, 1)
    drift = (torch.rand(count, 1, 1, 1, device=device) - 0.5) * when
    y = ((torch.arange(h, device=device) + 0.5) / h).view(1, 1, h, 1)
    x = ((torch.arange(w, device=device) + 0.5) / w).view(1, 1, 1, w) - drift
    return (y > top) & (y < top + tall) & (x > left) & (x < left + wide)


@dataclass(frozen=True, slots=True)
class Jobs:
    """What each example of a batch asks for.

    Attributes:
        empty: (B,) bool: fill with the background; else with what is there, objects included.
        unknown: (B, f, h, w) bool.
        clean: (B, f, h, w) bool: tokens taken from the clean plate; the others from the video.
    """

    empty: Tensor
    unknown: Tensor
    clean: Tensor


def draw_jobs(objects: Tensor, effects: Tensor) -> Jobs:
    """Draw the two jobs, about half and half, from the tokens of objects and effects (B, f, h, w) bool.

    Filling with the background is what removal needs; filling with the objects teaches how objects and their effects
    go together, which the attention between them is read for.
    """
    count, device = len(objects), objects.device

    def chance(p: float) -> Tensor:
        return (torch.rand(count, device=device) < p).view(-1, 1, 1, 1)

    def choose(*options: tuple[float, Tensor]) -> Tensor:
        """One of the masks for each example, with the given chances."""
        u, chosen, low = torch.rand(count, device=device).view(-1, 1, 1, 1), options[0][1], 0.0
        for p, mask in options:
            chosen = torch.where((u >= low) & (u < low + p), mask, chosen)
            low += p
        return chosen

    boxes = moving_boxes(tuple(objects.shape), str(device))
    everything = torch.ones_like(objects)
    total = grow(objects | effects)
    elsewhere = total[torch.randperm(count, device=device)]

    empty = chance(0.55)
    from_clean = chance(0.5)  # known tokens of the clean plate, so that any mask can be asked for
    mask_clean = choose((0.4, total), (0.3, elsewhere), (0.2, boxes), (0.1, everything))
    mask_video = choose((0.65, total), (0.25, total | boxes), (0.1, grow(objects)))
    mask_objects = choose((0.35, everything), (0.25, boxes), (0.15, grow(objects)), (0.15, effects), (0.1, elsewhere))
    unknown = torch.where(empty, torch.where(from_clean, mask_clean, mask_video), mask_objects)
    unknown = torch.where(unknown.flatten(1).any(1).view(-1, 1, 1, 1), unknown, everything)
    return Jobs(empty.view(-1), unknown, empty & (from_clean | unknown))
