"""How long a phase of training lasts, and what that means for learning rate and averaged weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class Phase:
    """From `begin` to `end` seconds on the clock that started at `started`, or `max_steps` steps if that is less."""

    started: float
    begin: float
    end: float
    max_steps: int | None = None

    def steps(self) -> Iterator[tuple[int, float]]:
        """The phase's steps, each with the share of the time that has passed, 0 … 1."""
        step = 0
        while (now := time.monotonic() - self.started) < self.end and step != self.max_steps:
            yield step, max(0.0, now - self.begin) / (self.end - self.begin)
            step += 1


def cosine(progress: float, floor: float) -> float:
    """From 1 down to `floor` as progress goes from 0 to 1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_rate(optimisers: list[Optimizer], rate: float) -> None:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int, longest: float) -> None:
    """Move the averaged weights towards the model's: a mean of the first steps, later exponential with `longest`."""
    decay = min(longest, step / (step + 10))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def update(loss: torch.Tensor, model: nn.Module, optimisers: list[Optimizer]) -> None:
    """One step down the gradient, clipped to a norm of 1."""
    for optimiser in optimisers:
        optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()


def autocast(device: str) -> torch.autocast:
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
