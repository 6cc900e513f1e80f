"""The clip in the package, laid out in a folder for a newcomer."""

from __future__ import annotations

import shutil
from pathlib import Path

from layerlift.places import check_writable
from layerlift.whole import whole_file

NAME = "demo.mkv"


def lay_out_demo(root: Path) -> str:
    """Copy the clip into a folder, which is made where it is missing; returns its path below the folder.

    A clip that is there from before stays, with its project. Raises as `places.check_writable`.
    """
    from layerlift.scenes.demo_clip import FOLDER

    check_writable(root, str(root))
    root.mkdir(parents=True, exist_ok=True)
    if not (root / NAME).exists():
        with whole_file(root / NAME, overwrite=False) as made:
            shutil.copyfile(FOLDER / "video.mkv", made)
    return NAME
