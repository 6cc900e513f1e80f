"""Single frames of a video, as quickly as they can be had: for looking, not for work.

They are the very frames that `Clip.frames` yields. Frames that no other refers to are skipped on the way, and frames
are decoded on several threads; damage before the frame is not looked for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.clip.clip import Clip, Picture
from layerlift.clip.container import open_input, video_stream
from layerlift.clip.decode import DecodedPicture, orientation
from layerlift.clip.reader import SEEKABLE, read_index
from layerlift.clip.timing import Index
from layerlift.errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

# Codecs whose decoders skip what is not referred to without any difference in what is.
_SKIPPING = frozenset(["h264", "hevc"])
# Frames: what lies within so many after the last one is decoded from there, even where a key frame is nearer.
_NEAR = 32
_NOWHERE = -_NEAR - 1


class Jumper:
    """A decoder that stays where it was: the frame after the last one costs one frame. For one thread at a time.

    `path` is the file, `index` says when its frames are shown, `threads` decode. The file is open from the beginning;
    `opened` is the file where it is open already, with what closes it.
    """

    def __init__(
        self, path: Path, index: Index, threads: int, opened: tuple[InputContainer, ExitStack] | None = None
    ) -> None:
        self.path, self.index, self.threads = path, index, threads
        self._times = index.pts or ()
        if opened is None:
            files = ExitStack()
            opened = files.enter_context(open_input(path)), files
        self.container, self._files = opened
        self._stream = video_stream(self.container, path)
        self._stream.thread_type, self._stream.codec_context.thread_count = "AUTO", threads
        self._packets: Iterator[Packet] = iter(())
        self._decoded: dict[int, VideoFrame] = {}  # by their times: what came after the frame that was wanted
        self.at, self.unused = _NOWHERE, True

    def another(self) -> Jumper:
        """One more decoder of the same file."""
        return Jumper(self.path, self.index, self.threads)

    def goes_on(self, number: int) -> bool:
        """Whether a frame is decoded from where the last one was."""
        return self.group(number)[0] <= self.at < number or self.at < number <= self.at + _NEAR

    def group(self, number: int) -> tuple[int, int]:
        """The key frame that a frame is decoded from, and the next one, or the number of all frames."""
        times, keys = self._times, self.index.keys
        after = bisect_right(keys, times[number])
        if not after:  # the file does not say which are key frames
            return number, number + 1
        return bisect_left(times, keys[after - 1]), bisect_left(times, keys[after]) if keys[after:] else len(times)

    def picture(self, number: int, between: Callable[[], object] = lambda: None) -> Picture:
        """A frame by its number; `between` is called between two packets, and may wait, or end this by an error.

        Raises InputError where the frame cannot be decoded.
        """
        import av.error

        near, self.at = self.goes_on(number), _NOWHERE  # until it is there again
        self.unused = False
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
        self._decoded.clear()
        self._files.close()

    def _go_to(self, wanted: int) -> None:
        """Stand at the last frame before `wanted` from which decoding can begin."""
        self._decoded.clear()
        self.container.seek(wanted, stream=self._stream, backward=True)  # which empties the decoder, too
        self._packets = self.container.demux(self._stream)

    def _frame(self, wanted: int, between: Callable[[], object]) -> VideoFrame | None:
        """Decode until a frame has come."""
        while wanted not in self._decoded:
            packet = next(self._packets, None)
            if packet is None:
                return None
            between()
            # What comes after the wanted frame may be wanted next.
            early = packet.pts is not None and packet.pts < wanted
            self._stream.codec_context.skip_frame = "NONREF" if early else "DEFAULT"
            came = {frame.pts: frame for frame in packet.decode() if frame.pts is not None}
            # Earlier ones are let go of at once: a decoder never gives back the most memory that its frames took.
            self._decoded = {time: frame for time, frame in (self._decoded | came).items() if time >= wanted}
        return self._decoded[wanted]

    def _failed(self, number: int) -> InputError:
        return InputError(f"frame {number} of {self.path} cannot be decoded; copy or export the file again.")


def jumper(clip: Clip, threads: int) -> Jumper | None:
    """A `Jumper` of a clip as `open_clip` returns it.

    None where only `Clip.frames` knows the frames: of other files than single videos whose index can be trusted, of
    interlaced and damaged ones, and where frames are missing.
    """
    path = clip.path
    if path is None or not path.is_file() or clip.field_order or clip.deinterlaced or clip.damage:
        return None
    if clip.first or clip.has_alpha or clip.source_frame_count not in (None, clip.frame_count):
        return None
    with ExitStack() as files:
        container = files.enter_context(open_input(path))
        stream = video_stream(container, path)
        if container.format.name.split(",")[0] not in SEEKABLE or stream.codec_context.name not in _SKIPPING:
            return None
        index = read_index(container, stream, path)
        if index.pts is None or index.count != clip.frame_count:
            return None
        return Jumper(path, index, threads, (container, files.pop_all()))
