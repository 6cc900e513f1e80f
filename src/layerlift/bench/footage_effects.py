"""How well effects are found on footage: an object of one clip, with a made-up effect, laid over another clip.

A case is a folder with `video.mkv`, `object_mask.mkv`, `total_mask.mkv`, `background.mkv` (the true plate) and
`effect.mkv`, the effect's opacity in grey. Its name ends in the effect's kind. Effects are found in `video` by
`object_mask`; the rest is for scoring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from layerlift.bench.footage import Scores, case_folders
from layerlift.bench.table import CaseTable
from layerlift.clip import Clip, open_clip
from layerlift.engine.base import Engine
from layerlift.errors import InputError
from layerlift.masks import Mask, open_mask
from layerlift.options import EffectOptions, RemovalOptions
from layerlift.parse import EFFECT_KINDS
from layerlift.runtime import Runtime
from layerlift.stages.choose_model import NO_MODEL
from layerlift.stages.effects import Effects, mask
from layerlift.stages.removal import remove_frames

FILES = ("video.mkv", "object_mask.mkv", "total_mask.mkv", "background.mkv", "effect.mkv")
NONE = "none"
# An effect counts where it is more opaque than this, of 255, and farther than so many pixels from the object.
VISIBLE, AWAY = 15, 3


@dataclass(frozen=True, slots=True)
class LayerCase:
    """A clip with an object and its effect, and what is true of it; all of one size and length."""

    name: str
    video: Clip
    object: Mask
    total: Mask
    background: Clip
    effect: Clip

    @property
    def kind(self) -> str:
        """What the object causes, as the name has it; "" where it has none that is known."""
        kind = self.name.rpartition("_")[2]
        return kind if kind in (*EFFECT_KINDS, NONE) else ""

    def files(self) -> list[Path]:
        """What was opened."""
        return [] if self.video.path is None else [self.video.path.with_name(name) for name in FILES]


def open_layer_cases(folder: Path) -> list[LayerCase]:
    """The cases in a folder: DIR/layers/<case>, DIR/<case>, or DIR itself, by name.

    Raises InputError where there is none, and for one whose files are not of one size and length.
    """
    cases = [_open_case(entry) for entry in case_folders(folder, "layers", FILES)]
    if cases:
        return cases
    raise InputError(
        f"{folder} contains no case of an object with an effect: it needs a folder layers with one folder per case, "
        f"each with {', '.join(FILES)}."
    )


def _open_case(folder: Path) -> LayerCase:
    video = open_clip(folder / "video.mkv")
    background, effect = open_clip(folder / "background.mkv"), open_clip(folder / "effect.mkv")
    for other in (background, effect):
        if (video.width, video.height, video.frame_count) != (other.width, other.height, other.frame_count):
            raise InputError(
                f"{folder}: {other.name} has {other.frame_count} frames of {other.width}x{other.height}, but video.mkv "
                f"has {video.frame_count} of {video.width}x{video.height}; make the case again."
            )
    thing, total = open_mask(folder / "object_mask.mkv", video), open_mask(folder / "total_mask.mkv", video)
    return LayerCase(folder.absolute().name, video, thing, total, background, effect)


def effect_footage_tables(
    cases: Sequence[LayerCase],
    models: Mapping[str, Engine | None],
    runtime: Runtime,
    *,
    plates: bool = True,
    told: Callable[[str], None] = lambda _: None,
) -> list[CaseTable]:
    """Find the effects of every case with each of the models by name (None: none at all), and compare with the truth.

    Returns, of the pixels of effects, tables of IoU and recall; what was found beyond objects without an effect, over
    the object's size; whether the kind was right (1 or 0); and, with `plates`, PSNR inside the true total mask of a
    removal without a model by the true mask as it is, and by the one found as `remove` takes it: grown by its default.
    """
    iou, recall = CaseTable("IoU of effects", 3), CaseTable("recall of effects", 3)
    beyond = CaseTable("no effect: found beyond the object, of its size", 3)
    kinds = CaseTable("kind right", 0)
    clean = CaseTable("PSNR of the plate inside the true total mask, dB")
    quiet = runtime.quiet()
    ways = len(models) * (1 + plates) + plates
    with runtime.progress.stage("cases", len(cases) * ways) as bar:
        for case in cases:
            said = []
            if plates:
                clean.add("true mask", case.name, psnr_of_plate(case, case.total, RemovalOptions(dilate=0), quiet))
                bar.advance()
            for name, model in models.items():
                with runtime.report.stage(name):
                    found = mask(case.video, case.object, EffectOptions(), replace(quiet, model=model or NO_MODEL))
                bar.advance()
                scores = compared(case, found)
                if case.kind == NONE:
                    beyond.add(name, case.name, scores["beyond"])
                    said.append(f"{name}: {scores['beyond']:.2f} beyond the object")
                else:
                    iou.add(name, case.name, scores["IoU"])
                    recall.add(name, case.name, scores["recall"])
                    said.append(f"{name}: IoU {scores['IoU']:.3f}, recall {scores['recall']:.3f}")
                if case.kind and found.kinds:
                    kinds.add(name, case.name, float(found.kinds[0] == case.kind))
                if plates:
                    clean.add(f"found, {name}", case.name, psnr_of_plate(case, found.total, RemovalOptions(), quiet))
                    bar.advance()
            told(f"{case.name}: {'; '.join(said)}")
    return [table for table in (iou, recall, beyond, kinds, clean) if table.values]


def compared(case: LayerCase, found: Effects) -> dict[str, float]:
    """IoU and recall of effect pixels away from the object, and what was found there over the object's size."""
    both = either = true = mine = size = 0
    square = np.ones((2 * AWAY + 1, 2 * AWAY + 1), np.uint8)
    frames = zip(case.object.frames(), case.effect.frames(), found.total.frames(), strict=True)
    for thing, opacity, total in frames:
        near = cv2.dilate(thing.astype(np.uint8), square) > 0
        truth, own = (opacity[..., 0] > VISIBLE) & ~near, total & ~near
        both, either = both + int((truth & own).sum()), either + int((truth | own).sum())
        true, mine, size = true + int(truth.sum()), mine + int(own.sum()), size + int(near.sum())
    return {"IoU": both / max(either, 1), "recall": both / max(true, 1), "beyond": mine / max(size, 1)}


def psnr_of_plate(case: LayerCase, total: Mask, options: RemovalOptions, runtime: Runtime) -> float:
    """PSNR inside the true total mask of a removal, without a model, of what `total` hides."""
    scores = Scores()
    plate: Iterator[np.ndarray] = remove_frames(case.video, total, options, replace(runtime, model=NO_MODEL))
    for result, truth, inside in zip(plate, case.background.frames(), case.total.frames(), strict=True):
        scores.add(result, truth, inside, None)
    return scores.psnr
