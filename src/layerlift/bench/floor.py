"""What a device can do at best: products of matrices, of which a pass is mostly made, and attention by each kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from layerlift.engine.device.needs import ModelFacts

Seconds = Callable[[Callable[[], Any]], float]

# The side of the matrices, on the CPU and elsewhere; calls that are timed together, and how often: the best counts.
SIDES = (1024, 8192)
CALLS, ROUNDS = 5, 4
# torch takes the first of these that can be had; the last resort, which holds all scores, is not among them.
KERNELS = {
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def pass_flops(facts: ModelFacts, tokens: int, context: int) -> float:
    """Of a forward pass over `tokens` tokens that attend to `context` of them: products of matrices alone."""
    # Per token and layer: four products with weights in self-attention, two in cross-attention, eight in the MLP.
    return facts.layers * (28.0 * tokens * facts.width**2 + 4.0 * tokens * context * facts.width)


def matrix_rate(device: str, dtype: str, seconds: Seconds) -> float:
    """FLOP/s of products of large matrices on a device. `seconds` times a call on it."""
    side = SIDES[device != "cpu"]
    one, other = (torch.randn(side, side).to(device, getattr(torch, dtype)) for _ in range(2))
    return 2.0 * side**3 / best(lambda: one @ other, seconds)


def attention_times(
    shape: tuple[int, int, int, int], keys: int, device: str, dtype: str, seconds: Seconds
) -> dict[str, float | None]:
    """Seconds of self-attention as torch chooses its kernel, named first with it, and by each kernel of `KERNELS`.

    `shape`: of the queries (batch, heads, tokens, width of a head). None: the device has no such kernel.
    """
    batch, heads, _, width = shape
    query, key, value = (
        torch.randn(size).to(device, getattr(torch, dtype)) for size in (shape, *[(batch, heads, keys, width)] * 2)
    )

    def attend() -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value)

    times: dict[str, float | None] = {f"chosen, {_chosen(query, key, value)}": best(attend, seconds)}
    for name, kernel in KERNELS.items():
        try:
            with sdpa_kernel(kernel):
                times[name] = best(attend, seconds)
        except RuntimeError:  # torch's word for a kernel that cannot be had
            times[name] = None
    return times


def _chosen(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> str:
    """The kernel that torch takes by itself."""
    try:
        chosen = SDPBackend(torch._fused_sdp_choice(query, key, value))
    except RuntimeError:  # not every device tells
        return "unknown"
    return next((name for name, kernel in KERNELS.items() if kernel == chosen), "plain products")


def best(work: Callable[[], Any], seconds: Seconds) -> float:
    """Seconds of a call, warm."""
    return min(seconds(lambda: [work() for _ in range(CALLS)]) for _ in range(ROUNDS)) / CALLS
