"""Latent composition: an object moves with its effects to a new background. Read `run_latent_composition` first.

After Samuel et al., *OmnimatteZero* (2025): what clip and clean plate differ by in latent space is the object with its
effects; added to the latents of another background it lies there, roughly. The object's own pixels are put in, and a
few denoising steps from low noise bring both together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.engine.base import Encode, Latents, Noise, SamplingSettings
from layerlift.engine.device.budget import limit
from layerlift.engine.device.plan import Plan
from layerlift.engine.schedule import refine_sigmas
from layerlift.flags import check_ranges
from layerlift.jobs.shelf import Shelf
from layerlift.masks import Mask, union_masks
from layerlift.options import CompositionOptions, LatentCompositionOptions, RemovalOptions
from layerlift.pixels.arrays import grow
from layerlift.pixels.paste import ColorMatch, paste
from layerlift.pixels.sense import LOOKED_AT_EVERY, liveliest, look
from layerlift.progress import StageProgress
from layerlift.runtime import Runtime, chosen
from layerlift.stages.choose_model import require_model
from layerlift.stages.composition import Sequential, background_due, shown_at
from layerlift.stages.composition.latent_windows import decode_all, encode_all, sum_latents
from layerlift.stages.decoding import check_picture, precisely
from layerlift.stages.encoding import Section
from layerlift.stages.generation import Job, denoise_sections, window_shelf
from layerlift.stages.inputs import GivenClip, GivenMask, as_clip, as_mask
from layerlift.stages.layer_inputs import check_inside, open_objects, open_plate, plate_frames
from layerlift.stages.removal import Margin, choose_margin, note_job, plan_generation
from layerlift.stages.sharing import Shared, on_all
from layerlift.stages.spool import FrameSpool, resumed_frames
from layerlift.stages.windows import encoder, run_pass

# Refinement continues what the latents hold: there is nothing to lead to, and nothing to lead away from.
PROMPT = ""
LATENT = "latent composition"
# How colours are matched is kept before every so many frames.
EVERY = 8

# Told the name of an intermediate result, "latent" or "injected", and each of its frames, (H, W, 3) uint8.
Keep = Callable[[str, np.ndarray], None]


def compose_latent(
    clip: GivenClip,
    background: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    total: GivenMask,
    onto: GivenClip,
    options: LatentCompositionOptions | None = None,
    runtime: Runtime | None = None,
    **choices: Any,
) -> Clip:
    """Move the objects of a clip with their effects to a new background, by arithmetic on latents.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or a path.
        background: its clean plate, given in the same way, with the same size and length; a single picture is used for
            all frames.
        objects: the objects' masks: `Mask`, bool (F, H, W) or (H, W), or paths; or just one.
        total: mask of the objects and their effects together.
        onto: the new background, scaled to cover the clip's picture and cropped to its centre; if it is shorter, its
            last frame is held.
        options: the choices; None means all defaults.
        runtime: what to run with; None makes one from the choices.
        **choices: single choices by name: fields of `LatentCompositionOptions`, which override `options`, and,
            without a `runtime`, fields of `RuntimeOptions`, `progress` and `report`.

    Returns:
        A clip in memory with the size, length, timestamps and sound of `clip`. Its pixels are the clip's inside the
        objects, and the new background's outside the grown total mask. `compose_latent_frames` yields it frame by
        frame.

    Raises:
        InputError: something given cannot be used; raised before any weight is read.
        LayerliftError: the model returned NaN or infinity, or memory ran out and no smaller plan exists.
        TypeError: a choice that does not exist, or one of the runtime's given together with `runtime`.
    """
    options, runtime = chosen(LatentCompositionOptions, options, runtime, choices)
    plan = plan_latent_composition(clip, background, objects, total, onto, options, runtime)
    return plan.clip.with_colours(np.stack(list(run_latent_composition(plan))))


def compose_latent_frames(
    clip: GivenClip,
    background: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    total: GivenMask,
    onto: GivenClip,
    options: LatentCompositionOptions | None = None,
    runtime: Runtime | None = None,
    *,
    keep: Keep | None = None,
) -> Iterator[np.ndarray]:
    """`compose_latent`, one frame at a time: yields (H, W, 3) uint8, as many as the clip has.

    Everything is checked by the time this returns; the work begins when the first frame is requested. `keep`: see
    `run_latent_composition`.

    Raises InputError as `plan_latent_composition`, and LayerliftError, while frames are asked for, as
    `run_latent_composition`.
    """
    plan = plan_latent_composition(clip, background, objects, total, onto, options, runtime)
    return run_latent_composition(plan, keep)


@dataclass(frozen=True, slots=True)
class LatentCompositionPlan:
    """A latent composition that was checked: what goes where, and by which model.

    Attributes:
        clip: the objects' clip.
        plate: that without them.
        objects: the mask of all objects.
        total: that with their effects.
        onto: the new background.
        margin: what the total mask grows by, and where the result fades in.
        options: the user's.
        job: how the model runs.
        runtime: what it runs with.
    """

    clip: Clip
    plate: Clip
    objects: Mask
    total: Mask
    onto: Clip
    margin: Margin
    options: LatentCompositionOptions
    job: Job
    runtime: Runtime

    def plates(self, start: int = 0) -> Iterator[np.ndarray]:
        """The clean plate's frames, one for each of the clip's from frame `start` on."""
        return plate_frames(self.plate, start, self.clip.frame_count)

    def backgrounds(self, start: int = 0) -> Iterator[np.ndarray]:
        """The new background's frames, one for each of the clip's from frame `start` on: due at that time, the last one
        held, of its size."""
        reader = Sequential(self.onto.frames)
        for index in range(start, self.clip.frame_count):
            due = background_due(self.onto, shown_at(self.clip, index), CompositionOptions())
            yield covering(reader.at(due), (self.clip.width, self.clip.height))


def plan_latent_composition(
    clip: GivenClip,
    background: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    total: GivenMask,
    onto: GivenClip,
    options: LatentCompositionOptions | None = None,
    runtime: Runtime | None = None,
) -> LatentCompositionPlan:
    """Open and check everything; no weight is read. Takes the arguments of `compose_latent`.

    Raises InputError for what cannot be used.
    """
    options, runtime = options or LatentCompositionOptions(), runtime or Runtime()
    check_ranges(options)
    sigmas = refine_sigmas(options.strength, options.steps)
    clip = as_clip(clip)
    plate = open_plate(background, clip)
    masks = open_objects(objects, clip)
    reach = as_mask(total, clip)
    margin = choose_margin(RemovalOptions(), clip)
    check_inside(masks, reach, margin.dilate)
    # Every token is to be generated: none leads the others, be it of another window, and none keeps what it computed.
    given = RemovalOptions(prompt=PROMPT, guidance=1.0, seed=options.seed, size=options.size, dense=True, context=0)
    job = plan_generation(clip, given, replace(runtime, model=require_model(runtime, LATENT)))
    sampling = SamplingSettings(sigmas, guidance=1.0, stochastic=job.sampling.stochastic)
    union = union_masks(masks)
    job = replace(job, sampling=sampling)
    return LatentCompositionPlan(
        clip, plate, union, union_masks([reach, union]), as_clip(onto), margin, options, job, runtime
    )


def run_latent_composition(plan: LatentCompositionPlan, keep: Keep | None = None) -> Iterator[np.ndarray]:
    """Yield the composition's frames, (H, W, 3) uint8; `keep` is called with the frames between the steps.

    It gets "latent" or "injected" and a frame (H, W, 3) uint8: the decoded sum of the latents, and the same with the
    objects' own pixels inserted.

    Where the result is no picture, and there is memory for float32, the rest is made in that.

    Raises LayerliftError when the model returned NaN or infinity or made no picture in float32 either, or memory ran
    out and no smaller plan exists.
    """

    told = Counter[str]()

    def once(job: Job, start: int) -> Iterator[np.ndarray]:
        # What a job keeps of another try is told apart.
        runtime = plan.runtime if job is plan.job else plan.runtime.part("again")
        return composed(replace(plan, job=job, runtime=runtime), None if keep is None else anew(keep, told), start)

    def made(start: int) -> Iterator[np.ndarray]:
        return precisely(once, plan.job, plan.runtime.report, start)

    # An earlier process may have made some of the frames.
    return resumed_frames(plan.runtime.keeper, "composed", made, plan.backgrounds)


def anew(keep: Keep, told: Counter[str]) -> Keep:
    """`keep` for another try, which begins with frames that it was told of: as many of each name as `told` counts."""
    seen = Counter[str]()

    def tell(name: str, frame: np.ndarray) -> None:
        seen[name] += 1
        if seen[name] > told[name]:
            told[name] += 1
            keep(name, frame)

    return tell


def composed(plan: LatentCompositionPlan, keep: Keep | None, start: int) -> Iterator[np.ndarray]:
    """`run_latent_composition` from frame `start` on, once; `keep` is told of all frames."""
    job, count, runtime = plan.job, plan.clip.frame_count, plan.runtime
    runtime.report.sizes["clip"] = [plan.clip.width, plan.clip.height, count]
    note_job(runtime.report, job)
    noise = job.model.noise(job.seed)
    # Both encode and decode: what a job keeps of them is told apart.
    first, again = runtime.part("latents"), runtime.part("refinement")

    with (
        FrameSpool(first.keeper.shelf("injected")) as injected,
        kept_colours(runtime) as colours,
        limit(job.plan, asked=runtime.memory_bytes is not None),
    ):
        # 1. and 2. Latents of new background + (clip − plate), decoded, with the objects' own pixels.
        memory = put_in(injected, plan, keep, noise, first)
        if start == count:
            return

        # 3. Refine: encode, noise to the strength, denoise, decode.
        begin = 0 if colours is None else colours.last(start) or 0
        made: Iterable[np.ndarray] = injected.frames(begin)
        if plan.options.refine:
            made = refined(injected, job, noise, memory, again, begin)

        # 4. Where neither object nor effect is, the new background's own pixels; inside the objects, the clip's.
        yield from islice(restore(made, plan, colours, begin), start - begin, None)


def kept_colours(runtime: Runtime) -> AbstractContextManager[Shelf | None]:
    """Where it is kept how colours are matched; None where nothing lasts."""
    return runtime.keeper.shelf("colours") if runtime.keeper.lasts else nullcontext()


def put_in(
    injected: FrameSpool, plan: LatentCompositionPlan, keep: Keep | None, noise: Noise, runtime: Runtime
) -> Plan:
    """Bring new background + (clip − plate), decoded and with the objects' own pixels, into a spool that has some of
    these frames already.

    Returns the plan that they were made under. Draws on `noise`.
    """
    job, count, keeper = plan.job, plan.clip.frame_count, runtime.keeper
    with FrameSpool(keeper.shelf("latent")) as latent, keeper.shelf("noise") as drawn:
        done = len(injected) if keep is None else min(len(injected), len(latent))
        if keep is not None:
            for whole, frame in zip(latent.frames(0, done), injected.frames(0, done), strict=True):
                keep("latent", whole)
                keep("injected", frame)
        if 0 in drawn and done == count:
            noise.set_state(drawn.get(0)[0])
            return job.plan

        # 1. One clip after the other through the same encoder.
        def encoded(encode: Encode | Shared[Encode], memory: Plan, bar: StageProgress) -> list[Latents]:
            terms = [(plan.clip.frames, 1), (plan.plates, -1), (plan.backgrounds, 1)]
            with window_shelf(runtime, job, memory, "encoded") as shelf:
                return sum_latents(encode, terms, job, runtime, shelf, progress=bar)

        opened = on_all(encoder(job.model), runtime.devices)
        latents, memory = run_pass(opened, encoded, job.plan, "encode", 3 * count, runtime)

        # 2. Decode, and put the objects' own pixels in.
        pictures = decode_all(latents, job, noise, memory, runtime, done)
        for index, (whole, frame) in enumerate(inject(pictures, plan, done), done):
            if keep is not None:
                if keeper.lasts and index == len(latent):
                    latent.append(whole)
                keep("latent", whole)
                keep("injected", frame)
            if index == len(injected):
                injected.append(frame)
        drawn.put(0, noise.get_state())
    return memory


def inject(
    decoded: Iterable[np.ndarray], plan: LatentCompositionPlan, start: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Decoded frames (H, W, 3) float32 from frame `start` on as uint8, and the same with the objects' own pixels."""
    for frame, own, where in zip(decoded, plan.clip.frames(start), plan.objects.frames(start), strict=True):
        whole = np.rint(frame).astype(np.uint8)
        yield whole, np.where(where[..., None], own, whole)


def refined(
    given: FrameSpool, job: Job, noise: Noise, plan: Plan, runtime: Runtime, start: int
) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8, noised to the first of the job's sigmas and denoised, from frame `start` on: (H, W, 3)
    float32 in 0 … 255."""

    # 3.1 Every token is unknown: nothing of a composition is right already. What two windows share is carried over.
    def encoded(encode: Encode | Shared[Encode], plan: Plan, bar: StageProgress) -> list[Section | None]:
        with window_shelf(runtime, job, plan, "encoded") as shelf:
            latents = encode_all(encode, given.frames, job, runtime, shelf, progress=bar)
            return [
                Section(window, z, np.ones(z.shape[2:], bool), shown=True)
                for window, z in zip(job.windows, latents, strict=True)
            ]

    opened = on_all(encoder(job.model), runtime.devices)
    sections, plan = run_pass(opened, encoded, plan, "encode", len(given), runtime)

    # 3.2 Noise to the strength and denoise, in the loop that removal uses.
    made, plan = denoise_sections(job, sections, noise, plan, runtime)

    # 3.3 Decode.
    latents = [section.latents for section in made if section is not None]
    yield from decode_all(latents, job, noise, plan, runtime, start)


def restore(
    made: Iterable[np.ndarray], plan: LatentCompositionPlan, colours: Shelf | None, start: int
) -> Iterator[np.ndarray]:
    """Finish composed frames (H, W, 3), from frame `start` on: yields uint8, beyond the grown total mask the new
    background, bit for bit.

    The composition fades in inside what the total mask has grown by, its colours matched to the new background's
    around it; inside the objects every pixel is the clip's. The shelf is given how they are matched before frames; what
    it has for the first one is gone on from. Raises PrecisionError for frames that are no pictures.
    """
    match = ColorMatch()
    if colours is not None and start in colours:
        match.restore(colours.get(start))
    pictures = zip(
        made, plan.backgrounds(start), plan.clip.frames(start), plan.objects.frames(start), plan.total.frames(start),
        strict=True,
    )  # fmt: skip
    for index, (frame, behind, own, where, reach) in enumerate(pictures, start):
        if colours is not None and index % EVERY == 0:
            colours.put(index, *match.state())
        if (index - start) % LOOKED_AT_EVERY == 0:
            # The objects' own pixels were put in: they tell nothing of the model.
            given = liveliest([look(known.astype(np.float32), ~where) for known in (own, behind)])
            check_picture(frame.astype(np.float32), given, plan.job, ~where)
        if not reach.any():
            match.reset()
            yield behind
            continue
        shown = grow(reach, plan.margin.dilate)
        matched = match(frame.astype(np.float32), behind, shown)
        yield np.where(where[..., None], own, paste(behind, matched, shown, plan.margin.feather))


def covering(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
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
