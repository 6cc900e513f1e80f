"""The parts of a model as the stages use them, with numpy on the outside: torch's side of `layerlift.engine.base`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any

import numpy as np
import torch

from layerlift.engine.base import Context, Decode, Denoise, Encode, SamplingSettings, Score
from layerlift.engine.device import Policy
from layerlift.engine.model import latents as vae_latents
from layerlift.engine.model.effect_score import (
    Coverage,
    Scorer,
    cells_of_frames,
    cover_tokens,
    frame_scores,
    score_tokens,
)
from layerlift.engine.model.speed import Speed
from layerlift.engine.model.split import SplitLoops
from layerlift.engine.sampling import Prompts, denoise, open_denoising, token_coordinates
from layerlift.errors import PrecisionError
from layerlift.progress import StageProgress


class NoiseSource(torch.Generator):
    """A generator on the CPU whose state is an array of numpy's, (N,) uint8."""

    def get_state(self) -> np.ndarray:  # type: ignore[override]
        """Where it stands."""
        return super().get_state().numpy().copy()

    def set_state(self, state: np.ndarray) -> Any:  # type: ignore[override]
        """Go back to where it stood."""
        return super().set_state(torch.from_numpy(state))


def noise(seed: int) -> NoiseSource:
    """A source of noise that begins with a seed."""
    source = NoiseSource()
    source.manual_seed(seed)
    return source


def embed(model: Any, prompts: Sequence[str], policy: Policy, cache: bool, progress: StageProgress) -> Prompts:
    """Embeddings of prompts, one after the other."""
    found = model.text(prompts, policy, cache, progress)
    return Prompts(torch.cat([text.embeds for text in found]), torch.cat([text.mask for text in found]))


@contextmanager
def encoding(model: Any, policy: Policy) -> Iterator[Encode]:
    """See `Engine.encoding`."""
    with model.vae_encoder(policy) as vae:

        def encode(frames: np.ndarray) -> np.ndarray:
            return vae_latents.encode(vae, frames).numpy()

        yield encode


@contextmanager
def decoding(model: Any, policy: Policy) -> Iterator[Decode]:
    """See `Engine.decoding`."""
    settings = model.settings
    run = vae_latents.decode_on_device if policy.device_pixels else vae_latents.decode
    with model.vae_decoder(policy) as vae:

        def decode(latents: np.ndarray, noise: Any) -> Iterator[Any]:
            return run(vae, torch.from_numpy(latents), noise, settings.decode_timestep, settings.decode_noise)

        yield decode


@contextmanager
def denoising(
    model: Any,
    policy: Policy,
    prompts: Prompts,
    sampling: SamplingSettings,
    speed: Speed,
    *,
    beside: Policy | None = None,
) -> Iterator[Denoise]:
    """See `Engine.denoising`."""
    given = Prompts(prompts.embeds, prompts.mask, together=policy.batched_guidance and beside is None)
    with ExitStack() as stack:
        transformer = stack.enter_context(model.transformer(policy))

        def opened(transformer: Any, only: int | None = None) -> Any:
            return stack.enter_context(open_denoising(transformer, given, sampling, speed, only=only))

        if beside is None:
            loops = opened(transformer)
        else:
            loops = SplitLoops(opened(transformer, 0), opened(stack.enter_context(model.transformer(beside)), 1))

        def generate(
            latents: np.ndarray, unknown: np.ndarray, context: Context | None, noise: Any, progress: StageProgress
        ) -> np.ndarray:
            whole, moving = torch.from_numpy(latents), torch.from_numpy(unknown)
            places = token_coordinates(latents.shape, model.geometry, model.settings.rate)
            if context is not None:
                whole, moving = _behind(context, whole, moving)
                places = torch.cat([places, torch.from_numpy(context.places)], 2)
            made = denoise(
                transformer, whole, moving, given, places,
                settings=sampling, generator=noise, progress=progress, speed=speed, loops=loops,
            )  # fmt: skip
            if context is not None:
                grid = latents.shape[2:]
                made = made.flatten(2)[:, :, : prod(grid)].unflatten(2, grid)
            return made.numpy()

        yield generate


def _behind(context: Context, latents: torch.Tensor, unknown: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A window's latents (1, C, f, h, w) and unknown tokens (f, h, w) as one row of tokens with the context's behind
    it, (1, C, 1, 1, S + N) and (1, 1, S + N)."""
    known = torch.zeros(len(context), dtype=torch.bool)
    row = torch.cat([latents.flatten(2), torch.from_numpy(context.latents)], 2)
    return row[:, :, None, None], torch.cat([unknown.flatten(), known])[None, None]


@contextmanager
def scoring(model: Any, policy: Policy, prompts: Prompts, scorer: Scorer, sigmas: Sequence[float]) -> Iterator[Score]:
    """See `Engine.scoring`. Raises LayerliftError when the model returned NaN or infinity."""
    geometry = model.geometry
    with model.transformer(policy) as transformer:

        def score(latents: np.ndarray, coverage: Coverage, noise: Any) -> np.ndarray:
            scores = score_tokens(
                transformer, torch.from_numpy(latents), coverage, (prompts.embeds, prompts.mask),
                token_coordinates(latents.shape, geometry, model.settings.rate),
                scorer=scorer, sigmas=sigmas, generator=noise, policy=policy,
            )  # fmt: skip
            found = frame_scores(scores, coverage, geometry.time).cpu().numpy()
            if not np.isfinite(found).all():
                weight = transformer.proj_in.weight
                raise PrecisionError(
                    f"the model returned NaN or infinity: its weights are damaged or {weight.dtype} overflows on "
                    f"{weight.device.type}; try --dtype float32"
                )
            return found

        yield score


def cover(model: Any, objects: np.ndarray, policy: Policy) -> tuple[Coverage, np.ndarray]:
    """See `Engine.cover`."""
    masks = torch.from_numpy(objects).to(policy.device)
    covered = cover_tokens(masks, model.geometry).to(torch.device("cpu"))
    return covered, cells_of_frames(masks, model.geometry).cpu().numpy()
