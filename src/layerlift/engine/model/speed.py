"""What a denoising loop may do to be faster, when each of it pays, and what it costs. Pure arithmetic, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from layerlift.engine.device.policy import Policy
from layerlift.errors import InputError

# How far sigma moves before the known tokens' keys and values are made anew; docs/performance.md has the measurements.
DEFAULT_REFRESH = 0.15
# With more of the tokens unknown than this, sparse passes save less than keeping keys and values costs in memory.
SPARSE_SHARE = 0.7
# Compiling takes as long as it saves in this many steps of full size: dense, 14 s at 47 ms a step on an H100; sparse
# passes are recorded anyway, and gain much less.
COMPILE_STEPS = 300
COMPILE_SPARSE_STEPS = 1500
# Slack in comparing sigmas: they are float32 numbers.
SIGMA_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Speed:
    """How the passes of one denoising loop are run; each of it can be off, and everything is by default.

    Attributes:
        refresh: run the transformer on the unknown tokens alone, with keys and values of the known ones kept from the
            last full pass, until sigma has moved by this much; 0 makes every pass a full one, None keeps nothing.
        hoist: do once what is the same in every step (text keys and values, rotary tables, timestep embeddings).
            Ignored where weights are offloaded: they are not there to be used before the pass that brings them.
        compile: run the transformer's blocks compiled.
        graphs: record passes as CUDA graphs and replay them: sparse ones, and all of a small picture, are launch-bound.
    """

    refresh: float | None = None
    hoist: bool = False
    compile: bool = False
    graphs: bool = False


PLAIN = Speed()


def choose_speed(
    policy: Policy, steps: int, *, refresh: float | None = None, dense: bool = False, compile: bool | None = None
) -> Speed:
    """The fastest way to run `steps` steps (those of all windows together) under a policy.

    Args:
        policy: whether the backend can compile and record passes.
        steps: denoising steps of the whole job.
        refresh: see `Speed`; None is `DEFAULT_REFRESH`.
        dense: run every token in every step, whatever `refresh` says.
        compile: the user's choice; None compiles where the job is long enough to win back the time.

    Raises:
        InputError: `refresh` is no number from 0 to 1, or the backend cannot compile and is told to.
    """
    if refresh is not None and not (isfinite(refresh) and 0 <= refresh <= 1):
        raise InputError(f"--refresh is {refresh}: give the sigma step between full passes, from 0 to 1")
    if compile and not policy.can_compile:
        raise InputError(f"--compile is not supported on {policy.backend}: leave it out")
    if compile is None:
        compile = policy.can_compile and steps >= (COMPILE_STEPS if dense else COMPILE_SPARSE_STEPS)
    chosen = DEFAULT_REFRESH if refresh is None else refresh
    return Speed(refresh=None if dense else chosen, hoist=True, compile=compile, graphs=policy.cuda_graphs)


def full_passes(sigmas: Sequence[float], refresh: float | None) -> tuple[bool, ...]:
    """For every step from `sigmas[i]` to `sigmas[i + 1]` whether it runs on all tokens.

    The first one does, and each one at whose sigma the last full pass lies at least `refresh` back.
    """
    if refresh is None:
        return (True,) * (len(sigmas) - 1)
    plan: list[bool] = []
    last = float("inf")
    for sigma in sigmas[:-1]:
        full = last - sigma >= refresh - SIGMA_SLACK
        last = sigma if full else last
        plan.append(full)
    return tuple(plan)


def pays_sparse(share: float) -> bool:
    """Whether running `share` of the tokens (0 … 1) on their own is worth it."""
    return 0 < share <= SPARSE_SHARE


def bucket(count: int, most: int) -> int:
    """`count` tokens rounded up to one of a few numbers, so that compiled code serves many masks; at most `most`.

    Eighths of the power of two below: never more than an eighth too much.
    """
    step = max(1, 1 << max(0, count.bit_length() - 4))
    return min(most, -(-count // step) * step)
