"""A folder of images as a clip."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from layerlift.clip.clip import Clip, ColorTags, Picture, Pixels
from layerlift.clip.container import check_file
from layerlift.clip.damage import damaged, frames_named
from layerlift.clip.decode import DecodedPicture, first_frame, has_alpha
from layerlift.clip.layout import IMAGE_ENDINGS
from layerlift.clip.samples import Samples
from layerlift.clip.still_damage import still_damage
from layerlift.clip.stills import picture_kind, pillow_image
from layerlift.errors import InputError
from layerlift.limits import MAX_PIXELS
from layerlift.names import naming

DEFAULT_RATE = Fraction(24)  # images carry none; LTX-Video's own rate

_EXIF_ORIENTATION = 0x0112
_EXIF_TRANSPOSED = 5  # orientations from this on have width and height exchanged


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order (frame_2 before frame_10); hidden files are none.

    An image is what its content or its name says is one: a damaged .png is found damaged, not left out.
    """
    files = (f for f in folder.iterdir() if not f.name.startswith(".") and f.is_file() and _is_image(f))
    return sorted(files, key=lambda f: [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in _parts(f.name)])


def open_images(folder: Path, *, allow_damage: bool = False) -> Clip:
    """A clip of the images in a folder, all of one size, at 24 frames a second.

    An image that is damaged is refused when it is read. With `allow_damage` it is shown as far as it can be decoded, or
    where it cannot, the one before it is, so that every frame keeps its number; `damage` says which these are.
    Raises InputError when there is none, when their sizes differ or one cannot be read.
    """
    files = image_files(folder)
    if not files:
        raise InputError(f"{folder} contains neither a video named 'video' nor images; give a clip.")
    return _clip_of(files, folder.resolve().name, folder, allow_damage)


def open_still(file: Path, *, allow_damage: bool = False) -> Clip:
    """A clip of one frame. Raises InputError when the image cannot be read."""
    return _clip_of([file], file.stem, file, allow_damage)


def _clip_of(files: list[Path], name: str, path: Path, allow_damage: bool) -> Clip:
    damage = None
    if allow_damage:
        files, damage = survey(files, path)
    sizes = {f: _size(f) for f in files}
    odd = next((f for f in files if sizes[f] != sizes[files[0]]), None)
    if odd is not None:
        raise _other_size(odd, sizes[odd], files[0], sizes[files[0]])
    start = _decoded(files[0], allow_damage)
    height, width = start.array("rgb24").shape[:2]
    samples = start.samples
    alpha = has_alpha(start.frame) or any(_may_be_transparent(file) for file in files[1:])

    def pictures(begin: int, end: int) -> Iterator[Picture]:
        for file in files[begin:end]:
            picture = _decoded(file, allow_damage)
            wide, high = picture.frame.width, picture.frame.height
            size = (high, wide) if picture.orientation.transposed else (wide, high)
            if size != (width, height):
                raise _other_size(file, size, files[0], (width, height))
            yield picture

    def reader(begin: int, end: int, pixels: Pixels) -> Iterator[np.ndarray]:
        return (picture.array(pixels) for picture in pictures(begin, end))

    said = exr_rate(files[0])
    return Clip(
        width,
        height,
        len(files),
        said or DEFAULT_RATE,
        reader,
        rate_assumed=said is None,
        color=ColorTags(),
        has_alpha=alpha,
        name=name,
        damage=damage,
        # Images of a folder may differ in kind: what is written holds the most that the first of them can hold.
        samples=None if samples is None else Samples("rgb", 16 if samples.deep else 8, alpha=alpha),
        pictures=pictures,
        picture_size=(width, height),
    )


def survey(files: list[Path], path: Path, *, wholly: bool = False) -> tuple[list[Path], str | None]:
    """For every image itself or the one that stands in for it, and what is lost, in words.

    With `wholly`, one that cannot be decoded whole has another in its place, too.
    """
    shown: list[Path | None] = []
    lost: list[int] = []
    broken: list[int] = []
    for number, file in enumerate(files):
        try:
            _size(file)
            _decoded(file, tolerant=not wholly)
        except InputError:
            lost.append(number)
            shown.append(shown[-1] if shown else None)
            continue
        shown.append(file)
        if not wholly and still_damage(file) is not None:
            broken.append(number)
    first = next((file for file in shown if file is not None), None)
    if first is None:
        raise InputError(f"{path} contains no image that can be decoded; give a clip with at least one frame.")
    parts = [f"{frames_named(lost)} cannot be decoded: a neighbouring frame is used instead"] if lost else []
    parts += [f"{frames_named(broken)} could not be fully decoded"] if broken else []
    said = f"{path} is damaged: {', and '.join(parts)}." if parts else None
    return [file or first for file in shown], said


def _decoded(file: Path, tolerant: bool = False) -> DecodedPicture:
    """The picture of an image. Raises InputError for one that is damaged; if `tolerant`, where there is none at all."""
    lost = None if tolerant else still_damage(file)
    if lost is not None:
        raise damaged(file, lost)
    return DecodedPicture(*first_frame(file, "an image"))


def _other_size(file: Path, size: tuple[int, int], first: Path, wanted: tuple[int, int]) -> InputError:
    return InputError(
        f"{file} is {_times(size)} pixels, but {first.name} beside it is {_times(wanted)}; use images of one size."
    )


def read_picture(file: Path) -> np.ndarray:
    """A single image, (H, W, 4) uint8 RGBA with straight alpha, upright.

    Raises InputError when it is missing, cannot be read as an image, or is larger than layerlift reads.
    """
    check_file(file, "an image")
    _size(file)
    return _decoded(file).array("rgba")


def _is_image(file: Path) -> bool:
    if file.suffix.lower() in IMAGE_ENDINGS:
        return True
    with suppress(OSError):  # a file that may not be read, and has not the name of an image
        return picture_kind(file) is not None
    return False


def _size(file: Path) -> tuple[int, int]:
    """Width and height as the image is shown, from the header alone, so that a long folder is checked in an instant."""
    from PIL import UnidentifiedImageError

    try:
        with pillow_image(file) as image:
            # Asked for without being there, EXIF would have the whole picture decoded; Pillow turns TIFF's size itself.
            turned = "exif" in image.info and image.getexif().get(_EXIF_ORIENTATION, 1) >= _EXIF_TRANSPOSED
            size = image.size[::-1] if turned else image.size
    except UnidentifiedImageError:  # a format that only FFmpeg knows, such as OpenEXR
        frame, shown = first_frame(file, "an image")
        size = (frame.height, frame.width) if shown.transposed else (frame.width, frame.height)
    if size[0] * size[1] > MAX_PIXELS:
        raise InputError(f"{file} is {_times(size)} pixels, more than layerlift reads; scale it down first.")
    return size


def _may_be_transparent(file: Path) -> bool:
    """Whether an image has an alpha channel, or a colour that is said to be transparent; told by its header."""
    from PIL import UnidentifiedImageError

    try:
        with pillow_image(file) as image:
            return "A" in image.mode or "transparency" in image.info
    except UnidentifiedImageError:  # a format that only FFmpeg knows
        kind = picture_kind(file)
        return kind is None or kind.transparent


def exr_rate(file: Path) -> Fraction | None:
    """Frames a second, if `file` is OpenEXR and its header says so (the standard attribute `framesPerSecond`)."""
    with naming(file), file.open("rb") as opened:
        head = opened.read(1 << 16)
    name = b"framesPerSecond\0rational\0\x08\0\0\0"
    at = head.find(name)
    if not head.startswith(b"\x76\x2f\x31\x01") or at < 0:
        return None
    above, below = struct.unpack_from("<iI", head, at + len(name))
    return Fraction(above, below) if above > 0 and below > 0 else None


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", name) if part]


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
