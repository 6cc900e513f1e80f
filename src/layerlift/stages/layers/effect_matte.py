"""What an object causes without being there: how much of a shadow or a reflection lies over the plate.

Every pixel is `clip = a·F + (1 − a)·plate` with four unknowns in three equations. What a shadow leaves of the plate is
plain (F is black); for the rest the least alpha that keeps F inside [0, 1] explains the pixel with as little layer as
possible, and a reflection is better explained by the colour of what it mirrors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from layerlift.pixels.arrays import distance_to, spread

# What rounding to 8 bits alone does to a difference of two pictures, with some room.
LEAST_NOISE = 0.75 / 255
# The median difference where nothing is, times this, is a difference that noise seldom reaches.
NOISE_REACH = 2.0
# Where something surely is, so much of the noise is still left out of the least alpha, which only ever errs upwards.
NOISE_SLACK = 0.25
# Pixels of noise are averaged over before a difference is believed (standard deviation of the Gaussian).
BELIEF_SIGMA = 2.0
# Detail is what is finer than this (standard deviation of a Gaussian in pixels).
DETAIL_SIGMA = 2.0
# From the quietest tenth of that detail to a plate's median error, for errors as coarse as a VAE's.
DETAIL_REACH = 4.5
# A plate's errors are mostly of brightness: up to so many times what they are across an effect's own direction.
ACROSS_REACH = 4.0
# A reflection is weighed together with the pixels this near (standard deviation of a Gaussian).
PALETTE_SIGMA = 1.0
# The share of the squared difference left unexplained by a shadow from which on an effect may be, and surely is, none.
# On scenes shadows leave less than 0.001, reflections 0.3 to 1.
UNSHADOWED = (0.1, 0.25)
# How much a colour that explains a reflection badly speaks against its object: e^-16 if it explains nothing.
COLOUR_EVIDENCE = 16.0
# What is left of the share of an object that an effect does not touch: enough for its colour to claim a reflection.
APART = 0.02
# At a pixel two objects' effects share, the nearer object's part falls to half within this share of the shorter side.
SHARE_SOFTNESS = 1 / 24
# Where each object's effects are known, their border is soft over this share of the shorter side (standard deviation of
# a Gaussian), and an object they do not give a pixel to keeps so much of what it would have without.
KNOWN_SOFTNESS = 1 / 96
KNOWN_LEAST = 0.05


@dataclass(frozen=True, slots=True)
class EffectKinds:
    """What is known about a clip's effects before its frames are taken apart.

    Attributes:
        noise: how far clip and plate differ where nothing is, in [0, 1].
        palettes: mean colour of every object, (N, 3) in [0, 1].
        reflecting: of every object, (N,) in [0, 1]: 0 when what it causes is a shadow, 1 when it is a reflection.
    """

    noise: float
    palettes: np.ndarray
    reflecting: np.ndarray


def least_alpha(frame: np.ndarray, plate: np.ndarray, slack: np.ndarray | float = 0.0) -> np.ndarray:
    """The least alpha for which the layer's colour lies inside [0, 1]; frame and plate (H, W, 3) → (H, W) float32.

    Differences up to `slack`, a number or (H, W, 3), need no layer.
    """
    difference = frame - plate
    room = np.where(difference > 0, 1 - plate, plate)
    needed = np.maximum(np.abs(difference) - slack, 0) / np.maximum(room, 1e-3)
    return np.minimum(largest(needed), 1)


def shadow_alpha(frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Alpha of the black (or white) layer that explains the pixel best, in least squares; never above `least_alpha`."""
    black = 1 - inner(frame, plate) / np.maximum(inner(plate, plate), 1e-4)
    white = 1 - inner(1 - frame, 1 - plate) / np.maximum(inner(1 - plate, 1 - plate), 1e-4)
    return np.clip(np.maximum(black, white), 0, 1)


def reflection_alpha(frame: np.ndarray, plate: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Alpha of the layer of this colour (H, W, 3) that explains a pixel and its neighbours best, in least squares."""
    contrast = colour - plate
    explained = cv2.GaussianBlur(inner(frame - plate, contrast), (0, 0), PALETTE_SIGMA)
    return np.clip(explained / (cv2.GaussianBlur(inner(contrast, contrast), (0, 0), PALETTE_SIGMA) + 1e-4), 0, 1)


def effect_alpha(frame: np.ndarray, plate: np.ndarray, effects: EffectKinds, shares: np.ndarray) -> np.ndarray:
    """How much of an effect lies over every pixel: (H, W) float32; right only where no object is.

    Args:
        frame, plate: (H, W, 3) float32 in [0, 1].
        effects: what `survey_effects` found.
        shares: whose effect it is, (N, H, W) summing to 1.
    """
    least = least_alpha(frame, plate, NOISE_SLACK * effects.noise)
    alpha = np.maximum(shadow_alpha(frame, plate), least)
    reflecting = np.tensordot(effects.reflecting, shares, 1)  # (H, W)
    if reflecting.any():
        colour = np.tensordot(shares, effects.palettes, (0, 0)).astype(np.float32)  # (H, W, 3)
        mirrored = np.maximum(reflection_alpha(frame, plate, colour), least)
        alpha = alpha + reflecting * (mirrored - alpha)
    return alpha * believed(frame, plate, effects.noise)


def believed(frame: np.ndarray, plate: np.ndarray, noise: float) -> np.ndarray:
    """1 where the difference of clip and plate means something, 0 where it may be noise; (H, W) float32.

    Noise changes its sign from pixel to pixel, effects do not, so differences are averaged around each pixel first.
    """
    around = largest(np.abs(cv2.GaussianBlur(frame - plate, (0, 0), BELIEF_SIGMA)))
    here = largest(np.abs(frame - plate))
    # Averaging takes away most of the noise, but not its coarse part: half of it is allowed for.
    size = np.maximum(around / (0.5 * noise), here / (2 * noise))
    rising = np.clip(size - 1, 0, 1)
    return (rising * rising * (3 - 2 * rising)).astype(np.float32)


def shadowed(frame: np.ndarray, plate: np.ndarray, noise: float) -> np.ndarray:
    """Where a black layer explains the pixel up to the noise, or none is needed: (H, W) bool."""
    left = frame - (1 - shadow_alpha(frame, plate)[..., None]) * plate
    return largest(np.abs(left)) <= noise


def share_effects(
    masks: Sequence[np.ndarray], reach: np.ndarray, short_side: int, totals: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Which object causes what, (N, H, W) float32 summing to 1.

    A region apart from the others belongs to the objects that it touches, the more the longer they touch; inside it the
    nearer one causes more. Where it is known which object causes what, that decides, but for a soft border.

    Args:
        masks: the objects' own, (H, W) bool each.
        reach: objects and effects together, (H, W) bool.
        short_side: of the picture, in pixels.
        totals: each object with its effects, (H, W) bool each, where that is known.
    """
    if len(masks) == 1:
        return np.ones((1, *reach.shape), np.float32)
    effects = reach & ~np.logical_or.reduce(masks)
    regions, labels = cv2.connectedComponents(effects.astype(np.uint8), connectivity=8)
    touching = np.zeros((len(masks), regions), np.float32)
    for index, mask in enumerate(masks):
        near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        touching[index] = np.bincount(labels[near & effects], minlength=regions)
    touching[:, touching.sum(0) == 0] = 1  # regions apart from every object: the nearest one's
    distances = np.minimum(np.stack([distance_to(mask) for mask in masks]), 4.0 * sum(reach.shape))
    nearness = -distances / (SHARE_SOFTNESS * short_side) * np.log(2)
    contact = np.maximum(np.square(touching / touching.max(0)), APART)
    shares = np.exp(nearness - nearness.max(0)) * contact[:, labels]
    if totals is not None:
        shares = shares * known_shares(totals, effects, short_side)
    shares = (shares / shares.sum(0)).transpose(1, 2, 0).astype(np.float32)  # (H, W, N)
    shares = spread(shares, effects.astype(np.float32)) if effects.any() else shares
    return shares.transpose(2, 0, 1) / np.maximum(shares.sum(-1), 1e-6)


def known_shares(totals: Sequence[np.ndarray], effects: np.ndarray, short_side: int) -> np.ndarray:
    """How much of what lies around a pixel is each object's by its total mask: (N, H, W) float32, never quite 0.

    Totals (H, W) bool each, front to back; only what lies in `effects` (H, W) bool counts.
    """
    sigma = KNOWN_SOFTNESS * short_side
    near = np.stack([cv2.GaussianBlur((total & effects).astype(np.float32), (0, 0), sigma) for total in totals])
    return np.maximum(near / np.maximum(near.sum(0), 1e-6), KNOWN_LEAST)


def share_by_colour(frame: np.ndarray, plate: np.ndarray, effects: EffectKinds, shares: np.ndarray) -> np.ndarray:
    """Shares (N, H, W) where reflections go to the object whose colour explains them."""
    if len(shares) == 1 or not effects.reflecting.any():
        return shares
    energy = cv2.GaussianBlur(inner(frame - plate, frame - plate), (0, 0), PALETTE_SIGMA) + effects.noise**2
    likely = np.empty_like(shares)
    for index, colour in enumerate(effects.palettes):
        contrast = colour - plate
        alpha = reflection_alpha(frame, plate, np.broadcast_to(colour, frame.shape))[..., None]
        rest = frame - plate - alpha * contrast
        left = cv2.GaussianBlur(inner(rest, rest), (0, 0), PALETTE_SIGMA)
        likely[index] = np.exp(-effects.reflecting[index] * COLOUR_EVIDENCE * left / energy)
    # A reflection lies as far from its object as that is above the water, so nearness says little about it.
    shares = np.power(shares, 1 - 0.75 * effects.reflecting[:, None, None]) * likely
    return shares / np.maximum(shares.sum(0), 1e-9)


class EffectsSurvey:
    """Looks at a few frames of a clip and says what `EffectKinds` it has."""

    def __init__(self, object_count: int) -> None:
        self._outside: list[float] = []
        self._inside: list[float] = []
        self._colour = np.zeros((object_count, 3))
        self._pixels = np.zeros(object_count)
        self._unshadowed = np.zeros(object_count)
        self._unmirrored = np.zeros(object_count)
        self._energy = np.zeros(object_count)

    def add(
        self,
        frame: np.ndarray,
        plate: np.ndarray,
        masks: Sequence[np.ndarray],
        reach: np.ndarray,
        *,
        shares: np.ndarray,
        edge: float,
    ) -> None:
        """Look at one frame; frame, plate (H, W, 3) float32 in [0, 1]; masks, reach (H, W) bool; edge in pixels.

        `shares` (N, H, W): which object causes what, see `share_effects`.
        """
        objects = np.logical_or.reduce(masks)
        effects = reach & (distance_to(objects) > edge)
        outside = ~reach & (distance_to(reach) > edge)
        if outside.any():
            self._outside.append(typical_difference(frame, plate, outside))
        if effects.any():
            self._inside.append(typical_error(frame, plate, effects))
        for index, mask in enumerate(masks):
            core = mask & (distance_to(~mask) > edge)
            self._colour[index] += frame[core].sum(0)
            self._pixels[index] += core.sum()
            if not core.any():
                continue
            mean = np.broadcast_to(frame[core].mean(0), frame.shape)
            self._weigh(index, frame, plate, mean, np.where(effects, shares[index], 0))

    def _weigh(self, index: int, frame: np.ndarray, plate: np.ndarray, colour: np.ndarray, weight: np.ndarray) -> None:
        black = np.clip(1 - inner(frame, plate) / np.maximum(inner(plate, plate), 1e-4), 0, 1)
        mirrored = reflection_alpha(frame, plate, colour)
        difference = frame - plate
        unshadowed = difference + black[..., None] * plate
        unmirrored = difference - mirrored[..., None] * (colour - plate)
        self._energy[index] += (weight * inner(difference, difference)).sum()
        self._unshadowed[index] += (weight * inner(unshadowed, unshadowed)).sum()
        self._unmirrored[index] += (weight * inner(unmirrored, unmirrored)).sum()

    def result(self, noise: float | None = None) -> EffectKinds:
        """What was seen; `noise` in [0, 1] is taken as it is instead of measured."""
        if noise is None:
            inside = float(np.median(self._inside)) if self._inside else 0.0
            outside = float(np.median(self._outside)) if self._outside else 0.0
            noise = NOISE_REACH * max(inside, outside)
        unshadowed = self._unshadowed / np.maximum(self._energy, 1e-9)
        low, high = UNSHADOWED
        reflecting = np.clip((unshadowed - low) / (high - low), 0, 1) * (self._unmirrored < self._unshadowed)
        palettes = self._colour / np.maximum(self._pixels, 1)[:, None]
        return EffectKinds(max(noise, LEAST_NOISE), palettes.astype(np.float32), reflecting.astype(np.float32))


def typical_difference(frame: np.ndarray, plate: np.ndarray, where: np.ndarray) -> float:
    """Median over the pixels of `where` of the largest channel's difference."""
    return float(np.median(largest(np.abs(frame - plate))[where]))


def typical_error(frame: np.ndarray, plate: np.ndarray, where: np.ndarray) -> float:
    """Median error of a plate where effects lie over it, `where` (H, W) bool.

    Outside its mask a plate may be the clip itself, so its errors show only here. Effects are smooth but for their
    borders: a darker or brighter copy of the plate and a cubic in x and y are taken away, and the quietest tenth of the
    pixels says how much is left. An effect's border changes all channels together, so what is left across the direction
    in which it changes them is looked at as well.
    """

    def near(values: np.ndarray, sigma: float = DETAIL_SIGMA) -> np.ndarray:
        return cv2.GaussianBlur(values, (0, 0), sigma)

    wide = 2 * DETAIL_SIGMA
    ratio = np.clip(near(frame, wide) / np.maximum(near(plate, wide), 0.02), 0, 1.5)
    left = frame - ratio * plate
    smooth = near(left)
    left = left - 2 * smooth + near(smooth)  # (1 − G)² of it
    along = near(frame - plate)
    share = inner(left, along) / np.maximum(inner(along, along), 1e-9)
    across = left - share[..., None] * along
    whole, part = (float(np.percentile(largest(np.abs(rest))[where], 10)) for rest in (left, across))
    return DETAIL_REACH * min(whole, ACROSS_REACH * part)


def carry_inwards(alpha: np.ndarray, colour: np.ndarray, plate: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The plate with the effects on it, also where an object hides them: what is seen around it is carried inwards.

    Alpha (H, W) and the effects' premultiplied colour (H, W, 3), both right where `outside` (H, W) bool → (H, W, 3).
    """
    both = spread(np.dstack([colour, alpha]).astype(np.float32), outside.astype(np.float32))
    return (1 - both[..., 3:]) * plate + both[..., :3]


def inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum over the channels of a product, (H, W, 3) twice → (H, W)."""
    return np.einsum("hwc,hwc->hw", a, b)


def largest(values: np.ndarray) -> np.ndarray:
    """The largest of three channels, (H, W, 3) → (H, W); NumPy's own maximum over so short an axis is slow."""
    return np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2])
