"""From light to a scene whose truth is known: pictures, masks, effects and layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, label

from layerlift.scenes import Scene
from layerlift.scenes.render import VISIBLE_ALPHA
from layerlift.scenes.rendered.film import LENS_BLUR, SENSOR_BLUR, compressed, developed, exposure, grainy, softened
from layerlift.scenes.rendered.frames import RATE, FrameLight
from layerlift.scenes.rendered.world import World
from layerlift.scenes.spec import RenderedSpec

# Connected pixels that an effect has at least: what is smaller is what the denoiser left of noise.
LEAST_EFFECT = 24
LEAST_CHANGE = 0.02  # of 1: five levels of 255, as an effect of opacity 0.06 makes over grey, which footage counts from
NOISE_REACH = 1.2  # sigma in pixels


@dataclass(frozen=True, slots=True)
class RenderedScene(Scene):
    """A scene rendered in 3-D, with what only a model of the world knows."""

    strength: np.ndarray  # (N, F, H, W) float32 in [0, 1]: the greatest change of a channel that an effect makes
    depth: np.ndarray  # (F, H, W) float32, metres from the camera to the plate; 6e4 where there is only sky
    flow: np.ndarray  # (F, H, W, 2) float32, x and y in pixels, from each frame of the plate to the next


def assembled(world: World, seed: int, lights: Sequence[FrameLight], *, film: bool) -> RenderedScene:
    """The scene of F frames' light.

    `film` adds what a camera adds: lens blur to every picture, and to the clip alone grain and H.264.
    """
    blur = float(np.hypot(SENSOR_BLUR, LENS_BLUR)) if film else SENSOR_BLUR
    gain = exposure(lights[0].plates[0].astype(np.float32), world.brightness)

    def picture(light: np.ndarray) -> np.ndarray:
        shown = developed(softened(light.astype(np.float32), SENSOR_BLUR), gain)
        return softened(shown, LENS_BLUR) if film else shown

    plates = np.stack([[picture(plate) for plate in light.plates] for light in lights], 1)  # (N + 1, F, H, W, 3)
    coverage, opaque = (
        np.stack([[softened(thing.astype(np.float32), blur) for thing in light] for light in kind], 1)
        for kind in ([light.coverage for light in lights], [light.opaque for light in lights])
    )  # (N, F, H, W) each
    video = to_bytes(np.stack([picture(light.clip) for light in lights]))
    if film:
        video = compressed(grainy(video, seed), RATE)
    solid = coverage > VISIBLE_ALPHA
    change = np.diff(plates, axis=0)  # (N, F, H, W, 3)
    effects = np.stack([effect_of(one, own) for one, own in zip(change, solid, strict=True)])
    if not any(thing.effects for thing in world.things):
        effects = np.zeros_like(effects)
    rgba = np.stack(
        [
            layer(plates[number], plates[number + 1], opaque[number], solid[number], effects[number])
            for number in range(len(world.things))
        ]
    )
    alpha = rgba[..., 3]
    return RenderedScene(
        spec=RenderedSpec(
            seed, world.place, tuple(thing.effects for thing in world.things), world.moves, world.blurred
        ),
        video=video,
        background=to_bytes(plates[0]),
        object_masks=solid,
        effect_masks=effects,
        layers=to_bytes(rgba),
        object_alphas=np.where(solid, alpha, 0),
        effect_alphas=np.where(solid, 0, alpha),
        strength=np.where(effects, np.abs(change).max(-1), 0).astype(np.float32),
        depth=np.stack([light.depth for light in lights]).astype(np.float32),
        flow=np.stack([light.flow for light in lights]).astype(np.float32),
    )


def effect_of(change: np.ndarray, solid: np.ndarray) -> np.ndarray:
    """Where a thing changes the picture beside itself: (F, H, W) bool of its signed changes (F, H, W, 3), and its mask.

    Changes are averaged over a few pixels beside the thing first: what the denoiser leaves of noise goes both ways, at
    edges most of all.
    """
    reach = (0, NOISE_REACH, NOISE_REACH)
    beside = (~solid).astype(np.float32)
    share = np.maximum(gaussian_filter(beside, reach, mode="nearest"), 1e-3)
    even = gaussian_filter(change * beside[..., None], (*reach, 0), mode="nearest") / share[..., None]
    seen: np.ndarray = (np.abs(even).max(-1) > LEAST_CHANGE) & ~solid
    for frame in seen:
        pieces, _ = label(frame)
        frame &= np.bincount(pieces.ravel())[pieces] >= LEAST_EFFECT  # noqa: PLW2901  in place
    return seen


def layer(
    before: np.ndarray, after: np.ndarray, opaque: np.ndarray, solid: np.ndarray, effect: np.ndarray
) -> np.ndarray:
    """The layer (F, H, W, 4) in [0, 1], straight alpha, that makes `after` of `before` (F, H, W, 3).

    Where the thing is opaque alpha is what it covers; elsewhere the least that will do, as in `stages/layers`.
    """
    change = after - before
    room = np.where(change > 0, 1 - before, before)
    least = np.clip((np.abs(change) / np.maximum(room, 1e-3)).max(-1), 0, 1)
    alpha = np.where(solid | effect, np.maximum(opaque, least), 0)
    colour = before + change / np.maximum(alpha, 1e-4)[..., None]
    colour = np.where(alpha[..., None] > 0, np.clip(colour, 0, 1), 0)
    return np.concatenate([colour, alpha[..., None]], -1).astype(np.float32)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """[0, 1] to 8 bits."""
    return np.rint(values * 255).clip(0, 255).astype(np.uint8)
