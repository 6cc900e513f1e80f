"""Single frames of a video, as quickly as they can be had: for looking, not for work.

They are the very frames that `Clip.frames` yields. Frames that no other refers to are skipped on the way, and frames
are decoded on several threads; damage before the frame is not looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.clip.clip import Clip, Picture
from layerlift.clip.container import open_input, video_stream
from layerlift.clip.decode import DecodedPicture, orientation
from layerlift.clip.reader import SEEKABLE, read_index
from layerlift.errors import InputError

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

# Codecs whose decoders skip what is not referred to without any difference in what is.
_SKIPPING = frozenset(["h264", "hevc"])
# Frames: what lies within so many after the last one is decoded from there, without a seek.
_NEAR = 32
_NOWHERE = -_NEAR - 1


class Jumper:
    """A decoder that stays where it was: the frame after the last one costs one frame. For one thread at a time.

    `times` are the frames' presentation times; `threads` that decode, 0 for as many as the machine has cores.
    """

    def __init__(self, path: Path, times: tuple[int, ...], threads: int = 0) -> None:
        self._path, self._times, self._threads = path, times, threads
        self._files = ExitStack()
        self._packets: Iterator[Packet] = iter(())
        self._decoded: dict[int, VideoFrame] = {}  # by their times: what came after the frame that was wanted
        self._seek: Callable[[int], Iterator[Packet]] | None = None
        self.at = _NOWHERE

    def goes_on(self, number: int) -> bool:
        """Whether a frame is near what was decoded last."""
        return self.at < number <= self.at + _NEAR

    def picture(self, number: int, between: Callable[[], object] = lambda: None) -> Picture:
        """A frame by its number; `between` is called between two packets, and may wait, or end this by an error.

        Raises InputError where the frame cannot be decoded.
        """
        import av.error

        near, self.at = self.goes_on(number), _NOWHERE  # until it is there again
        wanted = self._times[number]
        try:
            if not near:
                self._go_to(wanted)
            frame = self._frame(wanted, between)
        except av.error.FFmpegError as error:
            raise self._failed(number) from error
        if frame is None or frame.is_corrupt:
            raise self._failed(number)
        self.at = number
        return DecodedPicture(frame, orientation(frame))

    def close(self) -> None:
        """Let go of the file."""
        self._files.close()
        self._seek, self.at = None, _NOWHERE
        self._decoded.clear()

    def _go_to(self, wanted: int) -> None:
        """Stand at the last frame before `wanted` from which decoding can begin."""
        if self._seek is None:
            container = self._files.enter_context(open_input(self._path))
            stream = video_stream(container, self._path)
            stream.thread_type, stream.codec_context.thread_count = "AUTO", self._threads

            def seek(to: int) -> Iterator[Packet]:
                container.seek(to, stream=stream, backward=True)  # which empties the decoder, too
                return container.demux(stream)

            self._seek = seek
        self._decoded.clear()
        self._packets = self._seek(wanted)

    def _frame(self, wanted: int, between: Callable[[], object]) -> VideoFrame | None:
        """Decode until a frame has come."""
        while wanted not in self._decoded:
            packet = next(self._packets, None)
            if packet is None:
                return None
            between()
            # What comes after the wanted frame may be wanted next.
            early = packet.pts is not None and packet.pts < wanted
            packet.stream.codec_context.skip_frame = "NONREF" if early else "DEFAULT"
            self._decoded |= {frame.pts: frame for frame in packet.decode() if frame.pts is not None}
        self._decoded = {time: frame for time, frame in self._decoded.items() if time >= wanted}
        return self._decoded[wanted]

    def _failed(self, number: int) -> InputError:
        return InputError(f"frame {number} of {self._path} cannot be decoded; copy or export the file again.")


def jumper(clip: Clip) -> Callable[[int], Jumper] | None:
    """What makes a `Jumper` with so many threads, for a clip as `open_clip` returns it.

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
    numbers = tuple(times)
    return lambda threads: Jumper(path, numbers, threads)
