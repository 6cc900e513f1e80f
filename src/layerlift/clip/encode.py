"""Encoding frames into a file through PyAV, or into PNGs."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from layerlift.clip.chroma import encoder_option
from layerlift.clip.clip import Clip
from layerlift.clip.coding import Coding, image_samples
from layerlift.clip.container import open_input
from layerlift.clip.ebml import PLACEHOLDER_TURN, set_pixel_shape
from layerlift.clip.fields import flagged, woven_timing
from layerlift.clip.opus import OpusSound
from layerlift.clip.recompose import Recomposer
from layerlift.clip.samples import UNKNOWN
from layerlift.clip.sound import refused_codecs
from layerlift.clip.streams import StreamCopy, wants_free_tags
from layerlift.exhausted import is_the_machine

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream


class ImageSink:
    """Numbered PNGs in an empty folder, of 8 bits, or of 16 for a clip of more."""

    def __init__(self, folder: Path, like: Clip, *, alpha: bool) -> None:
        self._folder, self._count = folder, 0
        self._recomposer = Recomposer(like, samples := image_samples(like, alpha), like.color)
        self._plain = not (samples.deep or alpha)

    def write(self, frame: np.ndarray) -> None:
        import cv2

        if self._plain:
            picture = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        else:
            red, green, blue, *alpha = self._recomposer.planes(frame)
            picture = cv2.merge([blue, green, red, *alpha])
        done, data = cv2.imencode(".png", picture)
        if not done:
            raise RuntimeError(f"a frame of shape {frame.shape} could not be coded as PNG")
        (self._folder / f"{self._count:05d}.png").write_bytes(data.tobytes())
        self._count += 1

    def finish(self) -> None:
        """Nothing is left to do: every image was written whole."""

    def abandon(self) -> None:
        """Nothing is held open."""


class VideoSink:
    """One video stream and what goes with `like` in a container: copied, or in WebM sound as Opus."""

    def __init__(self, path: Path, container: str, like: Clip, coding: Coding, *, sound: bool) -> None:
        import av

        like = woven_timing(like) if coding.fields is not None else like
        self._like, self._coding, self._count = like, coding, 0
        self._path, self._webm = path, container == "webm"
        self._matroska = container == "matroska"
        self._shaped = like.pixel_aspect if (self._matroska or self._webm) and like.pixel_aspect != 1 else None
        self._durations: dict[int, int] = {}  # of the frames inside the encoder, by presentation time
        self._first_dts: int | None = None
        self._stack = ExitStack()
        # Without "bitexact" Matroska files get a random id, and no two are alike.
        options = {"fflags": "+bitexact"}
        if container in ("matroska", "webm"):
            options["default_mode"] = "passthrough"  # a track is the default where the clip's is
        if container in ("mp4", "mov"):
            # Colour tags where every reader finds them, not in the codec alone.
            tagged = UNKNOWN not in (coding.tags.matrix, coding.tags.primaries)
            free = sound and wants_free_tags(like, container)
            if tagged or free:
                options["movflags"] = ("+write_colr" if tagged else "") + ("+use_metadata_tags" if free else "")
        self._output = self._stack.enter_context(av.open(str(path), "w", format=container, options=options))
        try:
            self._stream = cast("VideoStream", self._output.add_stream(coding.codec, rate=_int32(like.rate)))
            self._copies: list[StreamCopy | OpusSound] = []
            self._start = Fraction(0)
            if sound and like.path is not None:
                recoded = container == "webm" and bool(refused_codecs(like, container))
                source = self._stack.enter_context(open_input(like.path))
                copy = StreamCopy(source, self._output, like, sound=not recoded)
                copy.say_of_video(self._stream, like)
                self._start, self._copies = copy.video_start, [copy]
                for number in range(len(source.streams.audio) if recoded else 0):
                    again = self._stack.enter_context(open_input(like.path))
                    self._copies.append(OpusSound(again, self._output, like, number))
            self._output.metadata.update(coding.metadata)
            self._time_base = _time_base(like, self._start)
            self._configure(self._stream.codec_context)
            self._stream.time_base = self._time_base
            if self._shaped is not None:
                self._stream.set_display_rotation(PLACEHOLDER_TURN)
        except BaseException:
            self._stack.close()
            raise

    def begin(self) -> None:
        """Open the encoder and write the file's header. Raises FFmpeg's error where one of them refuses the clip."""
        self._output.start_encoding()

    def _configure(self, context: VideoCodecContext) -> None:
        from av.codec.context import Flags

        context.width, context.height = self._like.width, self._like.height
        context.pix_fmt = self._coding.pixel_format
        if self._coding.tag is not None:
            context.codec_tag = self._coding.tag
        context.time_base = self._time_base
        context.sample_aspect_ratio = self._like.pixel_aspect
        tags = self._coding.tags
        context.color_range = tags.range
        context.colorspace = tags.matrix
        context.color_primaries = tags.primaries
        context.color_trc = tags.transfer
        context.thread_type = "AUTO"
        if self._coding.fields is not None:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
            context.field_order = {"top": 2, "bottom": 3}[self._coding.fields]  # AVFieldOrder
        context.options = self._coding.options | encoder_option(self._coding.chroma)

    def write(self, frame: np.ndarray) -> None:
        picture = self._coding.picture(frame)
        if picture is None:
            return
        if self._coding.fields is not None:
            picture = flagged(picture, self._coding.fields)
        picture.time_base = self._time_base
        tags = self._coding.tags  # ProRes keeps those of every frame
        picture.color_range, picture.colorspace = tags.range, tags.matrix
        picture.color_primaries, picture.color_trc = tags.primaries, tags.transfer
        picture.pts, picture.duration = self._when(self._count)
        self._durations[picture.pts] = picture.duration
        self._mux(self._stream.encode(picture))
        self._count += 1
        for copy in self._copies:
            copy.copy_until(picture.pts * self._time_base)

    def finish(self) -> None:
        packets = self._stream.encode(None)
        self._mux(packets[:-1])
        for packet in packets[-1:]:
            self._mux_last(packet)
        for copy in self._copies:
            copy.copy_until(None)
        self._stack.close()
        if self._shaped is not None:
            set_pixel_shape(self._path, self._shaped, webm=self._webm)

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


def takes_size(like: Clip, container: str, coding: Coding) -> bool:
    """Whether the encoder and the container (FFmpeg's name) take a clip's size: both are begun, into nothing."""
    return _begins(like, container, coding) or not _begins(replace(like, width=64, height=64), container, coding)


def _begins(like: Clip, container: str, coding: Coding) -> bool:
    import av

    sink = VideoSink(Path(os.devnull), container, like, coding, sound=False)
    try:
        sink.begin()
    except av.FFmpegError as error:
        if is_the_machine(error):
            raise
        return False
    finally:
        sink.abandon()
    return True


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
