"""A meadow and a yard, with what stands in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from layerlift.scenes.rendered import figures, plants, textures
from layerlift.scenes.rendered.figures import COATS, placed, towards
from layerlift.scenes.rendered.materials import bumpy, coated, matt, sunlight
from layerlift.scenes.rendered.shapes import Mesh, box, flat, joined, lathe
from layerlift.scenes.rendered.terrain import Terrain, post, rail
from layerlift.scenes.rendered.world import Part, Smoke, Thing, View, World
from layerlift.scenes.spec import Effect


def meadow(rng: np.random.Generator) -> World:
    """A bird flies over a meadow on a day without sun, so that it causes nothing; the camera goes round."""
    side = float(rng.choice([-1.0, 1.0]))

    def hills(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.clip(y - 9, 0, 60) * 0.05 + np.clip(y - 26, 0, 40) ** 1.5 * 0.025 * (1.2 + np.sin(0.09 * x + 1))

    land = Terrain(rng, 60, 0.22, hills)
    soil, grains = textures.earth(rng, (0.1, 0.12, 0.035), (0.15, 0.15, 0.055))
    parts = [
        Part(land.mesh((-40, 40), (-5, 58), 200, 2.5), bumpy(matt(soil), grains, 0.04)),
        plants.grass(rng, (-6, 6), (-1.6, 9), 42000, 0.3, at=land.at),
        plants.grass(rng, (-16, 16), (8, 22), 16000, 0.4, at=land.at),
        *plants.flowers(rng, (-4, 4), (0.2, 6), 260, 0.34, at=land.at),
        fence(rng, land),
    ]
    for x, y, height in ((-6.5, 14, 6.2), (5.2, 16, 7.4), (-1.2, 21, 7.0), (11, 20, 6.5), (-13, 19, 7.5)):
        px, py = x * side + rng.normal(0, 0.6), y + rng.normal(0, 0.8)
        parts += plants.tree(rng, land.spot(px, py, -0.1), height, 0.24, 6500)
        parts += plants.bush(rng, land.spot(px + 2.1, py - 1.0, -0.1), 1.5, 0.14, 1500)
    speed, beat = rng.uniform(2.7, 3.1), rng.uniform(13, 16)
    feathers, belly = [((0.05, 0.05, 0.06), (0.1, 0.1, 0.1)), ((0.55, 0.53, 0.5), (0.7, 0.7, 0.68))][rng.integers(2)]

    def flying(t: float) -> list[Part]:
        flown = speed * t
        made = figures.bird(beat * t, feathers, belly, 1.3)
        height = 1.75 + 0.1 * np.sin(2 * t) + 0.15 * t
        return placed(made, (side * (flown - 2.0), 5.2, height), towards(side), 1.25)

    def camera(t: float) -> View:
        angle = side * (0.16 * t - 0.1)
        return View((7.2 * np.sin(angle), 4.6 - 7.2 * np.cos(angle), 1.35), (0, 4.6, 1.4), 50)

    sky = sunlight((-0.5 * side, -0.6, 0.7), sun=0.0, haze=6.0)
    return World("meadow", parts, [sky], [Thing("bird", flying, ())], camera, moves=True, brightness=0.2)


def fence(rng: np.random.Generator, land: Terrain) -> Part:
    """A fence of posts with two rails across the meadow."""
    step = 2.0
    feet = [land.spot(-11 + step * index, 8.6) for index in range(12)]
    wood: list[Mesh] = []
    for x, y, z in feet:
        wood.append(post(x, y, z + 1.05, 0.13))
        if x < feet[-1][0]:
            wood += [rail((x, x + step), 8.55, z + height) for height in (0.45, 0.85)]
    return Part(joined(wood), matt(textures.planks(rng, (0.3, 0.23, 0.16))[0]))


def shed(boards: np.ndarray, seams: np.ndarray, iron: np.ndarray) -> list[Part]:
    """A shed of boards with a gate and a roof of sheet iron."""
    walls = [
        flat((-8, 5, 0), (5.2, 0, 0), (0, 0, 3.2), 1.6),
        flat((0.6, 5, 0), (9, 0, 0), (0, 0, 3.2), 1.6),
        flat((-2.8, 5, 2.6), (3.4, 0, 0), (0, 0, 0.6), 1.6),
    ]
    gate = [box((-2.75 + 0.42 * index, 5.05, 0.05), (-2.36 + 0.42 * index, 5.1, 2.58)) for index in range(8)]
    return [
        Part(joined(walls), bumpy(matt(boards), seams, 0.02)),
        Part(joined(gate), coated((0.1, 0.2, 0.16), 0.3)),
        Part(box((-8.3, 4.6, 3.2), (10, 9, 3.35)), matt(iron)),
    ]


def lumber(rng: np.random.Generator) -> list[Part]:
    """What stands about before the shed: drums, tyres and crates."""
    ribs = [(0.3, 0), (0.3, 0.3), (0.315, 0.32), (0.3, 0.34), (0.3, 0.62), (0.315, 0.64), (0.3, 0.66), (0.3, 0.92)]
    drum = lathe([*ribs, (0.28, 0.92), (0.27, 0.9), (0, 0.9)])
    tyre = lathe([(0.2, 0), (0.33, 0.02), (0.36, 0.1), (0.33, 0.2), (0.2, 0.22)])
    drums = [drum.moved(at) for at in ((3.6, 4.4, 0), (4.3, 4.5, 0), (3.95, 3.9, 0))]
    tyres = [tyre.moved((-4.2, 4.3, 0.22 * index)) for index in range(3)]
    crates = [
        box((x, y, z), (x + 0.7, y + 0.6, z + 0.6), 0.7)
        for x, y, z in ((1.4, 4.2, 0), (2.15, 4.25, 0), (1.75, 4.2, 0.6))
    ]
    return [
        Part(joined(drums), coated(textures.even((0.1, 0.2, 0.32), rng, 0.3, 1.2), 0.25)),
        Part(joined(tyres), coated((0.025,) * 3, 0.4)),
        Part(joined(crates), matt(textures.planks(rng, (0.42, 0.3, 0.17), 5)[0])),
    ]


def yard(rng: np.random.Generator) -> World:
    """A car drives over a yard of gravel with smoke behind it; the camera goes along."""
    side = float(rng.choice([-1.0, 1.0]))
    pebbles, heights = textures.gravel(
        rng, [(0.42, 0.39, 0.34), (0.37, 0.35, 0.32), (0.46, 0.42, 0.37), (0.34, 0.31, 0.27)]
    )
    boards, seams = textures.planks(rng, (0.35, 0.2, 0.12), 8)
    iron = textures.even((0.32, 0.3, 0.28), rng, 0.15, 1.2)
    parts = [
        Part(flat((-25, -14, 0), (50, 0, 0), (0, 40, 0), 1.5), bumpy(matt(pebbles), heights, 0.03)),
        *shed(boards, seams, iron),
        *lumber(rng),
        plants.grass(rng, (-8, 9), (4.4, 4.95), 1600, 0.3),
        *plants.tree(rng, (-9.5, 8, 0), 7.5, 0.24, 7000),
        *plants.tree(rng, (8.5, 9.5, 0), 8.0, 0.24, 7000),
    ]
    # Normals are made unit once more. That changes their last bits, but none that single precision keeps for Mitsuba.
    parts = [replace(part, mesh=part.mesh.moved()) for part in parts]
    speed, paint = rng.uniform(6.4, 7.0), COATS[rng.integers(len(COATS))]
    swirl = np.stack([textures.noise(rng, 1.5, (96, 96)) for _ in range(2)])

    def place(t: float) -> float:
        return side * (speed * t - 4.3)

    def driving(t: float) -> list[Part]:
        return placed(figures.car(speed * t, paint), (place(t), 1.6, 0), towards(side))

    def smoke(t: float) -> list[Part]:
        behind, length, height = place(t) - side * 1.95, 2.8, 1.5
        low = (min(behind, behind - side * length), 0.7, 0.02)
        border = box(low, (low[0] + length, 2.5, 0.02 + height))
        return [Part(border, {}, cloud=Smoke(exhaust(swirl, t, speed, side), 7.0, (0.82, 0.82, 0.84)))]

    def camera(t: float) -> View:
        return View((side * (0.9 * t - 0.6), -6.4, 1.6), (side * (1.2 * t - 0.8), 2.4, 1.0), 54)

    azimuth = rng.uniform(0.5, 1.0) * side
    sun = (float(np.sin(azimuth)), float(-0.8 * np.cos(azimuth)), rng.uniform(0.7, 0.95))
    thing = Thing("car", driving, (Effect.SMOKE, Effect.SHADOW), smoke)
    return World("yard", parts, [sunlight(sun)], [thing], camera, moves=True, brightness=0.22, bounces=4)


def exhaust(swirl: np.ndarray, t: float, speed: float, side: float) -> np.ndarray:
    """Smoke behind an exhaust pipe, (z, y, x) in [0, 1]: thick at the pipe, wide and thin farther away.

    `swirl` (2, 96, 96) is noise that pushes it about; the pipe is at the end of x towards `side`.
    """
    age = np.linspace(0, 1, 72)[None, None]  # 0 at the pipe
    z, y = np.linspace(0, 1, 32)[:, None, None], np.linspace(-1, 1, 28)[None, :, None]
    # The air stands still: what is seen of it slides by as the pipe moves on.
    column = ((age * 60 + speed * t * 14) % 96).astype(int)
    rows = np.clip((z * 40).astype(int) + int(4 * t), 0, 95)
    push, rise = swirl[0][rows, column], swirl[1][rows, column]
    middle, width = 0.17 + 0.32 * age + 0.05 * rise * age, 0.05 + 0.3 * age**0.8
    distance = np.hypot((z - middle) / width, (y - 0.25 * push * age) / (1.7 * width))
    lumps = 0.65 + 0.35 * np.clip(push * 0.8 + rise * 0.6, -1.6, 1.6)
    density = np.exp(-(distance**2) * 1.6) * np.clip(lumps, 0.05, 1.3) * (1 - age) ** 0.8 / (0.35 + 1.5 * age)
    density = gaussian_filter(density * np.clip(age * 12, 0, 1), 0.7)
    border = np.clip(np.minimum(z, 1 - z) * 10, 0, 1) * np.clip((1 - np.abs(y)) * 8, 0, 1)
    density = np.clip(density * border, 0, 1)
    return np.ascontiguousarray(density[:, :, ::-1] if side > 0 else density, np.float32)
