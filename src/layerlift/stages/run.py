"""The whole job, stage after stage: effects → clean plate → layers → composite. Read `run_stages` from the top."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np

from layerlift.clip import Clip, ClipWriter, write_mask
from layerlift.clip.rgba import LayerClip
from layerlift.clip.rgba_reader import open_layer
from layerlift.clip.rgba_writer import LayerWriter, choose_layer_format
from layerlift.clip.writer import keeps_alpha
from layerlift.contact_sheet import contact_sheet, evenly, tinted, write_png
from layerlift.device import Policy
from layerlift.evidence.reference import open_references
from layerlift.masks import Mask, union_masks
from layerlift.model import Model
from layerlift.progress import QUIET, Progress
from layerlift.report import Report
from layerlift.stages.choose_model import NO_MODEL, choose_model, require_model
from layerlift.stages.composition import Sequential, compose_frames, over, plan_composition
from layerlift.stages.effects import EffectOptions, find_effects
from layerlift.stages.grown_objects import grown_objects, note_growth
from layerlift.stages.inputs import GivenMask, as_clip
from layerlift.stages.layer_inputs import check_totals, open_objects, open_totals
from layerlift.stages.layers import ExtractionOptions, choose_edge, extract_frames
from layerlift.stages.removal import OFF, RemovalOptions, choose_margin, plan_generation, remove_frames
from layerlift.stages.spool import FrameSpool

# A model of no more bytes on disk stays in memory from stage to stage; a larger one is read again for each.
SMALL_MODEL = 2**30

ROWS = 4  # frames in the contact sheet
THUMBNAIL = 400  # pixels of width at most of a picture in it
SQUARE = 8  # pixels of the checkerboard that layers are shown over
LIGHT, DARK = 150, 105  # grey levels of its squares


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a user can choose about the whole job.

    Attributes:
        removal: see `RemovalOptions`.
        effects: how what the objects cause is found, see `EffectOptions`.
        lossless: write FFV1 in .mkv, bit for bit, instead of H.264 in .mp4 and ProRes 4444 in .mov.
    """

    removal: RemovalOptions = field(default_factory=RemovalOptions)
    effects: EffectOptions = field(default_factory=EffectOptions)
    lossless: bool = False


class Shared(TypedDict):
    """What every stage that runs a model is given alike."""

    policy: Policy
    progress: Progress
    report: Report
    cache: bool
    memory: int | None


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run wrote; layers the frontmost first."""

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
    clip: Clip | np.ndarray | str | Path,
    objects: Sequence[GivenMask],
    total: Sequence[GivenMask] | GivenMask | None = None,
    onto: Clip | np.ndarray | str | Path | None = None,
    *,
    numbers: Sequence[int] | None = None,
) -> Inputs:
    """Open and check what a run is given; `numbers` are those of the layers' files, else they are counted from 0.

    Raises InputError for what cannot be used.
    """
    clip = as_clip(clip)
    masks = open_objects(objects, clip)
    totals = open_totals(total, masks, clip)
    check_totals(masks, totals, choose_edge(ExtractionOptions(), clip))
    behind = None if onto is None else as_clip(onto)
    return Inputs(clip, masks, list(numbers or range(len(masks))), totals, behind)


def run_stages(
    inputs: Inputs,
    folder: Path,
    options: RunOptions | None = None,
    *,
    model: Model | str | Path | None = None,
    policy: Policy,
    progress: Progress = QUIET,
    report: Report | None = None,
    cache: bool = True,
    memory: int | None = None,
) -> RunFiles:
    """Take a clip apart into an empty folder: every stage works on what the one before it made.

    Writes background, layer_0 …, total_mask, composite if there is something to lay the layers over, and
    contact_sheet.png; the report is the caller's to write. `memory`: bytes that may be taken, host and device together;
    None is what the machine reports as usable. `model`: as in `remove`.

    Raises:
        InputError: a choice that cannot be used; raised before a weight is read.
        LayerliftError: the model returned NaN or infinity.
    """
    options, report = options or RunOptions(), report or Report()
    clip, lossless = inputs.clip, options.lossless
    ending, layer_ending = (".mkv", ".mkv") if lossless else (".mp4", ".mov")
    ending = ".mov" if ending == ".mp4" and keeps_alpha(clip) else ending  # MP4 holds no alpha

    # 1. Check what the stages would refuse, before the first of them works.
    margin = choose_margin(options.removal, clip)
    open_references(options.removal.references, clip, union_masks([*inputs.totals, *inputs.objects]), margin.dilate)
    evidence = options.removal.evidence
    opened = require_model(model, OFF) if evidence == "off" else choose_model(model, report)
    if opened is not None and evidence != "only":
        plan_generation(clip, options.removal, opened, policy, cache, memory=memory)
    shared: Shared = {"policy": policy, "progress": progress, "report": report, "cache": cache, "memory": memory}

    with FrameSpool() as masks, FrameSpool() as spool:
        # 2. Effects: the objects with what they cause, each its own where they are found here.
        totals = inputs.totals or find_totals(inputs, masks, options.effects, opened, shared)
        total = union_masks([*totals, *inputs.objects])
        total_path = write_mask(folder / "total_mask.mkv", total.frames(), clip)

        # 3. Removal: the clean plate, kept as it is for the next stage beside the file.
        plate = remove_frames(clip, total, options.removal, model=NO_MODEL if opened is None else opened, **shared)
        background = folder / f"background{ending}"
        write_frames(background, (spool.keep(frame) for frame in plate), clip, report, lossless=lossless)
        plate_clip = spool.as_clip(clip)

        # 4. Layers.
        layers = [folder / f"layer_{number}{layer_ending}" for number in inputs.numbers]
        parts = extract_frames(clip, plate_clip, inputs.objects, totals, progress=progress, report=report)
        write_layers(layers, parts, clip, report, lossless=lossless)

        # 5. The layers over the new background, as whoever opens their files lays them.
        laid = [open_layer(path) for path in layers]
        composite = None
        if inputs.onto is not None:
            composite = folder / f"composite{ending}"
            plan = plan_composition(laid, inputs.onto)
            write_frames(composite, compose_frames(plan, progress, report), plan.like, report, lossless=lossless)

        # 6. Everything at a glance.
        with report.stage("contact sheet"):
            columns = sheet_columns(inputs, total, plate_clip, laid, composite)
            rows = len(next(iter(columns.values())))
            sheet = write_png(folder / "contact_sheet.png", contact_sheet(columns, range(rows)))
    return RunFiles(background, layers, total_path, composite, sheet)


def find_totals(
    inputs: Inputs, spool: FrameSpool, options: EffectOptions, model: Model | None, shared: Shared
) -> list[Mask]:
    """Each object with its effects, found by the model; without one, the objects grown. They live as long as the spool.

    Raises InputError as `find_effects`.
    """
    if model is None:
        note_growth(inputs.clip, shared["report"])
        for totals_now in grown_objects(inputs.clip, inputs.objects):
            spool.append(totals_now)
    else:
        for frame in find_effects(inputs.clip, inputs.objects, options, model=model, **shared):
            spool.append(frame.totals)

    def total_of(index: int) -> Mask:
        clip = inputs.clip

        def reader(start: int, stop: int) -> Iterator[np.ndarray]:
            return (totals[index] for totals in spool.frames(start, stop))

        name = f"{inputs.objects[index].name} with its effects"
        return Mask(clip.width, clip.height, clip.frame_count, reader, name=name)

    return [total_of(index) for index in range(len(inputs.objects))]


def stays_in_memory(model: Model, memory: int | None = None) -> bool:
    """Whether a model is small enough to keep its parts in memory from stage to stage.

    Not where `memory`, bytes that may be taken, is given: a plan for it counts on the running part alone.
    """
    if memory is not None:
        return False
    path = model.path
    files = path.rglob("*.safetensors") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files) <= SMALL_MODEL


def write_frames(path: Path, frames: Iterable[np.ndarray], like: Clip, report: Report, *, lossless: bool) -> None:
    """Write a video, (H, W, 3) uint8 a frame, as they come; what it cannot hold becomes a note of the report."""
    with ClipWriter(path, like, lossless=lossless) as writer:
        for note in writer.notes:
            report.note(note)
        for frame in frames:
            writer.write(frame)


def write_layers(
    paths: Sequence[Path], frames: Iterable[list[np.ndarray]], like: Clip, report: Report, *, lossless: bool
) -> None:
    """Write layers, one (H, W, 4) float32 each a frame, as they come."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(LayerWriter(path, like, choose_layer_format(path, lossless=lossless))) for path in paths
        ]
        for note in dict.fromkeys(note for writer in writers for note in writer.notes):
            report.note(note)
        for parts in frames:
            for writer, part in zip(writers, parts, strict=True):
                writer.write(part)


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
