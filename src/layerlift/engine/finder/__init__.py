"""The finder's network, trained by us: arrays in, arrays out. It runs on the CPU, on every machine alike."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

import numpy as np
import torch
from safetensors.torch import load_file

from layerlift.engine.finder.network import CHANNELS, KINDS, STEP, FinderNet

__all__ = ["CHANNELS", "KINDS", "judge", "network"]


@torch.no_grad()
def judge(given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the network says of B frames: how likely each of `KINDS` is, (B, 5, h, w), and its strength, (B, h, w).

    `given` (B, h, w, 21) float32 in [-1, 1] is as `finder/inputs.py` makes it. Results are float32 in [0, 1].
    """
    height, width = given.shape[1:3]
    pad = ((0, 0), (0, -height % STEP), (0, -width % STEP), (0, 0))
    padded = np.pad(given, pad, mode="edge").transpose(0, 3, 1, 2)  # (B, C, h, w)
    logits, strength = network()(torch.from_numpy(np.ascontiguousarray(padded)))
    likely = logits.softmax(1)[..., :height, :width].numpy()
    return likely, torch.sigmoid(strength)[:, 0, :height, :width].numpy()


@cache
def network() -> FinderNet:
    """The network with the package's weights."""
    net = FinderNet()
    with as_file(files("layerlift.engine.finder") / "finder.safetensors") as path:
        net.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return net.eval()
