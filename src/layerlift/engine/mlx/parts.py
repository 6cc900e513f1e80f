"""The parts of a model as the stages use them, with numpy on the outside: MLX's side of `layerlift.engine.base`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import torch

from layerlift.engine.base import Context, Decode, Denoise, Encode, SamplingSettings, Score
from layerlift.engine.device import Policy
from layerlift.engine.mlx.effect_score import score_tokens
from layerlift.engine.mlx.latents import decode, encode
from layerlift.engine.mlx.passes import Loops
from layerlift.engine.mlx.sampling import denoise
from layerlift.engine.model.effect_score import Coverage, Scorer, frame_scores
from layerlift.engine.model.speed import PLAIN, Speed
from layerlift.engine.sampling import Prompts, token_coordinates
from layerlift.errors import PrecisionError
from layerlift.progress import StageProgress


@contextmanager
def encoding(model: Any, policy: Policy) -> Iterator[Encode]:
    """See `Engine.encoding`."""
    with model.part("encoder", policy) as half:

        def encode_frames(frames: np.ndarray) -> np.ndarray:
            return encode(half, frames)

        yield encode_frames


@contextmanager
def decoding(model: Any, policy: Policy) -> Iterator[Decode]:
    """See `Engine.decoding`."""
    settings = model.settings
    with model.part("decoder", policy) as half:

        def decode_latents(latents: np.ndarray, noise: Any) -> Iterator[Any]:
            return decode(half, latents, noise, settings.decode_timestep, settings.decode_noise)

        yield decode_latents


@contextmanager
def denoising(
    model: Any, policy: Policy, prompts: Prompts, sampling: SamplingSettings, speed: Speed
) -> Iterator[Denoise]:
    """See `Engine.denoising`."""
    with model.part("transformer", policy) as transformer:
        loops = _loops(transformer, prompts, policy.batched_guidance, sampling.sigmas, speed)

        def generate(
            latents: np.ndarray, unknown: np.ndarray, context: Context | None, noise: Any, progress: StageProgress
        ) -> np.ndarray:
            whole, moving = latents, unknown
            places = token_coordinates(latents.shape, model.geometry, model.settings.rate)
            if context is not None:
                # A row of tokens with the context's behind the window's.
                whole = np.concatenate([latents.reshape(*latents.shape[:2], -1), context.latents], 2)[:, :, None, None]
                moving = np.concatenate([unknown.ravel(), np.zeros(len(context), bool)])[None, None]
                places = torch.cat([places, torch.from_numpy(context.places)], 2)
            made = denoise(loops, whole, moving, places, settings=sampling, noise=noise, progress=progress)
            if context is not None:
                made = made.reshape(*made.shape[:2], -1)[:, :, : prod(latents.shape[2:])].reshape(latents.shape)
            return made

        yield generate


@contextmanager
def scoring(model: Any, policy: Policy, prompts: Prompts, scorer: Scorer, sigmas: Sequence[float]) -> Iterator[Score]:
    """See `Engine.scoring`. Raises PrecisionError when the model returned NaN or infinity."""
    geometry = model.geometry
    with model.part("transformer", policy) as transformer:
        loops = _loops(transformer, prompts, True, (1.0, 0.0), PLAIN)

        def score(latents: np.ndarray, coverage: Coverage, noise: Any) -> np.ndarray:
            places = token_coordinates(latents.shape, geometry, model.settings.rate)
            scores = score_tokens(loops, latents, coverage, places, scorer=scorer, sigmas=sigmas, noise=noise)
            found: np.ndarray = frame_scores(scores, coverage, geometry.time).numpy()
            if not np.isfinite(found).all():
                raise PrecisionError(
                    f"the model returned NaN or infinity: its weights are damaged or {transformer.dtype} overflows; "
                    "try --dtype float32"
                )
            return found

        yield score


def _loops(transformer: Any, prompts: Prompts, together: bool, sigmas: Sequence[float], speed: Speed) -> Loops:
    batches = Prompts(prompts.embeds, prompts.mask, together).batches(like=torch.zeros(()))
    return Loops(transformer, batches, sigmas, speed)
