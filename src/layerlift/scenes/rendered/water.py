"""A lake and a beach, and the waves on them."""

from __future__ import annotations

import numpy as np

from layerlift.scenes.rendered import figures, plants, textures
from layerlift.scenes.rendered.figures import COATS, placed, towards
from layerlift.scenes.rendered.materials import Material, bumpy, coated, matt, polished, sunlight
from layerlift.scenes.rendered.shapes import Mesh, box, flat, joined, lathe, surface, tube
from layerlift.scenes.rendered.terrain import Terrain, post, rock
from layerlift.scenes.rendered.textures import Colour
from layerlift.scenes.rendered.world import Part, Thing, View, World
from layerlift.scenes.spec import Effect

GRAVITY = 9.81
SEA = (0.02, 0.1, 0.115)
SINES = 36
DRY: list[Colour] = [(0.3, 0.3, 0.12), (0.36, 0.32, 0.15)]
# On the beach: x, y, z and size.
BOULDERS = (
    (3.4, 5.2, 0.1, 1.3),
    (4.4, 6.1, 0.1, 1.8),
    (2.6, 5.9, 0.0, 0.6),
    (-4.6, 4.2, 0.0, 0.7),
    (-1.2, 5.4, 0.0, 0.4),
)


class Waves:
    """The height of deep water: sines of up to `longest` metres that run with the wind, more or less.

    Each is as fast as its length makes it: the square of its angular frequency is gravity times its wave number (Airy).
    """

    def __init__(self, rng: np.random.Generator, longest: float, steepness: float, wind: float):
        lengths = longest * rng.uniform(0.07, 1.0, SINES) ** 1.3
        angles = rng.normal(wind, 0.7, SINES)
        self._k = (2 * np.pi / lengths)[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
        self._amplitude = steepness * lengths / SINES**0.5
        self._phase = rng.uniform(0, 2 * np.pi, SINES)
        self._speed = np.sqrt(GRAVITY * 2 * np.pi / lengths)  # radians a second

    def surface(self, x: tuple[float, float], y: tuple[float, float], shape: tuple[int, int], t: float) -> Mesh:
        """The water over a rectangle at time t, a grid (m, n): finer towards the least y, where the camera is."""
        across, share = np.linspace(*x, shape[1]), np.linspace(0, 1, shape[0])
        along = y[0] + (y[1] - y[0]) * share**2
        height = np.zeros(shape)
        for (kx, ky), amplitude, phase, speed in zip(self._k, self._amplitude, self._phase, self._speed, strict=True):
            turn = (ky * along + phase - speed * t)[:, None] + kx * across
            height += amplitude * np.sin(turn)
        # Far away the grid is too coarse for short waves, which would flicker there.
        fade = np.clip(1.4 - (along - y[0]) / (y[1] - y[0]), 0, 1)[:, None]
        points = np.stack([*np.meshgrid(across, along), height * fade], -1)  # (m, n, 3)
        return surface(points, np.stack(np.meshgrid(across, share), -1))


def far_bank(rng: np.random.Generator, land: Terrain, turf: Material) -> list[Part]:
    """The other side of a lake: boulders, grass, flowers, and trees with bushes before them."""
    stones = [rock(rng, (x, 15.9 + rng.uniform(0, 0.6), 0.1), rng.uniform(0.5, 1.3)) for x in rng.uniform(-9, 9, 7)]
    parts = [
        Part(land.mesh((-45, 45), (14, 60), 160, 3.0), turf),
        Part(joined(stones), matt(textures.even((0.3, 0.28, 0.26), rng, 0.25, 0.9))),
        plants.grass(rng, (-14, 14), (15.6, 21), 22000, 0.4, at=land.at),
        *plants.flowers(rng, (-9, 9), (16, 18), 160, 0.45, at=land.at),
    ]
    places = np.linspace(-13, 13, 7) + rng.normal(0, 0.9, 7), rng.uniform(23, 30, 7), rng.uniform(3.4, 4.6, 7)
    for x, y, height in np.stack(places, 1).tolist():
        parts += plants.tree(rng, land.spot(x, y, -0.1), height, 0.26, 5000)
        parts += plants.bush(rng, land.spot(x + 1.6, y - 1.5, -0.2), 1.1, 0.14, 1600)
    return parts


def jetty(rng: np.random.Generator, x: float) -> Part:
    """A jetty of boards on posts that leads to the other bank."""
    boards = [box((x - 0.55, 5.5 + 0.32 * step, 0.3), (x + 0.55, 5.78 + 0.32 * step, 0.35), 0.8) for step in range(12)]
    posts = [
        tube((x + beside, 5.6 + step, -0.5), (x + beside, 5.6 + step, 0.55), 0.06)
        for step in (0, 1.7, 3.4)
        for beside in (-0.5, 0.5)
    ]
    return Part(joined([*boards, *posts]), matt(textures.planks(rng, (0.28, 0.2, 0.13))[0]))


def lakeside(rng: np.random.Generator) -> World:
    """A bird swims on a lake with trees on the other bank; a still camera."""
    side = float(rng.choice([-1.0, 1.0]))
    soil, grains = textures.earth(rng, (0.12, 0.13, 0.045), (0.16, 0.15, 0.06))

    def slope(_: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(y > 15, np.clip((y - 15.5) * 0.14, -0.4, 2) + np.clip(y - 26, 0, 40) * 0.16, -1.2)

    land = Terrain(rng, 60, 0.35, slope)
    waves = Waves(rng, 1.8, 0.0019, rng.uniform(0, 2 * np.pi))
    parts = [
        *far_bank(rng, land, bumpy(matt(soil), grains, 0.05)),
        *[plants.grass(rng, (x - 0.7, x + 0.7), (0.4, 1.9), 160, 1.0) for x in (-2.5 * side, 3.2 * side)],
        jetty(rng, 3.9 * side),
    ]
    feathers: Colour = [(0.32, 0.3, 0.27), (0.75, 0.73, 0.68)][rng.integers(2)]
    head: Colour = [(0.02, 0.14, 0.06), (0.25, 0.12, 0.06)][rng.integers(2)]
    speed, y = rng.uniform(1.4, 1.55), rng.uniform(2.1, 2.4)

    def bird(t: float) -> list[Part]:
        swum = speed * t
        made = figures.duck(feathers, head, 0.02 * np.sin(9 * t))
        return placed(made, (side * (swum - 1.0), y, 0.01 * np.sin(5 * t)), towards(side), 1.1)

    def water(t: float) -> list[Part]:
        return [Part(waves.surface((-9, 9), (-1.5, 16.5), (300, 360), t), polished((0.012, 0.03, 0.028)))]

    def camera(_: float) -> View:
        return View((0.15 * side, -1.4, 1.6), (0.05 * side, 3.4, 0.36), 44)

    azimuth = rng.uniform(0.5, 1.0) * side
    sun = sunlight((float(np.sin(azimuth)), float(-np.cos(azimuth)), rng.uniform(0.5, 0.8)))
    thing = Thing("bird on the water", bird, (Effect.REFLECTION,))
    return World("lakeside", parts, [sun], [thing], camera, moves=False, moving=water, brightness=0.2, bounces=4)


def parasol(x: float, y: float) -> list[Part]:
    """A striped parasol."""
    canopy = lathe([(1.35, 1.95), (0.7, 2.22), (0.03, 2.38), (0, 2.42)], 17)
    cloth = textures.stripes([(0.6, 0.06, 0.05), (0.75, 0.72, 0.66)] * 4)
    pole = tube((0, 0, -0.2), (0, 0, 2.45), 0.025)
    return [
        Part(canopy.moved((x, y, 0)), matt(cloth)),
        Part(pole.moved((x, y, 0)), coated((0.7, 0.68, 0.62), 0.2)),
    ]


def towel(x: float, y: float) -> Part:
    """A striped towel on the sand."""
    cloth = textures.stripes([(0.08, 0.25, 0.45), (0.7, 0.68, 0.6)] * 5, "v")
    return Part(flat((-0.5, -0.9, 0.05), (1.0, 0, 0), (0, 1.8, 0)).moved((x, y, 0.05)), matt(cloth))


def beach(rng: np.random.Generator) -> World:
    """Someone walks along a beach after a ball that bounces; the camera turns with them."""
    side = float(rng.choice([-1.0, 1.0]))

    def form(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(y < 9, 0.0, -0.055 * (y - 9)) + 0.02 * np.sin(2.2 * x + 5.1 * y + np.sin(0.9 * x))

    sand = Terrain(rng, 40, 0.05, form, 1.5)
    colour, grains = textures.earth(rng, (0.5, 0.4, 0.27), (0.56, 0.46, 0.32), 0.1)
    waves = Waves(rng, 5.0, 0.011, -np.pi / 2)
    boulders = [rock(rng, (side * x, y, z), size) for x, y, z, size in BOULDERS]
    stone = textures.even((0.3, 0.27, 0.23), rng, 0.3, 0.9)
    posts = [post(-6.5 * side + 1.3 * index, 9.5 + 0.8 * index, 0.9, 0.16) for index in range(6)]
    parts = [
        Part(sand.mesh((-20, 20), (-6, 14), 320, 1.6), bumpy(matt(colour), grains, 0.02)),
        Part(joined(boulders), bumpy(matt(stone), textures.noise(rng, 1.0), 0.02)),
        # The sea far out, beyond the waves.
        Part(flat((-4000, 89.8, -0.13), (8000, 0, 0), (0, 6000, 0)), coated(SEA, 0.12)),
        *parasol(-2.6 * side, 4.2),
        towel(-1.9 * side, 3.7),
        Part(joined(posts), matt(textures.even((0.22, 0.17, 0.12), rng, 0.3, 0.8))),
        plants.grass(rng, (4.5 * side - 2.5, 4.5 * side + 2.5), (2.2, 5.0), 900, 0.5, at=sand.at, greens=DRY),
    ]
    pace = rng.uniform(1.45, 1.65)
    coat = COATS[rng.integers(len(COATS))]
    white: Colour = (0.75, 0.73, 0.68)
    skin = textures.stripes([(0.65, 0.08, 0.05), white, (0.06, 0.2, 0.5), white, (0.7, 0.5, 0.05), white])

    def person(t: float) -> list[Part]:
        walked = pace * t
        made = figures.walker(walked, coat, (0.3, 0.26, 0.18))
        return placed(made, (side * (walked - 1.7), 3.0, 0.02), towards(side))

    def ball(t: float) -> list[Part]:
        run, beat = 2.0 * t, (t * 1.5 + 0.3) % 1.0
        height = 0.02 + 2.2 * beat * (1 - beat) * 0.55
        return placed(figures.ball(run, 0.21, skin), (side * (run - 0.4), 1.7, height), towards(side))

    def water(t: float) -> list[Part]:
        sea = waves.surface((-60, 60), (10.2, 90), (260, 320), t)
        return [Part(sea.moved((0, 0, -0.13)), polished(SEA))]

    def camera(t: float) -> View:
        return View((0.1 * side * t, -3.9, 1.5), (side * (0.75 * t - 0.75), 3.0, 0.95), 50)

    azimuth = rng.uniform(0.5, 1.1) * side
    sun = sunlight((float(np.sin(azimuth)), float(-0.5 * np.cos(azimuth)), rng.uniform(0.6, 0.85)), haze=2.6)
    things = [Thing("person", person, (Effect.SHADOW,)), Thing("ball", ball, (Effect.SHADOW,))]
    return World("beach", parts, [sun], things, camera, moves=True, moving=water, brightness=0.26)
