"""Several frames of several clips side by side in one picture, to judge a result at a glance."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from layerlift.whole import whole_file

GAP = 4  # pixels between the pictures
HEADER = 26  # pixels for the columns' names
INK, PAPER = 235, 24  # grey levels of text and ground
MASK_COLOUR = (255, 64, 64)


def contact_sheet(columns: Mapping[str, np.ndarray], frames: Sequence[int]) -> np.ndarray:
    """One row a frame number, one column a clip, each with its name above; (H', W', 3) uint8.

    Args:
        columns: name → clip (F, H, W, 3) uint8; all of one shape.
        frames: the frame numbers to show, counted from 0.
    """
    import cv2

    shapes = {clip.shape for clip in columns.values()}
    if len(shapes) != 1:
        raise ValueError(f"a contact sheet of clips of different shapes: {sorted(shapes)}")
    _, height, width, _ = shapes.pop()
    left = np.cumsum([GAP] + [width + GAP] * len(columns))
    top = np.cumsum([HEADER] + [height + GAP] * len(frames))
    sheet = np.full((top[-1], left[-1], 3), PAPER, np.uint8)
    for x, (name, clip) in zip(left[:-1], columns.items(), strict=True):
        cv2.putText(sheet, name, (int(x) + 2, HEADER - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (INK,) * 3, 1, cv2.LINE_AA)
        for y, frame in zip(top[:-1], frames, strict=True):
            sheet[y : y + height, x : x + width] = clip[frame]
    return sheet


def evenly(frame_count: int, rows: int) -> list[int]:
    """At most `rows` frame numbers spread over a clip, its first and last among them."""
    rows = min(rows, frame_count)
    return [round(i * (frame_count - 1) / max(1, rows - 1)) for i in range(rows)]


def tinted(clip: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`clip` (F, H, W, 3) uint8, greyed, with the pixels of `mask` (F, H, W) bool in colour."""
    grey = clip.mean(-1, keepdims=True) * 0.6  # (F, H, W, 1)
    shown = np.where(mask[..., None], 0.45 * grey + 0.55 * np.asarray(MASK_COLOUR, np.float32), grey)
    return np.rint(shown).astype(np.uint8)


def write_png(path: Path, picture: np.ndarray, *, overwrite: bool = True) -> Path:
    """Write `picture` (H, W, 3) uint8 RGB, whole or not at all."""
    import cv2

    done, data = cv2.imencode(".png", picture[..., ::-1])  # OpenCV's order is BGR
    if not done:
        raise RuntimeError(f"OpenCV could not encode {path} as PNG")
    with whole_file(path, overwrite=overwrite) as made:
        made.write_bytes(data.tobytes())
    return path
