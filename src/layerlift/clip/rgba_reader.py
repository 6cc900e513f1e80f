"""Opening layers: videos with alpha at all the bits they have, folders of PNG or OpenEXR with the sound beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlift.clip.clip import Clip, ColorTags
from layerlift.clip.container import check_file, open_input
from layerlift.clip.convert import converted
from layerlift.clip.damage import damaged
from layerlift.clip.decode import has_alpha
from layerlift.clip.images import DEFAULT_RATE, open_images, survey
from layerlift.clip.layout import is_folder, is_layout, layout_masks
from layerlift.clip.machine import check_machine
from layerlift.clip.reader import open_clip
from layerlift.clip.rgba import PREMULTIPLIED_NOTE, LayerClip, LayerReader, as_layer, straighten, yuv_to_rgb
from layerlift.clip.rgba_encode import import_openexr
from layerlift.clip.rgba_writer import sound_file
from layerlift.clip.still_damage import still_damage
from layerlift.clip.stills import picture_kind
from layerlift.errors import InputError
from layerlift.limits import MAX_PIXELS
from layerlift.names import naming

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.plane import VideoPlane

# Channels of the largest picture that an OpenEXR file may have; renderers write dozens of smaller ones.
_MOST_CHANNELS = 8


def open_layer(
    path: str | Path, *, premultiplied: bool = False, allow_damage: bool = False, deinterlace: bool = False
) -> LayerClip:
    """Open a video with alpha, an image, or a folder of PNG or OpenEXR images.

    Premultiplied colours are made straight: those of OpenEXR, of videos that are marked as premultiplied, and of any
    file when `premultiplied` is True. The sound of a folder is in a file beside it, with the folder's name and .mka.

    A damaged file is refused unless `allow_damage` is True. `allow_damage` and `deinterlace` mean what they mean for
    `open_clip`. Raises InputError for what cannot be read, and for a clip without alpha.
    """
    path = Path(path)
    if not is_folder(path):
        check_file(path, "a layer")
        with naming(path):
            kind = picture_kind(path)
        if kind is not None and kind.demuxer == "exr_pipe":
            return _open_exr([path], path, None, allow_damage)
        opened = open_clip(path, allow_damage=allow_damage, deinterlace=deinterlace)
        if kind is not None and kind.still:
            return _of_images(opened, None, premultiplied)
        return _of_video(opened, path, premultiplied or _says_premultiplied(path))
    if is_layout(path):
        return open_layer(layout_masks(path).video, premultiplied=premultiplied, allow_damage=allow_damage,
                          deinterlace=deinterlace)  # fmt: skip
    exr = sorted(f for f in path.iterdir() if f.suffix.lower() == ".exr" and not f.name.startswith("."))
    sound = sound_file(path.resolve())
    beside = sound if os.path.isfile(sound) else None  # noqa: PTH113 - its name may be too long for a Path to ask
    if exr:
        return _open_exr(exr, path, beside, allow_damage)
    return _of_images(open_images(path, allow_damage=allow_damage), beside, premultiplied)


def _of_video(clip: Clip, path: Path, premultiplied: bool) -> LayerClip:
    if not clip.has_alpha:
        raise _no_alpha(str(path))
    reader = _reader(clip, str(path), premultiplied)
    next(reader(0, 1))
    return LayerClip(as_layer(clip, reader), reader, timed=clip.frame_count > 1)


def _of_images(clip: Clip, sound: Path | None, premultiplied: bool) -> LayerClip:
    reader = _reader(clip, f"an image of {clip.name}", premultiplied)
    next(reader(0, 1))
    return LayerClip(replace(as_layer(clip, reader), path=sound), reader, timed=False)


def _reader(clip: Clip, name: str, premultiplied: bool) -> LayerReader:
    """A clip's pictures at all the bits they have; `name` is what lacks alpha where one does."""
    pictures = clip.pictures
    assert pictures is not None

    def reader(start: int, stop: int) -> Iterator[np.ndarray]:
        for picture in pictures(start, stop):
            if not has_alpha(picture.frame):
                raise _no_alpha(name)
            rgba = picture.orientation.upright(picture_rgba(picture.frame))
            yield straighten(rgba) if premultiplied else rgba

    return reader


def _open_exr(files: list[Path], path: Path, sound: Path | None, allow_damage: bool) -> LayerClip:
    damage = None
    if allow_damage:
        files, damage = survey(files, path, wholly=True)
    first, rate = _read_exr(files[0])
    height, width = first.shape[:2]

    def reader(start: int, stop: int) -> Iterator[np.ndarray]:
        for file in files[start:stop]:
            rgba, _ = _read_exr(file)
            if rgba.shape != first.shape:
                raise InputError(f"{file} differs in size from {files[0].name} beside it; use images of one size")
            yield straighten(rgba)

    clip = Clip(width, height, len(files), rate or DEFAULT_RATE, lambda a, b, p: iter(()), path=sound,
                name=path.stem if path.is_file() else path.resolve().name, damage=damage)  # fmt: skip
    return LayerClip(as_layer(clip, reader, linear=True), reader, timed=rate is not None, linear=True)


def _read_exr(file: Path) -> tuple[np.ndarray, Fraction | None]:
    """(H, W, 4) float32, premultiplied linear light, and the rate if the file says one."""
    OpenEXR = import_openexr()
    lost = still_damage(file)  # which OpenEXR would tell the terminal
    if lost is not None:
        raise damaged(file, lost)
    try:
        _check_exr_size(file, OpenEXR.File(str(file), header_only=True).parts)
        with OpenEXR.File(str(file)) as image:
            channels = {name: np.asarray(channel.pixels) for name, channel in image.channels().items()}
            said = image.header().get("framesPerSecond")
    except (RuntimeError, ValueError, OSError) as error:
        check_machine(file, error)
        raise InputError(f"{file} cannot be read as OpenEXR; remove it or save it again") from error
    if "RGBA" not in channels:
        raise _no_alpha(str(file))
    rate = said if isinstance(said, Fraction) and said > 0 else None
    return channels["RGBA"].astype(np.float32), rate


def _check_exr_size(file: Path, parts: Sequence[Any]) -> None:
    """Raises InputError for more pixels than layerlift reads, by the headers of an OpenEXR file's parts alone.

    All of a file's parts and channels are decoded, whichever are wanted.
    """
    samples = 0
    for part in parts:
        (left, top), (right, bottom) = (corner.tolist() for corner in part.header["dataWindow"])
        width, height = right - left + 1, bottom - top + 1
        if width * height > MAX_PIXELS:
            raise InputError(f"{file} is {width}x{height} pixels, more than layerlift reads; scale it down first.")
        samples += width * height * len(part.header["channels"])
    if samples > _MOST_CHANNELS * MAX_PIXELS:
        raise InputError(f"{file} has too many channels of such a size; save it with red, green, blue and alpha only.")


def picture_rgba(frame: VideoFrame) -> np.ndarray:
    """A decoded picture as (H, W, 4) float32 in [0, 1] at all the bits it has, without swscale where it would round."""
    import cv2

    name = frame.format.name
    bits = frame.format.components[0].bits
    if name.startswith("yuva"):
        tags = ColorTags(int(frame.color_range), int(frame.colorspace))
        luma, *chroma, alpha = (_plane(plane, bits) for plane in frame.planes)
        size = (frame.width, frame.height)
        full = [c if c.shape == luma.shape else cv2.resize(c, size, interpolation=cv2.INTER_LINEAR) for c in chroma]
        colour = yuv_to_rgb(np.dstack([luma, *full]), tags, bits)
        return np.dstack([colour, alpha.astype(np.float32) / ((1 << bits) - 1)])
    if name.startswith("gbrap") and "f" not in name:
        green, blue, red, alpha = (_plane(plane, bits) for plane in frame.planes)
        return np.dstack([red, green, blue, alpha]).astype(np.float32) / ((1 << bits) - 1)
    if bits <= 8:
        return converted(frame, "rgba").to_ndarray().astype(np.float32) / 255
    return converted(frame, "rgba64le").to_ndarray().astype(np.float32) / 65535


def _plane(plane: VideoPlane, bits: int) -> np.ndarray:
    """A plane as (H, W) uint8 or uint16."""
    dtype = np.dtype(np.uint8 if bits <= 8 else "<u2")
    rows: np.ndarray = np.frombuffer(memoryview(plane), dtype)
    return rows.reshape(-1, plane.line_size // dtype.itemsize)[: plane.height, : plane.width]


def _says_premultiplied(path: Path) -> bool:
    with open_input(path) as container:
        said = {key.lower(): value for key, value in container.metadata.items()}
    return said.get("comment") == PREMULTIPLIED_NOTE


def _no_alpha(path: str) -> InputError:
    return InputError(
        f"{path} has no alpha channel, so it is not a layer; give what `layerlift extract` wrote, or another clip "
        "with alpha"
    )
