"""Noise levels (sigmas) that the denoising loop walks down: `steps + 1` float32 numbers, descending, the last one 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from layerlift.errors import InputError

if TYPE_CHECKING:
    from layerlift.engine.model.settings import Settings


def model_sigmas(settings: Settings, steps: int | None = None) -> tuple[float, ...]:
    """The noise levels a model is sampled at: its own list, even ones shifted, or LTX-Video's linear-quadratic ones.

    `steps` None is the model's own number of steps.

    Raises:
        InputError: more steps than the model has listed levels.
    """
    if settings.sigmas is not None:
        return listed(settings.sigmas, steps)
    steps = settings.steps if steps is None else steps
    return linear_quadratic(steps) if settings.shift is None else shifted_linear(steps, settings.shift)


def linear_quadratic(steps: int, threshold: float = 0.025) -> tuple[float, ...]:
    """LTX-Video's schedule: half of the steps walk linearly from 1 to `1 − threshold`, the rest quadratically to 0.

    The same numbers as diffusers' `linear_quadratic_schedule` (after Polyak et al., *Movie Gen*, arXiv 2410.13720),
    with the final 0 appended.
    """
    linear = steps // 2
    if linear == 0:
        return _levels([1.0] * (steps > 0))
    quadratic = steps - linear
    # Progress i ↦ a·i² + b·i + c meets the linear part at i = linear in value and slope, and 1 at i = steps.
    missing = linear - threshold * steps
    a = missing / (linear * quadratic**2)
    b = threshold / linear - 2 * missing / quadratic**2
    c = a * linear**2
    progress = [i * threshold / linear for i in range(linear)]
    progress += [a * i**2 + b * i + c for i in range(linear, steps)]
    return _levels([1.0 - p for p in progress])


def shifted_linear(steps: int, shift: float) -> tuple[float, ...]:
    """Evenly spaced levels, moved towards noise: `σ' = shift·σ / (1 + (shift − 1)·σ)`; shift 1 leaves them even."""
    even = [1.0 - i / steps for i in range(steps)]
    return _levels([shift * s / (1.0 + (shift - 1.0) * s) for s in even])


def listed(sigmas: Sequence[float], steps: int | None = None) -> tuple[float, ...]:
    """A distilled model's own levels, or `steps` of them, evenly chosen and starting with the first.

    Raises:
        InputError: more steps than levels.
    """
    if steps is None:
        steps = len(sigmas)
    if steps > len(sigmas):
        raise InputError(
            f"--steps is {steps}, but this model samples at {len(sigmas)} fixed noise levels: give at most "
            f"{len(sigmas)} steps"
        )
    return _levels([sigmas[i * len(sigmas) // steps] for i in range(steps)])


def refine_sigmas(strength: float, steps: int) -> tuple[float, ...]:
    """The levels of a refinement, which begins not at noise but at latents noised to `strength`: evenly down to 0.

    Even, whatever the model's own schedule is: that has one to three steps at levels this low.

    Raises:
        InputError: a strength outside (0, 1], or fewer than one step.
    """
    if not 0 < strength <= 1:
        raise InputError(f"--refine-strength is {strength}: give a number above 0 and up to 1, such as 0.3")
    if steps < 1:
        raise InputError(f"--refine-steps is {steps}: give at least 1")
    return _levels([strength * (1 - i / steps) for i in range(steps)])


def _levels(sigmas: Sequence[float]) -> tuple[float, ...]:
    """As float32 has them, and 0 behind."""
    return tuple(np.array([*sigmas, 0.0], np.float32).tolist())
