"""`layerlift scene`: a procedural clip whose true layers are known."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli.flags import Typed, Without, with_flags
from layerlift.cli.job import settle, settle_folder, write_report
from layerlift.cli.options import OutputFlags
from layerlift.errors import InputError
from layerlift.flags import flag
from layerlift.parse import parse_size
from layerlift.report import Report

SMALLEST_SIDE = 16  # pixels; what `make_scene` can draw into

Folder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write to.")]


def parse_scene_size(text: str) -> tuple[int, int]:
    """Width and height in pixels. Raises InputError for what is no size or too small to hold a scene."""
    size = parse_size(text)
    if min(size) < SMALLEST_SIDE:
        raise InputError(f"--size {text} is too small for a scene: give at least {SMALLEST_SIDE}x{SMALLEST_SIDE}.")
    return size


@dataclass(frozen=True, slots=True)
class SceneFlags:
    """Which scene is drawn, its (width, height) in pixels, and how many frames of it."""

    seed: int = flag(7, "Seed of the scene.", metavar="S", least=0, most=2**32 - 1)
    size: tuple[int, int] = flag(
        (288, 192), "Width and height in pixels (default: 288x192).", metavar="WxH", takes=str, parse=parse_scene_size
    )
    frames: int = flag(33, "Number of frames.", metavar="N", least=1)


@with_flags
def scene(
    output: Folder,
    which: SceneFlags,
    writing: Annotated[OutputFlags, Without("lossless", "verbose")],
    typed: Typed,
) -> None:
    """Render a clip from a seed, with its masks and true layers, into a folder."""
    from layerlift.scenes import make_scene
    from layerlift.scenes.folder import check_scene_folder, write_scene

    settle({"-o": output}, {}, writing)
    settle_folder(output, overwrite=writing.overwrite)
    check_scene_folder(output)
    record = Report("scene", typed)
    with record.stage("scene"):
        write_scene(make_scene(which.seed, *which.size, which.frames), output)
    write_report(record, writing)
    typer.echo(f"wrote {output}")
