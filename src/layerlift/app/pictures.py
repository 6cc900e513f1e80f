"""Frames and masks as the pictures that a page is sent."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

WIDTHS = (320, 640, 960, 1280, 1920, 3840)
JPEG, WEBP = 88, 90  # quality


def view_width(asked: int, own: int) -> int:
    """The width that a frame is sent at: the next of WIDTHS, but never more than its own."""
    return min(own, next((width for width in WIDTHS if width >= asked), WIDTHS[-1]))


def scaled(picture: np.ndarray, width: int, *, nearest: bool = False) -> np.ndarray:
    """A picture (H, W, …) at a width, in its own shape; `nearest` for labels."""
    height, own = picture.shape[:2]
    if width == own:
        return picture
    size = (width, max(1, round(height * width / own)))
    way = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA if width < own else cv2.INTER_LINEAR
    return cv2.resize(picture, size, interpolation=way)


def jpeg(frame: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as JPEG, with colours at half the size, as in most clips."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(frame), JPEG, "RGB", "420")


def pixels_of(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a JPEG. Raises ValueError where it is none."""
    return simplejpeg.decode_jpeg(data, "RGB")


def png(picture: np.ndarray) -> bytes:
    """(H, W) uint8 as PNG, quickly rather than small."""
    return _encoded(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def webp(layer: np.ndarray) -> bytes:
    """(H, W, 4) uint8 with straight alpha as WebP."""
    return _encoded(".webp", cv2.cvtColor(layer, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, WEBP])


def _encoded(ending: str, picture: np.ndarray, how: list[int]) -> bytes:
    done, data = cv2.imencode(ending, np.ascontiguousarray(picture), how)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture {picture.shape} as {ending}")
    return data.tobytes()
