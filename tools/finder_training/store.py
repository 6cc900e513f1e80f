"""Gathered plates in small files: the clip is made again from its seed, only what evidence told of it is kept."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np

from finder_training.composites import Composite
from finder_training.samples import Plates

QUALITY = 91  # of JPEG


def write_plates(path: Path, clip: Composite, plates: Plates) -> None:
    """Keep the plates where they differ from the clip or are known."""
    differs = (plates.plate != clip.video).any(-1) | plates.known
    looked = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0 for mask in differs])
    pictures = []
    for plate, mask in zip(plates.plate, looked, strict=True):
        picture = plate.copy()
        picture[~mask] = plate[mask].mean(0) if mask.any() else 0  # costs least
        pictures.append(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].ravel())
    part = path.with_name(f".{path.name}")
    np.savez(
        part,
        jpg=np.concatenate(pictures),
        ends=np.cumsum([len(picture) for picture in pictures]),
        known=packed(plates.known),
        look=packed(looked),
        shape=np.array(plates.known.shape),
    )
    part.rename(path)


def read_plates(path: Path, clip: Composite) -> Plates:
    """The plates of a clip."""
    with np.load(path) as stored:
        shape = tuple(int(length) for length in stored["shape"])
        known, looked = (unpacked(stored[name], shape) for name in ("known", "look"))
        ends = stored["ends"].tolist()
        plate = clip.video.copy()
        for target, mask, first, end in zip(plate, looked, [0, *ends], ends, strict=False):
            picture = cv2.imdecode(stored["jpg"][first:end], cv2.IMREAD_COLOR)
            assert picture is not None
            target[mask] = picture[..., ::-1][mask]
    return Plates(plate, known)


def packed(mask: np.ndarray) -> np.ndarray:
    """A mask as few bytes."""
    return np.frombuffer(zlib.compress(np.packbits(mask).tobytes(), 9), np.uint8)


def unpacked(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of a shape in these bytes."""
    bits = np.frombuffer(zlib.decompress(data.tobytes()), np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape) > 0
