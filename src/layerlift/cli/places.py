"""What a command reads, as files and folders: what `settle_places` holds its outputs against."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.names import at_home
from layerlift.options import RuntimeOptions
from layerlift.places import Given

if TYPE_CHECKING:
    from layerlift.evidence.reference import GivenReferences


def read_of_clip(clip: Path, *, total: bool = True) -> dict[str, Given]:
    """The clip, and the masks beside it where it is a folder that holds both; without `total` not the total mask."""
    from layerlift.clip import layout_masks

    layout = layout_masks(clip)
    masks = [*layout.object_masks, layout.object_mask, layout.total_mask if total else None]
    return {"CLIP": [layout.video, *(mask for mask in masks if mask is not None)]}


def read_of(*given: Path | Iterable[Path] | None) -> list[Path]:
    """What is read of the paths given: of ``masks.png:2`` the file, of a folder that holds a video and masks the video.

    Raises InputError as `layout_masks`.
    """
    from layerlift.clip import layout_masks
    from layerlift.masks import split_label

    several = [path for paths in given if paths is not None for path in ([paths] if isinstance(paths, Path) else paths)]
    return [layout_masks(split_label(path)[0]).video for path in several]


def read_of_layers(layers: Iterable[Path]) -> list[Path]:
    """The layers, and the sound that lies beside those that are folders."""
    from layerlift.clip.rgba_writer import sound_file

    return [path for layer in layers for path in (*read_of(layer), sound_file(Path(os.path.realpath(layer))))]


def read_of_model(running: RuntimeOptions) -> dict[str, Given]:
    """The model's file or folder where it is given as one, and the text encoder's."""
    from layerlift.engine.model.catalogue import CATALOGUE, DEMO
    from layerlift.stages.choose_model import NO_MODEL

    named = running.model in (None, NO_MODEL, DEMO, *CATALOGUE)
    model = None if named else at_home(str(running.model))
    return {"--model": model, "--text-encoder": running.text_encoder}


def read_of_references(given: "GivenReferences | None") -> dict[str, Given]:
    """The pictures, as `parse_references` found them."""
    return {"--reference": [Path(str(picture)) for picture in given.values()] if isinstance(given, Mapping) else None}
