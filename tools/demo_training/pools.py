"""Scenes kept on the device and used several times: rendering or encoding each for one step would starve training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import Tensor

from demo_training.latents import encode, to_model
from demo_training.masks import token_mask
from layerlift.geometry.fit import Geometry
from layerlift.scenes import RenderedBatch, draw, render


def scene_batches(count: int, frames: int, size: tuple[int, int], first: int, device: str) -> Iterator[RenderedBatch]:
    """Scenes of ever new seeds from `first` up, `count` at a time."""
    for seeds in seed_batches(first, count):
        yield render([draw(seed) for seed in seeds], *size, frames, device)


def seed_batches(first: int, count: int) -> Iterator[range]:
    """Ever new seeds."""
    return (range(start, start + count) for start in itertools.count(first, count))


def part_batches(
    count: int, frames: int, size: tuple[int, int], first: int, device: str, *, part: tuple[int, int], scale: float
) -> Iterator[RenderedBatch]:
    """As `scene_batches`, parts of the scenes, `part` in width and height, each about an object or its effect.

    Every other batch's scenes are of `size`, those between of up to `scale` times that.
    """
    for turn, seeds in enumerate(seed_batches(first, count)):
        factor = 1 + (scale - 1) * torch.rand(()).item() * (turn % 2)
        scene = round(size[0] * factor), round(size[1] * factor)
        yield cut_parts(render([draw(seed) for seed in seeds], *scene, frames, device), part)


def cut_parts(batch: RenderedBatch, part: tuple[int, int]) -> RenderedBatch:
    """Of each scene a part, `part` in width and height, about a pixel that is masked in some frame."""
    masked = (batch.object_mask | batch.effect_mask).flatten(1, 2).any(1)  # (B, H, W)
    spots = []
    for scene in masked:
        places = scene.nonzero() if scene.any() else torch.ones_like(scene).nonzero()
        spot = places[int(torch.randint(len(places), ()))].tolist()  # row, column
        # The pixel lies somewhere in the middle half of the part.
        starts = (
            round(at - side * (0.25 + 0.5 * torch.rand(()).item())) for at, side in zip(spot, part[::-1], strict=True)
        )
        spots.append(
            [max(0, min(start, n - side)) for start, n, side in zip(starts, scene.shape, part[::-1], strict=True)]
        )

    def cut(values: Tensor) -> Tensor:
        return torch.stack(
            [v[..., top : top + part[1], left : left + part[0]] for v, (top, left) in zip(values, spots, strict=True)]
        )

    return RenderedBatch(**{field.name: cut(getattr(batch, field.name)) for field in fields(batch)})


class CropPool:
    """A ring of 8-bit clips, each used in several crops."""

    def __init__(self, capacity: int, frames: int, size: tuple[int, int], device: str) -> None:
        self.width, self.height = size
        self.clips = torch.zeros(capacity, 3, frames, self.height, self.width, dtype=torch.uint8, device=device)
        self.filled = self.next = 0

    def add(self, clips: Tensor) -> None:
        """clips: (B, F, 3, H, W) in [0, 1]."""
        for clip in (clips.transpose(1, 2) * 255).round().to(torch.uint8):
            self.clips[self.next] = clip
            self.next = (self.next + 1) % len(self.clips)
            self.filled = min(self.filled + 1, len(self.clips))

    def sample(self, count: int, width: int, height: int) -> Tensor:
        """(count, 3, F, height, width) in [-1, 1]."""
        crops = []
        for index in torch.randint(self.filled, (count,)).tolist():
            top = int(torch.randint(self.height - height + 1, ()))
            left = int(torch.randint(self.width - width + 1, ()))
            crop = self.clips[index, :, :, top : top + height, left : left + width]
            crops.append(crop.flip(-1) if torch.rand(()) < 0.5 else crop)
        return torch.stack(crops).float() / 127.5 - 1


class LatentPool:
    """A ring of encoded scenes, each used several times with other masks and noise.

    Entries: "video" and "clean" latents (C, f, h, w) float16, "object" and "effect" tokens (f, h, w) bool.
    """

    def __init__(
        self, capacity: int, scenes: Iterator[RenderedBatch], vae: AutoencoderKLLTXVideo, geometry: Geometry
    ) -> None:
        self.capacity, self.scenes, self.vae, self.geometry = capacity, scenes, vae, geometry
        self.data: dict[str, Tensor] = {}
        self.next = 0
        while self.next < capacity:
            self.refresh()
        self.next = 0

    def refresh(self) -> None:
        """Replace the oldest entries by new scenes."""
        batch = next(self.scenes)
        fresh = {
            "video": encode(self.vae, to_model(batch.video)).half(),
            "clean": encode(self.vae, to_model(batch.background)).half(),
            "object": token_mask(batch.object_mask.any(1), self.geometry),
            "effect": token_mask(batch.effect_mask.any(1), self.geometry),
        }
        for name, value in fresh.items():
            if name not in self.data:
                self.data[name] = value.new_zeros(self.capacity, *value.shape[1:])
            place = torch.arange(self.next, self.next + len(value), device=value.device) % self.capacity
            self.data[name][place] = value
        self.next += len(batch.video)

    def sample(self, count: int) -> dict[str, Tensor]:
        """`count` random entries, stacked."""
        index = torch.randint(self.capacity, (count,), device=self.data["video"].device)
        return {name: value[index] for name, value in self.data.items()}
