"""The masks that commands are given, or that lie beside the video: opened and checked."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.errors import InputError

if TYPE_CHECKING:
    from layerlift.clip import Clip
    from layerlift.masks import Mask


def open_objects(given: Sequence[Path], folder: Path, clip: "Clip") -> "tuple[list[int], list[Mask]]":
    """Number and mask of every object, the frontmost first: those given, else those beside the video.

    A label image holds several objects, in order of their IDs. Raises InputError when there is none.
    """
    from layerlift.clip import layout_masks

    if given:
        masks = open_masks(given, clip)
        return list(range(len(masks))), masks
    found = layout_masks(folder).object_masks
    if not found:
        raise InputError(
            f"no object mask was given for {folder}: add --object, or give a folder with object_mask beside its video."
        )
    masks = open_masks(found, clip)  # `layerlift scene` counts from the back, as painters do
    return list(range(len(masks)))[::-1], masks[::-1]


def open_masks(paths: Iterable[Path], clip: "Clip") -> "list[Mask]":
    """The object masks at paths, each object of a label image its own, each checked against the clip."""
    from layerlift.masks import open_object_masks

    return [mask for path in paths for mask in open_object_masks(path, clip)]


def open_unions(paths: Iterable[Path], clip: "Clip") -> "list[Mask]":
    """The masks at paths, all objects of a label image as one, each checked against the clip."""
    from layerlift.masks import open_mask

    return [open_mask(path, clip) for path in paths]


def open_total(total: Path | None, folder: Path, clip: "Clip") -> "Mask | None":
    """The total mask given, else the one beside the video, else none."""
    from layerlift.clip import layout_masks

    path = total or layout_masks(folder).total_mask
    return None if path is None else open_unions([path], clip)[0]


def open_totals(totals: Sequence[Path], folder: Path, clip: "Clip") -> "list[Mask] | None":
    """The total masks given, else the one beside the video, else none."""
    if totals:
        return open_unions(totals, clip)
    found = open_total(None, folder, clip)
    return None if found is None else [found]


def open_input_mask(mask: Path | None, folder: Path, clip: "Clip") -> "Mask":
    """The mask given with ``--mask``, else the one beside the video in `folder`: the total mask, or the objects'.

    Raises InputError when there is none, and as `open_mask` does.
    """
    from layerlift.clip import layout_masks
    from layerlift.masks import union_masks

    if mask is not None:
        return open_unions([mask], clip)[0]
    layout = layout_masks(folder)
    union = layout.total_mask or layout.object_mask
    paths = layout.object_masks if union is None else (union,)
    if not paths:
        raise InputError(
            f"no mask was given for {folder}: add --mask, or give a folder with total_mask or object_mask beside its "
            "video."
        )
    return union_masks(open_unions(paths, clip))


def notes_of(*masks: "Mask | None") -> list[str]:
    """What the masks were taken for, and what in them looks like a mistake: to be said when the work begins."""
    return list(dict.fromkeys(note for mask in masks if mask is not None for note in mask.notes))
