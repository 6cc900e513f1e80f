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


def sound_codecs(like: Clip) -> set[str]:
    """Names of the codecs of a clip's sound tracks."""
    if like.path is None:
        return set()
    with open_input(like.path) as source:
        return {_codec(stream) for stream in source.streams.audio}


def refused_codecs(like: Clip, container_format: str) -> list[str]:
    """Names of the codecs of a clip's sound tracks that a container (FFmpeg's name) cannot hold."""
    import io

    import av

    names = sound_codecs(like)
    if not names:
        return []
    with av.open(io.BytesIO(), "w", format=container_format) as target:
        return sorted(names - target.supported_codecs)


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
        # When, in seconds of the output, the first frame is shown. Sound that precedes the frames is kept before them,
        # save an encoder's priming, which has times below zero and is not heard.
        self.video_start = Fraction(0)
        if not self._cut and self._next is not None:
            self.video_start = max(self._start - max(_time(self._next), Fraction(0)), Fraction(0))
        self._shift = self._start - self.video_start

    def copy_until(self, time: Fraction | None) -> None:
        """Write the packets that begin before `time` (seconds of the output); all that are left for None."""
        while self._next is not None and (time is None or _time(self._next) - self._shift < time):
            packet, self._next = self._next, next(self._packets, None)
            assert packet.time_base is not None
            ticks = round(self._shift / packet.time_base)
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
    assert ticks is not None
    assert packet.time_base is not None
    return ticks * packet.time_base
