"""How MLX runs what `layerlift bench speed` measures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import torch

from layerlift.bench.floor import Seconds, best
from layerlift.bench.runners import SIGMAS, Opened, made_up_tokens
from layerlift.engine.mlx.arrays import DTYPES, from_torch, to_numpy
from layerlift.engine.mlx.attention import attend
from layerlift.engine.mlx.passes import Loops

if TYPE_CHECKING:
    from layerlift.engine.device import Policy
    from layerlift.engine.model import Model
    from layerlift.engine.model.speed import Speed
    from layerlift.engine.sampling import Prompts

# The side of the matrices: on the CPU, where MLX has no BLAS, and on a GPU.
SIDES = (256, 8192)


@dataclass(frozen=True, slots=True)
class MlxRunner:
    """MLX on the device that torch calls so."""

    device: str

    @property
    def meter(self) -> str:
        return "mlx"

    def wait(self) -> None:
        mx.synchronize()

    def transformer(self, model: Model, policy: Policy) -> AbstractContextManager[Any]:
        from layerlift.engine.mlx.engine import MlxModel

        assert isinstance(model, MlxModel)
        return model.part("transformer", policy)

    @contextmanager
    def opened(
        self, transformer: Any, prompts: Prompts, unknown: torch.Tensor, coordinates: torch.Tensor, speed: Speed
    ) -> Iterator[Opened]:
        tokens = from_torch(made_up_tokens(unknown, transformer.proj_in.weight.shape[1]))
        moving = unknown.flatten()
        loops = Loops(transformer, prompts.batches(like=torch.zeros(())), SIGMAS, speed)
        passes = loops.over(coordinates, moving.numpy())

        def run(number: int) -> Any:
            made = passes(tokens, number)
            mx.eval(made)
            return made

        yield Opened(passes.plan, run, lambda made: torch.from_numpy(to_numpy(made))[:, moving])

    def matrix_rate(self, dtype: str, seconds: Seconds) -> float:
        side = SIDES[self.device != "cpu"]
        one, other = (_random((side, side), dtype) for _ in range(2))
        return 2.0 * side**3 / best(lambda: mx.eval(one @ other), seconds)

    def attention_times(
        self, shape: tuple[int, int, int, int], keys: int, dtype: str, seconds: Seconds
    ) -> dict[str, float | None]:
        batch, heads, _, width = shape
        query, key, value = (_random(size, dtype) for size in (shape, *[(batch, heads, keys, width)] * 2))
        return {"chosen, MLX's own": best(lambda: mx.eval(attend(query, key, value, None, None)), seconds)}


def _random(shape: tuple[int, ...], dtype: str) -> Any:
    array = from_torch(torch.randn(shape)).astype(DTYPES[dtype])
    mx.eval(array)
    return array
