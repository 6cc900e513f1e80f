"""Opening a file with FFmpeg, safely: one local file and nothing it points at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Demuxers that open further files, devices or addresses named inside (or by the name of) the file they are given.
_POINTING_ELSEWHERE = frozenset({
    "hls", "applehttp", "concat", "concatf", "dash", "imf", "image2", "image2pipe", "webm_dash_manifest", "rtsp", "rtp",
    "sdp", "sap", "lavfi", "avisynth", "vapoursynth", "dvdvideo", "bluray", "vobsub", "x11grab", "xcbgrab", "kmsgrab",
    "fbdev", "v4l2", "video4linux2", "alsa", "oss", "jack", "pulse", "sndio", "avfoundation", "dshow", "gdigrab",
    "vfwcap", "decklink", "libcdio", "iec61883", "android_camera", "openal", "caca", "sdl", "sdl2", "tty",
})  # fmt: skip

# Twice the pixels of an 8K frame: beyond it a header is more likely to lie than to tell of a video one can process.
MAX_PIXELS = 2 * 7680 * 4320


@cache
def _demuxers() -> str:
    import av

    return ",".join(sorted(av.formats_available - _POINTING_ELSEWHERE))


@contextmanager
def open_input(path: Path, what: str = "a video") -> Iterator[InputContainer]:
    """Open a local file for demuxing; `what` names the expected thing in error messages.

    Raises InputError when there is no such file or FFmpeg cannot read it. FFmpeg may open nothing but this file, so a
    playlist (.m3u8, concat script …) is refused, whatever its ending.
    """
    import av
    import av.error

    if not path.exists():
        raise InputError(f"{path} does not exist; give the path of {what}.")
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the path of {what}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); give the path of {what}.")
    options = {"protocol_whitelist": "file", "format_whitelist": _demuxers()}
    try:
        # The prefix keeps FFmpeg from taking a name with a colon for an address.
        container = av.open(f"file:{path.absolute()}", "r", format=_format(path), options=options)
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as {what} ({_reason(error)}); give a file that FFmpeg can decode by itself."
        ) from error
    with container:
        yield container


def _format(path: Path) -> str | None:
    """The demuxer of a JPEG; None lets FFmpeg find it, which takes all but tiny JPEGs for a numbered sequence."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return None
    with path.open("rb") as file:
        return "jpeg_pipe" if file.read(3) == b"\xff\xd8\xff" else None


def video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first stream of moving pictures (cover art is none), its frame size checked before anything is decoded."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        context = stream.codec_context
        if context is None:
            raise InputError(f"{path} holds video that this FFmpeg cannot decode; convert it to H.264 first.")
        if context.width * context.height > MAX_PIXELS:
            raise InputError(
                f"{path} declares frames of {context.width}x{context.height} pixels, more than the {MAX_PIXELS} pixels "
                "layerlift reads; scale it down first."
            )
        stream.thread_type = "AUTO"
        return stream
    raise InputError(f"{path} has no video stream; give a file with moving pictures.")


def _reason(error: Exception) -> str:
    import av.error

    if isinstance(error, av.error.ArgumentError):  # what FFmpeg says of a demuxer that is not on our list
        return "it is a playlist, or of a kind that layerlift does not open"
    text = getattr(error, "strerror", None) or str(error)
    return str(text).split(";")[0].strip().rstrip(".").lower()
