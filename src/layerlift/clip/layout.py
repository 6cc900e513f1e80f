"""The folder layout of the earlier systems: `video`, `object_mask`, `total_mask` side by side in one folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from layerlift.errors import InputError

VIDEO_ENDINGS = frozenset({
    ".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".flv",
    ".gif", ".apng", ".ogv", ".y4m", ".3gp", ".mxf", ".nut", ".vob", ".ivf", ".h264", ".264", ".hevc", ".265", ".av1",
    ".obu", ".dv", ".rm", ".rmvb", ".divx", ".f4v", ".mjpeg", ".mjpg",
})  # fmt: skip
IMAGE_ENDINGS = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".exr", ".gif", ".heic",
    ".heif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".dpx", ".jp2", ".j2k", ".jpf", ".qoi",
})  # fmt: skip

_NUMBERED = re.compile(r"object_mask_(\d+)")


@dataclass(frozen=True, slots=True)
class Layout:
    """What a folder in the earlier systems' layout holds; every path is a video, a still or a folder of images."""

    video: Path
    object_masks: tuple[Path, ...] = ()  # object_mask_0, object_mask_1 …, or the single object_mask
    object_mask: Path | None = None  # the single one, or the union beside numbered ones
    total_mask: Path | None = None


def layout_masks(path: str | Path) -> Layout:
    """Say which masks lie beside the video of a folder; for any other path, that path as the video and no masks.

    Raises InputError when one name is there twice, such as `video.mp4` and `video.mov`.
    """
    path = Path(path)
    if not is_layout(path):
        return Layout(video=path)
    named: dict[str, Path] = {}
    for entry in sorted(path.iterdir()):
        name = _layout_name(entry)
        if name is None:
            continue
        if name in named:
            raise InputError(
                f"{path} contains both {named[name].name} and {entry.name}, but only one {name} is allowed; remove "
                "one of them or give the file itself."
            )
        named[name] = entry
    numbers = sorted((int(m[1]), name) for name in named if (m := _NUMBERED.fullmatch(name)))
    union = named.get("object_mask")
    numbered = tuple(named[name] for _, name in numbers)
    return Layout(
        video=named["video"],
        object_masks=numbered or ((union,) if union is not None else ()),
        object_mask=union,
        total_mask=named.get("total_mask"),
    )


def is_folder(path: Path) -> bool:
    """Whether a folder is there; a name that is too long for one is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_layout(path: Path) -> bool:
    """Whether `path` is a folder with a `video` in it (a file with a video's ending, or a folder of images)."""
    return is_folder(path) and any(_layout_name(entry) == "video" for entry in path.iterdir())


def _layout_name(entry: Path) -> str | None:
    """The part an entry plays in the layout, None when it plays none."""
    name = entry.name if entry.is_dir() else entry.stem
    if name == "video":
        return name if entry.is_dir() or entry.suffix.lower() in VIDEO_ENDINGS else None
    if name in ("object_mask", "total_mask") or _NUMBERED.fullmatch(name):
        known = entry.is_dir() or entry.suffix.lower() in VIDEO_ENDINGS | IMAGE_ENDINGS
        return name if known else None
    return None
