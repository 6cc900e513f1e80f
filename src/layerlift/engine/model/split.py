"""Guidance on two devices: one runs the negative prompt's passes while the other runs the prompt's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from layerlift.engine.model.passes import Loops


@dataclass(frozen=True, slots=True)
class SplitLoops:
    """Loops of two transformers with a prompt each, as the loop that has both prompts: see `Loops`."""

    without: Loops
    towards: Loops

    def over(self, coordinates: torch.Tensor, moving: torch.Tensor) -> Callable[[torch.Tensor, int], torch.Tensor]:
        """The passes of a loop over a window's tokens, which lie on the first device."""
        there = self.towards.transformer.proj_in.weight.device
        near, far = self.without.over(coordinates, moving), self.towards.over(coordinates.to(there), moving.to(there))

        def run(tokens: torch.Tensor, step: int) -> torch.Tensor:
            # Neither waits for the other before both have all they need: a device is only told what to do.
            towards = far(tokens.to(there), step)
            return torch.cat([near(tokens, step), towards.to(tokens.device)])

        return run
