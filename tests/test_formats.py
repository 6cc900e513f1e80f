"""Every row of the table in docs/formats.md: a clip is made, a part of it changed and written, and the result read."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.codec.context import Flags

from layerlift.clip import Clip, ColorTags, open_clip, write_clip
from layerlift.clip.fields import flagged, weave
from layerlift.clip.samples import Samples, convert, frame_of, planes_of, samples_of, to_rgb
from layerlift.clip.view import tags_of

DOCUMENT = Path(__file__).parents[1] / "docs" / "formats.md"
WIDTH, HEIGHT, COUNT = 96, 64, 6
SPOT = (slice(16, 40), slice(32, 60))
NEAR = (slice(8, 48), slice(24, 68))

COLOURS = {
    "BT.709": ColorTags(1, 1, 1, 1),
    "BT.709 full": ColorTags(2, 1, 1, 1),
    "BT.601": ColorTags(1, 6, 6, 6),
    "BT.2020": ColorTags(1, 9, 9, 14),
    "HLG": ColorTags(1, 9, 9, 18),
    "PQ": ColorTags(1, 9, 9, 16),
    "not said": ColorTags(0, 2, 2, 2),
    "full": ColorTags(2, 5, 2, 2),
    "limited": ColorTags(1, 2, 2, 2),
    "RGB": ColorTags(2, 0, 1, 1),
    "–": ColorTags(),
}
ENCODERS = {"h264": "libx264", "hevc": "libx265", "prores": "prores_ks", "vp9": "libvpx-vp9", "vp8": "libvpx",
            "theora": "libtheora", "av1": "libsvtav1"}  # fmt: skip
# As near to lossless as an encoder goes: what is measured is layerlift.
OPTIONS = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "log-level=none:lossless=1"},
    "prores_ks": {"bits_per_mb": "8000"},
    "libvpx-vp9": {"lossless": "1"},
    "libvpx": {"crf": "4", "b": "20M", "auto-alt-ref": "0"},
    "mpeg2video": {"qmin": "1", "qmax": "2"},
    "mpeg4": {"qmin": "1", "qmax": "2"},
    "mjpeg": {"qmin": "1", "qmax": "2"},
    "libsvtav1": {"crf": "5", "preset": "10"},
}


@dataclass(frozen=True)
class Row:
    """A clip's container, codec, pixel format, colours and field order; the output, and what is found in it."""

    clip: str
    codec: str
    pixels: str
    colour: str
    fields: str
    output: str
    made_codec: str
    made_pixels: str

    def __str__(self) -> str:
        return " ".join([self.clip, self.codec, self.pixels, self.colour, self.fields, "to", self.output])


def rows() -> list[Row]:
    found = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 8:
            found.append(Row(*cells))
    return found


def first_of(found: list[Row], kind: Callable[[Row], object]) -> list[Any]:
    """Parameters for all rows, of which `make test` runs the first of every kind."""
    seen: set[object] = set()
    parameters = []
    for row in found:
        known = kind(row) in seen
        seen.add(kind(row))
        parameters.append(pytest.param(row, id=str(row), marks=[pytest.mark.slow] if known else []))
    return parameters


def scene() -> np.ndarray:
    """(F, H, W, 4) float32 in [0, 1]: smooth colours that drift, transparent at the left."""
    rng = np.random.default_rng(4)
    small = rng.uniform(0.2, 0.8, (2 * COUNT, 4, 6, 3)).astype(np.float32)
    colour = np.stack([cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for frame in small])
    alpha = np.ones((2 * COUNT, HEIGHT, WIDTH, 1), np.float32)
    alpha[:, :, :16] = 0.4
    return np.concatenate([colour, alpha], 3)


def planes(frame: np.ndarray, samples: Samples, tags: ColorTags) -> list[np.ndarray]:
    whole = [np.rint(channel * 65535).astype(np.uint16) for channel in np.moveaxis(frame, -1, 0)]
    return convert(whole, Samples("rgb", 16, alpha=True), ColorTags(), samples, tags)


def make(row: Row, folder: Path) -> Path:
    if row.clip == "folder":
        return make_images(row, folder / "in")
    path = folder / f"in{row.clip}"
    samples, tags = samples_of(av.VideoFormat(row.pixels)), COLOURS[row.colour]
    assert samples is not None
    encoder = ENCODERS.get(row.codec, row.codec)
    order: Any = {"top first": "top", "bottom first": "bottom"}.get(row.fields)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, row.pixels
        context.color_range, context.colorspace = tags.range, tags.matrix
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        context.options = OPTIONS.get(encoder, {})
        if encoder == "mpeg4":
            context.bit_rate = 4_000_000
        if order is not None:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
            context.field_order = {"top": 2, "bottom": 3}[order]
        content = [planes(frame, samples, tags) for frame in scene()]
        for number in range(COUNT):
            made = content[number] if order is None else weave(order, *content[2 * number : 2 * number + 2])
            frame = frame_of(made, samples, row.pixels)
            frame = frame if order is None else flagged(frame, order)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            frame.color_range, frame.colorspace = tags.range, tags.matrix
            frame.color_primaries, frame.color_trc = tags.primaries, tags.transfer
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_images(row: Row, folder: Path) -> Path:
    folder.mkdir()
    ending = {"mjpeg": "jpg"}.get(row.codec, row.codec)
    for number, frame in enumerate(scene()[:COUNT]):
        deep = "48" in row.pixels or "64" in row.pixels or "16" in row.pixels
        whole = np.rint(frame * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)
        if row.codec == "exr":
            OpenEXR = pytest.importorskip("OpenEXR")
            light = np.where(frame <= 0.04045, frame / 12.92, ((frame + 0.055) / 1.055) ** 2.4)[..., :3]
            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            OpenEXR.File(header, {"RGB": light.astype(np.float32)}).write(str(folder / f"{number}.exr"))
            continue
        if row.pixels.startswith("gray"):
            picture = whole[..., 1]
        else:
            picture = cv2.cvtColor(whole, cv2.COLOR_RGBA2BGRA if "a" in row.pixels else cv2.COLOR_RGBA2BGR)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 100] if ending == "jpg" else [cv2.IMWRITE_WEBP_QUALITY, 101]
        done, data = cv2.imencode(f".{ending}", picture, quality if ending in ("jpg", "webp") else [])
        assert done
        (folder / f"{number}.{ending}").write_bytes(data.tobytes())
    return folder


def changed(clip: Clip) -> Iterator[np.ndarray]:
    for frame in clip.frames():
        out = frame.copy()
        out[SPOT] = 255 - out[SPOT]
        yield out


def stored(path: Path) -> tuple[list[list[np.ndarray]], Samples, ColorTags]:
    """FFmpeg's own reading of a result: its samples, their kind, and what they mean."""
    if path.is_dir():
        pictures = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(path.iterdir())]
        kind = Samples("rgb", 8 * pictures[0].dtype.itemsize, alpha=pictures[0].shape[2] == 4)
        return (
            [[p[..., 2], p[..., 1], p[..., 0], *([p[..., 3]] if kind.alpha else [])] for p in pictures],
            kind,
            ColorTags(),
        )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder: Any = None
        if stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
            decoder = av.CodecContext.create("libvpx-vp9", "r")  # FFmpeg's own leaves alpha out
        frames = []
        for packet in container.demux(stream):
            frames += packet.decode() if decoder is None else decoder.decode(packet if packet.size else None)
        samples = samples_of(frames[0].format)
        assert samples is not None
        return [[p.copy() for p in planes_of(f, samples)] for f in frames], samples, tags_of(frames[0])


def test_the_table_is_long_and_no_row_is_there_twice() -> None:
    assert len(rows()) >= 120
    assert len(set(map(str, rows()))) == len(rows())


@pytest.mark.filterwarnings("ignore:.* has colours in")  # HDR in PNGs
@pytest.mark.parametrize("row", first_of(rows(), lambda row: (row.clip, row.codec, row.colour, row.fields)))
def test_row(row: Row, tmp_path: Path) -> None:
    clip = open_clip(make(row, tmp_path))
    lossless, folder = row.output.endswith("lossless"), row.output == "folder"
    path = tmp_path / ("out" if folder else f"out{row.output.split()[0]}")
    write_clip(path, changed(clip), clip, lossless=lossless)
    after, samples, tags = stored(path)

    # What the row says.
    if folder:
        assert row.made_codec == "png"
        assert (
            row.made_pixels
            == {(8, False): "rgb24", (8, True): "rgba", (16, False): "rgb48", (16, True): "rgba64"}[
                samples.bits, samples.alpha
            ]
        )
    else:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.codec.canonical_name, stream.codec_context.format.name) == (
                row.made_codec,
                row.made_pixels,
            )

    # What is kept in every one: number, rate, size, depth, transfer, field order, alpha.
    back = open_clip(path)
    if path.suffix == ".webm":
        tags = back.color  # a decoder on its own knows none
    assert (back.frame_count, back.width, back.height) == (clip.frame_count, WIDTH, HEIGHT)
    assert folder or back.rate == clip.rate
    assert back.field_order == (None if folder else clip.field_order)
    assert samples.bits >= min(clip.samples.bits if clip.samples else 8, 10)
    assert folder or back.color.transfer == clip.color.transfer
    if lossless and samples.model == "yuv" and row.clip != "folder":
        assert (tags.matrix, tags.primaries) == (clip.color.matrix, clip.color.primaries)
    if lossless and samples.model == "gray":
        assert tags.range == clip.color.range == COLOURS[row.colour].range
    has_alpha = samples.alpha and min(int(frame[-1].min()) for frame in after) < (1 << samples.bits) - 1
    assert has_alpha == any((frame[..., 3] < 255).any() for frame in clip.rgba_frames())

    # Nothing beyond the change is brighter or darker; in a lossless file nothing is changed at all.
    if clip.field_order is None or not folder:
        before = [(p.planes(), p.samples, p.tags) for p in raw(clip)]
        outside = np.ones((HEIGHT, WIDTH), bool)
        outside[NEAR] = False
        outside[:, :20] &= not samples.alpha  # hidden colours may be blurred
        off = [shown(made, samples, tags) - shown(*old) for made, old in zip(after, before, strict=True)]
        assert np.abs(np.stack(off)[:, outside].mean(axis=(0, 1))).max() < 0.3
        if lossless and row.clip != "folder":
            assert np.abs(np.stack(off)[:, outside]).max() < 0.01


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed: apt-get install ffmpeg")
@pytest.mark.parametrize(
    "row", first_of([row for row in rows() if row.output != "folder"], lambda row: (row.output, row.made_codec))
)
def test_ffprobe_reads_the_same(row: Row, tmp_path: Path) -> None:
    """Another FFmpeg than PyAV's, which may be older: a result is for everyone's."""
    clip = open_clip(make(row, tmp_path))
    path = tmp_path / f"out{row.output.split()[0]}"
    write_clip(path, changed(clip), clip, lossless=row.output.endswith("lossless"))
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_frames", "-show_streams", "-of", "json"]
    done = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    (found,) = json.loads(done.stdout)["streams"]
    assert found["codec_name"] == row.made_codec
    assert found["pix_fmt"].replace("yuvj", "yuv").replace("12le", "10le") == row.made_pixels.replace(
        "yuvj", "yuv"
    ).replace("12le", "10le")  # ProRes 4444 is decoded to 12 bits by newer ones
    frames = COUNT if clip.field_order is None else clip.frame_count // 2
    assert int(found["nb_read_frames"]) == frames
    assert Fraction(found["avg_frame_rate"]) == (clip.rate if clip.field_order is None else clip.rate / 2)
    transfers = {16: "smpte2084", 18: "arib-std-b67", 14: "bt2020-10", 1: "bt709"}
    if clip.color.transfer in transfers:
        assert found["color_transfer"] == transfers[clip.color.transfer]
    orders = {None: {"progressive", None, "unknown"}, "top": {"tt", "tb"}, "bottom": {"bb", "bt"}}
    assert found.get("field_order") in orders[clip.field_order]


def raw(clip: Clip) -> Iterator[Any]:
    """A clip's pictures as they lie in its file."""
    assert clip.pictures is not None
    if clip.field_order is None:
        yield from clip.pictures(0, clip.frame_count)
        return
    fields = list(clip.pictures(0, clip.frame_count))
    for first, second in zip(fields[::2], fields[1::2], strict=True):
        yield Woven(weave(clip.field_order, first.planes(), second.planes()), first.samples, first.tags)


@dataclass(frozen=True)
class Woven:
    made: list[np.ndarray]
    samples: Samples
    tags: ColorTags

    def planes(self) -> list[np.ndarray]:
        return self.made


def shown(picture: list[np.ndarray], samples: Samples, tags: ColorTags) -> np.ndarray:
    """(H, W, 3) in levels of 8 bits."""
    return np.clip(to_rgb(picture, samples, tags), 0, 1) * 255
