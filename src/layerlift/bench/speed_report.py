"""What `layerlift bench speed` prints, as Markdown that can be pasted into an issue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from layerlift.bench.floor import pass_flops
from layerlift.bench.speed import ON_CPU
from layerlift.engine.device.needs import GIB

if TYPE_CHECKING:
    from layerlift.bench.speed import Measured
    from layerlift.engine.device import Policy
    from layerlift.engine.model import Model

# What is faster, and by which two ways of running a step one sees how much: the one without it, and with it.
GAINS = {
    "sparse: only unknown tokens": ("hoisted", "sparse"),
    "sparse steps recorded as CUDA graphs": ("sparse", "sparse, recorded"),
    "constant work done beforehand": ("plain", "hoisted"),
    "blocks compiled": ("hoisted", "compiled"),
    "both prompts in one pass": ("two passes", "hoisted"),
    "both prompts in one pass (off in the rules)": ("hoisted", "batched"),
}

# The way that the results of all are compared with, in words.
BASES = {"plain": "the plain way", ON_CPU: "torch on the CPU", "hoisted": "the first way"}


def speed_report(
    found: Measured, model: Model, machine: Mapping[str, str], *, size: tuple[int, int], frames: int, random: bool
) -> str:
    """The whole text: machine, rules, stages, gains."""
    title = f"### layerlift bench speed: {model.name}, {size[0]}x{size[1]}, {frames} frames"
    lines = [title, ""]
    if random:
        lines += ["**Random weights**: the timings are the real model's, but pictures would be noise.", ""]
    lines += [*table(("machine", ""), machine.items()), ""]
    lines += [*table(("rules", ""), rules(found.plan.policy).items()), ""]
    lines += [*table(("stage", "read, s", "first, s", "warm, s", "took, GiB", "planned, GiB"), stage_rows(found)), ""]
    lines += [*table(("what is faster", "without, ms a step", "with", "times faster"), gain_rows(found)), ""]
    header = ("a step, by the way it is run", "tokens", "ms", "floor, ms", "reached", f"off {BASES[found.base]} by")
    lines += [*table(header, step_rows(found)), ""]
    (_, *others), *_ = found.attention.values()
    kernels = "attention over", "ms by the kernel that is chosen", *(f"by {name}" for name in others)
    lines += [*table(kernels, attention_rows(found)), ""]
    lines += [
        f"Floor: the step's products of matrices at the {found.rate / 1e12:.3g} TFLOP/s that large ones reach here, in "
        f"{found.plan.policy.transformer_dtype}. Off: the largest difference of velocity in an unknown token, over the "
        "largest velocity."
    ]
    left = [f"{name} ({reason})" for name, reason in found.missing.items()]
    if left:
        lines += ["", f"Not run: {'; '.join(left)}."]
    return "\n".join(lines)


def rules(policy: Policy) -> dict[str, str]:
    """Every rule of a policy that is neither off nor empty."""
    values = {one.name: getattr(policy, one.name) for one in fields(policy)}
    return {name: str(value) for name, value in values.items() if value not in (None, False, 0)}


def stage_rows(found: Measured) -> list[tuple[str, ...]]:
    """A row a stage, one for a sparse step, and one for the whole window in the model's own number of steps."""
    rows: list[tuple[str, ...]] = []
    sparse = sparse_step(found)
    for name, stage in found.stages.items():
        title = f"denoise: a step over all {found.tokens} tokens" if name == "denoise" else name
        took = f"{(stage.device + stage.host) / GIB:.2f}"
        planned = f"{found.plan.need(name).total / GIB:.2f}"
        rows.append((title, f"{stage.read:.2f}", f"{stage.first:.3f}", f"{stage.warm:.3f}", took, planned))
        sparse = sparse_step(found)
        if name == "denoise" and sparse is not None:
            share = found.unknown / found.tokens
            rows.append(
                (f"denoise: a step over {found.unknown} unknown tokens ({share:.0%})", "", "", f"{sparse:.3f}", "", "")
            )
    steps, full = found.step_count, found.full_steps
    how = f"{full} of them over all tokens" if full < steps else "all over all tokens"
    highest = max(stage.device + stage.host for stage in found.stages.values())
    title = f"a window: encode, {steps} steps ({how}), decode"
    rows.append((title, "", "", f"{window_seconds(found):.2f}", f"{highest / GIB:.2f}", f"{found.plan.peak / GIB:.2f}"))
    return rows


def gain_rows(found: Measured) -> list[tuple[str, ...]]:
    """A row for each thing that was run both with and without."""
    rows: list[tuple[str, ...]] = []
    for name, (without, with_it) in GAINS.items():
        if without in found.steps and with_it in found.steps:
            before, after = found.steps[without], found.steps[with_it]
            rows.append((name, f"{1000 * before:.1f}", f"{1000 * after:.1f}", f"{before / after:.2f}"))
    return rows


def step_rows(found: Measured) -> Iterator[tuple[str, ...]]:
    """A row for each way of running a step: what it takes, at the least and really, and how far its result is off."""
    branches, facts = found.plan.request.branches, found.plan.request.facts
    for way, seconds in found.steps.items():
        tokens = found.unknown if way.startswith("sparse") else found.tokens
        floor = branches * pass_flops(facts, tokens, found.tokens) / found.rate
        least = ("", "") if way == ON_CPU else (f"{1000 * floor:.3g}", f"{floor / seconds:.0%}")
        yield (way, str(tokens), f"{1000 * seconds:.1f}", *least, f"{found.off[way]:.1e}")


def attention_rows(found: Measured) -> Iterator[tuple[str, ...]]:
    """A row for all tokens and one for the unknown ones, with the kernel that torch chooses and every other."""
    for queries, times in found.attention.items():
        (chosen, own), *others = times.items()
        cells = ["not there" if seconds is None else f"{1000 * seconds:.3f}" for _, seconds in others]
        yield f"{queries} queries", f"{1000 * (own or 0):.3f} ({chosen.partition(', ')[2]})", *cells


def sparse_step(found: Measured) -> float | None:
    """Seconds of a sparse step as the job would run it; None when it would run none."""
    return found.steps.get("sparse, recorded", found.steps.get("sparse"))


def window_seconds(found: Measured) -> float:
    """Seconds that a window takes warm, reckoned from its stages and steps; nothing compiled."""
    sparse = sparse_step(found)
    full = found.step_count if sparse is None else found.full_steps
    loop = full * found.steps["hoisted"] + (found.step_count - full) * (sparse or 0.0)
    return found.stages["encode"].warm + loop + found.stages["decode"].warm


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, a line each."""
    return [table_row(row) for row in (header, ["---"] * len(header), *rows)]


def table_row(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def describe_machine(policy: Policy, memory: float) -> dict[str, str]:
    """Engine, device, memory and versions, for whoever reads the figures elsewhere."""
    import os

    import torch

    from layerlift.engine.device.budget import total_ram
    from layerlift.engine.device.mlx import describe_mlx
    from layerlift.report import versions

    device = policy.device
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    rows = {
        "engine": describe_mlx(device) if policy.engine == "mlx" else "torch",
        "device": f"{device}: {name}",
        "cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads",
        "RAM": f"{total_ram() / GIB:.1f} GiB",
    }
    if device.startswith("cuda"):
        rows["on the card"] = f"{torch.cuda.get_device_properties(device).total_memory / GIB:.1f} GiB"
    rows["may be taken"] = f"{memory / GIB:.1f} GiB"
    return rows | versions()


def _processor() -> str:
    """What the processor calls itself; on Apple Silicon that names the GPU as well."""
    import platform
    import subprocess
    import sys

    if sys.platform == "darwin":
        said = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return said.stdout.strip() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
