"""What a model sees of effects in a whole clip: scores of every frame's cells, window by window.

All windows are encoded, then all are looked at, so that only one part of the model is in memory at a time; between the
steps nothing is kept of the video but latents, and one score a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerlift.clip import Clip
from layerlift.engine.base import Encode, Engine, Latents, Noise, Score, Scorer
from layerlift.engine.device import Policy
from layerlift.engine.device.plan import Plan
from layerlift.geometry.fit import Fit, Window
from layerlift.jobs.manifest import digest_of_text
from layerlift.jobs.shelf import Shelf
from layerlift.masks import Mask
from layerlift.options import EffectOptions
from layerlift.pixels.arrays import fit_frame, fit_mask
from layerlift.pixels.effects import Decision
from layerlift.progress import StageProgress
from layerlift.runtime import Runtime
from layerlift.stages.sharing import Shared, each, on_all
from layerlift.stages.windows import cut, encoder, filed, kept_frames, run_pass


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """How a model looks for effects, checked.

    Attributes:
        clip: what is looked at.
        masks: of its objects.
        options: the user's.
        model: what looks.
        scorer: how its attention is weighed, as the engine has it.
        prompt: what it is told.
        temporal_radius: frames to either side over which scores are smoothed.
        decision: what is called an effect.
        fit: how the clip's picture meets the model's.
        windows: how its length does.
        memory: how the model runs in the memory there is.
        runtime: what it runs with.
    """

    clip: Clip
    masks: Sequence[Mask]
    options: EffectOptions
    model: Engine
    scorer: Scorer
    prompt: str
    temporal_radius: int
    decision: Decision
    fit: Fit
    windows: tuple[Window, ...]
    memory: Plan
    runtime: Runtime


def look_at_clip(plan: AttentionPlan, prompts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the clip's cells, (n, F, h, w) float32, and which of them each object touches, the same shape, bool.

    `prompts` are the engine's. Where memory runs out all the same, it goes on under smaller plans.

    Raises:
        LayerliftError: the model returned NaN or infinity, or memory ran out and no smaller plan exists.
    """
    model, options, keeper = plan.model, plan.options, plan.runtime.keeper

    def encoded(encode: Encode | Shared[Encode], given: Plan, bar: StageProgress) -> list[Looked]:
        with keeper.shelf(f"looked-{digest_of_text(given.policy, plan.windows)}") as shelf:
            return encode_looked(encode, plan, given.policy, shelf, progress=bar)

    def opened(given: Plan) -> AbstractContextManager[Score]:
        return model.scoring(given.policy, prompts, plan.scorer, options.sigmas)

    def looked(score: Score, given: Plan, bar: StageProgress) -> np.ndarray:
        with keeper.shelf(f"scores-{digest_of_text(given.policy, plan.windows)}") as shelf:
            keeper.skip(bar, "look", len(shelf))
            return look_at_windows(score, windows, model.noise(options.seed), shelf, progress=bar)

    encoders = on_all(encoder(model), plan.runtime.devices)
    windows, given = run_pass(encoders, encoded, plan.memory, "encode", plan.clip.frame_count, plan.runtime)
    # One pass, of what denoising makes many of.
    scores, _ = run_pass(opened, looked, given, "denoise", len(windows), plan.runtime, name="look")
    return scores, np.concatenate([window.covered for window in windows], 1)


@dataclass(slots=True)
class Looked:
    """A window between the passes.

    Attributes:
        window: its frames.
        latents: (1, C, f, h, w) float32, in a file; None when it has no object.
        coverage: of its tokens by the objects, as the engine has it.
        covered: (n, F, h, w) bool, of the frames kept from this window: cells that each object touches.
    """

    window: Window
    latents: Latents | None
    coverage: Any
    covered: np.ndarray


def encode_looked(
    encode: Encode | Shared[Encode], plan: AttentionPlan, policy: Policy, shelf: Shelf, *, progress: StageProgress
) -> list[Looked]:
    """Read the clip once; encode every window, objects and all, that an object is in.

    The first windows are taken from the shelf, as far as they lie there; the others are put onto it.
    """
    done = len(shelf)
    first = plan.windows[done].start if done < len(plan.windows) else plan.clip.frame_count
    plan.runtime.keeper.skip(progress, "encode", first)

    def looked(window: Window, objects: np.ndarray, latents: Latents | None) -> Looked:
        coverage, cells = plan.model.cover(objects, policy)  # (n, F, H, W)
        return Looked(window, None if latents is None else filed(latents), coverage, cells[:, kept_frames(window)])

    def fitted() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        masks = (given.frames(first) for given in plan.masks)
        for frame, *own in zip(plan.clip.frames(first), *masks, strict=True):
            yield fit_frame(frame, plan.fit), np.stack([fit_mask(hidden, plan.fit) for hidden in own])
            progress.advance()

    windows = []
    for number, window in enumerate(plan.windows[:done]):
        last = min(window.stop, plan.clip.frame_count)
        own = [[fit_mask(hidden, plan.fit) for hidden in mask.frames(window.start, last)] for mask in plan.masks]
        # Frames beyond the clip's end repeat the last one.
        objects = np.stack([np.stack(masks + masks[-1:] * (window.stop - last)) for masks in own])
        windows.append(looked(window, objects, next(iter(shelf.get(number)), None)))
    read = (
        (window, np.stack([frame for frame, _ in pairs]), np.stack([own for _, own in pairs], 1))
        for window, pairs in cut(fitted(), plan.windows[done:], first)
    )

    def begin(
        part: Encode, item: tuple[Window, np.ndarray, np.ndarray]
    ) -> Iterator[tuple[Window, np.ndarray, Latents | None]]:
        window, frames, objects = item
        yield window, objects, part(frames) if objects.any() else None

    for number, ((window, objects, latents),) in enumerate(each(encode, begin, read), done):
        shelf.put(number, *([] if latents is None else [latents]))
        windows.append(looked(window, objects, latents))
    return windows


def look_at_windows(
    score: Score, windows: Sequence[Looked], noise: Noise, shelf: Shelf, *, progress: StageProgress
) -> np.ndarray:
    """Scores of every frame of the clip, (n, F, h, w) float32; windows hand over in the middle of what they share.

    Those that lie on the shelf, each with the state of the noise after it, are taken from there.
    """
    parts = []
    for number, window in enumerate(windows):
        if number in shelf:
            part, state = shelf.get(number)
            noise.set_state(state)
            parts.append(part)
            continue
        if window.latents is None:
            parts.append(np.zeros(window.covered.shape, np.float32))
        else:
            parts.append(score(window.latents, window.coverage, noise)[:, kept_frames(window.window)])
        shelf.put(number, parts[-1], noise.get_state())
        progress.advance()
    return np.concatenate(parts, 1)
