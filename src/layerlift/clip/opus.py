"""Sound for WebM, which holds Opus and Vorbis only: decoded, cut to the frames and coded as Opus."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from layerlift.clip.clip import Clip
from layerlift.clip.streams import said_of_track

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

RATE = 48000  # Opus' own
BIT_RATE = 128_000  # transparent for stereo
CHUNK = 960  # samples in one of Opus' packets: 20 ms


class OpusSound:
    """A clip's sound track of a number on its way into an output as Opus; times are relative to the first frame.

    What sounds before the first frame is left out, and for a cut clip what sounds after its last.
    """

    def __init__(self, source: InputContainer, target: OutputContainer, like: Clip, number: int = 0) -> None:
        self._source, self._target, self._like = source, target, like
        self._track: AudioStream = source.streams.audio[number]
        self._layout = "mono" if self._track.codec_context.layout.nb_channels == 1 else "stereo"
        self._stream = target.add_stream("libopus", rate=RATE)
        self._stream.metadata.update(said_of_track(self._track))
        self._stream.disposition = self._track.disposition
        context = self._stream.codec_context
        context.layout, context.format, context.bit_rate = self._layout, "s16", BIT_RATE
        self._packets = self._encoded()
        self._next = next(self._packets, None)

    def copy_until(self, time: Fraction | None) -> None:
        """Write the packets that begin before `time` (seconds of the output); all that are left for None."""
        while self._next is not None:
            packet = self._next
            if time is not None and (packet.pts or 0) * (packet.time_base or 0) >= time:
                return
            self._target.mux_one(packet)
            self._next = next(self._packets, None)

    def _encoded(self) -> Iterator[Packet]:
        from av.audio.fifo import AudioFifo

        fifo = AudioFifo()
        begin: int | None = None  # PyAV's queue counts its samples from 0

        def timed(chunk: AudioFrame) -> AudioFrame:
            chunk.pts = (chunk.pts or 0) + (begin or 0)
            return chunk

        for frame in self._wanted():
            begin = frame.pts or 0 if begin is None else begin
            frame.pts = (frame.pts or 0) - begin
            fifo.write(frame)
            for chunk in fifo.read_many(CHUNK):
                yield from self._stream.encode(timed(chunk))
        rest = fifo.read(0, partial=True)
        if rest is not None:
            yield from self._stream.encode(timed(rest))
        yield from self._stream.encode(None)

    def _wanted(self) -> Iterator[AudioFrame]:
        """The samples that belong to the frames, numbered from the first frame's time."""
        from av.audio.frame import AudioFrame
        from av.audio.resampler import AudioResampler

        resampler = AudioResampler(format="s16", layout=self._layout, rate=RATE)
        channels = 1 if self._layout == "mono" else 2
        at: int | None = None  # of the next sample
        end = round(self._like.duration * RATE) if self._like.source_frame_count is not None else None
        for decoded in self._source.decode(self._track):
            if at is None:
                begin = (decoded.pts or 0) * (decoded.time_base or Fraction(1, RATE))
                at = round((begin - self._like.start_time) * RATE)
            for part in resampler.resample(decoded):
                samples = part.to_ndarray().reshape(-1, channels)  # (n, channels)
                first, at = at, at + len(samples)
                samples = samples[max(0, -first) : None if end is None else max(0, end - first)]
                if len(samples) == 0:
                    continue
                packed = np.ascontiguousarray(samples, np.int16).reshape(1, -1)
                made = AudioFrame.from_ndarray(packed, "s16", self._layout)
                made.sample_rate, made.pts, made.time_base = RATE, max(first, 0), Fraction(1, RATE)
                yield made
