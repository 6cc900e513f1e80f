"""Triangle meshes of everyday forms, in metres, z up; every form is made from numbers, nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]
Place = Point | np.ndarray  # (3,)
IDENTITY = np.eye(3)


@dataclass(frozen=True, slots=True)
class Mesh:
    """V vertices and T triangles."""

    vertices: np.ndarray  # (V, 3) float, metres
    faces: np.ndarray  # (T, 3) int
    uv: np.ndarray  # (V, 2) float, where a texture of side 1 repeats
    normals: np.ndarray | None = None  # (V, 3) unit, for surfaces that look smooth; None: flat triangles

    def moved(self, to: Place = (0, 0, 0), turn: np.ndarray = IDENTITY, scale: float | Point = 1.0) -> Mesh:
        """The mesh scaled, then turned by a rotation (3, 3), then moved. `scale` along the axes keeps normals right."""
        size = np.broadcast_to(np.asarray(scale, float), 3)
        normals = None
        if self.normals is not None:
            normals = (self.normals / size) @ turn.T
            normals = normals / np.linalg.norm(normals, axis=1, keepdims=True)
        return Mesh((self.vertices * size) @ turn.T + np.asarray(to, float), self.faces, self.uv, normals)


def up(height: float) -> np.ndarray:
    """The step (3,) that goes straight up."""
    return np.array([0, 0, height])


def turned(z: float = 0.0, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """Rotation (3, 3) about y, then x, then z, in radians."""
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several; it is smooth when all are."""
    first = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    normals = [mesh.normals for mesh in meshes if mesh.normals is not None]
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, first, strict=False)]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate(normals) if len(normals) == len(meshes) else None,
    )


def surface(points: np.ndarray, uv: np.ndarray | None = None, *, smooth: bool = True) -> Mesh:
    """The mesh of a grid of points (m, n, 3); `uv` (m, n, 2) is by default 0 to 1 along both sides."""
    rows, columns = points.shape[:2]
    if uv is None:
        across, down = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
        uv = np.stack([across, down], -1)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    one = np.stack([corner, corner + 1, corner + columns], 1)
    other = np.stack([corner + 1, corner + columns + 1, corner + columns], 1)
    mesh = Mesh(points.reshape(-1, 3), np.concatenate([one, other]), uv.reshape(-1, 2))
    return smoothed(mesh) if smooth else mesh


def smoothed(mesh: Mesh) -> Mesh:
    """The mesh with a normal at each vertex: the mean of its triangles' weighted by their areas."""
    corners = mesh.vertices[mesh.faces]  # (T, 3 corners, 3)
    of_faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(mesh.vertices, dtype=float)
    for corner in range(3):
        np.add.at(normals, mesh.faces[:, corner], of_faces)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(
        mesh.vertices, mesh.faces, mesh.uv, np.where(length > 0, normals / np.maximum(length, 1e-12), (0, 0, 1))
    )


def ground(heights: np.ndarray, x: tuple[float, float], y: tuple[float, float], tile: float = 1.0) -> Mesh:
    """A height field (m, n) over a rectangle, row 0 at the least y; a texture repeats every `tile` metres."""
    across, along = np.meshgrid(np.linspace(*x, heights.shape[1]), np.linspace(*y, heights.shape[0]))
    return surface(np.stack([across, along, heights], -1), np.stack([across, along], -1) / tile)


def flat(corner: Point, right: Point, up: Point, tile: float = 1.0) -> Mesh:
    """A rectangle from its corner along two sides; it faces right × up.

    A texture is laid out from the world's origin, so that it goes on from one rectangle to the next.
    """
    origin, side, rise = np.array(corner, float), np.array(right, float), np.array(up, float)
    vertices = np.stack([origin, origin + side, origin + side + rise, origin + rise])
    along = np.stack([side / np.linalg.norm(side), rise / np.linalg.norm(rise)], 1)  # (3, u and v)
    uv = vertices @ along / tile
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), uv)


def box(low: Point, high: Point, tile: float = 1.0) -> Mesh:
    """A box between two corners, its faces to the outside."""
    (x, y, z), (w, d, h) = low, np.subtract(high, low)
    return joined(
        [
            flat((x, y, z), (w, 0, 0), (0, 0, h), tile),
            flat((x + w, y, z), (0, d, 0), (0, 0, h), tile),
            flat((x + w, y + d, z), (-w, 0, 0), (0, 0, h), tile),
            flat((x, y + d, z), (0, -d, 0), (0, 0, h), tile),
            flat((x, y, z + h), (w, 0, 0), (0, d, 0), tile),
            flat((x, y + d, z), (w, 0, 0), (0, -d, 0), tile),
        ]
    )


def rounded(size: Point, power: float = 4.0, detail: int = 24) -> Mesh:
    """A superellipsoid (Barr 1981) about the origin of this full size: power 2 is an ellipsoid, more nears a box."""
    half = np.asarray(size) / 2
    down, around = np.linspace(-np.pi / 2, np.pi / 2, detail), np.linspace(-np.pi, np.pi, 2 * detail)

    def bent(values: np.ndarray) -> np.ndarray:
        return np.sign(values) * np.abs(values) ** (2 / power)

    # Rows from the lowest point to the highest, columns around.
    x = bent(np.cos(down))[:, None] * bent(np.cos(around))
    y = bent(np.cos(down))[:, None] * bent(np.sin(around))
    z = np.broadcast_to(bent(np.sin(down))[:, None], x.shape)
    points = np.stack([x, y, z], -1) * half
    mesh = surface(points)
    # The surface's gradient: normals from triangles are bad where these shrink to nothing.
    normals = np.abs(mesh.vertices / half) ** (power - 1) * np.sign(mesh.vertices) / half
    return Mesh(mesh.vertices, mesh.faces, mesh.uv, normals / np.linalg.norm(normals, axis=1, keepdims=True))


def lathe(profile: Sequence[tuple[float, float]], detail: int = 40) -> Mesh:
    """A profile of (radius, height) turned about z; from low to high along the outside it faces outwards."""
    radius, height = np.array(profile, float).T
    around = np.linspace(0, 2 * np.pi, detail)
    points = np.stack(
        [radius[:, None] * np.cos(around), radius[:, None] * np.sin(around), np.repeat(height[:, None], detail, 1)], -1
    )
    return surface(points)


def tube(start: Place, end: Place, radius: float, radius_end: float | None = None, detail: int = 20) -> Mesh:
    """A capsule between two points: a tube with round ends, of one radius or of two."""
    a, b = np.array(start, float), np.array(end, float)
    last = radius if radius_end is None else radius_end
    length = float(np.linalg.norm(b - a))
    quarter = np.linspace(-np.pi / 2, 0, 7)
    profile = [(radius * np.cos(angle), radius * np.sin(angle)) for angle in quarter]
    profile += [(last * np.cos(angle), length + last * np.sin(angle)) for angle in -quarter[::-1]]
    axis = (b - a) / max(length, 1e-9)
    side = np.cross(axis, (0, 1, 0) if abs(axis[1]) < 0.9 else (1, 0, 0))
    side = side / np.linalg.norm(side)
    turn = np.stack([side, np.cross(axis, side), axis], 1)
    return lathe(profile, detail).moved(a, turn)


def blades(roots: np.ndarray, height: np.ndarray, lean: np.ndarray, width: float) -> Mesh:
    """Blades of grass: N roots (N, 3), heights (N,) and the way each tip leans (N, 2), in metres; bent once."""
    count = len(roots)
    direction = np.concatenate([lean, np.zeros((count, 1))], 1)
    side = np.cross(direction, (0, 0, 1))
    side = width / 2 * side / np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    rise = height[:, None] * up(1.0)
    middle = roots + 0.55 * rise + 0.3 * direction
    tip = roots + rise + direction
    points = np.stack([roots - side, roots + side, middle + 0.7 * side, middle - 0.7 * side, tip], 1)
    base = 5 * np.arange(count)[:, None]
    faces = np.concatenate([base + np.array(triple) for triple in ((0, 1, 2), (0, 2, 3), (3, 2, 4))])
    # The texture runs from root (v = 0) to tip, and each blade has its own u.
    u = np.repeat(np.linspace(0, 1, count), 5)
    return Mesh(points.reshape(-1, 3), faces, np.stack([u, np.tile([0, 0, 0.55, 0.55, 1.0], count)], 1))


def leaves(centres: np.ndarray, normals: np.ndarray, size: np.ndarray) -> Mesh:
    """Leaves of four corners: N centres (N, 3), the unit normal of each (N, 3) and lengths (N,) in metres."""
    count = len(centres)
    # Any direction within the leaf will do, as long as it differs from leaf to leaf.
    ahead = np.cross(normals, np.add(np.roll(normals, 1, 1), (0.3, 0.1, 0.2)))
    ahead /= np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    across = np.cross(normals, ahead)
    long, wide = size[:, None] * ahead / 2, size[:, None] * across / 3.4
    points = np.stack([centres - long, centres + wide, centres + long, centres - wide], 1)
    base = 4 * np.arange(count)[:, None]
    faces = np.concatenate([base + np.array(triple) for triple in ((0, 1, 2), (0, 2, 3))])
    u = np.repeat(np.linspace(0, 1, count), 4)
    return Mesh(points.reshape(-1, 3), faces, np.stack([u, np.tile([0, 0.5, 1, 0.5], count)], 1))
