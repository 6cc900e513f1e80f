"""A street in the sun, and a square after rain at dusk."""

from __future__ import annotations

import numpy as np

from layerlift.scenes.rendered import figures, plants, textures
from layerlift.scenes.rendered.figures import COATS, placed, towards
from layerlift.scenes.rendered.materials import ambient, bumpy, coated, matt, metal, partly, polished, sunlight
from layerlift.scenes.rendered.shapes import Mesh, box, flat, joined, lathe, rounded
from layerlift.scenes.rendered.textures import Colour
from layerlift.scenes.rendered.world import Part, Thing, View, World
from layerlift.scenes.spec import Effect

BRICKS: list[Colour] = [(0.36, 0.15, 0.1), (0.42, 0.24, 0.14), (0.33, 0.3, 0.26)]
DOORS: list[Colour] = [(0.05, 0.18, 0.12), (0.3, 0.04, 0.04), (0.05, 0.09, 0.22)]
BAY = 2.6  # metres from window to window
PIER = 1.4  # of them wall


def facade(rng: np.random.Generator, y: float, bays: int, lit: float = 0.0) -> list[Part]:
    """A house of brick that faces the street at `y`; of its windows the share `lit` has a lamp on behind it."""
    colour, heights = textures.brick(rng, BRICKS[rng.integers(len(BRICKS))])
    wall: list[Mesh] = []
    trim: list[Mesh] = []
    panes: list[Mesh] = []
    bright: list[Mesh] = []
    door: list[Mesh] = []
    door_bay = int(rng.integers(bays // 2 - 1, bays // 2 + 2))
    for bay in range(bays):
        x = -bays * BAY / 2 + bay * BAY
        sill = 0.12 if bay == door_bay else 1.0
        wall += [
            box((x, y, 0), (x + PIER, y + 0.3, 6.5), 1.4),
            box((x + PIER, y, 2.55), (x + BAY, y + 0.3, 3.5), 1.4),
            box((x + PIER, y, 4.9), (x + BAY, y + 0.3, 6.5), 1.4),
            box((x + PIER, y, 0), (x + BAY, y + 0.3, sill), 1.4),
        ]
        for low, high in ((sill, 2.55), (3.5, 4.9)):
            trim.append(box((x + 1.34, y - 0.06, low - 0.09), (x + BAY + 0.06, y + 0.1, low)))
            trim.append(box((x + 1.34, y - 0.03, high), (x + BAY + 0.06, y + 0.1, high + 0.16)))
            if bay == door_bay and low == sill:
                door = panelled(x, y, low, high)
                continue
            trim += window_bars(x, y, low, high)
            behind = bright if rng.random() < lit else panes
            behind.append(flat((x + PIER, y + 0.2, low), (BAY - PIER, 0, 0), (0, 0, high - low)))
    parts = [
        Part(joined(wall), bumpy(matt(colour), heights, 0.02)),
        Part(joined(trim), matt(textures.even((0.62, 0.6, 0.55), rng, 0.06))),
        Part(joined(panes), coated(textures.even((0.02, 0.025, 0.03), rng, 0.5, 1.6), 0.02)),
        Part(joined(door), coated(DOORS[rng.integers(len(DOORS))], 0.12)),
    ]
    if bright:
        parts.append(Part(joined(bright), matt((0.5, 0.4, 0.3)), glow=(0.17, 0.105, 0.045)))
    return parts


def window_bars(x: float, y: float, low: float, high: float) -> list[Mesh]:
    """The wooden bars of the window in the bay at x: a cross, and the two sides."""
    middle, cross = x + PIER + (BAY - PIER) / 2, (low + high) / 2 + 0.15
    return [
        box((middle - 0.025, y + 0.12, low), (middle + 0.025, y + 0.2, high)),
        box((x + PIER, y + 0.12, cross - 0.025), (x + BAY, y + 0.2, cross + 0.025)),
        *(box((edge, y + 0.12, low), (edge + 0.06, y + 0.2, high)) for edge in (x + PIER, x + BAY - 0.06)),
    ]


def panelled(x: float, y: float, low: float, high: float) -> list[Mesh]:
    """A door with four panels in the bay at x."""
    panels = [
        box((x + 1.55 + across, y + 0.17, low + 0.2 + step), (x + 1.9 + across, y + 0.2, low + 0.85 + step))
        for across in (0, 0.46)
        for step in (0, 0.8)
    ]
    return [box((x + PIER, y + 0.2, low), (x + BAY, y + 0.25, high)), *panels]


def lamp_post(x: float, y: float) -> Mesh:
    """A street lamp of iron, 4.2 m high."""
    pole = lathe(
        [(0.14, 0), (0.14, 0.12), (0.08, 0.2), (0.07, 0.9), (0.045, 1.0), (0.04, 3.6), (0.09, 3.65), (0.05, 3.7)]
    )
    head = lathe([(0.1, 3.7), (0.2, 4.1), (0.22, 4.12), (0.05, 4.3), (0, 4.32)])
    return joined([pole, head]).moved((x, y, 0))


def litter_bin(x: float, y: float) -> list[Part]:
    """A bin with a rounded lid."""
    tub = lathe([(0.2, 0), (0.24, 0.75), (0.25, 0.77), (0.25, 0.82), (0.12, 0.95), (0, 0.97)])
    return [Part(tub.moved((x, y, 0)), coated((0.03, 0.09, 0.06), 0.2))]


def pavement(rng: np.random.Generator, low: float, high: float) -> list[Part]:
    """Slabs between two y, and a kerb before them."""
    colour, heights = textures.slabs(rng, (0.4, 0.38, 0.35), 3)
    kerb = box((-25, low - 0.16, -0.05), (25, low, 0.1), 0.9)
    return [
        Part(flat((-25, low, 0.1), (50, 0, 0), (0, high - low, 0), 1.5), bumpy(matt(colour), heights, 0.01)),
        Part(kerb, matt(textures.even((0.45, 0.44, 0.42), rng, 0.12, 0.8))),
    ]


def street(rng: np.random.Generator) -> World:
    """Someone walks along a street in the sun; the camera goes with them for a while."""
    side = float(rng.choice([-1.0, 1.0]))
    asphalt, grains = textures.asphalt(rng)
    trough = box((2.1 * side - 0.5, 1.75, 0.1), (2.1 * side + 1.4, 2.45, 0.45))
    parts = [
        Part(flat((-25, -14, 0), (50, 0, 0), (0, 14, 0), 2.5), bumpy(matt(asphalt), grains, 0.012)),
        *pavement(rng, 0.0, 2.6),
        *facade(rng, 2.6, 10),
        Part(flat((-25, -2.3, 0.004), (50, 0, 0), (0, 0.12, 0)), matt(textures.even((0.6, 0.58, 0.5), rng, 0.25, 0.5))),
        Part(joined([lamp_post(x, 0.35) for x in (-3.4 * side, 4.6 * side)]), coated((0.02, 0.03, 0.03), 0.2)),
        *litter_bin(-1.9 * side, 0.4),
        *plants.bush(rng, (2.6 * side, 2.1, 0.35), 0.8),
        Part(trough, matt(textures.even((0.42, 0.2, 0.12), rng, 0.2))),
        *plants.tree(rng, (6.6 * side, 0.5, 0.1), 5.5, 0.18),
        *placed(figures.car(0.0, COATS[rng.integers(len(COATS))]), (-5.6 * side, -0.95, 0)),
    ]
    azimuth, height = rng.uniform(0.5, 1.0) * side, rng.uniform(0.62, 0.82)
    sun = (float(np.sin(azimuth)), float(-np.cos(azimuth)), float(np.tan(height)))
    pace, y = rng.uniform(1.35, 1.6), rng.uniform(0.9, 1.3)
    coat, trousers = COATS[rng.integers(len(COATS))], (0.04, 0.05, 0.09)

    def person(t: float) -> list[Part]:
        walked = pace * t
        return placed(figures.walker(walked, coat, trousers), (side * (walked - 1.0), y, 0.1), towards(side))

    def camera(t: float) -> View:
        ahead = side * 0.55 * t
        return View((ahead - 0.5 * side, -6.4, 1.65), (1.5 * ahead - 0.3 * side, 1.2, 1.25), 44)

    thing = Thing("person", person, (Effect.SHADOW,))
    return World("street", parts, [sunlight(sun)], [thing], camera, moves=True, brightness=0.2)


def square(rng: np.random.Generator) -> World:
    """Someone carries a lantern over a wet square at dusk; a still camera."""
    side = float(rng.choice([-1.0, 1.0]))
    stones, heights = textures.slabs(rng, (0.3, 0.28, 0.26), 4)
    puddles = np.clip((textures.noise(rng, 1.7) + 0.5) * 2.5, 0, 1)
    dry = bumpy(coated(stones, 0.22), heights, 0.012)
    bench = [
        box((-0.8, 0, z), (0.8, 0.12, z + 0.04)).moved((2.1 * side, 2.2 + shift, 0))
        for z, shift in ((0.45, 0), (0.45, 0.15), (0.45, 0.3), (0.62, 0.42), (0.78, 0.42))
    ]
    tub = lathe([(0.32, 0), (0.4, 0.45), (0.43, 0.5), (0.36, 0.5), (0, 0.42)])
    legs = [box((x, 2.2, 0), (x + 0.05, 2.6, 0.85)) for x in (2.1 * side - 0.7, 2.1 * side + 0.65)]
    parts = [
        Part(flat((-20, -14, 0), (40, 0, 0), (0, 17.5, 0), 2.4), partly(dry, polished(0.35 * stones), puddles)),
        *facade(rng, 3.4, 8, lit=0.3),
        Part(joined([lamp_post(-3.3 * side, 2.3)]), coated((0.02, 0.03, 0.03), 0.2)),
        Part(rounded((0.2, 0.2, 0.25), 2, 10).moved((-3.3 * side, 2.3, 3.92)), matt((0.5,) * 3), glow=(40, 26, 12)),
        Part(joined(bench), coated(textures.planks(rng, (0.25, 0.14, 0.07))[0], 0.2)),
        Part(joined(legs), metal((0.3,) * 3, 0.3)),
        *litter_bin(-1.4 * side, 2.8),
        Part(tub.moved((0.5 * side, 2.9, 0)), matt((0.35, 0.2, 0.14))),
        *plants.bush(rng, (0.5 * side, 2.9, 0.4), 0.7),
    ]
    pace, y = rng.uniform(2.1, 2.3), rng.uniform(0.2, 0.7)
    coat = COATS[rng.integers(len(COATS))]

    def person(t: float) -> list[Part]:
        walked = pace * t
        figure = figures.walker(walked, coat, (0.05, 0.05, 0.06)) + figures.carried_lamp(walked, 48.0)
        return placed(figure, (side * (walked - 1.5), y, 0), towards(side))

    def camera(_: float) -> View:
        return View((0.3 * side, -5.4, 1.5), (0.05 * side, 1.2, 0.95), 47)

    dusk = ambient((0.05, 0.06, 0.1))
    thing = Thing("person with a lantern", person, (Effect.LIGHT, Effect.REFLECTION, Effect.SHADOW))
    return World("square", parts, [dusk], [thing], camera, moves=False, brightness=0.1, bounces=4, samples=16)
