"""`layerlift scene`: a procedural clip whose true layers are known."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from layerlift.cli.flags import Typed, Without, with_flags
from layerlift.cli.job import settle, settle_folder, write_report
from layerlift.cli.options import OutputFlags
from layerlift.cli.terminal import show_progress
from layerlift.errors import InputError
from layerlift.flags import flag
from layerlift.limits import MOST_FRAMES, MOST_SCENE
from layerlift.parse import parse_size
from layerlift.report import Report

SIZE, RENDERED_SIZE = (288, 192), (432, 240)
SMALLEST_SIDE = 16  # pixels; what `make_scene` can draw into

Folder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write to.")]


def parse_scene_size(text: str) -> tuple[int, int]:
    """Width and height in pixels. Raises InputError for what is no size or too small to hold a scene."""
    size = parse_size(text)
    if min(size) < SMALLEST_SIDE:
        raise InputError(f"--size {text} is too small for a scene: give at least {SMALLEST_SIDE}x{SMALLEST_SIDE}.")
    return size


def check_scene(size: tuple[int, int], frames: int) -> None:
    """Raises InputError for more pixels than are drawn in memory."""
    if size[0] * size[1] * frames > MOST_SCENE:
        raise InputError(
            f"{frames} frames of {size[0]}x{size[1]} are too many to be drawn in memory: give a smaller --size, or "
            f"--frames {max(1, MOST_SCENE // (size[0] * size[1]))} or less."
        )


@dataclass(frozen=True, slots=True)
class SceneFlags:
    """Which scene is drawn, its (width, height) in pixels, and how many frames of it."""

    seed: int = flag(7, "Seed of the scene.", metavar="S", least=0, most=2**32 - 1)
    size: tuple[int, int] | None = flag(
        None,
        "Width and height in pixels (default: 288x192, or 432x240 with --rendered).",
        metavar="WxH",
        takes=str,
        parse=parse_scene_size,
    )
    frames: int = flag(33, "Number of frames.", metavar="N", least=1, most=MOST_FRAMES)


@dataclass(frozen=True, slots=True)
class RenderFlags:
    """Whether a scene is rendered in 3-D, and what a camera adds to it."""

    rendered: bool = flag(
        False, "Render the scene in 3-D. This takes minutes and needs Mitsuba: install the extra render.", "--rendered"
    )
    film: bool = flag(False, "Add to a rendered scene what a camera adds: slight lens blur, grain and H.264.", "--film")

    def check(self, seeds: Iterable[int], size: tuple[int, int], frames: int) -> None:
        """Raises InputError for scenes that are too large, and for rendered ones that cannot be had."""
        check_scene(size, frames)
        if self.film and not self.rendered:
            raise InputError("--film works only on rendered scenes: add --rendered.")
        if self.film and (size[0] % 2 or size[1] % 2):
            raise InputError(
                f"--film writes H.264, which takes even sizes, but --size is {size[0]}x{size[1]}: give even numbers."
            )
        if self.rendered:
            from layerlift.scenes.rendered import check_renderable

            check_renderable(seeds, size, frames)


@with_flags
def scene(
    output: Folder,
    which: SceneFlags,
    how: RenderFlags,
    writing: Annotated[OutputFlags, Without("lossless", "verbose")],
    typed: Typed,
) -> None:
    """Draw or render a clip from a seed, and write it to a folder with its masks and true layers."""
    from layerlift.room import LOSSLESS, check_room
    from layerlift.scenes import Scene
    from layerlift.scenes.folder import check_scene_folder, write_scene

    size = which.size or (RENDERED_SIZE if how.rendered else SIZE)
    how.check([which.seed], size, which.frames)
    settle({"-o": output}, {}, writing)
    settle_folder(output, overwrite=writing.overwrite)
    check_scene_folder(output)
    check_room({output: round(size[0] * size[1] * which.frames * LOSSLESS)})
    record = Report("scene", typed)
    with show_progress() as progress, record.stage("scene"):
        if how.rendered:
            from layerlift.scenes.rendered import rendered_scene

            made: Scene = rendered_scene(which.seed, *size, which.frames, film=how.film, progress=progress)
        else:
            from layerlift.scenes import make_scene

            made = make_scene(which.seed, *size, which.frames)
        write_scene(made, output, overwrite=writing.overwrite)
    write_report(record, writing)
    typer.echo(f"wrote {output}")
