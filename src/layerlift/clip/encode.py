"""Encoding frames into a file: H.264 or FFV1 through PyAV, or PNGs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from layerlift.clip.clip import Clip, ColorTags
from layerlift.clip.container import open_input
from layerlift.clip.opus import OpusSound
from layerlift.clip.sound import SoundCopy, refused_codecs

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Visually lossless: about 45 dB PSNR on the shared clips, well above what anyone sees.
CRF = "12"

# AVColorSpace → swscale's number for the same matrix. Matrices it does not know cannot be written.
_SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}

_UNKNOWN, _RGB = 2, 0
_LIMITED, _FULL = 1, 2


class ImageSink:
    """Numbered PNGs in a new folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder, self._count = folder, 0

    def write(self, frame: np.ndarray) -> None:
        import cv2

        order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[
            frame.ndim if frame.ndim == 2 else frame.shape[2]
        ]
        picture = frame if order is None else cv2.cvtColor(frame, order)
        done, data = cv2.imencode(".png", picture)
        if not done:
            raise RuntimeError(f"a frame of shape {frame.shape} could not be coded as PNG")
        (self._folder / f"{self._count:05d}.png").write_bytes(data.tobytes())
        self._count += 1

    def finish(self) -> None:
        """Nothing is left to do: every image was written whole."""

    def abandon(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How frames become a video stream: FFmpeg's codec, its pixel format, colour tags and options.

    `picture` makes a frame of that pixel format from an array. `metadata` is kept in the file.
    """

    codec: str
    pixel_format: str
    tags: ColorTags
    options: dict[str, str]
    picture: Callable[[np.ndarray], VideoFrame]
    metadata: dict[str, str] = field(default_factory=dict)


class VideoSink:
    """One video stream and the sound of `like` in a container: copied, or in WebM Opus."""

    def __init__(self, path: Path, container: str, like: Clip, coding: Coding, *, sound: bool) -> None:
        import av

        self._like, self._coding, self._count = like, coding, 0
        self._matroska = container == "matroska"
        self._durations: dict[int, int] = {}  # of the frames inside the encoder, by presentation time
        self._first_dts: int | None = None
        self._stack = ExitStack()
        self._output = self._stack.enter_context(av.open(str(path), "w", format=container))
        try:
            self._stream = cast("VideoStream", self._output.add_stream(coding.codec, rate=_int32(like.rate)))
            self._output.metadata.update(coding.metadata)
            self._copy: SoundCopy | OpusSound | None = None
            if sound and like.path is not None:
                kind = OpusSound if container == "webm" and refused_codecs(like, container) else SoundCopy
                self._copy = kind(self._stack.enter_context(open_input(like.path)), self._output, like)
            self._start = self._copy.video_start if self._copy is not None else Fraction(0)
            self._time_base = _time_base(like, self._start)
            self._configure(self._stream.codec_context)
            self._stream.time_base = self._time_base
        except BaseException:
            self._stack.close()
            raise

    def _configure(self, context: VideoCodecContext) -> None:
        context.width, context.height = self._like.width, self._like.height
        context.pix_fmt = self._coding.pixel_format
        context.time_base = self._time_base
        context.sample_aspect_ratio = self._like.pixel_aspect
        tags = self._coding.tags
        context.color_range = tags.range
        context.colorspace = tags.matrix
        context.color_primaries = tags.primaries
        context.color_trc = tags.transfer
        context.thread_type = "AUTO"
        context.options = dict(self._coding.options)

    def write(self, frame: np.ndarray) -> None:
        picture = self._coding.picture(frame)
        picture.time_base = self._time_base
        picture.pts, picture.duration = self._when(self._count)
        self._durations[picture.pts] = picture.duration
        self._mux(self._stream.encode(picture))
        self._count += 1
        if self._copy is not None:
            self._copy.copy_until(picture.pts * self._time_base)

    def finish(self) -> None:
        packets = self._stream.encode(None)
        self._mux(packets[:-1])
        for packet in packets[-1:]:
            self._mux_last(packet)
        if self._copy is not None:
            self._copy.copy_until(None)
        self._stack.close()

    def abandon(self) -> None:
        self._stack.close()

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            if self._first_dts is None:
                self._first_dts = packet.dts
            packet.duration = self._durations.pop(packet.pts or 0, 0)
            self._output.mux_one(packet)

    def _mux_last(self, packet: Packet) -> None:
        """The packet that is decoded last, whichever frame it holds.

        MP4 and MOV add up the steps between decoding times, so this packet has to fill what is left of the clip; a
        player stops early otherwise.
        """
        if not self._matroska and packet.dts is not None and self._first_dts is not None:
            length = round(self._like.duration / self._time_base)
            left, own = length - (packet.dts - self._first_dts), self._durations.get(packet.pts or 0, 1)
            self._durations[packet.pts or 0] = max(left, own)
        self._mux([packet])

    def _when(self, index: int) -> tuple[int, int]:
        """Presentation time and duration of a frame, in ticks of the stream."""
        like, start = self._like, round(self._start / self._time_base)
        if like.timestamps is None:
            step = round(1 / (like.rate * self._time_base))
            return start + index * step, step
        begin = like.timestamps[index]
        if index + 1 < like.frame_count:
            duration = like.timestamps[index + 1] - begin
        else:
            duration = like.last_duration or 1
        return start + begin - like.timestamps[0], duration


def clip_coding(like: Clip, first: np.ndarray, lossless: bool) -> Coding:
    """How frames like `first`, (H, W, 3), (H, W, 4) or (H, W) uint8, are coded: H.264, or FFV1 bit for bit.

    Lossless frames stay RGB, so that they read back bit for bit. Otherwise the clip's own matrix is used and kept, even
    an unknown one: a player then shows the result as it shows the clip. An RGB clip, or one with a matrix that swscale
    does not know, is written as BT.709.
    """
    from av.video.frame import VideoFrame

    tags = like.color
    if lossless:
        name = "gray" if first.ndim == 2 else "bgr0" if first.shape[2] == 3 else "bgra"
        source = {"gray": "gray", "bgr0": "rgb24", "bgra": "rgba"}[name]
        tags = ColorTags(_FULL, _UNKNOWN if name == "gray" else _RGB, tags.primaries, tags.transfer)

        def exact(frame: np.ndarray) -> VideoFrame:
            return VideoFrame.from_ndarray(frame, format=source).reformat(format=name)

        return Coding("ffv1", name, tags, {"level": "3"}, exact)

    name = "yuv420p" if like.width % 2 == 0 and like.height % 2 == 0 else "yuv444p"
    if tags.matrix not in _SWSCALE_MATRIX and tags.matrix != _UNKNOWN:
        tags = ColorTags(_LIMITED, 1, tags.primaries, tags.transfer)
    lift = _luma_lift(name, tags)

    def picture(frame: np.ndarray) -> VideoFrame:
        if frame.ndim == 2:
            frame = np.repeat(frame[..., None], 3, axis=2)  # (H, W) -> (H, W, 3)
        made = _to_yuv(frame, name, tags)
        if lift:
            luma = made.planes[0]
            values = np.frombuffer(memoryview(luma), np.uint8)
            luma.update(np.clip(values.astype(np.int16) + lift, 0, 255).astype(np.uint8).tobytes())
        return made

    return Coding("libx264", name, tags, {"crf": CRF, "preset": "medium"}, picture)


def _to_yuv(frame: np.ndarray, pixel_format: str, tags: ColorTags) -> VideoFrame:
    """(H, W, 3) uint8 RGB as a picture with the matrix and range of the tags."""
    from av.video.frame import VideoFrame
    from av.video.reformatter import Interpolation

    return VideoFrame.from_ndarray(frame, format="rgb24").reformat(
        format=pixel_format,
        dst_colorspace=_SWSCALE_MATRIX.get(tags.matrix),
        dst_color_range=tags.range or _LIMITED,
        interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP,
    )


def _luma_lift(pixel_format: str, tags: ColorTags) -> int:
    """What to add to luma so that frames read back as bright as they were given.

    swscale's fast conversion of 4:2:0 to RGB rounds down: frames as PyAV decodes them are one level too dark (on x86;
    other processors have code of their own, so it is measured here, on patches of plain colours). With this, luma comes
    out as it was in the clip: 54 dB PSNR instead of 46 for frames of the shared clips, before H.264.
    """
    patches = np.random.default_rng(0).integers(64, 192, (16, 16, 3), dtype=np.uint8)
    frame = patches.repeat(8, axis=0).repeat(8, axis=1)
    back = _to_yuv(frame, pixel_format, tags).to_ndarray(format="rgb24")
    error = float(np.mean((back.astype(np.float64) - frame) @ (0.2126, 0.7152, 0.0722)))  # BT.709 luma
    return -round(error * (1 if tags.range == _FULL else 219 / 255))


def _time_base(like: Clip, start: Fraction) -> Fraction:
    """The stream's tick: the clip's own, one frame, or where sound comes first a fine fraction of a frame."""
    if like.time_base is not None and like.timestamps is not None:
        return like.time_base
    if start == 0:
        return 1 / like.rate
    return 1 / (like.rate * -(-90000 // max(int(like.rate), 1)))  # 11 microseconds or less: no one hears that


def _int32(rate: Fraction) -> Fraction:
    """FFmpeg's rationals have 32 bits; only rates made from odd timestamps need rounding."""
    return rate if max(rate.numerator, rate.denominator) < 1 << 31 else rate.limit_denominator(1 << 20)
