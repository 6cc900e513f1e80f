"""`layerlift bench footage`: how clean the plate is on real clips whose hidden pixels are known."""

from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli import options as common
from layerlift.cli.job import print_tables, settle_report
from layerlift.cli.places import read_of_model
from layerlift.cli.terminal import say, show_progress
from layerlift.errors import InputError
from layerlift.report import Report

_MAKE = "Making cases"
_ALL_ROWS = "telea,patchmatch,evidence,demo,default"


def footage(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Cases: DIR/holes/CASE/ with video.mkv (the hole painted over), mask.mkv and truth.mkv.",
            show_default=False,
        ),
    ],
    clips: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CLIP]...", help="With --make, clips to make cases of.", show_default=False),
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
    make: Annotated[
        bool,
        typer.Option(
            "--make",
            help="Make cases in DIR and measure nothing: every mask hides parts of every clip but its own.",
            rich_help_panel=_MAKE,
        ),
    ] = False,
    masks: Annotated[
        list[Path] | None,
        typer.Option(
            "--masks",
            metavar="MASK",
            help="What hides: a mask video, a folder of mask videos, or a still. Repeat for more (default: the object "
            "masks beside the clips).",
            rich_help_panel=_MAKE,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="WxH", help="Size of the cases in pixels (default: 432x240).", rich_help_panel=_MAKE
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames", min=1, metavar="N", help="Frames of a case at most (default: 60).", rich_help_panel=_MAKE
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="none|demo|NAME|PATH|HUB-ID",
            help="Model of the row default (default: the installed LTX-Video checkpoint, or none).",
            rich_help_panel="Models",
        ),
    ] = None,
    text_encoder: common.TextEncoder = None,
    device: common.Device = None,
    dtype: common.Dtype = None,
    policy: common.PolicyName = None,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
) -> None:
    """Print how close removal comes to the truth on real clips, beside what needs no model; or make such clips."""
    settings = {"rows": rows, "model": model, "folder": str(folder)}
    given = [name for name, value in {"--masks": masks, "--size": size, "--frames": frames}.items() if value]
    if not make and (clips or given):
        raise InputError(f"{', '.join([*given, *map(str, clips or [])])}: these are for --make, which was not given.")
    if make:
        measuring = {"--report": report, "--model": model, "--text-encoder": text_encoder, "--device": device}
        measuring |= {"--dtype": dtype, "--policy": policy, "--rows": None if rows == _ALL_ROWS else rows}
        given = [name for name, value in measuring.items() if value is not None]
        if given:
            raise InputError(f"{', '.join(given)}: --make measures nothing; leave that out, or --make.")
        _make(folder, clips or [], masks or [], size, frames, overwrite=overwrite)
        return
    chosen_rows = _parse_rows(rows)

    from layerlift.bench.footage import footage_tables, open_cases
    from layerlift.device import choose_policy
    from layerlift.stages.choose_model import choose_model

    cases = open_cases(folder)
    read = {"DIR": [file for case in cases for file in case.files()], **read_of_model(model, text_encoder)}
    settle_report(report, read, overwrite=overwrite)
    chosen = choose_policy(device, dtype, policy)
    record = Report("bench footage", settings, device=chosen.device)
    opened = choose_model(model, record, text_encoder=text_encoder) if "default" in chosen_rows else None
    with show_progress() as progress:
        tables = footage_tables(cases, chosen_rows, chosen, model=opened, progress=progress, report=record, told=say)
    for note in record.notes:
        say(note)
    print_tables(tables, record, report, overwrite=overwrite)


def _parse_rows(text: str) -> list[str]:
    """``telea,default`` → its names, each once. Raises InputError for a name that is none, and for no name."""
    from layerlift.bench.footage import ROWS

    rows = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in rows if name not in ROWS]
    if unknown or not rows:
        raise InputError(f"unknown --rows {text!r}: choose from {', '.join(ROWS)}, separated by commas.")
    return rows


def _make(
    folder: Path, clips: list[Path], masks: list[Path], size: str | None, frames: int | None, *, overwrite: bool
) -> None:
    pixels = common.parse_size(size) if size is not None else None

    from layerlift.bench.footage_cases import FRAMES, SIZE, make_cases

    with show_progress() as progress:
        made = make_cases(
            folder, clips, masks, size=pixels or SIZE, frames=frames or FRAMES, overwrite=overwrite, progress=progress
        )
    for place in made:
        typer.echo(f"wrote {place}")
