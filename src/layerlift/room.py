"""Room on disks: what a job takes at least, held against what is free before the work begins.

Figures are low on purpose: a job that fits must not be refused, and one that does not fit after all still ends in a
sentence.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.errors import LayerliftError
from layerlift.temporary import folder

if TYPE_CHECKING:
    from layerlift.clip import Clip

# Bytes a pixel of a frame. A drawn clip with grain, 288x192, took 0.58 lossless, 0.03 as H.264, 0.56 as a ProRes layer
# and 0.006 as a mask; plainer ones take less.
LOSSLESS, IMAGES, LAYER, LOSSY, MASK = 0.3, 0.3, 0.1, 0.01, 0.001
# Of what waits between steps, a pixel: a reduced frame and what is hidden in it, and the same filled by two rounds with
# its error; a reduced frame in grey, compressed; and a mask of a whole frame, compressed.
REDUCED, GREY, MASKED = 4.0 + 2 * 7.0, 0.2, 0.005
# Bytes of what MobileSAM sees, which is kept of every fourth frame.
SEEN = 2 * 2**20 / 4


def clip_room(path: str | Path, like: Clip, *, lossless: bool = False) -> int:
    """Bytes that a clip of the size and length of `like` takes at least as the file or folder that `path` names."""
    images = Path(path).suffix == "" or str(path).endswith("/")
    return round(_pixels(like) * (IMAGES if images else LOSSLESS if lossless else LOSSY))


def mask_room(like: Clip) -> int:
    """Bytes that a mask of a clip takes at least."""
    return round(_pixels(like) * MASK)


def layer_room(path: str | Path, like: Clip) -> int:
    """Bytes that a layer takes at least."""
    return round(_pixels(like) * (LAYER if Path(path).suffix in (".mov", ".webm") else LOSSLESS))


def evidence_room(like: Clip, *, masks: int = 0) -> int:
    """Bytes that looking into other frames takes at least at its end, with `masks` masks kept beside it."""
    from layerlift.evidence.motion import reduced_size

    width, height = reduced_size(like)
    return round(like.frame_count * width * height * REDUCED + _pixels(like) * MASKED * masks)


def segment_room(like: Clip, *, seen: bool) -> int:
    """Bytes that finding objects takes at least: every reduced frame in grey, and what MobileSAM has `seen`."""
    from layerlift.evidence.motion import reduced_size

    width, height = reduced_size(like)
    return round(like.frame_count * (width * height * GREY + SEEN * seen))


def check_room(results: Mapping[str | Path, int], temporary: int = 0) -> None:
    """Hold bytes that are needed against what is free, disk by disk.

    `results` maps paths to bytes; `temporary` are those of temporary files. Raises LayerliftError with the figures of
    the first disk that is too full.
    """
    disks: dict[int, tuple[Path, list[str], int]] = {}
    wanted = [(Path(path), str(path), size) for path, size in results.items()]
    ours = f"temporary files in {folder()}"
    for path, said, size in [*wanted, (Path(folder()), ours, temporary)]:
        place = next((at for at in (path.absolute(), *path.absolute().parents) if at.exists()), None)
        if place is None or size == 0:
            continue
        _, names, total = disks.get(_disk(place), (place, [], 0))
        disks[_disk(place)] = place, [*names, said], total + size
    for place, names, total in disks.values():
        free = shutil.disk_usage(place).free
        if total > free:
            raise LayerliftError(
                f"{' and '.join(names)} will take at least {megabytes(total)}, but only {megabytes(free)} are free "
                f"there: free some space, or choose a place on another disk"
                f"{' (TMPDIR for temporary files)' if ours in names else ''}."
            )


def megabytes(size: int) -> str:
    """A size as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _disk(place: Path) -> int:
    return place.stat().st_dev


def _pixels(like: Clip) -> int:
    return like.width * like.height * like.frame_count
