"""The finder's network: a small U-Net from what is known of a frame to what its object causes there."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

# What a pixel may be, by class, and how many channels it is told from: `finder/inputs.py` names them.
KINDS = ("none", "shadow", "reflection", "light", "smoke")
CHANNELS = 25
WIDTHS = (32, 64, 96, 144)
GROUPS = 8
# Pictures have sides that are multiples of this.
STEP = 16


class Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016), with group normalisation."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, out, 3, padding=1)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, out), nn.GroupNorm(GROUPS, out)])
        self.short = nn.Conv2d(inside, out, 1) if inside != out else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inside, h, w) → (B, out, h, w)."""
        y = F.silu(self.norms[0](self.first(x)))
        return F.silu(self.norms[1](self.second(y)) + self.short(x))


class FinderNet(nn.Module):
    """(B, 25, H, W) → logits (B, 5, H, W) of `KINDS`, and the logit of the strength (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4 * CHANNELS, WIDTHS[0], 1)
        self.down = nn.ModuleList(
            [Block(inside, out) for inside, out in zip((WIDTHS[0], *WIDTHS[:-1]), WIDTHS, strict=True)]
        )
        self.middle = Block(WIDTHS[-1], WIDTHS[-1])
        self.up = nn.ModuleList(
            [Block(WIDTHS[at + 1] + WIDTHS[at], WIDTHS[at]) for at in reversed(range(len(WIDTHS) - 1))]
        )
        self.head = nn.Conv2d(WIDTHS[0], 4 * (len(KINDS) + 1), 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """H and W are multiples of `STEP`."""
        y = self.stem(F.pixel_unshuffle(x, 2))
        skips = []
        for at, block in enumerate(self.down):
            y = block(F.avg_pool2d(y, 2) if at else y)
            skips.append(y)
        # What the picture is like as a whole reaches every place.
        y = self.middle(y + y.mean((2, 3), keepdim=True))
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
            y = cast("torch.Tensor", block(torch.cat([y, skip], 1)))
        out = F.pixel_shuffle(self.head(y), 2)
        return out[:, : len(KINDS)], out[:, len(KINDS) :]
