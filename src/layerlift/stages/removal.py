"""Removal: a clip and a mask become the clean plate. Read `remove_frames` from top to bottom.

All windows are encoded, then all denoised, then all decoded, so that only one part of the model is in memory at a time.
Between the steps nothing is kept of the video but latents and one bit per token; the clip is read twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from layerlift.clip import Clip
from layerlift.device import Policy, choose_policy
from layerlift.errors import InputError
from layerlift.fit import Fit, Geometry, Window, choose_box, fit_size, fit_windows
from layerlift.masks import Mask
from layerlift.model import Model, open_model
from layerlift.model.latents import decode, encode, unknown_tokens
from layerlift.pixels import fill_masked, fit_frame, fit_mask, grow, unfit_frame
from layerlift.progress import QUIET, Progress, StageProgress
from layerlift.report import Report
from layerlift.sampling import Prompts, SamplingSettings, denoise, token_coordinates
from layerlift.schedule import model_sigmas
from layerlift.stages.inputs import as_clip, as_mask
from layerlift.stages.paste import ColorMatch, paste

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    from layerlift.model import Settings

T = TypeVar("T")

DEFAULT_PROMPT = "Empty"
DEFAULT_NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"

# The mask grows by this share of the picture's shorter side (4 pixels at 480) unless the user says otherwise: masks end
# at the object, its soft edge and its traces in a compressed video do not.
DILATE_SHARE = 1 / 120
DILATE_LEAST = 2


@dataclass(frozen=True, slots=True)
class RemovalOptions:
    """What a user can choose about a removal; None is the model's own, or what suits the clip.

    Attributes:
        steps: denoising steps.
        guidance: how far to lead from the negative prompt to the prompt; 1 is without.
        prompt, negative_prompt: what to put in the object's place, and what not.
        seed: of the noise; the same inputs and seed on the same device give the same result.
        size: (width, height) in pixels to work at; the clip is scaled to lie inside it.
        dilate: pixels of the clip by which the mask grows. Beyond that every pixel stays the clip's own.
        feather: pixels over which the result fades in, inside what the mask has grown by.
    """

    steps: int | None = None
    guidance: float | None = None
    prompt: str = DEFAULT_PROMPT
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    seed: int = 0
    size: tuple[int, int] | None = None
    dilate: int | None = None
    feather: int | None = None


def remove(
    clip: Clip | np.ndarray | str | Path,
    mask: Mask | np.ndarray | str | Path,
    *,
    model: Model | str | Path | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    prompt: str = DEFAULT_PROMPT,
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    dilate: int | None = None,
    feather: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    policy: str | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
) -> Clip:
    """Remove what the mask covers from a clip.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or the path of a video or a folder of images.
        mask: a `Mask`, bool (F, H, W) or (H, W) for all frames, or a path. To lose shadows and reflections too, it has
            to cover them.
        model: an opened `Model`, or what `open_model` takes.
        steps, guidance, prompt, negative_prompt, seed, size, dilate, feather: see `RemovalOptions`.
        device, dtype, policy: see `choose_policy`.
        progress: told how far each stage is.
        report: filled with seconds, memory and sizes.
        cache: keep text embeddings on disk.

    Returns:
        The clean plate: size, frame count, rate and timestamps of the clip, and its very pixels beyond the grown mask.

    Raises:
        InputError: anything given cannot be used; raised before a weight is read.
        LayerliftError: the model returned NaN or infinity.
    """
    clip = as_clip(clip)
    options = RemovalOptions(steps, guidance, prompt, negative_prompt, seed, size, dilate, feather)
    rules = choose_policy(device, dtype, policy)
    frames = remove_frames(
        clip, mask, options, model=model, policy=rules, progress=progress, report=report, cache=cache
    )
    made = Clip.from_array(np.stack(list(frames)), clip.rate, clip.name)
    # Everything but the pixels stays: timestamps, colour tags, where the sound comes from.
    return replace(clip, reader=made.reader, has_alpha=False)


def remove_frames(
    clip: Clip | np.ndarray | str | Path,
    mask: Mask | np.ndarray | str | Path,
    options: RemovalOptions | None = None,
    *,
    model: Model | str | Path | None = None,
    policy: Policy | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
) -> Iterator[np.ndarray]:
    """`remove`, one frame at a time: yields (H, W, 3) uint8, as many as the clip has.

    Everything is checked by the time this returns; the work begins with the first frame that is asked for.
    """
    options = options or RemovalOptions()
    report = report or Report()

    # 1. Open: headers and settings, no weights.
    clip = as_clip(clip)
    mask = as_mask(mask, clip)
    model = model if isinstance(model, Model) else open_model(model)
    policy = policy or choose_policy()

    # 2. Check what the user chose.
    sampling = choose_sampling(options, model)
    margin = choose_margin(options, clip)
    model.check_prompts(chosen_prompts(options, sampling), policy, cache)

    # 3. Fit: one size for the picture, windows for the length.
    native = (clip.width, clip.height)
    space, time = model.geometry.space, model.geometry.time
    fit = fit_size(native, choose_box(native, model.settings.size, options.size, space), space)
    windows = fit_windows(clip.frame_count, model.settings.frames, time)
    report.sizes |= {
        "clip": [*native, clip.frame_count],
        "scaled": list(fit.scaled),
        "padded": list(fit.padded),
        "windows": [[window.start, window.stop] for window in windows],
    }

    def run() -> Iterator[np.ndarray]:
        # 4. Text: what to put in the object's place.
        with report.stage("text"), progress.stage("text", None):
            prompts = encode_prompts(model, chosen_prompts(options, sampling), policy, cache)

        # 5. Encode every window that has something to generate.
        with (
            report.stage("encode"),
            progress.stage("encode", clip.frame_count) as bar,
            model.vae_encoder(policy) as vae,
        ):
            scenes = encode_windows(
                vae, clip, mask, margin, fit, windows=windows, geometry=model.geometry, progress=bar
            )
            del vae  # whoever still names a component keeps it in memory

        # 6. Denoise window after window; what two windows share is generated by the first.
        generator = torch.Generator().manual_seed(options.seed)
        total = sampling.steps * sum(scene is not None for scene in scenes)
        with report.stage("denoise"), progress.stage("denoise", total) as bar, model.transformer(policy) as transformer:
            denoise_windows(transformer, scenes, prompts, model, sampling=sampling, generator=generator, progress=bar)
            del transformer

        # 7. Decode, undo the fit, and paste what was generated into the clip's own frames.
        with (
            report.stage("decode"),
            progress.stage("decode", clip.frame_count) as bar,
            model.vae_decoder(policy) as vae,
        ):
            generated = decode_windows(vae, scenes, windows, fit, settings=model.settings, generator=generator)
            for frame in paste_frames(clip, mask, margin, generated):
                bar.advance()
                yield frame
            del vae

    return run()


@dataclass(frozen=True, slots=True)
class Margin:
    """Pixels of the clip: what the mask grows by, and over how many of them the result fades in."""

    dilate: int
    feather: int


@dataclass(slots=True)
class Scene:
    """A window with something to generate, between the steps.

    Attributes:
        window: its frames.
        latents: (1, C, f, h, w) float32 on the CPU.
        unknown: (f, h, w) bool.
        shown: whether any frame kept from this window is masked.
    """

    window: Window
    latents: torch.Tensor
    unknown: torch.Tensor
    shown: bool


def choose_sampling(options: RemovalOptions, model: Model) -> SamplingSettings:
    """The loop's settings: the user's choice, else the model's.

    Raises:
        InputError: steps or guidance that cannot be used.
    """
    settings = model.settings
    guidance = settings.guidance if options.guidance is None else options.guidance
    if not (isfinite(guidance) and guidance >= 1):
        raise InputError(f"a guidance of {guidance} was given: give a number of at least 1, which is none")
    if options.steps is not None and options.steps < 1:
        raise InputError(f"{options.steps} steps were asked for: give at least 1")
    sigmas = model_sigmas(settings, options.steps)
    return SamplingSettings(tuple(sigmas.tolist()), guidance, settings.stochastic)


def choose_margin(options: RemovalOptions, clip: Clip) -> Margin:
    """How far the mask grows and the result fades in: by default as far as each other, so that no object shows through.

    Raises:
        InputError: a negative number, or a feather that does not fit into what the mask has grown by.
    """
    dilate, feather = options.dilate, options.feather
    for name, value in (("dilate", dilate), ("feather", feather)):
        if value is not None and value < 0:
            raise InputError(f"{name} is {value} pixels: give 0 or more")
    if dilate is None:
        default = max(DILATE_LEAST, round(DILATE_SHARE * min(clip.width, clip.height)))
        dilate = max(default, feather or 0)
    if feather is None:
        feather = dilate
    if feather > dilate:
        raise InputError(
            f"a feather of {feather} pixels does not fit into a mask grown by {dilate}, and the object would show "
            f"through: give a feather of at most {dilate}, or dilate by {feather}"
        )
    return Margin(dilate, feather)


def chosen_prompts(options: RemovalOptions, sampling: SamplingSettings) -> list[str]:
    """The prompt, and before it the negative prompt when there is guidance."""
    return [options.prompt] if sampling.guidance == 1 else [options.negative_prompt, options.prompt]


def encode_prompts(model: Model, texts: Sequence[str], policy: Policy, cache: bool) -> Prompts:
    """Embeddings of one or two prompts."""
    found = model.text(texts, policy, cache=cache)
    embeds, mask = torch.cat([text.embeds for text in found]), torch.cat([text.mask for text in found])
    # One pass for both prompts keeps a CUDA card busy; elsewhere it only takes memory.
    return Prompts(embeds, mask, together=policy.backend == "cuda")


def encode_windows(
    vae: AutoencoderKLLTXVideo,
    clip: Clip,
    mask: Mask,
    margin: Margin,
    fit: Fit,
    *,
    windows: Sequence[Window],
    geometry: Geometry,
    progress: StageProgress,
) -> list[Scene | None]:
    """Read the clip once, and encode the windows that are masked anywhere; the others are None."""

    def fitted() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for frame, masked in zip(clip.frames(), mask.frames(), strict=True):
            small, hidden = fit_frame(frame, fit), fit_mask(grow(masked, margin.dilate), fit)
            yield fill_masked(small, hidden), hidden
            progress.advance()

    scenes: list[Scene | None] = []
    for window, pairs in cut(fitted(), windows):
        hidden = np.stack([hidden for _, hidden in pairs])  # (F, H, W)
        if not hidden.any():
            scenes.append(None)
            continue
        latents = encode(vae, np.stack([frame for frame, _ in pairs]))
        shown = hidden[window.keep_start - window.start : window.keep_stop - window.start].any()
        scenes.append(Scene(window, latents, unknown_tokens(hidden, geometry), bool(shown)))
    return scenes


def cut(items: Iterator[T], windows: Sequence[Window]) -> Iterator[tuple[Window, list[T]]]:
    """Deal one item a frame out to overlapping windows, repeating the last at the end; holds one window's items."""
    held: deque[T] = deque()
    first = 0
    for window in windows:
        while first < window.start:
            held.popleft()
            first += 1
        while len(held) < window.frame_count:
            held.append(next(items, held[-1]) if held else next(items))
        yield window, list(islice(held, window.frame_count))


def denoise_windows(
    transformer: LTXVideoTransformer3DModel,
    scenes: Sequence[Scene | None],
    prompts: Prompts,
    model: Model,
    *,
    sampling: SamplingSettings,
    generator: torch.Generator,
    progress: StageProgress,
) -> None:
    """Replace the latents of every window by generated ones, in order, each with what it shares with the one before."""
    for before, scene in pairwise([None, *scenes]):
        if scene is None:
            continue
        if before is not None:
            carry_over(before, scene)
        if not scene.unknown.any():
            progress.advance(sampling.steps)
            continue
        scene.latents = denoise(
            transformer,
            scene.latents,
            scene.unknown,
            prompts,
            token_coordinates(scene.latents.shape, model.geometry, model.settings.rate),
            settings=sampling,
            generator=generator,
            progress=progress,
        )


def carry_over(before: Scene, scene: Scene) -> None:
    """Make the latent frames that a window shares with the one before it known, as they were generated there."""
    window = scene.window
    shared = slice(1, 1 + window.carried)
    scene.latents[:, :, shared] = before.latents[:, :, 1 + window.shift : 1 + window.shift + window.carried]
    scene.unknown[shared] = False


def decode_windows(
    vae: AutoencoderKLLTXVideo,
    scenes: Sequence[Scene | None],
    windows: Sequence[Window],
    fit: Fit,
    *,
    settings: Settings,
    generator: torch.Generator,
) -> Iterator[np.ndarray | None]:
    """For every frame of the clip what was generated, (H, W, 3) float32 in 0 … 255, or None where nothing is masked."""
    for window, scene in zip(windows, scenes, strict=True):
        kept = range(window.keep_start - window.start, window.keep_stop - window.start)
        if scene is None or not scene.shown:
            yield from (None for _ in kept)
            continue
        frames = decode(vae, scene.latents, generator, settings.decode_timestep, settings.decode_noise)
        yield from (unfit_frame(frame, fit) for frame in islice(frames, kept.start, kept.stop))


def paste_frames(
    clip: Clip, mask: Mask, margin: Margin, generated: Iterable[np.ndarray | None]
) -> Iterator[np.ndarray]:
    """The clip's frames with what was generated where they are masked; a frame without a mask passes as it is."""
    match = ColorMatch()
    for frame, masked, new in zip(clip.frames(), mask.frames(), generated, strict=True):
        grown = grow(masked, margin.dilate)
        if new is None or not grown.any():
            match.reset()
            yield frame
        else:
            yield paste(frame, match(new, frame, grown), grown, margin.feather)
