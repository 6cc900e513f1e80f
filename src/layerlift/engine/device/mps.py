"""How attention runs on Apple's GPUs, by the version of torch, in one table.

Where torch has fused kernels for Metal, no array of scores is ever made. Everywhere else they are made, in pieces.
What is in the table was read in torch's sources and release notes; none of it was run on a Mac.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass

# torch looks at it, too: set, and not to "0", its fused kernels for Metal are off.
OFF = "PYTORCH_MPS_DISABLE_PREFILL_ATTENTION"


@dataclass(frozen=True, slots=True)
class FusedAttention:
    """Which calls torch's fused attention for Metal takes; the others go to a kernel that makes the scores.

    A call also needs a last stride of 1, and no mask or one that is bool or of the query's own dtype: one in float32
    beside queries in float16 would make the scores.

    Attributes:
        head_sizes: channels of a head for which there is a kernel; those of values are the same.
        fewest_queries: it takes no call with fewer.
    """

    head_sizes: tuple[int, ...]
    fewest_queries: int

    def takes(self, queries: int, head_size: int) -> bool:
        """Whether it takes a call with this many queries, for heads of this many channels."""
        return queries >= self.fewest_queries and head_size in self.head_sizes

    def __str__(self) -> str:
        sizes = ", ".join(str(size) for size in self.head_sizes)
        return f"from {self.fewest_queries} queries on, heads of {sizes} channels"


@dataclass(frozen=True, slots=True)
class AttentionRow:
    """How attention runs from a version of torch, (major, minor), and a major version of macOS on."""

    torch: tuple[int, int]
    macos: int
    fused: FusedAttention | None


# The newest first.
#
# Fused kernels get the transformer's own dtype, float16, although `float32_softmax` is on for Apple's GPUs. They keep
# scores, softmax and sums in float32 whatever comes in (`AccumType` in torch's PrefillAttention.h), so nothing that
# gave NaN in half precision (TP-OmnimatteZero PR #5) is in half precision there. Queries, keys and values were rounded
# to float16 by the layers before; what the kernels round in addition are queries times the scale. That costs 4 to
# 7·10⁻⁴ of the result, where rounding the result costs 2·10⁻⁴ in either way (their arithmetic followed on a CPU, 4290
# tokens, heads of 64), and float32 would read twice as much. The rule stays on for calls that they do not take, and for
# the probe, whose results are the small numbers that attention sums up.
ATTENTION = (
    AttentionRow((2, 13), 14, FusedAttention((32, 64, 72, 80, 96, 128, 256), fewest_queries=9)),
    AttentionRow((2, 6), 12, None),
)


def choose_attention(
    torch_version: str, macos: int | None, environment: Mapping[str, str]
) -> tuple[FusedAttention | None, str]:
    """What the table has for a version of torch ("2.13.0+cpu") and macOS, and why, in words for `doctor`.

    `macos`: 15; None where the rules are followed on another system, which has no say.
    """
    major, minor = (int(part) for part in torch_version.split(".")[:2])
    newest = ATTENTION[0]
    wanted = f"torch {newest.torch[0]}.{newest.torch[1]} or later has them"
    if (major, minor) < newest.torch:
        return None, f"in pieces, because torch {torch_version} has no fused kernels for Metal ({wanted})"
    if macos is not None and macos < newest.macos:
        return None, f"in pieces, because fused kernels need macOS {newest.macos} or later, and this is {macos}"
    if environment.get(OFF, "0") != "0":
        return None, f"in pieces, because {OFF} is set"
    return newest.fused, f"fused kernels {newest.fused} (torch {torch_version}); in pieces otherwise"


def attention_here() -> tuple[FusedAttention | None, str]:
    """`choose_attention` for this machine."""
    import torch

    return choose_attention(torch.__version__, _macos(), os.environ)


def _macos() -> int | None:
    version = platform.mac_ver()[0]
    return int(version.split(".")[0]) if version else None
