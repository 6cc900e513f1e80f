"""Latent composition: an object moves with its effects to a new background. Read `compose_latent_frames` top to bottom.

After Samuel et al., *OmnimatteZero* (2025): what clip and clean plate differ by in latent space is the object with its
effects; added to the latents of another background it lies there, roughly. The object's own pixels are put in, and a
few denoising steps from low noise bring both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from layerlift.clip import Clip
from layerlift.device import Policy, choose_policy
from layerlift.device.budget import attempt, capped, check_memory
from layerlift.device.plan import Plan
from layerlift.masks import Mask, union_masks
from layerlift.model import Model
from layerlift.pixels import grow
from layerlift.progress import QUIET, Progress
from layerlift.report import Report
from layerlift.sampling import SamplingSettings
from layerlift.schedule import refine_sigmas
from layerlift.stages.choose_model import require_model
from layerlift.stages.composition import CompositionOptions, Sequential, background_due, shown_at
from layerlift.stages.generation import Job, Section, denoise_windows, encode_prompts
from layerlift.stages.inputs import GivenMask, as_clip, as_mask
from layerlift.stages.latent_windows import combine, decode_all, encode_all
from layerlift.stages.layer_inputs import check_inside, open_objects, open_plate, plate_frames
from layerlift.stages.paste import ColorMatch, paste
from layerlift.stages.removal import Margin, RemovalOptions, choose_margin, plan_generation
from layerlift.stages.spool import FrameSpool

# Refinement continues what the latents hold: there is nothing to lead to, and nothing to lead away from.
PROMPT = ""
LATENT = "latent composition"

# Told the name of an intermediate result, "latent" or "injected", and each of its frames, (H, W, 3) uint8.
Keep = Callable[[str, np.ndarray], None]


@dataclass(frozen=True, slots=True)
class LatentCompositionOptions:
    """What a user can choose about a latent composition.

    Attributes:
        refine: bring object and background together by denoising; else the object's pixels are only put in.
        strength: the noise level refinement begins at, in (0, 1]: the higher, the more is changed.
        steps: of the refinement.
        seed: of the noise; the same inputs and seed on the same device give the same result.
        size: (width, height) in pixels to work at; None is the model's own.
    """

    refine: bool = True
    strength: float = 0.3
    steps: int = 10
    seed: int = 0
    size: tuple[int, int] | None = None


def compose_latent(
    clip: Clip | np.ndarray | str | Path,
    background: Clip | np.ndarray | str | Path,
    objects: Sequence[GivenMask] | GivenMask,
    total: GivenMask,
    onto: Clip | np.ndarray | str | Path,
    *,
    model: Model | str | Path | None = None,
    refine: bool = True,
    strength: float = 0.3,
    steps: int = 10,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    policy: str | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
    memory: float | None = None,
) -> Clip:
    """Move the objects of a clip with their effects to a new background, by arithmetic on latents.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or a path.
        background: its clean plate, alike, of the same size and length; a single picture serves for all frames.
        objects: the objects' masks: `Mask`, bool (F, H, W) or (H, W), or paths; or just one.
        total: objects and effects together.
        onto: the new background, scaled to cover the clip's picture and cropped to its middle; its last frame is held
            when it is shorter.
        model: an opened `Model`, or what `open_model` takes.
        refine, strength, steps, seed, size: see `LatentCompositionOptions`.
        device, dtype, policy: see `choose_policy`.
        progress: told how far each stage is.
        report: filled with seconds, memory and sizes.
        cache: keep text embeddings on disk.
        memory: GiB that may be taken, host and device together; None is what the machine reports as usable.

    Returns:
        A clip of the size, length, timestamps and sound of `clip`. Its pixels are the clip's inside the objects and
        the new background's beyond the grown total mask.

    Raises:
        InputError: anything given cannot be used; raised before a weight is read.
        LayerliftError: the model returned NaN or infinity.
    """
    clip = as_clip(clip)
    options = LatentCompositionOptions(refine, strength, steps, seed, size)
    rules = choose_policy(device, dtype, policy)
    frames = compose_latent_frames(
        clip,
        background,
        objects,
        total,
        onto,
        options=options,
        model=model,
        policy=rules,
        progress=progress,
        report=report,
        cache=cache,
        memory=check_memory(memory),
    )
    return clip.with_colours(np.stack(list(frames)))


def compose_latent_frames(
    clip: Clip | np.ndarray | str | Path,
    background: Clip | np.ndarray | str | Path,
    objects: Sequence[GivenMask] | GivenMask,
    total: GivenMask,
    onto: Clip | np.ndarray | str | Path,
    *,
    options: LatentCompositionOptions | None = None,
    model: Model | str | Path | None = None,
    policy: Policy | None = None,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
    memory: int | None = None,
    keep: Keep | None = None,
) -> Iterator[np.ndarray]:
    """`compose_latent`, one frame at a time: yields (H, W, 3) uint8, as many as the clip has.

    Everything is checked by the time this returns; the work begins with the first frame that is asked for.
    `memory`: bytes that may be taken, host and device together; None is what the machine reports as usable. `keep` is
    told the frames of what stands between the steps.
    """
    options = options or LatentCompositionOptions()
    report = report or Report()

    # 1. Open and check; no weight is read.
    parts = plan_latent_composition(
        clip, background, objects, total, onto, options=options, model=model, policy=policy, cache=cache, memory=memory
    )
    job, count = parts.job, parts.clip.frame_count
    report.sizes |= {"clip": [parts.clip.width, parts.clip.height, count], "padded": list(job.fit.padded)}
    report.sizes["windows"] = [[window.start, window.stop] for window in job.windows]
    report.results["planned_bytes"] = {need.stage: round(need.total) for need in job.plan.needs}

    def run() -> Iterator[np.ndarray]:
        generator = torch.Generator().manual_seed(job.seed)

        with FrameSpool() as injected, ExitStack() as stack:
            if job.policy.cap_memory or memory is not None:
                stack.enter_context(capped(job.policy, job.plan.request.memory))

            # 2. Latents of new background + (clip − plate), one clip after the other through the same encoder.
            def encoded(plan: Plan) -> list[torch.Tensor]:
                with (
                    report.stage("encode"),
                    progress.stage("encode", 3 * count) as bar,
                    job.model.vae_encoder(plan.policy) as vae,
                ):
                    terms = [(parts.clip.frames(), 1), (parts.plates(), -1), (parts.backgrounds(), 1)]
                    summed = combine(vae, terms, job, progress=bar)
                    del vae  # whoever still names a component keeps it in memory
                return summed

            latents, plan = attempt(job.plan, "encode", encoded, report.note)

            # 3. Decode, and put the objects' own pixels in.
            decoded = decode_all(latents, replace(job, plan=plan), generator, progress=progress, report=report)
            for frame in inject(decoded, parts, keep):
                injected.append(frame)
            del latents

            # 4. Refine: encode, noise to the strength, denoise, decode.
            made: Iterable[np.ndarray] = injected.frames()
            if options.refine:
                made = refine(injected, replace(job, plan=plan), generator, progress=progress, report=report)

            # 5. Where neither object nor effect is, the new background's own pixels; inside the objects, the clip's.
            yield from restore(made, parts)

    return run()


@dataclass(frozen=True, slots=True)
class Parts:
    """A latent composition that was checked: what goes where, and by which model."""

    clip: Clip
    plate: Clip
    objects: Mask
    total: Mask
    onto: Clip
    margin: Margin
    job: Job

    def plates(self) -> Iterator[np.ndarray]:
        """The clean plate's frames, one for each of the clip's."""
        return plate_frames(self.plate, 0, self.clip.frame_count)

    def backgrounds(self) -> Iterator[np.ndarray]:
        """The new background's frames, one for each of the clip's: due at that time, the last one held, of its size."""
        reader = Sequential(self.onto.frames)
        for index in range(self.clip.frame_count):
            due = background_due(self.onto, shown_at(self.clip, index), CompositionOptions())
            yield cover(reader.at(due), (self.clip.width, self.clip.height))


def plan_latent_composition(
    clip: Clip | np.ndarray | str | Path,
    background: Clip | np.ndarray | str | Path,
    objects: Sequence[GivenMask] | GivenMask,
    total: GivenMask,
    onto: Clip | np.ndarray | str | Path,
    *,
    options: LatentCompositionOptions,
    model: Model | str | Path | None,
    policy: Policy | None,
    cache: bool,
    memory: int | None = None,
) -> Parts:
    """Open and check everything. Raises InputError for what cannot be used; no weight is read."""
    sigmas = refine_sigmas(options.strength, options.steps)
    clip = as_clip(clip)
    plate = open_plate(background, clip)
    masks = open_objects(objects, clip)
    reach = as_mask(total, clip)
    margin = choose_margin(RemovalOptions(), clip)
    check_inside(masks, reach, margin.dilate)
    # Every token is to be generated: none leads the others, be it of another window, and none keeps what it computed.
    given = RemovalOptions(prompt=PROMPT, guidance=1.0, seed=options.seed, size=options.size, dense=True, context=0)
    job = plan_generation(clip, given, require_model(model, LATENT), policy, cache, memory=memory)
    sampling = SamplingSettings(tuple(sigmas.tolist()), guidance=1.0, stochastic=job.sampling.stochastic)
    union = union_masks(masks)
    total = union_masks([reach, union])
    return Parts(clip, plate, union, total, as_clip(onto), margin, replace(job, sampling=sampling))


def inject(decoded: Iterable[np.ndarray], parts: Parts, keep: Keep | None) -> Iterator[np.ndarray]:
    """Put the objects' own pixels into decoded frames (H, W, 3) float32: yields uint8."""
    for frame, own, where in zip(decoded, parts.clip.frames(), parts.objects.frames(), strict=True):
        whole = np.rint(frame).astype(np.uint8)
        injected = np.where(where[..., None], own, whole)
        if keep is not None:
            keep("latent", whole)
            keep("injected", injected)
        yield injected


def refine(
    given: FrameSpool, job: Job, generator: torch.Generator, *, progress: Progress, report: Report
) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8, noised to the first of the job's sigmas and denoised: (H, W, 3) float32 in 0 … 255."""
    model = job.model

    # 4.1 Every token is unknown: nothing of a composition is right already. What two windows share is carried over.
    def encoded(plan: Plan) -> list[Section]:
        with (
            report.stage("encode"),
            progress.stage("encode", len(given)) as bar,
            model.vae_encoder(plan.policy) as vae,
        ):
            latents = encode_all(vae, given.frames(), job.fit, job.windows, bar)
            made = [
                Section(window, z, torch.ones(z.shape[2:], dtype=torch.bool), shown=True)
                for window, z in zip(job.windows, latents, strict=True)
            ]
            del vae, latents
        return made

    sections, plan = attempt(job.plan, "encode", encoded, report.note)

    # 4.2 Noise to the strength and denoise, in the loop that removal uses.
    with report.stage("text"), progress.stage("text", None):
        prompts = encode_prompts(job)
    total, noise = job.sampling.steps * len(sections), generator.get_state()

    def denoised(plan: Plan) -> list[torch.Tensor]:
        generator.set_state(noise)
        made = [section.copy() for section in sections]
        with (
            report.stage("denoise"),
            progress.stage("denoise", total) as bar,
            model.transformer(plan.policy) as transformer,
        ):
            speed = job.speed(plan, total)
            denoise_windows(transformer, made, prompts, job, generator=generator, progress=bar, speed=speed)
            del transformer
        return [section.latents for section in made]

    latents, plan = attempt(plan, "denoise", denoised, report.note)

    # 4.3 Decode.
    yield from decode_all(latents, replace(job, plan=plan), generator, progress=progress, report=report)


def restore(made: Iterable[np.ndarray], parts: Parts) -> Iterator[np.ndarray]:
    """Finish composed frames (H, W, 3): yields uint8, beyond the grown total mask the new background, bit for bit.

    The composition fades in inside what the total mask has grown by, its colours matched to the new background's
    around it; inside the objects every pixel is the clip's.
    """
    match = ColorMatch()
    pictures = zip(
        made, parts.backgrounds(), parts.clip.frames(), parts.objects.frames(), parts.total.frames(), strict=True
    )
    for frame, behind, own, where, reach in pictures:
        if not reach.any():
            match.reset()
            yield behind
            continue
        shown = grow(reach, parts.margin.dilate)
        matched = match(frame.astype(np.float32), behind, shown)
        yield np.where(where[..., None], own, paste(behind, matched, shown, parts.margin.feather))


def cover(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a picture (H, W, 3) uint8 until it covers `size` (width, height), and crop it to its middle."""
    width, height = size
    given_height, given_width = frame.shape[:2]
    if (given_width, given_height) == size:
        return frame
    scale = max(width / given_width, height / given_height)
    scaled = max(width, round(given_width * scale)), max(height, round(given_height * scale))
    frame = cv2.resize(frame, scaled, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    return frame[top : top + height, left : left + width]
