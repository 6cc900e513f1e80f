"""Where samples of chroma lie among the pixels that they cover: read, turned with the picture, and said in an output.

A place is (across, down) in halves of a pixel from the first pixel that a sample covers: 0 on it, 1 between it and the
second, 2 on the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerlift.clip.ebml import written_chroma

if TYPE_CHECKING:
    from av.video.stream import VideoStream

    from layerlift.clip.clip import Clip
    from layerlift.clip.decode import Orientation
    from layerlift.clip.samples import Samples

Place = tuple[int, int]

# FFmpeg's names (AVChromaLocation). What is left out has no name: the right column.
_NAMES: dict[Place, str] = {(0, 1): "left", (1, 1): "center", (0, 0): "topleft", (1, 0): "top", (0, 2): "bottomleft",
                            (1, 2): "bottom"}  # fmt: skip
_ACROSS, _DOWN = ("left", "center", "right"), ("top", "middle", "bottom")
# Codecs that Matroska does not take, and that have but one place.
_ALWAYS: dict[str, Place] = {"dvvideo": (0, 0)}
_AV1: dict[int, Place] = {1: (0, 1), 2: (0, 0)}  # its chroma_sample_position
# Encoders whose stream can say it, for 4:2:0.
_SAYING = frozenset({"libx264", "libx265"})


def chroma_place(stream: VideoStream) -> Place | None:
    """Where a file says that its chroma lies; None where it says nothing.

    PyAV does not tell, but FFmpeg's writer of Matroska is told with the rest of a stream: it writes a header in memory.
    It has no words for chroma on the second row, and those clips count as if they said nothing.
    """
    import io

    import av

    codec, said = stream.codec_context.codec.canonical_name, stream.codec_context.extradata or b""
    if codec in _ALWAYS:
        return _ALWAYS[codec]
    if codec == "av1":  # which FFmpeg does not look at before it decodes: the record of AV1 in ISO BMFF and Matroska
        return _AV1.get(said[2] & 3) if len(said) > 2 else None
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska") as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):  # a codec that Matroska does not take
        return None
    return written_chroma(file)


def upright_place(place: Place | None, shown: Orientation) -> Place | None:
    """The place in a picture that was made upright."""
    if place is None:
        return None
    across, down = reversed(place) if shown.transposed else place
    return 2 - across if shown.mirrored else across, 2 - down if shown.upended else down


def place_in(like: Clip, target: Samples) -> Place | None:
    """Where the chroma of a clip lies once it is made samples of another kind (`samples.convert`); None if unknown.

    Chroma that is made of more chroma is the mean of what it covers, and lies in the middle of it.
    """
    own = like.samples
    if target.model != "yuv" or target.shift == (0, 0) or own is None or own.model == "gray":
        return None
    before = (0, 0) if own.model == "rgb" else own.shift
    known = like.chroma_place
    if before[0] == target.shift[0]:
        across = None if known is None else known[0]
    else:
        across = 1 if before[0] == 0 else None
    if across is None:
        return None
    if target.shift[1] == 0 or before[1] == 0 or known is None:
        return across, 1
    return across, known[1]


def encoder_option(place: Place | None) -> dict[str, str]:
    """FFmpeg's option for an encoder."""
    return {"chroma_sample_location": _NAMES[place]} if place in _NAMES else {}


def is_kept(place: Place | None, codec: str, ending: str) -> bool:
    """Whether an encoder, or the container of an ending, says where chroma lies."""
    if place is None:
        return True
    if codec in _SAYING:
        return place in _NAMES
    if ending in (".mkv", ".webm"):
        return place[0] < 2 and place[1] < 2
    return place[0] == 0  # ProRes is 4:2:2 here, where all do without a word


def place_name(place: Place) -> str:
    """A place in words, as FFmpeg has them, and for those that it has none for."""
    return _NAMES.get(place) or f"{_ACROSS[place[0]]}, {_DOWN[place[1]]}"
