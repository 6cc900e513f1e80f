"""Cases for `bench footage` from anyone's clips: the mask of what moves in one clip hides parts of another.

What is hidden is known then. The protocol of video completion's benchmarks: everything is scaled to 432×240, whatever
its shape. `DIR/holes/<clip>_<mask>/` holds `truth.mkv`, `video.mkv` with the hole painted over, and `mask.mkv`, all of
them lossless (FFV1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from layerlift.bench.footage import FILES
from layerlift.clip import Clip, ClipWriter, layout_masks, open_clip
from layerlift.clip.layout import VIDEO_ENDINGS, is_layout
from layerlift.errors import InputError
from layerlift.masks import Mask, open_mask
from layerlift.names import HIDDEN, check_name
from layerlift.places import check_writable, settle_places
from layerlift.progress import QUIET, Progress
from layerlift.whole import whole_folder

SIZE = (432, 240)  # width, height
FRAMES = 60
PAINT = (40, 200, 40)  # no colour of the clip's, so that what leaks from under the mask is seen

# Files that are named for the part they play go by their folder's name.
_PART = re.compile(r"(?:video|mask|object_mask|total_mask)(_\d+)?")


@dataclass(frozen=True, slots=True)
class Pair:
    """A case to be made: whose pixels are hidden, and by which mask of another clip."""

    name: str
    clip: Clip
    mask: Mask


def make_cases(
    folder: Path,
    clips: Sequence[Path],
    masks: Sequence[Path] = (),
    *,
    size: tuple[int, int] = SIZE,
    frames: int = FRAMES,
    overwrite: bool = False,
    progress: Progress = QUIET,
) -> list[Path]:
    """Make a case of every clip with every mask that is not its own, and return their folders.

    Args:
        folder: where `holes` is put.
        clips: videos, folders of images, or folders with a `video` in them.
        masks: videos, folders of images, stills, folders of such videos, or clips with their masks; white hides.
            Without any, the object masks that lie beside the clips.
        size: (width, height) in pixels.
        frames: of a case, at most; it is no longer than its clip and its mask, of which a still has any length.
        overwrite: replace cases that are there.

    Raises:
        InputError: anything given cannot be used; raised before a case is made, or for a mask that hides nothing at
            that size.
        LayerliftError: the folder cannot be written to.
    """
    pairs = pair_up(clips, masks)
    places = [folder / "holes" / pair.name for pair in pairs]
    clips_read = [pair.clip.path for pair in pairs if pair.clip.path is not None]
    settle_places({"DIR": places}, {"CLIP": clips_read, "--masks": [pair.mask.name for pair in pairs]})
    for place in places:
        _check_place(place, overwrite=overwrite)
    with progress.stage("cases", len(pairs)) as bar:
        for pair, place in zip(pairs, places, strict=True):
            _write_case(pair, place, size, frames, overwrite=overwrite)
            bar.advance()
    return places


def pair_up(clips: Sequence[Path], masks: Sequence[Path]) -> list[Pair]:
    """Every clip with every mask that is not its own. Raises InputError where that is none."""
    if not clips:
        raise InputError("no clip was given to make cases from: list some after the folder.")
    layouts = [layout_masks(path) for path in clips]
    given = [path for mask in masks for path in _expand(mask)]
    given = given or [path for layout in layouts for path in layout.object_masks]
    if not given:
        raise InputError(
            "no mask was given to hide parts of the clips: give --masks of moving objects from other clips."
        )
    opened = dict(zip(_names(given), ((path, open_mask(path, open_clip(path))) for path in given), strict=True))
    pairs = []
    for name, layout in zip(_names([layout.video for layout in layouts]), layouts, strict=True):
        clip = open_clip(layout.video)
        own = {path.absolute() for path in (*layout.object_masks, layout.object_mask, layout.total_mask) if path}
        pairs += [
            Pair(f"{name}_{hides}", clip, mask) for hides, (path, mask) in opened.items() if path.absolute() not in own
        ]
    if not pairs:
        raise InputError("all the masks given belong to the only clip: give --masks from other clips.")
    return pairs


def _expand(mask: Path) -> list[Path]:
    """A clip with its masks as these, a folder of mask videos as its files, and anything else as it is."""
    if is_layout(mask):
        return list(layout_masks(mask).object_masks)
    if mask.is_dir():
        inside = sorted(entry for entry in mask.iterdir() if entry.suffix.lower() in VIDEO_ENDINGS)
        return inside or [mask]
    return [mask]


def _names(paths: Sequence[Path]) -> list[str]:
    """A name for each path, none of them twice."""
    names: list[str] = []
    for path in paths:
        part = _PART.fullmatch(path.stem)
        name = path.stem if part is None else path.absolute().parent.name + (part[1] or "")
        taken, number = name, 2
        while taken in names:
            taken, number = f"{name}-{number}", number + 1
        names.append(taken)
    return names


def _check_place(place: Path, *, overwrite: bool) -> None:
    check_name(place)
    check_writable(place, str(place))
    if not place.exists():
        return
    inside = [entry.name for entry in place.iterdir()] if place.is_dir() else [""]
    if any(name not in FILES and not name.startswith(HIDDEN) for name in inside):
        raise InputError(
            f"{place} contains something other than a case, so it will not be replaced: choose another folder."
        )
    if not overwrite:
        raise InputError(f"{place} already exists: choose another folder or add --overwrite.")


def _write_case(pair: Pair, place: Path, size: tuple[int, int], frames: int, *, overwrite: bool) -> None:
    """Write a case's three files into a folder that takes its place when it is whole."""
    count = min(frames, pair.clip.frame_count, *(() if pair.mask.frame_count == 1 else (pair.mask.frame_count,)))
    like = Clip(*size, count, pair.clip.rate, pair.clip.reader, color=pair.clip.color, name=pair.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(place, partial(_check_place, place, overwrite=overwrite), overwrite=overwrite) as made:
        hidden = 0
        with ExitStack() as files:
            video, mask, truth = (
                files.enter_context(ClipWriter(made / name, like, lossless=True, sound=False)) for name in FILES
            )
            for picture, hole in zip(_pictures(pair.clip, size, count), _holes(pair.mask, size, count), strict=True):
                truth.write(picture)
                video.write(np.where(hole[..., None], np.array(PAINT, np.uint8), picture))
                mask.write(hole)
                hidden += int(np.count_nonzero(hole))
        if not hidden:
            raise InputError(
                f"the mask {pair.mask.name} hides nothing in {count} frames of {size[0]}x{size[1]}: leave it out."
            )


def _pictures(clip: Clip, size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    return (cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip.frames(0, count))


def _holes(mask: Mask, size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """The mask's first frames, (H, W) bool each; a still's only one again and again."""

    def scaled(hole: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.resize(hole.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_AREA) > 127)

    if mask.frame_count == 1:
        only = scaled(next(mask.frames()))
        return (only for _ in range(count))
    return (scaled(hole) for hole in mask.frames(0, count))
