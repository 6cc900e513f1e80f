"""A folder of images as a clip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from layerlift.clip.clip import Clip, ColorTags, Pixels
from layerlift.clip.container import MAX_PIXELS
from layerlift.clip.decode import first_frame, picture_array
from layerlift.clip.layout import IMAGE_ENDINGS
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
    start = picture_array(*first_frame(files[0], "an image"), "rgb24")
    height, width = start.shape[:2]

    def reader(begin: int, end: int, pixels: Pixels) -> Iterator[np.ndarray]:
        for file in files[begin:end]:
            picture = picture_array(*first_frame(file, "an image"), pixels)
            if picture.shape[:2] != (height, width):
                raise InputError(
                    f"{file} is {picture.shape[1]}x{picture.shape[0]} pixels, but {files[0].name} beside it is "
                    f"{width}x{height}; give images of one size."
                )
            yield picture

    return Clip(
        width,
        height,
        len(files),
        DEFAULT_RATE,
        reader,
        color=ColorTags(),
        has_alpha=any(f.suffix.lower() not in (".jpg", ".jpeg") for f in files),
        name=folder.resolve().name,
    )


def read_picture(file: Path) -> np.ndarray:
    """A single image, (H, W, 4) uint8 RGBA with straight alpha, upright.

    Raises InputError when it is missing, cannot be read as an image, or is larger than layerlift reads.
    """
    if not file.is_file():
        raise InputError(f"{file} does not exist; give the path of an image.")
    _stored_size(file)
    return picture_array(*first_frame(file, "an image"), "rgba")


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
