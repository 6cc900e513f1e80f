"""How each engine runs what `layerlift bench speed` measures beside the seam that the stages use: single passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from layerlift.bench.floor import Seconds, attention_times, matrix_rate
from layerlift.engine.model.passes import open_passes

if TYPE_CHECKING:
    from layerlift.engine.device import Policy
    from layerlift.engine.device.plan import Plan
    from layerlift.engine.model import Model
    from layerlift.engine.model.speed import Speed
    from layerlift.engine.sampling import Prompts

# Noise levels of a loop in which a step is timed: one over all tokens, then one at the same level, for which nothing is
# made anew.
SIGMAS = (1.0, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Opened:
    """A loop that is open.

    Attributes:
        plan: of each step, whether it is over all tokens.
        run: a step by its number.
        unknown: of what it returned, the unknown tokens' velocity (n, N, C) float32, on the CPU.
    """

    plan: Sequence[bool]
    run: Callable[[int], Any]
    unknown: Callable[[Any], torch.Tensor]


class Runner(Protocol):
    """An engine on a device.

    Attributes:
        meter: what `MemoryMeter` calls it.
    """

    @property
    def meter(self) -> str: ...

    def wait(self) -> None:
        """Until the device has done what it was given."""
        ...

    def transformer(self, model: Model, policy: Policy) -> AbstractContextManager[Any]:
        """The transformer with its weights in memory."""
        ...

    def opened(
        self, transformer: Any, prompts: Prompts, unknown: torch.Tensor, coordinates: torch.Tensor, speed: Speed
    ) -> AbstractContextManager[Opened]:
        """A loop over made-up tokens, of which `unknown` (f, h, w) bool are generated."""
        ...

    def matrix_rate(self, dtype: str, seconds: Seconds) -> float:
        """See `floor.matrix_rate`."""
        ...

    def attention_times(
        self, shape: tuple[int, int, int, int], keys: int, dtype: str, seconds: Seconds
    ) -> dict[str, float | None]:
        """See `floor.attention_times`."""
        ...


@contextmanager
def choose_runner(model: Model, plan: Plan) -> Iterator[Runner]:
    """What runs a model by a plan."""
    if plan.policy.engine != "mlx":
        yield TorchRunner(plan.policy.device)
        return
    from layerlift.bench.runner_mlx import MlxRunner
    from layerlift.engine.device.budget import limit

    with limit(plan, asked=False):
        yield MlxRunner(plan.policy.device)


def made_up_tokens(unknown: torch.Tensor, channels: int) -> torch.Tensor:
    """Noise on the CPU, (1, S, C)."""
    return torch.randn(1, unknown.numel(), channels, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True, slots=True)
class TorchRunner:
    """torch on a device."""

    device: str

    @property
    def meter(self) -> str:
        return self.device

    def wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        elif self.device.startswith("mps"):
            torch.mps.synchronize()

    def transformer(self, model: Model, policy: Policy) -> AbstractContextManager[Any]:
        return model.transformer(policy)

    @contextmanager
    def opened(
        self, transformer: Any, prompts: Prompts, unknown: torch.Tensor, coordinates: torch.Tensor, speed: Speed
    ) -> Iterator[Opened]:
        weight = transformer.proj_in.weight
        tokens = made_up_tokens(unknown, transformer.config.in_channels).to(weight.device)
        moving = unknown.flatten().to(weight.device)
        batches, coordinates = prompts.batches(like=weight), coordinates.to(weight.device)
        with open_passes(transformer, batches, coordinates, moving, sigmas=SIGMAS, speed=speed) as passes:
            yield Opened(passes.plan, lambda number: passes(tokens, number), lambda made: made[:, moving].cpu())

    def matrix_rate(self, dtype: str, seconds: Seconds) -> float:
        return matrix_rate(self.device, dtype, seconds)

    def attention_times(
        self, shape: tuple[int, int, int, int], keys: int, dtype: str, seconds: Seconds
    ) -> dict[str, float | None]:
        return attention_times(shape, keys, self.device, dtype, seconds)
