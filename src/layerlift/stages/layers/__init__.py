"""Extraction: a clip, its clean plate and masks become one RGBA layer per object. Read `run_extraction` from the top.

The clip is read twice: a few frames to see how clip and plate differ where nothing is and what kind of effects there
are, then all of them in order, with no more than five in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.clip.rgba import LayerClip, to_linear
from layerlift.errors import InputError
from layerlift.flags import check_ranges
from layerlift.jobs.keeper import kept
from layerlift.masks import Mask
from layerlift.options import ExtractionOptions
from layerlift.pixels.arrays import distance_to, spread
from layerlift.runtime import Runtime, chosen
from layerlift.stages.inputs import GivenClip, GivenMask, as_clip
from layerlift.stages.layer_inputs import check_totals, open_objects, open_plate, open_totals, plate_frames
from layerlift.stages.layers.effect_matte import (
    NOISE_SLACK,
    EffectKinds,
    EffectsSurvey,
    carry_inwards,
    effect_alpha,
    largest,
    least_alpha,
    shadow_alpha,
    shadowed,
    share_by_colour,
    share_effects,
)
from layerlift.stages.layers.matte import solid_alpha

# Half the width of the band in which an object's edge is sought, as a share of the picture's shorter side (4 pixels at
# 480), and how far a layer may reach beyond the total mask: what removal grows its mask by.
EDGE_SHARE = 1 / 120
EDGE_LEAST = 2

# So many frames, spread over the clip, tell what its effects are like.
SURVEYED = 8

# Alpha is averaged over this many frames to either side where the clip stands still.
STILL_REACH = 2
# Two frames of the clip closer than this (in [0, 1], over 3x3 pixels) show the same; twice as far, they do not.
STILL = 1.5 / 255

# Alpha by which a shadow inside an object's mask may exceed the shadow around it.
SHADOW_SLACK = 0.2

# Below this nothing is visible in 16 bits, and colours divided by it would be noise.
LEAST_ALPHA = 1 / 65535


def extract(
    clip: GivenClip,
    background: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    total: Sequence[GivenMask] | GivenMask | None = None,
    options: ExtractionOptions | None = None,
    runtime: Runtime | None = None,
    **choices: Any,
) -> list[LayerClip]:
    """Extract the objects and their effects from a clip, one RGBA layer each.

    Args:
        clip: a `Clip`, frames (F, H, W, 3) uint8, or a path.
        background: its clean plate, given in the same way, with the same size and length; a single picture is used for
            all frames.
        objects: the objects' masks, the frontmost first: `Mask`, bool (F, H, W) or (H, W), or paths; or just one.
        total: mask of the objects and their effects together, or a list with one for each object, which assigns each
            effect to its object; without it, effects are wherever clip and plate differ.
        options: the choices; None means all defaults.
        runtime: what to run with; None makes one from the choices.
        **choices: single choices by name: fields of `ExtractionOptions`, which override `options`, and, without
            a `runtime`, `progress` and `report`.

    Returns:
        One layer per object, whole in memory, float32 with straight alpha. Composited over the plate, the last one
        first, they give the clip again. `extract_frames` yields them frame by frame.

    Raises:
        InputError: something given cannot be used; raised before the work begins.
        TypeError: a choice that does not exist, or one of the runtime's given together with `runtime`.
    """
    options, runtime = chosen(ExtractionOptions, options, runtime, choices)
    plan = plan_extraction(clip, background, objects, total, options, runtime)
    made = [np.stack(layer) for layer in zip(*run_extraction(plan), strict=True)]  # N times (F, H, W, 4)
    return [LayerClip.from_array(layer, plan.scene.clip, linear=plan.linear) for layer in made]


def extract_frames(
    clip: GivenClip,
    background: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    total: Sequence[GivenMask] | GivenMask | None = None,
    options: ExtractionOptions | None = None,
    runtime: Runtime | None = None,
) -> Iterator[list[np.ndarray]]:
    """`extract`, one frame at a time: yields a list of one (H, W, 4) float32 per object, in [0, 1], straight alpha.

    Everything is checked by the time this returns; the work begins when the first frame is requested.
    Raises InputError as `plan_extraction`.
    """
    return run_extraction(plan_extraction(clip, background, objects, total, options, runtime))


@dataclass(frozen=True, slots=True)
class ExtractionPlan:
    """An extraction that was checked.

    Attributes:
        scene: what the layers are taken from.
        noise: by which clip and plate may differ, in [0, 1]; None: to be measured.
        linear: see `ExtractionOptions`.
        runtime: what it runs with.
    """

    scene: Scenery
    noise: float | None
    linear: bool
    runtime: Runtime


def plan_extraction(
    clip: GivenClip,
    background: GivenClip,
    objects: Sequence[GivenMask] | GivenMask,
    total: Sequence[GivenMask] | GivenMask | None = None,
    options: ExtractionOptions | None = None,
    runtime: Runtime | None = None,
) -> ExtractionPlan:
    """Open and check everything. Takes the arguments of `extract`.

    Raises InputError for what cannot be used.
    """
    options, runtime = options or ExtractionOptions(), runtime or Runtime()
    check_ranges(options)
    clip = as_clip(clip)
    plate = open_plate(background, clip)
    masks = open_objects(objects, clip)
    totals = open_totals(total, masks, clip)
    edge, noise = choose_edge(options, clip), choose_noise(options)
    check_totals(masks, totals, edge)
    scene = Scenery(clip, plate, masks, totals, edge)
    return ExtractionPlan(scene, None if noise is None else noise / 255, options.linear, runtime)


def run_extraction(plan: ExtractionPlan) -> Iterator[list[np.ndarray]]:
    """Yield a list of one (H, W, 4) float32 per object for every frame, in [0, 1], straight alpha."""
    size = plan.scene.clip.height, plan.scene.clip.width
    return kept(
        plan.runtime.keeper,
        "layers",
        partial(extract_from, plan),
        pack_layers,
        lambda arrays: unpack_layers(arrays, size),
    )


def pack_layers(layers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of every layer (H, W, 4) float32 the part in which anything is, and where that lies."""
    packed = []
    for layer in layers:
        rows, columns = around(layer[..., 3] > 0, 0) or (slice(0, 0), slice(0, 0))
        packed += [np.array([rows.start, rows.stop, columns.start, columns.stop]), layer[rows, columns]]
    return packed


def unpack_layers(arrays: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    """What `pack_layers` made arrays of; `size` is (H, W)."""
    layers = []
    for (top, bottom, left, right), part in zip(arrays[::2], arrays[1::2], strict=True):
        layer = np.zeros((*size, 4), np.float32)
        layer[top:bottom, left:right] = part
        layers.append(layer)
    return layers


def extract_from(plan: ExtractionPlan, start: int) -> Iterator[list[np.ndarray]]:
    """`run_extraction` from frame `start` on, without anything that is kept."""
    scene, report, progress = plan.scene, plan.runtime.report, plan.runtime.progress
    clip, masks, edge = scene.clip, scene.masks, scene.edge
    report.sizes |= {"clip": [clip.width, clip.height, clip.frame_count], "layers": len(masks)}

    # 1. Survey a few frames: what is noise, and which objects cast shadows, which are mirrored.
    with report.stage("survey"), progress.stage("survey", None) as bar:
        survey = EffectsSurvey(len(masks))
        for frame in scene.few(SURVEYED):
            survey.add(frame.clip, frame.plate, frame.masks, frame.reach, shares=frame.shares, edge=edge)
            bar.advance()
        effects = survey.result(plan.noise)
    report.sizes |= {"noise": round(255 * effects.noise, 2), "reflecting": effects.reflecting.round(2).tolist()}

    # 2. Alpha frame by frame, calmed where the clip stands still, then the colours that give back the clip.
    with report.stage("extract"), progress.stage("extract", clip.frame_count) as bar:
        # What is calmed looks back, too.
        first = max(0, start - STILL_REACH)
        plan.runtime.keeper.skip(bar, "extract", start)
        mattes = ((frame, matte(frame, effects, edge)) for frame in scene.frames(first))
        for frame, alphas in islice(calmed(mattes), start - first, None):
            yield coloured(frame, alphas, effects.noise, plan.linear)
            bar.advance()


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of everything, objects front to back.

    Attributes:
        clip, plate: (H, W, 3) float32 in [0, 1].
        masks: of the objects, (H, W) bool each.
        reach: objects and effects together, (H, W) bool.
        shares: which object causes what, as far as masks tell, (N, H, W) float32 summing to 1.
    """

    clip: np.ndarray
    plate: np.ndarray
    masks: list[np.ndarray]
    reach: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True, slots=True)
class Scenery:
    """Clip, plate and masks of one size and length, read together; of totals one for all objects, or one for each."""

    clip: Clip
    plate: Clip
    masks: list[Mask]
    totals: list[Mask]
    edge: int

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        stop = self.clip.frame_count if stop is None else stop
        masks = zip(*(mask.frames(start, stop) for mask in self.masks), strict=True)
        totals = [total.frames(start, stop) for total in self.totals]
        pictures = zip(self.clip.frames(start, stop), plate_frames(self.plate, start, stop), masks, strict=True)
        for frame, plate, objects in pictures:
            own = [next(total) for total in totals]
            reach = np.logical_or.reduce([*own, *objects]) if own else np.ones(frame.shape[:2], bool)
            shares = share_effects(objects, reach, min(reach.shape), own if len(own) == len(objects) else None)
            yield Frame(unit(frame), unit(plate), list(objects), reach, shares)

    def few(self, count: int) -> Iterator[Frame]:
        """At most `count` frames, spread over the clip."""
        last = self.clip.frame_count - 1
        for index in sorted({round(last * i / max(1, count - 1)) for i in range(count)}):
            yield from self.frames(index, index + 1)


def matte(frame: Frame, effects: EffectKinds, edge: int) -> np.ndarray:
    """How much of every pixel each object and its effects cover: (N, H, W) float32 in [0, 1], front to back."""
    alphas = np.zeros((len(frame.masks), *frame.reach.shape), np.float32)
    window = around(frame.reach, 4 * edge + 8)
    if window is None:
        return alphas
    masks = [mask[window] for mask in frame.masks]
    small = Frame(frame.clip[window], frame.plate[window], masks, frame.reach[window], frame.shares[:, *window])
    alphas[:, *window] = matte_window(small, effects, edge)
    return alphas


def matte_window(frame: Frame, effects: EffectKinds, edge: int) -> np.ndarray:
    """`matte` in the part of the picture where something is."""
    objects = np.logical_or.reduce(frame.masks)
    shares = share_by_colour(frame.clip, frame.plate, effects, frame.shares)
    # 1. Effects, right where no object is; what lies beyond the total mask fades out.
    effect = effect_alpha(frame.clip, frame.plate, effects, shares)
    effect *= np.clip(1 - distance_to(frame.reach) / (edge + 1), 0, 1)
    # Next to an object, too, a pixel outside its mask that a shadow explains is no part of the object.
    mirrored = np.tensordot(effects.reflecting, shares, 1) > 0.5
    explained = shadowed(frame.clip, frame.plate, effects.noise)
    away = (distance_to(objects) > edge) | (explained & ~objects & ~mirrored)
    # 2. Objects, against the plate with the effects on it.
    layer = frame.clip - (1 - effect[..., None]) * frame.plate
    behind = carry_inwards(effect, layer, frame.plate, away)
    carried = spread(effect[..., None], away.astype(np.float32))[..., 0]
    # Inside a mask a shadow is believed that is no deeper than those around it: darker still is the object itself.
    doubtful = explained & (shadow_alpha(frame.clip, frame.plate) <= carried + SHADOW_SLACK)
    solid = solid_alpha(frame.clip, behind, objects, edge, doubtful)
    # 3. Next to an object its effect is what is seen around it, unless the object turns out not to reach there.
    near = np.clip(solid / 0.05, 0, 1) * ~away
    effect = effect + near * (carried - effect)
    # 4. Each object gets its own: of the solid what its mask holds before the others', of the effects its share.
    owners = owner_shares(frame.masks)
    rest = 1 - owners * solid  # (N, H, W): what shows through each object itself
    fallen = effect * np.maximum(owners, 1 - solid)  # what falls on another object stays that object's
    return (1 - rest * np.power(1 - np.minimum(fallen, 1), shares)).astype(np.float32)


def owner_shares(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Which object is seen at every pixel, (N, H, W) of 0 and 1: the frontmost that covers it, else the nearest."""
    if len(masks) == 1:
        return np.ones((1, *masks[0].shape), np.float32)
    distances = np.stack([distance_to(mask) for mask in masks])  # 0 inside, where the first of equals is taken
    return np.eye(len(masks), dtype=np.float32)[distances.argmin(0)].transpose(2, 0, 1)


def calmed(mattes: Iterator[tuple[Frame, np.ndarray]]) -> Iterator[tuple[Frame, np.ndarray]]:
    """Average each frame's alpha with its neighbours' where the clip itself stands still; holds five frames."""
    held: deque[tuple[Frame, np.ndarray]] = deque()
    at = 0  # of the frame whose turn it is, in `held`
    for item in mattes:
        held.append(item)
        if len(held) - at > STILL_REACH:
            yield calm(held, at)
            at += 1
            if at > STILL_REACH:
                held.popleft()
                at -= 1
    while at < len(held):
        yield calm(held, at)
        at += 1


def calm(held: Sequence[tuple[Frame, np.ndarray]], at: int) -> tuple[Frame, np.ndarray]:
    """The alpha of one frame, averaged over those of `held` that show the same there."""
    frame, alphas = held[at]
    near = [held[i] for i in range(max(0, at - STILL_REACH), min(len(held), at + STILL_REACH + 1)) if i != at]
    window = around(np.concatenate([alphas, *(others for _, others in near)]).max(0) > 0, 0)
    if window is None:
        return frame, alphas
    total, weights = alphas[:, *window].copy(), np.ones(alphas[0][window].shape, np.float32)
    for other, others in near:
        change = largest(np.abs(cv2.blur(frame.clip[window] - other.clip[window], (3, 3))))
        weight = np.clip(2 - change / STILL, 0, 1)
        total += weight * others[:, *window]
        weights += weight
    calmed_alphas = np.zeros_like(alphas)
    calmed_alphas[:, *window] = total / weights
    return frame, calmed_alphas


def coloured(frame: Frame, alphas: np.ndarray, noise: float, linear: bool) -> list[np.ndarray]:
    """Every layer (H, W, 4) float32, straight alpha, such that all of them over the plate give back the clip.

    Where alpha (N, H, W) is too small for that, it is raised as far as colours inside [0, 1] demand: in linear light a
    shadow takes more of it than in display values.
    """
    layers = [np.zeros((*alpha.shape, 4), np.float32) for alpha in alphas]
    window = around(alphas.max(0) > 0, 0)
    if window is None:
        return layers
    clip, plate, alphas = frame.clip[window], frame.plate[window], alphas[:, *window]
    slack: np.ndarray | float = NOISE_SLACK * noise
    if linear:
        slack = to_linear(plate + slack) - to_linear(plate)
        clip, plate = to_linear(clip), to_linear(plate)
    covered = 1 - np.prod(1 - alphas, axis=0)
    needed = np.where(covered > 0.5 * noise, least_alpha(clip, plate, slack), 0)
    # Raised in proportion: (1 − a)^k of each layer leaves (1 − covered)^k of the plate.
    power = np.log1p(-np.minimum(needed, 0.9999)) / np.log1p(-np.clip(covered, 1e-6, 0.9999))
    alphas = np.where(power > 1, 1 - np.power(np.maximum(1 - alphas, 0), np.maximum(power, 1)), alphas)
    alphas[alphas < LEAST_ALPHA] = 0
    covered = 1 - np.prod(1 - alphas, axis=0)[..., None]
    colour = np.clip((clip - (1 - covered) * plate) / np.maximum(covered, LEAST_ALPHA), 0, 1)
    for layer, alpha in zip(layers, alphas, strict=True):
        layer[window] = np.dstack([np.where(alpha[..., None] > 0, colour, 0), alpha])
    return layers


def around(reach: np.ndarray, margin: int) -> tuple[slice, slice] | None:
    """The rectangle (rows, columns) around what is True, `margin` pixels wider; None where nothing is."""
    if not reach.any():
        return None
    x, y, width, height = cv2.boundingRect(reach.astype(np.uint8))
    return slice(max(0, y - margin), y + height + margin), slice(max(0, x - margin), x + width + margin)


def unit(frame: np.ndarray) -> np.ndarray:
    """uint8 → float32 in [0, 1]."""
    return frame.astype(np.float32) / 255


def choose_edge(options: ExtractionOptions, clip: Clip) -> int:
    """Half the width of the edges' band in pixels. Raises InputError for a negative one."""
    if options.edge is None:
        return max(EDGE_LEAST, round(EDGE_SHARE * min(clip.width, clip.height)))
    if options.edge < 0:
        raise InputError(f"--edge is {options.edge}: give 0 or more")
    return options.edge


def choose_noise(options: ExtractionOptions) -> float | None:
    """Levels of 255 by which clip and plate may differ. Raises InputError for what is none."""
    noise = options.noise
    if noise is not None and not 0 <= noise <= 255:
        raise InputError(f"--noise is {noise}: give a level from 0 to 255")
    return noise
