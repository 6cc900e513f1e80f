"""What a model's attention says of effects, asked in MLX: the scores of `layerlift.engine.model.effect_score`.

The transformer and the sums over its attention run in MLX. What they become a score by is small, and the very code of
the torch engine.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from layerlift.engine.mlx.arrays import from_torch, to_numpy
from layerlift.engine.mlx.attention import attention_mass
from layerlift.engine.mlx.passes import Loops
from layerlift.engine.mlx.sampling import draw
from layerlift.engine.mlx.tables import rotary_tables
from layerlift.engine.model.effect_score import COLUMNS, LEAST_MASS, Coverage, Scorer, object_columns
from layerlift.engine.model.passes import TRAIN_TIMESTEPS


@torch.no_grad()
def score_tokens(
    loops: Loops,
    latents: np.ndarray,
    coverage: Coverage,
    coordinates: torch.Tensor,
    *,
    scorer: Scorer,
    sigmas: Sequence[float],
    noise: Any,
) -> torch.Tensor:
    """How much each token looks at each object: see `layerlift.engine.model.effect_score.score_tokens`.

    `loops`: the transformer with one prompt. latents (1, C, f, h, w); returns (n, f, h, w) float32 in [0, 1].
    """
    summed = [
        _summed_logs(loops, latents, coverage, coordinates, scorer=scorer, sigma=sigma, noise=noise) for sigma in sigmas
    ]
    return scorer.finish(torch.stack(summed).mean(0), coverage)


def _summed_logs(
    loops: Loops,
    latents: np.ndarray,
    coverage: Coverage,
    coordinates: torch.Tensor,
    *,
    scorer: Scorer,
    sigma: float,
    noise: Any,
) -> torch.Tensor:
    """One pass: what the scorer adds up over layers and kinds, (n, f, h, w, …) float32."""
    transformer, (text,) = loops.transformer, loops.texts
    noisy = (1 - sigma) * mx.array(latents) + sigma * draw(latents.shape, noise)
    tokens = noisy.reshape(*noisy.shape[:2], -1).transpose(0, 2, 1)  # (1, C, f, h, w) → (1, S, C)
    columns = object_columns(coverage.own)[0]  # (S, n·COLUMNS)
    share = columns.mean(0).clamp(min=1 / len(columns))
    indicators = from_torch(columns)
    # All layers of a kind, then the next kind: as the torch engine adds them up.
    sums: dict[str, list[torch.Tensor]] = {kind: [] for kind in scorer.kinds}

    def watch(layer: int, kind: str, query: Any, key: Any) -> None:
        if kind not in sums or (scorer.layers is not None and layer not in scorer.layers):
            return
        mass = attention_mass(query, key, indicators, transformer.limit_bytes)
        logs = (torch.from_numpy(to_numpy(mass))[0] / share + LEAST_MASS).log()  # (H, S, n·COLUMNS)
        sums[kind].append(scorer.weigh(logs.unflatten(2, (-1, COLUMNS)), kind, layer))  # type: ignore[arg-type]

    times = transformer.times([TRAIN_TIMESTEPS * sigma])
    mx.eval(transformer(tokens, times, rotary_tables(coordinates, transformer.width), text, watch=watch))
    summed = torch.stack([torch.stack(found).sum(0) for found in sums.values()]).sum(0)  # (S, n, …)
    return summed.transpose(0, 1).unflatten(1, tuple(latents.shape[2:]))
