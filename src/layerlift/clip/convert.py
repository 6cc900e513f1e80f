"""Another pixel format for a decoded picture, by FFmpeg's swscale."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# Pixels from which threads are worth their start: swscale starts as many as there are cores, for every picture anew.
_LARGE = 1920 * 1080


def converted(frame: VideoFrame, pixels: str, interpolation: int | None = None) -> VideoFrame:
    """The picture in a pixel format that has FFmpeg's name `pixels`; the same whatever the number of threads.

    `interpolation`: flags of swscale's, None for its own choice.
    """
    threads = 0 if frame.width * frame.height >= _LARGE else 1  # 0: as many as cores
    return frame.reformat(format=pixels, interpolation=interpolation, threads=threads)
