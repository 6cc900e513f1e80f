"""What is left of a file that may be damaged: its frames, what of them is not whole, and what is missing, in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.clip.container import open_input, video_stream
from layerlift.clip.damage import frames_named, is_cut_short, moments_named, not_as_checked
from layerlift.clip.machine import check_machine
from layerlift.clip.timing import Index, index_of

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True, slots=True)
class Survey:
    """What can be decoded of a file.

    Attributes:
        index: the frames that can.
        broken: numbers of those that are not whole.
        unseen: seconds from the first frame of what is there, but gives no frame.
        expected: frames that the file says it has, 0 where it does not.
        unlike: seconds at which parts begin that do not have their checksums.
        cut: where a file ends that was cut short, " at 1.25 s of 3.00 s"; empty for one that was not.
    """

    index: Index
    broken: list[int]
    unseen: list[float]
    expected: int
    unlike: list[float]
    cut: str

    @property
    def is_damaged(self) -> bool:
        return bool(self.cut or self.unseen or self.expected > self.index.count)

    def words(self, path: Path, count: int, gone: list[int]) -> str | None:
        """What was lost of a clip of `count` frames, `gone` among them, where others stand in; None for nothing."""
        lost = max(self.expected - count, 0) + len(gone)
        parts = []
        if lost:
            instead = f" (the frame before is shown in place of {frames_named(gone)})" if gone else ""
            parts.append(f"{lost} of {max(self.expected, count)} frames are lost{instead}")
        elif self.unseen:
            parts.append(f"the picture due at {moments_named(self.unseen)} is lost")
        if self.broken:
            parts.append(f"{frames_named(self.broken)} could not be fully decoded")
        if self.unlike:
            parts.append(not_as_checked(self.unlike))
        what = f"cut short{self.cut}" if self.cut else "damaged"
        if not parts:
            return f"{path} is {what}." if self.cut else None
        return f"{path} is {what}: {', and '.join(parts)}."


def survey(
    path: Path, decode: Callable[[set[int]], Iterator[VideoFrame]], expected: int, unlike: list[float]
) -> Survey:
    """Decode all that can be; `decode` gives the frames and puts times of packets that are not whole into its set.

    Raises OSError where it is the disk that fails.
    """
    times: list[int | None] = []
    keys: list[int] = []
    broken: list[int] = []
    duration: int | None = None
    marked: set[int] = set()
    base: Fraction | None = None
    for number, frame in enumerate(decode(marked)):
        times.append(frame.pts)
        duration, base = frame.duration or duration, frame.time_base
        if frame.is_corrupt or frame.pts in marked:
            broken.append(number)
        if frame.key_frame and frame.pts is not None:
            keys.append(frame.pts)
    known = [time for time in times if time is not None]
    # What comes before the first frame may lack what it refers to: a recording may begin between two key frames.
    lost = sorted(time for time in marked - set(known) if known and time > known[0])
    unseen = [float((time - known[0]) * (base or 0)) for time in lost]
    index = index_of(times, duration, keys)
    found = Survey(index, broken, unseen, expected, unlike, where_it_ends(path) if is_cut_short(path) else "")
    if found.is_damaged or broken:
        check_machine(path)
    return found


def where_it_ends(path: Path) -> str:
    """Where the packets of a file that was cut short end: " at 1.25 s of 3.00 s"."""
    import av.error

    with open_input(path) as container:
        stream = video_stream(container, path)
        base, begin, end = stream.time_base or Fraction(0), stream.start_time, 0
        try:
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None and not packet.is_corrupt:
                    begin = packet.pts if begin is None else begin
                    end = max(end, packet.pts + (packet.duration or 0) - begin)
        except av.error.FFmpegError:
            pass  # here it ends
        rate = stream.average_rate or stream.guessed_rate
        whole = float(expected_frames(stream) / rate) if rate else 0
    seconds = float(end * base)
    return f" at {seconds:.2f} s{f' of {whole:.2f} s' if whole > seconds else ''}"


def seconds_of(packet: Packet | VideoFrame, stream: VideoStream, before: float | None) -> float | None:
    """When something is shown, from the stream's first picture on; `before` where nothing says it."""
    time = packet.dts if packet.pts is None else packet.pts
    if time is None or packet.time_base is None:
        return before
    return float((time - (stream.start_time or 0)) * packet.time_base)


def expected_frames(stream: VideoStream) -> int:
    """Frames that a file says it has, 0 where it does not."""
    if stream.frames:
        return stream.frames
    said = {key.upper(): value for key, value in stream.metadata.items()}.get("DURATION", "")
    rate = stream.average_rate or stream.guessed_rate
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", said)
    if match is None or rate is None:
        return 0
    end = 3600 * int(match[1]) + 60 * int(match[2]) + Fraction(match[3])
    return max(round((end - (stream.start_time or 0) * (stream.time_base or 0)) * rate), 0)
