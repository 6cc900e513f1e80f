"""`layerlift bench footage`: how clean the plate is on real clips, and how well effects are found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli.flags import Typed, Without, changed, with_flags
from layerlift.cli.job import print_tables, settle
from layerlift.cli.options import OutputFlags
from layerlift.cli.places import read_of_model
from layerlift.cli.terminal import say, show_progress
from layerlift.errors import InputError
from layerlift.flags import flag
from layerlift.limits import MOST_FRAMES
from layerlift.options import RuntimeOptions
from layerlift.parse import parse_size
from layerlift.report import Report

_MAKE = "Making cases"
_ALL_ROWS = "telea,patchmatch,evidence,demo,default"


@dataclass(frozen=True, slots=True)
class CaseFlags:
    """What cases are made with: masks, their (width, height) in pixels, and how many frames of each at most."""

    masks: list[Path] | None = flag(
        None,
        "Shape that hides part of a clip: a mask video, a folder of mask videos, or a still. Repeat for more "
        "(default: the object masks beside the clips).",
        metavar="MASK",
        group=_MAKE,
    )
    size: tuple[int, int] | None = flag(
        None,
        "Size of the cases in pixels (default: 432x240).",
        metavar="WxH",
        group=_MAKE,
        takes=str,
        parse=parse_size,
    )
    frames: int | None = flag(None, "Maximum frames per case (default: 60).", metavar="N", group=_MAKE, least=1,
        most=MOST_FRAMES,
    )  # fmt: skip


@with_flags
def footage(
    *,
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder of cases: each DIR/holes/CASE/ has video.mkv (the hole painted over), mask.mkv and truth.mkv.",
            show_default=False,
        ),
    ],
    clips: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CLIP]...", help="Clips to make cases from, with --make.", show_default=False),
    ] = None,
    rows: Annotated[
        str,
        typer.Option(
            "--rows",
            metavar="LIST",
            help="What to measure, separated by commas: telea, patchmatch, evidence (no model), demo (the demo model), "
            "default (what remove does).",
        ),
    ] = _ALL_ROWS,
    effects: Annotated[
        bool,
        typer.Option(
            "--effects",
            help="Measure how well effects are found instead, on the cases in DIR/layers: without a model, and with "
            "--model (default: the demo model).",
        ),
    ] = False,
    make: Annotated[
        bool,
        typer.Option(
            "--make",
            help="Make cases in DIR without measuring: each mask hides parts of every clip except its own.",
            rich_help_panel=_MAKE,
        ),
    ] = False,
    making: CaseFlags,
    running: RuntimeOptions,
    writing: Annotated[OutputFlags, Without("lossless", "verbose")],
    typed: Typed,
) -> None:
    """Print how close removal comes to the truth on real clips, next to methods without a model.

    With --make, make such clips instead.
    """
    given = [*changed(making), *map(str, clips or [])]
    if given and not make:
        raise InputError(f"only --make takes {', '.join(given)}: add --make, or leave that out.")
    if make:
        measuring = [*changed(running, writing), *(["--rows"] if rows != _ALL_ROWS else [])]
        measuring += ["--effects"] if effects else []
        given = [name for name in measuring if name != "--overwrite"]
        if given:
            raise InputError(f"--make measures nothing, so it takes no {', '.join(given)}: leave one or the other out.")
        _make(folder, clips or [], making, overwrite=writing.overwrite)
        return
    if effects:
        if rows != _ALL_ROWS:
            raise InputError("--rows is for plates, but --effects measures masks: leave one of them out.")
        _effects(folder, running, writing, typed)
        return
    chosen_rows = _parse_rows(rows)

    from layerlift.bench.footage import footage_tables, open_cases
    from layerlift.runtime import open_runtime

    cases = open_cases(folder)
    settle({}, {"DIR": [file for case in cases for file in case.files()], **read_of_model(running)}, writing)
    record = Report("bench footage", typed)
    with show_progress() as progress:
        runtime = open_runtime(running, progress=progress, report=record)
        tables = footage_tables(cases, chosen_rows, runtime, told=say)
    for note in record.notes:
        say(note)
    print_tables(tables, record, writing)


def _effects(folder: Path, running: RuntimeOptions, writing: OutputFlags, typed: Typed) -> None:
    from layerlift.bench.footage_effects import effect_footage_tables, open_layer_cases
    from layerlift.engine.base import Engine
    from layerlift.engine.model import open_model
    from layerlift.engine.model.catalogue import DEMO
    from layerlift.runtime import open_runtime
    from layerlift.stages.choose_model import NO_MODEL

    cases = open_layer_cases(folder)
    settle({}, {"DIR": [file for case in cases for file in case.files()], **read_of_model(running)}, writing)
    record = Report("bench footage", typed)
    models: dict[str, Engine | None] = {NO_MODEL: None}
    model = running.model or DEMO
    if model != NO_MODEL and isinstance(model, str | Path):
        models[str(model)] = open_model(model)
    with show_progress() as progress:
        runtime = open_runtime(running, progress=progress, report=record)
        tables = effect_footage_tables(cases, models, runtime, told=say)
    print_tables(tables, record, writing)


def _parse_rows(text: str) -> list[str]:
    """``telea,default`` → its names, each once. Raises InputError for a name that is none, and for no name."""
    from layerlift.bench.footage import ROWS

    rows = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in rows if name not in ROWS]
    if unknown or not rows:
        raise InputError(f"unknown --rows {text!r}: choose from {', '.join(ROWS)}, separated by commas.")
    return rows


def _make(folder: Path, clips: list[Path], making: CaseFlags, *, overwrite: bool) -> None:
    from layerlift.bench.footage_cases import FRAMES, SIZE, make_cases

    size, frames = making.size or SIZE, making.frames or FRAMES
    with show_progress() as progress:
        made = make_cases(
            folder, clips, making.masks or [], size=size, frames=frames, overwrite=overwrite, progress=progress
        )
    for place in made:
        typer.echo(f"wrote {place}")
