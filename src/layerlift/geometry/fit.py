"""Sizes, padding and windows: how a clip of any shape and length meets a model of one size. Pure arithmetic.

The picture is scaled (aspect kept, never enlarged) to lie inside the model's size and padded at the right and the
bottom to whole tokens; the clip is padded in time by repeating its last frame. Nothing is squashed and nothing is
trimmed, so both can be undone at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from layerlift.errors import InputError

# The share of a window's latent frames that it takes over from the window before it: enough motion to continue from,
# few enough that most of a window is new.
CARRIED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Geometry:
    """What one token covers: `space` × `space` pixels and `time` frames; latents have `channels` channels."""

    space: int
    time: int
    channels: int


@dataclass(frozen=True, slots=True)
class Fit:
    """Three sizes of one picture, each (width, height): the clip's own, scaled to the model, padded to whole tokens."""

    native: tuple[int, int]
    scaled: tuple[int, int]
    padded: tuple[int, int]

    @property
    def padding(self) -> tuple[int, int]:
        """Pixels added at the (right, bottom) of the scaled picture."""
        return self.padded[0] - self.scaled[0], self.padded[1] - self.scaled[1]


@dataclass(frozen=True, slots=True)
class Window:
    """A run of frames denoised in one go, all numbers counted in frames of the clip unless said otherwise.

    Attributes:
        start: first frame.
        stop: one past the last frame; beyond the clip's end the last frame is repeated.
        keep_start, keep_stop: the frames whose result is taken from this window. Over all windows these lie end to end
            and cover the clip once.
        shift: latent frames between the previous window's start and this one's; 0 for the first window.
        carried: latent frames taken over from the previous window: latent frame i of this window, 1 ≤ i ≤ carried,
            covers the very frames of latent frame i + shift there. Latent frame 0 covers one frame alone, has no equal
            in the previous window, and is generated again.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int
    shift: int = 0
    carried: int = 0

    @property
    def frame_count(self) -> int:
        return self.stop - self.start


def fit_size(native: tuple[int, int], box: tuple[int, int], space: int) -> Fit:
    """Scale a picture into `box` and pad it to multiples of `space`; all sizes are (width, height) in pixels."""
    width, height = native
    # Exact in integers: the side that binds becomes the box's, the other follows by the aspect, rounded to a pixel.
    if width <= box[0] and height <= box[1]:
        scaled = native
    elif width * box[1] >= height * box[0]:
        scaled = box[0], max(1, (2 * height * box[0] + width) // (2 * width))
    else:
        scaled = max(1, (2 * width * box[1] + height) // (2 * height)), box[1]
    return Fit(native, scaled, (_up(scaled[0], space), _up(scaled[1], space)))


def choose_box(native: tuple[int, int], model_size: tuple[int, int], size: tuple[int, int] | None, space: int) -> tuple:
    """The box a clip is scaled into: `size` as the user gave it, else the model's, turned upright for upright clips.

    Raises:
        InputError: `size` is smaller than one token.
    """
    if size is not None:
        if min(size) < space:
            raise InputError(
                f"--size {size[0]}x{size[1]} is smaller than one token of this model: give at least {space}x{space}"
            )
        return size
    upright = native[1] > native[0]
    return (min(model_size), max(model_size)) if upright else (max(model_size), min(model_size))


def latent_frames(frame_count: int, time: int) -> int:
    """Latent frames that cover `frame_count` frames: one for frame 0, then one for every `time` frames begun."""
    return 1 + -(-(frame_count - 1) // time)


def fit_windows(frame_count: int, model_frames: int, time: int) -> tuple[Window, ...]:
    """Cut a clip into windows of 1 + k·time frames, none longer than the model's `model_frames`.

    All windows have one length, as short as their number allows, and lie evenly: the padding at the end is below one
    latent frame, and no window is a stub with little context. Neighbours share `carried` latent frames and hand over in
    the middle of them, so that every frame kept was decoded with context on both sides.

    Raises:
        ValueError: `frame_count` below 1, or `model_frames` below one token (1 + time).
    """
    if frame_count < 1 or model_frames < 1 + time:
        raise ValueError(f"cannot cut {frame_count} frames into windows of {model_frames} with {time} frames a token")
    # In units of latent frames after the first one.
    total = latent_frames(frame_count, time) - 1
    longest = (model_frames - 1) // time
    carried = min(max(1, round(CARRIED_SHARE * longest)), longest - 1)
    if total <= longest:
        return (Window(0, 1 + total * time, 0, frame_count),)

    count = -(-(total - carried) // (longest - carried))
    length = -(-(total + (count - 1) * carried) // count)
    starts = [i * (total - length) // (count - 1) for i in range(count)]
    shifts = [0] + [after - before for before, after in pairwise(starts)]
    overlaps = [0] + [length - shift for shift in shifts[1:]]
    # A window's frame 0 is only ever its neighbour's to keep, so the hand-over counts from the frame after it.
    handovers = [start * time + 1 + overlap * time // 2 for start, overlap in zip(starts, overlaps, strict=True)]
    handovers[0] = 0
    return tuple(
        Window(
            start=starts[i] * time,
            stop=(starts[i] + length) * time + 1,
            keep_start=handovers[i],
            keep_stop=handovers[i + 1] if i + 1 < count else frame_count,
            shift=shifts[i],
            carried=overlaps[i],
        )
        for i in range(count)
    )


def room_for(frames: int, longest: int, cells: int, budget: int, time: int) -> int:
    """Frames that a window of a picture of `cells` tokens may have: as many as have no more pixels, and so no more
    tokens, than `frames` of one of `budget` tokens; at most `longest`, and never fewer than `frames`."""
    return max(frames, min(longest, 1 + (frames * budget // cells - 1) // time * time))


def choose_windows(frame_count: int, frames: int, most: int, time: int) -> tuple[Window, ...]:
    """`fit_windows` with that length from `frames` to `most` frames that makes the fewest tokens, then the fewest
    windows."""

    def cost(windows: tuple[Window, ...]) -> tuple[int, int]:
        return sum(latent_frames(window.frame_count, time) for window in windows), len(windows)

    return min((fit_windows(frame_count, length, time) for length in range(frames, most + 1, time)), key=cost)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def token_places(shape: Sequence[int], geometry: Geometry, rate: Fraction | float) -> np.ndarray:
    """Where each token of latents (1, C, f, h, w) lies: (3, f, h, w) float32, seconds, pixel row, pixel column.

    As diffusers' `LTXConditionPipeline` does: the first frame a token covers, which is 0 for latent frame 0 (it covers
    one frame alone) and `time·(i − 1) + 1` for latent frame i, over the frame rate.
    """
    frames, rows, columns = shape[-3:]
    first = np.maximum(np.arange(frames) * geometry.time + 1 - geometry.time, 0)
    axes = (
        first.astype(np.float32) * np.float32(1.0 / float(rate)),
        np.arange(rows, dtype=np.float32) * geometry.space,
        np.arange(columns, dtype=np.float32) * geometry.space,
    )
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
