"""Generating the pixels that no frame tells, in windows. Read `generate` from top to bottom.

All windows are encoded, then all denoised, then all decoded, so that only one part of the model is in memory at a time.
Between the steps nothing is kept of the video but latents, which lie in temporary files, and one bit per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice, pairwise

import numpy as np

from layerlift.engine.base import Decode, Denoise, Encode, Engine, Latents, Noise, Picture, SamplingSettings
from layerlift.engine.device import Policy
from layerlift.engine.device.memory import trim_host
from layerlift.engine.device.plan import Plan
from layerlift.engine.model.speed import Speed, choose_speed
from layerlift.errors import PrecisionError
from layerlift.geometry.fit import Fit, Window, latent_frames
from layerlift.geometry.focus import Box, View, offsets
from layerlift.pixels.sense import Look, liveliest, look, nonsense
from layerlift.pixels.work import Patch, fit_regions, make_patches
from layerlift.progress import StageProgress
from layerlift.runtime import Runtime
from layerlift.stages.context import gather_context
from layerlift.stages.windows import cut, decoder, encoder, filed, kept_frames, run_pass, run_pass_each

# A frame (H, W, 3) uint8 at the clip's size, and (H, W) bool, True where its pixels are to be generated.
Wanted = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Job:
    """Everything about a generation that is settled before a weight is read.

    Attributes:
        model: what runs.
        plan: how it runs in the memory there is.
        prompts: the prompt, and before it the negative prompt when there is guidance.
        sampling: noise levels and guidance.
        view: how the clip's size and length meet the model's, and which part of the clip it sees.
        seed: of the noise.
        cache: keep text embeddings on disk.
        refresh, dense, compile: see `choose_speed`.
        context: latent frames of other windows that each window is shown, at most.
        window: see `RemovalOptions`.
    """

    model: Engine
    plan: Plan
    prompts: Sequence[str]
    sampling: SamplingSettings
    view: View
    seed: int = 0
    cache: bool = True
    refresh: float | None = None
    dense: bool = False
    compile: bool | None = None
    context: int = 0
    window: int | None = None

    @property
    def fit(self) -> Fit:
        """How the picture is scaled and padded."""
        return self.view.fit

    @property
    def windows(self) -> tuple[Window, ...]:
        """The clip in time."""
        return self.view.windows

    @property
    def policy(self) -> Policy:
        """The rules it runs by."""
        return self.plan.policy

    def speed(self, plan: Plan, steps: int) -> Speed:
        """How the passes of `steps` denoising steps run under a plan."""
        dense = self.dense or not plan.sparse
        return choose_speed(plan.policy, steps, refresh=self.refresh, dense=dense, compile=self.compile)


def generate(
    job: Job, frames: Callable[[], Iterable[Wanted]], frame_count: int, runtime: Runtime
) -> Iterator[Patch | None]:
    """For every frame what was generated, where it lies in the clip, or None where nothing is wanted.

    `frames` is called for a pass over the clip, and again when memory ran out in it. Where the result is no picture,
    and there is memory for float32, everything is done again in that; what was yielded already stays.

    Raises PrecisionError where the result is no picture in float32 either, or there is no memory for it.
    """
    done = 0
    while True:
        try:
            for patch in islice(_generated(job, frames, frame_count, runtime), done, None):
                yield patch
                done += 1
            return
        except PrecisionError as error:
            precise, said = job.plan.precise(), str(error)
            if precise is None:
                raise
        # Beyond the block: the exception holds on to everything that the work had made.
        runtime.report.note(f"{said.split(':', maxsplit=1)[0]}; trying again in float32")
        job = replace(job, plan=precise)


def _generated(
    job: Job, frames: Callable[[], Iterable[Wanted]], frame_count: int, runtime: Runtime
) -> Iterator[Patch | None]:
    """`generate`, once."""
    model, noise = job.model, job.model.noise(job.seed)

    # 1. Encode every window in which something is to be generated.
    def encoded(encode: Encode, plan: Plan, bar: StageProgress) -> list[Section | None]:
        return encode_windows(encode, frames(), job, frame_count, plan.policy, progress=bar)

    sections, plan = run_pass(encoder(model), encoded, job.plan, "encode", frame_count, runtime)
    runtime.report.results["tokens"] = count_tokens(sections, job)
    if not any(sections):
        yield from (None for _ in range(frame_count))
        return

    # 2. Denoise window after window; what two windows share is generated by the first.
    sections, plan = denoise_sections(job, sections, noise, plan, runtime)

    # 3. Decode, and undo the fit.
    start = noise.get_state()

    def decoded(decode: Decode, plan: Plan, bar: StageProgress) -> Iterator[Patch | None]:
        noise.set_state(start)
        for patch in decode_windows(decode, sections, job, frame_count, noise=noise):
            bar.advance()
            yield patch

    yield from run_pass_each(decoder(model), decoded, plan, "decode", frame_count, runtime)


def denoise_sections(
    job: Job, sections: Sequence[Section | None], noise: Noise, plan: Plan, runtime: Runtime
) -> tuple[list[Section | None], Plan]:
    """Generate what is unknown in all windows: the text, then the transformer's pass; the sections given stay.

    Returns the sections made, and the plan they were made under. Draws on `noise`.
    """
    model = job.model
    with runtime.report.stage("text"), runtime.progress.stage("text", None) as bar:
        prompts = model.prompts(job.prompts, job.policy, job.cache, bar)
    total = job.sampling.steps * sum(section is not None for section in sections)
    start = noise.get_state()

    def opened(plan: Plan) -> AbstractContextManager[Denoise]:
        return model.denoising(plan.policy, prompts, job.sampling, job.speed(plan, total))

    def denoised(denoise: Denoise, plan: Plan, bar: StageProgress) -> list[Section | None]:
        noise.set_state(start)
        made = [section and section.copy() for section in sections]
        denoise_windows(denoise, made, job, noise=noise, progress=bar)
        return made

    return run_pass(opened, denoised, plan, "denoise", total, runtime)


def count_tokens(sections: Sequence[Section | None], job: Job) -> dict[str, int]:
    """Tokens of all windows, and those of them that are to be generated."""
    width, height = job.view.size
    geometry = job.model.geometry
    cells = (width // geometry.space) * (height // geometry.space)
    everything = sum(latent_frames(window.frame_count, geometry.time) * cells for window in job.windows)
    unknown = sum(int(section.unknown.sum()) for section in sections if section is not None)
    return {"all": everything, "unknown": unknown}


@dataclass(slots=True)
class Section:
    """A window with something to generate, between the steps.

    Attributes:
        window: its frames.
        latents: (1, C, f, h, w) float32, in a file.
        unknown: (f, h, w) bool.
        shown: whether any frame kept from this window has a pixel to generate.
        box: the part of the picture it shows; None: all of it.
        own: what the clip looks like in it.
    """

    window: Window
    latents: Latents
    unknown: np.ndarray
    shown: bool
    box: Box | None = None
    own: Look | None = None

    def copy(self) -> Section:
        """One whose arrays can be changed while these stay."""
        return replace(self, latents=filed(self.latents), unknown=self.unknown.copy())


def encode_windows(
    encode: Encode,
    frames: Iterable[Wanted],
    job: Job,
    frame_count: int,
    policy: Policy,
    *,
    progress: StageProgress,
) -> list[Section | None]:
    """Read the frames once and encode the windows in which anything is to be generated; the others are None."""
    view = job.view

    def counted() -> Iterator[Wanted]:
        for item in frames:
            yield item
            progress.advance()

    regions = (view.region(index) for index in range(frame_count))
    fitted = fit_regions(counted(), regions, view.fit, policy)
    sections: list[Section | None] = []
    for (window, parts), box in zip(cut(fitted, view.windows), view.boxes, strict=True):
        # Frames beyond the clip's end repeat the last one, which the last window sees whole.
        pairs = [part.cut(box) for part in parts if part is not None]
        hidden = np.stack([hidden for _, hidden in pairs])  # (F, H, W)
        if not hidden.any():
            sections.append(None)
            continue
        latents = filed(encode(np.stack([frame for frame, _ in pairs])))
        shown = hidden[kept_frames(window)].any()
        own = liveliest([look(frame.astype(np.float32), ~hides) for frame, hides in pairs])
        sections.append(Section(window, latents, job.model.unknown_tokens(hidden), bool(shown), box, own))
        # Frames that come and go leave gaps in the heap, more of them the longer the clip.
        trim_host()
    for _ in fitted:
        pass  # what no window needs
    return sections


def denoise_windows(
    denoise: Denoise, sections: Sequence[Section | None], job: Job, *, noise: Noise, progress: StageProgress
) -> None:
    """Replace the latents of every window by generated ones, in order, each with what it shares with the one before."""
    geometry, rate = job.model.geometry, job.model.settings.rate
    for number, (before, section) in enumerate(pairwise([None, *sections])):
        if section is None:
            continue
        if before is not None:
            carry_over(before, section, geometry.space)
        if not section.unknown.any():
            progress.advance(job.sampling.steps)
            continue
        context = gather_context(sections, number, geometry=geometry, rate=rate, count=job.context)
        section.latents = filed(denoise(section.latents, section.unknown, context, noise, progress))
        trim_host()


def carry_over(before: Section, section: Section, space: int) -> None:
    """Make what a window shares with the one before it known, as it was generated there: tokens of the latent frames
    that both have, where their boxes overlap. Beyond that nothing of these frames is wanted."""
    window = section.window
    here, there = slice(1, 1 + window.carried), slice(1 + window.shift, 1 + window.shift + window.carried)
    rows = columns = old_rows = old_columns = slice(None)
    if before.box is not None and section.box is not None:
        found = offsets(before.box, section.box, space)
        if found is None:
            return
        (old_rows, old_columns), (rows, columns) = found
    section.latents[:, :, here, rows, columns] = before.latents[:, :, there, old_rows, old_columns]
    section.unknown[here, rows, columns] = False


def sensible(frames: Iterable[Picture], own: Look | None, job: Job) -> Iterator[Picture]:
    """The frames that a model made, as long as they are pictures; `own` is what the clip looks like there.

    Raises PrecisionError for one that is saturated, of one colour, or noise, where the clip is not.
    """
    for frame in frames:
        wrong = None if own is None or job.model.settings.random else nonsense(look(frame), own)
        if wrong is not None:
            exact = job.plan.precise() is None and job.policy.transformer_dtype == "float32"
            why = "its weights are damaged" if exact else f"{job.policy.transformer_dtype} is too coarse for it here"
            way = "choose another --model, or fetch it again" if exact else "try --dtype float32"
            raise PrecisionError(f"{job.model.name} made a frame that is {wrong}: {why}; {way}")
        yield frame


def decode_windows(
    decode: Decode, sections: Sequence[Section | None], job: Job, frame_count: int, *, noise: Noise
) -> Iterator[Patch | None]:
    """For every frame of the clip what was generated, or None where nothing is wanted."""
    view, done = job.view, 0
    for window, section, box in zip(view.windows, sections, view.boxes, strict=True):
        yield from (None for _ in range(done, window.keep_start))
        done = window.keep_stop
        kept = kept_frames(window)
        if section is None or not section.shown:
            yield from (None for _ in range(kept.start, kept.stop))
            continue
        frames = islice(decode(section.latents, noise), kept.start, kept.stop)
        yield from make_patches(sensible(frames, section.own, job), view, box)
        trim_host()
    yield from (None for _ in range(done, frame_count))
