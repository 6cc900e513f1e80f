"""A room with a mirror, and a desk."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from layerlift.scenes.rendered import figures, plants, textures
from layerlift.scenes.rendered.figures import placed, towards
from layerlift.scenes.rendered.materials import Material, ambient, bumpy, coated, matt, metal, mirror
from layerlift.scenes.rendered.shapes import Mesh, Point, box, flat, joined, lathe, rounded, tube, turned
from layerlift.scenes.rendered.textures import Colour
from layerlift.scenes.rendered.world import Part, Thing, View, World
from layerlift.scenes.spec import Effect

SPINES: list[Colour] = [
    (0.4, 0.07, 0.05),
    (0.07, 0.16, 0.32),
    (0.45, 0.35, 0.12),
    (0.1, 0.25, 0.16),
    (0.5, 0.47, 0.4),
    (0.22, 0.1, 0.22),
]


def framed(rng: np.random.Generator, at: Point, width: float, height: float) -> list[Part]:
    """A painting in a frame, hanging on a wall that faces -y."""
    x, y, z = at
    bars = [box((x - 0.04, y - 0.04, low), (x + width + 0.04, y, low + 0.04)) for low in (z - 0.04, z + height)]
    bars += [box((left, y - 0.04, z), (left + 0.04, y, z + height)) for left in (x - 0.04, x + width)]
    # A texture runs from 0 to 1 over the canvas, wherever it hangs.
    canvas = flat((0, 0, 0), (1, 0, 0), (0, 0, 1)).moved((x, y - 0.015, z), scale=(width, 1, height))
    return [Part(joined(bars), coated((0.12, 0.07, 0.03), 0.15)), Part(canvas, matt(textures.painting(rng)))]


def books(rng: np.random.Generator, at: Point, length: float, depth: float, height: float) -> list[Part]:
    """A row of books of up to this height, standing at `at` with their backs towards -y."""
    spines: dict[int, list[Mesh]] = {}
    x = 0.0
    while x < length:
        thick, tall = rng.uniform(0.09, 0.2) * height, rng.uniform(0.72, 1.0) * height
        low = (at[0] + x, at[1] + rng.uniform(0, 0.12) * depth, at[2])
        book = box(low, (low[0] + 0.94 * thick, at[1] + depth, at[2] + tall))
        spines.setdefault(int(rng.integers(len(SPINES))), []).append(book)
        x += thick
    return [Part(joined(meshes), coated(SPINES[index], 0.3)) for index, meshes in sorted(spines.items())]


def sofa(rng: np.random.Generator, at: Point, cloth: Colour) -> list[Part]:
    """A sofa that faces -y, 2 m wide."""
    x, y, z = at
    seat = [rounded((0.88, 0.85, 0.26), 5).moved((x + side * 0.44, y, z + 0.36)) for side in (-1, 1)]
    back = [
        rounded((0.88, 0.26, 0.6), 4).moved((x + side * 0.44, y + 0.34, z + 0.66), turned(x=-0.12)) for side in (-1, 1)
    ]
    arms = [rounded((0.24, 0.95, 0.56), 4).moved((x + side * 0.98, y, z + 0.34)) for side in (-1, 1)]
    base = rounded((1.95, 0.9, 0.24), 7).moved((x, y, z + 0.18))
    pillow = [rounded((0.44, 0.16, 0.42), 3).moved((x - 0.6, y + 0.1, z + 0.66), turned(0.2, -0.3))]
    weave = textures.even(cloth, rng, 0.12, 0.35)
    return [
        Part(joined([*seat, *back, *arms, base]), matt(weave)),
        Part(joined(pillow), matt(textures.stripes([(0.6, 0.5, 0.3), (0.5, 0.15, 0.1)] * 4))),
    ]


def bookcase(rng: np.random.Generator, x: float, wood: np.ndarray) -> list[Part]:
    """Shelves against the back wall with three rows of books."""
    boards = [box((x - 0.55, 2.62, z), (x + 0.55, 2.98, z + 0.03), 0.7) for z in (0.05, 0.5, 0.95, 1.4, 1.85)]
    boards += [box((x + side, 2.62, 0), (x + side + 0.03, 2.98, 1.88), 0.7) for side in (-0.58, 0.55)]
    rows = [part for z in (0.53, 0.98, 1.43) for part in books(rng, (x - 0.5, 2.68, z), 0.75, 0.24, 0.34)]
    return [Part(joined(boards), coated(wood, 0.25)), *rows]


def standing_mirror(x: float) -> list[Part]:
    """A mirror in a gilded frame that stands on the floor before the back wall."""
    pane = box((x - 0.35, 2.93, 0.08), (x + 0.35, 2.95, 1.75))
    bars = [box((x + edge - 0.035, 2.9, 0.03), (x + edge + 0.035, 2.97, 1.8)) for edge in (-0.38, 0.38)]
    bars += [box((x - 0.41, 2.9, z), (x + 0.41, 2.97, z + 0.07)) for z in (0.03, 1.75)]
    return [Part(pane, mirror()), Part(joined(bars), coated((0.45, 0.33, 0.12), 0.15))]


def window(side: float) -> list[Part]:
    """Daylight through a window with two wings, in the wall at x = -3 `side`."""
    x = -3.0 * side
    pane = flat((x + 0.03 * side, -0.9 if side > 0 else 1.0, 0.8), (0, 1.9 * side, 0), (0, 0, 1.5))
    bars = [
        box((x + 0.02 * side - 0.03, y - 0.03, 0.75), (x + 0.02 * side + 0.05, y + 0.03, 2.35))
        for y in (-0.95, 0.05, 1.05)
    ]
    return [
        Part(pane, matt((0.5,) * 3), glow=(17.0, 18.0, 19.5)),
        Part(joined(bars), coated((0.7, 0.7, 0.68), 0.2)),
    ]


def shell(side: float, floor: Material, plaster: np.ndarray) -> list[Part]:
    """A room's floor, walls, skirting, rug and door; it has no ceiling."""
    x = -3.0 * side
    skirting = [box((-4, 2.96, 0), (4, 3.0, 0.12)), box((-3.04 * side - 0.02, -3, 0), (-3.04 * side + 0.02, 3, 0.12))]
    rug = flat((-1.2, -0.35, 0.012), (2.4, 0, 0), (0, 1.7, 0))
    bands = [(0.4, 0.12, 0.1), (0.55, 0.45, 0.3), (0.14, 0.18, 0.26), (0.55, 0.45, 0.3)] * 2
    return [
        Part(flat((-5, -6, 0), (10, 0, 0), (0, 9, 0), 1.3), floor),
        Part(flat((-4, 3, 0), (8, 0, 0), (0, 0, 2.7)), matt(plaster)),
        Part(flat((x, -6, 0), (0, 9, 0), (0, 0, 2.7)), matt(plaster)),
        Part(flat((-x, -6, 0), (0, 9, 0), (0, 0, 2.7)), matt(plaster)),
        Part(joined(skirting), coated((0.68, 0.66, 0.6), 0.2)),
        Part(rug, matt(0.85 * textures.stripes(bands))),
        Part(flat((4, -4.2, 0), (-8, 0, 0), (0, 0, 2.7)), matt(plaster)),
        Part(box((-0.4, -4.2, 0), (0.5, -4.1, 2.1)), coated((0.6, 0.58, 0.52), 0.2)),
    ]


def room(rng: np.random.Generator) -> World:
    """A ball and a toy car cross a living room, past a mirror; light comes through a window; a still camera."""
    side = float(rng.choice([-1.0, 1.0]))
    boards, seams = textures.planks(rng, (0.42, 0.25, 0.13), 7)
    paint: Colour = [(0.55, 0.53, 0.48), (0.38, 0.46, 0.44), (0.52, 0.42, 0.36)][rng.integers(3)]
    plaster = textures.even(paint, rng, 0.025, 1.3)
    cloth: Colour = [(0.14, 0.22, 0.3), (0.32, 0.3, 0.26), (0.22, 0.27, 0.16)][rng.integers(3)]
    wood = textures.planks(rng, (0.3, 0.17, 0.09), 4)[0]
    pot = lathe([(0.13, 0), (0.17, 0.28), (0.18, 0.3), (0.15, 0.3), (0, 0.26)]).moved((-2.5 * side, 2.4, 0))
    parts = [
        *shell(side, bumpy(coated(boards, 0.16), seams, 0.004), plaster),
        *sofa(rng, (-1.35 * side, 2.35, 0), cloth),
        *standing_mirror(0.25 * side),
        *bookcase(rng, 2.0 * side, wood),
        *framed(rng, (-1.9 * side - 0.4, 2.99, 1.35), 0.9, 0.62),
        Part(pot, coated((0.5, 0.25, 0.15), 0.4)),
        *plants.bush(rng, (-2.5 * side, 2.4, 0.3), 0.75, 0.16, 260),
        *window(side),
    ]
    skin = textures.stripes([(0.6, 0.08, 0.05), (0.7, 0.68, 0.62), (0.05, 0.2, 0.45), (0.7, 0.68, 0.62)] * 2)
    speed, pace = rng.uniform(1.5, 1.75), rng.uniform(1.15, 1.35)
    toy: Colour = [(0.55, 0.35, 0.04), (0.5, 0.06, 0.05), (0.06, 0.25, 0.4)][rng.integers(3)]

    def ball(t: float) -> list[Part]:
        rolled = speed * t
        return placed(figures.ball(rolled, 0.2, skin), (side * (rolled - 0.95), 1.35, 0), towards(side))

    def car(t: float) -> list[Part]:
        driven = pace * t
        made = figures.car(driven / 0.14, toy)
        return placed(made, (side * (0.85 - driven), -0.15, 0.012), towards(-side), 0.14)

    def camera(_: float) -> View:
        return View((0.35 * side, -2.9, 1.25), (-0.05 * side, 1.1, 0.62), 50)

    things = [Thing("ball", ball, (Effect.SHADOW, Effect.REFLECTION)), Thing("toy car", car, (Effect.SHADOW,))]
    fill = ambient((0.55, 0.56, 0.6))
    return World("room", parts, [fill], things, camera, moves=False, brightness=0.2, bounces=5, samples=12)


def mug() -> Mesh:
    """A mug, 9 cm high, with an ear."""
    cup = lathe(
        [
            (0.0, 0.0),
            (0.036, 0.0),
            (0.04, 0.006),
            (0.042, 0.09),
            (0.04, 0.094),
            (0.036, 0.09),
            (0.034, 0.012),
            (0, 0.01),
        ]
    )
    ear = [(0.042 + 0.028 * np.sin(a), 0, 0.047 - 0.028 * np.cos(a)) for a in np.linspace(0, np.pi, 9)]
    return joined([cup, *(tube(start, end, 0.005, detail=10) for start, end in pairwise(ear))])


def pencil_cup(x: float, y: float) -> list[Part]:
    """A cup with five pencils."""
    cup = lathe([(0.0, 0.0), (0.038, 0.0), (0.038, 0.1), (0.036, 0.1), (0.035, 0.01), (0, 0.008)]).moved((x, y, 0))
    parts = [Part(cup, coated((0.06, 0.06, 0.07), 0.2))]
    colours = [(0.6, 0.4, 0.05), (0.5, 0.05, 0.04), (0.05, 0.2, 0.4), (0.05, 0.3, 0.12), (0.6, 0.4, 0.05)]
    for angle, colour in zip(np.arange(5) * 1.3, colours, strict=True):
        foot = (x + 0.012 * np.cos(angle), y + 0.012 * np.sin(angle), 0.01)
        head = (x + 0.05 * np.cos(angle), y + 0.05 * np.sin(angle), 0.185)
        parts.append(Part(tube(foot, head, 0.0038), coated(colour, 0.2)))
    return parts


def pile(rng: np.random.Generator, x: float, y: float) -> list[Part]:
    """Three books, one lying on the other."""
    cover = joined(
        [
            box((-0.12, -0.085, 0), (0.12, 0.085, 0.003)),
            box((-0.12, -0.085, 0.025), (0.12, 0.085, 0.028)),
            box((-0.12, 0.08, 0), (0.12, 0.085, 0.028)),
        ]
    )
    pages = box((-0.116, -0.081, 0.003), (0.116, 0.078, 0.025))
    parts: list[Part] = []
    for z in (0.0, 0.034, 0.062):
        colour = SPINES[rng.integers(len(SPINES))]
        turn = turned(rng.normal(0.1, 0.12))
        parts += [
            Part(cover.moved((x, y, z), turn), coated(colour, 0.3)),
            Part(pages.moved((x, y, z), turn), matt((0.62, 0.58, 0.48))),
        ]
    return parts


def desk_lamp(side: float) -> list[Part]:
    """A lamp on a jointed arm; its light is a part of its own, see `desk`."""
    shade = lathe([(0.075, 0.0), (0.03, 0.09), (0.02, 0.1)]).moved((-0.34 * side, 0.26, 0.47), turned(y=-0.45 * side))
    foot = lathe([(0.06, 0), (0.06, 0.012), (0.01, 0.02), (0.008, 0.1), (0, 0.1)]).moved((-0.44 * side, 0.33, 0))
    elbow = (-0.46 * side, 0.34, 0.36)
    arm = [tube((-0.44 * side, 0.33, 0.1), elbow, 0.006), tube(elbow, (-0.36 * side, 0.27, 0.57), 0.006)]
    return [
        Part(shade, metal((0.5, 0.08, 0.06), 0.25)),
        Part(joined([*arm, foot]), metal((0.75,) * 3, 0.2)),
    ]


def desk(rng: np.random.Generator) -> World:
    """A toy cart with a jar of glass rolls over a desk under a lamp; a still camera."""
    side = float(rng.choice([-1.0, 1.0]))
    top, seams = textures.planks(rng, (0.36, 0.22, 0.12), 3)
    plaster = textures.even((0.44, 0.43, 0.4), rng, 0.04, 1.2)
    heap = pile(rng, -0.3 * side, 0.22)
    paper = flat((-0.1, -0.14, 0.0015), (0.2, 0, 0), (0, 0.28, 0)).moved((0.19 * side, 0.02, 0), turned(-0.35))
    pen = tube((0.14 * side, -0.04, 0.006), (0.25 * side, 0.03, 0.006), 0.0045)
    daylight = flat((1.5 * side - 0.6, -1.3, 0.5), (1.2, 0, 0), (0, 0.3, 1.0))
    lamplight = flat((-0.9 * side - 0.16, -0.35, 1.15), (0, 0.32, 0), (0.32, 0, 0))
    glazes: list[Colour] = [(0.5, 0.48, 0.44), (0.07, 0.22, 0.28)]
    parts = [
        Part(flat((-1.2, -0.7, 0), (2.4, 0, 0), (0, 1.25, 0), 1.9), bumpy(coated(top, 0.14), seams, 0.003)),
        Part(flat((-2, 0.56, -0.5), (4, 0, 0), (0, 0, 2.0), 1.2), matt(plaster)),
        *framed(rng, (0.02 * side - 0.14, 0.555, 0.2), 0.3, 0.22),
        Part(mug().moved((0.12 * side, 0.3, 0), turned(0.5)), coated(glazes[rng.integers(2)], 0.05)),
        *pencil_cup(0.3 * side, 0.27),
        *heap,
        *books(rng, (-0.52 * side - 0.12, 0.36, 0), 0.26, 0.15, 0.22),
        *desk_lamp(side),
        Part(paper, matt((0.68, 0.67, 0.63))),
        Part(pen, coated((0.03, 0.05, 0.2), 0.08)),
        # What lights the desk is out of the picture.
        Part(daylight, matt((0.5,) * 3), glow=(5.0, 5.6, 6.4)),
        Part(lamplight, matt((0.5,) * 3), glow=(30.0, 24.0, 17.0)),
    ]
    speed = rng.uniform(0.5, 0.54)
    oak = textures.planks(rng, (0.5, 0.35, 0.18), 3)[0]
    marbles: list[Colour] = [(0.5, 0.06, 0.04), (0.05, 0.2, 0.5), (0.55, 0.4, 0.05), (0.06, 0.35, 0.15)]

    def cart(t: float) -> list[Part]:
        rolled = speed * t
        return placed(figures.jar(rolled, oak, marbles), (side * (rolled - 0.35), 0.06, 0), towards(side))

    def camera(_: float) -> View:
        return View((0.05 * side, -0.72, 0.36), (0.0, 0.12, 0.09), 40)

    fill = ambient((0.4, 0.42, 0.46))
    thing = Thing("jar of marbles on a cart", cart, (Effect.GLASS, Effect.SHADOW))
    return World("desk", parts, [fill], [thing], camera, moves=False, brightness=0.2, bounces=8, samples=16)
