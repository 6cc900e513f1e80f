"""One frame of a video, as quickly as it can be had: for looking, not for work.

It is the very frame that `Clip.frames` yields. Frames that no other refers to are skipped on the way, and frames are
decoded on several threads; damage before the frame is not looked for.
"""

from __future__ import annotations

from collections.abc import Callable

from layerlift.clip.clip import Clip, Picture
from layerlift.clip.container import open_input, video_stream
from layerlift.clip.decode import DecodedPicture, orientation
from layerlift.clip.reader import SEEKABLE, read_index
from layerlift.errors import InputError

# Codecs whose decoders skip what is not referred to without any difference in what is.
_SKIPPING = frozenset(["h264", "hevc"])


def jumper(clip: Clip) -> Callable[[int], Picture] | None:
    """A function from a frame's number to its picture, for a clip as `open_clip` returns it.

    None where only `Clip.frames` knows the frames: of other files than single videos whose index can be trusted, of
    interlaced and damaged ones, and where frames are missing.
    """
    path = clip.path
    if path is None or not path.is_file() or clip.field_order or clip.deinterlaced or clip.damage:
        return None
    if clip.first or clip.has_alpha or clip.source_frame_count not in (None, clip.frame_count):
        return None
    with open_input(path) as container:
        stream = video_stream(container, path)
        if container.format.name.split(",")[0] not in SEEKABLE or stream.codec_context.name not in _SKIPPING:
            return None
        index = read_index(container, stream, path)
    times = index.pts
    if times is None or index.count != clip.frame_count:
        return None

    def jump(number: int) -> Picture:
        """Raises InputError where it cannot be decoded."""
        import av.error

        wanted = times[number]
        try:
            with open_input(path) as container:
                stream = video_stream(container, path)
                stream.thread_type = "AUTO"
                container.seek(wanted, stream=stream, backward=True)
                for packet in container.demux(stream):
                    own = packet.pts is None or packet.pts == wanted
                    stream.codec_context.skip_frame = "DEFAULT" if own else "NONREF"
                    for frame in packet.decode():
                        if frame.pts == wanted and not frame.is_corrupt:
                            return DecodedPicture(frame, orientation(frame))
        except av.error.FFmpegError as error:
            raise InputError(f"frame {number} of {path} cannot be decoded; copy or export the file again.") from error
        raise InputError(f"frame {number} of {path} cannot be decoded; copy or export the file again.")

    return jump
