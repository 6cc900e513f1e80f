"""`layerlift bench`: tables measured on scenes whose truth is known."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from layerlift.cli import bench_app, bench_footage, bench_jobs, bench_speed
from layerlift.cli.flags import Default, Only, Typed, Without, changed, with_flags
from layerlift.cli.job import print_tables, settle
from layerlift.cli.options import OutputFlags
from layerlift.cli.places import read_of_model
from layerlift.cli.scene import RENDERED_SIZE, RenderFlags, parse_scene_size
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.flags import flag
from layerlift.limits import MOST_FRAMES, MOST_SEEDS
from layerlift.options import EffectOptions, Refinement, RemovalOptions, RuntimeOptions, SegmentationOptions
from layerlift.report import Report

if TYPE_CHECKING:
    from layerlift.bench.table import Source
    from layerlift.progress import Progress
    from layerlift.runtime import Runtime

app = typer.Typer(no_args_is_help=True, help="Measure quality, speed and memory.")
app.command("speed")(bench_speed.speed)
app.command("jobs")(bench_jobs.jobs)
app.command("memory")(bench_jobs.memory)
app.command("length")(bench_jobs.length)
app.command("footage")(bench_footage.footage)
app.command("app")(bench_app.app)


def parse_seeds(text: str) -> range:
    """``1000:1032`` → range(1000, 1032). Raises InputError for anything else and for an empty range."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text.strip())
    if match is None or int(match[2]) <= int(match[1]):
        raise InputError(f"--seeds {text!r} is not START:END with START below END: give a range such as 1000:1032.")
    if int(match[2]) - int(match[1]) > MOST_SEEDS:
        raise InputError(f"--seeds {text} are more than {MOST_SEEDS} scenes: give a shorter range.")
    return range(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class SceneSet:
    """Which scenes are measured, their (width, height) in pixels, and how many frames of each."""

    seeds: range = flag(
        range(1000, 1032),
        "Seeds of the scenes, from START up to, but not including, END.",
        metavar="START:END",
        takes=str,
        parse=parse_seeds,
    )
    size: tuple[int, int] = flag(
        (288, 192), "Width and height of the scenes in pixels.", metavar="WxH", takes=str, parse=parse_scene_size
    )
    frames: int = flag(17, "Frames of each scene.", metavar="N", least=1, most=MOST_FRAMES)


@dataclass(frozen=True, slots=True)
class AnyScenes:
    """Made-up scenes, or rendered ones: which are measured, their (width, height) in pixels, and how many frames."""

    seeds: range | None = flag(
        None,
        "Seeds of the scenes, from START up to, but not including, END (default: 1000:1032, or 2000:2008 with "
        "--rendered).",
        metavar="START:END",
        takes=str,
        parse=parse_seeds,
    )
    size: tuple[int, int] | None = flag(
        None,
        "Width and height of the scenes in pixels (default: 288x192, or 432x240 with --rendered).",
        metavar="WxH",
        takes=str,
        parse=parse_scene_size,
    )
    frames: int | None = flag(
        None, "Frames of each scene (default: 17, or 33 with --rendered).", metavar="N", least=1, most=MOST_FRAMES
    )

    def settled(self, how: RenderFlags) -> SceneSet:
        """What is measured, with the defaults filled in. Raises InputError where nothing can render it."""
        defaults = RENDERED if how.rendered else MADE_UP
        chosen = SceneSet(self.seeds or defaults.seeds, self.size or defaults.size, self.frames or defaults.frames)
        how.check(chosen.seeds, chosen.size, chosen.frames)
        return chosen


MADE_UP = SceneSet()
RENDERED = SceneSet(range(2000, 2008), RENDERED_SIZE, 33)


def source_of(how: RenderFlags, progress: "Progress") -> "Source":
    """Where the scenes come from."""
    from layerlift.bench.table import made_up, rendered

    return rendered(progress, film=how.film) if how.rendered else made_up()


Running = Annotated[RuntimeOptions, Default(model="demo")]
Writing = Annotated[OutputFlags, Without("lossless", "verbose")]


@contextmanager
def measuring(stage: str, running: RuntimeOptions, record: Report, *, needs_model: bool = True) -> "Iterator[Runtime]":
    """What a measurement runs with: its model opened, and kept in memory from scene to scene.

    Raises InputError where there is no model but one is needed, and as `open_runtime`.
    """
    from layerlift.runtime import open_runtime
    from layerlift.stages.choose_model import NO_MODEL, require_model

    with show_progress() as progress:
        runtime = open_runtime(running, progress=progress, report=record)
        if not needs_model and running.model == NO_MODEL:
            with record.stage(stage):
                yield runtime
            return
        opened = require_model(runtime, record.command)
        with record.stage(stage):
            yield replace(runtime, model=opened, policy=replace(runtime.policy, resident=True))


@app.command("quality")
@with_flags
def quality(
    *,
    scenes: AnyScenes,
    how: RenderFlags,
    options: Annotated[RemovalOptions, Without("size", "evidence", "references")],
    running: Running,
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how close removal comes to the truth, per kind of scene, next to methods without a model."""
    chosen = scenes.settled(how)
    settle({}, read_of_model(running), writing)

    from layerlift.bench.quality import quality_tables

    record = Report("bench quality", typed)
    with measuring("quality", running, record, needs_model=False) as runtime:
        check_whole_tokens(runtime, chosen)
        source = source_of(how, runtime.progress)
        tables = quality_tables(
            chosen.seeds, runtime, size=chosen.size, frames=chosen.frames, source=source, options=options
        )
    print_tables(tables, record, writing)


@app.command("layers")
@with_flags
def layers(
    *,
    scenes: AnyScenes,
    how: RenderFlags,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="demo|NAME|PATH|HUB-ID",
            help="Also run the whole pipeline with this model, from the object masks alone and with the true mask of "
            "objects and effects, and compare with latent composition.",
        ),
    ] = None,
    running: Annotated[RuntimeOptions, Without("model")],
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how accurate extracted layers are, given the true plate and masks: their composites and their alpha."""
    if how.rendered and model is not None:
        raise InputError("--model measures the whole pipeline on made-up scenes: leave out --rendered or --model.")
    chosen, running = scenes.settled(how), replace(running, model=model)
    settle({}, read_of_model(running), writing)

    from layerlift.bench.layers import layer_tables
    from layerlift.engine.model import open_model

    if model is not None:  # what cannot be used is told before anything is measured
        running = replace(running, model=open_model(model, text_encoder=running.text_encoder))
    record = Report("bench layers", typed)
    with show_progress() as progress, record.stage("layers"):
        source = source_of(how, progress)
        tables = layer_tables(chosen.seeds, size=chosen.size, frames=chosen.frames, source=source, progress=progress)
    if model is not None:
        from layerlift.bench.end_to_end import end_to_end_tables

        with measuring("end to end", running, record) as runtime:
            tables += end_to_end_tables(chosen.seeds, runtime, size=chosen.size, frames=chosen.frames)
    print_tables(tables, record, writing)


@app.command("crop")
@with_flags
def crop(
    *,
    scenes: Annotated[SceneSet, Default(seeds="1000:1016", size="576x384")],
    options: Annotated[RemovalOptions, Without("size", "evidence", "crop", "references")],
    running: Running,
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how --crop changes the result, on scenes larger than the model's own size."""
    settle({}, read_of_model(running), writing)

    from layerlift.bench.crop import crop_tables

    record = Report("bench crop", typed)
    with measuring("crop", running, record) as runtime:
        tables = crop_tables(scenes.seeds, runtime, size=scenes.size, frames=scenes.frames, options=options)
    print_tables(tables, record, writing)


@app.command("effects")
@with_flags
def effects(
    *,
    scenes: AnyScenes,
    how: RenderFlags,
    options: Annotated[EffectOptions, Without("size", "refine")],
    refine: Annotated[
        str, typer.Option("--refine", metavar="edges,plate,none", help="Refinements to measure, separated by commas.")
    ] = "edges,plate",
    removal: Annotated[
        bool, typer.Option("--removal/--no-removal", help="Also measure removal with the masks found.")
    ] = True,
    running: Running,
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how well effects are found, per kind of scene, and how well removal then works."""
    chosen, refinements = scenes.settled(how), parse_refinements(refine)
    settle({}, read_of_model(running), writing)

    from layerlift.bench.effects import effect_tables

    record = Report("bench effects", typed)
    with measuring("effects", running, record, needs_model=False) as runtime:
        check_whole_tokens(runtime, chosen)
        tables = effect_tables(
            chosen.seeds,
            runtime,
            size=chosen.size,
            frames=chosen.frames,
            source=source_of(how, runtime.progress),
            options=options,
            refinements=refinements,
            removal=removal,
        )
    print_tables(tables, record, writing)


@app.command("windows")
@with_flags
def windows(
    *,
    scenes: Annotated[SceneSet, Default(seeds="1000:1008", size="288x192", frames=129)],
    options: Annotated[RemovalOptions, Without("size", "evidence", "crop", "references")],
    running: Running,
    writing: Writing,
    typed: Typed,
) -> None:
    """Print what splitting a long clip into windows costs, and whether the seams show. Runs without evidence."""
    settle({}, read_of_model(running), writing)

    from layerlift.bench.windows import window_tables

    record = Report("bench windows", typed)
    with measuring("windows", running, record) as runtime:
        tables = window_tables(scenes.seeds, runtime, size=scenes.size, frames=scenes.frames, options=options)
    print_tables(tables, record, writing)


@app.command("objects")
@with_flags
def objects(
    *,
    clips: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[CLIP]...",
            help="Folders with a video and the masks of its objects: object_mask or object_mask_0 … (default: scenes).",
            show_default=False,
        ),
    ] = None,
    asked: Annotated[
        str, typer.Option("--from", metavar="box,click", help="What is told of each object, separated by commas.")
    ] = "box,click",
    options: SegmentationOptions,
    scenes: AnyScenes,
    how: RenderFlags,
    running: Annotated[RuntimeOptions, Only("device")],
    writing: Writing,
    typed: Typed,
) -> None:
    """Print how well objects are found in every frame from a box or a click in the first frame that shows them."""
    ways = parse_asked(asked)
    if clips and (given := changed(scenes, how)):
        raise InputError(f"{given[0]} is for scenes, but clips were given: leave one of them out.")
    chosen = None if clips else scenes.settled(how)

    from layerlift.bench.objects import object_tables, open_object_cases, scene_cases
    from layerlift.runtime import open_runtime

    cases = open_object_cases(clips or [])
    settle({}, {"CLIP": clips or []}, writing)
    record = Report("bench objects", typed)
    with show_progress() as progress, record.stage("objects"):
        runtime = open_runtime(running, progress=progress, report=record)
        drawn = chosen and scene_cases(chosen.seeds, chosen.size, chosen.frames, source_of(how, progress))
        tables = object_tables(drawn or cases, options, runtime, ways)
    print_tables(tables, record, writing)


def parse_asked(text: str) -> list[str]:
    """``box,click`` → its names. Raises InputError for a name that is none."""
    ways = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not ways or not set(ways) <= {"box", "click"}:
        raise InputError(f"unknown --from {text!r}: choose box, click, or both, separated by commas.")
    return ways


def check_whole_tokens(runtime: "Runtime", scenes: SceneSet) -> None:
    """Raises InputError where scenes do not fill whole tokens of the model: padding would be measured with them."""
    from layerlift.stages.choose_model import NO_MODEL, require_model

    if runtime.model == NO_MODEL:
        return
    model = require_model(runtime, "measuring")
    (width, height), space, time = scenes.size, model.geometry.space, model.geometry.time
    if width % space or height % space or (scenes.frames - 1) % time:
        raise InputError(
            f"scenes of {width}x{height} and {scenes.frames} frames do not fill whole tokens of {model.name}: give "
            f"multiples of {space} pixels and a number of frames that is 1 more than a multiple of {time}."
        )


def parse_refinements(text: str) -> list[Refinement]:
    """``edges,plate`` → its names. Raises InputError for a name that is none."""
    known: dict[str, Refinement] = {name: name for name in get_args(Refinement)}
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= known.keys():
        raise InputError(f"unknown --refine {text!r}: choose from {', '.join(known)}, separated by commas.")
    return [known[name] for name in names]
