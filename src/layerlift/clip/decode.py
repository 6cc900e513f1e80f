"""Decoded pictures as arrays, upright."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlift.clip.clip import ColorTags, Pixels
from layerlift.clip.container import open_input, video_stream
from layerlift.clip.convert import converted
from layerlift.clip.heif import is_tiled, tiled_picture, whole_picture
from layerlift.clip.machine import check_machine
from layerlift.clip.rgba import from_linear, straighten, to_whole
from layerlift.clip.samples import Samples, planes_of, samples_of
from layerlift.clip.stills import picture_kind, unusual_tiff
from layerlift.clip.view import tags_of, view_array
from layerlift.errors import InputError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# FFmpeg's own decoders of VP8 and VP9 leave alpha out; these, by codec, do not.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

# Floating-point formats, and which of their planes are red, green, blue and alpha.
_FLOAT_PLANES = {"grayf16le": (0, 0, 0), "grayf32le": (0, 0, 0), "gbrpf16le": (2, 0, 1), "gbrpf32le": (2, 0, 1),
                 "gbrapf16le": (2, 0, 1, 3), "gbrapf32le": (2, 0, 1, 3)}  # fmt: skip
_LARGEST = 65504.0  # what half precision can hold


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a stored picture is made upright: transposed, then mirrored left to right, then turned upside down."""

    transposed: bool = False
    mirrored: bool = False
    upended: bool = False

    def upright(self, picture: np.ndarray) -> np.ndarray:
        """A stored picture (h, w, …) as it is to be seen, (H, W, …)."""
        if self == UPRIGHT:
            return picture
        turned = picture.swapaxes(0, 1) if self.transposed else picture  # (h, w, …) -> (w, h, …)
        return np.ascontiguousarray(turned[:: -1 if self.upended else 1, :: -1 if self.mirrored else 1])


UPRIGHT = Orientation()


def picture_array(frame: VideoFrame, orientation: Orientation, pixels: Pixels) -> np.ndarray:
    """A decoded frame's view (`view.py`) as (H, W, 3) or (H, W, 4) uint8, upright.

    Floating-point pictures (OpenEXR) are linear light, premultiplied; they are made display values with straight alpha.
    """
    if pixels == "stored":
        return orientation.upright(stored_array(frame))
    if is_float(frame):
        light = straighten(float_array(frame))
        shown = to_whole(np.dstack([from_linear(light[..., :3]), light[..., 3:]]), 8)
        return orientation.upright(shown if pixels == "rgba" else shown[..., :3])
    return orientation.upright(view_array(frame, pixels))


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A decoded frame and how it is made upright (`clip.Picture`)."""

    frame: VideoFrame
    orientation: Orientation

    @property
    def transposed(self) -> bool:
        return self.orientation.transposed

    def array(self, pixels: Pixels) -> np.ndarray:
        return picture_array(self.frame, self.orientation, pixels)

    @property
    def samples(self) -> Samples | None:
        found = (
            Samples("rgb", 16, alpha=has_alpha(self.frame)) if is_float(self.frame) else samples_of(self.frame.format)
        )
        if found is None or not self.transposed:
            return found
        return replace(found, shift=found.shift[::-1])

    @property
    def tags(self) -> ColorTags:
        return ColorTags() if is_float(self.frame) else tags_of(self.frame)

    def planes(self) -> list[np.ndarray]:
        if is_float(self.frame):
            light = straighten(float_array(self.frame))
            shown = to_whole(np.dstack([from_linear(light[..., :3]), light[..., 3:]]), 16)
            planes = list(np.moveaxis(shown, -1, 0))[: 4 if has_alpha(self.frame) else 3]
        else:
            samples = samples_of(self.frame.format)
            planes = [] if samples is None else planes_of(self.frame, samples)
        return [self.orientation.upright(plane) for plane in planes]


def stored_array(frame: VideoFrame) -> np.ndarray:
    """A decoded frame with the numbers that are in its file, as label images need them.

    A palette's (H, W, 5) uint8: red, green, blue, alpha and the index. Grey (H, W) uint8, or uint16 beyond 8 bits.
    Anything else (H, W, 3) uint8 RGB, or (H, W, 4) with alpha. Floating-point numbers from 0 to 1 are 0 to 255; where
    all are grey and whole, as in a renderer's pass of object numbers, they are themselves, (H, W) uint16.
    """
    name, components = frame.format.name, frame.format.components
    if is_float(frame):
        numbers = _whole_numbers(frame)
        if numbers is not None:
            return numbers
        return to_whole(straighten(float_array(frame)), 8)
    if frame.format.has_palette:
        index = _plane(frame, 0, "u1")
        palette = np.frombuffer(memoryview(frame.planes[1]), np.uint8)[:1024].reshape(256, 4)  # BGRA
        return np.dstack([palette[index][..., [2, 1, 0, 3]], index])
    if name.startswith("gray"):
        values = _plane(frame, 0, "u1" if components[0].bits <= 8 else ">u2" if name.endswith("be") else "<u2")
        return values.astype(np.uint8 if components[0].bits <= 8 else np.uint16)
    if name in ("monow", "monob"):
        return converted(frame, "gray").to_ndarray()
    return converted(frame, "rgba" if has_alpha(frame) else "rgb24").to_ndarray()


def _whole_numbers(frame: VideoFrame) -> np.ndarray | None:
    """(H, W) uint16, a floating-point frame's values where all of them are grey, opaque and whole; else None."""
    light = float_array(frame)
    values = light[..., 0]
    if not (light[..., :3] == values[..., None]).all() or (light[..., 3] != 1).any():
        return None
    numbers = np.clip(values, 0, np.iinfo(np.uint16).max).astype(np.uint16)
    return numbers if (numbers == values).all() else None


def _plane(frame: VideoFrame, number: int, dtype: str) -> np.ndarray:
    """A plane as (H, W) numbers of a type."""
    plane = frame.planes[number]
    rows: np.ndarray = np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // np.dtype(dtype).itemsize)
    return rows[: plane.height, : plane.width]


def is_float(frame: VideoFrame) -> bool:
    """Whether a frame holds floating-point numbers, as OpenEXR's do."""
    return frame.format.name in _FLOAT_PLANES


def float_array(frame: VideoFrame) -> np.ndarray:
    """A floating-point frame as (H, W, 4) float32 RGBA as it is stored, alpha 1 where there is none."""
    dtype = f"<f{frame.format.components[0].bits // 8}"
    planes = [_plane(frame, number, dtype).astype(np.float32) for number in range(len(frame.planes))]
    planes = [np.nan_to_num(planes[index], posinf=_LARGEST) for index in _FLOAT_PLANES[frame.format.name]]
    return np.dstack(planes if len(planes) == 4 else [*planes, np.ones_like(planes[0])])


def orientation(frame: VideoFrame) -> Orientation:
    """What the file asks for before a frame is shown: the display matrix of a video, the EXIF orientation of a photo.

    Turns that are no quarter turns are rounded to the nearest.
    """
    from av.sidedata.sidedata import Type

    kinds: Any = Type  # PyAV's stubs take this enumeration for a dictionary
    found = side_data(frame, kinds.DISPLAYMATRIX)
    if found is None:
        return UPRIGHT
    matrix = np.frombuffer(found, np.int32).reshape(3, 3)
    # Where pixel (x, y) is shown: x' = a x + c y, y' = b x + d y, but for a shift (libavutil/display.h).
    (a, b), (c, d) = matrix[0, :2].tolist(), matrix[1, :2].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(mirrored=a < 0, upended=d < 0)
    return Orientation(transposed=True, mirrored=c < 0, upended=b < 0)


def side_data(frame: VideoFrame, kind: Any) -> Any:
    """A frame's side data of a kind (`av.sidedata.sidedata.Type`), FFmpeg's own structure; None where it has none."""
    from av.sidedata.sidedata import SideDataContainer, Type

    kinds: Any = Type  # PyAV's stubs take this enumeration for a dictionary
    # `frame.side_data` would keep this in the frame, which it refers to: frames would pile up until Python looks for
    # such circles, seldom.
    listed: Any = SideDataContainer
    try:
        return listed(frame).get(kind)
    except ValueError:
        # This PyAV lists no side data of a frame that has one of a kind newer than it, such as EXIF.
        newest = max(each.value for each in kinds)
        return listed(_without_side_data(frame, range(newest + 1, newest + 17))).get(kind)


def _without_side_data(frame: VideoFrame, kinds: Iterable[int]) -> VideoFrame:
    from av.filter import Graph

    graph = Graph()
    nodes: list[Any] = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format,
                                         time_base=frame.time_base)]  # fmt: skip
    nodes += [graph.add("sidedata", mode="delete", type=str(kind)) for kind in kinds]
    nodes += [graph.add("buffersink")]
    graph.link_nodes(*nodes).configure()
    graph.push(frame)
    return graph.vpull()


def alpha_decoder(stream: VideoStream) -> str | None:
    """The decoder that sees a stream's alpha where FFmpeg's own leaves it out; None for all other streams."""
    if stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) != "1":
        return None
    return _ALPHA_DECODERS.get(stream.codec_context.codec.canonical_name)


def has_alpha(frame: VideoFrame) -> bool:
    """Whether the decoded format can carry transparency (a palette can)."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def first_frame(path: Path, what: str = "a video") -> tuple[VideoFrame, Orientation]:
    """The first frame of a file and how it is made upright."""
    import av.error

    with open_input(path, what) as container:
        stream = video_stream(container, path)
        try:
            for frame in container.decode(stream):
                shown = orientation(frame)
                in_parts = len(container.streams.video) > 1 and (kind := picture_kind(path)) is not None and kind.still
                if in_parts and is_tiled(path):
                    return tiled_picture(path), UPRIGHT
                return whole_picture(path, container, frame) if in_parts else frame, shown
        except av.error.FFmpegError as error:
            check_machine(path, error)
            samples = unusual_tiff(path)
            if samples is not None:
                raise InputError(
                    f"{path} is a TIFF of {samples}, which layerlift does not read: save it with unsigned 8-bit or "
                    "16-bit samples (object numbers stay the same)."
                ) from error
            raise InputError(f"{path} is damaged: its first frame cannot be decoded; save it again.") from error
    check_machine(path)
    raise InputError(f"{path} contains no frame that can be decoded; give the path of {what}.")
