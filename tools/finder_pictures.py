"""Collects the photographs and cut-out objects that the finder is trained on: `finder_pictures.py UNPACKED PICTURES`.

UNPACKED holds a folder for each Debian package in `finder_training/pictures.json`, as `dpkg -x` unpacks it.
docs/notes/finder.md names the packages, their versions and licences.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

LIST = Path(__file__).parent / "finder_training" / "pictures.json"
# Pixels: photographs' longer side, their shorter side at least, and where they are cut; the longer side of objects.
LONG, SHORT, MOST = 1280, 420, (1200, 1600)
OBJECT = 180


def main() -> None:
    """Read the command line and write PICTURES/photos and PICTURES/objects."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unpacked", type=Path)
    parser.add_argument("pictures", type=Path)
    given = parser.parse_args()
    for folder in ("photos", "objects"):
        (given.pictures / folder).mkdir(parents=True, exist_ok=True)
    for name, source in json.loads(LIST.read_text()).items():
        picture = cv2.imread(str(given.unpacked / source), cv2.IMREAD_UNCHANGED if name.endswith(".png") else 1)
        if picture is None:
            raise SystemExit(f"{given.unpacked / source} is no picture: unpack its package first.")
        if name.endswith(".png"):
            small = scaled(picture, min(1, OBJECT / max(picture.shape[:2])))
            cv2.imwrite(str(given.pictures / "objects" / name), as_bytes(small))
        else:
            scale = max(min(1, LONG / max(picture.shape[:2])), SHORT / min(picture.shape[:2]))
            small = scaled(picture, scale)[: MOST[0], : MOST[1]]
            cv2.imwrite(str(given.pictures / "photos" / name), small, [cv2.IMWRITE_JPEG_QUALITY, 86])


def scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    """The picture smaller."""
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """16 bits as 8."""
    return picture if picture.dtype == np.uint8 else (picture / 257).astype(np.uint8)


if __name__ == "__main__":
    main()
