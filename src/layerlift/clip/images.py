"""A folder of images as a clip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from layerlift.clip.clip import Clip, ColorTags, Picture, Pixels
from layerlift.clip.container import MAX_PIXELS
from layerlift.clip.decode import DecodedPicture, first_frame
from layerlift.clip.layout import IMAGE_ENDINGS
from layerlift.clip.samples import Samples, samples_of
from layerlift.errors import InputError

DEFAULT_RATE = Fraction(24)  # images carry none; LTX-Video's own rate


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order (frame_2 before frame_10); hidden files are none."""
    files = (f for f in folder.iterdir() if f.suffix.lower() in IMAGE_ENDINGS and not f.name.startswith("."))
    return sorted(files, key=lambda f: [(p.isdigit(), int(p) if p.isdigit() else 0, p) for p in _parts(f.name)])


def open_images(folder: Path) -> Clip:
    """A clip of the images in a folder, all of one size, at 24 frames a second.

    Raises InputError when there is none, when their sizes differ or one cannot be read.
    """
    files = image_files(folder)
    if not files:
        raise InputError(f"{folder} holds neither a video named 'video' nor images; give a clip.")
    sizes = {f: _stored_size(f) for f in files}
    odd = next((f for f in files if sizes[f] != sizes[files[0]]), None)
    if odd is not None:
        raise InputError(
            f"{odd} is {_times(sizes[odd])} pixels, but {files[0].name} beside it is {_times(sizes[files[0]])}; "
            "give images of one size."
        )
    start = DecodedPicture(*first_frame(files[0], "an image"))
    height, width = start.array("rgb24").shape[:2]
    samples = samples_of(start.frame.format)

    def pictures(begin: int, end: int) -> Iterator[Picture]:
        for file in files[begin:end]:
            picture = DecodedPicture(*first_frame(file, "an image"))
            wide, high = picture.frame.width, picture.frame.height
            size = (high, wide) if picture.turns % 2 else (wide, high)
            if size != (width, height):
                raise InputError(
                    f"{file} is {_times(size)} pixels, but {files[0].name} beside it is "
                    f"{width}x{height}; give images of one size."
                )
            yield picture

    def reader(begin: int, end: int, pixels: Pixels) -> Iterator[np.ndarray]:
        return (picture.array(pixels) for picture in pictures(begin, end))

    return Clip(
        width,
        height,
        len(files),
        DEFAULT_RATE,
        reader,
        color=ColorTags(),
        has_alpha=any(f.suffix.lower() not in (".jpg", ".jpeg") for f in files),
        name=folder.resolve().name,
        # Images of a folder may differ in kind: what is written holds the most that the first of them can hold.
        samples=None if samples is None else Samples("rgb", 16 if samples.deep else 8, alpha=samples.alpha),
        pictures=pictures,
        picture_size=(width, height),
    )


def _stored_size(file: Path) -> tuple[int, int]:
    """Width and height from the header alone, so that a long folder is checked in an instant."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            size = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file} cannot be read as an image; remove it or save it again.") from error
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{file} is {_times(size)} pixels, more than layerlift reads; scale it down first.")
    return size


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", name) if part]


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
