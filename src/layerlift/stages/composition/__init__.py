"""Composition: a layer over a new background. Read `run_composition` from top to bottom.

Over is done in the light the layer was made for: display values, as players, browsers and editors do it unless told
otherwise, and as extraction solved for, so that a layer over its own plate is the clip; linear light for OpenEXR.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, isfinite
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np

from layerlift.clip import Clip
from layerlift.clip.clip import Picture, PictureReader
from layerlift.clip.rgba import LayerClip, from_linear, premultiply, to_linear
from layerlift.clip.rgba_reader import open_layer
from layerlift.clip.rgba_writer import has_sound
from layerlift.clip.view import is_hdr, sdr_to_view
from layerlift.errors import InputError
from layerlift.flags import check_ranges
from layerlift.options import CompositionOptions, Length, Sound
from layerlift.runtime import Runtime, chosen
from layerlift.stages.inputs import GivenClip, as_clip

# A layer scaled beyond this many pixels a side is a typing error.
MAX_SIDE = 16384


def compose(
    layers: Sequence[LayerClip | str | Path] | LayerClip | str | Path,
    onto: GivenClip,
    options: CompositionOptions | None = None,
    runtime: Runtime | None = None,
    **choices: Any,
) -> Clip:
    """Place a layer, or several layers of one clip with the frontmost first, over a background.

    Args:
        layers: what `extract` returns, or paths.
        onto: the background: a `Clip`, frames (F, H, W, 3) uint8, or a path; a single picture is used for all frames.
        options: the choices; None means all defaults.
        runtime: what to run with; None makes one from the choices.
        **choices: single choices by name: fields of `CompositionOptions`, which override `options`, and, without
            a `runtime`, `progress` and `report`.

    Returns:
        A clip, whole in memory, with the background's size and colours and the layer's rate. `compose_frames` yields it
        frame by frame.

    Raises:
        InputError: something given cannot be used; raised before the work begins.
        TypeError: a choice that does not exist, or one of the runtime's given together with `runtime`.
    """
    options, runtime = chosen(CompositionOptions, options, runtime, choices)
    plan = plan_composition(layers, onto, options, runtime)
    return replace(plan.like, reader=Clip.from_array(np.stack(list(run_composition(plan)))).reader)


def compose_frames(
    layers: Sequence[LayerClip | str | Path] | LayerClip | str | Path,
    onto: GivenClip,
    options: CompositionOptions | None = None,
    runtime: Runtime | None = None,
) -> Iterator[np.ndarray]:
    """`compose`, one frame at a time: yields (H, W, 3) uint8.

    Everything is checked by the time this returns; the work begins when the first frame is requested.
    Raises InputError as `plan_composition`.
    """
    return run_composition(plan_composition(layers, onto, options, runtime))


@dataclass(frozen=True, slots=True)
class CompositionPlan:
    """A composition that was checked: what lies where and when.

    Attributes:
        layers: the frontmost first, all of one size and timing.
        background: what they are laid over.
        like: size, timing, colours and sound of the result; it has no frames.
        size: of the layers' picture in the background's pixels, (width, height).
        corner: where its upper left corner lies, (x, y).
        pairs: for every frame of the result the layers' frame, None where they show nothing, and the background's.
        runtime: what it runs with.
    """

    layers: list[LayerClip]
    background: Clip
    like: Clip
    size: tuple[int, int]
    corner: tuple[int, int]
    pairs: list[tuple[int | None, int]]
    runtime: Runtime

    def with_layers(self, layers: Sequence[LayerClip]) -> CompositionPlan:
        """The same for other layers of the same size, length and timing."""
        return replace(self, layers=[suited(layer, self.background) for layer in layers])


def plan_composition(
    layers: Sequence[LayerClip | str | Path] | LayerClip | str | Path,
    onto: GivenClip,
    options: CompositionOptions | None = None,
    runtime: Runtime | None = None,
) -> CompositionPlan:
    """Open and check everything, and decide what is shown where and when. Takes the arguments of `compose`.

    Raises:
        InputError: a layer without alpha, layers that do not belong together, a placement off the background.
    """
    options = options or CompositionOptions()
    check_composition(options)
    background = as_clip(onto)
    opened = [suited(layer, background) for layer in open_layers(layers)]
    layer = opened[0]
    size, corner = place(layer, background, options)
    pairs = [(own, behind) for _, own, behind in schedule(layer, background, options)]
    if all(own is None for own, _ in pairs):
        raise InputError(
            f"--start is {options.start}, but the background {background.name} has only {background.frame_count} "
            "frames: choose an earlier frame, or another --length"
        )
    # Fields stay fields where the background runs on as it is.
    runs = [behind for _, behind in pairs] == list(range(len(pairs))) and len(pairs) % 2 == 0
    like = replace(
        timing(layer, background, options, len(pairs)),
        field_order=background.field_order if runs and result_rate(layer, background) == background.rate else None,
        samples=background.samples,
        pictures=pictures_behind(background, [behind for _, behind in pairs]),
        picture_size=background.picture_size,
        chroma_place=background.chroma_place,
        damage=" ".join(dict.fromkeys(c.damage for c in (*(o.clip for o in opened), background) if c.damage)) or None,
    )
    return CompositionPlan(opened, background, like, size, corner, pairs, runtime or Runtime())


def suited(layer: LayerClip, background: Clip) -> LayerClip:
    """A layer whose colours are those that the background's view has: an SDR one over HDR has its white at 203 cd/m².

    Raises InputError for an HDR layer over an SDR background, which has no place for its highlights.
    """
    if is_hdr(layer.clip.color) == is_hdr(background.color):
        return layer
    if is_hdr(layer.clip.color):
        raise InputError(
            f"the layer {layer.name} is HDR, but the background {background.name} is not: use an HDR background, or "
            "convert the layer to SDR first"
        )

    def reader(start: int, stop: int) -> Iterator[np.ndarray]:
        for frame in layer.frames(start, stop):
            colour = from_linear(frame[..., :3]) if layer.linear else frame[..., :3]
            yield np.dstack([sdr_to_view(colour), frame[..., 3:]])

    return replace(layer, reader=reader, linear=False)


def pictures_behind(background: Clip, order: list[int]) -> PictureReader | None:
    """The background's own pictures in the order in which the result shows them; None where it has none."""
    source = background.pictures
    if source is None:
        return None

    def pictures(start: int, stop: int) -> Iterator[Picture]:
        running: Iterator[Picture] = iter(())
        number, current = -1, None
        for wanted in order[start:stop]:
            if current is None or wanted != number:
                if wanted != number + 1 or current is None:
                    running = source(wanted, background.frame_count)
                current, number = next(running), wanted
            yield current

    return pictures


def run_composition(plan: CompositionPlan, start: int = 0) -> Iterator[np.ndarray]:
    """Yield the composition's frames, (H, W, 3) uint8, from frame `start` on; outside the layers they are the
    background's, bit for bit."""
    report, progress = plan.runtime.report, plan.runtime.progress
    report.sizes |= {
        "background": [plan.background.width, plan.background.height, plan.background.frame_count],
        "layer": [*plan.size, plan.layers[0].frame_count],
        "corner": list(plan.corner),
        "frames": len(plan.pairs),
    }
    with report.stage("compose"), progress.stage("compose", len(plan.pairs)) as bar:
        plan.runtime.keeper.skip(bar, "compose", start)
        backgrounds = Sequential(plan.background.frames)
        shown = [Sequential(layer.frames) for layer in plan.layers]
        for layer_frame, background_frame in plan.pairs[start:]:
            picture = backgrounds.at(background_frame)
            if layer_frame is not None:
                for layer, reader in zip(reversed(plan.layers), reversed(shown), strict=True):
                    picture = over(reader.at(layer_frame), picture, plan.size, plan.corner, linear=layer.linear)
            yield picture
            bar.advance()


def frames_behind(plan: CompositionPlan, start: int) -> Iterator[np.ndarray]:
    """The background's frames that the composition's lie over, (H, W, 3) uint8, from frame `start` on."""
    backgrounds = Sequential(plan.background.frames)
    return (backgrounds.at(behind) for _, behind in plan.pairs[start:])


def over(
    layer: np.ndarray, picture: np.ndarray, size: tuple[int, int], corner: tuple[int, int], *, linear: bool = False
) -> np.ndarray:
    """A layer over a picture: `alpha·colour + (1 − alpha)·picture` (Porter and Duff, 1984).

    Args:
        layer: (h, w, 4) float32, straight alpha.
        picture: (H, W, 3) uint8.
        size: width and height the layer is scaled to.
        corner: where its upper left corner lies in the picture; what lies outside is not seen.
        linear: whether the layer's colours are linear light.
    """
    stored = premultiply(layer)
    if size != (layer.shape[1], layer.shape[0]):
        # Premultiplied, so that colours where nothing is do not bleed in.
        shrinks = size[0] * size[1] < layer.shape[0] * layer.shape[1]
        stored = cv2.resize(stored, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    height, width = picture.shape[:2]
    (x, y), (w, h) = corner, size
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + w), min(height, y + h)
    if left >= right or top >= bottom:
        return picture
    stored = stored[top - y : bottom - y, left - x : right - x]
    alpha = stored[..., 3:]
    below = picture[top:bottom, left:right].astype(np.float32) / 255
    if linear:
        made = from_linear(stored[..., :3] + (1 - alpha) * to_linear(below))
    else:
        made = stored[..., :3] + (1 - alpha) * below
    whole = np.rint(np.clip(made, 0, 1) * 255).astype(np.uint8)
    composed = picture.copy()
    composed[top:bottom, left:right] = np.where(alpha > 0, whole, composed[top:bottom, left:right])
    return composed


class Sequential:
    """Frames by their number, cheap when the numbers rise; from a lower number it reads from there anew."""

    def __init__(self, read: Callable[[int], Iterator[np.ndarray]]) -> None:
        self._read = read
        self._frames: Iterator[np.ndarray] = iter(())
        self._next = -1
        self._held: np.ndarray | None = None

    def at(self, index: int) -> np.ndarray:
        if self._held is not None and index == self._next - 1:
            return self._held
        if self._held is None or index < self._next:
            self._frames, self._next = self._read(index), index
        while self._next <= index:
            self._held = next(self._frames)
            self._next += 1
        assert self._held is not None
        return self._held


def open_layers(layers: Sequence[LayerClip | str | Path] | LayerClip | str | Path) -> list[LayerClip]:
    """Layers from one or several of anything `compose` takes.

    Raises InputError when there is none, or when they differ in size or length.
    """
    several = [layers] if isinstance(layers, LayerClip | str | Path) else layers
    opened = [layer if isinstance(layer, LayerClip) else open_layer(layer) for layer in several]
    if not opened:
        raise InputError("no layer was given: give at least one")
    first = opened[0]
    for other in opened[1:]:
        if (other.width, other.height, other.frame_count) != (first.width, first.height, first.frame_count):
            raise InputError(
                f"the layer {other.name} is {other.width}x{other.height} with {other.frame_count} frames, but "
                f"{first.name} is {first.width}x{first.height} with {first.frame_count}: give layers of the same clip"
            )
    return opened


def check_composition(options: CompositionOptions) -> None:
    """Raises InputError for a choice that makes no sense whatever the clips are."""
    check_ranges(options)
    if options.start < 0:
        raise InputError(f"--start is {options.start}: give 0 or more, as frames are counted from 0")
    if options.scale is not None and not (isfinite(options.scale) and options.scale > 0):
        raise InputError(f"--scale is {options.scale}: give a number above 0, or 1 for the layer's own size")
    if options.length not in get_args(Length):
        raise InputError(f"unknown --length {options.length!r}: choose one of {', '.join(get_args(Length))}")
    if options.sound is not None and options.sound not in get_args(Sound):
        raise InputError(f"unknown --sound {options.sound!r}: choose one of {', '.join(get_args(Sound))}")


def place(layer: LayerClip, background: Clip, options: CompositionOptions) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size of the layer's picture in the background's pixels, and where its upper left corner lies.

    Raises InputError when nothing of it would be seen.
    """
    fitting = min(background.width / layer.width, background.height / layer.height)
    scale = fitting if options.scale is None else options.scale
    size = max(1, round(layer.width * scale)), max(1, round(layer.height * scale))
    if max(size) > MAX_SIDE:
        raise InputError(f"--scale {scale:g} makes the layer {size[0]}x{size[1]} pixels: give a smaller scale")
    x = (background.width - size[0]) // 2 + options.offset[0]
    y = (background.height - size[1]) // 2 + options.offset[1]
    if x >= background.width or y >= background.height or x + size[0] <= 0 or y + size[1] <= 0:
        raise InputError(
            f"--offset {options.offset[0]},{options.offset[1]} moves the {size[0]}x{size[1]} layer off the "
            f"{background.width}x{background.height} background: give a smaller offset"
        )
    return size, (x, y)


def schedule(layer: LayerClip, background: Clip, options: CompositionOptions) -> list[tuple[Fraction, int | None, int]]:
    """When each frame of the result is shown, in seconds, and which frames of layer and background make it.

    The layer's frames are the result's, so that the object moves as it did, and the background shows whichever of its
    frames is due; where nothing says how fast the layer's frames follow each other, they follow as the background's.
    """
    begin = shown_at(background, options.start)
    rate = result_rate(layer, background)
    length = layer.clip.duration if layer.timed else layer.frame_count / rate
    end = background.duration if options.length == "background" else begin + length
    if options.length == "cut" and background.frame_count > 1:  # a picture is as long as one wants
        end = min(end, background.duration)
    if keeps_timestamps(layer, options):
        times = [shown_at(layer.clip, index) for index in range(layer.frame_count)]
    else:
        times = [index / rate for index in range(ceil(end * rate))]
    first = ceil(begin * rate)
    frames: list[tuple[Fraction, int | None, int]] = []
    for index, time in enumerate(times):
        if time >= end:
            break
        own = due(layer.clip, time - begin) if layer.timed and layer.clip.timestamps is not None else index - first
        seen = own if time >= begin and 0 <= own < layer.frame_count else None
        frames.append((time, seen, background_due(background, time, options)))
    return frames


def result_rate(layer: LayerClip, background: Clip) -> Fraction:
    """Frames a second of the result."""
    return layer.rate if layer.timed else background.rate


def keeps_timestamps(layer: LayerClip, options: CompositionOptions) -> bool:
    """Whether the result has the uneven timing of its layer, because it holds the layer's frames and no others."""
    return layer.timed and layer.clip.timestamps is not None and options.start == 0 and options.length != "background"


def background_due(background: Clip, time: Fraction, options: CompositionOptions) -> int:
    """The background's frame at a time, held at the last or begun again."""
    if options.length == "loop":
        time = time % background.duration
    return min(due(background, time), background.frame_count - 1)


def due(clip: Clip, time: Fraction) -> int:
    """Number of the frame that is shown at a time in seconds; beyond the last one, a number beyond it."""
    if clip.timestamps is None or clip.time_base is None:
        return int(time * clip.rate // 1)
    if time >= clip.duration:
        return clip.frame_count
    return bisect_right(clip.timestamps, clip.timestamps[0] + time / clip.time_base) - 1


def shown_at(clip: Clip, frame: int) -> Fraction:
    """Seconds from a clip's beginning to one of its frames, or to where that would be."""
    if clip.timestamps is None or clip.time_base is None or frame >= clip.frame_count:
        return frame / clip.rate
    return (clip.timestamps[frame] - clip.timestamps[0]) * clip.time_base


def timing(layer: LayerClip, background: Clip, options: CompositionOptions, frame_count: int) -> Clip:
    """Size, timing, colours and sound of the result, as a clip without frames."""
    source: Clip | None = None
    if options.sound == "layer" or (options.sound is None and has_sound(layer.clip)):
        source = layer.clip
    elif options.sound in (None, "background"):
        source = background
    # The sound begins when its picture does.
    delay = shown_at(background, options.start) if source is layer.clip else Fraction(0)
    like = Clip(
        background.width,
        background.height,
        frame_count,
        result_rate(layer, background),
        lambda start, stop, pixels: iter(()),
        color=background.color,
        pixel_aspect=background.pixel_aspect,
        path=source.path if source is not None else None,
        name=layer.name,
        start_time=source.start_time - delay if source is not None else Fraction(0),
        # As if cut from something longer: the sound ends with the result.
        source_frame_count=frame_count + 1,
    )
    own = layer.clip
    if not keeps_timestamps(layer, options) or own.timestamps is None:
        return like
    last = own.last_duration
    if frame_count < own.frame_count:
        last = own.timestamps[frame_count] - own.timestamps[frame_count - 1]
    stamps = own.timestamps[:frame_count]
    return replace(like, time_base=own.time_base, timestamps=stamps, last_duration=last)
