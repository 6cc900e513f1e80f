"""A place, what moves through it, and the camera: everything a frame is rendered from, as numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerlift.scenes.rendered.materials import Material, Paint
from layerlift.scenes.rendered.shapes import Mesh, Point
from layerlift.scenes.spec import Effect


@dataclass(frozen=True, slots=True)
class Smoke:
    """A cloud in a box: its `density` (z, y, x) float32 in [0, 1] times `thickness` is what it scatters per metre."""

    density: np.ndarray
    thickness: float  # 1 / metres
    colour: tuple[float, float, float]  # of what is scattered


@dataclass(frozen=True, slots=True)
class Part:
    """A mesh and what it is made of; it may glow (radiance), or be the border of a cloud, which has no material."""

    mesh: Mesh
    material: Material
    glow: Paint | None = None
    cloud: Smoke | None = None


@dataclass(frozen=True, slots=True)
class Thing:
    """An object: its parts at a time in seconds, its effects, and parts that are an effect, such as smoke."""

    name: str
    parts: Callable[[float], list[Part]]
    effects: tuple[Effect, ...]
    trail: Callable[[float], list[Part]] = lambda _: []


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera is and what it looks at, and its horizontal field of view in degrees."""

    eye: Point
    target: Point
    field: float


@dataclass(frozen=True, slots=True)
class World:
    """One scene. Things are ordered from back to front. Times are in seconds from the first frame."""

    place: str
    parts: list[Part]  # what never moves
    lights: list[dict[str, Any]]  # Mitsuba's emitters
    things: list[Thing]
    camera: Callable[[float], View]
    moves: bool  # the camera does
    moving: Callable[[float], list[Part]] = lambda _: []  # water, for one: not a thing, but never still
    brightness: float = 0.18  # what the middle of the picture's range is developed to
    bounces: int = 3  # of light, the last one to the camera among them
    samples: int = 8  # a pixel, of the clip
    blurred: bool = False  # by motion, while the shutter is open
