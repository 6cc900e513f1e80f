"""Evidence: what the clip shows of its hidden pixels in other frames. Read `gather_evidence` from top to bottom.

The clip is passed twice: once to follow the camera, once to gather. What is held is the frames in reach, and what was
gathered goes to a temporary file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from layerlift.clip import Clip
from layerlift.evidence.align import Aligned, Aligner
from layerlift.evidence.choose import Lag, choose_frames
from layerlift.evidence.combine import combine
from layerlift.evidence.decide import Decider
from layerlift.evidence.fuse import (
    SURE,
    Side,
    TracedColours,
    fuse,
    inpainted,
    inpainted_rest,
    region_error,
    surer,
    thin_parts,
    with_fill,
)
from layerlift.evidence.join import EDGE, join
from layerlift.evidence.motion import Motion, covered_by, follow, reduced_size
from layerlift.evidence.proxies import Proxies
from layerlift.evidence.rank import outrank
from layerlift.evidence.reach import Held, Reach
from layerlift.evidence.reference import Reference
from layerlift.evidence.region import Region, regions_of
from layerlift.evidence.state import EvidenceOptions, State
from layerlift.evidence.store import Evidence, Spool
from layerlift.evidence.tracing import ROUNDS, STEPS, find_traces
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.masks import Mask
from layerlift.progress import QUIET, Progress

# Frames in reach unless said otherwise, in seconds.
REACH_SECONDS = 10.0
# What lies within this share of the picture's shorter side around the mask tells how frames agree; at least so many
# pixels.
RING_SHARE = 1 / 16
RING_LEAST = 24
# Of large regions fewer samples are taken, so that a frame never costs more than so many pixels of samples, unless that
# would be fewer than so many samples.
SAMPLED_PIXELS = 2_000_000
LEAST_SAMPLES = 8
# Frames that are decided about and weighed while samples are taken for the next.
AT_ONCE = 2
# Samples of a region that are expected to be off by fewer levels of 255 need no second source.
EXACT = 1.0


def gather_evidence(
    clip: Clip,
    mask: Mask,
    *,
    dilate: int,
    options: EvidenceOptions | None = None,
    references: Sequence[Reference] = (),
    progress: Progress = QUIET,
    keeper: Keeper = TEMPORARY,
) -> Evidence:
    """Gather what other frames show of the pixels that the mask, grown by `dilate` pixels, hides.

    `references` are those that `apply_references` laid into the clip: what they show outranks other frames near them.
    What `keeper` has of an earlier process that was given the same is not done again.

    Returns an `Evidence` that has to be closed. Nothing is taken across a cut.
    """
    options = options or EvidenceOptions()
    spool = Spool(keeper.shelf("gathered"))
    try:
        with ExitStack() as stack:
            # Threads work on different frames; those of a matrix product, over matrices so small, are in their way.
            stack.enter_context(threadpool_limits(1, user_api="blas"))
            # 1. Follow the camera.
            proxies = Proxies(reduced_size(clip), keeper)
            stack.callback(proxies.close)
            with progress.stage("motion", clip.frame_count) as bar, keeper.shelf("motion") as placed:
                done = min(len(placed), proxies.count)
                keeper.skip(bar, "motion", done)
                motion = follow(clip, mask, dilate, bar, proxies.put, shelf=placed, kept=proxies.seen, done=done)
            if len(spool) < clip.frame_count:
                gather(
                    clip, mask, motion, proxies, spool,
                    dilate=dilate, options=options, references=references, progress=progress, keeper=keeper,
                )  # fmt: skip
    except BaseException:
        spool.close()
        raise
    # Nobody needs them any more; where the camera is is told by what is left.
    keeper.drop("proxies-filled", "exposures", *(f"filled-{number}" for number in range(len(ROUNDS))))
    keeper.part(f"round-{len(ROUNDS) - 1}").drop()
    counts = sum((spool.more(index)[0] for index in range(clip.frame_count)), np.zeros(2, np.int64))
    return Evidence(clip, spool, motion, hidden=int(counts[0]), gathered=int(counts[1]))


def gather(
    clip: Clip,
    mask: Mask,
    motion: Motion,
    proxies: Proxies,
    spool: Spool,
    *,
    dilate: int,
    options: EvidenceOptions,
    references: Sequence[Reference],
    progress: Progress,
    keeper: Keeper,
) -> None:
    """Trace and gather the frames that `spool` does not have, into it. Takes the arguments of `gather_evidence`."""
    with ExitStack() as stack:
        reach = round(REACH_SECONDS * clip.rate) if options.reach is None else options.reach
        painted = {at.index: covered_by(at.shows((clip.height, clip.width)), proxies.size) for at in references}
        held = Reach(clip, mask, dilate, min(reach, clip.frame_count - 1), options.memory, references=painted)

        # 2. Trace hidden pixels to the frames that show them.
        with progress.stage("trace", STEPS * clip.frame_count) as bar:
            traces = find_traces(proxies, motion, held.near, bar, painted, fills=options.fills, keeper=keeper)
        stack.callback(traces.close)

        # 3. Gather, frame by frame and region by region. While samples are taken for a frame, a thread decides about
        # the frame before.
        width = max(RING_LEAST, round(RING_SHARE * min(clip.width, clip.height)))
        lag, aligner, decider = Lag(), Aligner(motion, held), Decider(motion)
        stack.callback(aligner.close)
        traced = TracedColours(traces, (clip.width, clip.height))
        start = len(spool)
        go_on(spool, lag, aligner, decider, (clip.height, clip.width))
        with (
            progress.stage("gather", clip.frame_count) as bar,
            ThreadPoolExecutor(1) as deciding,
            ThreadPoolExecutor(1) as weighing,
        ):
            keeper.skip(bar, "gather", start)
            waiting: deque[Future[None]] = deque()
            for present in held.walk(start):
                regions = [
                    take_samples(motion, held, present, region, options=options, aligner=aligner, lag=lag)
                    for region in regions_of(held[present], width)
                ]
                learned = np.array([lag.frames, lag.shot], np.int64), *aligner.learned()
                aligner.forget(present)
                if len(waiting) == AT_ONCE:
                    waiting.popleft().result()
                decided = deciding.submit(decide, present, regions, held[present], decider, traced.scale)
                waiting.append(
                    weighing.submit(
                        weigh, present, decided, held.at_hand(), traced=traced, proxies=proxies, spool=spool,
                        learned=learned,
                    )
                )  # fmt: skip
                bar.advance()
            for weighed in waiting:
                weighed.result()


def go_on(spool: Spool, lag: Lag, aligner: Aligner, decider: Decider, shape: tuple[int, int]) -> None:
    """Let what learns from frame to frame know what it had learned after the frames of the spool, (H, W) large."""
    for index in range(len(spool)):
        _, doubted, (frames, shot), numbers, off = spool.more(index)
        aligner.learn(numbers, off)
        lag.frames, lag.shot = int(frames), int(shot)
        aligner.forget(index)
    if len(spool):
        bits = np.unpackbits(doubted, count=shape[0] * shape[1])
        decider.go_on(len(spool) - 1, bits.reshape(shape) > 0)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A region, what other frames show of it, and which of these samples are to carry what cannot be foretold."""

    region: Region
    samples: Aligned
    carriers: list[int]


def take_samples(
    motion: Motion,
    held: Reach,
    present: int,
    region: Region,
    *,
    options: EvidenceOptions,
    aligner: Aligner,
    lag: Lag,
) -> Sampled:
    """Choose frames for a region and take samples of it from them."""
    count = min(options.samples, max(LEAST_SAMPLES, SAMPLED_PIXELS // region.hidden.size))
    sources, carriers = choose_frames(motion, held, present, region.box, count=count, lag=lag)
    samples = aligner.take(present, sources, region)
    return Sampled(region, samples, [samples.sources.index(at) for at in carriers if at in samples.sources])


@dataclass(frozen=True, slots=True)
class Gathered:
    """What was gathered of a frame by region: colours (H, W, 3) float32, expected errors (H, W), infinite for none, and
    what was doubted, (H, W) bool."""

    values: np.ndarray
    error: np.ndarray
    doubted: np.ndarray


def decide(present: int, sampled: list[Sampled], ours: Held, decider: Decider, scale: int) -> Gathered:
    """Combine the samples of a frame's regions and decide where they are to be trusted.

    Frames have to come in their order: decisions are steady in time. Errors are compared `scale` times smaller.
    """
    values, error = np.zeros(ours.frame.shape, np.float32), np.full(ours.hidden.shape, np.inf, np.float32)
    decider.begin(ours.hidden.shape)
    for part in sampled:
        if not part.samples.sources:
            continue
        region = part.region
        left, top, right, bottom = region.box
        samples, doubt = decider.leave_out(part.samples)
        combined = combine(samples, region, carriers=part.carriers)
        taken = decider.sure(combined, doubt, region, present)
        near = region.ring & (region.away <= EDGE) & combined.any_sample
        joined = join(combined.values, region.truth, region.hidden, near)
        values[top:bottom, left:right][taken] = joined[taken]
        error[top:bottom, left:right][taken] = region_error(joined, region.truth, near, scale)[taken]
    decider.end(present)
    return Gathered(values, error, decider.doubted)


def weigh(
    present: int,
    decided: Future[Gathered],
    frames: Mapping[int, Held],
    *,
    traced: TracedColours,
    proxies: Proxies,
    spool: Spool,
    learned: Sequence[np.ndarray],
) -> None:
    """Weigh all that is known of a frame's hidden pixels and keep it, with how many are hidden and gathered.

    `frames` are those at hand; `learned` is kept, too, see `go_on`.
    """

    def frame_of(index: int) -> np.ndarray | None:
        return frames[index].frame if index in frames else None

    regions = decided.result()
    frame, hidden = frames[present].frame, frames[present].hidden
    state = np.where(hidden, np.uint8(State.UNKNOWN), np.uint8(State.ORIGINAL))
    if hidden.any():
        frame = frame.copy()
        rows, columns = np.nonzero(hidden)
        sides = [
            Side(regions.values[rows, columns], regions.error[rows, columns]),
            *traced.sides(present, rows, columns, frame_of),
        ]
        # What contradicts a reference near by does not count.
        painted = traced.painted(present, rows, columns, frame_of)
        sides = outrank(sides, painted, rows, columns, traced.scale)
        # What fits the frame to within its noise beside the hole is taken as it is, bit for bit.
        exact = sides[0].error < EXACT
        sides[1:] = [side.unless(exact) for side in sides[1:]]
        painted = [side.unless(exact) for side in painted]
        small, covered = proxies[present]
        prior = inpainted(hidden, small, covered)
        thin = thin_parts(covered, hidden) & ~exact
        first = fuse([*surer(sides, prior, thin), *painted], prior.unless(exact))
        frame[rows, columns] = np.clip(np.rint(first.colours), 0, 255)
        sure = first.evidence_error <= SURE
        state[rows[sure], columns[sure]] = State.GATHERED
        # What is known by now tells more of the rest than what lies around the whole hole.
        if not sure.all():
            rest = ~sure
            prior = inpainted_rest(frame, state == State.UNKNOWN, proxies.size)
            evidence = surer([side.of(rest) for side in sides], prior, thin[rest])
            colours = fuse([*evidence, *(side.of(rest) for side in painted)], prior).colours
            fill = traced.fill(present)
            if fill is not None:
                colours = with_fill(colours, frame, state == State.UNKNOWN, proxies.size, fill)
            frame[rows[rest], columns[rest]] = np.clip(np.rint(colours), 0, 255)
    counts = np.array([np.count_nonzero(hidden), np.count_nonzero(state == State.GATHERED)])
    spool.append(frame, state, counts, np.packbits(regions.doubted), *learned)
