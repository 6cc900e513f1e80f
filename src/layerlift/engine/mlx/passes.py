"""The transformer as the denoising loop sees it: tokens and the number of the step in, velocity out.

Text, timesteps and rotary tables are made once; keys and values of known tokens are kept between full passes where that
pays (`Speed.refresh`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from layerlift.engine.mlx.arrays import from_torch
from layerlift.engine.mlx.tables import gathered, rotary_tables
from layerlift.engine.mlx.transformer import Kept, Text, Transformer
from layerlift.engine.model.hoist import trim_text
from layerlift.engine.model.passes import TRAIN_TIMESTEPS
from layerlift.engine.model.speed import Speed, full_passes, pays_sparse

if TYPE_CHECKING:
    import torch

    from layerlift.engine.model.hoist import TextBatch


class Loops:
    """Loops one after the other with the same prompts and noise levels.

    Args:
        transformer: whose weights are in memory.
        batches: the passes of a step, each embeds (b, L, D) and mask (b, L).
        sigmas: noise levels of the steps, and a last one.
        speed: whether there are sparse passes; what else it says is for torch.
    """

    def __init__(
        self, transformer: Transformer, batches: Sequence["TextBatch"], sigmas: Sequence[float], speed: Speed
    ) -> None:
        self.transformer, self.sigmas, self.refresh = transformer, sigmas, speed.refresh
        self.texts = [
            transformer.text(from_torch(embeds), None if mask is None else from_torch(mask.float()))
            for embeds, mask in trim_text(batches)
        ]

    def over(self, coordinates: "torch.Tensor", moving: np.ndarray) -> "Passes":
        """The passes of a loop over a window's tokens, which lie at coordinates (1, 3, S); `moving` (S,) bool are the
        unknown ones."""
        plan = full_passes(self.sigmas, self.refresh if pays_sparse(float(moving.mean())) else None)
        return Passes(self.transformer, self.texts, coordinates, moving, sigmas=self.sigmas, plan=plan)


class Passes:
    """The passes of a loop, see `Loops.over`."""

    def __init__(
        self,
        transformer: Transformer,
        texts: Sequence[Text],
        coordinates: "torch.Tensor",
        moving: np.ndarray,
        *,
        sigmas: Sequence[float],
        plan: Sequence[bool],
    ) -> None:
        self.transformer, self.texts, self.sigmas, self.plan = transformer, texts, sigmas, plan
        self.rotary = rotary_tables(coordinates, transformer.width)
        # Every token carries its own timestep: unknown ones the step's, known ones 0.
        self.index = None if moving.all() else mx.array((~moving).astype(np.int32))
        self.kept: list[Kept | None] = [None] * len(texts)
        if not all(plan):
            self.kept = [Kept(len(transformer.transformer_blocks)) for _ in texts]
            self.fresh = mx.array(np.flatnonzero(moving).astype(np.int32))
            self.fresh_rotary = gathered(self.rotary, self.fresh)

    def __call__(self, tokens: Any, step: int) -> Any:
        """Velocity (n, S, C) float32 of `tokens` (1, S, C) in this step; 0 for known tokens that were not run.

        Steps are asked for in order: sparse ones build on what the last full one kept.
        """
        timestep = TRAIN_TIMESTEPS * self.sigmas[step]
        if self.plan[step]:
            times = self.transformer.times([timestep] if self.index is None else [timestep, 0.0], self.index)
            found = [
                self.transformer(tokens, times, self.rotary, text, kept=kept)
                for text, kept in zip(self.texts, self.kept, strict=True)
            ]
            return mx.concatenate(found)
        times = self.transformer.times([timestep])
        fresh = mx.take(tokens, self.fresh, axis=1)
        found = [
            self.transformer(fresh, times, self.fresh_rotary, text, kept=kept, fresh=self.fresh)
            for text, kept in zip(self.texts, self.kept, strict=True)
        ]
        moved = mx.concatenate(found)
        velocity = mx.zeros((len(moved), *tokens.shape[1:]))
        velocity[:, self.fresh] = moved
        return velocity
