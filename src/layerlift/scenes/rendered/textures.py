"""Surfaces as pictures that tile: linear reflectance (H, W, 3) float32, and heights (H, W) float32 for bumps."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

Colour = tuple[float, float, float]
SIDE = 512


def noise(rng: np.random.Generator, steepness: float, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Fractal noise that tiles, zero mean and unit variance: amplitudes fall with frequency to this power."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None] * shape[0], np.fft.rfftfreq(shape[1]) * shape[1])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) / frequency**steepness, shape)
    return ((field - field.mean()) / field.std()).astype(np.float32)


def mixed(first: Colour | np.ndarray, second: Colour | np.ndarray, share: np.ndarray) -> np.ndarray:
    """From one colour to the other as `share` (H, W) goes from 0 to 1."""
    share = np.clip(share, 0, 1)[..., None]
    return (np.asarray(first) * (1 - share) + np.asarray(second) * share).astype(np.float32)


def shaded(colour: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) times a factor (H, W), within what reflects."""
    return np.clip(colour * factor[..., None], 0.01, 0.95).astype(np.float32)


def even(colour: Colour, rng: np.random.Generator, contrast: float = 0.08, steepness: float = 1.2) -> np.ndarray:
    """One colour with the unevenness of a real surface."""
    return shaded(np.full((SIDE, SIDE, 3), colour, np.float32), 1 + contrast * noise(rng, steepness))


def _courses(
    rng: np.random.Generator, rows: int, columns: int, *, joint: float, shift: float
) -> tuple[np.ndarray, np.ndarray]:
    """A wall of `rows` × `columns` stones: the number of each pixel's stone, and 0 in joints to 1 on stones.

    Every second row is shifted by the share `shift` of a stone; `joint` is a share of a row's height.
    """
    down, across = np.meshgrid(np.arange(SIDE) / SIDE * rows, np.arange(SIDE) / SIDE * columns, indexing="ij")
    wobble = 0.012 * noise(rng, 1.4)
    row = np.floor(down).astype(int)
    along = across + wobble * 2 + shift * (row % 2)
    inside = np.minimum(down - row, 1 - (down - row)) + wobble * 0.6
    beside = np.minimum(along % 1, 1 - along % 1) * (rows / columns)
    edge = np.minimum(inside, beside)
    number = row * columns + np.floor(along).astype(int) % columns
    return number, np.clip((edge - joint) / 0.06, 0, 1).astype(np.float32)


def brick(rng: np.random.Generator, colour: Colour) -> tuple[np.ndarray, np.ndarray]:
    """Bricks in a running bond, sixteen courses of eight: reflectance and height."""
    number, stone = _courses(rng, 16, 8, joint=0.05, shift=0.5)
    tint = rng.normal(1, 0.16, number.max() + 1)[number]
    warm = rng.normal(0, 0.06, number.max() + 1)[number]
    face = np.asarray(colour) * (tint * (1 + 0.16 * noise(rng, 0.8)))[..., None]
    face = face * np.stack([1 + warm, 1 - warm / 3, 1 - warm], -1)
    stains = 1 - 0.16 * np.clip(noise(rng, 1.7), 0, 2)
    mortar = np.full((SIDE, SIDE, 3), (0.42, 0.4, 0.37)) * (1 + 0.1 * noise(rng, 0.5))[..., None]
    return shaded(mixed(mortar, face, stone), stains), stone * 0.7 + 0.1 * noise(rng, 0.7)


def slabs(rng: np.random.Generator, colour: Colour, across: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Paving slabs, `across` on each side of the texture: reflectance and height."""
    number, stone = _courses(rng, across, across, joint=0.012, shift=0.5)
    tint = rng.normal(1, 0.07, number.max() + 1)[number]
    speckled = 1 + 0.1 * noise(rng, 0.25) + 0.12 * noise(rng, 1.6)
    face = mixed(np.asarray(colour) * 0.35, colour, stone)
    return shaded(face, tint * speckled), stone * 0.5 + 0.12 * noise(rng, 0.6)


def planks(rng: np.random.Generator, colour: Colour, boards: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Boards along v with the grain of wood: reflectance and height."""
    across = np.broadcast_to(np.arange(SIDE) / SIDE * boards, (SIDE, SIDE))
    board = np.floor(across).astype(int)
    edge = np.clip((np.minimum(across % 1, 1 - across % 1) - 0.012) / 0.03, 0, 1)
    start = rng.integers(0, SIDE, boards)
    along = (np.arange(SIDE)[:, None] + start[board]) % SIDE
    ends = np.clip((np.minimum(along, SIDE - along) - 1.5) / 3, 0, 1)
    long = np.repeat(noise(rng, 1.1, (SIDE // 16, SIDE)), 16, 0)
    long = gaussian_filter(long, (10, 0.4), mode="wrap")
    rings = np.sin(26 * across + 5 * gaussian_filter(noise(rng, 1.6), (24, 2), mode="wrap") * 2 + 7.1 * board)
    tint = rng.normal(1, 0.13, boards)[board]
    grain = 1 + 0.13 * long / long.std() * 0.7 + 0.07 * rings + 0.05 * noise(rng, 0.6)
    seam = (edge * ends).astype(np.float32)
    return shaded(mixed(np.asarray(colour) * 0.25, colour, seam), tint * grain), 0.6 * seam + 0.04 * rings


def gravel(rng: np.random.Generator, colours: list[Colour], stones: int = 2600) -> tuple[np.ndarray, np.ndarray]:
    """Pebbles of several colours: reflectance and height."""
    centres = rng.random((stones, 2)) * SIDE
    # Copies on all sides make the pebbles at the border tile.
    copies = np.concatenate([np.add(centres, (x * SIDE, y * SIDE)) for x in (-1, 0, 1) for y in (-1, 0, 1)])
    wobble = np.stack([noise(rng, 1), noise(rng, 1)], -1)
    pixels = np.moveaxis(np.indices((SIDE, SIDE)), 0, -1) + 2 * wobble  # (H, W, down and across)
    distance, nearest = cKDTree(copies).query(pixels.reshape(-1, 2), k=2)
    height = np.clip((distance[:, 1] - distance[:, 0]) / 6, 0, 1).reshape(SIDE, SIDE)
    number = (nearest[:, 0] % stones).reshape(SIDE, SIDE)
    face = np.asarray(colours)[rng.integers(0, len(colours), stones)] * rng.normal(1, 0.12, stones)[:, None]
    return shaded(face[number], (0.5 + 0.5 * height**0.5) * (1 + 0.08 * noise(rng, 0.4))), height.astype(np.float32)


def asphalt(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A road with grains, patches and thin cracks: reflectance and height."""
    grains, patches = noise(rng, 0.15), noise(rng, 1.5)
    crack = np.exp(-((noise(rng, 1.35) / 0.03) ** 2)) * (noise(rng, 1.8) > 0.4)
    factor = 1 + 0.22 * grains + 0.14 * patches - 0.5 * crack
    return shaded(np.full((SIDE, SIDE, 3), (0.13, 0.13, 0.135), np.float32), factor), 0.3 * grains - crack


def earth(
    rng: np.random.Generator, first: Colour, second: Colour, grain: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Soil, sand or turf, two colours in patches with grains: reflectance and height."""
    patches, grains = noise(rng, 1.1), noise(rng, 0.4)
    colour = mixed(first, second, 0.5 + 0.45 * patches)
    return shaded(colour, 1 + grain * grains), (0.5 * grains + 0.5 * patches).astype(np.float32)


def streaks(rng: np.random.Generator, colours: list[Colour]) -> np.ndarray:
    """A colour for each u with its own brightness, darker towards v = 0: for blades and leaves."""
    picked = np.asarray(colours)[rng.integers(0, len(colours), SIDE)] * rng.normal(1, 0.18, SIDE)[:, None]
    rise = np.linspace(1.15, 0.55, SIDE)[:, None, None]  # row 0 of a bitmap is v = 1
    return np.clip(np.repeat(picked[None], SIDE, 0) * rise, 0.01, 0.9).astype(np.float32)


def stripes(colours: list[Colour], along: str = "u") -> np.ndarray:
    """Equal bands of colours, along u or v."""
    band = np.arange(SIDE) * len(colours) // SIDE
    row = np.asarray(colours, np.float32)[band]
    picture = np.repeat(row[None], SIDE, 0)
    return picture if along == "u" else np.ascontiguousarray(picture.transpose(1, 0, 2))


def painting(rng: np.random.Generator) -> np.ndarray:
    """An abstract picture to hang on a wall: soft fields of a few colours."""
    palette = rng.uniform(0.05, 0.7, (5, 3))
    fields = np.stack([noise(rng, 1.6) for _ in palette])
    picture = palette[fields.argmax(0)] * (1 + 0.08 * noise(rng, 0.6))[..., None]
    return np.clip(gaussian_filter(picture, (2, 2, 0), mode="wrap"), 0.02, 0.9).astype(np.float32)
