"""An opened model that MLX runs: the checkpoint, settings and text of a `Model`, and other parts."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from layerlift.engine.base import Decode, Denoise, Encode, SamplingSettings, Score
from layerlift.engine.device import Policy
from layerlift.engine.device.mlx import free_mlx, set_mlx_device
from layerlift.engine.device.needs import ModelFacts
from layerlift.engine.mlx.needs import mlx_facts
from layerlift.engine.model.model import Model
from layerlift.engine.model.speed import Speed
from layerlift.engine.model.text import EncodedText
from layerlift.progress import StageProgress


class MlxModel(Model):
    """A model whose parts MLX runs. One at a time is in memory, unless the policy says `resident`.

    Attributes:
        opened: the same model as torch runs it.
    """

    def __init__(self, opened: Model) -> None:
        """`opened`: what to run. No weight is read."""
        text = copy.copy(opened._text)
        if isinstance(text, EncodedText):
            text.run = _embed
        self.opened = opened
        super().__init__(opened.name, opened._checkpoint, opened.settings, opened.geometry, text)

    def facts(self, prompts: Sequence[str], policy: Policy, cache: bool = True) -> ModelFacts:
        return mlx_facts(super().facts(prompts, policy, cache))

    def cover(self, objects: np.ndarray, policy: Policy) -> tuple[Any, np.ndarray]:
        # Counting pixels is torch's, on the CPU: it is little, and MLX has the GPU.
        return super().cover(objects, replace(policy, device="cpu"))

    def encoding(self, policy: Policy) -> AbstractContextManager[Encode]:
        from layerlift.engine.mlx import parts

        return parts.encoding(self, policy)

    def decoding(self, policy: Policy) -> AbstractContextManager[Decode]:
        from layerlift.engine.mlx import parts

        return parts.decoding(self, policy)

    def denoising(
        self, policy: Policy, prompts: Any, sampling: SamplingSettings, speed: Speed, beside: Policy | None = None
    ) -> AbstractContextManager[Denoise]:
        if beside is not None:
            raise ValueError("MLX has one GPU")
        from layerlift.engine.mlx import parts

        return parts.denoising(self, policy, prompts, sampling, speed)

    def scoring(
        self, policy: Policy, prompts: Any, scorer: Any, sigmas: Sequence[float]
    ) -> AbstractContextManager[Score]:
        from layerlift.engine.mlx import parts

        return parts.scoring(self, policy, prompts, scorer, sigmas)

    def spare(self, device: str) -> int:
        """None: what a Mac may use is told without regard to what is in use."""
        return 0

    def close(self) -> None:
        for _, part in self._kept.values():
            part.release()
        self._kept.clear()
        free_mlx()

    @contextmanager
    def part(self, kind: str, policy: Policy) -> Iterator[Any]:
        """The "encoder", "transformer" or "decoder", with its weights in memory; freed on leaving."""
        part: Any
        set_mlx_device(policy.device)
        place = kind, policy.device
        kept_policy, part = self._kept.pop(place, (None, None))
        if kept_policy != policy:
            if part is not None:
                part.release()
            part = self._load(kind, policy)
        try:
            yield part
        finally:
            if policy.resident:
                self._kept[place] = (policy, part)
            else:
                # The caller's `as` name outlives its block: so the memory goes even while the part is referred to.
                part.release()
                free_mlx()

    def _load(self, kind: str, policy: Policy) -> Any:
        if kind == "transformer":
            from layerlift.engine.mlx.quantised import load_transformer

            return load_transformer(self._checkpoint.transformer, policy)
        from layerlift.engine.mlx.vae import Half

        return Half(self._checkpoint.vae, kind, policy)


def _embed(encoder: Any, tensors: Any, tokens: Any, policy: Policy, progress: StageProgress) -> Any:
    """As `t5_stream.embed_stream`; MLX keeps nothing of it."""
    from layerlift.engine.mlx.t5 import embed_stream

    set_mlx_device(policy.device)
    try:
        return embed_stream(encoder, tensors, tokens, policy, progress)
    finally:
        free_mlx()
