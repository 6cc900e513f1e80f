"""Clips rendered in 3-D to train on: the finder's own size, and fewer samples than those that figures are measured on.

Nothing here imports OpenCV: clips are rendered where there are many cores.
"""

from __future__ import annotations

import io
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from layerlift.scenes.rendered.frames import FrameLight, Samples, Studio
from layerlift.scenes.rendered.places import draw_world
from layerlift.scenes.rendered.truth import RenderedScene, assembled

# Far from the seeds that figures are measured on, which are below 10,000; Mitsuba takes no seeds from 268,000 on. Each
# is filmed several times, with other noise: the seeds of takes lie `TAKE` apart.
SEED, TAKE, TAKES = 100_000, 10_000, 3
SIZE = (288, 160)  # width, height
KINDS = ("none", "shadow", "reflection", "light", "smoke")
# Of a clip, at most and at least, and how many of 24 a second lie between two of them.
FRAMES, LEAST_FRAMES, STRIDES = 14, 8, (2, 3, 4)
MOST_SAMPLES = 8  # a pixel
FEW = Samples(truer=2, still_plate=2, guides=4, coverage=16)
QUALITY = 96  # of JPEG


def is_rendered(seed: int) -> bool:
    """Whether a clip is a rendered one by its seed."""
    return SEED <= seed < SEED + TAKE * TAKES


def first_take(seed: int) -> int:
    """The seed a clip was rendered with, whichever take it is; other clips have one take."""
    return SEED + (seed - SEED) % TAKE if is_rendered(seed) else seed


def render(seed: int, path: Path, until: float = float("inf")) -> None:
    """Render the clip of a seed and write it; motion is never blurred.

    After the time `until` it is ended early, or not written where it would be too short.
    """
    world = draw_world(seed)
    world = replace(world, blurred=False, samples=min(world.samples, MOST_SAMPLES))
    studio = Studio(world, seed, SIZE, FEW)
    stride = int(np.random.default_rng(seed).choice(STRIDES))
    lights: list[FrameLight] = []
    while len(lights) < FRAMES:
        if time.time() > until:
            if len(lights) < LEAST_FRAMES:
                return
            break
        lights.append(studio.frame(stride * len(lights)))
    scene = assembled(world, seed, lights, film=False)
    kinds = np.stack([kinds_of(scene, number) for number in range(len(scene.object_masks))])
    strength = np.where(scene.effect_masks, scene.effect_alphas, 0)
    pictures = []
    for frame in scene.video:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=QUALITY, subsampling=0)
        pictures.append(np.frombuffer(file.getvalue(), np.uint8))
    part = path.with_name(f".{path.name}")
    np.savez(
        part,
        jpg=np.concatenate(pictures),
        ends=np.cumsum([len(picture) for picture in pictures]),
        shape=np.array(kinds.shape),
        objects=squeezed(scene.object_masks),
        kinds=squeezed(kinds),
        strength=squeezed((255 * np.clip(strength, 0, 1)).astype(np.uint8)),
    )
    part.rename(path)


def read(path: Path) -> tuple[np.ndarray, ...]:
    """A rendered clip: video (F, H, W, 3) uint8, objects bool, kinds and strength uint8, (n, F, H, W) each."""
    with np.load(path) as stored:
        shape = tuple(int(length) for length in stored["shape"])
        objects, kinds, strength = (
            np.frombuffer(zlib.decompress(stored[name].tobytes()), np.uint8).reshape(shape)
            for name in ("objects", "kinds", "strength")
        )
        ends = stored["ends"].tolist()
        video = np.stack(
            [
                np.asarray(Image.open(io.BytesIO(stored["jpg"][first:end].tobytes())))
                for first, end in zip([0, *ends], ends, strict=False)
            ]
        )
    return video, objects > 0, kinds.copy(), strength.copy()


def kinds_of(scene: RenderedScene, number: int) -> np.ndarray:
    """What an object causes at every pixel, (F, H, W) uint8: of several effects, the one that a change is like."""
    named = [{"glass": "smoke"}.get(str(effect), str(effect)) for effect in scene.spec.effects[number]]
    masks = scene.effect_masks[number]
    out = np.zeros(masks.shape, np.uint8)
    if not named:
        return out
    without = scene.background.astype(np.float32).mean(-1)
    darker = scene.video.astype(np.float32).mean(-1) < without
    others = [name for name in named if name != "shadow"]
    out[masks] = KINDS.index((others or named)[0])
    if "shadow" in named:
        below = np.zeros(masks.shape, bool)
        for index, own in enumerate(scene.object_masks[number]):
            rows = np.flatnonzero(own.any(1))
            below[index, rows.mean().astype(int) if len(rows) else 0 :] = True
        # Smoke above an object may darken, too.
        out[masks & darker & (below | ("smoke" not in named))] = KINDS.index("shadow")
    return out


def squeezed(values: np.ndarray) -> np.ndarray:
    """Values as few bytes."""
    return np.frombuffer(zlib.compress(np.ascontiguousarray(values, np.uint8).tobytes(), 9), np.uint8)
