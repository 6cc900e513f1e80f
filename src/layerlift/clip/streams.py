"""What goes with a clip's pictures into an output: sound, subtitles, covers, fonts, chapters and what is said of them.

Packets keep their bytes and their times relative to the frames. What a container cannot hold is left out, and named.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from layerlift.clip.clip import Clip
from layerlift.clip.container import is_cover, main_video, open_input
from layerlift.clip.timecode import moved_timecode

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

# What is said of a file and of a track in FFmpeg's words, and is no statement about how it was coded.
_FILE_SAYS_NOT = frozenset({"encoder", "major_brand", "minor_version", "compatible_brands", "duration", "vendor_id"})
_TRACK_SAYS = frozenset({"language", "title", "handler_name", "timecode", "creation_time", "comment"})

# Text in MP4 and MOV, and in Matroska: the same words, packed another way.
_TEXT = {"mov": ("mov_text", {"subrip"}), "mp4": ("mov_text", {"subrip"}), "matroska": ("subrip", {"mov_text"})}

# ISO 639-2 has two codes for these, and QuickTime's list of languages, as FFmpeg has it, knows the other one.
_MAC_LANGUAGES = {"deu": "ger", "fre": "fra", "nld": "dut", "ell": "gre", "isl": "ice", "zho": "chi", "swe": "sve",
                  "rum": "ron", "cze": "ces", "slo": "slk", "fas": "per", "sqi": "alb"}  # fmt: skip

# What covers are coded as, and what Matroska calls them.
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}

# What MP4's and MOV's own tags can say; for others there is a list of free names, which has no place for a cover.
_TAGS = {
    "mp4": frozenset({
        "title", "artist", "album", "album_artist", "composer", "date", "comment", "genre", "copyright", "grouping",
        "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "location", "track", "disc",
        "creation_time",
    }),
    "mov": frozenset({
        "title", "artist", "album", "comment", "date", "genre", "copyright", "make", "model", "location",
        "creation_time",
    }),
}  # fmt: skip

IMAGES = "images"  # in the place of a container: a folder of them, which holds nothing else

Way = Literal["packets", "to mov_text", "to subrip", "attachment", "cover"]


@dataclass(frozen=True, slots=True)
class Copies:
    """Which streams of a file go into a container, and how; and what is left out, in words."""

    ways: dict[int, Way]
    dropped: dict[str, list[str]]  # "sound", "subtitles" … → codecs


def plan_copies(source: InputContainer, container: str) -> Copies:
    """Decide for every stream of a file but its main video."""
    import io

    import av

    supported: set[str] = set()
    if container != IMAGES:
        with av.open(io.BytesIO(), "w", format=container) as probe:
            supported = probe.supported_codecs
    main = main_video(source)
    ways: dict[int, Way] = {}
    dropped: dict[str, list[str]] = {}
    for stream in source.streams:
        if main is not None and stream.index == main.index:
            continue
        way, kind = _way(stream, source, container, supported)
        if way == "packets" and not _takes(container, source, stream):
            way, kind = None, "sound" if stream.type == "audio" else "subtitles"
        if way is not None:
            ways[stream.index] = way
        elif kind is not None:
            dropped.setdefault(kind, []).append(codec_of(stream))
    free = free_tags(source, container)
    if free and "cover" in ways.values():
        dropped["tags"] = free
    if container == IMAGES:
        dropped |= _said_besides(source, main)
    return Copies(ways, dropped)


def _said_besides(source: InputContainer, main: VideoStream | None) -> dict[str, list[str]]:
    """Chapters and tags of a file, which images do not have."""
    said = [key for key in said_of_file(source) if key.lower() != "software"]  # what AVI calls the encoder
    said += ["timecode"] if timecode_of(source, main) else []
    chapters = len(source.chapters())
    return ({"chapters": [str(chapters)]} if chapters else {}) | ({"tags": said} if said else {})


def _takes(container: str, source: InputContainer, stream: Stream) -> bool:
    """Whether a container really takes a stream: FFmpeg lists FLAC for MOV, and refuses it when the header is written.

    It is tried with the stream's first packet, in memory: some refusals, such as of PCM whose channels have no names in
    MP4, come only with the trailer.
    """
    import io

    import av

    packet = None
    if stream.type == "audio":  # always near; subtitles may be far away
        with open_input_again(source) as again:
            sizeable = (packet for packet in again.demux(again.streams[stream.index]) if packet.size)
            packet = next(sizeable, None)
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            made = trial.add_stream_from_template(stream)
            trial.start_encoding()
            if packet is not None:
                packet.stream = made
                trial.mux_one(packet)
    except (av.FFmpegError, ValueError):
        return False
    return True


def said_of_file(source: InputContainer) -> dict[str, str]:
    """What a file says of itself, but for how it was coded; its timecode belongs to the video track."""
    left = _FILE_SAYS_NOT | {"timecode"}
    return {key: value for key, value in source.metadata.items() if key.lower() not in left}


def free_tags(source: InputContainer, container: str) -> list[str]:
    """Names of what a file says of itself that a container has no tag of its own for."""
    own = _TAGS.get(container)
    if own is None:
        return []
    return [key for key in said_of_file(source) if key.lower() not in own and not key.lower().startswith("location-")]


def wants_free_tags(like: Clip, container: str) -> bool:
    """Whether what a clip's file says of itself has to be written as a list of free names."""
    if like.path is None or container not in _TAGS:
        return False
    with open_input(like.path) as source:
        return bool(free_tags(source, container)) and "cover" not in plan_copies(source, container).ways.values()


def _way(stream: Stream, source: InputContainer, container: str, supported: set[str]) -> tuple[Way | None, str | None]:  # noqa: PLR0911
    """How a stream is copied, or what it is called among what is left out; neither for what is made anew."""
    codec = codec_of(stream)
    if stream.type == "audio":
        return ("packets", None) if codec in supported else (None, "sound")
    if stream.type == "subtitle":
        if codec in supported and codec not in _TEXT.get(container, ("", set()))[1]:
            return "packets", None
        text, sources = _TEXT.get(container, ("", set[str]()))
        if codec in sources:
            return ("to mov_text" if text == "mov_text" else "to subrip"), None
        return None, "subtitles"
    if stream.type == "video":
        cover = codec in _COVERS and is_cover(source, stream)
        if cover and container in ("mp4", "matroska"):
            return ("attachment" if container == "matroska" else "cover"), None
        return None, "cover" if cover else "another video track"
    if stream.type == "attachment":
        return ("attachment", None) if container == "matroska" else (None, "attachments")
    chapters = codec == "bin_data" and bool(source.chapters())  # QuickTime has a track for their names
    if "timecode" in stream.metadata or codec == "tmcd" or chapters:
        return None, None  # made anew from what is said of the video and the file
    return None, "data"


def timecode_of(source: InputContainer, main: VideoStream | None) -> str | None:
    """What a file says of the time of its first frame, for its video or for itself; Matroska says it in capitals."""
    said = [*(main.metadata.items() if main is not None else ()), *source.metadata.items()]
    return next((value for key, value in said if key.lower() == "timecode"), None)


def codec_of(stream: Stream) -> str:
    """FFmpeg's name of a stream's codec, or its four letters."""
    context: Any = stream.codec_context
    if context is not None:
        return str(context.codec.canonical_name)
    tag = getattr(stream, "codec_tag", "") or ""
    letters = str(tag).strip("\0 ")
    return letters if letters.isascii() and letters.isprintable() and letters else stream.name or "unknown"


def dropped_streams(like: Clip, container: str) -> dict[str, list[str]]:
    """What of a clip's file a container (FFmpeg's name) cannot hold: "sound", "subtitles" … → codecs."""
    if like.path is None:
        return {}
    with open_input(like.path) as source:
        return plan_copies(source, container).dropped


class StreamCopy:
    """The streams beside the video of a clip's file on their way into an output, as far as it can hold them.

    A cut clip gets the packets that belong to it. With `only_sound`, nothing but sound; without `sound`, all but that.
    """

    def __init__(
        self,
        source: InputContainer,
        target: OutputContainer,
        like: Clip,
        *,
        only_sound: bool = False,
        sound: bool = True,
    ) -> None:
        self._target, self._source = target, source
        container = target.format.name
        copies = plan_copies(source, "matroska" if "matroska" in container else container)
        self._ways = copies.ways
        self._streams: dict[int, Stream] = {}
        for index, way in copies.ways.items():
            stream = source.streams[index]
            if sound if stream.type == "audio" else not only_sound:
                self._add(stream, way)
        self._cut = like.source_frame_count is not None
        self._start, self._end = like.start_time, like.start_time + like.duration
        self._packets = self._wanted()
        self._waiting: deque[Packet] = deque()
        # When, in seconds of the output, the first frame is shown. Sound that precedes the frames is kept before them,
        # save an encoder's priming, which has times below zero and is not heard.
        self.video_start = Fraction(0)
        first = self._first_sound()
        if not self._cut and first is not None:
            self.video_start = max(self._start - max(_time(first), Fraction(0)), Fraction(0))
        self._shift = self._start - self.video_start
        if not only_sound:
            self._say(like)

    def copy_until(self, time: Fraction | None) -> None:
        """Write the packets that begin before `time` (seconds of the output); all that are left for None."""
        while (packet := self._peek()) is not None and (time is None or _time(packet) - self._shift < time):
            self._waiting.popleft()
            self._write(packet)

    def say_of_video(self, stream: Stream, like: Clip) -> None:
        """Give the new video stream what is said of the old one."""
        old = main_video(self._source)
        if old is None:
            return
        said = {key: value for key, value in said_of_track(old).items() if key.lower() != "timecode"}
        timecode = timecode_of(self._source, old)
        if timecode:
            offset = like.start_time - (old.start_time or 0) * (old.time_base or Fraction(0))
            said["timecode"] = moved_timecode(timecode, offset, old.average_rate or like.rate)
        stream.metadata.update(said)
        stream.disposition = old.disposition

    def _add(self, stream: Stream, way: Way) -> None:
        from av.stream import Disposition

        if way == "attachment":
            self._attach(stream)
            return
        if way in ("to mov_text", "to subrip"):
            made: Stream = self._target.add_mux_stream(way.removeprefix("to "), time_base=Fraction(1, 1000))
        else:
            made = self._target.add_stream_from_template(stream)
        made.metadata.update(said_of_track(stream))
        if self._target.format.name == "mov" and "language" in made.metadata:
            language = made.metadata["language"]
            made.metadata["language"] = _MAC_LANGUAGES.get(language, language)
        made.disposition = Disposition.attached_pic if way == "cover" else stream.disposition
        self._streams[stream.index] = made

    def _attach(self, stream: Stream) -> None:
        """A font or cover as an attachment of Matroska."""
        any_stream: Any = stream
        if stream.type == "attachment":
            name = stream.metadata.get("filename") or "attachment"
            self._target.add_attachment(name, any_stream.mimetype or "application/octet-stream", any_stream.data)
            return
        with open_input_again(self._source) as again:
            packet = next((p for p in again.demux(again.streams[stream.index]) if p.size), None)
        if packet is not None:
            self._target.add_attachment(*_COVERS[codec_of(stream)], bytes(packet))

    def _say(self, like: Clip) -> None:
        """Chapters, and what is said of the file."""
        self._target.metadata.update(said_of_file(self._source))
        chapters: list[Any] = []
        for chapter in self._source.chapters():
            base = chapter["time_base"] or Fraction(1, 1000)
            start, end = (chapter[key] * base - self._shift for key in ("start", "end"))
            last = like.duration + self.video_start
            if self._cut and (end <= 0 or start >= last):
                continue
            first, stop = max(start, Fraction(0)), min(end, last) if self._cut else end
            chapters.append(chapter | {"start": round(first / base), "end": round(stop / base), "time_base": base})
        if chapters:
            self._target.set_chapters(chapters)

    def _first_sound(self) -> Packet | None:
        """The first packet of sound, read ahead of others."""
        sounds = {stream.index for stream in self._source.streams.audio} & set(self._streams)
        if not sounds:
            return None
        for packet in self._packets:
            self._waiting.append(packet)
            if packet.stream_index in sounds:
                return packet
        return None

    def _peek(self) -> Packet | None:
        if not self._waiting:
            packet = next(self._packets, None)
            if packet is None:
                return None
            self._waiting.append(packet)
        return self._waiting[0]

    def _write(self, packet: Packet) -> None:
        from av.packet import Packet as NewPacket

        assert packet.time_base is not None
        way, made = self._ways[packet.stream_index], packet
        if way in ("to mov_text", "to subrip"):
            data = _as_mov_text(bytes(packet)) if way == "to mov_text" else _as_subrip(bytes(packet))
            if not data:
                return  # MP4 fills the time between subtitles with empty ones
            made = NewPacket(data)
            made.time_base, made.duration = packet.time_base, packet.duration
            made.pts, made.dts, made.is_keyframe = packet.pts, packet.dts, True
        ticks = round(self._shift / packet.time_base)
        if made.pts is not None:
            made.pts -= ticks
        if made.dts is not None:
            made.dts -= ticks
        made.stream = self._streams[packet.stream_index]
        self._target.mux_one(made)

    def _wanted(self) -> Iterator[Packet]:
        if not self._streams:
            return
        for packet in self._source.demux([self._source.streams[i] for i in self._streams]):
            if packet.size == 0 or packet.time_base is None:
                continue
            if self._ways[packet.stream_index] == "cover":
                packet.pts = packet.dts = round(self._start / packet.time_base)  # it may have no time
                yield packet
            elif packet.pts is not None or packet.dts is not None:
                begin = _time(packet)
                end = begin + (packet.duration or 0) * packet.time_base
                if self._cut and (end <= self._start or begin >= self._end):
                    continue
                if self._cut and self._source.streams[packet.stream_index].type == "subtitle":
                    first, last = max(begin, self._start), min(end, self._end)
                    packet.pts = packet.dts = round(first / packet.time_base)
                    packet.duration = round((last - first) / packet.time_base)
                yield packet


def open_input_again(source: InputContainer) -> Any:
    """The same file, to be read from its beginning."""
    return open_input(Path(source.name.removeprefix("file:")))


def said_of_track(stream: Stream) -> dict[str, str]:
    """What a file says of one of its tracks, but for how it was coded."""
    return {key: value for key, value in stream.metadata.items() if key.lower() in _TRACK_SAYS}


def _as_subrip(data: bytes) -> bytes:
    """ISO/IEC 14496-17's sample of timed text → its words; what styles them is left out."""
    (length,) = struct.unpack_from(">H", data) if len(data) >= 2 else (0,)
    return data[2 : 2 + length]


def _as_mov_text(data: bytes) -> bytes:
    text = data.rstrip(b"\r\n\0")
    return struct.pack(">H", len(text)) + text if len(text) < 1 << 16 else b""


def _time(packet: Packet) -> Fraction:
    ticks = packet.pts if packet.pts is not None else packet.dts
    assert ticks is not None
    assert packet.time_base is not None
    return ticks * packet.time_base
