"""Decoded pictures as arrays, upright."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from layerlift.clip.clip import Pixels
from layerlift.clip.container import open_input, video_stream
from layerlift.clip.view import view_array
from layerlift.errors import InputError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


def picture_array(frame: VideoFrame, quarter_turns: int, pixels: Pixels) -> np.ndarray:
    """A decoded frame's view as (H, W, 3) or (H, W, 4) uint8, turned upright."""
    return upright(view_array(frame, pixels), quarter_turns)


def upright(array: np.ndarray, quarter_turns: int) -> np.ndarray:
    """A stored picture, or a plane of one, (h, w, …), as it is to be seen."""
    return np.ascontiguousarray(np.rot90(array, quarter_turns)) if quarter_turns else array


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """A decoded frame and the turns it wants (`clip.Picture`)."""

    frame: VideoFrame
    turns: int

    def array(self, pixels: Pixels) -> np.ndarray:
        return picture_array(self.frame, self.turns, pixels)

    def upright(self, plane: np.ndarray) -> np.ndarray:
        return upright(plane, self.turns)


def quarter_turns(frame: VideoFrame) -> int:
    """How many counterclockwise quarter turns the file asks for before a frame is shown (its display matrix)."""
    return round(frame.rotation / 90) % 4


def has_alpha(frame: VideoFrame) -> bool:
    """Whether the decoded format can carry transparency (a palette can)."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def first_frame(path: Path, what: str = "a video") -> tuple[VideoFrame, int]:
    """The first frame of a file and the quarter turns it wants."""
    import av.error

    with open_input(path, what) as container:
        stream = video_stream(container, path)
        try:
            for frame in container.decode(stream):
                return frame, quarter_turns(frame)
        except av.error.FFmpegError as error:
            raise InputError(f"{path} is damaged: its first frame cannot be decoded; save it again.") from error
    raise InputError(f"{path} holds no frame that can be decoded; give the path of {what}.")
