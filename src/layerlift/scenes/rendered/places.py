"""Which place a seed is, and the world drawn for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from layerlift.scenes.rendered.indoors import desk, room
from layerlift.scenes.rendered.land import meadow, yard
from layerlift.scenes.rendered.streets import square, street
from layerlift.scenes.rendered.water import beach, lakeside
from layerlift.scenes.rendered.world import World

# Part of the names of frames in the cache: raise it whenever a picture changes.
VERSION = 1
PLACES = (street, room, lakeside, beach, meadow, desk, square, yard)


def next_place(seed: int) -> int:
    """Of the seeds that have each place once, the one with the place after that of `seed`."""
    return seed - seed % len(PLACES) + (seed + 1) % len(PLACES)


def draw_world(seed: int) -> World:
    """The world of `seed` (≥ 0): the place goes round with it, and every second one is blurred by motion.

    Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"a scene's seed is {seed}, expected 0 or more")
    rng = np.random.Generator(np.random.PCG64([20261128, seed]))
    world = PLACES[seed % len(PLACES)](rng)
    return replace(world, blurred=(seed + seed // len(PLACES)) % 2 == 1)
