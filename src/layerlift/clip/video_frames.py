"""A video file's packets and frames, in order; what is damaged is an error, or left out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerlift.clip.container import open_input, video_stream
from layerlift.clip.damage import damaged, not_whole
from layerlift.clip.machine import check_machine
from layerlift.clip.packet_damage import DamageCheck, strict_options
from layerlift.clip.survey import seconds_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


def video_packets(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[Packet]:
    """The stream's packets; a corrupt one, as at the end of a file that was cut short, is an InputError."""
    import av.error

    latest = None
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue  # the flush packet
            latest = seconds_of(packet, stream, latest)
            if packet.is_corrupt:
                raise damaged(path, not_whole(latest))
            yield packet
    except av.error.FFmpegError as error:
        check_machine(path, error)
        raise damaged(path, not_whole(latest)) from error


def video_frames(
    path: Path,
    seek_to: int | None,
    decoder: str | None = None,
    *,
    tolerant: bool = False,
    marked: set[int] | None = None,
    in_one_thread: bool = False,
) -> Iterator[VideoFrame]:
    """Decode a file's frames in presentation order, from the key frame at or before `seek_to` or from the start.

    With `decoder`, by the decoder of that name. What is damaged is an InputError; `tolerant` leaves out what cannot be
    decoded, and decodes in one thread, so that what is made up for damage is always the same; times of pictures that
    are not whole, or that cannot be decoded at all, go into `marked`.
    """
    import av
    import av.error

    def broken(time: int | None, seconds: float | None) -> None:
        if not tolerant:
            raise damaged(path, not_whole(seconds))
        if marked is not None and time is not None:
            marked.add(time)

    with open_input(path) as container:
        stream = video_stream(container, path)
        other: Any = av.CodecContext.create(decoder, "r") if decoder is not None else None
        strict = {} if tolerant else strict_options(path, stream.codec_context.name)
        stream.codec_context.options = dict(strict)
        if tolerant or in_one_thread:
            stream.thread_type = "NONE"
        latest = None
        try:
            if seek_to is not None:
                container.seek(seek_to, stream=stream, backward=True)
            asked = decoder is None and (marked is not None or not tolerant)
            check = DamageCheck(path, stream, strict=bool(strict)) if asked else None
            # What comes before a key frame may lack what it refers to, which a strict decoder refuses.
            for packet in dropwhile(lambda packet: bool(strict) and not packet.is_keyframe, container.demux(stream)):
                latest = seconds_of(packet, stream, latest)
                if (check is not None and check.is_damaged(packet)) or packet.is_corrupt:
                    broken(packet.pts, latest)
                try:
                    for frame in packet.decode() if other is None else other.decode(packet if packet.size else None):
                        if check is not None and check.differs(frame):
                            broken(frame.pts, seconds_of(frame, stream, latest))
                        yield frame
                except av.error.FFmpegError:
                    if not tolerant:
                        raise
                    broken(packet.pts, latest)
        except av.error.FFmpegError as error:
            if not tolerant:
                check_machine(path, error)
                if strict and not in_one_thread:
                    # Several threads say it a few packets late; one finds the place.
                    for _ in video_frames(path, seek_to, in_one_thread=True):
                        pass
                raise damaged(path, not_whole(latest)) from error
