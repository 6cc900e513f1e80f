"""`layerlift scene`: a procedural clip whose true layers are known."""

from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli import options as common
from layerlift.cli.job import settle_folder
from layerlift.errors import InputError
from layerlift.places import settle_places
from layerlift.report import Report, check_report

SMALLEST_SIDE = 16  # pixels; what `make_scene` can draw into

SceneSize = Annotated[str, typer.Option("--size", metavar="WxH", help="Width and height in pixels.")]
SceneFrames = Annotated[int, typer.Option("--frames", min=1, metavar="N", help="How many frames.")]
SceneSeed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, metavar="S", help="Which scene.")]
Folder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to write into.")]


def scene(
    output: Folder,
    seed: SceneSeed = 7,
    size: SceneSize = "288x192",
    frames: SceneFrames = 33,
    report: common.ReportPath = None,
    overwrite: common.Overwrite = False,
) -> None:
    """Render a clip from a seed, with its masks and true layers, into a folder."""
    width, height = parse_scene_size(size)

    from layerlift.scenes import make_scene
    from layerlift.scenes.folder import check_scene_folder, write_scene

    settle_places({"-o": output, "--report": report}, {})
    settle_folder(output, overwrite=overwrite)
    check_scene_folder(output)
    if report is not None:
        check_report(report, overwrite=overwrite)
    record = Report("scene", {"seed": seed, "size": size, "frames": frames, "output": output})
    with record.stage("scene"):
        write_scene(make_scene(seed, width, height, frames), output)
    if report is not None:
        record.write(report, overwrite=overwrite)
    typer.echo(f"wrote {output}")


def parse_scene_size(text: str) -> tuple[int, int]:
    """Width and height in pixels. Raises InputError for what is no size or too small to hold a scene."""
    size = common.parse_size(text)
    if min(size) < SMALLEST_SIDE:
        raise InputError(f"--size {text} is too small for a scene: give at least {SMALLEST_SIDE}x{SMALLEST_SIDE}.")
    return size
