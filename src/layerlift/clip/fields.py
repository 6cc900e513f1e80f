"""Interlaced video: two fields in every frame, each half of its rows and a moment of its own.

The stages work on fields. Each is made a picture of full height (FFmpeg's bwdif), which leaves the field's own rows as
they are; the results' own rows are woven into interlaced frames again, so that what no stage changes stays bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from layerlift.clip.clip import Clip, FieldOrder
from layerlift.clip.samples import Samples, plane_array

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from layerlift.clip.clip import Picture

_FIRST_ROW: dict[FieldOrder, int] = {"top": 0, "bottom": 1}


def deinterlaced(frames: Iterator[VideoFrame], *, each_field: bool) -> Iterator[VideoFrame]:
    """Progressive pictures of interlaced ones: one for each field, or one for each frame, where its first field is."""
    import av.error
    from av.filter import Graph

    graph: Graph | None = None

    def ready() -> Iterator[VideoFrame]:
        while graph is not None:
            try:
                yield graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

    tags: Any = None
    for frame in frames:
        if graph is None:
            graph = Graph()
            # Times are not asked of a graph: a reader counts its pictures.
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            mode = "send_field" if each_field else "send_frame"
            graph.link_nodes(
                source, graph.add("bwdif", mode=mode, parity="auto", deint="all"), graph.add("buffersink")
            ).configure()
            tags = frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc
        graph.vpush(frame)
        yield from (_tagged(made, tags) for made in ready())
    if graph is not None:
        graph.vpush(None)
        yield from (_tagged(made, tags) for made in ready())


def _tagged(frame: VideoFrame, tags: tuple[int, int, int, int]) -> VideoFrame:
    frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = tags
    return frame


def field_order(frame: VideoFrame) -> FieldOrder | None:
    """Which field of an interlaced frame comes first; None for a progressive one.

    PyAV does not tell, but bwdif knows. Rows that change from frame to frame take the place of the picture, with what
    it says of itself; then bwdif's first picture of a frame has the first field's rows and no others.
    """
    if not frame.interlaced_frame:
        return None
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    rows = graph.add("geq", lum="50+100*mod(Y+N,2)")
    graph.link_nodes(source, graph.add("format", pix_fmts="yuv444p"), graph.add("setpts", expr="N"), rows,
                     graph.add("buffersink")).configure()  # fmt: skip
    striped = []
    for _ in range(3):
        graph.vpush(frame)
        striped.append(graph.vpull())
    made = list(deinterlaced(iter(striped), each_field=True))
    stored, first = (plane_array(picture.planes[0], 8) for picture in (striped[1], made[2]))
    same = [bool((stored[row::2] == first[row::2]).all()) for row in (0, 1)]
    return "bottom" if same[1] and not same[0] else "top"


def can_weave(samples: Samples | None, height: int) -> bool:
    """Whether every plane of a picture has as many rows of one field as of the other."""
    return samples is not None and height % (2 << samples.shift[1]) == 0


def field_pictures(
    read: Callable[[int, int], Iterator[Picture]], make: Callable[[VideoFrame, Picture], Picture], count: int
) -> Callable[[int, int], Iterator[Picture]]:
    """Pictures of fields from those of `count` frames; `make` gives one its orientation."""

    def pictures(start: int, stop: int) -> Iterator[Picture]:
        if start >= stop:
            return
        # A field is filled in from the frames before and after its own.
        first, last = max(start // 2 - 1, 0), min((stop + 1) // 2 + 1, count)
        like: list[Picture] = []

        def frames() -> Iterator[VideoFrame]:
            for picture in read(first, last):
                like[:] = [picture]
                yield picture.frame

        for number, frame in enumerate(deinterlaced(frames(), each_field=True), 2 * first):
            if number >= stop:
                return
            if number >= start:
                yield make(frame, like[0])

    return pictures


def weave(order: FieldOrder, first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Planes of the pictures of two fields → those of the interlaced frame."""
    woven = []
    for early, late in zip(first, second, strict=True):
        plane = late.copy()
        row = _FIRST_ROW[order]
        plane[row::2] = early[row::2]
        woven.append(plane)
    return woven


def flagged(frame: VideoFrame, order: FieldOrder) -> VideoFrame:
    """A frame that says of itself, to an encoder, which of its fields comes first."""
    from av.filter import Graph

    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000))
    mode = {"top": "tff", "bottom": "bff"}[order]
    graph.link_nodes(source, graph.add("setfield", mode=mode), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def woven_timing(like: Clip) -> Clip:
    """A clip of fields as one of the frames that they are woven into: half as many, at half the rate."""
    return replace(
        like,
        frame_count=like.frame_count // 2,
        rate=like.rate / 2,
        timestamps=None if like.timestamps is None else like.timestamps[::2],
        last_duration=None if like.last_duration is None else 2 * like.last_duration,
    )
