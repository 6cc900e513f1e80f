"""Grass, flowers, bushes and trees, drawn from a generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from layerlift.scenes.rendered.materials import coated, matt
from layerlift.scenes.rendered.shapes import Point, blades, joined, leaves, rounded, tube, up
from layerlift.scenes.rendered.textures import Colour, even, streaks
from layerlift.scenes.rendered.world import Part

GREENS: list[Colour] = [
    (0.09, 0.17, 0.025),
    (0.13, 0.2, 0.035),
    (0.07, 0.13, 0.02),
    (0.17, 0.21, 0.05),
    (0.2, 0.19, 0.07),
]
LEAF_GREENS: list[Colour] = [(0.07, 0.15, 0.025), (0.1, 0.19, 0.03), (0.05, 0.11, 0.02), (0.14, 0.21, 0.04)]

Heights = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of the ground at x and y


def level(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Flat ground at z = 0."""
    return np.zeros(np.broadcast_shapes(x.shape, y.shape))


def grass(
    rng: np.random.Generator, x: tuple[float, float], y: tuple[float, float], count: int, height: float,
    *, at: Heights = level, greens: list[Colour] = GREENS,
) -> Part:  # fmt: skip
    """Blades over a rectangle, in tufts, denser towards the least y, which is nearest to the camera."""
    tufts = rng.random((max(count // 9, 1), 2))
    root = tufts[rng.integers(0, len(tufts), count)] + rng.normal(0, 0.012, (count, 2))
    near = np.clip(root[:, 1], 0, 1) ** 1.6
    px, py = x[0] + (x[1] - x[0]) * root[:, 0], y[0] + (y[1] - y[0]) * near
    tall = height * rng.uniform(0.45, 1.1, count)
    angle = rng.uniform(0, 2 * np.pi, count)
    lean = (0.45 * tall * rng.random(count))[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    roots = np.stack([px, py, at(px, py) - 0.01], -1)
    return Part(blades(roots, tall, lean, 0.016 * (height / 0.25) ** 0.5), matt(streaks(rng, greens)))


def flowers(
    rng: np.random.Generator, x: tuple[float, float], y: tuple[float, float], count: int, height: float,
    *, at: Heights = level,
) -> list[Part]:  # fmt: skip
    """Stems with blossoms of four colours over a rectangle, denser towards the least y."""
    px, py = rng.uniform(*x, count), y[0] + (y[1] - y[0]) * rng.random(count) ** 1.6
    tall = height * rng.uniform(0.8, 1.25, count)
    z = at(px, py)
    stems = blades(np.stack([px, py, z], -1), tall, rng.normal(0, 0.03, (count, 2)), 0.008)
    petals: dict[int, list[np.ndarray]] = {}
    colours = [(0.7, 0.12, 0.08), (0.75, 0.7, 0.6), (0.75, 0.55, 0.05), (0.4, 0.25, 0.6)]
    for spot in np.stack([px, py, z + tall], -1):
        petals.setdefault(int(rng.integers(len(colours))), []).append(spot)
    parts = [Part(stems, matt(streaks(rng, GREENS)))]
    for index, spots in sorted(petals.items()):
        centres = np.repeat(np.array(spots), 6, 0) + rng.normal(0, 0.013, (6 * len(spots), 3))
        facing = np.add(rng.normal(0, 0.6, centres.shape), (0, -0.4, 1))
        facing /= np.linalg.norm(facing, axis=1, keepdims=True)
        parts.append(Part(leaves(centres, facing, np.full(len(centres), 0.045)), matt(colours[index])))
    return parts


def tree(rng: np.random.Generator, at: Point, height: float, leaf: float = 0.16, count: int = 9000) -> list[Part]:
    """A broad-leaved tree: a trunk that branches twice, and leaves in clusters about the ends."""
    wood, ends = [], []
    fork = np.add(at, (rng.normal(0, 0.1), rng.normal(0, 0.1), 0.35 * height))
    wood.append(tube(at, fork, 0.035 * height, 0.024 * height))
    for _ in range(6):
        angle, spread = rng.uniform(0, 2 * np.pi), rng.uniform(0.12, 0.26) * height
        tip = np.add(fork, (spread * np.cos(angle), spread * np.sin(angle), rng.uniform(0.14, 0.4) * height))
        wood.append(tube(fork, tip, 0.016 * height, 0.008 * height))
        for _ in range(4):
            twig = tip + rng.normal(0, 0.1 * height, 3) + up(0.05 * height)
            wood.append(tube(tip, twig, 0.007 * height, 0.003 * height, 8))
            ends.append(twig)
    ends.append(fork + up(0.45 * height))
    return [
        Part(joined(wood), matt(even((0.13, 0.09, 0.06), rng, 0.3, 0.9))),
        foliage(rng, np.array(ends), 0.11 * height, leaf, count),
    ]


def bush(rng: np.random.Generator, at: Point, size: float, leaf: float = 0.07, count: int = 2500) -> list[Part]:
    """A bush on the ground at `at`, about `size` metres wide: clusters of leaves about dark cores."""
    ends = np.array(at) + rng.uniform(-0.42, 0.42, (9, 3)) * size * (1, 1, 0.6) + up(0.4 * size)
    core = [rounded((0.5 * size,) * 3, 2.0, 10).moved(end) for end in ends]
    return [Part(joined(core), matt((0.025, 0.04, 0.012))), foliage(rng, ends, 0.3 * size, leaf, count)]


def foliage(rng: np.random.Generator, ends: np.ndarray, reach: float, leaf: float, count: int) -> Part:
    """Leaves in balls of radius `reach` about the ends (N, 3), most of them near the surface of their ball."""
    away = rng.normal(0, 1, (count, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    centres = ends[rng.integers(0, len(ends), count)] + away * reach * (1 - 0.6 * rng.random((count, 1)) ** 2)
    facing = away + rng.normal(0, 0.55, (count, 3)) + up(0.35)
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    return Part(leaves(centres, facing, leaf * rng.uniform(0.6, 1.2, count)), coated(streaks(rng, LEAF_GREENS), 0.4))
