"""What no frame shows: filled by exemplars once, and carried along the motion, so that it stands still in the scene.

In every shot the fill begins in a frame where much of the hole's surroundings is seen, and goes from there to both
ends. A frame takes over what the links of the traces carry to it. What they do not carry, because nothing like it was
hidden before or because they explain their surroundings too badly by then, is filled anew with all of that around it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor, wait

import cv2
import numpy as np

from layerlift.ahead import pool
from layerlift.evidence.exemplar import exemplar_fill, exemplars_available
from layerlift.evidence.inpaint import inpaint
from layerlift.evidence.motion import Motion
from layerlift.evidence.proxies import Proxies, inpainting_error
from layerlift.evidence.tracer import Tracer, ring_around
from layerlift.evidence.traces import COST, FRAME, Fills, X, Y, follow_link, no_source, own_source, taken
from layerlift.jobs.keeper import TEMPORARY, Keeper
from layerlift.jobs.shelf import Shelf
from layerlift.pixels.arrays import bounds, distance_to
from layerlift.progress import StageProgress

# What other frames show is too far off to be built on where it is expected to be wrong by more levels of 255.
UNSEEN = 16.0
# Holes that are nowhere deeper, in pixels of the reduced clip, are left to inpainting, as are those in plain
# surroundings: it is near the truth there. Plain is what differs by fewer levels of 255 (root mean square, in a RING of
# so many pixels around the hole) from itself blurred by BLUR pixels: gravel, paving and waves differ by 5 to 14.
SHALLOW = 7.0
PLAIN, RING, BLUR = 4.0, 6, 1.5
# Where hardly anything of what is hidden in a shot is ever seen, in this share of the pixels, everything stands still,
# and inpainting with it: it comes closer to the truth than exemplars, whose texture is right and whose pixels are not.
LEAST_SEEN = 0.05
# So it is in shots that are over before anything could be seen to flicker, in frames.
LEAST_FRAMES = 12
# A fill is carried until its links cost more.
CARRIED = 80.0
# Neighbours are to come from one fill, side by side: sources are smoothed so much (pixels), and a pixel without takes
# its neighbours' where they make up so much of this blur.
SMOOTH, ENCLOSED = 2.0, 0.6
# A pixel's source where there is none.
NOTHING = np.nan, np.nan, np.nan, np.inf


def fill_unseen(
    proxies: Proxies,
    motion: Motion,
    tracer: Tracer,
    filled: Shelf,
    *,
    references: Collection[int],
    progress: StageProgress,
    keeper: Keeper = TEMPORARY,
) -> Fills:
    """Fill what no frame shows in deep holes; the result has to be closed.

    `filled` holds every frame as its traces fill it, (h, w, 3) uint8, and the error (h, w) that these are expected to
    have. `references` are the numbers of frames that were cleaned: what they show is carried like a fill. Where
    exemplars are not to be had here, inpainting takes their place. `progress` advances by one for every frame.
    """

    with keeper.shelf("deep") as deep, pool() as threads:

        def look(index: int) -> None:
            """Tell what of a frame is left to fill, and how much of it is hidden and seen elsewhere."""
            _, covered = proxies[index]
            picture, error = filled.get(index)
            unseen = covered & (error > UNSEEN)
            own = deep_parts(picture, unseen) if unseen.any() else unseen
            deep.put(index, own, np.array([covered.sum(), (covered & ~unseen).sum(), own.sum()]))

        left = [index for index in range(proxies.count) if index not in deep]
        keeper.skip(progress, "trace", proxies.count - len(left))
        for _ in threads.map(look, left):
            progress.advance()
        fills = Fills(proxies.size, keeper.shelf("fills"))
        try:
            fill_shots(motion, Carrier(tracer, filled, deep, fills, cleaned=references, progress=progress), threads)
        except BaseException:
            fills.close()
            raise
    return fills


def fill_shots(motion: Motion, carrier: Carrier, threads: ThreadPoolExecutor) -> None:
    """Fill what is deep in the frames of all shots."""
    hidden, seen, deep = carrier.counts()
    shots = np.asarray(motion.shots)
    for shot in np.unique(shots[deep > 0]):
        frames = np.flatnonzero(shots == shot)
        cleaned = [index for index in frames.tolist() if index in carrier.cleaned]
        still = len(frames) < LEAST_FRAMES or seen[frames].sum() < LEAST_SEEN * hidden[frames].sum()
        if still and not cleaned:
            continue
        # Little is unseen where much of the surroundings is seen; where it is next to nothing, it tells nothing.
        much = frames[2 * deep[frames] >= deep[frames].max()]
        first = cleaned[0] if cleaned else int(much[np.argmin(deep[much])])
        carrier.begin(first)
        ways = frames[frames > first].tolist(), frames[frames < first][::-1].tolist()
        carried = [threads.submit(carrier.carry, first, way, side) for side, way in enumerate(ways)]
        wait(carried)
        for done in carried:
            done.result()


def deep_parts(picture: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """The connected parts of what is unseen, (h, w) bool, that inpainting serves badly: deep ones in rich surroundings.

    `picture` (h, w, 3) uint8 is the frame around them.
    """
    bad = (distance_to(~unseen) > SHALLOW) & (inpainting_error(picture, unseen) > UNSEEN)
    deep = np.zeros_like(unseen)
    if not bad.any():
        return deep
    _, labels = cv2.connectedComponents(unseen.view(np.uint8), connectivity=8)
    detail = fine_detail(picture, unseen)
    for label in np.unique(labels[bad & unseen]):
        part = labels == label
        ring = ring_around(part, RING) & ~unseen
        if ring.any():  # else nothing is known that could be taken
            deep |= part & (np.square(detail[ring]).mean() > PLAIN**2)
    return deep


def fine_detail(picture: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """What a frame (h, w, 3) uint8 differs by from itself blurred, (h, w) float32, where it is not unseen, (h, w)."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    known = (~unseen).astype(np.float32)
    mean, mass = (cv2.GaussianBlur(part, (0, 0), BLUR) for part in (gray * known, known))
    return np.asarray(gray - mean / np.maximum(mass, 1e-3), np.float32)


class Carrier:
    """Carries the fills of shots from frame to frame."""

    def __init__(
        self,
        tracer: Tracer,
        filled: Shelf,
        deep: Shelf,
        fills: Fills,
        *,
        cleaned: Collection[int],
        progress: StageProgress,
    ) -> None:
        """`filled` holds every frame (h, w, 3) uint8, filled along its traces; `deep` what is left to fill, (h, w), and
        how many pixels are hidden, seen elsewhere, and left.

        What the frames `cleaned` show is carried, too. `progress` is asked at every frame whether to go on.
        """
        self._tracer, self._filled, self._deep, self._fills = tracer, filled, deep, fills
        self.cleaned = cleaned
        self._progress = progress

    def counts(self) -> np.ndarray:
        """Of every frame how many pixels are hidden, seen elsewhere, and left to fill: (3, F)."""
        return np.array([self._deep.get(index)[1] for index in range(len(self._deep))]).T

    def begin(self, first: int) -> None:
        """Fill the frame from which the ways in both directions lead."""
        unseen = self._unseen(first)
        if first not in self.cleaned and first not in self._fills and unseen.any():
            self._fill(first, unseen, no_source(*unseen.shape))

    def carry(self, first: int, order: Iterable[int], side: int) -> None:
        """Fill the frames after the `first` by their links back (side 0), or those before it by theirs ahead (1)."""
        held: dict[int, np.ndarray] = {}  # by frame, where every unseen pixel's colour was made
        unseen = self._unseen(first)
        if first in self.cleaned or unseen.any():
            held[first] = own_source(first, *unseen.shape)
            if first not in self.cleaned:
                held[first][~unseen] = NOTHING
        for index in order:
            self._progress.advance(0)
            unseen = self._unseen(index)
            if index in self.cleaned:
                held[index] = own_source(index, *unseen.shape)
            elif index in self._fills:  # by an earlier process
                held[index] = self._fills.source(index)
            elif unseen.any():
                sources = smooth_sources(self._sources(index, side, unseen, held), unseen)
                held[index] = self._fill(index, unseen, sources)
            for old in [old for old in held if abs(old - index) >= max(self._tracer.strides)]:
                del held[old]

    def _unseen(self, index: int) -> np.ndarray:
        return self._deep.get(index)[0]

    def _picture(self, index: int) -> np.ndarray:
        """A frame as far as it is filled, (h, w, 3) uint8."""
        picture = self._filled.get(index)[0]
        if index in self._fills:
            unseen, colours = self._fills[index]
            picture[unseen] = colours
        return picture

    def _fill(self, index: int, unseen: np.ndarray, source: np.ndarray) -> np.ndarray:
        """Fill a frame from what `source` (h, w, 4) float32 leads to, and anew where it leads to nothing.

        Returns the sources of its unseen pixels, as in `Trace`.
        """
        picture = self._picture(index)
        carried = np.isfinite(source[..., COST])
        if carried.any():
            colours = taken(source, carried, lambda at: self._tracer.as_in(self._picture(at), at, index))
            picture[carried] = np.clip(np.rint(colours[carried]), 0, 255)
        new = unseen & ~carried
        sliver = exemplars_available() and not (distance_to(~new) > SHALLOW)[new].any()
        if sliver or not exemplars_available():
            picture = inpaint(picture, new)
        else:
            picture = exemplar_fill(picture, new, seed=index)
        # Slivers are not carried: those of a hole that grows become wide enough for exemplars.
        if not sliver:
            source[new] = own_source(index, *unseen.shape)[new]
        self._fills.put(index, unseen, picture[unseen], source[unseen])
        return source

    def _sources(self, index: int, side: int, unseen: np.ndarray, held: dict[int, np.ndarray]) -> np.ndarray:
        """Where the links of a frame lead to what was made, (h, w, 4) float32."""
        rows, columns = np.nonzero(unseen)
        best = np.full((len(rows), 4), np.nan, np.float32)
        best[:, COST] = np.inf
        for to, flow, error in self._tracer.continued(index, side, unseen):
            if to in held:
                found = follow_link(flow, error, held[to], rows, columns)
                better = found[:, COST] < best[:, COST]
                best[better] = found[better]
        source = no_source(*unseen.shape)
        source[unseen] = best
        return source


def smooth_sources(source: np.ndarray, unseen: np.ndarray) -> np.ndarray:
    """Sources (h, w, 4) of what is `unseen` (h, w) bool, smooth in space; those that cost too much are left out.

    Each pixel takes the frame that most of its surroundings take, and the mean of the ways there.
    """
    out = no_source(*unseen.shape)
    spot = bounds(unseen)
    assert spot is not None
    window = np.s_[spot[1] : spot[3], spot[0] : spot[2]]
    part, inside, smooth = source[window], unseen[window], out[window]
    grid = np.indices(inside.shape, np.float32)
    rows, columns = grid[0], grid[1]
    good = part[..., COST] <= CARRIED
    # Gaps are closed; a hole that grows beyond what is carried is not covered by it.
    mass = cv2.GaussianBlur(good.astype(np.float32), (0, 0), SMOOTH)
    most = np.where(good | (mass > ENCLOSED), np.float32(0), np.float32(np.inf))
    for frame in np.unique(part[..., FRAME][good]).tolist():
        of = good & (part[..., FRAME] == frame)
        ways = np.dstack(
            [np.ones(inside.shape, np.float32), part[..., X] - columns, part[..., Y] - rows, part[..., COST]]
        )
        ways = cv2.GaussianBlur(np.where(of[..., None], ways, 0).astype(np.float32), (0, 0), SMOOTH)
        mass = ways[..., 0]
        better = inside & (mass > most)
        most[better] = mass[better]
        of_x, of_y, cost = (ways[better, 1:] / mass[better, None]).T
        x, y = columns[better] + of_x, rows[better] + of_y
        smooth[better] = np.stack([x, y, np.full_like(x, frame), cost], 1)
    return out
