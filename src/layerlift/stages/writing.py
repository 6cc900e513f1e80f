"""Results into files, frame by frame as they come; what a file cannot hold is told in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from layerlift.clip import Clip, ClipWriter
from layerlift.clip.rgba_encode import LayerFormat
from layerlift.clip.rgba_writer import LayerWriter

Told = Callable[[str], None]


def write_frames(
    path: Path, frames: Iterable[np.ndarray], like: Clip, told: Told, *, lossless: bool, overwrite: bool = False
) -> None:
    """Write a video of frames (H, W, 3) or (H, W, 4) uint8, with the timing, colours and sound of `like`."""
    with ClipWriter(path, like, lossless=lossless, overwrite=overwrite) as writer:
        for note in writer.notes:
            told(note)
        for frame in frames:
            writer.write(frame)


def write_layers(
    paths: Sequence[str | Path],
    frames: Iterable[list[np.ndarray]],
    like: Clip,
    form: LayerFormat,
    told: Told,
    *,
    overwrite: bool = False,
) -> None:
    """Write layers, for every frame a list of one (H, W, 4) float32 for each of `paths`."""
    with ExitStack() as stack:
        writers = [stack.enter_context(LayerWriter(path, like, form, overwrite=overwrite)) for path in paths]
        for note in dict.fromkeys(note for writer in writers for note in writer.notes):
            told(note)
        for parts in frames:
            for writer, part in zip(writers, parts, strict=True):
                writer.write(part)
