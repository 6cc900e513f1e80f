"""Whole clips to the latents of their windows and back, for work on latents that has no known tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from layerlift.device.budget import attempt_each
from layerlift.device.plan import Plan
from layerlift.fit import Fit, Window
from layerlift.model.latents import decode, encode
from layerlift.pixels import fit_frame, unfit_frame
from layerlift.progress import Progress, StageProgress
from layerlift.report import Report
from layerlift.stages.generation import Job, cut

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo


def combine(
    vae: AutoencoderKLLTXVideo,
    terms: Sequence[tuple[Iterable[np.ndarray], int]],
    job: Job,
    *,
    progress: StageProgress,
) -> list[torch.Tensor]:
    """The sum of clips' latents, each with its sign: normalised, (1, C, f, h, w) float32 on the CPU, one per window.

    The paper adds raw latents. Normalising is affine, (z − mean)/std per channel, and the signs (1, −1, 1) sum to one,
    so the means cancel and the same sum of normalised latents is the raw sum normalised.
    """
    if sum(sign for _, sign in terms) != 1:
        raise ValueError("the signs have to sum to one, or the sum of normalised latents is not that of the raw ones")
    sums: list[torch.Tensor] = []
    for frames, sign in terms:
        encoded = encode_all(vae, frames, job.fit, job.windows, progress)
        sums = [sign * z for z in encoded] if not sums else [s + sign * z for s, z in zip(sums, encoded, strict=True)]
    return sums


def encode_all(
    vae: AutoencoderKLLTXVideo, frames: Iterable[np.ndarray], fit: Fit, windows: Sequence[Window], bar: StageProgress
) -> Iterator[torch.Tensor]:
    """Latents (1, C, f, h, w) of every window of frames (H, W, 3) uint8, read once."""

    def fitted() -> Iterator[np.ndarray]:
        for frame in frames:
            yield fit_frame(frame, fit)
            bar.advance()

    for _, held in cut(fitted(), windows):
        yield encode(vae, np.stack(held))


def decode_all(
    latents: Sequence[torch.Tensor], job: Job, generator: torch.Generator, *, progress: Progress, report: Report
) -> Iterator[np.ndarray]:
    """Every frame of the windows' latents once, (H, W, 3) float32 in 0 … 255 at the clip's size."""
    settings, noise = job.model.settings, generator.get_state()

    def decoded(plan: Plan) -> Iterator[np.ndarray]:
        generator.set_state(noise)
        with (
            report.stage("decode"),
            progress.stage("decode", job.windows[-1].keep_stop) as bar,
            job.model.vae_decoder(plan.policy) as vae,
        ):
            for window, z in zip(job.windows, latents, strict=True):
                frames = decode(vae, z, generator, settings.decode_timestep, settings.decode_noise)
                for frame in islice(frames, window.keep_start - window.start, window.keep_stop - window.start):
                    yield unfit_frame(frame, job.fit)
                    bar.advance()
                del frames
            del vae

    return attempt_each(job.plan, "decode", decoded, report.note)
