"""Generating the pixels that no frame tells, in windows. Read `generate` from top to bottom.

All windows are encoded, then all denoised, then all decoded, so that only one part of the model is in memory at a time.
Between the steps nothing is kept of the video but latents, which lie in temporary files, and one bit per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass, replace
from itertools import pairwise

import numpy as np

from layerlift.engine.base import Decode, Denoise, Encode, Engine, Latents, Noise, SamplingSettings
from layerlift.engine.device import Policy
from layerlift.engine.device.memory import trim_host
from layerlift.engine.device.plan import Plan
from layerlift.engine.model.speed import Speed, choose_speed
from layerlift.errors import PrecisionError
from layerlift.geometry.fit import Fit, Window, latent_frames
from layerlift.geometry.focus import Box, View, offsets
from layerlift.jobs.manifest import digest_of_text
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.sense import LOOKED_AT_EVERY, Look, liveliest, look
from layerlift.pixels.work import Patch, fit_regions
from layerlift.progress import StageProgress
from layerlift.runtime import Runtime
from layerlift.stages.context import gather_context
from layerlift.stages.decoding import decode_windows, decoded_before
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
    job: Job,
    frames: Callable[[int], Iterable[Wanted]],
    frame_count: int,
    runtime: Runtime,
    start: int = 0,
) -> Iterator[Patch | None]:
    """For every frame from `start` on what was generated, where it lies in the clip, or None where nothing is wanted.

    `frames` is called with a frame's number for a pass over the clip from there on, and again when memory ran out in
    it. Where the result is no picture, and there is memory for float32, everything is done again in that; what was
    yielded already stays.

    Raises PrecisionError where the result is no picture in float32 either, or there is no memory for it.
    """
    while True:
        try:
            for patch in _generated(job, frames, frame_count, runtime, start):
                yield patch
                start += 1
            return
        except PrecisionError as error:
            precise, said = job.plan.precise(), str(error)
            if precise is None:
                raise
        # Beyond the block: the exception holds on to everything that the work had made.
        runtime.report.note(f"{said.split(':', maxsplit=1)[0]}; trying again in float32")
        job = replace(job, plan=precise)


def _generated(
    job: Job, frames: Callable[[int], Iterable[Wanted]], frame_count: int, runtime: Runtime, start: int
) -> Iterator[Patch | None]:
    """`generate`, once."""
    model, noise = job.model, job.model.noise(job.seed)

    # 1. Encode every window in which something is to be generated.
    sections, plan = encode_sections(job, frames, frame_count, runtime)
    runtime.report.results["tokens"] = count_tokens(sections, job)
    if not any(sections):
        yield from (None for _ in range(start, frame_count))
        return

    # 2. Denoise window after window; what two windows share is generated by the first.
    sections, plan = denoise_sections(job, sections, noise, plan, runtime)

    # 3. Decode, and undo the fit.
    state = noise.get_state()

    def decoded(decode: Decode, plan: Plan, bar: StageProgress) -> Iterator[Patch | None]:
        noise.set_state(state)
        with window_shelf(runtime, job, plan, "decoded") as shelf:
            done = decoded_before(start, job, sections, shelf, noise)
            runtime.keeper.skip(bar, "decode", done)
            for index, patch in enumerate(
                decode_windows(decode, sections, job, frame_count, noise=noise, done=done, shelf=shelf), done
            ):
                bar.advance()
                if index >= start:
                    yield patch

    yield from run_pass_each(decoder(model), decoded, plan, "decode", frame_count, runtime)


def encode_sections(
    job: Job, frames: Callable[[int], Iterable[Wanted]], frame_count: int, runtime: Runtime
) -> tuple[list[Section | None], Plan]:
    """Encode the windows in which anything is to be generated; the others are None. Takes `generate`'s arguments.

    Returns the sections, and the plan they were made under.
    """

    def encoded(encode: Encode, plan: Plan, bar: StageProgress) -> list[Section | None]:
        with window_shelf(runtime, job, plan, "encoded") as shelf:
            sections = kept_sections(job, shelf)
            done = job.windows[len(sections)].start if len(sections) < len(job.windows) else frame_count
            runtime.keeper.skip(bar, "encode", done)
            more = encode_windows(encode, frames, job, frame_count, plan.policy, len(sections), shelf, progress=bar)
            return [*sections, *more]

    with window_shelf(runtime, job, job.plan, "encoded") as shelf:
        sections = kept_sections(job, shelf)
    if len(sections) == len(job.windows):
        return sections, job.plan
    return run_pass(encoder(job.model), encoded, job.plan, "encode", frame_count, runtime)


def denoise_sections(
    job: Job, sections: Sequence[Section | None], noise: Noise, plan: Plan, runtime: Runtime
) -> tuple[list[Section | None], Plan]:
    """Generate what is unknown in all windows: the text, then the transformer's pass; the sections given stay.

    Returns the sections made, and the plan they were made under. Draws on `noise`.
    """
    model = job.model
    with window_shelf(runtime, job, plan, "denoised") as shelf:
        if shelf is not None and len(shelf) == len(sections):
            made = [section and section.copy() for section in sections]
            restore_denoised(made, shelf, noise)
            return made, plan
    with runtime.report.stage("text"), runtime.progress.stage("text", None) as bar:
        prompts = model.prompts(job.prompts, job.policy, job.cache, bar)
    total = job.sampling.steps * sum(section is not None for section in sections)
    start = noise.get_state()

    def opened(plan: Plan) -> AbstractContextManager[Denoise]:
        return model.denoising(plan.policy, prompts, job.sampling, job.speed(plan, total))

    def denoised(denoise: Denoise, plan: Plan, bar: StageProgress) -> list[Section | None]:
        noise.set_state(start)
        made = [section and section.copy() for section in sections]
        with window_shelf(runtime, job, plan, "denoised") as shelf:
            done = restore_denoised(made, shelf, noise)
            steps = job.sampling.steps * sum(section is not None for section in sections[:done])
            runtime.keeper.skip(bar, "denoise", steps)
            denoise_windows(denoise, made, job, noise=noise, progress=bar, done=done, shelf=shelf)
        return made

    return run_pass(opened, denoised, plan, "denoise", total, runtime)


def window_shelf(runtime: Runtime, job: Job, plan: Plan, name: str) -> AbstractContextManager[Shelf | None]:
    """Where windows are kept that were made under a plan; None where nothing lasts."""
    if not runtime.keeper.lasts:
        return nullcontext()
    # What memory there is decides about both: windows that were made otherwise are others.
    return runtime.keeper.shelf(f"{name}-{digest_of_text(plan.policy, job.view)}")


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


def kept_sections(job: Job, shelf: Shelf | None) -> list[Section | None]:
    """The first windows as they lie on a shelf."""
    sections: list[Section | None] = []
    for number in range(0 if shelf is None else len(shelf)):
        assert shelf is not None
        found = shelf.get(number)
        section = None
        if found:
            latents, unknown, shown, own = found
            window, box = job.windows[number], job.view.boxes[number]
            section = Section(window, filed(latents), unknown, bool(shown), box, Look(*own.tolist()))
        sections.append(section)
    return sections


def encode_windows(
    encode: Encode,
    frames: Callable[[int], Iterable[Wanted]],
    job: Job,
    frame_count: int,
    policy: Policy,
    done: int = 0,
    shelf: Shelf | None = None,
    *,
    progress: StageProgress,
) -> Iterator[Section | None]:
    """Read the frames once and encode the windows in which anything is to be generated; the others are None.

    The first `done` windows are left out; the others are put onto the shelf, too.
    """
    view = job.view
    if done == len(view.windows):
        return
    first = view.windows[done].start

    def counted() -> Iterator[Wanted]:
        for item in frames(first):
            yield item
            progress.advance()

    regions = (view.region(index) for index in range(first, frame_count))
    fitted = fit_regions(counted(), regions, view.fit, policy)
    windows, boxes = view.windows[done:], view.boxes[done:]
    for number, ((window, parts), box) in enumerate(zip(cut(fitted, windows, first), boxes, strict=True), done):
        # Frames beyond the clip's end repeat the last one, which the last window sees whole.
        pairs = [part.cut(box) for part in parts if part is not None]
        hidden = np.stack([hidden for _, hidden in pairs])  # (F, H, W)
        section = None
        if hidden.any():
            latents = encode(np.stack([frame for frame, _ in pairs]))
            shown = bool(hidden[kept_frames(window)].any())
            own = liveliest([look(frame.astype(np.float32), ~hides) for frame, hides in pairs[::LOOKED_AT_EVERY]])
            section = Section(window, filed(latents), job.model.unknown_tokens(hidden), shown, box, own)
        if shelf is not None:
            found = [] if section is None else [latents, section.unknown, np.array(shown), np.array(astuple(own))]
            shelf.put(number, *found)
        yield section
        # Frames that come and go leave gaps in the heap, more of them the longer the clip.
        trim_host()
    for _ in fitted:
        pass  # what no window needs


def restore_denoised(sections: Sequence[Section | None], shelf: Shelf | None, noise: Noise) -> int:
    """Put the first windows into `sections` as they lie on a shelf, and the noise where it stood then.

    Returns how many there are.
    """
    done = 0 if shelf is None else len(shelf)
    for number, section in enumerate(sections[:done]):
        assert shelf is not None
        found = shelf.get(number)
        if section is not None:
            section.latents, section.unknown = filed(found[0]), found[1]
            noise.set_state(found[2])
    return done


def denoise_windows(
    denoise: Denoise,
    sections: Sequence[Section | None],
    job: Job,
    *,
    noise: Noise,
    progress: StageProgress,
    done: int = 0,
    shelf: Shelf | None = None,
) -> None:
    """Replace the latents of every window by generated ones, in order, each with what it shares with the one before.

    The first `done` windows have them already; the others are put onto the shelf, too.
    """
    geometry, rate = job.model.geometry, job.model.settings.rate
    for number, (before, section) in enumerate(pairwise([None, *sections])):
        if number < done:
            continue
        if section is not None:
            if before is not None:
                carry_over(before, section, geometry.space)
            if section.unknown.any():
                context = gather_context(sections, number, geometry=geometry, rate=rate, count=job.context)
                section.latents = filed(denoise(section.latents, section.unknown, context, noise, progress))
                trim_host()
            else:
                progress.advance(job.sampling.steps)
        if shelf is not None:
            found = [] if section is None else [section.latents, section.unknown, noise.get_state()]
            shelf.put(number, *found)


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
