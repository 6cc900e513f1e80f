"""How much memory there is, keeping to it, and going on with less when it was not there after all."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TypeVar

from layerlift.engine.device.memory import free_device, keep_blocks_apart
from layerlift.engine.device.mlx import free_mlx, limited_mlx
from layerlift.engine.device.needs import GIB
from layerlift.engine.device.plan import Plan
from layerlift.engine.device.policy import Policy
from layerlift.errors import InputError, LayerliftError
from layerlift.exhausted import ran_out

T = TypeVar("T")

# Of a machine's memory, what a job may take where the system does not say: the rest is the system's and the user's.
RAM_SHARE = 0.65
# Where Linux says how much a container may take.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(gigabytes: float | None) -> int | None:
    """`--memory` in bytes; None stays None. Raises InputError unless it is a positive number."""
    if gigabytes is None:
        return None
    if not (isfinite(gigabytes) and gigabytes > 0):
        raise InputError(f"--memory {gigabytes:g} cannot be used: give a limit in GiB above 0, such as 8.")
    return int(gigabytes * GIB)


def usable_memory(policy: Policy) -> int:
    """Bytes that a job may take on the policy's device when the user does not say.

    CUDA: what is free on the card, and what this process has of it without using it. Apple Silicon: the working set
    that Metal recommends. CPU: a share of the RAM, or of what the container may take.
    """
    import torch

    if policy.device.startswith("cuda"):
        unused = torch.cuda.memory_reserved(policy.device) - torch.cuda.memory_allocated(policy.device)
        return int(torch.cuda.mem_get_info(policy.device)[0]) + unused
    if policy.device.startswith("mps"):
        return int(torch.mps.recommended_max_memory()) or int(RAM_SHARE * total_ram())
    return int(RAM_SHARE * total_ram())


def gpu_bytes() -> int:
    """The memory of the first CUDA device, all of it; 0 without one."""
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else 0


def total_ram() -> int:
    """The machine's memory, or what this container may take of it, in bytes."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):  # Windows has none, and not every Unix has this one
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        import psutil  # type: ignore[import-untyped]

        found = int(psutil.virtual_memory().total)
    for path in map(Path, CONTAINER_LIMITS):
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            found = min(found, int(text))
    return found


@contextmanager
def capped(policy: Policy, memory: float) -> Iterator[None]:
    """The device's allocator refuses what would go beyond `memory` bytes while this is open. The CPU's refuses nothing,
    but keeps no gaps (`keep_blocks_apart`).

    Without it a Mac swaps, and on a shared card the memory is somebody else's.
    """
    import torch

    # torch takes no "cuda" without a number here.
    index = (torch.device(policy.device).index or 0) if policy.device.startswith("cuda") else None
    if index is not None:
        total = torch.cuda.get_device_properties(index).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, memory / total), index)
    elif policy.device.startswith("mps"):
        total = int(torch.mps.recommended_max_memory())
        torch.mps.set_per_process_memory_fraction(min(1.0, memory / total))
    else:
        keep_blocks_apart(True)
    try:
        yield
    finally:
        if index is not None:
            torch.cuda.set_per_process_memory_fraction(1.0, index)
        elif policy.device.startswith("mps"):
            torch.mps.set_per_process_memory_fraction(1.0)
        else:
            keep_blocks_apart(False)


@contextmanager
def limit(plan: Plan, *, asked: bool) -> Iterator[None]:
    """`capped` to what a plan was made for: where the rules say so, or the user `asked` for that much. MLX keeps to
    its plan in any case."""
    if plan.policy.engine == "mlx":
        with limited_mlx(plan.peak, plan.request.memory):
            yield
        return
    if not (plan.policy.cap_memory or asked):
        yield
        return
    with capped(plan.policy, plan.request.memory):
        yield


def attempt(
    plan: Plan, stage: str, work: Callable[[Plan], T], say: Callable[[str], None], *, name: str | None = None
) -> tuple[T, Plan]:
    """`work` under `plan`, or, as often as memory runs out in it, under the next smaller one.

    `work` may be called again, so it must leave what it was given as it was. `say` is told what changes, in a sentence,
    in which the stage may have another `name` than in the plan.
    Returns what it made and the plan it was made under.

    Raises:
        LayerliftError: memory ran out and there is no smaller plan.
    """
    while True:
        try:
            return work(plan), plan
        except Exception as error:
            if not ran_out(error):
                raise
        # Beyond the block: the exception holds on to everything that the work had made.
        plan = _next_plan(plan, stage, say, name)


def attempt_each(
    plan: Plan, stage: str, work: Callable[[Plan], Iterator[T]], say: Callable[[str], None]
) -> Iterator[T]:
    """`attempt` for work that yields: what was yielded already is made again and left out."""
    done = 0
    while True:
        try:
            for made in islice(work(plan), done, None):
                yield made
                done += 1
            return
        except Exception as error:
            if not ran_out(error):
                raise
        plan = _next_plan(plan, stage, say)


def _next_plan(plan: Plan, stage: str, say: Callable[[str], None], name: str | None = None) -> Plan:
    free_device(plan.policy.device)
    if plan.policy.engine == "mlx":
        free_mlx()
    smaller = plan.smaller(stage)
    if smaller is None:
        planned = plan.need(stage).total / GIB
        raise LayerliftError(
            f"memory ran out in stage {name or stage}, which was planned to take {planned:.1f} GiB and cannot use "
            "less: close other programs, or choose a smaller --size"
        )
    changed = "; ".join(smaller.differences(plan.policy)) or "less is kept"
    say(f"memory ran out in stage {name or stage}; continuing with less: {changed}")
    return smaller
