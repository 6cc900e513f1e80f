"""Whole clips to the latents of their windows and back, for work on latents that has no known tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice

import numpy as np

from layerlift.engine.base import Decode, Encode, Latents, Noise, Picture
from layerlift.engine.device.plan import Plan
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.arrays import fit_frame, unfit_frame
from layerlift.progress import StageProgress
from layerlift.runtime import Runtime
from layerlift.stages.generation import Job, window_shelf
from layerlift.stages.sharing import Shared, each, on_all
from layerlift.stages.windows import cut, kept_frames, run_pass_each

# Called with a frame's number, it yields a clip's frames, (H, W, 3) uint8, from there on.
Reader = Callable[[int], Iterable[np.ndarray]]


def sum_latents(
    encode: Encode | Shared[Encode],
    terms: Sequence[tuple[Reader, int]],
    job: Job,
    runtime: Runtime,
    shelf: Shelf | None = None,
    *,
    progress: StageProgress,
) -> list[Latents]:
    """The sum of clips' latents, each with its sign: normalised, (1, C, f, h, w) float32, one per window.

    The paper adds raw latents. Normalising is affine, (z − mean)/std per channel, and the signs (1, −1, 1) sum to one,
    so the means cancel and the same sum of normalised latents is the raw sum normalised.
    """
    if sum(sign for _, sign in terms) != 1:
        raise ValueError("the signs have to sum to one, or the sum of normalised latents is not that of the raw ones")
    sums: list[Latents] = []
    for number, (frames, sign) in enumerate(terms):
        encoded = encode_all(encode, frames, job, runtime, shelf, number, progress=progress)
        sums = [sign * z for z in encoded] if not sums else [s + sign * z for s, z in zip(sums, encoded, strict=True)]
    return sums


def encode_all(
    encode: Encode | Shared[Encode],
    frames: Reader,
    job: Job,
    runtime: Runtime,
    shelf: Shelf | None = None,
    term: int = 0,
    *,
    progress: StageProgress,
) -> Iterator[Latents]:
    """Latents of every window of a clip, which is read once.

    The first windows are taken from the shelf, as far as they lie there as those of the clip number `term`; the others
    are put onto it.
    """
    windows, done = job.windows, 0
    begin = term * len(windows)
    while shelf is not None and done < len(windows) and begin + done in shelf:
        yield shelf.get(begin + done)[0]
        done += 1
    first = windows[done].start if done < len(windows) else windows[-1].keep_stop
    runtime.keeper.skip(progress, "encode", first)
    if done == len(windows):
        return

    def fitted() -> Iterator[np.ndarray]:
        for frame in frames(first):
            yield fit_frame(frame, job.fit)
            progress.advance()

    stacks = (np.stack(held) for _, held in cut(fitted(), windows[done:], first))
    for number, (latents,) in enumerate(each(encode, lambda part, frames: map(part, [frames]), stacks), begin + done):
        if shelf is not None:
            shelf.put(number, latents)
        yield latents


def decode_all(
    latents: Sequence[Latents], job: Job, noise: Noise, plan: Plan, runtime: Runtime, start: int = 0
) -> Iterator[np.ndarray]:
    """Every frame of the windows' latents once, from frame `start` on: (H, W, 3) float32 in 0 … 255 at the clip's size.

    At the end, the noise stands where it does after all windows, whatever `start` is.
    """
    state = noise.get_state()

    def opened(plan: Plan) -> AbstractContextManager[Decode]:
        # Numpy goes on with the pictures: they are not left on the device.
        return job.model.decoding(replace(plan.policy, device_pixels=False))

    def decoded(decode: Decode | Shared[Decode], plan: Plan, bar: StageProgress) -> Iterator[np.ndarray]:
        noise.set_state(state)
        drawn: dict[int, np.ndarray] = {}

        def begin(part: Decode, number: int) -> Iterator[Picture]:
            kept = kept_frames(job.windows[number])
            pictures = islice(part(latents[number], noise), kept.start, kept.stop)
            drawn[number] = noise.get_state()
            return pictures

        with window_shelf(runtime, job, plan, "decoded") as shelf:
            done = decoded_already(start, job, shelf, noise)
            runtime.keeper.skip(bar, "decode", job.windows[done - 1].keep_stop if done else 0)
            numbers = range(done, len(job.windows))
            for number, frames in zip(numbers, each(decode, begin, numbers), strict=True):
                for index, frame in enumerate(frames, job.windows[number].keep_start):
                    if index >= start:
                        yield unfit_frame(frame, job.fit)
                    bar.advance()
                if shelf is not None:
                    shelf.put(number, noise.get_state() if in_turn else drawn[number])

    # What draws noise to its end is decoded one after the other.
    in_turn = job.model.draws_while_decoding()
    return run_pass_each(
        on_all(opened, () if in_turn else runtime.devices), decoded, plan, "decode", job.windows[-1].keep_stop, runtime
    )


def decoded_already(start: int, job: Job, shelf: Shelf | None, noise: Noise) -> int:
    """How many windows end before frame `start` and need not be decoded again, because the shelf tells where the noise
    stands after them; there it is put."""
    done = 0
    for number, window in enumerate(job.windows):
        if window.keep_stop > start or shelf is None or number not in shelf:
            break
        noise.set_state(shelf.get(number)[0])
        done = number + 1
    return done
