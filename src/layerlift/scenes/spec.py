"""What a procedural scene is made of: every random choice, drawn from its seed on the CPU.

Lengths are in half frame widths: x runs from -1 to 1 over a frame, y over the frame's height in the same unit. Heights
written `v` are relative to the half frame height instead, so that a scene keeps its look in another aspect ratio. Time
`u` runs from 0 to 1 over the clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

OBJECTS = 2  # every scene has room for two; the second is often absent
HARMONICS = 6  # of an object's outline
HILLS = 4  # sine waves in the skyline
ROCKS = 6  # ellipses lying on the ground
FIELD_OCTAVES = ((6, 4), (12, 8), (24, 16), (48, 32))  # cells (across, down) of the noise that textures everything
FIELD_CHANNELS = 6  # red, green, blue grain; grain shared by the three; patches; clouds
OBJECT_CELLS = 12  # texture of an object, cells across

Uniform = Callable[..., np.ndarray]  # (low, high, *shape) → float32


class Effect(StrEnum):
    """What an object can cause in a picture besides itself."""

    SHADOW = "shadow"
    REFLECTION = "reflection"
    LIGHT = "light"
    GLASS = "glass"
    SMOKE = "smoke"


class Kind(StrEnum):
    """A quarter of the seeds each."""

    STILL = "still"
    PANNING = "panning"
    STILL_WATER = "still water"
    PANNING_WATER = "panning water"


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """One scene: its kind, and named arrays of numbers that `render` stacks over a batch."""

    seed: int
    kind: Kind
    object_count: int
    has_effects: bool
    numbers: dict[str, np.ndarray]

    @property
    def water(self) -> bool:
        return self.kind in (Kind.STILL_WATER, Kind.PANNING_WATER)

    @property
    def panning(self) -> bool:
        return self.kind in (Kind.PANNING, Kind.PANNING_WATER)

    @property
    def effects(self) -> tuple[tuple[Effect, ...], ...]:
        """Of each object, back to front."""
        own = Effect.REFLECTION if self.water else Effect.SHADOW
        return ((own,) if self.has_effects else (),) * self.object_count


@dataclass(frozen=True, slots=True)
class RenderedSpec:
    """What is known of a scene rendered in 3-D beside its pictures."""

    seed: int
    place: str
    effects: tuple[tuple[Effect, ...], ...]  # of each object, back to front; the one that shows most comes first
    moves: bool  # the camera does
    blurred: bool  # by motion

    @property
    def object_count(self) -> int:
        return len(self.effects)

    @property
    def has_effects(self) -> bool:
        return any(self.effects)


def draw(seed: int) -> SceneSpec:
    """Draw the scene of `seed` (any integer ≥ 0).

    The kind cycles with the seed; a third of the seeds have two objects and an eighth have objects without any effect,
    spread evenly over the kinds. Only `Generator.random` is used: its stream is the same on every machine.
    """
    if seed < 0:
        raise ValueError(f"a scene's seed is {seed}, expected 0 or more")
    rng = np.random.Generator(np.random.PCG64(seed))

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return (low + (high - low) * rng.random(shape)).astype(np.float32)

    kind = list(Kind)[seed % 4]
    object_count = 2 if (seed // 4 + seed % 4) % 3 == 0 else 1
    has_effects = (seed // 4 + 2 * (seed % 4)) % 8 != 0
    water = kind in (Kind.STILL_WATER, Kind.PANNING_WATER)
    panning = kind in (Kind.PANNING, Kind.PANNING_WATER)

    numbers = _draw_background(uniform, water=water)
    numbers |= _draw_camera(uniform, panning=panning)
    numbers |= _draw_objects(uniform, numbers, object_count, has_effects=has_effects, water=water)
    return SceneSpec(seed, kind, object_count, has_effects, numbers)


def _draw_background(uniform: Uniform, *, water: bool) -> dict[str, np.ndarray]:
    field = [uniform(0, 1, FIELD_CHANNELS, down, across) for across, down in FIELD_OCTAVES]
    ground = uniform(0.25, 0.75, 3)
    if water:  # water is darker, bluish and smoother
        ground = np.clip(ground * 0.5 + np.array([0.08, 0.16, 0.24], np.float32), 0, 1)
    contrast = 0.8 if water else 1.0
    return {f"field_{i}": octave for i, octave in enumerate(field)} | {
        "octave_gain": np.array([1.0, 0.6, 0.36, 0.22], np.float32),
        "horizon": uniform(-0.6, -0.1),  # v
        "sky": uniform(0.45, 0.9, 3),
        "sky_slope": uniform(-0.12, 0.12, 3),
        "cloud_gain": uniform(0.02, 0.1),
        "hill": uniform(0.15, 0.65, 3),
        "hill_height": uniform(0.0, 0.3),  # v
        "hill_amplitude": uniform(0.02, 0.12, HILLS) / np.arange(1, HILLS + 1, dtype=np.float32),
        "hill_frequency": uniform(1.0, 4.0, HILLS) * np.arange(1, HILLS + 1, dtype=np.float32),
        "hill_phase": uniform(0, 2 * np.pi, HILLS),
        "ground": ground.astype(np.float32),
        "ground_slope": uniform(-0.1, 0.1, 3),
        "grain_gain": uniform(0.02, 0.065) * contrast,
        "patch": uniform(-0.22, 0.22, 3) * contrast,
        "patch_level": uniform(-0.3, 0.8),
        "patch_sharpness": np.exp(uniform(np.log(2.0), np.log(25.0))),  # soft to sharp texture
        "stripe_gain": uniform(0.0, 0.07) * (uniform(0, 1) < 0.5) * contrast,
        "stripe_frequency": uniform(4.0, 14.0, 2),
        "stripe_phase": uniform(0, 2 * np.pi, 2),
        "rock_centre": np.stack([uniform(-1.4, 1.4, ROCKS), uniform(-0.05, 1.2, ROCKS)], -1),  # x, v
        "rock_radius": np.stack([uniform(0.03, 0.16, ROCKS), uniform(0.02, 0.09, ROCKS)], -1),
        "rock_colour": uniform(0.1, 0.8, ROCKS, 3),
        "rock_there": (uniform(0, 1, ROCKS) < (0.0 if water else 0.7)).astype(np.float32),
        "ripple_gain": uniform(0.0025, 0.006) * water,  # sideways displacement
        "ripple_frequency": np.stack([uniform(18.0, 40.0), uniform(1.0, 6.0)], -1),  # along y, along x
        "ripple_speed": uniform(0.35, 0.7),  # radians a frame
        "ripple_phase": uniform(0, 2 * np.pi),
        "glint_gain": uniform(0.004, 0.012) * water,  # brightness of the waves
    }


def _draw_camera(uniform: Uniform, *, panning: bool) -> dict[str, np.ndarray]:
    side = np.where(uniform(0, 1) < 0.5, -1, 1).astype(np.float32)
    return {
        "pan": np.stack([side * uniform(0.25, 0.6), uniform(-0.06, 0.06)]) * panning,  # over the whole clip
        "zoom": uniform(-0.04, 0.04) * panning,
    }


def _draw_objects(
    uniform: Uniform, background: dict[str, np.ndarray], object_count: int, *, has_effects: bool, water: bool
) -> dict[str, np.ndarray]:
    n = OBJECTS
    # Objects must stand out: of a dozen colours take the one farthest from everything behind them.
    candidates = uniform(0.0, 1.0, n, 12, 3)
    behind = np.stack([background[name] for name in ("ground", "hill", "sky")])
    distance = np.linalg.norm(candidates[:, :, None] - behind, axis=-1).min(-1)
    colour = np.take_along_axis(candidates, distance.argmax(1)[:, None, None], 1)[:, 0]
    # The second object is smaller, stands farther off (nearer to the horizon) and goes its own way.
    radius = uniform(0.13, 0.24, n) * np.array([1.0, 0.75], np.float32)
    standing = np.stack([uniform(0.25, 0.5), uniform(0.0, 0.2)])
    travel = uniform(0.45, 1.05, n) * np.where(uniform(0, 1, n) < 0.5, -1, 1)
    return {
        "object_there": (np.arange(n) < object_count).astype(np.float32),
        "radius": radius.astype(np.float32),
        "tallness": uniform(0.75, 1.4, n),
        "squareness": np.where(uniform(0, 1, n) < 0.3, uniform(3.0, 6.0, n), 2.0).astype(np.float32),
        "outline_gain": uniform(-0.16, 0.16, n, HARMONICS) / np.linspace(1, 2, HARMONICS, dtype=np.float32),
        "outline_phase": uniform(0, 2 * np.pi, n, HARMONICS),
        "middle": uniform(-0.35, 0.35, n),  # x half way through the clip
        "travel": travel.astype(np.float32),  # over the whole clip
        "standing": standing.astype(np.float32),  # v of the line the object stands on
        "bob_gain": uniform(0.0, 0.02, n),
        "bob_phase": uniform(0, 2 * np.pi, n),
        "turn": uniform(-0.5, 0.5, n),  # radians over the clip
        "colour": colour.astype(np.float32),
        "coat": uniform(-1, 1, n, 3, OBJECT_CELLS, OBJECT_CELLS),
        "coat_gain": uniform(0.04, 0.18, n),
        "shadow": uniform(0.35, 0.65, n) * (has_effects and not water),  # alpha of the umbra
        "shear": uniform(-1.1, 1.1, n),
        "squash": uniform(0.3, 0.6, n),
        "reflection": uniform(0.4, 0.7, n) * (has_effects and water),  # alpha
        "reflection_ripple": uniform(2.0, 4.0, n),  # times the water's own
    }
