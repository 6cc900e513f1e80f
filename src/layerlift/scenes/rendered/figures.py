"""Things that move: a walking figure, a ball, a car, birds, a jar. Each is a list of parts, made to go towards +x."""

from __future__ import annotations

import numpy as np

from layerlift.scenes.rendered.materials import Paint, coated, glass, matt, metal
from layerlift.scenes.rendered.shapes import (
    Mesh,
    Place,
    box,
    joined,
    lathe,
    rounded,
    smoothed,
    surface,
    tube,
    turned,
    up,
)
from layerlift.scenes.rendered.textures import Colour
from layerlift.scenes.rendered.world import Part

HIP, THIGH, SHIN = 0.92, 0.44, 0.43  # metres
STRIDE = 1.35  # metres for both legs
SKIN = (0.55, 0.36, 0.26)
RUBBER = (0.02, 0.02, 0.02)
COATS: list[Colour] = [(0.5, 0.06, 0.05), (0.06, 0.16, 0.4), (0.55, 0.4, 0.06), (0.08, 0.3, 0.16)]  # of cars, too


def placed(parts: list[Part], to: Place, heading: float = 0.0, scale: float = 1.0) -> list[Part]:
    """Parts scaled, turned about z by `heading` (radians; 0 goes towards +x) and moved."""
    turn = turned(heading)
    return [Part(part.mesh.moved(to, turn, scale), part.material, part.glow, part.cloud) for part in parts]


def towards(side: float) -> float:
    """The heading of what goes towards +x (`side` 1) or -x (-1)."""
    return 0.0 if side > 0 else np.pi


def walker(walked: float, coat: Paint, trousers: Paint, hair: Paint = (0.05, 0.03, 0.02)) -> list[Part]:
    """A walking figure, 1.8 m tall, after so many metres; the foot that carries it stands on z = 0."""
    phase = 2 * np.pi * walked / STRIDE
    cloth, shoes, lift = _legs(phase)
    chest = np.array([0.03, 0, HIP + lift + 0.48])
    jacket = [
        rounded((0.24, 0.36, 0.62), 2.6).moved((0.01, 0, HIP + lift + 0.24)),
        rounded((0.22, 0.42, 0.22), 2.4).moved((0.02, 0, HIP + lift + 0.46)),
    ]
    skin = []
    for side, shift in ((-1, np.pi), (1, 0.0)):  # each arm against its leg
        swing = 0.42 * np.sin(phase + shift)
        shoulder = np.add(chest, (0, side * 0.2, 0.02))
        elbow = shoulder + 0.29 * _limb(swing, side * 0.12)
        hand = elbow + 0.26 * _limb(swing + 0.45, side * 0.02)
        jacket += [tube(shoulder, elbow, 0.058, 0.047), tube(elbow, hand, 0.047, 0.038)]
        skin.append(rounded((0.09, 0.06, 0.11), 2.2).moved(hand))
    head = np.add(chest, (0.03, 0, 0.31))
    jacket.append(tube(np.add(chest, (-0.005, 0, 0.1)), chest + up(0.14), 0.075, 0.06))
    skin += [rounded((0.19, 0.155, 0.24), 2.2).moved(head), tube(chest + up(0.06), head, 0.062)]
    cap = rounded((0.22, 0.185, 0.19), 2.2).moved(np.add(head, (-0.022, 0, 0.045)))
    return [
        Part(joined(cloth), matt(trousers)),
        Part(joined(jacket), matt(coat)),
        Part(joined(skin), coated(SKIN, 0.35)),
        Part(joined(shoes), coated((0.06, 0.035, 0.02), 0.2)),
        Part(cap, matt(hair)),
    ]


def _limb(swing: float, outwards: float = 0.0) -> np.ndarray:
    """The way (3,) a limb hangs that swings forwards by an angle."""
    return np.array([np.sin(swing), outwards, -np.cos(swing)])


def _legs(phase: float) -> tuple[list[Mesh], list[Mesh], float]:
    """Legs and shoes at a phase of the stride, and how far the hips are lifted so that the lower ankle is at 7 cm."""
    poses = []
    for side, shift in ((-1, 0.0), (1, np.pi)):
        swing = 0.46 * np.sin(phase + shift)
        bend = 0.12 + 0.75 * max(0.0, float(np.cos(phase + shift))) ** 2  # the knee's, while the leg swings forwards
        knee = np.array([0.0, side * 0.09, HIP]) + THIGH * _limb(swing)
        poses.append((side, swing, bend, knee + SHIN * _limb(swing - bend)))
    lift = 0.07 - min(float(ankle[2]) for *_, ankle in poses)
    cloth, shoes = [], []
    for side, swing, bend, low_ankle in poses:
        hip = np.array([0.0, side * 0.09, HIP + lift])
        knee, ankle = hip + THIGH * _limb(swing), low_ankle + up(lift)
        tilt = 0.5 * (swing - bend)
        toe = ankle + 0.15 * np.array([np.cos(tilt), 0, np.sin(tilt) * 0.6]) - up(0.025)
        cloth += [tube(hip, knee, 0.088, 0.066), tube(knee, ankle, 0.066, 0.052)]
        shoes.append(tube(np.subtract(ankle, (0.03, 0, 0.02)), toe, 0.05, 0.04))
    return cloth, shoes, lift


def carried_lamp(walked: float, power: float) -> list[Part]:
    """A lamp in the figure's right hand: a hood, open below, and a bulb that lights the ground about the feet."""
    swing = 0.1 * np.sin(2 * np.pi * walked / STRIDE)
    x, y, z = 0.3 + 0.25 * swing, -0.27, 0.78
    hood = lathe([(0.1, -0.13), (0.09, -0.04), (0.055, 0.06), (0.02, 0.1), (0.0, 0.105)]).moved((x, y, z))
    handle = tube((x, y, z + 0.1), (x - 0.02, y, 1.02), 0.01)
    bulb = rounded((0.1, 0.1, 0.1), 2.0, 10).moved((x, y, z - 0.03))
    warm = (power, 0.62 * power, 0.28 * power)
    return [Part(joined([hood, handle]), metal((0.3, 0.27, 0.22), 0.3)), Part(bulb, matt((0.8,) * 3), glow=warm)]


def ball(rolled: float, radius: float, skin: Paint, gloss: float = 0.1) -> list[Part]:
    """A ball after rolling so many metres; it lies on z = 0."""
    sphere = rounded((2 * radius,) * 3, 2.0, 28).moved(turn=turned(x=0.9)).moved(turn=turned(y=rolled / radius))
    return [Part(sphere.moved((0, 0, radius)), coated(skin, gloss))]


def wheel(radius: float, width: float, rolled: float) -> list[Part]:
    """A wheel about its hub, across y, after rolling so many metres."""
    turn = turned(y=rolled / radius) @ turned(x=np.pi / 2)
    tyre = lathe([(0.62, -0.5), (0.93, -0.5), (1.0, -0.36), (1.0, 0.36), (0.93, 0.5), (0.62, 0.5)])
    rim = lathe([(0, -0.3), (0.12, -0.34), (0.2, -0.26), (0.62, -0.42)])
    back = lathe([(0.62, 0.42), (0.2, 0.26), (0.12, 0.34), (0, 0.3)])
    spokes = [
        box((-0.06, 0.1, -0.4), (0.06, 0.62, -0.24)).moved(turn=turned(angle)) for angle in np.arange(5) * 2 * np.pi / 5
    ]
    size = (radius, radius, width)
    return [
        Part(tyre.moved(scale=size).moved(turn=turn), coated(RUBBER, 0.4)),
        Part(joined([mesh.moved(scale=size).moved(turn=turn) for mesh in (rim, back)]), metal((0.75,) * 3, 0.2)),
        Part(joined([mesh.moved(scale=size).moved(turn=turn) for mesh in spokes]), metal((0.8,) * 3, 0.15)),
    ]


def car(driven: float, paint: Paint) -> list[Part]:
    """A small car, 3.7 m long, after driving so many metres; its wheels stand on z = 0."""
    lower = rounded((3.7, 1.62, 0.62), 5.0, 36).moved((0, 0, 0.55))
    bonnet = rounded((1.5, 1.5, 0.34), 4.0).moved((1.0, 0, 0.8))
    roof = rounded((1.7, 1.3, 0.2), 3.5).moved((-0.25, 0, 1.4))
    windows = rounded((2.1, 1.42, 0.72), 3.6, 36).moved((-0.25, 0, 1.06))
    pillars = [
        rounded((0.09, 1.47, 0.62), 4.0).moved((x, 0, 1.08), turned(y=tilt))
        for x, tilt in ((0.6, -0.6), (-0.2, 0), (-1.15, 0.4))
    ]
    trim = joined([box((-1.8, y - 0.012, 0.5), (1.75, y + 0.012, 0.55)) for y in (-0.815, 0.815)])
    arches = [rounded((0.84, 1.66, 0.8), 2.2).moved((x, 0, 0.32)) for x in (-1.15, 1.15)]
    lamps = [rounded((0.1, 0.34, 0.16), 2.5).moved((1.8, y, 0.68)) for y in (-0.56, 0.56)]
    tails = [rounded((0.1, 0.3, 0.14), 2.5).moved((-1.81, y, 0.72)) for y in (-0.58, 0.58)]
    parts = [
        Part(joined([lower, bonnet, roof, *pillars]), coated(paint, 0.06)),
        Part(windows, coated((0.015, 0.02, 0.022), 0.04)),
        Part(joined(arches), matt((0.015,) * 3)),
        Part(trim, coated((0.04,) * 3, 0.2)),
        Part(joined(lamps), coated((0.75, 0.75, 0.7), 0.05)),
        Part(joined(tails), coated((0.5, 0.02, 0.02), 0.1)),
    ]
    for x in (-1.15, 1.15):
        for y in (-0.74, 0.74):
            # The outer side of a wheel is at its -y: those on the left are turned about, and roll the other way.
            turns, heading = (driven, 0.0) if y < 0 else (-driven, np.pi)
            parts += placed(wheel(0.32, 0.2, turns), (x, y, 0.32), heading)
    return parts


def bird(beat: float, feathers: Paint, belly: Paint, span: float = 1.1) -> list[Part]:
    """A bird in flight about the origin; `beat` is the phase of its wings in radians."""
    body = rounded((0.42, 0.14, 0.13), 2.0)
    head = rounded((0.12, 0.1, 0.1), 2.0).moved((0.24, 0, 0.03))
    beak = tube((0.29, 0, 0.025), (0.36, 0, 0.01), 0.018, 0.004)
    tail = surface(np.array([[[-0.15, y, 0.01], [-0.42, 1.9 * y, 0.0]] for y in np.linspace(-0.05, 0.05, 5)]))
    wings: list[Mesh] = []
    along = np.linspace(0, 1, 14)
    rise = np.sin(beat) * 0.75 * along + np.sin(beat - 0.9) * 0.45 * along**2  # the tip follows
    out = np.concatenate([[0], np.cumsum(np.cos(np.arctan(np.gradient(rise, along))) / 13)])[:14]
    chord = 0.2 * (1 - 0.75 * along**2) * (0.8 + 0.2 * np.cos(4 * along))
    front = 0.09 + 0.05 * np.sin(np.pi * along) - 0.13 * along**2
    for side in (-1, 1):
        rows = [
            np.stack([front - chord * part, side * (0.05 + out * span / 2), 0.03 + rise * span / 2 * 0.55], -1)
            for part in (0, 0.5, 1)
        ]
        rows[1][:, 2] += 0.012
        wings.append(surface(np.stack(rows)))
    return [
        Part(joined([head, *wings, tail]), matt(feathers)),
        Part(body, matt(belly)),
        Part(beak, coated((0.6, 0.3, 0.05), 0.2)),
    ]


def duck(feathers: Colour, head: Paint, nod: float = 0.0) -> list[Part]:
    """A swimming bird, its water line at z = 0; `nod` moves its head forwards, in metres."""
    body = rounded((0.6, 0.3, 0.26), 2.2).moved((0, 0, 0.06))
    breast = rounded((0.3, 0.26, 0.24), 2.1).moved((0.17, 0, 0.08))
    wings = [
        rounded((0.4, 0.07, 0.16), 2.2).moved((-0.05, y, 0.12), turned(x=-np.sign(y) * 0.2)) for y in (-0.13, 0.13)
    ]
    tail = tube((-0.25, 0, 0.1), (-0.37, 0, 0.17), 0.06, 0.012)
    neck = tube((0.22, 0, 0.13), (0.27 + nod, 0, 0.31), 0.06, 0.045)
    skull = rounded((0.15, 0.1, 0.11), 2.0).moved((0.29 + nod, 0, 0.34))
    bill = rounded((0.11, 0.055, 0.03), 2.4).moved((0.39 + nod, 0, 0.325))
    eyes = [rounded((0.018,) * 3, 2.0, 8).moved((0.32 + nod, y, 0.355)) for y in (-0.045, 0.045)]
    ring = lathe([(0.055, -0.012), (0.06, 0), (0.055, 0.012)]).moved((0.235, 0, 0.19), turned(y=0.25))
    return [
        Part(joined([body, tail]), matt(feathers)),
        Part(joined(wings), matt(tuple(0.55 * np.asarray(feathers)))),
        Part(breast, matt(tuple(np.add(0.6 * np.asarray(feathers), (0.02, 0.0, -0.01))))),
        Part(joined([neck, skull]), coated(head, 0.35)),
        Part(bill, coated((0.65, 0.4, 0.04), 0.25)),
        Part(joined(eyes), coated(RUBBER, 0.05)),
        Part(smoothed(ring), matt((0.8, 0.8, 0.78))),
    ]


def jar(rolled: float, wood: Paint, colours: list[Colour]) -> list[Part]:
    """A jar of glass with marbles on a toy cart, 0.2 m long, after rolling so many metres on z = 0."""
    base = 0.055
    wall = lathe([(0.0, 0.0), (0.052, 0.0), (0.058, 0.008), (0.058, 0.115), (0.046, 0.135), (0.046, 0.155)])
    lid = lathe([(0.046, 0.148), (0.052, 0.15), (0.052, 0.176), (0.05, 0.18), (0.0, 0.18)])
    bed = box((-0.095, -0.07, 0.032), (0.095, 0.07, base - 0.001), 0.3)
    axles = joined([tube((x, -0.08, 0.024), (x, 0.08, 0.024), 0.005) for x in (-0.06, 0.06)])
    turn = turned(y=rolled / 0.024) @ turned(x=np.pi / 2)
    disc = lathe([(0, -0.007), (0.021, -0.007), (0.024, -0.004), (0.024, 0.004), (0.021, 0.007), (0, 0.007)])
    knob = lathe([(0.0, -0.0085), (0.008, -0.0085), (0.008, 0.0085), (0, 0.0085)])
    hubs = [(x, y, 0.024) for x in (-0.06, 0.06) for y in (-0.08, 0.08)]
    wheels, knobs = ([mesh.moved(turn=turn).moved(hub) for hub in hubs] for mesh in (disc, knob))
    brass = metal((0.8, 0.72, 0.5), 0.2)
    return [
        Part(wall.moved((0, 0, base)), glass()),
        Part(lid.moved((0, 0, base)), brass),
        *_marbles(base, colours),
        Part(bed, coated(wood, 0.25)),
        Part(axles, brass),
        Part(joined(wheels), coated((0.5, 0.06, 0.04), 0.15)),
        Part(joined(knobs), coated((0.75, 0.6, 0.1), 0.15)),
    ]


def _marbles(base: float, colours: list[Colour]) -> list[Part]:
    """Three layers of marbles, 3 cm wide, about the z axis above `base`; the same ones each time."""
    rng = np.random.default_rng(5)
    spots = [
        (0.033 * np.cos(angle), 0.033 * np.sin(angle), 0.018 + 0.027 * layer)
        for layer in range(3)
        for angle in np.arange(5) * 1.2566 + 0.6 * layer
    ]
    spots += [(0, 0, 0.018 + 0.03 * layer) for layer in range(3)]
    marbles: dict[int, list[Mesh]] = {}
    for x, y, z in spots:
        marble = rounded((0.03,) * 3, 2.0, 12).moved((x, y, z + base))
        marbles.setdefault(int(rng.integers(len(colours))), []).append(marble)
    return [Part(joined(meshes), coated(colours[index], 0.03)) for index, meshes in sorted(marbles.items())]
