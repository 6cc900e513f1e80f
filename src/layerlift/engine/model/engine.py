"""The stages' side of a model that torch runs, see `layerlift.engine.base.Engine`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from layerlift.engine.base import Decode, Denoise, Encode, Noise, SamplingSettings, Score, Scorer
from layerlift.engine.device import Policy
from layerlift.engine.model.speed import Speed
from layerlift.geometry.fit import Geometry
from layerlift.progress import StageProgress

if TYPE_CHECKING:
    from layerlift.engine.model.model import Model
    from layerlift.engine.sampling import Prompts


class TorchEngine:
    """Whatever opens its parts as torch modules (`vae_encoder`, `transformer`, `vae_decoder`) and makes `text`."""

    geometry: Geometry

    def noise(self, seed: int) -> Noise:
        from layerlift.engine.model import parts

        return parts.noise(seed)

    def draw(self, noise: Any, latents: np.ndarray, sampling: SamplingSettings) -> None:
        from layerlift.engine.sampling import draw_noise

        draw_noise(latents.shape, sampling, noise)

    def prompts(self, prompts: Sequence[str], policy: Policy, cache: bool, progress: StageProgress) -> Prompts:
        from layerlift.engine.model import parts

        return parts.embed(self, prompts, policy, cache, progress)

    def unknown_tokens(self, hidden: np.ndarray) -> np.ndarray:
        from layerlift.engine.model.latents import unknown_tokens

        return unknown_tokens(hidden, self.geometry).numpy()

    def cover(self, objects: np.ndarray, policy: Policy) -> tuple[Any, np.ndarray]:
        from layerlift.engine.model import parts

        return parts.cover(self, objects, policy)

    def scorer(self, layers: str | Sequence[int]) -> Scorer:
        from layerlift.engine.model import effect_score

        return effect_score.choose_scorer(cast("Model", self), layers)

    def scoring_prompt(self) -> str:
        from layerlift.engine.model.effect_score import choose_prompt

        return choose_prompt(cast("Model", self))

    def encoding(self, policy: Policy) -> AbstractContextManager[Encode]:
        from layerlift.engine.model import parts

        return parts.encoding(self, policy)

    def decoding(self, policy: Policy) -> AbstractContextManager[Decode]:
        from layerlift.engine.model import parts

        return parts.decoding(self, policy)

    def denoising(
        self, policy: Policy, prompts: Prompts, sampling: SamplingSettings, speed: Speed, beside: Policy | None = None
    ) -> AbstractContextManager[Denoise]:
        from layerlift.engine.model import parts

        return parts.denoising(self, policy, prompts, sampling, speed, beside=beside)

    def scoring(
        self, policy: Policy, prompts: Prompts, scorer: Any, sigmas: Sequence[float]
    ) -> AbstractContextManager[Score]:
        from layerlift.engine.model import parts

        return parts.scoring(self, policy, prompts, scorer, sigmas)
