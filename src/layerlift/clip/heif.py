"""HEIC and AVIF: still pictures that FFmpeg gives in parts, each a video stream of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layerlift.clip.convert import converted
from layerlift.clip.machine import check_machine
from layerlift.clip.view import view_array
from layerlift.errors import InputError
from layerlift.limits import MAX_PIXELS
from layerlift.names import naming

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

# What precedes the coded pictures: a list of the parts and what each is (ISO/IEC 23008-12).
_HEADER = 1 << 18
# How a part says that it is another's alpha channel, in AVIF and newer HEIC, and in older HEIC.
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")
_LIMITED = 1  # of AVColorRange


def is_tiled(path: Path) -> bool:
    """Whether a HEIC or AVIF picture is made of tiles, as phones store large photos: its parts are corners of it."""
    with naming(path), path.open("rb") as file:
        return has_tiles(file.read(_HEADER))


def tiled_picture(path: Path) -> VideoFrame:
    """A picture made of tiles, upright, RGB or RGBA at 8 or 16 bits. FFmpeg's parts of it are not joined by PyAV.

    Raises InputError where the package for it is not installed, and for a picture that cannot be decoded.
    """
    from av.video.frame import VideoFrame

    try:
        import pi_heif
    except ImportError as error:
        raise InputError(
            f"{path} is a tiled image, which needs the package pi-heif: run pip install 'layerlift[heif]', or save "
            "the image as JPEG or PNG."
        ) from error
    try:
        opened = pi_heif.open_heif(path, convert_hdr_to_8bit=False)
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise InputError(f"{path} is {width}x{height} pixels, more than layerlift reads; scale it down first.")
        pixels = np.asarray(opened)
    except InputError:
        raise
    except Exception as error:
        check_machine(path, error)
        raise InputError(f"{path} is damaged or in a format that cannot be decoded; save it as JPEG or PNG.") from error
    kind = {(3, 1): "rgb24", (4, 1): "rgba", (3, 2): "rgb48le", (4, 2): "rgba64le"}[pixels.shape[2], pixels.itemsize]
    return VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=kind)


def whole_picture(path: Path, container: InputContainer, colour: VideoFrame) -> VideoFrame:
    """The whole of a picture of which `colour` is the first part, with its alpha."""
    with naming(path), path.open("rb") as file:
        head = file.read(_HEADER)
    if not any(name in head for name in _ALPHA):
        return colour  # the other part is a thumbnail, a depth or a gain map
    container.seek(0)
    part = next(container.decode(container.streams.video[1]), None)
    if part is None or (part.width, part.height) != (colour.width, colour.height):
        return colour
    from av.video.frame import VideoFrame

    alpha = converted(part, "gray").to_ndarray().astype(np.float32)
    if part.color_range == _LIMITED:
        alpha = (alpha - 16) * (255 / 219)
    rgba = np.empty((colour.height, colour.width, 4), np.uint8)
    rgba[..., :3] = view_array(colour, "rgb24")
    rgba[..., 3] = np.clip(np.rint(alpha), 0, 255)
    return VideoFrame.from_ndarray(rgba, format="rgba")


def has_tiles(head: bytes) -> bool:
    """Whether one of the parts that a HEIF header lists is a grid of others."""
    at = head.find(b"infe")
    while at >= 0:
        # After the name: version and flags (4), item number (2, or 4 in version 3), protection (2), then the type.
        start = at + (14 if head[at + 4 : at + 5] == b"\3" else 12)
        if head[start : start + 4] == b"grid":
            return True
        at = head.find(b"infe", at + 4)
    return False
