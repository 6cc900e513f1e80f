"""Opening clips: a video file, a folder of images, or a folder in the earlier systems' layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layerlift.clip.chroma import chroma_place, upright_place
from layerlift.clip.clip import Clip, FrameReader, Picture, PictureReader, Pixels
from layerlift.clip.container import check_file, open_input, video_stream
from layerlift.clip.damage import clusters_damaged, damaged, frames_named, is_cut_short, not_as_checked
from layerlift.clip.decode import DecodedPicture, alpha_decoder, first_frame, has_alpha, orientation
from layerlift.clip.fields import can_weave, deinterlaced, field_order, field_pictures
from layerlift.clip.hdr import hdr_metadata
from layerlift.clip.images import DEFAULT_RATE, open_images, open_still
from layerlift.clip.layout import is_folder, is_layout, layout_masks
from layerlift.clip.samples import Samples, samples_of
from layerlift.clip.stills import picture_kind
from layerlift.clip.survey import expected_frames, survey, where_it_ends
from layerlift.clip.timing import Index, constant_rate, held, index_of, missing, rate_with_holes
from layerlift.clip.video_frames import video_frames, video_packets
from layerlift.clip.view import tags_of
from layerlift.clip.webp import open_webp
from layerlift.errors import InputError
from layerlift.names import naming

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Containers whose index makes a seek land where it says; elsewhere a span is decoded from the start.
SEEKABLE = ("mov", "matroska", "webm")

# Bare streams, without a container that says when a frame is shown.
_RAW = frozenset(["h264", "hevc", "vvc", "mpegvideo", "m4v", "h263", "h261", "vc1", "dirac", "cavsvideo",
                  "avs2", "avs3", "evc", "obu", "dnxhd", "mjpeg"])  # fmt: skip

# Codecs with one packet a frame; elsewhere (hidden frames, fields, packed frames) frames are counted by decoding.
_ONE_PACKET_ONE_FRAME = frozenset({
    "h264", "hevc", "ffv1", "prores", "mjpeg", "png", "rawvideo", "dnxhd", "vp9", "av1", "libdav1d", "qtrle", "huffyuv",
    "utvideo",
})  # fmt: skip


def open_clip(
    path: str | Path, *, allow_damage: bool = False, deinterlace: bool = False, rate: Fraction | None = None
) -> Clip:
    """Open a video file, a folder of images, or a folder with a `video` in it; no frames are kept in memory.

    The frame count is exact: packets are counted once without decoding, and where that cannot be trusted (the header
    disagrees, or the codec has packets without a picture), frames are decoded and counted. A damaged file is refused,
    here or when its frames are read, unless `allow_damage` is given: then the clip is what can be decoded, and `damage`
    says what was lost.

    The frames of an interlaced clip are its fields, two for each frame of the file. With `deinterlace` there is one
    progressive frame for each, as there always is when the fields could not be woven again: in a clip that is rotated,
    or whose fields differ in height.

    `rate` is the rate of a raw stream or a folder of images that states none, in frames of the file per second.

    Raises InputError for anything that cannot be read as a clip, and for a rate when the file has its own.
    """
    with naming(path):
        clip = _open(Path(path), allow_damage, deinterlace)
    if rate is None:
        return clip
    if not clip.rate_assumed:
        raise InputError(
            f"{path} states its own rate, {clip.rate} frames a second, but --rate is {rate}; leave --rate out."
        )
    return replace(clip, rate=rate if clip.field_order is None else 2 * rate, rate_assumed=False)


def _open(path: Path, allow_damage: bool, deinterlace: bool) -> Clip:
    if not is_folder(path):
        check_file(path)
        kind = picture_kind(path)
        if kind is not None and kind.demuxer == "webp":
            return open_webp(path)
        if kind is not None and kind.still:
            return open_still(path, allow_damage=allow_damage)
        return _open_video(path, allow_damage, deinterlace)
    if is_layout(path):
        video = _open(layout_masks(path).video, allow_damage, deinterlace)
        return replace(video, name=path.resolve().name)
    return open_images(path, allow_damage=allow_damage)


def _open_video(path: Path, allow_damage: bool, deinterlace: bool) -> Clip:
    picture, shown = first_frame(path)
    if is_cut_short(path) and not allow_damage:
        raise damaged(path, f"its end is missing: it stops{where_it_ends(path)}")
    unlike = clusters_damaged(path)
    if unlike and not allow_damage:
        raise _damaged_inside(path, unlike[0])
    with open_input(path) as container:
        stream = video_stream(container, path)
        time_base = stream.time_base or Fraction(1, 1000)
        found = None
        if allow_damage:
            found = survey(
                path,
                lambda marked: video_frames(path, None, tolerant=True, marked=marked),
                expected_frames(stream),
                unlike,
            )
        index = found.index if found is not None else read_index(container, stream, path)
        rates = [r for r in (stream.average_rate, stream.guessed_rate, stream.base_rate) if r]
        assumed = False
        if container.format.name in _RAW:
            # Packets of a bare stream have no times, and FFmpeg counts 25 a second; the codec's headers know better.
            index = replace(index, pts=None)
            said = stream.codec_context.framerate
            rates = [r for r in (said, stream.guessed_rate) if r]
            assumed = not said
        seekable = container.format.name.split(",")[0] in SEEKABLE
        aspect = stream.sample_aspect_ratio or Fraction(1)
        chroma = chroma_place(stream)
        alpha = alpha_decoder(stream)
        if index.count == 0:
            raise InputError(f"{path} contains no frame that can be decoded; give a clip with at least one frame.")
        rate, places = constant_rate(index.pts, time_base, rates), None
        if rate is None and index.pts is not None:
            known = found is not None and found.is_damaged
            rate, places = rate_with_holes(container, index, index.pts, time_base, rates, known_damage=known)
    gone = missing(places) if places is not None else []
    if gone and not allow_damage:
        when = float(gone[0] / rate) if rate else 0.0
        raise damaged(path, f"{frames_named(gone)} {'is' if len(gone) == 1 else 'are'} missing (at {when:.2f} s)")
    constant = rate is not None or index.pts is None
    count = index.count + len(gone)
    turned = shown.transposed
    size = (picture.height, picture.width) if turned else (picture.width, picture.height)

    def seconds(number: int) -> float:
        """When a frame is shown, from the first one on."""
        if index.pts is not None:
            return float((index.pts[number] - index.pts[0]) * time_base)
        return float(number / (rates[0] if rates else DEFAULT_RATE))

    pictures = _picture_reader(path, index, seekable and not allow_damage, alpha, allow_damage, seconds)
    if places is not None:
        pictures = held(pictures, places)
    clip = Clip(
        width=size[0],
        height=size[1],
        frame_count=count,
        rate=rate or (rates[0] if constant and rates else DEFAULT_RATE),
        reader=as_frames(pictures),
        color=tags_of(picture),
        hdr=hdr_metadata(picture),
        pixel_aspect=1 / aspect if turned else aspect,
        has_alpha=has_alpha(picture) or alpha is not None,
        path=path,
        name=path.stem,
        start_time=index.pts[0] * time_base if index.pts else Fraction(0),
        damage=None if found is None else found.words(path, count, gone),
        # A mask for the whole clip has its beginning for what is left of one that was cut short.
        source_frame_count=found.expected if found is not None and found.cut and found.expected > count else None,
        samples=_upright_samples(picture, turned, alpha is not None),
        pictures=pictures,
        picture_size=size,
        chroma_place=upright_place(chroma, shown),
        rate_assumed=assumed,
    )  # fmt: skip
    if not constant and index.pts is not None:
        clip = _with_timestamps(clip, index, index.pts, time_base)
    if not picture.interlaced_frame:
        return clip
    weaves = can_weave(clip.samples, clip.height) and not shown.transposed and not shown.upended
    return _of_fields(clip, picture) if weaves and not deinterlace else _of_frames(clip)


def _damaged_inside(path: Path, where: float) -> InputError:
    """The error for a file whose checksum from `where` on is another: of the first frame that shows it, if one does."""
    try:
        for number, frame in enumerate(video_frames(path, None)):
            if frame.is_corrupt:
                when = "" if frame.time is None else f" (at {frame.time:.2f} s)"
                return damaged(path, f"frame {number}{when} cannot be fully decoded")
    except InputError as error:
        return error
    return damaged(path, not_as_checked([where]))


def _of_frames(clip: Clip) -> Clip:
    """An interlaced clip as a progressive one."""
    source = clip.pictures
    assert source is not None

    def pictures(start: int, stop: int) -> Iterator[Picture]:
        if start >= stop:
            return
        first = max(start - 1, 0)  # a frame is filled in from those beside it
        like: list[Picture] = []

        def frames() -> Iterator[VideoFrame]:
            for picture in source(first, min(stop + 1, clip.frame_count)):
                like[:] = [picture]
                yield picture.frame

        for number, frame in enumerate(deinterlaced(frames(), each_field=False), first):
            if start <= number < stop:
                yield DecodedPicture(frame, like[0].orientation)

    return replace(clip, pictures=pictures, reader=as_frames(pictures), deinterlaced=True)


def _of_fields(clip: Clip, picture: VideoFrame) -> Clip:
    """An interlaced clip as one of its fields, at twice the rate."""
    assert clip.pictures is not None
    pictures = field_pictures(
        clip.pictures, lambda frame, like: DecodedPicture(frame, like.orientation), clip.frame_count
    )
    clip = replace(
        clip,
        frame_count=2 * clip.frame_count,
        source_frame_count=None if clip.source_frame_count is None else 2 * clip.source_frame_count,
        rate=2 * clip.rate,
        pictures=pictures,
        reader=as_frames(pictures),
        field_order=field_order(picture),
    )
    if clip.timestamps is None or clip.time_base is None or clip.last_duration is None:
        return clip
    ends = [*clip.timestamps[1:], clip.timestamps[-1] + clip.last_duration]
    times = [time for a, b in zip(clip.timestamps, ends, strict=True) for time in (2 * a, a + b)]
    return replace(clip, time_base=clip.time_base / 2, timestamps=tuple(times))


def _with_timestamps(clip: Clip, index: Index, pts: tuple[int, ...], time_base: Fraction) -> Clip:
    """A clip of variable frame rate."""
    last = index.last_duration or max(pts[-1] - pts[-2], 1)
    clip = replace(clip, time_base=time_base, timestamps=pts, last_duration=last)
    return replace(clip, rate=index.count / clip.duration)


def _upright_samples(picture: VideoFrame, turned: bool, alpha: bool) -> Samples | None:
    """The kind of a picture's samples when it stands upright."""
    samples = samples_of(picture.format)
    if samples is None:
        return None
    return replace(samples, shift=samples.shift[::-1] if turned else samples.shift, alpha=samples.alpha or alpha)


def read_index(container: InputContainer, stream: VideoStream, path: Path) -> Index:
    """Count frames by their packets; by decoding where packets do not tell."""
    pts: list[int] = []
    keys: list[int] = []
    seen, latest = 0, -(1 << 63)
    last_duration: int | None = None
    trusted = stream.codec_context.name in _ONE_PACKET_ONE_FRAME
    for packet in video_packets(container, stream, path):
        seen += 1
        if packet.is_discard:
            continue
        if packet.pts is None:
            trusted = False
            continue
        if not pts and not packet.is_keyframe:
            trusted = False  # what comes before the first key frame may not be decodable
        if packet.pts >= latest:
            latest, last_duration = packet.pts, packet.duration
        pts.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
    unique = len(set(pts)) == len(pts)
    trusted = trusted and unique and bool(pts) and min(pts) == pts[0] and stream.frames in (0, seen)
    if trusted:
        span = max(pts) - min(pts)
        if stream.duration is not None and 0 < stream.duration - span <= max(span, last_duration or 0):
            last_duration = stream.duration - span
        return Index(len(pts), tuple(sorted(pts)), tuple(sorted(keys)), last_duration)
    return _decoded_index(path)


def _decoded_index(path: Path) -> Index:
    times: list[int | None] = []
    duration: int | None = None
    for frame in video_frames(path, None):
        times.append(frame.pts)
        duration = frame.duration or None
    return index_of(times, duration)


def _picture_reader(  # noqa: PLR0917
    path: Path,
    index: Index,
    seekable: bool,
    alpha: str | None,
    tolerant: bool,
    seconds: Callable[[int], float],
) -> PictureReader:
    """Pictures of a file; `alpha` is the decoder that sees its transparency where FFmpeg's own does not.

    A picture that could not be decoded whole is an InputError, unless `tolerant`: FFmpeg makes it up from others.
    `seconds` says when a picture is shown.
    """

    def pictures(start: int, stop: int) -> Iterator[Picture]:
        if start >= stop:
            return
        size: tuple[int, int] | None = None
        done, begun = start, start > 0
        for frame in _from(path, index, start, seekable, alpha, tolerant=tolerant):
            # What is shown before the first key frame may lack what it refers to: a recording may begin between two.
            begun = begun or bool(frame.key_frame)
            if frame.is_corrupt and begun and not tolerant:
                raise damaged(path, f"frame {done} (at {seconds(done):.2f} s) cannot be fully decoded")
            if size is None:
                size = frame.width, frame.height
            elif (frame.width, frame.height) != size:
                raise InputError(
                    f"{path} changes its frame size from {size[0]}x{size[1]} to {frame.width}x{frame.height} at frame "
                    f"{done}; give a clip of one size."
                )
            yield DecodedPicture(frame, orientation(frame))
            done += 1
            if done == stop:
                return
        raise damaged(path, f"only {done} of its {index.count} frames can be decoded (up to {seconds(done):.2f} s)")

    return pictures


def as_frames(pictures: PictureReader) -> FrameReader:
    """What a clip's frames are, from its pictures."""

    def reader(start: int, stop: int, pixels: Pixels) -> Iterator[np.ndarray]:
        return (picture.array(pixels) for picture in pictures(start, stop))

    return reader


def _from(
    path: Path, index: Index, start: int, seekable: bool, decoder: str | None, *, tolerant: bool
) -> Iterator[VideoFrame]:
    """Frames from frame `start` on, by a seek where one can be trusted and gains something."""
    if seekable and index.pts is not None and len(index.keys) > 1 and index.pts[start] >= index.keys[1]:
        wanted = index.pts[start]
        frames = video_frames(path, wanted, decoder)
        first = next((f for f in frames), None)
        if first is not None and first.pts is not None and first.pts <= wanted:
            if first.pts == wanted:
                yield first
            yield from (f for f in frames if f.pts is not None and f.pts >= wanted)
            return
    for number, frame in enumerate(video_frames(path, None, decoder, tolerant=tolerant)):
        if number >= start:
            yield frame
