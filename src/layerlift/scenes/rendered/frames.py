"""One frame of a world, as light: the clip, the plate, and the plate with one thing after the other laid in.

Finished frames are kept under LAYERLIFT_CACHE, so that a render can go on where it was stopped.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from layerlift.cache import cache_folder
from layerlift.scenes.rendered.places import VERSION
from layerlift.scenes.rendered.tracer import GUIDE_SAMPLES, Traced, Tracer, denoised, projected
from layerlift.scenes.rendered.world import Part, World
from layerlift.whole import whole_file

RATE = 24
SHUTTER = 0.5 / RATE  # seconds that it is open: 180 degrees
GLASS = "thindielectric"
MOMENTS = 4  # of a frame that is blurred by motion


@dataclass(frozen=True, slots=True)
class Samples:
    """How many samples a pixel are taken of what.

    Attributes:
        truer: times as many for the truth as for the clip, at least 2.
        still_plate: times as many again, where one plate serves all frames.
        guides: of colours, normals and positions.
        coverage: of what a thing covers.
    """

    truer: int = 4
    still_plate: int = 4
    guides: int = GUIDE_SAMPLES
    coverage: int = 64


@dataclass(frozen=True, slots=True)
class FrameLight:
    """One frame; N things, ordered from back to front. Light is linear."""

    clip: np.ndarray  # (H, W, 3) float16, everything, with the clip's few samples
    plates: np.ndarray  # (N + 1, H, W, 3) float16, truth: without things, then with one more each time
    coverage: np.ndarray  # (N, H, W) float16 in [0, 1]: how much of a pixel a thing covers, of what it is in front of
    opaque: np.ndarray  # (N, H, W) float16: the same without the thing's glass
    depth: np.ndarray  # (H, W) float16, metres from the camera to the plate
    flow: np.ndarray  # (H, W, 2) float16, pixels: where the plate's points are in the next frame, less where they are

    def write(self, path: Path) -> None:
        """Write the frame, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, overwrite=True, own=True) as made, made.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @staticmethod
    def read(path: Path) -> FrameLight | None:
        """The frame in a file; None where there is none, or where it is damaged."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return FrameLight(**{field.name: stored[field.name] for field in fields(FrameLight)})
        except (FileNotFoundError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
            return None


def frame_path(seed: int, size: tuple[int, int], index: int) -> Path:
    """Where a finished frame is kept."""
    return cache_folder("scenes") / f"{VERSION}-{seed}-{size[0]}x{size[1]}" / f"{index:04}.npz"


class Studio:
    """Renders the frames of one world; what never moves is handed to Mitsuba once."""

    def __init__(self, world: World, seed: int, size: tuple[int, int], samples: Samples | None = None):
        self._world = world
        self._seed = seed
        self._size = size
        self._samples = samples or Samples()
        self._tracer = Tracer(world, size)
        self._still_plate: tuple[Traced, np.ndarray] | None = None

    def frame(self, index: int) -> FrameLight:
        """Render frame `index` (≥ 0) with its truth."""
        world, count = self._world, len(self._world.things)
        plate, light = self._plate(index)
        plates = [light]
        for things in range(1, count + 1):
            few, true = self._seen(index, things, self._samples.truer)
            plates.append(denoised(true))
        clip = denoised(few)
        coverage = np.stack([self._coverage(index, number, glass=True) for number in range(count)])
        opaque = coverage
        if any(part.material.get("type") == GLASS for thing in world.things for part in thing.parts(0.0)):
            opaque = np.stack([self._coverage(index, number, glass=False) for number in range(count)])
        shot = index / RATE
        here = projected(plate.position, world.camera(shot), self._size)
        there = projected(plate.position, world.camera(shot + 1 / RATE), self._size)
        return FrameLight(
            clip=clip.astype(np.float16),
            plates=np.stack(plates).astype(np.float16),
            coverage=coverage.astype(np.float16),
            opaque=opaque.astype(np.float16),
            depth=plate.depth.astype(np.float16),
            flow=(there - here).astype(np.float16),
        )

    def _plate(self, index: int) -> tuple[Traced, np.ndarray]:
        if self._still_plate is not None:
            return self._still_plate
        still = not self._world.moves and not self._world.moving(0.0)
        # One plate for all frames is that of the first, also where a render goes on later.
        truer = self._samples.truer
        _, plate = self._seen(0, 0, truer * self._samples.still_plate) if still else self._seen(index, 0, truer)
        found = plate, denoised(plate)
        if still:
            self._still_plate = found
        return found

    def _moments(self, index: int) -> list[float]:
        """The times at which a frame is seen, in seconds."""
        count = MOMENTS if self._world.blurred else 1
        return [index / RATE + (moment + 0.5) / count * SHUTTER * (count > 1) for moment in range(count)]

    def _parts(self, time: float, things: int) -> list[Part]:
        parts = list(self._world.moving(time))
        for thing in self._world.things[:things]:
            parts += [*thing.parts(time), *thing.trail(time)]
        return parts

    def _seen(self, index: int, things: int, truer: int) -> tuple[Traced, Traced]:
        """The world with its first `things` while the shutter is open: by the clip's few samples, and by more.

        The second picture has the samples of the first among its `truer` times as many.
        """
        samples = [self._world.samples, self._world.samples * (truer - 1)]
        times = self._moments(index)
        seen = []
        for moment, time in enumerate(times):
            # The same paths with and without a thing, so that what it changes is all that differs.
            seed = (self._seed * 1000 + index) * 16 + 2 * moment
            shares = [max(count // len(times), 1) for count in samples]
            parts, view = self._parts(time, things), self._world.camera(time)
            seen.append(self._tracer.render(parts, view, shares, seed, max(self._samples.guides // len(times), 4)))
        few, others = (Traced.mean(pictures, [1.0] * len(times)) for pictures in zip(*seen, strict=True))
        return few, Traced.mean([few, others], [1, truer - 1])

    def _coverage(self, index: int, number: int, *, glass: bool) -> np.ndarray:
        times = self._moments(index)
        found = []
        for time in times:
            thing = self._world.things[number].parts(time)
            marked = [part for part in thing if glass or part.material.get("type") != GLASS]
            others, view = self._parts(time, number), self._world.camera(time)
            count = max(self._samples.coverage // len(times), 1)
            found.append(self._tracer.coverage(others, marked, view, count, self._seed + index))
        return np.stack(found).mean(0)
