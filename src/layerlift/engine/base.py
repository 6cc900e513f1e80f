"""The seam between the stages and what runs a model: what a stage may ask, and nothing of how it is done.

Frames, masks, latents and scores are numpy arrays. Prompts, coverage and noise are opaque: an engine makes them, and is
given them back. Each part of a model is open for a pass over a clip's windows, and then leaves memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from layerlift.engine.device import Policy
from layerlift.engine.device.needs import ModelFacts
from layerlift.engine.model.settings import Settings
from layerlift.engine.model.speed import Speed
from layerlift.geometry.fit import Geometry
from layerlift.progress import StageProgress

# (1, C, f, h, w) float32, normalised: zero mean and unit variance a channel.
Latents = np.ndarray
# (H, W, 3) float32 in 0 … 255: an array, or what the engine keeps on its device where the policy says so.
Picture = Any


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """The knobs of the denoising loop.

    Attributes:
        sigmas: noise levels from the first to the last, descending, ending in 0.
        guidance: how far to lead from the negative prompt to the prompt; 1 follows the prompt alone at half the cost.
        stochastic: draw fresh noise after every step instead of following one path (0.9.6-distilled).
        cond_noise: known tokens are shown with `cond_noise·sigma²` of noise, which helps motion go on from them.
    """

    sigmas: tuple[float, ...]
    guidance: float = 1.0
    stochastic: bool = False
    cond_noise: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1


@dataclass(frozen=True, slots=True)
class Context:
    """Known tokens that a window is shown besides its own.

    Attributes:
        latents: (1, C, N) float32.
        places: (1, 3, N) float32, where they lie seen from the window, as `token_places` has it; times before the
            window are negative.
    """

    latents: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return int(self.latents.shape[2])


class Noise(Protocol):
    """A source of noise on the CPU: a seed gives the same on every device."""

    def get_state(self) -> np.ndarray:
        """Where it stands, (N,) uint8."""
        ...

    def set_state(self, state: np.ndarray) -> Any:
        """Go back to where it stood."""
        ...


class Encode(Protocol):
    """The VAE's encoder, open."""

    def __call__(self, frames: np.ndarray) -> Latents:
        """Frames (F, H, W, 3) uint8 → latents; F is 1 + k·time, H and W are whole tokens."""
        ...


class Decode(Protocol):
    """The VAE's decoder, open."""

    def __call__(self, latents: Latents, noise: Noise) -> Iterator[Picture]:
        """Latents → frames, one by one."""
        ...


class Denoise(Protocol):
    """The transformer, open to generate tokens."""

    def __call__(
        self, latents: Latents, unknown: np.ndarray, context: Context | None, noise: Noise, progress: StageProgress
    ) -> Latents:
        """Latents whose tokens `unknown` (f, h, w) bool are generated; the others stay, bit for bit.

        `progress` advances by one for every step.
        """
        ...


class Score(Protocol):
    """The transformer, open to be asked what looks at what."""

    def __call__(self, latents: Latents, coverage: Any, noise: Noise) -> np.ndarray:
        """Scores (n, F, h, w) float32 in [0, 1] of the frames' cells for n objects, see `Engine.cover`."""
        ...


class Scorer(Protocol):
    """How attention is weighed into scores.

    Attributes:
        threshold: scores from here on are taken for effects, unless the user says otherwise.
        clear: an effect with such scores is seen in full.
    """

    @property
    def threshold(self) -> float: ...

    @property
    def clear(self) -> float: ...


class Engine(Protocol):
    """A model that can be run. Whoever opened it has checked its files; no weight is read before a part is opened.

    Attributes:
        name: for the user.
        settings: the model's own.
        geometry: pixels and frames of a token.
    """

    name: str
    settings: Settings
    geometry: Geometry

    @property
    def path(self) -> Path:
        """The file or folder the weights are read from."""
        ...

    def check_prompts(self, prompts: Sequence[str], policy: Policy, cache: bool = True) -> None:
        """Raises InputError when `prompts` could not be answered."""
        ...

    def facts(self, prompts: Sequence[str], policy: Policy, cache: bool = True) -> ModelFacts:
        """What a memory plan needs to know."""
        ...

    def noise(self, seed: int) -> Noise:
        """A source of noise."""
        ...

    def prompts(self, prompts: Sequence[str], policy: Policy, cache: bool, progress: StageProgress) -> Any:
        """Prompts as `denoising` and `scoring` take them; with guidance the negative prompt comes first."""
        ...

    def unknown_tokens(self, hidden: np.ndarray) -> np.ndarray:
        """Tokens that have to be generated for hidden pixels: (F, H, W) bool → (f, h, w) bool."""
        ...

    def cover(self, objects: np.ndarray, policy: Policy) -> tuple[Any, np.ndarray]:
        """What n objects (n, F, H, W) bool cover of a window's tokens, and the cells they touch, (n, F, h, w) bool."""
        ...

    def scorer(self, layers: str | Sequence[int]) -> Scorer:
        """How its attention is weighed: "auto", "all", or layers by their numbers from 0. Raises InputError."""
        ...

    def scoring_prompt(self) -> str:
        """What it is told while it is asked, where the user says nothing."""
        ...

    def encoding(self, policy: Policy) -> AbstractContextManager[Encode]:
        """Open the VAE's encoder."""
        ...

    def decoding(self, policy: Policy) -> AbstractContextManager[Decode]:
        """Open the VAE's decoder."""
        ...

    def denoising(
        self, policy: Policy, prompts: Any, sampling: SamplingSettings, speed: Speed, beside: Policy | None = None
    ) -> AbstractContextManager[Denoise]:
        """Open the transformer to generate. `speed`: how the passes run. `beside`: the rules of another device, which
        runs the prompt while this one runs the negative prompt."""
        ...

    def scoring(
        self, policy: Policy, prompts: Any, scorer: Scorer, sigmas: Sequence[float]
    ) -> AbstractContextManager[Score]:
        """Open the transformer to be asked. `scorer`: how its heads are weighed; `sigmas`: noise levels it looks at."""
        ...

    def stays_in_memory(self, memory: int | None = None) -> bool:
        """Whether it is small enough to keep its parts in memory from stage to stage."""
        ...

    def spare(self, device: str) -> int:
        """Bytes of a device that a plan may count on beside those that are free: parts that are in memory there make
        room for others."""
        ...

    def draw(self, noise: Noise, latents: Latents, sampling: SamplingSettings) -> None:
        """Draw from the noise what denoising a window of such latents without context does."""
        ...

    def draws_while_decoding(self) -> bool:
        """Whether decoding a window goes on drawing noise until its last frame, instead of at the beginning alone."""
        ...

    def close(self) -> None:
        """Free what a resident policy kept."""
        ...
