"""The clip in the package: a scene rendered in 3-D, with its objects' masks and the true clean plate."""

from __future__ import annotations

import shutil
from pathlib import Path

# Made by tools/demo_clip.py.
FOLDER = Path(__file__).with_name("demo_clip")


def write_demo_clip(folder: Path) -> int:
    """Copy the clip's files into `folder`, laid out as a scene's; returns how many objects it has."""
    for path in sorted(FOLDER.rglob("*.mkv")):
        target = folder / path.relative_to(FOLDER)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return len(list(FOLDER.glob("object_mask_*.mkv")))
