"""How well effects are found, on scenes whose effects are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from layerlift.bench.table import Source, Table, each_scene, made_up
from layerlift.engine.model.effect_score import token_shares
from layerlift.metrics import area_under_curve, psnr
from layerlift.options import EffectOptions, Refinement, RemovalOptions
from layerlift.runtime import Runtime
from layerlift.scenes import Scene
from layerlift.stages.choose_model import choose_model
from layerlift.stages.effects import FrameEffects, find_effects
from layerlift.stages.removal import remove_frames

if TYPE_CHECKING:
    from layerlift.geometry.fit import Geometry

# A token shows an effect when the effect covers more of it.
EFFECT_SHARE = 0.3

# Fewer effect tokens than these rank nothing.
LEAST_TOKENS = 3


def effect_tables(
    seeds: Sequence[int],
    runtime: Runtime,
    *,
    size: tuple[int, int] = (288, 192),
    frames: int = 17,
    source: Source | None = None,
    options: EffectOptions | None = None,
    refinements: Sequence[Refinement] = ("edges", "plate"),
    removal: bool = True,
) -> list[Table]:
    """Measure on the scenes of `seeds`, with the true object masks.

    Returns two tables: shares (AUC of token scores; of effect pixels, those outside all objects, IoU, recall and
    precision; on objects without effects, the total mask over the object mask; on two objects, the share of found
    effect pixels that went to the wrong one), and PSNR in decibels inside the true total mask of removal without
    evidence, with the true mask and with the one found.
    """
    options = options or EffectOptions()
    source = source or made_up()
    columns = source.columns(seeds)
    shares = Table("effects", columns, digits=3)
    plates = Table("PSNR inside the true total mask", columns)
    model, _ = choose_model(runtime)
    for seed, scene in each_scene(seeds, size, frames, runtime.progress, source):
        for refine in refinements:
            found = find(scene, replace(options, refine=refine), runtime)
            if refine == refinements[0] and model is not None:
                shares.add("AUC", seed, ranking(scene, found, model.geometry))
            for name, value in pixels(scene, found).items():
                shares.add(f"{name}, {refine}", seed, value)
            if removal:
                total = np.stack([frame.totals.any(0) for frame in found])
                plates.add(f"mask found, {refine}", seed, psnr_of_removal(scene, total, runtime))
        if removal:
            plates.add("true mask", seed, psnr_of_removal(scene, scene.total_mask, runtime))
    return [shares, plates] if removal else [shares]


def find(scene: Scene, options: EffectOptions, runtime: Runtime) -> list[FrameEffects]:
    """A scene's effects, from its true object masks."""
    return list(find_effects(scene.video, list(scene.object_masks), options, runtime.quiet()))


def ranking(scene: Scene, found: Sequence[FrameEffects], geometry: Geometry) -> float:
    """AUC of effect tokens over the other tokens that no object touches; NaN with hardly any effect token."""
    attention = [frame.attention for frame in found if frame.attention is not None]
    scores = torch.from_numpy(np.stack([score.max(0) for score in attention]))  # (F, h, w)
    # A latent frame's own score is that of the frame in the middle of those it covers.
    middle = (torch.arange(0, len(found) - 1, geometry.time) + (geometry.time + 1) // 2).clamp(max=len(found) - 1)
    scores = scores[torch.cat([torch.zeros(1, dtype=torch.long), middle])]
    objects = token_shares(torch.from_numpy(scene.object_masks), geometry).sum(0) > 0
    effects = token_shares(torch.from_numpy(scene.effect_masks.any(0, keepdims=True)), geometry)[0] > EFFECT_SHARE
    positive, negative = scores[effects & ~objects], scores[~effects & ~objects]
    return float("nan") if len(positive) < LEAST_TOKENS else area_under_curve(positive.numpy(), negative.numpy())


def pixels(scene: Scene, found: Sequence[FrameEffects]) -> dict[str, float]:
    """What was found at pixels outside all objects; NaN where a scene has nothing to be measured by."""
    nothing = float("nan")
    objects = scene.object_mask
    truths = scene.effect_masks & ~objects  # (n, F, H, W)
    effects = np.stack([frame.effects for frame in found], 1) & ~objects
    truth, own = truths.any(0), effects.any(0)
    hits = int((truth & own).sum())
    values = dict.fromkeys(("IoU", "recall", "precision", "total over object", "wrong object"), nothing)
    if not scene.spec.has_effects:
        totals = np.stack([frame.totals.any(0) for frame in found])
        return values | {"total over object": float(totals.sum() / objects.sum())}
    values |= {"IoU": hits / int((truth | own).sum()), "recall": hits / int(truth.sum())}
    values["precision"] = hits / int(own.sum()) if own.any() else nothing
    if len(truths) == 2:
        # Where shadows lie over each other a pixel is either object's.
        wrong = sum(int((effects[i] & truths[1 - i] & ~truths[i]).sum()) for i in (0, 1))
        values["wrong object"] = wrong / max(1, hits)
    return values


def psnr_of_removal(scene: Scene, mask: np.ndarray, runtime: Runtime) -> float:
    """PSNR inside the true total mask of a removal without evidence from other frames; without a model, with it."""
    model, _ = choose_model(runtime)
    options = RemovalOptions() if model is None else RemovalOptions(evidence="off")
    plate = remove_frames(scene.video, mask, options, runtime.quiet())
    return psnr(np.stack(list(plate)), scene.background, scene.total_mask)
