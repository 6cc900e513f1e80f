"""What a model sees of effects in a whole clip: scores of every frame's cells, window by window.

All windows are encoded, then all are looked at, so that only one part of the model is in memory at a time; between the
steps nothing is kept of the video but latents, and one score a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from layerlift.clip import Clip
from layerlift.device.budget import attempt
from layerlift.device.plan import Plan
from layerlift.errors import LayerliftError
from layerlift.fit import Fit, Geometry, Window
from layerlift.masks import Mask
from layerlift.model import Model
from layerlift.model.latents import encode
from layerlift.pixels import fit_frame, fit_mask
from layerlift.progress import Progress, StageProgress
from layerlift.report import Report
from layerlift.stages.effect_pixels import Decision
from layerlift.stages.effect_score import Coverage, Scorer, cover_tokens
from layerlift.stages.effect_window import Look, cells_of_frames, score_frames
from layerlift.stages.generation import cut
from layerlift.stages.mapped import mapped

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    from layerlift.model.text import TextEmbedding


@dataclass(frozen=True, slots=True)
class EffectPlan:
    """Everything that is settled before a weight is read."""

    scorer: Scorer
    sigmas: tuple[float, ...]
    prompt: str
    temporal_radius: int
    decision: Decision
    geometry: Geometry
    fit: Fit
    windows: tuple[Window, ...]


def look_at_clip(
    clip: Clip,
    masks: Sequence[Mask],
    plan: EffectPlan,
    first: Plan,
    *,
    model: Model,
    text: TextEmbedding,
    seed: int,
    progress: Progress,
    report: Report,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the clip's cells, (n, F, h, w) float32, and which of them each object touches, the same shape, bool.

    It runs under the plan `first`, and where memory runs out all the same under smaller ones.

    Raises:
        LayerliftError: the model returned NaN or infinity, or memory ran out and no plan is smaller.
    """

    def encoded(given: Plan) -> list[Section]:
        with (
            report.stage("encode"),
            progress.stage("encode", clip.frame_count) as bar,
            model.vae_encoder(given.policy) as vae,
        ):
            sections = encode_windows(vae, clip, masks, plan, progress=bar)
            del vae  # whoever still names a component keeps it in memory
        return sections

    def looked(given: Plan) -> np.ndarray:
        rules = given.policy
        look = Look(plan.scorer, plan.sigmas, (text.embeds, text.mask), model.geometry, model.settings.rate, rules)
        generator = torch.Generator().manual_seed(seed)
        with (
            report.stage("look"),
            progress.stage("look", len(sections)) as bar,
            model.transformer(rules) as transformer,
        ):
            scores = look_at_windows(transformer, sections, look, generator, progress=bar)
            del transformer
        return scores

    sections, given = attempt(first, "encode", encoded, report.note)
    # One pass, of what denoising makes many of.
    scores, _ = attempt(given, "denoise", looked, report.note, name="look")
    return scores, np.concatenate([section.covered for section in sections], 1)


@dataclass(slots=True)
class Section:
    """A window between the steps.

    Attributes:
        window: its frames.
        latents: (1, C, f, h, w) float32 on the CPU, in a file; None when it has no object.
        coverage: of its tokens by the objects.
        covered: (n, F, h, w) bool, of the frames kept from this window: cells that each object touches.
    """

    window: Window
    latents: torch.Tensor | None
    coverage: Coverage
    covered: np.ndarray


def encode_windows(
    vae: AutoencoderKLLTXVideo, clip: Clip, masks: Sequence[Mask], plan: EffectPlan, *, progress: StageProgress
) -> list[Section]:
    """Read the clip once; encode every window, objects and all, that an object is in."""
    geometry, device = plan.geometry, vae.latents_mean.device

    def fitted() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for frame, *own in zip(clip.frames(), *(given.frames() for given in masks), strict=True):
            yield fit_frame(frame, plan.fit), np.stack([fit_mask(hidden, plan.fit) for hidden in own])
            progress.advance()

    sections = []
    for window, pairs in cut(fitted(), plan.windows):
        objects = torch.from_numpy(np.stack([own for _, own in pairs], 1)).to(device)  # (n, F, H, W)
        latents = mapped(encode(vae, np.stack([frame for frame, _ in pairs]))) if objects.any() else None
        covered = cells_of_frames(objects, geometry).cpu().numpy()[:, kept_frames(window)]
        sections.append(Section(window, latents, cover_tokens(objects, geometry).to(torch.device("cpu")), covered))
    return sections


def look_at_windows(
    transformer: LTXVideoTransformer3DModel,
    sections: Sequence[Section],
    look: Look,
    generator: torch.Generator,
    *,
    progress: StageProgress,
) -> np.ndarray:
    """Scores of every frame of the clip, (n, F, h, w) float32; windows hand over in the middle of what they share.

    Raises LayerliftError when the model returned NaN or infinity.
    """
    parts = []
    for section in sections:
        kept = kept_frames(section.window)
        if section.latents is None:
            parts.append(np.zeros(section.covered.shape, np.float32))
        else:
            scores = score_frames(transformer, section.latents, section.coverage, look, generator)
            parts.append(scores[:, kept].cpu().numpy())
        progress.advance()
    found = np.concatenate(parts, 1)
    if not np.isfinite(found).all():
        weight = transformer.proj_in.weight
        raise LayerliftError(
            f"the model returned NaN or infinity: its weights are damaged or {weight.dtype} overflows on "
            f"{weight.device.type}; try --dtype float32"
        )
    return found


def kept_frames(window: Window) -> slice:
    """Which of a window's own frames are the clip's."""
    return slice(window.keep_start - window.start, window.keep_stop - window.start)
