"""Files that are as they should be, one or a few for every way in: what is made hostile starts from them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from folders import make_folders
from mutate import Edit, byte_edits, changed_bytes, changed_header, changed_json, json_edits, put_special

WIDTH, HEIGHT, COUNT = 64, 48, 5


@dataclass(frozen=True, slots=True)
class Seed:
    """A whole input.

    Attributes:
        kind: the row of the table.
        path: what a user would give.
        target: the file of it that is changed.
        way: how: "bytes", "json", "header" of a safetensors file, or "special": something else lies in its place.
        reader: what it is read with, by its name in `readers`.
    """

    kind: str
    path: Path
    target: Path
    way: str
    reader: str

    @property
    def name(self) -> str:
        """The same in every run."""
        return f"{self.reader} {'/'.join(self.target.parts[-2:])} {self.way}"

    @property
    def edits(self) -> Any:
        """The strategy that draws edits."""
        return byte_edits if self.way == "bytes" else json_edits

    def write(self, folder: Path, edits: list[Edit]) -> Path:
        """A copy in `folder` (which does not exist) with the target changed; returns what a user would give."""
        if self.path.is_dir():
            shutil.copytree(self.path, folder, copy_function=_linked)
            given, target = folder, folder / self.target.relative_to(self.path)
        else:
            folder.mkdir()
            given = target = folder / self.path.name
        target.unlink(missing_ok=True)
        if self.way == "special":
            if edits:
                put_special(target, *edits[0])
            else:
                shutil.copy(self.target, target)
        elif self.way == "header":
            with self.target.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                text = changed_header(stream.read(length), edits)
                size = self.target.stat().st_size - 8 - length
                rest = stream.read(size) if size < _LARGE else b""
            with target.open("wb") as stream:
                stream.write(len(text).to_bytes(8, "little") + text + rest)
                stream.truncate(8 + len(text) + size)
        elif self.way == "json":
            target.write_text(changed_json(json.loads(self.target.read_text()), edits), encoding="utf-8")
        else:
            target.write_bytes(changed_bytes(self.target.read_bytes(), edits))
        return given


# Files of models, and others by their seeds' names, in whose place something else is put.
_SPECIAL = (
    "config.json", "layerlift.json", "diffusion_pytorch_model.safetensors.index.json", "text.safetensors",
    "diffusion_pytorch_model.safetensors", "effects.safetensors", "ltx.safetensors", "model.safetensors",
    "entry.safetensors", "prompts.safetensors", "tokenizer.json", "encoder tokenizer/spiece.model bytes",
    "picture pictures/rgb.png bytes",
    "mask pictures/labels.png bytes", "layer pictures/rgba.png bytes", "reference pictures/clean.png bytes",
    "video videos/clip.mkv bytes", "segmenter sam2/model.safetensors header", "manifest folders/clips.csv bytes",
    "project toy.layerlift/project.json json", "project results/present.json json", "project jobs/a.json json",
    "results clips/dog.json json", "results dog/report.json json", "job .out.mkv.layerlift-job/manifest.json json",
    "job .out.mkv.layerlift-job/settled.json json", "job shelves/frames bytes", "job steps/remove bytes",
)  # fmt: skip
_SMALL = 2**16  # bytes of a file that is copied
_LARGE = 2**28  # bytes of weights that are a hole in the file


def _linked(source: str, target: str) -> None:
    if Path(source).stat().st_size > _SMALL:
        Path(target).hardlink_to(source)
    else:  # what a command writes to again, as it does in a job's folder, must not change the seed
        shutil.copyfile(source, target)


def make_seeds(folder: Path) -> None:
    """Write all seeds below `folder`, for `load_seeds`."""
    parts = {"models": _models, "texts": _texts, "pictures": _pictures, "videos": _videos, "folders": make_folders}
    made = [seed for name, make in parts.items() for seed in make(folder / name)]
    made += [replace(seed, kind="special files", way="special") for seed in made if (seed.target.name in _SPECIAL
             and seed.way != "bytes") or seed.name in _SPECIAL]  # fmt: skip
    rows = [[seed.kind, str(seed.path), str(seed.target), seed.way, seed.reader] for seed in made]
    (folder / "seeds.json").write_text(json.dumps(rows))


def load_seeds(folder: Path) -> list[Seed]:
    """What `make_seeds` wrote there."""
    rows = json.loads((folder / "seeds.json").read_text())
    return [Seed(kind, Path(path), Path(target), way, reader) for kind, path, target, way, reader in rows]


def _models(folder: Path) -> list[Seed]:
    from safetensors.torch import load_file, save_file

    from model_files import lightricks_shapes, write_package, write_sparse
    from support import write_even_heads
    from tiny_model import write_tiny_model

    folder.mkdir(parents=True)
    tiny = write_even_heads(write_tiny_model(folder / "tiny"), 0.3)
    package = folder / "package"
    write_package(tiny, package)
    shutil.copy(tiny / "effects.safetensors", package)
    sharded = shutil.copytree(tiny, folder / "sharded")
    weights = sharded / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    halves = dict(zip("12", (sorted(tensors)[::2], sorted(tensors)[1::2]), strict=True))
    for name, keys in halves.items():
        save_file({key: tensors[key] for key in keys}, sharded / "vae" / f"part-{name}.safetensors")
    weights.unlink()
    index = sharded / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    weight_map = {key: f"part-{name}.safetensors" for name, keys in halves.items() for key in keys}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    shapes = {key: shape for key, shape in lightricks_shapes("transformer_2b").items()
              if "transformer_blocks" not in key or "transformer_blocks.0." in key}  # fmt: skip
    stated = {
        "transformer": {"num_layers": 1, "num_attention_heads": 32, "attention_head_dim": 64, "in_channels": 128},
        "scheduler": {"allowed_inference_steps": [1.0, 0.75, 0.5, 0.0]},
        "vae": {"latent_channels": 128, "patch_size": 4},
    }
    single = write_sparse(folder / "ltx.safetensors", shapes, stated)
    plain = [
        ("model configs", tiny, "transformer/config.json", "json"),
        ("model configs", tiny, "vae/config.json", "json"),
        ("model configs", package, "config.json", "json"),
        ("model configs", sharded, "vae/diffusion_pytorch_model.safetensors.index.json", "json"),
        ("model settings", tiny, "layerlift.json", "json"),
        ("weight headers", tiny, "transformer/diffusion_pytorch_model.safetensors", "header"),
        ("weight headers", package, "vae-0.safetensors", "header"),
        ("weight headers", package, "transformer-0.safetensors", "bytes"),
        ("ready text", tiny, "text.safetensors", "header"),
        ("ready text", tiny, "text.safetensors", "bytes"),
        ("effect heads", tiny, "effects.safetensors", "header"),
        ("effect heads", package, "effects.safetensors", "bytes"),
    ]
    return [
        *(Seed(kind, path, path / name, way, "model") for kind, path, name, way in plain),
        Seed("single files", single, single, "header", "single_file"),
    ]


def _texts(folder: Path) -> list[Seed]:
    import torch
    from sentencepiece import SentencePieceTrainer
    from transformers import T5Config, T5EncoderModel

    from layerlift.engine.model.published import write_published
    from layerlift.engine.model.text import TextEmbedding, write_cached

    encoder = folder / "encoder"
    config = T5Config(
        vocab_size=300, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).save_pretrained(encoder / "text_encoder")
    (encoder / "tokenizer").mkdir()
    with (encoder / "tokenizer" / "spiece.model").open("wb") as model:
        SentencePieceTrainer.train(sentence_iterator=iter(["worst quality", "empty", "a b c d"]), model_writer=model,
                                   vocab_size=21, minloglevel=2)  # fmt: skip
    other = shutil.copytree(encoder, folder / "other")
    (other / "tokenizer" / "spiece.model").unlink()
    words = {"a": 0, "b": 1, "<unk>": 2}
    (other / "tokenizer" / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": [],
                "normalizer": None,
                "pre_tokenizer": None,
                "post_processor": None,
                "decoder": None,
                "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
            }
        )
    )
    stored = folder / "cached" / "entry.safetensors"
    write_cached(stored, "Empty", torch.zeros(1, 4, 16), torch.ones(1, 4, dtype=torch.bool))
    published = folder / "prompts.safetensors"
    empty = TextEmbedding(torch.zeros(1, 256, 16), torch.ones(1, 256, dtype=torch.bool))
    write_published(published, "0" * 64, "bfloat16", {"Empty": empty, "": empty})
    plain = [
        (encoder, "text_encoder/config.json", "json"),
        (encoder, "text_encoder/model.safetensors", "header"),
        (encoder, "tokenizer/spiece.model", "bytes"),
        (other, "tokenizer/tokenizer.json", "json"),
    ]
    return [
        *(Seed("text encoder", path, path / name, way, "encoder") for path, name, way in plain),
        Seed("prompt cache", stored, stored, "header", "cached"),
        Seed("prompt cache", stored, stored, "bytes", "cached"),
        Seed("published prompts", published, published, "header", "published"),
        Seed("published prompts", published, published, "bytes", "published"),
    ]


def frames() -> np.ndarray:
    """A clip of texture, (F, H, W, 3) uint8, in which a square moves."""
    rng = np.random.default_rng(0)
    out = np.repeat(rng.integers(0, 200, (1, HEIGHT, WIDTH, 3), np.uint8), COUNT, 0)
    for index in range(COUNT):
        out[index, 16:32, 8 + 4 * index : 24 + 4 * index] = 255
    return out


def masks() -> np.ndarray:
    """Where the square is, (F, H, W) bool."""
    return (frames() == 255).all(-1)


def _pictures(folder: Path) -> list[Seed]:
    import OpenEXR
    from av.video.frame import VideoFrame
    from PIL import Image

    folder.mkdir(parents=True)
    picture, mask = frames()[0], masks()[0]
    rgba = np.dstack([picture, mask * np.uint8(255)])
    labels = (mask * np.uint8(2)) + np.eye(HEIGHT, WIDTH, dtype=np.uint8)
    palette = Image.fromarray(labels, "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    made: dict[str, Image.Image] = {
        "rgb.png": Image.fromarray(picture), "rgba.png": Image.fromarray(rgba), "labels.png": palette,
        "grey.png": Image.fromarray(mask * np.uint8(255)), "deep.png": Image.fromarray(mask.astype(np.uint16) * 65535),
        "rgb.jpg": Image.fromarray(picture), "rgb.tif": Image.fromarray(picture), "rgba.tif": Image.fromarray(rgba),
        "rgb.bmp": Image.fromarray(picture), "rgba.webp": Image.fromarray(rgba), "rgb.ppm": Image.fromarray(picture),
        "labels.gif": palette, "rgb.jp2": Image.fromarray(picture), "rgb.qoi": Image.fromarray(rgba),
        "rgb.avif": Image.fromarray(picture),
    }  # fmt: skip
    written = []
    for name, image in made.items():
        options: dict[str, Any] = {"exif": _exif()} if name == "rgb.jpg" else {}
        try:
            image.save(folder / name, **options)
        except (OSError, KeyError, ValueError):  # this Pillow does not write it
            continue
        written.append(name)
    clean = picture.copy()
    clean[mask] = 90
    Image.fromarray(clean).save(folder / "clean.png")
    Image.fromarray(clean).save(folder / "clean.jpg", quality=95)
    animated = [Image.fromarray(frame) for frame in frames()]
    for name in ("moving.webp", "moving.gif", "moving.png"):
        animated[0].save(folder / name, save_all=True, append_images=animated[1:], duration=40)
        written.append(name)
    light = rgba.astype(np.float16) / 255
    for name, header in (("zip", OpenEXR.ZIP_COMPRESSION), ("piz", OpenEXR.PIZ_COMPRESSION)):
        file = OpenEXR.File({"compression": header, "type": OpenEXR.scanlineimage}, {"RGBA": light})
        file.write(str(folder / f"{name}.exr"))
        written.append(f"{name}.exr")
    tiled = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
    OpenEXR.File(tiled, {"RGBA": light}).write(str(folder / "tiled.exr"))
    written.append("tiled.exr")
    _ffmpeg_picture(folder / "rgb.dpx", "dpx", VideoFrame.from_ndarray(picture, format="rgb24"))
    written.append("rgb.dpx")
    paths = [folder / name for name in written]
    return [
        *(Seed("pictures", path, path, "bytes", "video" if path.stem == "moving" else "picture") for path in paths),
        *(Seed("masks", path, path, "bytes", "mask") for path in paths if path.stem in _MASKS),
        *(Seed("layers", path, path, "bytes", "layer") for path in paths if path.stem in _LAYERS),
        *(Seed("references", path, path, "bytes", "reference") for path in sorted(folder.glob("clean.*"))),
    ]


_MASKS = ("labels", "grey", "deep", "rgba", "moving", "zip")
_LAYERS = ("rgba", "zip", "piz", "tiled")


def _exif() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _ffmpeg_picture(path: Path, codec: str, frame: Any) -> None:
    import av

    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt, context.time_base = frame.width, frame.height, "rgb24", Fraction(1)
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))


def _videos(folder: Path) -> list[Seed]:
    from layerlift.clip import Clip, write_clip, write_mask
    from layerlift.clip.rgba_writer import choose_layer_format, write_layer

    folder.mkdir(parents=True)
    clip = Clip.from_array(frames())
    for name in ("clip.mp4", "clip.mkv", "clip.mov"):
        write_clip(folder / name, frames(), clip, lossless=name == "clip.mkv")
    write_mask(folder / "mask.mkv", masks(), clip)
    layer = np.dstack([frames()[0] / 255, masks()[0]]).astype(np.float32)
    for name in ("layer.mov", "layer.mkv", "layer.webm"):
        write_layer(folder / name, np.repeat(layer[None], COUNT, 0), clip, choose_layer_format(folder / name))
    others: list[tuple[str, str, str, str | None]] = [
        ("clip.avi", "mjpeg", "yuvj420p", None), ("clip.ts", "mpeg2video", "yuv420p", None),
        ("clip.h264", "libx264", "yuv420p", "h264"), ("clip.y4m", "wrapped_avframe", "yuv420p", "yuv4mpegpipe"),
        ("clip.webm", "libvpx-vp9", "yuv420p", None),
    ]  # fmt: skip
    for name, codec, pixels, container in others:
        _encode(folder / name, codec, pixels, container)
    _with_attachments(folder / "attached.mkv", folder / "clip.mkv")
    films = sorted(path for path in folder.iterdir() if path.stem in ("clip", "attached"))
    return [
        *(Seed("videos", path, path, "bytes", "video") for path in films),
        Seed("attachments", folder / "attached.mkv", folder / "attached.mkv", "bytes", "rewritten"),
        Seed("masks", folder / "mask.mkv", folder / "mask.mkv", "bytes", "mask"),
        *(Seed("layers", path, path, "bytes", "layer") for path in sorted(folder.glob("layer.*"))),
    ]


def _encode(path: Path, codec: str, pixels: str, container: str | None) -> None:
    import av

    with av.open(str(path), "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for picture in frames():
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture).reformat(format=pixels)))
        file.mux(stream.encode(None))


def _with_attachments(path: Path, clip: Path) -> None:
    """The clip with sound, a subtitle, a chapter and a font."""
    import av

    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        picture = target.add_stream_from_template(source.streams.video[0])
        sound: Any = target.add_stream("pcm_s16le", rate=8000)
        attachment = getattr(target, "add_attachment", None)
        if attachment is not None:
            attachment("font.ttf", "font/ttf", b"\0\1\0\0" + bytes(200))
        target.set_chapters(
            [{"id": 1, "start": 0, "end": 100, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = picture
                target.mux(packet)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        tone.sample_rate = 8000
        target.mux([*sound.encode(tone), *sound.encode(None)])
