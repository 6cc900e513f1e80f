"""MobileSAM, which comes with the package: pictures in, the masks of what was clicked at out.

The networks are made by `tools/make_mobile_sam.py`; NOTICE names their source. Both see a square of SIDE pixels, into
whose top left corner the picture is scaled.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from layerlift.engine.device.policy import Backend
from layerlift.engine.onnx import open_network, run
from layerlift.progress import Cancellation

SIDE = 1024  # pixels of the square that is encoded
CELLS = 64  # of an embedding, across and down
LOW = 256  # of masks, across and down
# Mean and deviation of the colours of ImageNet, which all such encoders were trained with, in levels of 255.
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
# What a point is, for the decoder.
NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT, NO_POINT = 0, 1, 2, 3, -1


class MobileSam:
    """Both networks."""

    def __init__(self, backend: Backend = "cpu") -> None:
        self._encoder = open_network(__name__, "encoder.onnx", backend)
        self._decoder = open_network(__name__, "decoder.onnx", backend)

    def encode(self, picture: np.ndarray, cancellation: Cancellation | None = None) -> np.ndarray:
        """The embedding (256, 64, 64) float32 of a picture (H, W, 3) uint8. Raises CancelledError."""
        return run(self._encoder, {"input": as_input(picture)}, cancellation)[0][0]

    def decode(
        self,
        embedding: np.ndarray,
        points: np.ndarray,
        labels: np.ndarray,
        logits: np.ndarray | None = None,
        cancellation: Cancellation | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Four masks (4, 256, 256) float32, inside above 0, and how good each is thought to be, (4,), about 0 to 1.

        The first mask is meant for clear questions, the other three for what a single click leaves open: a part, more,
        all. `points` (N, 2) float32 are pixels of the square, `labels` (N,) what they are, and `logits` (256, 256) an
        earlier mask. Raises CancelledError.
        """
        if not np.isin(labels, (TOP_LEFT, BOTTOM_RIGHT)).any():  # the network was trained to expect a box, or this
            points, labels = np.vstack([points, [(0, 0)]]), np.append(labels, NO_POINT)
        given = {
            "image_embeddings": embedding[None].astype(np.float32),
            "point_coords": points[None].astype(np.float32),
            "point_labels": labels[None].astype(np.float32),
            "mask_input": (np.zeros((LOW, LOW)) if logits is None else logits)[None, None].astype(np.float32),
            "has_mask_input": np.array([logits is not None], np.float32),
        }
        masks, scores = run(self._decoder, given, cancellation)
        return masks[0], scores[0]


@cache
def open_mobile_sam(backend: Backend = "cpu") -> MobileSam:
    """The networks, opened once for each backend."""
    return MobileSam(backend)


def as_input(picture: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 as the encoder takes it: (1, 3, 1024, 1024) float32, scaled, normalised, padded."""
    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((3, SIDE, SIDE), np.float32)
    square[:, : size[1], : size[0]] = ((scaled - MEAN) / DEVIATION).transpose(2, 0, 1)
    return square[None]
