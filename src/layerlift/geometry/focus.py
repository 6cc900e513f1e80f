"""Where a model has to look: the frames and the part of the picture around what is to be generated. Pure arithmetic.

A small object needs only its neighbourhood. So windows lie where pixels are wanted, and in each the model sees a box
around them, at the clip's own resolution where such a box is no larger than the picture the model works at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from layerlift.geometry.fit import Fit, Window, fit_windows, latent_frames

# Tokens around what is wanted that the model sees at the least: one that is generated with it, and two to go on from.
CONTEXT_CELLS = 3
# The same as a share of what is wanted, for large objects.
CONTEXT_SHARE = 0.25
# No side of a box is shorter, in tokens: models are trained on pictures of some size.
LEAST_CELLS = 8
# Latent frames before and after what is wanted that are shown along with it.
CONTEXT_LATENTS = 2
# A box with more of the picture's tokens than this, at the same scale, saves too little to leave context out.
CROP_SHARE = 0.75
# Scales tried between the clip's own and the one at which the whole picture fits.
SCALES = 16

# (left, top, right, bottom) in pixels of the clip, right and bottom not included.
Spot = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the padded picture, in its pixels, on the grid of tokens."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height


@dataclass(frozen=True, slots=True)
class View:
    """How a model meets a clip.

    Attributes:
        fit: how the whole picture is scaled and padded.
        windows: its windows in time; between two of them frames may lie that need no model.
        boxes: for each window the part of the picture that the model sees; all of one size.
    """

    fit: Fit
    windows: tuple[Window, ...]
    boxes: tuple[Box, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture the model sees."""
        return self.boxes[0].width, self.boxes[0].height

    def native(self, box: Box) -> Spot:
        """The pixels of the clip that `box` shows: whole ones, as far as the picture goes."""
        (width, height), (across, down) = self.fit.native, self.fit.scaled
        return (
            -(-box.left * width // across),
            -(-box.top * height // down),
            min(width, box.right * width // across),
            min(height, box.bottom * height // down),
        )

    def region(self, frame: int) -> Box | None:
        """What is needed of a frame of the clip: the boxes of all windows it lies in; None where it lies in none."""
        found = [
            box for window, box in zip(self.windows, self.boxes, strict=True) if window.start <= frame < window.stop
        ]
        if not found:
            return None
        left, top = min(box.left for box in found), min(box.top for box in found)
        right, bottom = max(box.right for box in found), max(box.bottom for box in found)
        return Box(left, top, right - left, bottom - top)


def whole_view(fit: Fit, windows: Sequence[Window]) -> View:
    """All of the picture in every window."""
    return View(fit, tuple(windows), (Box(0, 0, *fit.padded),) * len(windows))


def focus_view(
    whole: View,
    spots: Sequence[Spot | None],
    *,
    space: int,
    time: int,
    model_frames: int,
    margin: float,
    longest: int | None = None,
    budget: int | None = None,
    any_scale: bool = True,
) -> View:
    """The part of `whole` that is needed to generate what lies in `spots`.

    Args:
        whole: all of the clip, as the model would otherwise see it.
        budget: no window of the result has more pixels, and so tokens, than so many frames of `whole`; None: than its
            longest window.
        spots: for each frame of the clip the box around what is wanted, None where nothing is.
        space, time: pixels and frames of a token.
        model_frames: see `fit_windows`; `longest` may a window have where its box is that much smaller.
        margin: pixels of the clip around the spots that are compared with what is generated.
        any_scale: the clip's own resolution is tried first; else the whole picture's scale is kept.
    """
    wanted = [spot is not None for spot in spots]
    if not any(wanted):
        return whole
    budget = budget or max(window.frame_count for window in whole.windows)
    most = min(longest or model_frames, 1 + (latent_frames(len(spots), time) - 1) * time)
    lengths = range(max(1 + time, min(model_frames, budget)), max(model_frames, most) + 1, time)
    cuts = list(dict.fromkeys(focus_windows(wanted, length, time) for length in lengths))
    least, native = whole.fit.scaled[0] / whole.fit.native[0], whole.fit.native
    area = (whole.size[0] // space) * (whole.size[1] // space)
    pixels = area * budget

    def cells(view: View) -> int:
        return (view.size[0] // space) * (view.size[1] // space)

    def cheapest(views: Iterable[View], most: float) -> View | None:
        """The one with the fewest tokens, then the fewest windows, of those with at most so many tokens a frame."""
        found: list[tuple[int, int, View]] = []
        for view in views:
            latents = [latent_frames(window.frame_count, time) for window in view.windows]
            frames = max(window.frame_count for window in view.windows)
            if cells(view) <= most and cells(view) * frames <= pixels:
                found.append((cells(view) * sum(latents), len(latents), view))
        return min(found, key=lambda item: item[:2])[2] if found else None

    for step in range(0 if any_scale else SCALES, SCALES + 1):
        # From the clip's own scale to that of the whole picture.
        scale = 1 - (1 - least) * step / SCALES
        scaled = whole.fit.scaled if step == SCALES else (round(native[0] * scale), round(native[1] * scale))
        fit = Fit(native, scaled, (-(-scaled[0] // space) * space, -(-scaled[1] // space) * space))
        same = scaled == whole.fit.scaled
        views = (_boxed(fit, windows, spots, space, margin) for windows in cuts)
        view = cheapest(views, area * (CROP_SHARE if same else 1))
        if view is not None:
            return view
        if same:
            break
    return cheapest((whole_view(whole.fit, windows) for windows in cuts), area) or whole


def focus_windows(wanted: Sequence[bool], model_frames: int, time: int) -> tuple[Window, ...]:
    """Windows over the frames in which anything is wanted, and some before and after; as `fit_windows` within a run.

    Frames that no window keeps are those far from any that is wanted. Runs near each other are one. Context is left out
    where it would take a window more.
    """
    runs: list[list[int]] = []
    for frame in (index for index, value in enumerate(wanted) if value):
        if runs and frame - runs[-1][1] <= 2 * CONTEXT_LATENTS * time:
            runs[-1][1] = frame + 1
        else:
            runs.append([frame, frame + 1])

    found: list[Window] = []
    for first, last in runs:
        fewest = len(fit_windows(last - first, model_frames, time))
        for latents in range(CONTEXT_LATENTS, -1, -1):
            start, stop = max(0, first - latents * time), min(len(wanted), last + latents * time)
            windows = fit_windows(stop - start, model_frames, time)
            if len(windows) == fewest:
                break
        found += [
            replace(
                window,
                start=window.start + start,
                stop=window.stop + start,
                keep_start=window.keep_start + start,
                keep_stop=window.keep_stop + start,
            )
            for window in windows
        ]
    return tuple(found)


def offsets(before: Box, now: Box, space: int) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Where two boxes show the same tokens: (rows, columns) of the one and of the other; None where nowhere."""
    spans = []
    for one, other, length, next_length in (
        (before.top, now.top, before.height, now.height),
        (before.left, now.left, before.width, now.width),
    ):
        low, high = max(one, other), min(one + length, other + next_length)
        if low >= high:
            return None
        spans.append([slice((low - start) // space, (high - start) // space) for start in (one, other)])
    (rows, next_rows), (columns, next_columns) = spans
    return (rows, columns), (next_rows, next_columns)


def _union(spots: Sequence[Spot | None]) -> Spot | None:
    found = [spot for spot in spots if spot is not None]
    if not found:
        return None
    lefts, tops, rights, bottoms = zip(*found, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _boxed(fit: Fit, windows: tuple[Window, ...], spots: Sequence[Spot | None], space: int, margin: float) -> View:
    """Boxes around what lies in `spots`, at one scale and for one way to cut the clip into windows."""
    around = [_union(spots[window.start : window.stop]) for window in windows]
    return View(fit, windows, _boxes(around, fit.scaled[0] / fit.native[0], fit.padded, space, margin))


def _boxes(
    around: Sequence[Spot | None], scale: float, padded: tuple[int, int], space: int, margin: float
) -> tuple[Box, ...]:
    """For every window a box around its spots and their context, all of one size; where a window has no spot, that of
    the one before it."""
    grid = padded[0] // space, padded[1] // space
    spans = [None if spot is None else _cells(spot, scale, grid, space, margin) for spot in around]
    found = [span for span in spans if span is not None]
    sides = [
        min(grid[axis], max(LEAST_CELLS, *(high - low for low, high in (span[axis] for span in found))))
        for axis in (0, 1)
    ]
    boxes: list[Box] = []
    last = found[0]
    for span in spans:
        last = span or last
        # The box lies evenly about what it is for, as far as the picture goes.
        starts = [
            min(max(0, (low + high - side) // 2), length - side)
            for (low, high), side, length in zip(last, sides, grid, strict=True)
        ]
        boxes.append(Box(starts[0] * space, starts[1] * space, sides[0] * space, sides[1] * space))
    return tuple(boxes)


def _cells(
    spot: Spot, scale: float, grid: tuple[int, int], space: int, margin: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The tokens that a spot and its context take, (first, one past the last) across and down."""
    spans = []
    for axis, length in enumerate(grid):
        low, high = spot[axis] * scale, spot[axis + 2] * scale
        context = max(CONTEXT_CELLS * space, CONTEXT_SHARE * (high - low), margin * scale)
        spans.append((max(0, int((low - context) // space)), min(length, int(-(-(high + context) // space)))))
    return spans[0], spans[1]
