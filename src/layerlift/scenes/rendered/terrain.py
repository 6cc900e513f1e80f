"""The ground out of doors: hills, boulders, beams and rails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from layerlift.scenes.rendered import textures
from layerlift.scenes.rendered.shapes import Mesh, Point, box, ground, rounded, smoothed, tube

GRID = 256  # heights along a side


class Terrain:
    """Heights over a square that reaches `reach` metres from the origin: a form, and noise of a standard deviation.

    Beyond its border the ground goes on as it is there.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        reach: float,
        deviation: float,
        form: Callable[[np.ndarray, np.ndarray], np.ndarray],
        steepness: float = 1.9,
    ):
        self._reach = reach
        x, y = np.meshgrid(*[np.linspace(-reach, reach, GRID)] * 2)
        self._heights = form(x, y) + deviation * textures.noise(rng, steepness, (GRID, GRID))

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Heights at x and y, in metres."""
        scale = (GRID - 1) / (2 * self._reach)
        where = np.stack(np.broadcast_arrays((y + self._reach) * scale, (x + self._reach) * scale))
        heights: np.ndarray = map_coordinates(self._heights, where, order=1, mode="nearest")
        return heights

    def spot(self, x: float, y: float, above: float = 0.0) -> Point:
        """The point so far above the ground at x and y."""
        return float(x), float(y), float(self.at(np.array([x]), np.array([y]))[0]) + above

    def mesh(self, x: tuple[float, float], y: tuple[float, float], detail: int = 200, tile: float = 2.0) -> Mesh:
        """The terrain over a rectangle, `detail` points a side."""
        across, along = np.meshgrid(np.linspace(*x, detail), np.linspace(*y, detail))
        return ground(self.at(across, along), x, y, tile)


def rock(rng: np.random.Generator, at: Point, size: float) -> Mesh:
    """A boulder: a rounded form pushed about by noise."""
    mesh = rounded((1.0, 0.8, 0.7), 2.6, 30)
    field = gaussian_filter(rng.standard_normal((24, 24, 24)), 2.2, mode="wrap")
    field += 0.25 * gaussian_filter(rng.standard_normal((24, 24, 24)), 0.9, mode="wrap")
    push = map_coordinates(field / field.std(), (mesh.vertices.T + 0.5) * 22, order=1, mode="wrap")
    shaped = mesh.vertices * (1 + 0.09 * push)[:, None] * size
    return smoothed(Mesh(shaped, mesh.faces, 2 * mesh.uv)).moved(at)


def post(x: float, y: float, height: float, width: float) -> Mesh:
    """An upright beam, 20 cm of it below z = 0."""
    return box((x - width / 2, y - width / 2, -0.2), (x + width / 2, y + width / 2, height), 0.6)


def rail(x: tuple[float, float], y: float, z: float, width: float = 0.08) -> Mesh:
    """A round rail along x."""
    return tube((x[0], y, z), (x[1], y, z), width / 2)
