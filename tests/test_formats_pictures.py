"""Every row of the tables of stills and masks in docs/formats.md: it is made, opened, and looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from heif_files import box, write_heic, write_tiles
from layerlift.clip import Clip, open_clip
from layerlift.clip.rgba import to_linear
from layerlift.labels import read_labels
from layerlift.masks import open_mask, open_object_masks

DOCUMENT = Path(__file__).parents[1] / "docs" / "formats.md"
WIDTH, HEIGHT, COUNT = 96, 64, 4


def table(columns: int) -> list[list[str]]:
    """The rows of the document's tables with so many columns that begin with a name in backticks."""
    lines = DOCUMENT.read_text().splitlines()
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines if line[:3] == "| `"]
    return [row for row in cells if len(row) == columns]


# ---- Stills


def rgba16(seed: int = 0) -> np.ndarray:
    """(H, W, 4) uint16: smooth colours, opaque at the right, transparent by two thirds at the left."""
    small = np.random.default_rng(seed).uniform(0.2, 0.8, (4, 6, 3)).astype(np.float32)
    colour = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    alpha = np.where(np.arange(WIDTH) < 32, np.float32(1 / 3), np.float32(1))
    whole = np.dstack([colour, np.broadcast_to(alpha, (HEIGHT, WIDTH))])
    return np.rint(whole * 65535).astype(np.uint16)


def rgba(seed: int = 0) -> np.ndarray:
    return np.rint(rgba16(seed) / 257).astype(np.uint8)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Its green for all three colours, and opaque."""
    out = pixels.copy()
    out[..., :3] = pixels[..., 1:2]
    out[..., 3] = np.iinfo(pixels.dtype).max
    return out


def opaque(pixels: np.ndarray) -> np.ndarray:
    out = pixels.copy()
    out[..., 3] = np.iinfo(pixels.dtype).max
    return out


def flat(pixels: np.ndarray) -> np.ndarray:
    """Sixteen colours that a palette has room for."""
    return opaque(np.where(pixels > 127, np.uint8(200), np.uint8(40)).astype(np.uint8))


EXIF_VALUE = 0x0112
Made = tuple[Path, np.ndarray]  # a file, and what it holds as it is stored: (H, W, 4) or (F, H, W, 4)
Maker = Callable[[Path, int], Made]


def pillow(kind: str, pixels: Callable[[], np.ndarray], mode: str = "RGBA", **options: Any) -> Maker:
    """Pillow's image of some pixels, in its words for how they are stored."""

    def make(path: Path, orientation: int) -> Made:
        wanted = pixels()
        frames = wanted if wanted.ndim == 4 else wanted[None]
        images = []
        for frame in frames:
            image = Image.fromarray(frame)
            images.append(image.convert(mode, dither=Image.Dither.NONE) if mode != "RGBA" else image)
        exif = Image.Exif()
        exif[EXIF_VALUE] = orientation
        more = {"save_all": True, "append_images": images[1:], "duration": 40} if len(images) > 1 else {}
        turned = {"exif": exif} if orientation > 1 else {}
        images[0].save(path, kind, **options, **more, **turned)
        return path, wanted

    return make


def opencv(pixels: Callable[[], np.ndarray], order: int | None, **options: int) -> Maker:
    """OpenCV's image of 16 bits; `order` is cvtColor's code, None for grey."""

    def make(path: Path, orientation: int) -> Made:
        assert orientation == 1
        wanted = pixels()
        stored = wanted[..., 1] if order is None else cv2.cvtColor(wanted, order)
        assert cv2.imwrite(str(path), stored)
        return path, wanted

    return make


def ffmpeg(codec: str, pixel_format: str, pixels: Callable[[], np.ndarray]) -> Maker:
    """One picture as FFmpeg's encoder of it writes it."""

    def make(path: Path, orientation: int) -> Made:
        assert orientation == 1
        wanted = pixels()
        form = "rgba64le" if wanted.dtype == np.uint16 else "rgba"
        context: Any = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt, context.time_base = WIDTH, HEIGHT, pixel_format, 1
        if codec == "jpeg2000":
            context.options = {"pred": "dwt53"}
        frame = av.VideoFrame.from_ndarray(wanted, format=form).reformat(format=pixel_format)
        frame.pts = 0
        path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
        return path, wanted

    return make


def openexr(kind: type, channels: str) -> Maker:
    def make(path: Path, orientation: int) -> Made:
        OpenEXR = pytest.importorskip("OpenEXR")
        wanted = grey(rgba16()) if channels == "Y" else rgba16() if channels == "RGBA" else opaque(rgba16())
        light = wanted.astype(np.float32) / 65535
        light[..., :3] = to_linear(light[..., :3]) * light[..., 3:]
        values = {"Y": light[..., 0], "RGB": light[..., :3], "RGBA": light}[channels]
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {channels: np.ascontiguousarray(values.astype(kind))}).write(str(path))
        return path, wanted

    return make


# EXIF's orientations as HEIC's own boxes say them: quarter turns counterclockwise, mirrors.
HEIC_TURNS = {1: b"", 2: box("imir", b"\1"), 3: box("irot", b"\2"), 4: box("imir", b"\0"), 6: box("irot", b"\3"),
              8: box("irot", b"\1")}  # fmt: skip


def heic(write: Callable[[Path, np.ndarray, bytes], Path]) -> Maker:
    def make(path: Path, orientation: int) -> Made:
        if write is write_tiles:
            pytest.importorskip("pi_heif")
        wanted = np.repeat(np.repeat(opaque(rgba()), 2, axis=0), 2, axis=1)
        return write(path, wanted[..., :3], HEIC_TURNS[orientation]), wanted

    return make


def several(pixels: Callable[[np.ndarray], np.ndarray] = opaque) -> Callable[[], np.ndarray]:
    return lambda: np.stack([pixels(rgba(seed)) for seed in range(3)])


def cut_out(pixels: np.ndarray) -> np.ndarray:
    """Transparent or not, as GIF has it."""
    out = flat(pixels)
    out[:, :32, 3] = 0
    return out


MAKERS: dict[tuple[str, str], Maker] = {
    (".jpg", "YCbCr 4:2:0"): pillow("JPEG", lambda: opaque(rgba()), "RGB", quality=97),
    (".jpg", "YCbCr 4:4:4"): pillow("JPEG", lambda: opaque(rgba()), "RGB", quality=97, subsampling=0),
    (".jpg", "progressive"): pillow("JPEG", lambda: opaque(rgba()), "RGB", quality=97, progressive=True),
    (".jpg", "grey"): pillow("JPEG", lambda: grey(rgba()), "L", quality=97),
    (".png", "RGB"): pillow("PNG", lambda: opaque(rgba()), "RGB"),
    (".png", "RGBA"): pillow("PNG", rgba),
    (".png", "grey"): pillow("PNG", lambda: grey(rgba()), "L"),
    (".png", "grey and alpha"): pillow("PNG", lambda: np.dstack([grey(rgba())[..., :3], rgba()[..., 3]]), "LA"),
    (".png", "palette"): pillow("PNG", lambda: flat(rgba()), "P"),
    (".png", "black and white"): pillow("PNG", lambda: grey(np.where(rgba() > 127, 255, 0).astype(np.uint8)), "1"),
    (".png", "RGB 16"): opencv(lambda: opaque(rgba16()), cv2.COLOR_RGBA2BGR),
    (".png", "RGBA 16"): opencv(rgba16, cv2.COLOR_RGBA2BGRA),
    (".png", "grey 16"): opencv(lambda: grey(rgba16()), None),
    (".png", "APNG"): pillow("PNG", several(), "RGB"),
    (".png", "APNG RGBA"): pillow("PNG", several(lambda pixels: pixels)),
    (".tif", "RGB"): pillow("TIFF", lambda: opaque(rgba()), "RGB"),
    (".tif", "RGB LZW"): pillow("TIFF", lambda: opaque(rgba()), "RGB", compression="tiff_lzw"),
    (".tif", "RGB deflate"): pillow("TIFF", lambda: opaque(rgba()), "RGB", compression="tiff_adobe_deflate"),
    (".tif", "RGBA"): pillow("TIFF", rgba),
    (".tif", "grey"): pillow("TIFF", lambda: grey(rgba()), "L"),
    (".tif", "palette"): pillow("TIFF", lambda: flat(rgba()), "P"),
    (".tif", "RGB 16"): opencv(lambda: opaque(rgba16()), cv2.COLOR_RGBA2BGR),
    (".tif", "grey 16"): opencv(lambda: grey(rgba16()), None),
    (".webp", "lossy"): pillow("WEBP", lambda: opaque(rgba()), "RGB", quality=98),
    (".webp", "lossless"): pillow("WEBP", lambda: opaque(rgba()), "RGB", lossless=True),
    (".webp", "lossless RGBA"): pillow("WEBP", rgba, lossless=True, exact=True),
    (".webp", "animated"): pillow("WEBP", several(), "RGB", lossless=True),
    (".webp", "animated RGBA"): pillow("WEBP", several(lambda pixels: pixels), lossless=True, exact=True),
    (".bmp", "RGB"): pillow("BMP", lambda: opaque(rgba()), "RGB"),
    (".bmp", "grey"): pillow("BMP", lambda: grey(rgba()), "L"),
    (".bmp", "palette"): pillow("BMP", lambda: flat(rgba()), "P"),
    (".gif", "palette"): pillow("GIF", lambda: flat(rgba()), "P"),
    (".gif", "transparent"): pillow("GIF", lambda: cut_out(rgba())),
    (".gif", "animated"): pillow("GIF", several(flat), "P"),
    (".exr", "half RGB"): openexr(np.float16, "RGB"),
    (".exr", "float RGB"): openexr(np.float32, "RGB"),
    (".exr", "float RGBA"): openexr(np.float32, "RGBA"),
    (".exr", "half RGBA"): openexr(np.float16, "RGBA"),
    (".exr", "float grey"): openexr(np.float32, "Y"),
    (".avif", "RGB"): pillow("AVIF", lambda: opaque(rgba()), "RGB", quality=97),
    (".avif", "RGBA"): pillow("AVIF", rgba, quality=97),
    (".heic", "one picture"): heic(write_heic),
    (".heic", "tiles"): heic(write_tiles),
    (".ppm", "RGB"): pillow("PPM", lambda: opaque(rgba()), "RGB"),
    (".ppm", "RGB 16"): ffmpeg("ppm", "rgb48be", lambda: opaque(rgba16())),
    (".pgm", "grey"): pillow("PPM", lambda: grey(rgba()), "L"),
    (".pgm", "grey 16"): opencv(lambda: grey(rgba16()), None),
    (".pam", "RGBA"): ffmpeg("pam", "rgba", rgba),
    (".dpx", "RGB"): ffmpeg("dpx", "rgb24", lambda: opaque(rgba())),
    (".dpx", "RGB 10"): ffmpeg("dpx", "gbrp10be", lambda: opaque(rgba16())),
    (".dpx", "RGB 12"): ffmpeg("dpx", "gbrp12be", lambda: opaque(rgba16())),
    (".dpx", "RGB 16"): ffmpeg("dpx", "rgb48be", lambda: opaque(rgba16())),
    (".jp2", "RGB"): ffmpeg("jpeg2000", "rgb24", lambda: opaque(rgba())),
    (".jp2", "RGB 16"): ffmpeg("jpeg2000", "rgb48le", lambda: opaque(rgba16())),
    (".qoi", "RGB"): ffmpeg("qoi", "rgb24", lambda: opaque(rgba())),
    (".qoi", "RGBA"): ffmpeg("qoi", "rgba", rgba),
}
# Levels of 8 bits by which a picture of a lossy format may be off, on average.
SLACK = {".jpg": 1.5, ".avif": 1.5, ".heic": 1.5, ".webp": 1.5, ".jp2": 1.0}
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1), 7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: np.rot90(p, 1),
}  # fmt: skip


@dataclass(frozen=True)
class Still:
    """An image's ending and how it is stored; EXIF's number of how it is turned; what a clip of it has."""

    image: str
    stored: str
    orientation: str
    frames: str
    bits: str
    alpha: str

    def __str__(self) -> str:
        return f"{self.image} {self.stored} {self.orientation}"


STILLS = [Still(*row) for row in table(6)]


def test_every_kind_of_still_is_in_the_table() -> None:
    assert {(still.image, still.stored) for still in STILLS} == set(MAKERS)
    assert len({str(still) for still in STILLS}) == len(STILLS)


@pytest.mark.parametrize("still", STILLS, ids=str)
def test_still(still: Still, tmp_path: Path) -> None:
    path, stored = MAKERS[still.image, still.stored](tmp_path / f"a{still.image}", int(still.orientation))
    several = stored if stored.ndim == 4 else stored[None]
    wanted = np.stack([UPRIGHT[int(still.orientation)](frame) for frame in several])
    clip = open_clip(path)
    assert clip.frame_count == int(still.frames) == len(wanted)
    assert (clip.height, clip.width) == wanted.shape[1:3]
    deep = clip.samples is not None and clip.samples.deep
    assert ("more than 8" if deep else "8") == still.bits
    seen = np.stack(list(clip.rgba_frames())).astype(float)
    assert ("yes" if (seen[..., 3] < 255).any() else "–") == still.alpha
    shown = wanted / (257 if wanted.dtype == np.uint16 else 1)
    visible = wanted[..., 3] > 0
    exact = still.image not in SLACK or "lossless" in still.stored or "animated" in still.stored
    assert np.abs(seen - shown)[visible].mean() < (0.3 if exact else SLACK[still.image])
    if exact:
        assert np.abs((seen - shown)[visible].mean(0)).max() < 0.3
    if deep:  # at all their bits, not at 8 of them
        (picture,) = clip.pictures(0, 1) if clip.pictures else ()
        assert picture.samples is not None
        planes = np.stack(picture.planes(), -1)[..., :3] / ((1 << picture.samples.bits) - 1)
        assert np.abs(planes - wanted[0, ..., : planes.shape[2]] / 65535).mean() < 4e-4


# ---- Masks


def discs(objects: int) -> np.ndarray:
    """(F, H, W) uint8: discs 1 … `objects` on 0 that move down."""
    out = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    for index in range(COUNT):
        for number in range(objects):
            column, row = number % 8, number // 8
            cv2.circle(out[index], (7 + 11 * column, 8 + 13 * row + index), 4, number + 1, -1)
    return out


PALETTE = [value for index in range(256) for value in (index * 37 % 256, index * 91 % 256, index * 53 % 256)]
COLOURS = np.array(
    [(0, 0, 0), *((40 + 50 * (i % 4), 255 - 20 * i % 200, 30 * i % 256) for i in range(1, 32))], np.uint8
)
MaskMaker = Callable[[Path, np.ndarray], Path]


def in_folder(ending: str, save: Callable[[Path, np.ndarray], object]) -> MaskMaker:
    def make(folder: Path, labels: np.ndarray) -> Path:
        path = folder / "mask"
        path.mkdir()
        for index, frame in enumerate(labels):
            save(path / f"{index}.{ending}", frame)
        return path

    return make


def indexed(path: Path, labels: np.ndarray) -> None:
    image = Image.frombytes("P", (WIDTH, HEIGHT), labels.tobytes())
    image.putpalette(PALETTE)
    image.save(path)


def deep_values(path: Path, labels: np.ndarray) -> None:
    cv2.imwrite(str(path), labels.astype(np.uint16))


def white(labels: np.ndarray) -> np.ndarray:
    return (labels > 0) * np.uint8(255)


def soft(labels: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(white(labels), (0, 0), 1.0)


def hole(labels: np.ndarray) -> np.ndarray:
    """(H, W, 4): grey, opaque where an object is."""
    return np.dstack([np.full((*labels.shape, 3), 90, np.uint8), white(labels)])


def float_values(values: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, np.ndarray], None]:
    def save(path: Path, labels: np.ndarray) -> None:
        OpenEXR = pytest.importorskip("OpenEXR")
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        OpenEXR.File(header, {"Y": values(labels).astype(np.float32)}).write(str(path))

    return save


def as_image(pixels: Callable[[np.ndarray], np.ndarray], **options: Any) -> Callable[[Path, np.ndarray], None]:
    return lambda path, labels: Image.fromarray(pixels(labels)).save(path, **options)


def values(labels: np.ndarray) -> np.ndarray:
    return labels


def colours(labels: np.ndarray) -> np.ndarray:
    return COLOURS[labels]


def grey_colours(labels: np.ndarray) -> np.ndarray:
    return np.dstack([labels] * 3)


def soft_light(labels: np.ndarray) -> np.ndarray:
    return soft(labels).astype(np.float32) / 255


def one_bit(path: Path, labels: np.ndarray) -> None:
    Image.fromarray(white(labels)).convert("1").save(path)


def in_video(
    ending: str,
    codec: str,
    pixel_format: str,
    pixels: Callable[[np.ndarray], np.ndarray],
    options: dict[str, str] | None = None,
) -> MaskMaker:
    def make(folder: Path, labels: np.ndarray) -> Path:
        path = folder / f"mask.{ending}"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=24, options=options or {})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
            if "a" in pixel_format and codec.startswith("libvpx"):
                stream.metadata["alpha_mode"] = "1"
            full = 2 if pixel_format in ("gray", "yuv444p") else 0
            stream.codec_context.color_range = full
            for frame in labels:
                made = pixels(frame)
                form = {2: "gray", 3: "rgb24"}.get(made.ndim, "") if made.ndim == 2 or made.shape[2] == 3 else "rgba"
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(made), format=form)
                if form == "gray":
                    picture.color_range = 2
                container.mux(stream.encode(picture.reformat(format=pixel_format, dst_color_range=full or None)))
            container.mux(stream.encode(None))
        return path

    return make


def animated(ending: str, pixels: Callable[[np.ndarray], np.ndarray], palette: bool = False) -> MaskMaker:
    def make(folder: Path, labels: np.ndarray) -> Path:
        images = []
        for frame in labels:
            if palette:
                image = Image.frombytes("P", (WIDTH, HEIGHT), frame.tobytes())
                image.putpalette(PALETTE)
            else:
                image = Image.fromarray(pixels(frame))
            images.append(image)
        path = folder / f"mask.{ending}"
        lossless = {"lossless": True, "exact": True} if ending == "webp" else {}
        images[0].save(path, save_all=True, append_images=images[1:], duration=40, **lossless)
        return path

    return make


def one_still(ending: str, save: Callable[[Path, np.ndarray], object]) -> MaskMaker:
    def make(folder: Path, labels: np.ndarray) -> Path:
        labels[:] = labels[0]
        save(folder / f"mask.{ending}", labels[0])
        return folder / f"mask.{ending}"

    return make


LOSSLESS_HEVC = {"x265-params": "log-level=none:lossless=1"}
MASKS: dict[tuple[str, str], MaskMaker] = {
    ("PNGs", "palette"): in_folder("png", indexed),
    ("TIFFs", "palette"): in_folder("tif", indexed),
    ("BMPs", "palette"): in_folder("bmp", indexed),
    ("GIFs", "palette"): in_folder("gif", indexed),
    (".gif", "palette, animated"): animated("gif", values, palette=True),
    (".png", "palette, one still"): one_still("png", indexed),
    ("PNGs", "grey values"): in_folder("png", as_image(values)),
    ("PNGs", "grey values, 16 bits"): in_folder("png", deep_values),
    ("TIFFs", "grey values"): in_folder("tif", as_image(values)),
    ("TIFFs", "grey values, 16 bits"): in_folder("tif", deep_values),
    ("BMPs", "grey values"): in_folder("bmp", as_image(values)),
    ("WebPs", "grey values, lossless"): in_folder("webp", as_image(grey_colours, lossless=True)),
    ("PGMs", "grey values"): in_folder("pgm", as_image(values)),
    ("EXRs", "grey values, as renderers' object numbers"): in_folder("exr", float_values(values)),
    (".png", "grey values, one still"): one_still("png", as_image(values)),
    (".mkv", "grey values, FFV1"): in_video("mkv", "ffv1", "gray", values),
    (".mkv", "grey values, FFV1 RGB"): in_video("mkv", "ffv1", "bgr0", grey_colours),
    (".mov", "grey values, PNG"): in_video("mov", "png", "gray", values),
    (".mkv", "grey values, H.264 qp 0"): in_video("mkv", "libx264", "gray", values, {"qp": "0"}),
    (".mp4", "grey values, HEVC lossless"): in_video("mp4", "libx265", "gray", values, LOSSLESS_HEVC),
    ("PNGs", "flat colours"): in_folder("png", as_image(colours)),
    ("TIFFs", "flat colours"): in_folder("tif", as_image(colours)),
    ("BMPs", "flat colours"): in_folder("bmp", as_image(colours)),
    ("WebPs", "flat colours, lossless"): in_folder("webp", as_image(colours, lossless=True)),
    (".png", "flat colours, APNG"): animated("png", colours),
    (".webp", "flat colours, animated"): animated("webp", colours),
    (".mkv", "flat colours, FFV1"): in_video("mkv", "ffv1", "bgr0", colours),
    (".mov", "flat colours, QuickTime RLE"): in_video("mov", "qtrle", "rgb24", colours),
    (".avi", "flat colours, UT Video"): in_video("avi", "utvideo", "gbrp", colours),
    ("PNGs", "alpha"): in_folder("png", as_image(hole)),
    ("TIFFs", "alpha"): in_folder("tif", as_image(hole)),
    ("WebPs", "alpha"): in_folder("webp", as_image(hole)),
    (".avif", "alpha, one still"): one_still("avif", as_image(hole, quality=95)),
    (".mov", "alpha, ProRes 4444"): in_video("mov", "prores_ks", "yuva444p10le", hole),
    (".mov", "alpha, QuickTime RLE"): in_video("mov", "qtrle", "argb", hole),
    (".mkv", "alpha, FFV1"): in_video("mkv", "ffv1", "bgra", hole),
    (".webm", "alpha, VP8"): in_video("webm", "libvpx", "yuva420p", hole, {"auto-alt-ref": "0", "b": "2M"}),
    (".webm", "alpha, VP9"): in_video("webm", "libvpx-vp9", "yuva420p", hole, {"auto-alt-ref": "0", "crf": "5"}),
    ("PNGs", "white on black"): in_folder("png", as_image(white)),
    ("PNGs", "soft edges"): in_folder("png", as_image(soft)),
    ("PNGs", "1 bit"): in_folder("png", one_bit),
    ("JPEGs", "white on black"): in_folder("jpg", as_image(white, quality=95)),
    ("EXRs", "soft edges"): in_folder("exr", float_values(soft_light)),
    (".jpg", "white on black, one still"): one_still("jpg", as_image(white, quality=95)),
    (".mp4", "white on black, H.264"): in_video("mp4", "libx264", "yuv420p", white),
    (".mp4", "white on black, HEVC"): in_video("mp4", "libx265", "yuv420p", white, {"x265-params": "log-level=none"}),
    (".webm", "white on black, VP9"): in_video("webm", "libvpx-vp9", "yuv420p", white, {"crf": "20"}),
    (".mkv", "soft edges, FFV1"): in_video("mkv", "ffv1", "gray", soft),
    (".avi", "white on black, MJPEG"): in_video("avi", "mjpeg", "yuvj420p", white, {"qmin": "1", "qmax": "2"}),
}  # fmt: skip
KINDS = {
    "index": "palette",
    "grey": "grey values",
    "colour": "flat colours",
    "alpha": "alpha",
    "brightness": "brightness",
}


@dataclass(frozen=True)
class MaskRow:
    """A mask's file or files, what its objects are told by, their number, and what it is taken for."""

    mask: str
    stored: str
    objects: str
    taken: str

    def __str__(self) -> str:
        return f"{self.mask} {self.stored} {self.objects}"


MASK_ROWS = [MaskRow(*row) for row in table(4)]


def test_every_kind_of_mask_is_in_the_table() -> None:
    assert {(row.mask, row.stored) for row in MASK_ROWS} == set(MASKS)
    assert len({str(row) for row in MASK_ROWS}) == len(MASK_ROWS)


@pytest.mark.parametrize("row", MASK_ROWS, ids=str)
def test_mask(row: MaskRow, tmp_path: Path) -> None:
    labels = discs(int(row.objects))
    path = MASKS[row.mask, row.stored](tmp_path, labels)
    clip = Clip.from_array(np.zeros((COUNT, HEIGHT, WIDTH, 3), np.uint8))
    kind = read_labels(path, open_clip(path), 0, 1).kind
    told_by = "palette" if "gif" in row.mask.lower() else KINDS.get(kind, kind)
    assert told_by == row.taken
    masks = open_object_masks(path, clip)
    several = row.taken in ("palette", "grey values", "flat colours")
    found = sum(mask.numpy() * (number + 1) for number, mask in enumerate(masks)) if several else masks[0].numpy()
    if several:
        assert len(masks) == int(row.objects)
        found = np.asarray(found)
        for number in range(1, int(row.objects) + 1):  # in the order of their numbers, or of their colours
            (name,) = np.unique(found[labels == number])
            np.testing.assert_array_equal(found == name, labels == number)
    else:
        assert len(masks) == 1
        assert (found != (labels > 0)).mean() < 0.01
    assert (open_mask(path, clip).numpy() != (labels > 0)).mean() < 0.01
