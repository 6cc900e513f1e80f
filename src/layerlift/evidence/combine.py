"""From several aligned samples of a pixel to one value: kriging in time.

How much two frames differ after alignment is measured around the mask, where every frame can be seen: the variogram
``G[i, j] = ½ E (x_i - x_j)²``. Ordinary kriging (Matheron 1963) then gives, for the frame wanted and any set of frames
that show a pixel, the weights with the least expected error: a mean where frames differ by noise, the nearest frames
where the scene drifts, the frames of the right phase where waves go to and fro. Badly aligned frames weigh little:
they differ from everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layerlift.evidence.align import Aligned
from layerlift.evidence.join import EDGE
from layerlift.evidence.region import Region, thin_out

# Variance of a sample that is always granted, in squared levels of 255: rounding, and resampling.
NUGGET = 0.25
# Around the mask, at most so many pixels are compared.
RING_PIXELS = 2500
# What lies beyond this share of differences is left out or cut off: something moved there, which tells nothing else.
TRIM = 0.98
# Nuggets that are tried, on so many pixels and of the patterns of samples so many.
NUGGETS = (0.25, 1.0, 4.0, 16.0, 64.0)
TRIED_PIXELS = 1200
PATTERNS_TRIED = 10
# Of more patterns than this, the rare ones are cut to so many samples.
PATTERNS = 200
RARE_SAMPLES = 5
# So many pixels are combined at a time: what they need stays in the processor's cache.
CHUNK = 8192
# Expected squared error below which a guess lacks nothing that an eye would miss.
GRAIN = 2.0
# Of the missing variance's amplitude so much is given back: samples change from frame to frame, which adds motion of
# its own. On real water, this share gives back all motion and nine tenths of the detail.
LIFE = 0.75
# From fewer pixels nothing is told.
LEAST_PIXELS = 32
# Of two frames of which nothing is known.
UNKNOWN_VARIANCE = 100.0


@dataclass(frozen=True, slots=True)
class Combined:
    """Values (H, W, 3) float32; where there was any sample (H, W) bool; expected error (H, W) float32 in levels."""

    values: np.ndarray
    any_sample: np.ndarray
    sigma: np.ndarray


def variogram(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Half the mean squared difference of every two pictures over N pixels.

    Values (S, N, 3) float32, the first picture's known everywhere, seen (S, N) bool → (S, S) float64. Pairs that share
    too few pixels differ as much as the worst pair.
    """
    # What a pixel departs from the first picture, which changes no difference and keeps the sums below small.
    apart = (values - values[0]) * seen[..., None]
    energy = np.square(apart).mean(2)
    often = energy.sum(0) / np.maximum(seen.sum(0), 1)
    kept = often <= np.quantile(often, TRIM) if len(often) else np.zeros(0, bool)
    apart, energy, there = apart[:, kept], energy[:, kept].astype(np.float64), seen[:, kept].astype(np.float64)

    # Sum over the pixels that both show of (x_i - x_j)², by matrix products.
    flat = apart.reshape(len(apart), -1).astype(np.float64)
    mass = there @ there.T
    cross = energy @ there.T
    total = cross + cross.T - 2 / 3 * flat @ flat.T
    out = np.where(mass >= LEAST_PIXELS, np.maximum(total, 0) / np.maximum(mass, 1) / 2, np.nan)
    worst = np.nanmax(out) if np.isfinite(out).any() else UNKNOWN_VARIANCE
    out = np.where(np.isfinite(out), out, worst)
    out[np.diag_indices(len(out))] = 0
    return _possible(out)


def _possible(gamma: np.ndarray) -> np.ndarray:
    """The nearest variogram (S, S) that some pictures could have: pairs measured on different pixels may contradict.

    Differences are possible when the centred -gamma is positive semi-definite (Schoenberg 1935).
    """
    count = len(gamma)
    centring = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-centring @ gamma @ centring)
    inner = (vectors * np.maximum(values, 0)) @ vectors.T
    power = np.diag(inner)
    return np.maximum((power[:, None] + power[None, :]) / 2 - inner, 0)


def krige(
    between: np.ndarray, to_target: np.ndarray, patterns: np.ndarray, nugget: float = NUGGET
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of samples for every pattern of which are there.

    `between` (S, S) and `to_target` (S,) are variograms, patterns (P, S) bool → weights (P, S), expected squared error
    (P,). Weights of a pattern sum to 1; they are 0 where nothing is there.
    """
    number, count = patterns.shape
    both = patterns[:, :, None] & patterns[:, None, :]
    system = np.zeros((number, count + 1, count + 1))
    system[:, :count, :count] = np.where(both, -between, 0)
    index = np.arange(count)
    # A sample that is missing takes no part: its row says weight = 0. The nugget keeps near copies apart.
    system[:, index, index] = np.where(patterns, nugget, 1.0)
    system[:, :count, count] = system[:, count, :count] = patterns
    right = np.concatenate([np.where(patterns, -to_target, 0), np.ones((number, 1))], 1)
    empty = ~patterns.any(1)
    system[empty, count, count] = 1
    solved = np.linalg.solve(system, right[..., None])[..., 0]
    weights = solved[:, :count]
    weights[empty] = 0
    # E(x̂ - x)² = 2 wᵀg - wᵀGw, with the nugget of every sample's own noise.
    error = 2 * (weights * to_target).sum(1) - np.einsum("pi,ij,pj->p", weights, between, weights)
    error = error + nugget * np.square(weights).sum(1)
    error[empty] = np.inf
    return weights, np.maximum(error, 0)


def choose_nugget(
    values: np.ndarray, seen: np.ndarray, gamma: np.ndarray, patterns: np.ndarray, counts: np.ndarray
) -> float:
    """How much noise to grant the samples: what would have told the ring best, where the truth is known.

    Values (1 + S, N, 3) and seen (1 + S, N) as for `variogram`, the truth first. Uses the patterns that occur most
    often inside the mask, by their `counts` (P,).
    """
    common = np.argsort(-counts)[:PATTERNS_TRIED]
    common = common[patterns[common].any(1) & (counts[common] > 0)]
    patterns, counts = patterns[common], counts[common].astype(float)
    if not len(common):
        return NUGGETS[-1]
    step = max(1, values.shape[1] // TRIED_PIXELS)
    known, values, seen = values[0, ::step], values[1:, ::step], seen[1:, ::step]
    weights = np.stack([krige(gamma[1:, 1:], gamma[0, 1:], patterns, nugget)[0] for nugget in NUGGETS], 1).astype(
        np.float32
    )  # (P, nuggets, S)
    total, mass = np.zeros(len(NUGGETS)), 0.0
    for pattern, weight, count in zip(patterns, weights, counts, strict=True):
        there = seen[pattern].all(0)
        if there.sum() < LEAST_PIXELS:
            continue
        guess = np.tensordot(weight[:, pattern], values[pattern][:, there], 1)  # (nuggets, N, 3)
        squares = np.square(guess - known[there]).mean(2)
        squares = np.minimum(squares, np.quantile(squares, TRIM, axis=1, keepdims=True))
        total += count * squares.mean(1)
        mass += count
    if not mass:
        return NUGGETS[-1]
    return NUGGETS[int(total.argmin())]


def patterns_of(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which samples pixels have: (N, S) bool → the distinct patterns (P, S) bool, and every pixel's (N,); S ≤ 20.

    Where there are very many, rare ones are cut to their first samples, the nearest in time.
    """
    count = seen.shape[1]
    codes = np.zeros(len(seen), np.int32)
    for bit in range(count):
        codes |= seen[:, bit].astype(np.int32) << bit
    # A table of all patterns is small, and quicker than sorting the pixels.
    counts = np.bincount(codes, minlength=1 << count)
    distinct = np.flatnonzero(counts)
    patterns = (distinct[:, None] >> np.arange(count)) & 1 > 0
    index = np.zeros(1 << count, np.intp)
    index[distinct] = np.arange(len(distinct))
    if len(distinct) > PATTERNS:
        rare = np.ones(len(distinct), bool)
        rare[np.argsort(-counts[distinct], kind="stable")[: PATTERNS // 2]] = False
        first = patterns & (np.cumsum(patterns, 1) <= RARE_SAMPLES)
        patterns, to = np.unique(np.where(rare[:, None], first, patterns), axis=0, return_inverse=True)
        index[distinct] = to
    return patterns, index[codes]


def enliven(
    weights: np.ndarray, error: np.ndarray, between: np.ndarray, patterns: np.ndarray, carriers: Sequence[int]
) -> np.ndarray:
    """Give back the life that a best guess lacks: weights (P, S) → (P, S).

    What the samples cannot foretell (waves, leaves, grain) a best guess leaves out, and would stand still and look
    smooth there. So much of one sample is mixed in that its departure from the guess nearly has the variance of the
    expected `error` (P,). That sample is the first of `carriers` that a pattern has, else its nearest.
    """
    order = [*carriers, *(index for index in range(weights.shape[1]) if index not in set(carriers))]
    if not order:
        return weights
    carrier = np.array(order)[patterns[:, order].argmax(1)]  # (P,)
    # E(x_c - x̂)² = 2 wᵀG_c - wᵀGw
    apart = 2 * (weights * between[carrier]).sum(1) - np.einsum("pi,ij,pj->p", weights, between, weights)
    missing = np.where(np.isfinite(error), np.maximum(error - GRAIN, 0), 0)
    share = LIFE * np.sqrt(np.clip(missing / np.maximum(apart, missing + 1e-6), 0, 1)) * patterns.any(1)
    out = (1 - share)[:, None] * weights
    out[np.arange(len(out)), carrier] += share
    return out


def combine(samples: Aligned, region: Region, *, carriers: Sequence[int] = ()) -> Combined:
    """Combine samples inside the mask, and at its edge, where it shows what they miss.

    Samples are sorted by nearness; `carriers` are those preferred to carry what cannot be foretold (see `enliven`).
    """
    hidden = region.hidden
    height, width = hidden.shape
    rows, columns = thin_out(region.ring, RING_PIXELS)
    values = np.concatenate([region.truth[None, rows, columns], samples.values(rows, columns)])  # (1 + S, N, 3)
    seen = np.concatenate([np.ones((1, len(rows)), bool), samples.valid[:, rows, columns]])
    gamma = variogram(values, seen)

    places = np.flatnonzero(hidden | (region.ring & (region.away <= EDGE)))
    inside = hidden.reshape(-1)[places]
    shown = samples.valid.reshape(len(samples.sources), -1)[:, places]  # (S, M)
    patterns, index = patterns_of(shown.T)
    nugget = choose_nugget(values, seen, gamma, patterns, np.bincount(index[inside], minlength=len(patterns)))
    weights, error = krige(gamma[1:, 1:], gamma[0, 1:], patterns, nugget)
    weights = enliven(weights, error, gamma[1:, 1:], patterns, carriers).astype(np.float32)

    out = np.zeros((height * width, 3), np.float32)
    sigma = np.full(height * width, np.inf, np.float32)
    any_sample = np.zeros(height * width, bool)
    mix(out, samples, weights, places, index)
    sigma[places], any_sample[places] = np.sqrt(error)[index], shown.any(0)
    return Combined(out.reshape(height, width, 3), any_sample.reshape(height, width), sigma.reshape(height, width))


def mix(out: np.ndarray, samples: Aligned, weights: np.ndarray, places: np.ndarray, index: np.ndarray) -> None:
    """Write weighted sums of samples into `out` (h·w, 3) at `places` (M,).

    `weights` (P, S) float32 are those of every pattern of samples, `index` (M,) says which pattern a place has.
    """
    # Exposure is evened out in the weights: Σ w (gain · x + bias).
    scaled = np.ascontiguousarray((weights[:, :, None] * samples.gain).swapaxes(0, 1))  # (S, P, 3)
    offset = weights @ samples.bias  # (P, 3)
    pictures = [picture.reshape(-1, 3) for picture in samples.pictures]
    for first in range(0, len(places), CHUNK):
        taken, pattern = places[first : first + CHUNK], index[first : first + CHUNK]
        mixed = offset.take(pattern, 0)
        for picture, weight in zip(pictures, scaled, strict=True):
            mixed += weight.take(pattern, 0) * picture.take(taken, 0)
        out[taken] = mixed
