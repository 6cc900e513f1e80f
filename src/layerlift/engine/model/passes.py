"""The transformer as the denoising loop sees it: tokens and the number of the step in, velocity out.

What stands between is how the passes are run (`Speed`): over all tokens or the unknown ones alone, with constant work
done beforehand, compiled, recorded. With all of that off this is `predict_velocity` and touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from layerlift.engine.model.speed import PLAIN, Speed, bucket, full_passes, pays_sparse

if TYPE_CHECKING:
    from diffusers import LTXVideoTransformer3DModel

    from layerlift.engine.model.hoist import Hoisted, TextBatch
    from layerlift.engine.model.record import Recorder
    from layerlift.engine.model.sparse import LoopAttention

# A recorded sparse pass serves another window if at least this share of its tokens is that window's: running some of
# them twice for nothing costs less than two unrecorded passes and a recording.
SPARE_SHARE = 0.6
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
    """The passes of one loop: `Loops.over` of `open_loops`."""
    with open_loops(transformer, batches, sigmas=sigmas, speed=speed) as loops:
        yield loops.over(coordinates, moving)


@contextmanager
def open_loops(
    transformer: LTXVideoTransformer3DModel,
    batches: Sequence[TextBatch],
    *,
    sigmas: Sequence[float],
    speed: Speed = PLAIN,
    only: int | None = None,
) -> Iterator[Loops]:
    """Loops one after the other with the same prompts and noise levels; while this is open the transformer may be
    changed, afterwards it is what it was.

    Args:
        transformer: its weights decide dtype and, unless they are offloaded, device.
        batches: the passes of a step, each embeds (b, L, D) and mask (b, L).
        sigmas: noise levels of the steps, and a last one.
        speed: how to run them.
        only: the number of the one batch to run, as it would be run beside the others.
    """
    from layerlift.engine.model.hoist import Hoisted, trim_text
    from layerlift.engine.model.record import compiled_blocks
    from layerlift.engine.model.sparse import LoopAttention

    device = transformer.proj_in.weight.device
    hoist = speed.hoist and all(weight.device == device for weight in transformer.parameters())
    with ExitStack() as stack:
        attention = hoisted = None
        if speed.refresh is not None or hoist or speed.compile:
            attention = LoopAttention(transformer)
            stack.enter_context(attention.installed())
        # Trimmed with the others, and so as one transformer that runs all of them has it.
        batches = trim_text(batches) if hoist else batches
        batches = batches if only is None else batches[only : only + 1]
        if hoist:
            assert attention is not None
            timesteps = [TRAIN_TIMESTEPS * sigma for sigma in sigmas[:-1]]
            hoisted = Hoisted(transformer, [embeds for embeds, _ in batches], timesteps)
            attention.prepare_text(hoisted.text)
            stack.enter_context(hoisted.installed())
        if speed.compile:
            stack.enter_context(compiled_blocks(transformer))
        yield Loops(transformer, batches, sigmas=sigmas, speed=speed, attention=attention, hoisted=hoisted)


class Loops:
    """See `open_loops`, which makes them."""

    def __init__(
        self,
        transformer: LTXVideoTransformer3DModel,
        batches: Sequence[TextBatch],
        *,
        sigmas: Sequence[float],
        speed: Speed,
        attention: LoopAttention | None,
        hoisted: Hoisted | None,
    ) -> None:
        self.transformer, self.batches, self.sigmas, self.speed = transformer, batches, sigmas, speed
        self.attention, self.hoisted = attention, hoisted
        self._passes: Passes | None = None

    def over(self, coordinates: torch.Tensor, moving: torch.Tensor) -> Passes:
        """The passes of a loop over a window's tokens; those of the window before are over.

        Args:
            coordinates: (1, 3, S).
            moving: (S,) bool, the unknown tokens, on the device.
        """
        plan = full_passes(self.sigmas, self.speed.refresh if pays_sparse(moving.float().mean().item()) else None)
        if self._passes is None or not self._passes.move(coordinates, moving, plan):
            # What they keep goes before anything else comes.
            self._passes = None
            self._passes = self._make(coordinates, moving, plan)
        return self._passes

    def _make(self, coordinates: torch.Tensor, moving: torch.Tensor, plan: Sequence[bool]) -> Passes:
        from layerlift.engine.model.record import Recorder

        coordinates, moving = coordinates.clone(), moving.clone()
        if self.hoisted is not None:
            self.hoisted.place(coordinates, moving)
        if self.attention is not None:
            # Where the tokens are, which is not where offloaded weights lie.
            dtype, tokens = self.transformer.proj_in.weight.dtype, 0 if all(plan) else len(moving)
            self.attention.keep([len(embeds) for embeds, _ in self.batches], tokens, dtype, moving.device)
        recorded = self.speed.graphs and self.hoisted is not None and moving.device.type == "cuda"
        return Passes(
            self.transformer, self.batches, coordinates, moving, sigmas=self.sigmas, plan=plan,
            attention=self.attention, hoisted=self.hoisted, buckets=self.speed.compile,
            recorder=Recorder() if recorded else None,
        )  # fmt: skip


class Passes:
    """The passes of a loop, see `Loops.over`. What recorded ones read stays where it is."""

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
        self.attention, self.hoisted, self.recorder, self.buckets = attention, hoisted, recorder, buckets
        # Recorded passes look their timesteps up; what they are given instead stays where it is, like all they touch.
        self.no_times = torch.zeros(1, len(moving), device=moving.device)
        if not all(plan):
            self._choose(moving.nonzero()[:, 0])

    def _choose(self, fresh: torch.Tensor) -> None:
        """Sparse passes run on these tokens (N,), and some of them twice where that fills a bucket."""
        count = bucket(len(fresh), len(self.moving)) if self.buckets else len(fresh)
        self.fresh = _filled(fresh, count)
        self.fresh_rotary = None if self.hoisted is None else self.hoisted.rotary_of(self.fresh)

    def move(self, coordinates: torch.Tensor, moving: torch.Tensor, plan: Sequence[bool]) -> bool:
        """Go on with other tokens, and with what was recorded; False where nothing was or they are too different."""
        hoisted, recorder = self.hoisted, self.recorder
        if recorder is None or hoisted is None or len(moving) != len(self.moving) or plan != self.plan:
            return False
        if bool(moving.all()) != hoisted.all_moving:
            return False
        self.coordinates.copy_(coordinates)
        self.moving.copy_(moving)
        hoisted.move(self.coordinates)
        if all(plan):
            return True
        fresh = moving.nonzero()[:, 0]
        if not SPARE_SHARE * len(self.fresh) <= len(fresh) <= len(self.fresh):
            for batch in range(len(self.batches)):
                recorder.forget(("sparse", batch))
            self._choose(fresh)
            return True
        assert self.fresh_rotary is not None
        self.fresh.copy_(_filled(fresh, len(self.fresh)))
        for table, new in zip(self.fresh_rotary, hoisted.rotary_of(self.fresh), strict=True):
            table.copy_(new)
        return True

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
        timesteps = self.no_times
        if self.recorder is None:
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
        timesteps = self.no_times[:, : fresh.shape[1]]
        if self.recorder is None:
            timesteps = torch.full(fresh.shape[:2], TRAIN_TIMESTEPS * self.sigmas[step], device=fresh.device)

        def run(fresh: torch.Tensor) -> torch.Tensor:
            assert self.attention is not None
            self.attention.use(batch, self.fresh)
            if self.hoisted is not None:
                self.hoisted.use(batch, self.fresh_rotary)
            prompts, coordinates = self.batches[batch : batch + 1], self.coordinates[:, :, self.fresh]
            return predict_velocity(self.transformer, fresh, timesteps, coordinates, prompts)

        return run(fresh) if self.recorder is None else self.recorder(("sparse", batch), run, fresh)


def _filled(tokens: torch.Tensor, count: int) -> torch.Tensor:
    """Tokens (N,), the last one repeated so that there are `count`."""
    return torch.cat([tokens, tokens[-1:].expand(count - len(tokens))])
