"""The transformer as the denoising loop sees it: tokens and the number of the step in, velocity out.

What stands between is how the passes are run (`Speed`): over all tokens or the unknown ones alone, with constant work
done beforehand, compiled, recorded. With all of that off this is `predict_velocity` and touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from layerlift.model.speed import PLAIN, Speed, bucket, full_passes, pays_sparse

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

    from layerlift.model.hoist import Hoisted, TextBatch
    from layerlift.model.record import Recorder
    from layerlift.model.sparse import LoopAttention

# The transformer's timestep is 1000·sigma: it was trained with 1000 of them.
TRAIN_TIMESTEPS = 1000


def predict_velocity(
    transformer: LTXVideoTransformer3DModel,
    tokens: torch.Tensor,
    timesteps: torch.Tensor,
    coordinates: torch.Tensor,
    batches: Sequence[TextBatch],
) -> torch.Tensor:
    """One forward pass for each batch of prompts over `tokens` (1, S, C); timesteps (1, S), coordinates (1, 3, S).

    Tokens need not be all of a clip: each brings its own timestep and coordinates. Returns (n, S, C) float32, n the
    number of prompts.
    """
    velocities = []
    for embeds, mask in batches:
        count = len(embeds)
        velocity = transformer(
            hidden_states=tokens.to(embeds.dtype).expand(count, -1, -1),
            encoder_hidden_states=embeds,
            timestep=timesteps.expand(count, -1),
            encoder_attention_mask=mask,
            video_coords=coordinates.expand(count, -1, -1),
            return_dict=False,
        )[0]
        velocities.append(velocity.float())
    return torch.cat(velocities)


@contextmanager
def open_passes(
    transformer: LTXVideoTransformer3DModel,
    batches: Sequence[TextBatch],
    coordinates: torch.Tensor,
    moving: torch.Tensor,
    *,
    sigmas: Sequence[float],
    speed: Speed = PLAIN,
) -> Iterator[Passes]:
    """The passes of one loop; while this is open the transformer may be changed, afterwards it is what it was.

    Args:
        transformer: its weights decide dtype and, unless they are offloaded, device.
        batches: the passes of a step, each embeds (b, L, D) and mask (b, L).
        coordinates: (1, 3, S).
        moving: (S,) bool, the unknown tokens, on the device.
        sigmas: noise levels of the steps, and a last one.
        speed: how to run them.
    """
    from layerlift.model.hoist import Hoisted, trim_text
    from layerlift.model.record import Recorder, compiled_blocks
    from layerlift.model.sparse import LoopAttention

    plan = full_passes(sigmas, speed.refresh if pays_sparse(moving.float().mean().item()) else None)
    sparse = not all(plan)
    at_hand = all(weight.device == moving.device for weight in transformer.parameters())
    hoist = speed.hoist and at_hand
    if not (sparse or hoist or speed.compile):
        yield Passes(transformer, batches, coordinates, moving, sigmas=sigmas, plan=plan)
        return

    with ExitStack() as stack:
        attention = LoopAttention(transformer)
        stack.enter_context(attention.installed())
        hoisted = None
        if hoist:
            batches = trim_text(batches)
            timesteps = [TRAIN_TIMESTEPS * sigma for sigma in sigmas[:-1]]
            hoisted = Hoisted(transformer, [embeds for embeds, _ in batches], coordinates, moving, timesteps)
            attention.prepare_text(hoisted.text)
            stack.enter_context(hoisted.installed())
        if speed.compile:
            stack.enter_context(compiled_blocks(transformer))
        if sparse:
            # Where the tokens are, which is not where offloaded weights lie.
            dtype, device = transformer.proj_in.weight.dtype, moving.device
            attention.keep([len(embeds) for embeds, _ in batches], len(moving), dtype, device)
        yield Passes(
            transformer, batches, coordinates, moving, sigmas=sigmas, plan=plan,
            attention=attention, hoisted=hoisted, buckets=speed.compile,
            recorder=Recorder() if speed.graphs and hoist and moving.device.type == "cuda" else None,
        )  # fmt: skip


class Passes:
    """See `open_passes`, which makes them."""

    def __init__(
        self,
        transformer: LTXVideoTransformer3DModel,
        batches: Sequence[TextBatch],
        coordinates: torch.Tensor,
        moving: torch.Tensor,
        *,
        sigmas: Sequence[float],
        plan: Sequence[bool],
        attention: LoopAttention | None = None,
        hoisted: Hoisted | None = None,
        buckets: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self.transformer, self.batches, self.coordinates = transformer, batches, coordinates
        self.moving, self.sigmas, self.plan = moving, sigmas, plan
        self.attention, self.hoisted, self.recorder = attention, hoisted, recorder
        if not all(plan):
            fresh = moving.nonzero()[:, 0]
            short = bucket(len(fresh), len(moving)) - len(fresh) if buckets else 0
            self.fresh = torch.cat([fresh, fresh[-1:].expand(short)])  # (N,)
            self.fresh_rotary = None if hoisted is None else hoisted.rotary_of(self.fresh)

    def __call__(self, tokens: torch.Tensor, step: int) -> torch.Tensor:
        """Velocity (n, S, C) float32 of `tokens` (1, S, C) in this step; 0 for known tokens that were not run.

        Steps are asked for in order: sparse ones build on what the last full one kept.
        """
        if self.hoisted is not None:
            self.hoisted.at(step)
        if self.plan[step]:
            velocities = [self._full(tokens, step, batch) for batch in range(len(self.batches))]
            return torch.cat(velocities)
        fresh = tokens[:, self.fresh]
        found = torch.cat([self._sparse(fresh, step, batch) for batch in range(len(self.batches))])
        velocity = found.new_zeros(len(found), *tokens.shape[1:])
        velocity[:, self.fresh] = found
        return velocity

    def _full(self, tokens: torch.Tensor, step: int, batch: int) -> torch.Tensor:
        # Every token carries its own timestep: unknown ones the step's, known ones 0.
        timesteps = TRAIN_TIMESTEPS * self.sigmas[step] * self.moving.float()[None]

        def run(tokens: torch.Tensor) -> torch.Tensor:
            if self.attention is not None:
                self.attention.use(batch, None)
            if self.hoisted is not None:
                self.hoisted.use(batch, None)
            prompts = self.batches[batch : batch + 1]
            return predict_velocity(self.transformer, tokens, timesteps, self.coordinates, prompts)

        return run(tokens) if self.recorder is None else self.recorder(("full", batch), run, tokens)

    def _sparse(self, fresh: torch.Tensor, step: int, batch: int) -> torch.Tensor:
        timesteps = torch.full(fresh.shape[:2], TRAIN_TIMESTEPS * self.sigmas[step], device=fresh.device)

        def run(fresh: torch.Tensor) -> torch.Tensor:
            assert self.attention is not None
            self.attention.use(batch, self.fresh)
            if self.hoisted is not None:
                self.hoisted.use(batch, self.fresh_rotary)
            prompts, coordinates = self.batches[batch : batch + 1], self.coordinates[:, :, self.fresh]
            return predict_velocity(self.transformer, fresh, timesteps, coordinates, prompts)

        return run(fresh) if self.recorder is None else self.recorder(("sparse", batch), run, fresh)
