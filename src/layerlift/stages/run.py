"""The whole job, stage after stage: effects → clean plate → layers → composite. Read `plan_run`, then `run_stages`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np

from layerlift.clip import Clip, write_mask
from layerlift.clip.rgba import LayerClip, as_layer
from layerlift.clip.rgba_reader import open_layer
from layerlift.clip.rgba_writer import check_layer_size, choose_layer_format
from layerlift.clip.writer import bare, check_clip_size, keeps_alpha
from layerlift.contact_sheet import contact_sheet, evenly, tinted, write_png
from layerlift.engine.base import Engine
from layerlift.errors import InputError
from layerlift.jobs.keeper import Keeper
from layerlift.masks import Mask, union_masks
from layerlift.options import RunOptions
from layerlift.runtime import Runtime
from layerlift.stages.choose_model import NO_MODEL, choose_model, require_model
from layerlift.stages.composition import (
    CompositionPlan,
    Sequential,
    frames_behind,
    over,
    plan_composition,
    run_composition,
)
from layerlift.stages.effects import plan_effects, run_effects
from layerlift.stages.effects.plan import EffectPlan
from layerlift.stages.inputs import GivenClip, GivenMask, as_clip
from layerlift.stages.layer_inputs import open_objects, open_totals
from layerlift.stages.layers import ExtractionPlan, plan_extraction, run_extraction
from layerlift.stages.removal import OFF, RemovalPlan, plan_removal, run_removal
from layerlift.stages.spool import FrameSpool, resumed_frames
from layerlift.stages.writing import write_frames, write_layers
from layerlift.whole import whole_folder

ROWS = 4  # frames in the contact sheet
THUMBNAIL = 400  # pixels of width at most of a picture in it
SQUARE = 8  # pixels of the checkerboard that layers are shown over
LIGHT, DARK = 150, 105  # grey levels of its squares


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run wrote.

    Attributes:
        background: the clean plate.
        layers: one for each object, the frontmost first.
        total_mask: all objects with their effects.
        composite: the layers over what they were laid onto; None where there is nothing.
        contact_sheet: everything at a glance, a PNG.
    """

    background: Path
    layers: list[Path]
    total_mask: Path
    composite: Path | None
    contact_sheet: Path


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was given, opened and checked.

    Attributes:
        clip: what is taken apart.
        objects: their masks, the frontmost first.
        numbers: of the objects' layers.
        totals: objects and effects, one mask for all objects or one for each; none where they have to be found.
        onto: what the layers are laid over, if anything.
        truth: the true clean plate where it is known, to be shown beside the one that is made.
    """

    clip: Clip
    objects: list[Mask]
    numbers: list[int]
    totals: list[Mask] = field(default_factory=list)
    onto: Clip | None = None
    truth: Clip | None = None


def open_inputs(
    clip: GivenClip,
    objects: Sequence[GivenMask],
    total: Sequence[GivenMask] | GivenMask | None = None,
    onto: GivenClip | None = None,
    *,
    numbers: Sequence[int] | None = None,
) -> Inputs:
    """Open the inputs of a run: the same as `extract` takes, and a new background to place the layers over, if any.

    `numbers` are the numbers in the layers' file names, one for each object; None counts from 0.

    Raises InputError for what cannot be used.
    """
    clip = as_clip(clip)
    masks = open_objects(objects, clip)
    totals = open_totals(total, masks, clip)
    behind = None if onto is None else as_clip(onto)
    return Inputs(clip, masks, list(numbers or range(len(masks))), totals, behind)


def run(
    clip: GivenClip,
    objects: Sequence[GivenMask],
    folder: str | Path,
    *,
    total: Sequence[GivenMask] | GivenMask | None = None,
    onto: GivenClip | None = None,
    options: RunOptions | None = None,
    runtime: Runtime | None = None,
) -> RunFiles:
    """Run the whole pipeline into a folder: effects, clean plate, layers, composite, contact sheet.

    Args:
        clip: as `extract` takes it.
        objects: as `extract` takes them.
        folder: where to write; it must not exist yet, or be empty. `run_stages` lists what is written, and all of it
            appears when it is finished.
        total: as `extract` takes it; without it, effects are found as by `mask`.
        onto: a new background to place the layers over, if any: a `Clip`, frames (F, H, W, 3) uint8, or a path.
        options: the choices; None means all defaults.
        runtime: what to run with; None suits this machine.

    Returns:
        What was written.

    Raises:
        InputError: something given cannot be used; raised before any weight is read.
        LayerliftError: the model returned NaN or infinity, or memory ran out and no smaller plan exists.
    """
    plan = plan_run(open_inputs(clip, objects, total, onto), options, runtime)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not an empty folder: choose another one.")
    with whole_folder(folder) as made:
        found = run_stages(plan, made)
    return RunFiles(
        folder / found.background.name,
        [folder / layer.name for layer in found.layers],
        folder / found.total_mask.name,
        None if found.composite is None else folder / found.composite.name,
        folder / found.contact_sheet.name,
    )


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The whole job, checked: one plan for every stage.

    Attributes:
        inputs: what is taken apart.
        effects: how effects are found; None where total masks are given.
        removal: of the objects, or of the total masks that are given.
        extraction: of the layers, with the clip in place of the clean plate that is still to be made.
        composition: the layers, which are still to be made, over what they are laid onto; None where there is nothing.
        notes: what the user should know before the work begins, a sentence each.
        lossless: see `RunOptions`.
        model: what is to be freed at the end; None where nothing is kept in memory from stage to stage.
        runtime: what it runs with.
    """

    inputs: Inputs
    effects: EffectPlan | None
    removal: RemovalPlan
    extraction: ExtractionPlan
    composition: CompositionPlan | None
    notes: tuple[str, ...]
    lossless: bool
    model: Engine | None
    runtime: Runtime


def plan_run(inputs: Inputs, options: RunOptions | None = None, runtime: Runtime | None = None) -> RunPlan:
    """Check everything that any stage would refuse, and plan every stage. No weight is read.

    Raises InputError for what cannot be used.
    """
    options, runtime = options or RunOptions(), runtime or Runtime()
    clip, notes = inputs.clip, list[str]()
    model: Engine | None
    if options.removal.evidence == "off":
        model = require_model(runtime, OFF)
    else:
        model, notes = choose_model(runtime)
    kept = model is not None and not runtime.policy.resident and model.stays_in_memory(runtime.memory_bytes)
    policy = replace(runtime.policy, resident=True) if kept else runtime.policy
    runtime = replace(runtime, model=model or NO_MODEL, policy=policy)

    effects = None
    if not inputs.totals:
        effects = plan_effects(clip, inputs.objects, options.effects, runtime.part("effects"), options.removal)
    masks = union_masks([*inputs.totals, *inputs.objects])
    removal = plan_removal(clip, masks, options.removal, runtime.part("removal"))
    extraction = plan_extraction(
        clip, clip, inputs.objects, inputs.totals or None, options.extraction, runtime.part("layers")
    )
    composition = None
    if inputs.onto is not None:
        blank = np.zeros((clip.height, clip.width, 4), np.float32)
        layer = LayerClip(as_layer(clip, lambda a, b: repeat(blank, b - a)), lambda a, b: repeat(blank, b - a))
        composition = plan_composition([layer], inputs.onto, options.composition, runtime.part("composite"))
    check_sizes(clip, composition, lossless=options.lossless)
    notes = list(dict.fromkeys([*notes, *removal.notes]))
    return RunPlan(
        inputs, effects, removal, extraction, composition, tuple(notes), options.lossless, model if kept else None,
        runtime,
    )  # fmt: skip


def endings(clip: Clip, *, lossless: bool) -> tuple[str, str]:
    """Of the clips and of the layers that a run writes."""
    if lossless:
        return ".mkv", ".mkv"
    return ".mov" if keeps_alpha(clip) else ".mp4", ".mov"  # MP4 holds no alpha


def check_sizes(clip: Clip, composition: CompositionPlan | None, *, lossless: bool) -> None:
    """Raises InputError where one of the files of a run does not take the size of what it would hold."""

    def check(lossless: bool) -> None:
        ending, layer_ending = endings(clip, lossless=lossless)
        check_clip_size("total_mask.mkv", bare(clip), lossless=True, alpha=False)
        check_clip_size(f"background{ending}", clip, lossless=lossless, alpha=ending == ".mov")
        check_layer_size(f"layer_0{layer_ending}", clip)
        if composition is not None:
            check_clip_size(f"composite{ending}", composition.like, lossless=lossless, alpha=False)

    try:
        check(lossless)
    except InputError as error:
        way = "run the stages one by one instead"
        with suppress(InputError):
            check(lossless=True)
            way = "add --lossless"
        raise InputError(f"{str(error).partition(';')[0]}; {way}.") from error


def run_stages(plan: RunPlan, folder: Path) -> RunFiles:
    """Run the whole pipeline into an empty folder: every stage works on what the one before it made.

    Writes background, layer_0 …, total_mask, composite if there is a new background, and contact_sheet.png. The caller
    writes the report. A job that goes on has some of them: what was damaged since is made again.

    Raises LayerliftError when the model returned NaN or infinity, or memory ran out and no smaller plan exists.
    """
    inputs, lossless, report = plan.inputs, plan.lossless, plan.runtime.report
    clip, keeper = inputs.clip, plan.runtime.keeper
    for note in plan.notes:
        report.note(note)
    ending, layer_ending = endings(clip, lossless=lossless)

    with ExitStack() as stack:
        if plan.model is not None:
            stack.callback(plan.model.close)
        masks = stack.enter_context(FrameSpool(keeper.shelf("totals")))
        plates = stack.enter_context(FrameSpool(keeper.shelf("plate"), like=clip.frames))
        # 1. Effects: the objects with what they cause, each its own where they are found here.
        totals = inputs.totals or find_totals(plan, masks)
        total = union_masks([*totals, *inputs.objects])
        total_path = folder / "total_mask.mkv"
        make_once(keeper, [total_path], lambda: write_mask(total_path, total.frames(), clip))

        # 2. Removal: the clean plate, kept as it is for the next stage beside the file.
        removal = plan.removal if inputs.totals else plan.removal.with_mask(total)
        background = folder / f"background{ending}"
        if keeper.has(background) and len(plates) == clip.frame_count:
            deque(run_removal(removal, start=len(plates)), 0)  # none are left: what the report tells is told again
        else:
            plate = plates.resumed(lambda start: run_removal(removal, start=start))
            write_frames(background, plate, clip, report.note, lossless=lossless, overwrite=True)
            keeper.note(background)
        plate_clip = plates.as_clip(clip)

        # 3. Layers.
        layers = [folder / f"layer_{number}{layer_ending}" for number in inputs.numbers]
        scene = replace(plan.extraction.scene, plate=plate_clip, totals=totals)
        form = choose_layer_format(layers[0], lossless=lossless)
        extract = partial(run_extraction, replace(plan.extraction, scene=scene))
        make_once(keeper, layers, lambda: write_layers(layers, extract(), clip, form, report.note, overwrite=True))

        # 4. The layers over the new background, as whoever opens their files lays them.
        laid = [open_layer(path) for path in layers]
        composite = None
        if plan.composition is not None:
            composite = folder / f"composite{ending}"
            composition = plan.composition.with_layers(laid)
            compose = partial(run_composition, composition)
            frames = resumed_frames(keeper, "composed", compose, partial(frames_behind, composition))
            write = partial(write_frames, composite, frames, composition.like, report.note, lossless=lossless)
            make_once(keeper, [composite], write)

        # 5. Everything at a glance.
        with report.stage("contact sheet"):
            columns = sheet_columns(inputs, total, plate_clip, laid, composite)
            rows = len(next(iter(columns.values())))
            sheet = write_png(folder / "contact_sheet.png", contact_sheet(columns, range(rows)))
    return RunFiles(background, layers, total_path, composite, sheet)


def make_once(keeper: Keeper, paths: Sequence[Path], make: Callable[[], object]) -> None:
    """Make files, unless they are finished already."""
    if not all(map(keeper.has, paths)):
        make()
        for path in paths:
            keeper.note(path)


def find_totals(plan: RunPlan, spool: FrameSpool) -> list[Mask]:
    """Each object with its effects; they live as long as the spool.

    Raises LayerliftError as `run_effects`.
    """
    clip, objects = plan.inputs.clip, plan.inputs.objects
    assert plan.effects is not None
    for frame in run_effects(plan.effects, len(spool)):
        spool.append(frame.totals)

    def total_of(index: int) -> Mask:
        def reader(start: int, stop: int) -> Iterator[np.ndarray]:
            return (totals[index] for totals in spool.frames(start, stop))

        name = f"{objects[index].name} with its effects"
        return Mask(clip.width, clip.height, clip.frame_count, reader, name=name)

    return [total_of(index) for index in range(len(objects))]


def sheet_columns(
    inputs: Inputs, total: Mask, plate: Clip, layers: Sequence[LayerClip], composite: Path | None
) -> dict[str, np.ndarray]:
    """The contact sheet's columns, (rows, h, w, 3) uint8 each: only the frames that are shown, and small."""
    clip = inputs.clip
    chosen = evenly(clip.frame_count, ROWS)
    objects = union_masks(inputs.objects)
    pictures = pick(clip.frames, chosen)
    board = checkerboard(clip.width, clip.height)
    columns = {
        "input": pictures,
        "object mask": tinted(pictures, pick(objects.frames, chosen)),
        "total mask": tinted(pictures, pick(total.frames, chosen)),
        "clean plate": pick(plate.frames, chosen),
    }
    if inputs.truth is not None:
        columns["truth"] = pick(inputs.truth.frames, chosen)
    for number, layer in zip(inputs.numbers, layers, strict=True):
        name = "layer" if len(layers) == 1 else f"layer {number}"
        shown = pick(layer.frames, chosen)
        columns[name] = np.stack([over(frame, board, (clip.width, clip.height), (0, 0)) for frame in shown])
    if composite is not None:
        made = as_clip(composite)
        columns["composite"] = pick(made.frames, [min(index, made.frame_count - 1) for index in chosen])
    size = min(clip.width, THUMBNAIL), max(1, round(clip.height * min(1, THUMBNAIL / clip.width)))
    return {name: np.stack([boxed(frame, size) for frame in frames]) for name, frames in columns.items()}


def pick(read, chosen: Sequence[int]) -> np.ndarray:  # type: ignore[no-untyped-def]
    """The frames of these rising numbers, read in one pass."""
    frames = Sequential(read)
    return np.stack([frames.at(index) for index in chosen])


def checkerboard(width: int, height: int) -> np.ndarray:
    """Grey squares, (height, width, 3) uint8."""
    odd = (np.arange(height)[:, None] // SQUARE + np.arange(width) // SQUARE) % 2
    return np.where(odd[..., None], np.uint8(LIGHT), np.uint8(DARK)).repeat(3, -1)


def boxed(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) uint8 inside `size` (width, height), with bars where its shape is another."""
    height, width = frame.shape[:2]
    if (width, height) == size:
        return frame
    scale = min(size[0] / width, size[1] / height)
    scaled = max(1, min(size[0], round(width * scale))), max(1, min(size[1], round(height * scale)))
    small = cv2.resize(frame, scaled, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    right, bottom = size[0] - scaled[0], size[1] - scaled[1]
    bars = (bottom // 2, bottom - bottom // 2, right // 2, right - right // 2)
    return cv2.copyMakeBorder(small, *bars, cv2.BORDER_CONSTANT, value=(0, 0, 0))
