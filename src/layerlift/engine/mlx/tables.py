"""Numbers that are computed once on the host, by torch's functions for its CPU: so both engines start from the very
same bits, whatever sines Apple's GPUs make of angles beyond a thousand.
"""

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import torch

from layerlift.engine.mlx.arrays import from_torch

# What coordinates are divided by: frames or seconds, rows and columns.
BASES = (20, 2048, 2048)
THETA = 10000.0
# The width of the sinusoids that a timestep becomes.
SINUSOIDS = 256

# Cosines and sines (S, D/2) float32 of every pair of channels.
Rotary = tuple[Any, Any]


def rotary_tables(coordinates: torch.Tensor, width: int) -> Rotary:
    """The rotary embedding of tokens that lie at coordinates (1, 3, S), for queries of `width` channels.

    As diffusers' `LTXVideoRotaryPosEmbed` makes it, which holds each number twice.
    """
    grid = torch.stack([axis / base for axis, base in zip(coordinates[0], BASES, strict=True)], dim=-1)  # (S, 3)
    start, end = math.log(1.0, THETA), math.log(THETA, THETA)
    frequencies = THETA ** torch.linspace(start, end, width // 6, dtype=torch.float32)
    angles = frequencies * math.pi / 2.0 * (grid.unsqueeze(-1) * 2 - 1)  # (S, 3, D/6)
    angles = angles.transpose(-1, -2).flatten(1)  # (S, D/2), frequency by frequency
    rest = width % 6 // 2
    cosines = torch.cat([torch.ones(len(angles), rest), angles.cos()], dim=-1)
    sines = torch.cat([torch.zeros(len(angles), rest), angles.sin()], dim=-1)
    return from_torch(cosines), from_torch(sines)


def sinusoids(timesteps: Sequence[float]) -> Any:
    """Timesteps as the embedding layers want them: (R, 256) float32, cosines before sines."""
    half = SINUSOIDS // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = torch.tensor(list(timesteps), dtype=torch.float32)[:, None] * frequencies
    return from_torch(torch.cat([angles.cos(), angles.sin()], dim=-1))


def gathered(rotary: Rotary, tokens: Any) -> Rotary:
    """The rows that belong to tokens (N,)."""
    return mx.take(rotary[0], tokens, axis=0), mx.take(rotary[1], tokens, axis=0)
