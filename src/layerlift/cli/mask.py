"""`layerlift mask`: object masks → masks of the objects with their shadows and reflections."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layerlift.cli import options as common
from layerlift.cli.extract import numbered
from layerlift.cli.job import finish, open_input
from layerlift.cli.masks import notes_of, open_objects
from layerlift.cli.places import read_of, read_of_clip, read_of_model
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.names import unfinished
from layerlift.places import Given, check_file, settle_places
from layerlift.report import Report, check_report

if TYPE_CHECKING:
    from layerlift.clip import Clip, ClipWriter
    from layerlift.stages.effects import FrameEffects

_MASK = "Mask"
_OUTPUT = "Output"

ROWS = 4  # frames in a preview picture


def mask(
    clip: common.ClipArgument,
    objects: Annotated[
        list[Path] | None,
        typer.Option(
            "--object",
            metavar="MASK[:ID]",
            help="An object, white: a video, a folder of images, or one still for all frames; again for every further "
            "object. A mask of IDs or flat colours holds several: all of them, or the one named (m.png:2, "
            "m.png:#FF0000). Else the object masks in CLIP's folder.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="All objects with their effects, white: a video (.mkv is lossless) or a folder/ of PNGs; else "
            "./<clip>_mask.mkv. Several objects get a mask each beside it, with _0, _1 … added.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    model: common.ModelName = None,
    text_encoder: common.TextEncoder = None,
    no_cache: common.NoCache = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T", help="Scores from T on are effects (0 to 1); else the model's own.", rich_help_panel=_MASK
        ),
    ] = None,
    refine: Annotated[
        str,
        typer.Option(
            metavar="edges|none|plate",
            help="Draw effects along the frames' edges (edges), as the model's coarse grid has them (none), or remove "
            "once and keep what changed (plate).",
            rich_help_panel=_MASK,
        ),
    ] = "edges",
    dilate: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Grow the result by this.", rich_help_panel=_MASK)
    ] = 0,
    temporal_radius: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Smooth scores over N frames to either side; else what suits the model.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    max_distance: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Drop effects further from their object; else none is too far.",
            rich_help_panel=_MASK,
        ),
    ] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            metavar="S[,S…]",
            help="Noise level at which the model looks, between 0 and 1; several are averaged. Else 0.4.",
            rich_help_panel="Sampling",
        ),
    ] = None,
    layers: Annotated[
        str,
        typer.Option(
            metavar="auto|all|LIST",
            help="Whose attention counts: weights that came with the model, else all layers but the "
            "first and the last (auto); all alike (all); or some, such as 3,5-8.",
            rich_help_panel="Sampling",
        ),
    ] = "auto",
    seed: common.Seed = 0,
    size: common.Size = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="P", help="What the model is told; else nothing it need know.", rich_help_panel="Sampling"
        ),
    ] = None,
    frames: common.Frames = None,
    deinterlace: common.Deinterlace = False,
    allow_damage: common.AllowDamage = False,
    rate: common.Rate = None,
    memory: common.Memory = None,
    weights: common.Weights = "auto",
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|.mp4",
            help="Lay objects, effects and scores over the frames: some of them in a picture, or all in a video.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    save_scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.safetensors", help="Keep the scores (object, frame, row, column).", rich_help_panel=_OUTPUT
        ),
    ] = None,
    lossless: common.Lossless = False,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
    verbose: common.Verbose = False,
) -> None:
    """Find the shadows and reflections of the objects in CLIP, and write masks of all of it."""
    # 1. What was typed, before anything slow is imported.
    settings = {name: value for name, value in locals().items() if name not in ("overwrite", "verbose")}
    pixels = common.parse_size(size) if size is not None else None
    span = common.parse_frames(frames) if frames is not None else None
    sigmas = parse_sigmas(sigma) if sigma is not None else None
    chosen_layers = parse_layers(layers)
    check_endings(preview, save_scores)

    from layerlift.device import choose_policy
    from layerlift.device.budget import check_memory
    from layerlift.stages.choose_model import require_model
    from layerlift.stages.effects import DEFAULT_SIGMAS, LOOKING, EffectOptions, find_effects

    # 2. What the paths hold, before any weight is read.
    allowed = check_memory(memory)
    source = open_input(clip, span, allow_damage=allow_damage, deinterlace=deinterlace, rate=rate)
    numbers, masks = open_objects(objects or [], clip, source)
    target = output or Path(f"{source.name}_mask.mkv")
    targets = [target]
    if len(masks) > 1:
        targets += [Path(numbered(str(target), number)) for number in numbers]
    read = {**read_of_clip(clip, total=False), "--object": read_of(objects), **read_of_model(model, text_encoder)}
    settle(targets, preview, save_scores, report, read, lossless=lossless, overwrite=overwrite)
    chosen = choose_policy(device, dtype, policy, weights=weights)
    record = Report("mask", settings, device=chosen.device)

    # 3. The work, frame by frame into the files.
    with show_progress(notes_of(*masks)) as progress, ExitStack() as files:
        found = find_effects(
            source,
            masks,
            EffectOptions(
                threshold=threshold,
                sigmas=DEFAULT_SIGMAS if sigmas is None else sigmas,
                dilate=dilate,
                temporal_radius=temporal_radius,
                max_distance=max_distance,
                layers=chosen_layers,
                refine=refine,
                seed=seed,
                size=pixels,
                prompt=prompt,
            ),
            model=require_model(model, LOOKING, text_encoder=text_encoder),
            policy=chosen,
            progress=progress,
            report=record,
            cache=not no_cache,
            memory=allowed,
        )
        if save_scores is not None:
            found = keep_scores(found, save_scores, record)
        if preview is not None:
            found = with_preview(found, source, preview, record, overwrite=overwrite)
        writers = [files.enter_context(mask_writer(path, source, overwrite=overwrite)) for path in targets]
        said = write_masks(found, writers, record)
    finish(record, report, overwrite=overwrite, verbose=verbose, result=target, said=said)


def parse_sigmas(text: str) -> tuple[float, ...]:
    """``0.3,0.5`` → (0.3, 0.5). Raises InputError for what is no list of numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--sigma {text!r} is not a number or numbers with commas: give such as 0.4 or 0.3,0.5."
        ) from error


def parse_layers(text: str) -> str | tuple[int, ...]:
    """``auto`` and ``all`` as they are, ``3,5-8`` → (3, 5, 6, 7, 8). Raises InputError for anything else."""
    if text in ("auto", "all"):
        return text
    layers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
        if match is None:
            raise InputError(f"--layers {text!r} cannot be read: give auto, all, or numbers such as 3,5-8.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"--layers {text!r} counts down from {first} to {last}: give the smaller number first.")
        layers.extend(range(first, last + 1))
    return tuple(layers)


def check_endings(preview: Path | None, scores: Path | None) -> None:
    """Raises InputError when a file's ending is not one of what it will hold."""
    if preview is not None and preview.suffix.lower() not in (".png", ".mp4"):
        raise InputError(f"--preview {preview} is neither .png nor .mp4: give one of these endings.")
    if scores is not None and scores.suffix != ".safetensors":
        raise InputError(f"--save-scores {scores} does not end in .safetensors: give it that ending.")


def settle(
    targets: list[Path],
    preview: Path | None,
    scores: Path | None,
    report: Path | None,
    read: Mapping[str, Given],
    *,
    lossless: bool,
    overwrite: bool,
) -> None:
    """Every output's place, checked before any work is done, and against what is `read`."""
    from layerlift.clip import check_output

    settle_places({"-o": targets, "--preview": preview, "--save-scores": scores, "--report": report}, read)
    for target in targets:
        check_output(target, lossless=lossless or target.suffix.lower() == ".mkv", overwrite=overwrite)
    if report is not None:
        check_report(report, overwrite=overwrite)
    for flag, path in (("--preview", preview), ("--save-scores", scores)):
        if path is not None:
            check_file(path, flag, overwrite=overwrite)


def mask_writer(path: Path, clip: "Clip", *, overwrite: bool) -> "ClipWriter":
    """A writer of masks: lossless in .mkv and PNGs, without sound."""
    from layerlift.clip import ClipWriter

    return ClipWriter(path, clip, lossless=path.suffix.lower() == ".mkv", overwrite=overwrite, sound=False)


def write_masks(found: "Iterable[FrameEffects]", writers: "list[ClipWriter]", report: Report) -> str:
    """All objects into the first writer, each into one of the others; returns a phrase about what was found."""
    count, objects, effects = 0, 0.0, 0.0
    for frame in found:
        total = frame.totals.any(0)
        for writer, picture in zip(writers, (total, *frame.totals), strict=False):
            writer.write(picture)
        count += 1
        objects += frame.objects.any(0).mean()
        effects += (total & ~frame.objects.any(0)).mean()
    report.results |= {"object share": objects / count, "effect share": effects / count}
    return f"objects {objects / count:.1%} of the picture, effects {effects / count:.1%}"


def keep_scores(found: "Iterable[FrameEffects]", path: Path, report: Report) -> "Iterator[FrameEffects]":
    """Hand frames on, and write their scores when the last has passed."""
    import numpy as np
    from safetensors.numpy import save_file

    scores = []
    for frame in found:
        scores.append(frame.scores)
        yield frame
    part = unfinished(path)
    about = {"threshold": str(report.results["threshold"]), "axes": "object, frame, row, column"}
    try:
        save_file({"scores": np.ascontiguousarray(np.stack(scores, 1))}, part, about)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def with_preview(
    found: "Iterable[FrameEffects]", clip: "Clip", path: Path, report: Report, *, overwrite: bool
) -> "Iterator[FrameEffects]":
    """Hand frames on, and lay what they hold over the clip's."""
    import numpy as np

    from layerlift.clip import ClipWriter
    from layerlift.contact_sheet import contact_sheet, evenly, write_png
    from layerlift.stages.effect_preview import preview_pair, thumbnail

    side = tuple(report.results["cell"])
    if path.suffix.lower() == ".mp4":
        with ClipWriter(path, clip_twice_as_wide(clip), lossless=False, overwrite=overwrite) as writer:
            for frame, effects in zip(clip.frames(), found, strict=True):
                writer.write(np.concatenate(preview_pair(frame, effects, side), 1))
                yield effects
        return
    chosen = evenly(clip.frame_count, ROWS)
    rows = []
    for index, (frame, effects) in enumerate(zip(clip.frames(), found, strict=True)):
        if index in chosen:
            rows.append(tuple(thumbnail(part) for part in (frame, *preview_pair(frame, effects, side))))
        yield effects
    columns = dict(zip(("input", "objects and effects", "scores"), map(np.stack, zip(*rows, strict=True)), strict=True))
    write_png(path, contact_sheet(columns, range(len(rows))))


def clip_twice_as_wide(clip: "Clip") -> "Clip":
    """What a writer needs to know of a clip whose frames lie two side by side; a clip's alpha is not among that."""
    from dataclasses import replace

    return replace(clip, width=2 * clip.width, has_alpha=False)
