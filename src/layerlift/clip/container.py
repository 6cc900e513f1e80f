"""Opening a file with FFmpeg, safely: one local file and nothing it points at."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from layerlift.clip.damage import is_cut_short
from layerlift.clip.machine import check_machine
from layerlift.clip.stills import picture_kind
from layerlift.errors import InputError
from layerlift.limits import MAX_PIXELS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

# Demuxers that open further files, devices or addresses named inside (or by the name of) the file they are given.
_POINTING_ELSEWHERE = frozenset({
    "hls", "applehttp", "concat", "concatf", "dash", "imf", "image2", "image2pipe", "webm_dash_manifest", "rtsp", "rtp",
    "sdp", "sap", "lavfi", "avisynth", "vapoursynth", "dvdvideo", "bluray", "vobsub", "x11grab", "xcbgrab", "kmsgrab",
    "fbdev", "v4l2", "video4linux2", "alsa", "oss", "jack", "pulse", "sndio", "avfoundation", "dshow", "gdigrab",
    "vfwcap", "decklink", "libcdio", "iec61883", "android_camera", "openal", "caca", "sdl", "sdl2", "tty",
})  # fmt: skip


@cache
def _demuxers() -> str:
    import av

    return ",".join(sorted(av.formats_available - _POINTING_ELSEWHERE))


@contextmanager
def open_input(path: Path, what: str = "a video") -> Iterator[InputContainer]:
    """Open a local file for demuxing; `what` names the expected thing in error messages.

    The format is decided by what is in the file. Raises InputError when there is no such file or FFmpeg cannot read it.
    FFmpeg may open nothing but this file, so a playlist (.m3u8, concat script …) is refused, whatever its ending.
    """
    import av.error

    check_file(path, what)
    with ExitStack() as files:
        try:
            container = files.enter_context(_open(path, files))
        except (av.error.FFmpegError, ValueError) as error:
            check_machine(path, error)
            if is_cut_short(path):
                raise InputError(
                    f"{path} is cut short and has lost its index (MP4 and MOV may keep it at the end), so nothing can "
                    "be decoded; copy or export the file again."
                ) from error
            raise InputError(
                f"{path} cannot be read as {what} ({_reason(error)}); give a file that FFmpeg can decode on its own."
            ) from error
        yield container


def check_file(path: Path, what: str = "a video") -> None:
    """Raises InputError unless `path` is a file that holds something, OSError where the system lets nobody read it."""
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist; give the path of {what}.")
        if not path.is_file():
            raise InputError(f"{path} is not a file; give the path of {what}.")
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path} is empty (0 bytes); give the path of {what}.")
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            error.filename = str(path)
            raise
        raise InputError(f"{path} cannot be opened ({_reason(error)}); give the path of {what}.") from error


def _open(path: Path, files: ExitStack) -> InputContainer:
    """Open a file by the demuxer that its content asks for; `files` closes what FFmpeg does not.

    Where FFmpeg's own guess ends at a demuxer that is not allowed because of the file's name (`image2` takes every .jpg
    and every %03d), it guesses once more without the name.
    """
    import av
    import av.error

    options = {"protocol_whitelist": "file", "format_whitelist": _demuxers()}
    kind = picture_kind(path)
    # The prefix keeps FFmpeg from taking a name with a colon for an address.
    address = f"file:{path.absolute()}"
    if kind is not None:
        return av.open(address, "r", format=kind.demuxer, options=options)
    try:
        return av.open(address, "r", options=options)
    except av.error.ArgumentError as refused:
        try:
            return av.open(_Nameless(files.enter_context(path.open("rb"))), "r", options=options)
        except av.error.FFmpegError:
            raise refused from None


class _Nameless:
    """A file for FFmpeg to read that does not know what it is called."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The stream of moving pictures that is meant (`main_video`), its size checked before anything is decoded."""
    stream = main_video(container)
    if stream is None:
        raise InputError(f"{path} has no video stream; give a video file.")
    context = stream.codec_context
    if context is None:
        raise InputError(f"{path} contains video that this FFmpeg cannot decode; convert it to H.264 first.")
    if context.width * context.height > MAX_PIXELS:
        raise InputError(
            f"{path} declares frames of {context.width}x{context.height} pixels, more than layerlift's limit of "
            f"{MAX_PIXELS} pixels; scale it down first."
        )
    # With a thread for each frame FFmpeg's H.264 decoder says that a picture is damaged only now and then: it hands the
    # picture on before it knows.
    stream.thread_type = "SLICE" if stream.codec_context.name == "h264" else "AUTO"
    return stream


def main_video(container: InputContainer) -> VideoStream | None:
    """Of several video streams the moving one that is the default, or the longest; covers are none."""
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if len(streams) < 2:
        return streams[0] if streams else None
    lengths = _lengths_of(container)
    moving = [s for s in streams if lengths[s.index][0] > 1] or streams
    default = [s for s in moving if s.disposition & Disposition.default] or moving
    return max(default, key=lambda s: lengths[s.index][1])


def is_cover(container: InputContainer, stream: Stream) -> bool:
    """Whether a video stream is one picture, said to be a cover or not."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic) or _lengths_of(container)[stream.index][0] == 1


def _lengths_of(container: InputContainer) -> dict[int, tuple[int, float]]:
    """Packets and seconds of every video stream."""
    path = Path(container.name.removeprefix("file:"))
    if not path.is_file():  # read without a name
        return {stream.index: (stream.frames, 0.0) for stream in container.streams.video}
    return _lengths(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _lengths(path: Path, changed: int) -> dict[int, tuple[int, float]]:
    import av

    ends: dict[int, tuple[int, float]] = {}
    with av.open(f"file:{path}", "r", options={"protocol_whitelist": "file", "format_whitelist": _demuxers()}) as file:
        for stream in file.streams.video:
            ends[stream.index] = (0, 0.0)
        for packet in file.demux(list(file.streams.video)):
            if packet.size and packet.pts is not None:
                count, end = ends[packet.stream_index]
                ends[packet.stream_index] = count + 1, max(end, float(packet.pts * (packet.time_base or 0)))
    return ends


def _reason(error: Exception) -> str:
    import av.error

    if isinstance(error, av.error.ArgumentError):  # what FFmpeg says of a demuxer that is not on our list
        return "it is a playlist, or in a format that layerlift does not open"
    text = getattr(error, "strerror", None) or str(error)
    return str(text).split(";")[0].strip().rstrip(".").lower()
