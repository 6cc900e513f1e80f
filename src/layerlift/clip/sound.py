"""Copying the packets of a clip's sound, unchanged, beside new frames."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from layerlift.clip.clip import Clip
from layerlift.clip.container import open_input

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream


def refused_codecs(like: Clip, container_format: str) -> list[str]:
    """Names of the sound codecs of a clip that a container cannot hold."""
    import io

    import av

    if like.path is None:
        return []
    with open_input(like.path) as source:
        names = [_codec(stream) for stream in source.streams.audio]
    if not names:
        return []
    with av.open(io.BytesIO(), "w", format=container_format) as target:
        supported = target.supported_codecs
    return sorted({name for name in names if name not in supported})


class SoundCopy:
    """The sound tracks of a clip's file on their way into an output, as far as its container can hold them.

    Packets keep their bytes and their times relative to the frames. A cut clip gets the packets that sound during it.
    """

    def __init__(self, source: InputContainer, target: OutputContainer, like: Clip) -> None:
        supported = target.supported_codecs
        self._target = target
        self._streams: dict[int, Stream] = {
            stream.index: target.add_stream_from_template(stream)
            for stream in source.streams.audio
            if _codec(stream) in supported
        }
        self._cut = like.source_frame_count is not None
        self._start, self._end = like.start_time, like.start_time + like.duration
        self._source = source
        self._packets = self._wanted()
        self._next = next(self._packets, None)

    @property
    def video_start(self) -> Fraction:
        """When, in seconds of the output, the first frame is shown: sound that precedes the frames comes first."""
        if self._cut or self._next is None:
            return Fraction(0)
        # Times below zero are an encoder's priming, which is not heard.
        return max(self._start - max(_time(self._next), Fraction(0)), Fraction(0))

    def copy_until(self, time: Fraction | None) -> None:
        """Write the packets that begin before `time` (seconds of the output); all that are left for None."""
        shift = self._start - self.video_start if time is not None or self._next is not None else Fraction(0)
        while self._next is not None and (time is None or _time(self._next) - shift < time):
            packet, self._next = self._next, next(self._packets, None)
            assert packet.time_base is not None
            ticks = round(shift / packet.time_base)
            if packet.pts is not None:
                packet.pts -= ticks
            if packet.dts is not None:
                packet.dts -= ticks
            packet.stream = self._streams[packet.stream_index]
            self._target.mux_one(packet)

    def _wanted(self) -> Iterator[Packet]:
        if not self._streams:
            return
        for packet in self._source.demux([self._source.streams[i] for i in self._streams]):
            if packet.size == 0 or packet.time_base is None or (packet.pts is None and packet.dts is None):
                continue
            begin = _time(packet)
            end = begin + (packet.duration or 0) * packet.time_base
            if self._cut and (end <= self._start or begin >= self._end):
                continue
            yield packet


def _codec(stream: AudioStream) -> str:
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else "unknown"


def _time(packet: Packet) -> Fraction:
    ticks = packet.pts if packet.pts is not None else packet.dts
    assert ticks is not None and packet.time_base is not None
    return ticks * packet.time_base
