"""Clips rendered in 3-D by Mitsuba, whose truth is known because the same place is rendered without its objects."""

from __future__ import annotations

from collections.abc import Iterable

from layerlift.progress import QUIET, Progress
from layerlift.scenes.rendered.places import draw_world, next_place
from layerlift.scenes.rendered.truth import RenderedScene

__all__ = ["RenderedScene", "check_renderable", "draw_world", "next_place", "rendered_scene"]


def check_renderable(seeds: Iterable[int], size: tuple[int, int], frames: int) -> None:
    """Raises InputError where a frame of these scenes is not in the cache and Mitsuba is not installed."""
    from layerlift.scenes.rendered.frames import frame_path
    from layerlift.scenes.rendered.tracer import check_installed

    if not all(frame_path(seed, size, index).is_file() for seed in seeds for index in range(frames)):
        check_installed()


def rendered_scene(
    seed: int,
    width: int = 432,
    height: int = 240,
    frames: int = 33,
    *,
    film: bool = False,
    progress: Progress = QUIET,
) -> RenderedScene:
    """Render the scene of `seed` (≥ 0) at 24 frames a second, or read what is finished of it from the cache.

    Args:
        seed: what is drawn; of eight seeds in a row each is another place.
        film: also what a camera adds: slight lens blur, and to the clip alone grain and H.264.

    Raises InputError where a frame has to be rendered and Mitsuba is not installed.
    """
    from layerlift.scenes.rendered.frames import FrameLight, Studio, frame_path
    from layerlift.scenes.rendered.tracer import check_installed
    from layerlift.scenes.rendered.truth import assembled

    world = draw_world(seed)
    studio, lights = None, []
    with progress.stage("render", frames) as bar:
        for index in range(frames):
            path = frame_path(seed, (width, height), index)
            light = FrameLight.read(path)
            if light is None:
                if studio is None:
                    check_installed()
                    studio = Studio(world, seed, (width, height))
                light = studio.frame(index)
                light.write(path)
            lights.append(light)
            bar.advance()
    return assembled(world, seed, lights, film=film)
