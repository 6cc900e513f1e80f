"""The finder's networks, trained by us: arrays in, arrays out. They run on the CPU, on every machine alike.

There is one for objects that get somewhere, whose effects other frames tell, and one for objects that stand, whose
effects can only be told by their looks.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch

from layerlift.engine.finder.network import CHANNELS, KINDS, STEP, FinderNet
from layerlift.engine.model.checkpoint import with_scales
from layerlift.engine.model.headers import read_header
from layerlift.engine.model.weights import read_tensors

__all__ = ["CHANNELS", "KINDS", "judge", "network"]


@torch.no_grad()
def judge(given: np.ndarray, *, moves: bool) -> tuple[np.ndarray, np.ndarray]:
    """What a network says of B frames: how likely each of `KINDS` is, (B, 5, h, w), and its strength, (B, h, w).

    `given` (B, h, w, 25) float32 in [-1, 1] is as `finder/inputs.py` makes it; `moves` is whether the object gets
    somewhere. Results are float16 in [0, 1].
    """
    height, width = given.shape[1:3]
    pad = ((0, 0), (0, -height % STEP), (0, -width % STEP), (0, 0))
    padded = np.pad(given, pad, mode="edge").transpose(0, 3, 1, 2)  # (B, C, h, w)
    logits, strength = network(moves)(torch.from_numpy(np.ascontiguousarray(padded)))
    likely = logits.softmax(1)[..., :height, :width].half().numpy()
    return likely, torch.sigmoid(strength)[:, 0, :height, :width].half().numpy()


@cache
def network(moves: bool) -> FinderNet:
    """The network for objects that move, or stand, with the package's weights: in 8 bits in the file, float32 here."""
    net = FinderNet()
    with as_file(files("layerlift.engine.finder") / f"{'moving' if moves else 'standing'}.safetensors") as path:
        net.load_state_dict(dict(read_tensors(with_scales(read_header(path)[0]), torch.float32)))
    return net.eval()
