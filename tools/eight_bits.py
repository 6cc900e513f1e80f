"""Weights as the package stores them: in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from layerlift.engine.model.checkpoint import SCALE_SUFFIX


def quantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of two or more axes become int8 with one float16 scale per output channel; the rest is float16."""
    packed = {}
    for name, value in state.items():
        if value.ndim >= 2 and name.endswith(".weight"):
            scale = value.float().abs().amax(tuple(range(1, value.ndim)), keepdim=True).clamp_min(1e-8) / 127
            scale = scale.half()
            # Rounding to half precision may have made a tiny scale 0.
            packed[name] = (value.float() / scale.float().clamp_min(1e-8)).round().clamp(-127, 127).to(torch.int8)
            packed[name + SCALE_SUFFIX] = scale
        else:
            packed[name] = value.half() if value.is_floating_point() else value
    return packed
