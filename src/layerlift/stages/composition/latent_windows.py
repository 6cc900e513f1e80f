"""Whole clips to the latents of their windows and back, for work on latents that has no known tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice

import numpy as np

from layerlift.engine.base import Decode, Encode, Latents, Noise
from layerlift.engine.device.plan import Plan
from layerlift.geometry.fit import Fit, Window
from layerlift.pixels.arrays import fit_frame, unfit_frame
from layerlift.progress import StageProgress
from layerlift.runtime import Runtime
from layerlift.stages.generation import Job
from layerlift.stages.windows import cut, kept_frames, run_pass_each


def sum_latents(
    encode: Encode, terms: Sequence[tuple[Iterable[np.ndarray], int]], job: Job, *, progress: StageProgress
) -> list[Latents]:
    """The sum of clips' latents, each with its sign: normalised, (1, C, f, h, w) float32, one per window.

    The paper adds raw latents. Normalising is affine, (z − mean)/std per channel, and the signs (1, −1, 1) sum to one,
    so the means cancel and the same sum of normalised latents is the raw sum normalised.
    """
    if sum(sign for _, sign in terms) != 1:
        raise ValueError("the signs have to sum to one, or the sum of normalised latents is not that of the raw ones")
    sums: list[Latents] = []
    for frames, sign in terms:
        encoded = encode_all(encode, frames, job.fit, job.windows, progress)
        sums = [sign * z for z in encoded] if not sums else [s + sign * z for s, z in zip(sums, encoded, strict=True)]
    return sums


def encode_all(
    encode: Encode, frames: Iterable[np.ndarray], fit: Fit, windows: Sequence[Window], bar: StageProgress
) -> Iterator[Latents]:
    """Latents of every window of frames (H, W, 3) uint8, read once."""

    def fitted() -> Iterator[np.ndarray]:
        for frame in frames:
            yield fit_frame(frame, fit)
            bar.advance()

    for _, held in cut(fitted(), windows):
        yield encode(np.stack(held))


def decode_all(
    latents: Sequence[Latents], job: Job, noise: Noise, plan: Plan, runtime: Runtime
) -> Iterator[np.ndarray]:
    """Every frame of the windows' latents once, (H, W, 3) float32 in 0 … 255 at the clip's size."""
    start = noise.get_state()

    def opened(plan: Plan) -> AbstractContextManager[Decode]:
        # Numpy goes on with the pictures: they are not left on the device.
        return job.model.decoding(replace(plan.policy, device_pixels=False))

    def decoded(decode: Decode, plan: Plan, bar: StageProgress) -> Iterator[np.ndarray]:
        noise.set_state(start)
        for window, z in zip(job.windows, latents, strict=True):
            kept = kept_frames(window)
            for frame in islice(decode(z, noise), kept.start, kept.stop):
                yield unfit_frame(frame, job.fit)
                bar.advance()

    return run_pass_each(opened, decoded, plan, "decode", job.windows[-1].keep_stop, runtime)
