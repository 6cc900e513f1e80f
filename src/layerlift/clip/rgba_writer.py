"""Writing layers: whole or not at all, with the sound inside or beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from layerlift.clip.clip import Clip
from layerlift.clip.container import open_input
from layerlift.clip.picture_notes import colour_note, fields_note, shape_note
from layerlift.clip.rgba_encode import LayerFormat, LayerImageSink, import_openexr, layer_coding, layer_like
from layerlift.clip.streams import StreamCopy
from layerlift.clip.writer import ClipWriter, FrameSink, bare, check_place, check_size, is_folder_output, stream_notes
from layerlift.errors import InputError
from layerlift.names import check_name
from layerlift.whole import KeptAsideError, Unfinished

# Endings of layers in one file: FFmpeg's container and the codec.
VIDEO_KINDS = {".mov": ("mov", "prores"), ".mkv": ("matroska", "ffv1"), ".webm": ("webm", "vp9")}
IMAGE_KINDS = ("png", "exr")
SOUND_ENDING = ".mka"

_OUR_IMAGES = re.compile(r"\d{5,}\.(png|exr)")


def choose_layer_format(
    path: str | Path,
    images: str | None = None,
    *,
    bits: int | None = None,
    premultiplied: bool = False,
    lossless: bool = False,
) -> LayerFormat:
    """The format that an output's ending asks for; a path without one is a folder of `images`, "png" or "exr".

    Raises InputError for an unknown ending, and for what the format cannot do.
    """
    ending, folder = Path(path).suffix.lower(), is_folder_output(path)
    if not folder and ending not in VIDEO_KINDS:
        raise InputError(
            f"cannot write {path}: layers are written as .mov (ProRes 4444), .mkv (FFV1), .webm (VP9) or a folder of "
            "images (a path without an extension); change the extension"
        )
    if images is not None and images not in IMAGE_KINDS:
        raise InputError(f"unknown --format {images!r}: choose png or exr")
    if images is not None and not folder:
        raise InputError(
            f"--format {images} writes images into a folder, but {path} is a file: remove its extension, or leave "
            "--format out"
        )
    kind = (images or "png") if folder else VIDEO_KINDS[ending][1]
    if bits is not None and bits not in (8, 16):
        raise InputError(f"--bits is {bits}: choose 8 or 16")
    own_bits = {"prores": "10 for colour and 10 for alpha", "vp9": "8", "exr": "16 (half float)"}
    if bits is not None and kind in own_bits and (kind, bits) not in {("vp9", 8), ("exr", 16)}:
        raise InputError(
            f"--bits is {bits}, but {_name(kind)} has {own_bits[kind]}: leave --bits out, or use .mkv or PNG"
        )
    if lossless and kind in ("prores", "vp9"):
        raise InputError(f"cannot write {path} losslessly: {_name(kind)} is not lossless; use .mkv or a folder")
    if premultiplied and kind in ("png", "vp9"):
        raise InputError(
            f"--premultiplied was given, but {_name(kind)} has straight alpha: use .mov, .mkv or --format exr"
        )
    if kind == "exr":
        import_openexr()
    return LayerFormat(kind, bits or 16, premultiplied or kind == "exr")  # type: ignore[arg-type]


def check_layer_output(path: str | Path, like: Clip, *, overwrite: bool = False) -> Path:
    """Check, before any work begins, that a layer can be written to `path`, its sound beside a folder included.

    Raises InputError for a missing or read-only folder, an existing output without `overwrite`, and an ending whose
    codec does not take the size of `like`.
    """
    folder = is_folder_output(path)
    check_place(str(path), folder, overwrite, _OUR_IMAGES)
    check_layer_size(path, like)
    sound = sound_file(path)
    if not (folder and has_sound(like)):
        return Path(path)
    check_name(sound)
    if sound.is_dir():
        raise InputError(f"{sound}, which would hold the layer's sound, is a folder; choose another output")
    if sound.exists() and not overwrite:
        raise InputError(
            f"{sound}, which would hold the layer's sound, already exists; choose another output or add --overwrite"
        )
    return Path(path)


def check_layer_size(path: str | Path, like: Clip) -> None:
    """`check_size` for a layer."""
    check_size(path, bare(like), lambda ending: layer_coding(like, choose_layer_format(f"layer{ending}")), VIDEO_KINDS)


def sound_file(folder: str | Path) -> Path:
    """Where the sound of a layer in a folder lies: beside it, under its name."""
    folder = Path(folder)
    if folder.name in ("", ".."):  # the current folder, or the one above: their names are elsewhere
        folder = Path(os.path.realpath(folder))
    return folder.with_name(folder.name + SOUND_ENDING)


def has_sound(like: Clip) -> bool:
    """Whether the file a clip comes from has sound."""
    if like.path is None:
        return False
    with open_input(like.path) as source:
        return bool(source.streams.audio)


class LayerWriter(ClipWriter):
    """A `ClipWriter` for layers: takes frames (H, W, 4) float32 in [0, 1], straight alpha, one by one.

    The colours have to be linear light where the format's are (`LayerFormat.linear`). Sound is copied, coded as Opus in
    WebM, and in a file of its own beside a folder.

    Raises InputError as `check_layer_output` does, ValueError for frames that are not those of `like`.
    """

    def __init__(
        self, path: str | Path, like: Clip, layer: LayerFormat, *, overwrite: bool = False, sound: bool = True
    ) -> None:
        self.format = layer
        # A layer's samples are its own, at more than 8 bits, and so is its alpha.
        bare = replace(like, samples=None, pictures=None, hdr=None)
        super().__init__(path, bare, lossless=layer.kind in ("ffv1", "png"), overwrite=overwrite, sound=sound)

    def _check(self) -> None:
        check_layer_output(f"{self.path}/" if self._folder else self.path, self.like, overwrite=self._overwrite)

    def _check_size(self) -> None:
        """As the check of the place does."""

    def _notes(self) -> list[str]:
        lost = fields_note(self.like, "a layer")
        if self.format.kind == "png":
            lost = [*shape_note(self.like), *colour_note(layer_like(self.like)), *lost]
        if self._folder:
            sound = [f"The sound is in {sound_file(self.path)}."] if has_sound(self.like) else []
            return [*sound, *stream_notes(f"{self.path}/", self.like, sound_beside=True), *lost]
        return [*stream_notes(self.path, self.like), *lost]

    def _prepare(self, frame: np.ndarray) -> np.ndarray:
        if frame.ndim != 3 or frame.shape[2] != 4 or frame.dtype != np.float32:
            raise ValueError(
                f"a layer's frame of shape {frame.shape} and type {frame.dtype}, expected (H, W, 4) float32"
            )
        return frame

    def _open(self, frame: np.ndarray, path: Path) -> FrameSink:
        from layerlift.clip.encode import VideoSink

        if self._folder:
            return LayerImageSink(path, self.format, self.like)
        container = VIDEO_KINDS[self.path.suffix.lower()][0]
        coding = layer_coding(self.like, self.format)
        return VideoSink(path, container, self.like, coding, sound=self._sound)

    def _commit(self, made: Unfinished) -> None:
        if not (self._folder and self._sound and has_sound(self.like)):
            made.commit()
            return
        sound = Unfinished(sound_file(self.path), overwrite=self._overwrite)
        try:
            write_sound(sound.path, self.like)
            try:
                made.commit()
            except KeptAsideError as kept:
                sound.place = sound_file(kept.path)
                raise
            finally:
                sound.commit()
        finally:
            sound.discard()


def write_sound(path: Path, like: Clip) -> None:
    """Write the sound of a clip, unchanged, into a Matroska file of its own."""
    import av

    assert like.path is not None
    options = {"fflags": "+bitexact"}  # without it, a random id
    with open_input(like.path) as source, av.open(str(path), "w", format="matroska", options=options) as target:
        StreamCopy(source, target, like, only_sound=True).copy_until(None)


def write_layer(
    path: str | Path,
    frames: Iterable[np.ndarray],
    like: Clip,
    layer: LayerFormat | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write frames, (H, W, 4) float32 in [0, 1] with straight alpha each, with the timing and sound of `like`."""
    with LayerWriter(path, like, layer or choose_layer_format(path), overwrite=overwrite) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.path


def _name(kind: str) -> str:
    return {
        "prores": "ProRes 4444 (.mov)",
        "vp9": "VP9 (.webm)",
        "exr": "OpenEXR",
        "png": "PNG",
        "ffv1": "FFV1 (.mkv)",
    }[kind]
